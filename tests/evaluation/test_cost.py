"""What quotes cost: fees and box hours, unknown where nobody said, and where one becomes cheaper than the other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pricesmith.core.types import EvalRow, Evaluation
from pricesmith.evaluation.cost import EACH_ITS_OWN, break_even, build_cost, cost_ratio, format_refits, get_pricer_type


def evaluation(seconds=0.01, cost_usd=0.0, n=10, raw="", name="x"):
    """An evaluation of `n` quotes that took `seconds` and cost `cost_usd` each."""
    rows = tuple(EvalRow(str(i), 10.0, 11.0, None, None, raw, seconds, cost_usd) for i in range(n))
    return Evaluation(name, "c0ffee", rows, 30.0)


def own(seconds=0.01, fit_seconds=100.0, machine_cost=0.36, kind="ridge", **meta):
    return build_cost(evaluation(seconds), {"kind": kind, "fit_seconds": fit_seconds, **meta}, machine_cost)


def hosted(cost_usd=0.001, **meta):
    return build_cost(evaluation(1.0, cost_usd), {"kind": "api", **meta}, 0.36)


def test_own_compute_is_seconds_at_the_boxs_price():
    """0.01 s at 36 cents an hour are a millionth of a dollar; fitting for 100 s is a cent."""
    cost = own()
    assert (cost.quote, cost.fit) == (pytest.approx(1e-6), pytest.approx(0.01))


def test_a_box_without_a_price_costs_an_unknown_sum():
    """Never 0."""
    cost = own(machine_cost=None)
    assert (cost.quote, cost.compute, cost.fit) == (None, None, None)
    assert cost.fees == 0


def test_fees_that_are_not_known_are_no_zero():
    """The rows of such a model say 0 dollars; the meta file says that this is no price."""
    assert hosted(0.0, cost_known=False).quote is None
    assert hosted(0.0, cost_known=True).quote == 0
    assert hosted(0.002).quote == pytest.approx(0.002)


def test_a_reply_that_never_came_does_not_make_the_others_cheaper():
    """What it may have cost is shared by the answers that came."""
    lost = tuple(EvalRow(f"lost {i}", 10.0, None, None, None, "no reply: time-out", 0.0, 0.0) for i in range(10))
    answered = evaluation(1.0, 0.001)
    whole = Evaluation("x", "c0ffee", answered.rows + lost, 30.0)
    assert build_cost(whole, {"kind": "api"}, 0.36).fees == pytest.approx(0.001)
    expensive = tuple(replace(row, cost_usd=0.002) for row in lost)
    assert build_cost(replace(whole, rows=whole.rows[:10] + expensive), {"kind": "api"}, 0.36).fees == pytest.approx(
        0.003
    )


def test_what_lost_replies_may_have_cost_stands_beside_the_fees():
    """A competitor is not called dear for what it may not have charged."""
    cost = hosted(0.005, quotes_failed_tries_usd=0.04)
    assert cost.fees == pytest.approx(0.001)
    assert cost.quote == pytest.approx(0.001)
    assert cost.lost == pytest.approx(0.004)


def test_a_hosted_model_needs_no_price_of_the_box():
    """Its fees are what it costs."""
    assert build_cost(evaluation(1.0, 0.001), {"kind": "api"}).quote == pytest.approx(0.001)


@pytest.mark.parametrize("kind", ["human", "precomputed"])
def test_people_and_saved_answers_have_no_price(kind):
    """What somebody's time costs is not known here, and a file that is read took no time to think."""
    cost = build_cost(evaluation(), {"kind": kind}, 0.36)
    assert (cost.quote, cost.seconds, cost.latency) == (None, None, None)


def test_a_batchs_share_is_no_latency():
    """Only answers that were timed one by one have a median and a 95th percentile; those without a reply have none."""
    assert own().latency is None
    rows = tuple(EvalRow(str(i), 10.0, 11.0, seconds=float(i + 1)) for i in range(100))
    lost = (EvalRow("lost", 10.0, None, raw="no reply: HTTP 500", seconds=900.0),)
    latency = build_cost(Evaluation("x", "c", rows + lost, 30.0), {"kind": "api", "latency": EACH_ITS_OWN}).latency
    assert (latency.n, latency.median) == (100, pytest.approx(50.5))
    assert latency.high == pytest.approx(95.05)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [([], ""), ([0.2, 0.5], ""), ([2.0, 8.0], "about 50 seconds"), ([60.0], "about 5 minutes")],
)
def test_what_is_fitted_again_in_folds_is_told_with_its_time(seconds, words):
    """Five times what each fit took; a few seconds are not worth a word."""
    assert words in format_refits(seconds)
    assert bool(words) is bool(format_refits(seconds))


def test_the_fits_of_folds_are_not_one_fit():
    """Five folds were fitted; who serves fits once. One that was not fitted again owes its own fit whole."""
    folds = {"folds": True, "settings": {"fitted_on": "c0ffee"}}
    assert own(**folds).fit_seconds == 20.0
    assert own(folds=True, settings={"fitted_on": "f00d"}).fit_seconds == 100.0


def test_an_untuned_model_owes_no_fitting():
    """And a fit that nobody timed is unknown."""
    assert own(kind="zero-shot", fit_seconds=None).fit == 0
    assert own(fit_seconds=None).fit is None


def test_break_even_counts_fitting():
    """A cent of fitting at 0.999 thousandths of a dollar saved a quote: 11 quotes."""
    result = break_even(own(), hosted())
    assert (result.quotes, result.why) == (11, "paid back")
    saved = result.quotes * (hosted().quote - own().quote)
    assert saved >= own().fit > saved - (hosted().quote - own().quote)


def test_a_box_that_is_dearer_a_quote_is_never_paid_back():
    """Whatever the volume; the machine cost that would pay back is reported."""
    result = break_even(own(seconds=20.0), hosted())
    assert (result.quotes, result.why) == (None, "never")
    assert result.machine_cost == pytest.approx(0.18)  # 20 s at 18 cents an hour are the host's thousandth of a dollar


def test_without_the_boxs_price_the_price_that_would_pay_is_known():
    """A host's 0.001 dollars buy 0.01 s of a box at 360 dollars an hour."""
    result = break_even(own(machine_cost=None), hosted())
    assert (result.quotes, result.why, result.machine_cost) == (None, "unknown", pytest.approx(360.0))


def test_nothing_is_cheaper_than_free():
    """A host without fees is never beaten, whether the box has a price or not."""
    assert break_even(own(), hosted(0.0)).why == "never"
    assert break_even(own(machine_cost=None), hosted(0.0)).why == "never"
    assert cost_ratio(own(), hosted(0.0)) is None


def test_unknown_fees_leave_break_even_unknown():
    """No volume and no box price is made up."""
    assert break_even(own(), hosted(0.0, cost_known=False)) == break_even(
        own(machine_cost=None), hosted(0, cost_known=False)
    )
    assert break_even(own(), hosted(0.0, cost_known=False)).why == "unknown"


def test_seconds_that_no_clock_took_are_unknown():
    """A row of 0 seconds was not timed."""
    assert own(seconds=0.0).quote is None


def test_every_kind_that_is_not_somebody_elses_is_ones_own():
    """New kinds run on one's own box."""
    assert [get_pricer_type(kind) for kind in ("api", "human", "precomputed", "best", "zero-shot")] == [
        "hosted", "person", "saved", "own", "own",
    ]  # fmt: skip
