"""The cost of quotes: fees and machine hours, unknown if not given, and the break-even point."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pricesmith.core.types import EACH_REQUEST, EvalRow, Evaluation
from pricesmith.evaluation.cost import break_even, build_cost, cost_ratio, format_refits, get_pricer_type


def evaluation(seconds=0.01, cost_usd=0.0, n=10, raw="", name="x"):
    """An evaluation of `n` quotes that took `seconds` and cost `cost_usd` each."""
    rows = tuple(EvalRow(str(i), 10.0, 11.0, None, None, raw, seconds, cost_usd) for i in range(n))
    return Evaluation(name, "c0ffee", rows, 30.0)


def own(seconds=0.01, fit_seconds=100.0, machine_cost=0.36, kind="ridge", **meta):
    return build_cost(evaluation(seconds), {"kind": kind, "fit_seconds": fit_seconds, **meta}, machine_cost)


def hosted(cost_usd=0.001, **meta):
    return build_cost(evaluation(1.0, cost_usd), {"kind": "api", **meta}, 0.36)


def test_own_compute_is_seconds_times_the_machine_cost():
    """0.01 s at 36 cents an hour are a millionth of a dollar; fitting for 100 s is a cent."""
    cost = own()
    assert (cost.quote, cost.fit) == (pytest.approx(1e-6), pytest.approx(0.01))


def test_without_a_machine_cost_the_cost_is_unknown():
    """Never 0."""
    cost = own(machine_cost=None)
    assert (cost.quote, cost.compute, cost.fit) == (None, None, None)
    assert cost.fees == 0


def test_unknown_fees_are_not_zero():
    """The rows of such a model hold 0 dollars; the meta file records that the price is unknown."""
    assert hosted(0.0, cost_known=False).quote is None
    assert hosted(0.0, cost_known=True).quote == 0
    assert hosted(0.002).quote == pytest.approx(0.002)


def test_a_lost_reply_does_not_make_the_others_cheaper():
    """Its possible cost is shared by the answered items."""
    lost = tuple(EvalRow(f"lost {i}", 10.0, None, None, None, "no reply: time-out", 0.0, 0.0) for i in range(10))
    answered = evaluation(1.0, 0.001)
    whole = Evaluation("x", "c0ffee", answered.rows + lost, 30.0)
    assert build_cost(whole, {"kind": "api"}, 0.36).fees == pytest.approx(0.001)
    expensive = tuple(replace(row, cost_usd=0.002) for row in lost)
    assert build_cost(replace(whole, rows=whole.rows[:10] + expensive), {"kind": "api"}, 0.36).fees == pytest.approx(
        0.003
    )


def test_the_possible_cost_of_lost_replies_is_separate_from_the_fees():
    """A competitor does not look expensive because of fees that it may not have charged."""
    cost = hosted(0.005, quotes_failed_tries_usd=0.04)
    assert cost.fees == pytest.approx(0.001)
    assert cost.quote == pytest.approx(0.001)
    assert cost.lost == pytest.approx(0.004)


def test_a_hosted_model_needs_no_machine_cost():
    """Its cost is its fees."""
    assert build_cost(evaluation(1.0, 0.001), {"kind": "api"}).quote == pytest.approx(0.001)


@pytest.mark.parametrize("kind", ["human", "precomputed"])
def test_people_and_saved_answers_have_no_price(kind):
    """The cost of a person's time is unknown, and reading a file takes no inference time."""
    cost = build_cost(evaluation(), {"kind": kind}, 0.36)
    assert (cost.quote, cost.seconds, cost.latency) == (None, None, None)


def test_a_batchs_share_is_no_latency():
    """Only answers that were timed one by one have a median and a 95th percentile; those without a reply have none."""
    assert own().latency is None
    rows = tuple(EvalRow(str(i), 10.0, 11.0, seconds=float(i + 1)) for i in range(100))
    lost = (EvalRow("lost", 10.0, None, raw="no reply: HTTP 500", seconds=900.0),)
    latency = build_cost(Evaluation("x", "c", rows + lost, 30.0), {"kind": "api", "latency": EACH_REQUEST}).latency
    assert (latency.n, latency.median) == (100, pytest.approx(50.5))
    assert latency.high == pytest.approx(95.05)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [([], ""), ([0.2, 0.5], ""), ([2.0, 8.0], "about 50 seconds"), ([60.0], "about 5 minutes")],
)
def test_the_note_about_folds_gives_the_time_of_the_refits(seconds, words):
    """Five times the fit time of each; a few seconds are not mentioned."""
    assert words in format_refits(seconds)
    assert bool(words) is bool(format_refits(seconds))


