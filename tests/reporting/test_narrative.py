"""Every sentence of the conclusion is made from the numbers by rule, and says no more than an interval shows."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pricesmith.evaluation.conclusion import Conclusion, conclude
from pricesmith.evaluation.results import Evals
from pricesmith.reporting.narrative import conclusion_paragraph, short_name
from pricesmith.text.formatting import format_estimate

from .conftest import judged

Read = Callable[..., Evals]
OWN = {"ridge": judged(0.3, 1)}
TWO = {**OWN, "mlp": judged(0.6, 2, kind="sparse_mlp")}


def said(read_of: Read, pricers: dict[str, Any], **options: Any) -> tuple[str, Conclusion]:
    """The paragraph of made evaluations, and its numbers."""
    currency = options.pop("currency", "USD")
    evals = read_of(pricers, currency=currency)
    found = conclude(evals, **options)
    return " ".join(conclusion_paragraph(found, evals.meta[found.reference])), found


def test_one_pricer_only_claims_nothing(read_of: Read) -> None:
    """Its error, and that there is nothing to compare it with."""
    words, found = said(read_of, OWN)
    assert words.startswith("On 300 items of made (test split) ridge, your own pricer, is off by $")
    assert f"[{found.error.low:,.2f}, {found.error.high:,.2f}]" in words
    assert "Nobody else was judged, so there is nothing to compare it with." in words
    assert "beat" not in words


def test_the_best_of_ones_own_is_said_to_be_that(read_of: Read) -> None:
    """And to beat the others where the interval leaves out 0."""
    words, _ = said(read_of, TWO)
    assert "ridge, which misses least of your own 2, is off by" in words
    assert "Of your other pricers ridge beats mlp." in words
    named, _ = said(read_of, TWO, reference="mlp")
    assert "mlp, the reference you named, is off by" in named
    assert "mlp does not beat ridge, which is off by" in named


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        (200, "gpt answered none of the 200 items: each is charged at the median price."),
        (50, "gpt answered 150 of the 200 items; the other 50 are charged at the median price."),
        (1, "gpt answered 199 of the 200 items; the other one is charged at the median price."),
    ],
)
@pytest.mark.parametrize("kind", ["api", "zero-shot", "human"])
def test_missing_answers_of_a_competitor_are_said_where_it_is_beaten(
    missing: int, words: str, kind: str, read_of: Read
) -> None:
    """To beat who says nothing is no feat, and who reads the conclusion alone must see it."""
    rows, meta = judged(0.9, 3, kind=kind, n=200)
    rows = tuple(replace(row, price=None) if place < missing else row for place, row in enumerate(rows))
    told, found = said(read_of, {**OWN, "gpt": (rows, meta)})
    assert words in told
    assert [one.unanswered for one in found.comparisons] == [missing]
    told, found = said(read_of, {"gpt": (rows, meta), "other": judged(0.9, 4, kind="human")}, reference="gpt")
    assert words in told
    assert found.unanswered == missing


def test_no_frontier_model_is_said(read_of: Read) -> None:
    """Nothing is claimed of models that nobody asked."""
    words, _ = said(read_of, TWO)
    assert "No frontier model was judged here, so this says nothing of how it compares with one." in words


def test_a_beaten_frontier_model_has_its_numbers(read_of: Read) -> None:
    """By how much, on how many items, with the interval, and at what part of its cost."""
    words, found = said(read_of, {**OWN, "gpt": judged(0.9, 3, kind="api", n=200, cost=0.001)}, machine_cost=0.36)
    pair = found.comparisons[0].pair
    assert pair is not None
    assert pair.low is not None
    assert pair.high is not None
    gap = f"${pair.difference:,.2f} [{pair.low:,.2f}, {pair.high:,.2f}]"
    assert f"ridge beats gpt by {gap} on the same 200 items, at 1/10,000 of its cost a quote." in words
    assert "ridge's fitting is paid back after about 2 quotes not asked of gpt." in words


def test_a_frontier_model_that_is_better_is_said_to_be(read_of: Read) -> None:
    """With the interval turned, so that it is about how much less."""
    words, found = said(read_of, {**OWN, "gpt": judged(0.05, 3, kind="api", cost=0.001)}, machine_cost=0.36)
    pair = found.comparisons[0].pair
    assert pair is not None
    assert pair.low is not None
    assert pair.high is not None
    gap = f"${-pair.difference:,.2f} [{-pair.high:,.2f}, {-pair.low:,.2f}]"
    assert f"ridge does not yet beat gpt, which is off by {gap} less on the same 300 items" in words
    assert "a quote of that one costs 10,000 times as much" in words
    assert "beats" not in words


def test_not_told_apart_says_how_many_items_would_tell(read_of: Read) -> None:
    """And claims no order."""
    words, found = said(read_of, {**OWN, "gpt": judged(0.3, 3, kind="api", cost=0.001)})
    pair = found.comparisons[0].pair
    assert pair is not None
    assert pair.n_needed is not None
    assert "ridge is not told apart from gpt on the same 300 items: here ridge is off by $" in words
    assert f"about {format_estimate(pair.n_needed)} items would tell" in words
    assert "beat" not in words


def test_the_same_quotes_have_no_difference(read_of: Read) -> None:
    """No number of items would tell two that are one."""
    words, _ = said(read_of, {**OWN, "gpt": judged(0.3, 1, kind="api")})
    assert "ridge is not told apart from gpt on the same 300 items: no difference was seen" in words


def test_too_few_items_say_nothing(read_of: Read) -> None:
    """Four items carry no interval and no order, whatever the means."""
    words, _ = said(read_of, {"ridge": judged(0.01, 1, n=4), "gpt": judged(2.0, 3, kind="api", n=4)})
    assert "Of gpt nothing can be said: 4 common items are too few for an interval." in words
    assert not re.search(r"beat|\[", words)


def test_other_items_are_not_compared(read_of: Read) -> None:
    """Means on different items are never set against each other."""
    words, _ = said(read_of, {"ridge": judged(0.3, 1, n=100), "gpt": judged(0.3, 3, kind="api", first=200, n=50)})
    assert "gpt was judged on other items, so the two are not compared." in words


def test_without_ones_own_pricer_that_is_said(read_of: Read) -> None:
    """The best hosted model is spoken of as what it is."""
    words, _ = said(read_of, {"a": judged(0.1, 1, kind="api"), "b": judged(0.8, 2, kind="api")})
    assert "a, a hosted model, is off by" in words
    assert "No pricer of your own was judged." in words
    assert "a beats b by" in words


def test_a_person_is_compared_without_a_price(read_of: Read) -> None:
    """What somebody's time costs is not known here."""
    words, _ = said(read_of, {**OWN, "human:ada": judged(0.9, 3, kind="human", n=200)}, machine_cost=0.36)
    assert re.search(r"ridge beats human:ada by \$[\d.]+ \[[\d., ]+\] on the same 200 items\.", words)


