"""Every sentence of the conclusion is generated from the numbers by rule and claims no more than an interval shows."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pricesmith.evaluation.conclusion import Conclusion, conclude
from pricesmith.evaluation.results import Evals
from pricesmith.reporting.narrative import conclusion_paragraph, format_factor
from pricesmith.text.formatting import format_estimate

from .conftest import evaluated

Read = Callable[..., Evals]
OWN = {"ridge": evaluated(0.3, 1)}
TWO = {**OWN, "mlp": evaluated(0.6, 2, kind="sparse_mlp")}


def write_conclusion(read_of: Read, pricers: dict[str, Any], **options: Any) -> tuple[str, Conclusion]:
    """Return the conclusion of made evaluations as one paragraph, and its numbers."""
    currency = options.pop("currency", "USD")
    evals = read_of(pricers, currency=currency)
    conclusion = conclude(evals, **options)
    return " ".join(conclusion_paragraph(conclusion, evals.meta[conclusion.reference])), conclusion


def test_a_single_pricer_has_no_comparison(read_of: Read) -> None:
    """Its error, and that there is nothing to compare it with."""
    words, conclusion = write_conclusion(read_of, OWN)
    assert words.startswith("On 300 items of made (test split), ridge has an MAE of $")
    assert f"[{conclusion.error.low:,.2f}, {conclusion.error.high:,.2f}]" in words
    assert "No other pricer was evaluated, so there is nothing to compare it with." in words
    assert "lower MAE" not in words


def test_the_most_accurate_own_model_is_the_reference(read_of: Read) -> None:
    """It has a lower MAE than the others if the interval excludes 0; a named reference model is called so."""
    words, _ = write_conclusion(read_of, TWO)
    assert re.search(r"ridge has an MAE of \$[^,]+, [\d.]+\], the lowest of your 2 models\.", words)
    assert "Of your other models, ridge has a lower MAE than mlp." in words
    named, _ = write_conclusion(read_of, TWO, reference="mlp")
    assert "mlp (the reference model you named) has an MAE of" in named
    assert "ridge has a lower MAE than mlp, by $" in named


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        (200, "gpt left all 200 items unanswered; each is charged at the training median."),
        (50, "gpt left 50 of the 200 items unanswered; they are charged at the training median."),
        (1, "gpt left 1 of the 200 items unanswered; it is charged at the training median."),
    ],
)
@pytest.mark.parametrize("kind", ["api", "zero-shot", "human"])
def test_unanswered_items_of_a_competitor_are_in_the_conclusion(
    missing: int, words: str, kind: str, read_of: Read
) -> None:
    """A lower MAE than a pricer that does not answer means little, so readers of the conclusion alone must see it."""
    rows, meta = evaluated(0.9, 3, kind=kind, n=200)
    rows = tuple(replace(row, price=None) if index < missing else row for index, row in enumerate(rows))
    text, conclusion = write_conclusion(read_of, {**OWN, "gpt": (rows, meta)})
    assert words in text
    assert [comparison.unanswered for comparison in conclusion.comparisons] == [missing]
    text, conclusion = write_conclusion(
        read_of, {"gpt": (rows, meta), "other": evaluated(0.9, 4, kind="human")}, reference="gpt"
    )
    assert words in text
    assert conclusion.unanswered == missing


def test_a_missing_frontier_model_is_mentioned(read_of: Read) -> None:
    """Nothing is claimed about models that were not evaluated."""
    words, _ = write_conclusion(read_of, TWO)
    assert "No frontier model was evaluated, so how ridge compares with one is unknown." in words


def test_a_less_accurate_frontier_model_has_its_numbers(read_of: Read) -> None:
    """The difference with its interval, the number of items, and the share of its cost."""
    words, conclusion = write_conclusion(
        read_of, {**OWN, "gpt": evaluated(0.9, 3, kind="api", n=200, cost=0.001)}, machine_cost=0.36
    )
    pair = conclusion.comparisons[0].pair
    assert pair is not None
    assert pair.low is not None
    assert pair.high is not None
    gap = f"${pair.difference:,.2f} [{pair.low:,.2f}, {pair.high:,.2f}]"
    assert (
        f"ridge has a lower MAE than gpt, by {gap} on the same 200 items, at 1/10,000 of its cost per quote." in words
    )
    assert "ridge breaks even with gpt after about 2 quotes, fitting included." in words


def test_a_more_accurate_frontier_model_is_named_first(read_of: Read) -> None:
    """The interval is mirrored, so that it is about how much lower its MAE is."""
    words, conclusion = write_conclusion(
        read_of, {**OWN, "gpt": evaluated(0.05, 3, kind="api", cost=0.001)}, machine_cost=0.36
    )
    pair = conclusion.comparisons[0].pair
    assert pair is not None
    assert pair.low is not None
    assert pair.high is not None
    gap = f"${-pair.difference:,.2f} [{-pair.high:,.2f}, {-pair.low:,.2f}]"
    assert f"gpt has a lower MAE than ridge, by {gap} on the same 300 items" in words
    assert "a quote by gpt costs 10,000 times as much" in words
    assert "ridge has a lower MAE" not in words


def test_no_significant_difference_comes_with_the_sample_size_needed(read_of: Read) -> None:
    """And claims no order."""
    words, conclusion = write_conclusion(read_of, {**OWN, "gpt": evaluated(0.3, 3, kind="api", cost=0.001)})
    pair = conclusion.comparisons[0].pair
    assert pair is not None
    assert pair.n_needed is not None
    assert "ridge shows no significant difference from gpt on the same 300 items: its MAE is $" in words
    needed = f"about {format_estimate(pair.n_needed)} items would be needed"
    assert f"{needed} for 80 % power of the simultaneous test" in words
    assert "has a lower MAE" not in words


def test_the_same_quotes_have_no_difference(read_of: Read) -> None:
    """No sample size is given for a difference of 0."""
    words, _ = write_conclusion(read_of, {**OWN, "gpt": evaluated(0.3, 1, kind="api")})
    assert "ridge shows no significant difference from gpt on the same 300 items: no difference was observed" in words


def test_too_few_items_are_not_compared(read_of: Read) -> None:
    """Four items give no interval and no order, whatever the means."""
    words, _ = write_conclusion(read_of, {"ridge": evaluated(0.01, 1, n=4), "gpt": evaluated(2.0, 3, kind="api", n=4)})
    assert "ridge and gpt cannot be compared: 4 common items are too few for a confidence interval." in words
    assert not re.search(r"lower MAE|\[", words)


def test_other_items_are_not_compared(read_of: Read) -> None:
    """Means on different items are never compared."""
    words, _ = write_conclusion(
        read_of, {"ridge": evaluated(0.3, 1, n=100), "gpt": evaluated(0.3, 3, kind="api", first=200, n=50)}
    )
    assert "gpt was evaluated on other items, so it is not compared with ridge." in words


def test_without_an_own_model_the_best_hosted_one_is_the_reference(read_of: Read) -> None:
    """It is called a hosted model."""
    words, _ = write_conclusion(read_of, {"a": evaluated(0.1, 1, kind="api"), "b": evaluated(0.8, 2, kind="api")})
    assert "a (a hosted model) has an MAE of" in words
    assert "None of your own models was evaluated." in words
    assert "a has a lower MAE than b, by" in words


def test_a_person_is_compared_without_a_price(read_of: Read) -> None:
    """The cost of a person's time is unknown."""
    words, _ = write_conclusion(
        read_of, {**OWN, "human:ada": evaluated(0.9, 3, kind="human", n=200)}, machine_cost=0.36
    )
    assert re.search(r"ridge has a lower MAE than human:ada, by \$[\d.]+ \[[\d., ]+\] on the same 200 items\.", words)


