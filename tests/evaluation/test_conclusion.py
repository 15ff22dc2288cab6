"""The conclusion in numbers: the pairs that are compared, their correction, and missing results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pricesmith.core.errors import UsageError
from pricesmith.core.types import EvalRow, Evaluation
from pricesmith.evaluation.compare import breakdown_by_category, breakdown_by_price, compare, compare_simultaneously
from pricesmith.evaluation.conclusion import conclude
from pricesmith.evaluation.results import EvalItem, Evals

TRUTH = np.exp(np.random.default_rng(99).normal(4, 1, 300))


def quotes(name, spread, seed=0, n=300, of=1, shift=0, **more):
    """An evaluation of items `shift`.. whose quotes err by a log-normal factor; items come in groups of `of`."""
    quotes = TRUTH * np.exp(np.random.default_rng(seed).normal(0, spread, 300))
    rows = tuple(
        EvalRow(
            str(i),
            float(TRUTH[i]),
            float(quotes[i]),
            seconds=more.get("seconds", 0.001),
            cost_usd=more.get("cost", 0.0),
        )
        for i in range(shift, shift + n)
    )
    return Evaluation(name, "c0ffee", rows, 50.0, groups={str(i): f"f{i // of}" for i in range(300)})


def folder(**entries_by_name):
    """An evals folder of (evaluation, kind) or (evaluation, kind, meta)."""
    entries = [
        (entry[0], {"kind": entry[1], "fit_seconds": 10.0, **(entry[2] if len(entry) > 2 else {})})
        for entry in entries_by_name.values()
    ]
    evaluations = tuple(
        replace(evaluation, pricer=name) for name, (evaluation, _) in zip(entries_by_name, entries, strict=True)
    )
    items = {
        str(i): EvalItem(str(i), f"item {i}", "even" if i % 2 == 0 else "odd", float(TRUTH[i])) for i in range(300)
    }
    return Evals(
        Path("evals"), items, evaluations, dict(zip(entries_by_name, (meta for _, meta in entries), strict=True)), {}
    )


def outcomes(conclusion):
    return {comparison.competitor: comparison.outcome for comparison in conclusion.comparisons}


def test_the_reference_is_the_users_best_model():
    """Hosted models, people and the median are not chosen as the reference."""
    conclusion = conclude(
        folder(
            ridge=(quotes("", 0.5, 1), "ridge"),
            mlp=(quotes("", 0.3, 2), "sparse_mlp"),
            median=(quotes("", 0.1, 5), "median"),
            gpt=(quotes("", 0.1, 3), "api"),
            ada=(quotes("", 0.05, 4), "human"),
        )
    )
    assert (conclusion.reference, conclusion.chosen, conclusion.n_candidates) == ("mlp", "own", 2)
    assert outcomes(conclusion) == {"ada": "worse", "gpt": "worse", "median": "worse", "ridge": "better"}


def test_without_an_own_model_the_best_of_all_is_the_reference():
    """The conclusion records how it was chosen."""
    conclusion = conclude(folder(gpt=(quotes("", 0.1), "api"), ada=(quotes("", 0.6, 1), "human")))
    assert (conclusion.reference, conclusion.chosen, conclusion.pricer_type) == ("gpt", "any", "hosted")


def test_the_reference_is_on_the_items_of_most_pricers():
    """A pricer that was evaluated on a few easy items is not the reference."""
    conclusion = conclude(
        folder(a=(quotes("", 0.4), "ridge"), b=(quotes("", 0.5, 1), "boosting"), c=(quotes("", 0.01, 2, 40), "x"))
    )
    assert conclusion.reference == "a"
    assert outcomes(conclusion)["c"] == "worse"


def test_a_named_reference_is_taken_and_corrected_for_its_own_comparisons():
    """Naming it beforehand costs fewer comparisons, and narrower intervals, than choosing the best."""
    evals = folder(**{f"p{k}": (quotes("", 0.3 + 0.02 * k, k), "ridge") for k in range(6)})
    chosen = conclude(evals)
    named = conclude(evals, reference=chosen.reference)
    assert (named.reference, chosen.chosen, named.chosen) == (chosen.reference, "own", "named")
    assert (chosen.n_comparisons, named.n_comparisons) == (15, 5)
    wide, narrow = (
        {comparison.competitor: comparison.pair.high - comparison.pair.low for comparison in conclusion.comparisons}
        for conclusion in (chosen, named)
    )
    assert all(narrow[competitor] < wide[competitor] for competitor in wide)


def test_an_unknown_reference_is_refused_with_the_names():
    """With the nearest one."""
    with pytest.raises(UsageError, match="Did you mean 'ridge'") as caught:
        conclude(folder(ridge=(quotes("", 0.3), "ridge")), reference="rigde")
    assert "ridge" in caught.value.allowed


@pytest.mark.parametrize("price", [0.0, -1.0, float("nan"), float("inf")])
def test_a_machine_cost_is_a_price(price):
    """0 is refused too: it would make every quote free."""
    with pytest.raises(UsageError, match="not a price"):
        conclude(folder(ridge=(quotes("", 0.3), "ridge")), machine_cost=price)


def test_equal_pricers_do_not_differ_significantly_and_the_items_needed_are_given():
    """For the corrected test, so more than the pair alone would need."""
    evals = folder(
        a=(quotes("", 0.3, 1), "ridge"), b=(quotes("", 0.3, 2), "boosting"), c=(quotes("", 0.3, 3), "sparse_mlp")
    )
    conclusion = conclude(evals)
    assert set(outcomes(conclusion).values()) == {"no significant difference"}
    by_name = {evaluation.pricer: evaluation for evaluation in evals.evaluations}
    for comparison in conclusion.comparisons:
        assert (
            comparison.pair.n_needed > compare(by_name[comparison.competitor], by_name[conclusion.reference]).n_needed
        )


def test_other_items_and_too_few_items_are_named_as_such():
    """Neither is an outcome of a test, and neither takes part in the correction."""
    conclusion = conclude(
        folder(
            ridge=(quotes("", 0.3, 1, 100), "ridge"),
            other=(quotes("", 0.3, 2, 50, shift=200), "boosting"),
            few=(quotes("", 0.3, 3, 4), "api"),
        ),
        reference="ridge",
    )
    assert outcomes(conclusion) == {"other": "other items", "few": "too few items"}
    assert conclusion.n_comparisons == 0


def test_cost_and_break_even_are_against_hosted_models_only():
    """A competitor among the own models runs on the same machine."""
    conclusion = conclude(
        folder(
            ridge=(quotes("", 0.3, 1), "ridge"),
            mlp=(quotes("", 0.4, 2), "sparse_mlp"),
            gpt=(quotes("", 0.5, 3, cost=0.001), "api"),
        ),
        machine_cost=0.36,
    )
    by_name = {comparison.competitor: comparison for comparison in conclusion.comparisons}
    assert by_name["mlp"].break_even is None
    assert by_name["gpt"].break_even.quotes == 2  # 0.001 dollars of fitting, and 0.0000001 a quote
    assert by_name["gpt"].times == pytest.approx(10_000)


def test_an_llm_is_compared_with_the_sparse_mlp():
    """The tuned one, if there is one; a pricer that has one among its members beside it."""
    parts = {"parts": {"mlp": "sparse_mlp", "llm": "lora_bins"}}
    llm = conclude(
        folder(
            mlp=(quotes("", 0.5, 1), "sparse_mlp"),
            llm=(quotes("", 0.2, 2, seconds=0.01), "lora_bins"),
            raw=(quotes("", 0.1, 3), "zero-shot"),
            both=(quotes("", 0.15, 4), "blend", parts),
            cheap=(quotes("", 0.12, 5), "blend", {"parts": {"mlp": "sparse_mlp", "ridge": "ridge"}}),
        )
    ).llm
    assert [(pair.role, pair.llm, pair.mlp, pair.outcome) for pair in llm.pairs] == [
        ("alone", "llm", "mlp", "better"),
        ("member", "both", "mlp", "better"),
    ]
    assert llm.tuned
    assert llm.pairs[0].pair.difference > 0
    assert llm.pairs[0].seconds_times == pytest.approx(10)


def test_an_untuned_llm_is_compared_if_there_is_no_tuned_one():
    """It is marked as untuned; without an LLM or an MLP there is no comparison."""
    mlp, raw = (quotes("", 0.2, 1), "sparse_mlp"), (quotes("", 0.6, 2), "zero-shot")
    llm = conclude(folder(mlp=mlp, raw=raw)).llm
    assert (llm.tuned, llm.pairs[0].outcome, llm.pairs[0].pair.difference < 0) == (
        False,
        "worse",
        True,
    )
    assert conclude(folder(mlp=mlp)).llm.state == "no LLM"
    assert conclude(folder(raw=raw)).llm.state == "no sparse MLP"


def test_pairs_on_different_items_share_the_error_level():
    """Two pairs on different items each get half of the error level; a pair without common items has no result."""
    a, b = quotes("a", 0.3, 1), quotes("b", 0.4, 2)
    few = quotes("few", 0.4, 3, 60)
    far = replace(quotes("far", 0.3, 4), rows=(EvalRow("elsewhere", 1.0, 1.0),))
    first, second, none = compare_simultaneously([(a, b), (few, b), (far, b)])
    assert none is None
    assert (first.confidence, second.confidence) == (pytest.approx(0.975), pytest.approx(0.975))
    assert (first.n, second.n) == (300, 60)


def test_medians_are_not_corrected():
    """A median has no standard error to studentize with."""
    with pytest.raises(UsageError, match="means only"):
        compare_simultaneously([(quotes("a", 0.3), quotes("b", 0.4, 1))], "median error")


def test_side_by_side_bands_add_up_to_the_whole():
    """By price and by category; bands add up to the pair's difference, competitor minus reference."""
    evals = folder(a=(quotes("", 0.2, 1), "ridge"), b=(quotes("", 0.6, 2), "api"))
    a, b = evals.evaluations
    whole = compare(b, a)
    for bands in (breakdown_by_price(a, b), breakdown_by_category(a, b, evals)):
        assert sum(band.n for band in bands) == 300
        assert sum(band.n * band.difference.point for band in bands) / 300 == pytest.approx(whole.difference)
        assert all(band.competitor - band.reference == pytest.approx(band.difference.point) for band in bands)
    assert {band.label: band.better for band in breakdown_by_category(a, b, evals)} == {
        "even": "reference",
        "odd": "reference",
    }


def test_a_table_of_bands_is_corrected_for_its_bands():
    """Its intervals are wider than that of a single band."""
    evals = folder(a=(quotes("", 0.3, 1), "ridge"), b=(quotes("", 0.4, 2), "api"))
    a, b = evals.evaluations
    band = breakdown_by_category(a, b, evals)[0]
    even = [row for row in a.rows if int(row.id) % 2 == 0], [row for row in b.rows if int(row.id) % 2 == 0]
    alone = compare(replace(b, rows=tuple(even[1])), replace(a, rows=tuple(even[0])))
    assert band.difference.high - band.difference.low > alone.high - alone.low