@pytest.mark.parametrize(
    ("machine_cost", "meta", "cost", "expected"),
    [
        (None, {}, 0.001, "What a quote of ridge costs is unknown without the price of the box (--machine-cost)"),
        (0.36, {"cost_known": False}, 0.0, "; what its answers cost is unknown"),
        (0.36, {}, 0.0, "ridge does not become cheaper than gpt here, however many quotes."),
        (1e6, {}, 0.001, "ridge does not become cheaper than gpt here, however many quotes."),
    ],
    ids=["no price of the box", "no price per token", "free of charge", "a dear box"],
)
def test_costs_that_are_not_known_are_said_to_be_so(
    machine_cost: float | None, meta: dict[str, Any], cost: float, expected: str, read_of: Read
) -> None:
    """Neither 0 nor a guess; without the box's price, the one at which the two meet."""
    pricers = {**OWN, "gpt": judged(0.9, 3, kind="api", cost=cost, **meta)}
    words, _ = said(read_of, pricers, machine_cost=machine_cost)
    assert expected in words
    assert "$0 " not in words
    if machine_cost is None:
        assert "it is the cheaper one while the box costs under US$3,600.00 an hour" in words


def test_an_unmeasured_fit_leaves_break_even_unknown(read_of: Read) -> None:
    """The sentence says what is missing."""
    rows, meta = judged(0.3, 1)
    pricers = {"ridge": (rows, {**meta, "fit_seconds": None}), "gpt": judged(0.9, 3, kind="api", cost=0.001)}
    words, _ = said(read_of, pricers, machine_cost=0.36)
    assert "When ridge becomes cheaper than gpt is unknown: the time of its fitting was not measured." in words