@pytest.mark.parametrize(
    ("machine_cost", "meta", "cost", "expected"),
    [
        (None, {}, 0.001, "The cost per quote of ridge is unknown without the cost of this machine (--machine-cost)"),
        (0.36, {"cost_known": False}, 0.0, "; its cost per quote is unknown"),
        (0.36, {}, 0.0, "ridge never breaks even with gpt: its quotes are not cheaper."),
        (1e6, {}, 0.001, "ridge never breaks even with gpt: its quotes are not cheaper."),
    ],
    ids=["no machine cost", "no price per token", "free of charge", "an expensive machine"],
)
def test_unknown_costs_are_called_unknown(
    machine_cost: float | None, meta: dict[str, Any], cost: float, expected: str, read_of: Read
) -> None:
    """Neither 0 nor a guess; without a machine cost, the one at which both cost the same is given."""
    pricers = {**OWN, "gpt": evaluated(0.9, 3, kind="api", cost=cost, **meta)}
    words, _ = write_conclusion(read_of, pricers, machine_cost=machine_cost)
    assert expected in words
    assert "$0 " not in words
    if machine_cost is None:
        assert "it is cheaper than gpt if the machine costs under US$3,600.00 an hour" in words


def test_an_unmeasured_fit_leaves_break_even_unknown(read_of: Read) -> None:
    """The sentence states what is missing."""
    rows, meta = evaluated(0.3, 1)
    pricers = {"ridge": (rows, {**meta, "fit_seconds": None}), "gpt": evaluated(0.9, 3, kind="api", cost=0.001)}
    words, _ = write_conclusion(read_of, pricers, machine_cost=0.36)
    assert "When ridge breaks even with gpt is unknown: its fitting time was not measured." in words