def test_the_fits_of_folds_are_not_one_fit():
    """Five folds were fitted, but serving needs one fit. Without refits the whole fit time counts."""
    folds = {"folds": True, "settings": {"fitted_on": "c0ffee"}}
    assert own(**folds).fit_seconds == 20.0
    assert own(folds=True, settings={"fitted_on": "f00d"}).fit_seconds == 100.0


def test_an_untuned_model_has_no_fit_cost():
    """The cost of a fit without a recorded time is unknown."""
    assert own(kind="zero-shot", fit_seconds=None).fit == 0
    assert own(fit_seconds=None).fit is None


def test_an_own_model_that_asks_a_host_costs_fees_and_compute():
    """Fees from its rows, compute from its seconds; its fit time, which includes its members', is its own."""
    meta = {"kind": "cascade", "fit_seconds": 100.0, "asked": {"n": 10, "asked": 10, "unanswered": 0}}
    cost = build_cost(evaluation(0.01, 0.002), meta, 0.36)
    assert (cost.pricer_type, cost.estimated_fees) == ("own", False)
    assert (cost.fees, cost.compute) == (pytest.approx(0.002), pytest.approx(1e-6))
    assert cost.quote == pytest.approx(0.002001)
    assert (cost.fit_seconds, cost.fit) == (100.0, pytest.approx(0.01))
    estimated = build_cost(evaluation(0.01, 0.002), {**meta, "asked": {**meta["asked"], "estimated_fees": True}}, 0.36)
    assert estimated.estimated_fees
    assert build_cost(evaluation(0.01, 0.002), meta).quote is None


def test_a_hybrid_with_one_unknown_fee_has_unknown_fees():
    """They are not those of the other rows."""
    whole = evaluation(0.01, 0.002)
    rows = (*whole.rows[:9], replace(whole.rows[9], cost_usd=None))
    cost = build_cost(replace(whole, rows=rows), {"kind": "cascade"}, 0.36)
    assert (cost.fees, cost.quote) == (None, None)
    assert cost.compute == pytest.approx(1e-6)


def test_a_lost_reply_of_a_hybrid_is_a_quote_of_its_own_model():
    """It has a price, so it counts, unlike the lost reply of a host."""
    rows = tuple(replace(row, raw="no reply: time-out", cost_usd=0.0) for row in evaluation().rows[:5])
    rows += tuple(replace(row, cost_usd=0.002) for row in evaluation().rows[5:])
    cost = build_cost(Evaluation("x", "c0ffee", rows, 30.0), {"kind": "cascade"}, 0.36)
    assert cost.fees == pytest.approx(0.001)


def test_break_even_counts_fitting():
    """A cent of fitting at 0.999 thousandths of a dollar saved a quote: 11 quotes."""
    result = break_even(own(), hosted())
    assert (result.quotes, result.why) == (11, "paid back")
    saved = result.quotes * (hosted().quote - own().quote)
    assert saved >= own().fit > saved - (hosted().quote - own().quote)


def test_a_machine_with_a_higher_cost_per_quote_never_breaks_even():
    """At no volume; the machine cost at which it would break even is reported."""
    result = break_even(own(seconds=20.0), hosted())
    assert (result.quotes, result.why) == (None, "never")
    assert result.machine_cost == pytest.approx(0.18)  # 20 s at 18 cents an hour are the host's thousandth of a dollar


def test_without_a_machine_cost_the_break_even_cost_is_given():
    """The hosted model's 0.001 dollars pay for 0.01 s of a machine at 360 dollars an hour."""
    result = break_even(own(machine_cost=None), hosted())
    assert (result.quotes, result.why, result.machine_cost) == (None, "unknown", pytest.approx(360.0))


def test_nothing_is_cheaper_than_free():
    """A hosted model without fees is always cheaper, with or without a machine cost."""
    assert break_even(own(), hosted(0.0)).why == "never"
    assert break_even(own(machine_cost=None), hosted(0.0)).why == "never"
    assert cost_ratio(own(), hosted(0.0)) is None


def test_unknown_fees_leave_break_even_unknown():
    """Neither the volume nor the machine cost is invented."""
    assert break_even(own(), hosted(0.0, cost_known=False)) == break_even(
        own(machine_cost=None), hosted(0, cost_known=False)
    )
    assert break_even(own(), hosted(0.0, cost_known=False)).why == "unknown"


def test_seconds_that_no_clock_took_are_unknown():
    """A row of 0 seconds was not timed."""
    assert own(seconds=0.0).quote is None


def test_every_kind_that_is_not_somebody_elses_is_ones_own():
    """New kinds run on the user's machine."""
    assert [get_pricer_type(kind) for kind in ("api", "human", "precomputed", "best", "zero-shot")] == [
        "hosted", "person", "saved", "own", "own",
    ]  # fmt: skip