@pytest.mark.parametrize(
    ("pricers", "expected"),
    [
        ({}, "Whether an LLM of your own would be worth it over the sparse MLP is not known: none was judged."),
        (
            {"mlp": None, "llm": judged(0.2, 2, kind="lora_bins")},
            "Whether the LLM is worth it over a sparse MLP is not known: no sparse MLP was judged.",
        ),
        (
            {"llm": judged(0.1, 2, kind="lora_bins", seconds=0.03)},
            "An LLM alone is worth it by its error over the sparse MLP mlp: llm is off by",
        ),
        (
            {"llm": judged(1.5, 2, kind="lora_tokens")},
            "An LLM alone is not worth it over the sparse MLP mlp: llm is off by",
        ),
        (
            {"llm": judged(0.4, 5, kind="lora_bins")},
            "An LLM alone is not shown to be worth it over the sparse MLP mlp: llm is not told apart from it on 300",
        ),
        ({"llm": judged(1.5, 2, kind="zero-shot")}, "An untuned LLM alone is not worth it over the sparse MLP mlp"),
        (
            {"llm": judged(0.4, 5, kind="lora_bins", n=3)},
            "Whether llm, an LLM, is worth it over the sparse MLP mlp is not known: there are too few common items.",
        ),
        (
            {"both": judged(0.1, 2, kind="blend", parts={"a": "sparse_mlp", "b": "lora_bins"})},
            "both, which has an LLM among its members, is off by",
        ),
        (
            {"both": judged(0.4, 6, kind="blend", parts={"a": "sparse_mlp", "b": "lora_bins"})},
            "both, which has an LLM among its members, is not told apart from the sparse MLP mlp",
        ),
    ],
    ids=["none", "no mlp", "better", "worse", "tie", "untuned", "too few", "member better", "member tie"],
)
def test_an_llm_is_worth_it_only_where_its_interval_says_so(
    pricers: dict[str, Any], expected: str, read_of: Read
) -> None:
    """Every branch: none judged, no MLP, better, worse, not told apart, untuned, too few items, a member."""
    judged_ones = {"mlp": judged(0.4, 4, kind="sparse_mlp"), "median": judged(2.0, 9, kind="median"), **pricers}
    words, _ = said(read_of, {name: one for name, one in judged_ones.items() if one is not None})
    assert expected in words


def test_what_an_llm_takes_stands_beside_what_it_buys(read_of: Read) -> None:
    """Worth it by its error, and at how many times the seconds."""
    pricers = {"mlp": judged(0.4, 4, kind="sparse_mlp"), "llm": judged(0.1, 2, kind="lora_bins", seconds=0.03)}
    words, found = said(read_of, pricers)
    assert found.reference == "llm"
    assert re.search(r"An LLM alone is worth it by its error .* at 30 times the MLP's seconds a quote\.", words)


def test_many_frontier_models_are_counted_after_four(read_of: Read) -> None:
    """By outcome; the table has them all."""
    pricers = {f"gpt{k}": judged(0.8 + 0.1 * k, 10 + k, kind="api") for k in range(7)}
    words, found = said(read_of, {**OWN, **pricers})
    assert sum(one.outcome == "better" for one in found.comparisons) == 7
    assert words.count("ridge beats gpt") == 4
    assert "Of 3 more hosted models: it beats 3." in words


def test_errors_are_in_the_catalogs_currency_and_costs_in_dollars(read_of: Read) -> None:
    """A shop in pounds pays for tokens in dollars."""
    pricers = {**OWN, "gpt": judged(0.9, 3, kind="api", cost=0.001)}
    words, _ = said(read_of, pricers, currency="GBP")
    assert "is off by £" in words
    assert "beats gpt by £" in words
    assert not re.search(r"(?<!US)\$", words)
    assert "US$" in words


def test_the_correction_is_said_with_its_number(read_of: Read) -> None:
    """A reader knows for how many comparisons the intervals hold."""
    words, found = said(read_of, {**TWO, "gpt": judged(0.9, 3, kind="api")})
    assert f"those of differences hold all together, corrected for {found.n_comparisons} comparisons." in words
    assert found.n_comparisons == 3


def test_a_name_cannot_break_a_line(read_of: Read) -> None:
    """Names are data: no control characters, no second line, cut where they are long."""
    words, _ = said(read_of, {**OWN, "gpt\x1b[31m\nx" + "y" * 200: judged(0.9, 3, kind="api")})
    assert not set(words) & {"\x1b", "\n"}
    assert "y" * 60 not in words


def test_factors_have_the_digits_that_mean_something() -> None:
    """One place below ten, two digits above."""
    assert [short_name(1.26), short_name(9.96), short_name(214.0), short_name(12_345.0)] == [
        "1.3",
        "10",
        "210",
        "12,000",
    ]