@pytest.mark.parametrize(
    ("pricers", "expected"),
    [
        ({}, "Whether an LLM of your own would improve on the sparse MLP is unknown: none was evaluated."),
        (
            {"mlp": None, "llm": evaluated(0.2, 2, kind="lora_bins")},
            "Whether the LLM improves on a sparse MLP is unknown: no sparse MLP was evaluated.",
        ),
        (
            {"llm": evaluated(0.1, 2, kind="lora_bins", seconds=0.03)},
            "llm, an LLM on its own, has a lower MAE than the sparse MLP mlp, by $",
        ),
        (
            {"llm": evaluated(1.5, 2, kind="lora_tokens")},
            "llm, an LLM on its own, has a higher MAE than the sparse MLP mlp, by $",
        ),
        (
            {"llm": evaluated(0.4, 5, kind="lora_bins")},
            "llm, an LLM on its own, shows no significant difference from the sparse MLP mlp on 300 items: its MAE",
        ),
        (
            {"llm": evaluated(1.5, 2, kind="zero-shot")},
            "llm, an untuned LLM on its own, has a higher MAE than the sparse MLP mlp",
        ),
        (
            {"llm": evaluated(0.4, 5, kind="lora_bins", n=3)},
            "improves on the sparse MLP mlp is unknown: there are too few common items.",
        ),
        (
            {"both": evaluated(0.1, 2, kind="blend", parts={"a": "sparse_mlp", "b": "lora_bins"})},
            "both, an ensemble with an LLM, has a lower MAE than the sparse MLP mlp, by $",
        ),
        (
            {"both": evaluated(0.4, 6, kind="blend", parts={"a": "sparse_mlp", "b": "lora_bins"})},
            "both, an ensemble with an LLM, shows no significant difference from the sparse MLP mlp",
        ),
    ],
    ids=["none", "no mlp", "better", "worse", "tie", "untuned", "too few", "member better", "member tie"],
)
def test_an_llm_improves_on_the_sparse_mlp_only_if_its_interval_excludes_zero(
    pricers: dict[str, Any], expected: str, read_of: Read
) -> None:
    """Every branch: no LLM, no MLP, better, worse, not significant, untuned, too few items, an ensemble."""
    evaluations = {"mlp": evaluated(0.4, 4, kind="sparse_mlp"), "median": evaluated(2.0, 9, kind="median"), **pricers}
    words, _ = write_conclusion(read_of, {name: rows for name, rows in evaluations.items() if rows is not None})
    assert expected in words


def test_the_time_of_an_llm_is_beside_its_gain(read_of: Read) -> None:
    """The lower MAE comes with the ratio of the seconds per quote."""
    pricers = {"mlp": evaluated(0.4, 4, kind="sparse_mlp"), "llm": evaluated(0.1, 2, kind="lora_bins", seconds=0.03)}
    words, conclusion = write_conclusion(read_of, pricers)
    assert conclusion.reference == "llm"
    assert re.search(
        r"llm, an LLM on its own, has a lower MAE .* at 30 times the seconds per quote of the MLP\.", words
    )


def test_many_frontier_models_are_counted_after_four(read_of: Read) -> None:
    """The rest are counted by outcome; the table has them all."""
    pricers = {f"gpt{k}": evaluated(0.8 + 0.1 * k, 10 + k, kind="api") for k in range(7)}
    words, conclusion = write_conclusion(read_of, {**OWN, **pricers})
    assert sum(comparison.outcome == "better" for comparison in conclusion.comparisons) == 7
    assert words.count("ridge has a lower MAE than gpt") == 4
    assert "Of 3 more hosted models: ridge has a lower MAE than 3." in words


def test_errors_are_in_the_catalogs_currency_and_costs_in_dollars(read_of: Read) -> None:
    """A catalog in pounds pays for tokens in dollars."""
    pricers = {**OWN, "gpt": evaluated(0.9, 3, kind="api", cost=0.001)}
    words, _ = write_conclusion(read_of, pricers, currency="GBP")
    assert "has an MAE of £" in words
    assert "ridge has a lower MAE than gpt, by £" in words
    assert not re.search(r"(?<!US)\$", words)
    assert "US$" in words


def test_the_number_of_simultaneous_comparisons_is_given(read_of: Read) -> None:
    """Readers see over how many comparisons the intervals are simultaneous."""
    words, conclusion = write_conclusion(read_of, {**TWO, "gpt": evaluated(0.9, 3, kind="api")})
    assert f"those of differences are simultaneous over {conclusion.n_comparisons} comparisons." in words
    assert conclusion.n_comparisons == 3


def test_a_name_cannot_break_a_line(read_of: Read) -> None:
    """Names are data: no control characters, no second line, cut where they are long."""
    words, _ = write_conclusion(read_of, {**OWN, "gpt\x1b[31m\nx" + "y" * 200: evaluated(0.9, 3, kind="api")})
    assert not set(words) & {"\x1b", "\n"}
    assert "y" * 60 not in words


def test_factors_have_the_digits_that_mean_something() -> None:
    """One place below ten, two digits above."""
    assert [format_factor(1.26), format_factor(9.96), format_factor(214.0), format_factor(12_345.0)] == [
        "1.3",
        "10",
        "210",
        "12,000",
    ]
