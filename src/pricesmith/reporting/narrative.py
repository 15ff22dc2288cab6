"""The conclusion in words, generated from its numbers by rule: no sentence claims more than an interval shows.

    conclusion_paragraph(conclude(evals), meta) -> ["On 2,915 items of goods (test split), blend has ...", ...]

Square brackets hold 95 % confidence intervals; those of differences are simultaneous. A lower MAE is claimed only if
the interval of the difference excludes 0. Errors are in the catalog's currency, costs in US dollars.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pricesmith.evaluation.compare import Difference
from pricesmith.evaluation.conclusion import Comparison, Conclusion, LlmPair, Outcome
from pricesmith.evaluation.leaderboard import CoverageCheck
from pricesmith.reporting.hybrids import describe_hybrid, member_label
from pricesmith.text.formatting import (
    format_band,
    format_bounds,
    format_count,
    format_estimate,
    format_price,
    format_quotes,
    format_share,
    format_usd,
    join_names,
    to_single_line,
)

MAX_SENTENCES = 4  # hosted models that get a sentence each; the table has them all
MAX_NAMES = 3
MAX_NAME_LENGTH = 48
MAX_NOTE_LENGTH = 800
NOT_COMPARED = ("other items", "too few items")
SAME = "no significant difference"
OUTCOMES: dict[Outcome, str] = {
    "better": "reference has lower MAE",
    "worse": "competitor has lower MAE",
    "no significant difference": SAME,
    "too few items": "too few items",
    "other items": "no common items",
}


def conclusion_paragraph(conclusion: Conclusion, meta: Mapping[str, Any]) -> list[str]:
    """Return the sentences of the conclusion in order. `meta` is the reference's: `catalog_name`, `split`, `folds`."""
    sentences = [opening_sentence(conclusion, meta)]
    if rewriting := meta.get("catalog_rewriting"):
        sentences.append(to_single_line(str(rewriting), MAX_NOTE_LENGTH))
    sentences += hybrid_sentences(conclusion, [conclusion.reference])
    if not conclusion.comparisons:
        sentences.append("No other pricer was evaluated, so there is nothing to compare it with.")
    sentences += hosted_sentences(conclusion)
    people = [comparison for comparison in conclusion.comparisons if comparison.pricer_type == "person"]
    sentences += [comparison_sentence(comparison, conclusion) for comparison in people[:MAX_SENTENCES]]
    sentences += other_model_sentences(conclusion)
    sentences += hybrid_sentences(conclusion, [comparison.competitor for comparison in conclusion.comparisons])
    sentences += llm_sentences(conclusion)
    sentences += break_even_sentences(conclusion)
    level = f"{conclusion.confidence:.0%}".replace("%", " %")
    if conclusion.n_comparisons > 1:
        scope = f"those of differences are simultaneous over {conclusion.n_comparisons:,} comparisons"
        sentences.append(f"Brackets are {level} confidence intervals; {scope}.")
    elif conclusion.error.low is not None:
        sentences.append(f"Brackets are {level} confidence intervals.")
    return sentences


def opening_sentence(conclusion: Conclusion, meta: Mapping[str, Any]) -> str:
    """Name the reference and its MAE, and how it was chosen."""
    name = pricer_label(conclusion.reference)
    split = "every row, in 5 folds" if meta.get("folds") else f"{meta.get('split') or 'test'} split"
    catalog = to_single_line(str(meta.get("catalog_name") or "the catalog"), 60)
    items = format_count(conclusion.error.n, "item")
    kind = {"hosted": "a hosted model", "person": "a person"}.get(conclusion.pricer_type, "precomputed answers")
    role = {"own": "", "named": " (the reference model you named)", "any": f" ({kind})"}[conclusion.chosen]
    rank = (
        f", the lowest of your {conclusion.n_candidates} models"
        if conclusion.chosen == "own" and conclusion.n_candidates > 1
        else ""
    )
    mae = format_price(conclusion.error.point, conclusion.currency)
    bounds = format_bounds(conclusion.error.low, conclusion.error.high, conclusion.currency)
    none_of_own = " None of your own models was evaluated." if conclusion.chosen == "any" else ""
    sentence = f"On {items} of {catalog} ({split}), {name}{role} has an MAE of {mae}{bounds}{rank}.{none_of_own}"
    return sentence + unanswered_sentence(name, conclusion.unanswered, conclusion.error.n)


def hybrid_sentences(conclusion: Conclusion, names: Sequence[str]) -> list[str]:
    """Say of each named model that asks another one which it asks, how often and at what cost."""
    sentences = []
    for name in [name for name in names if name in conclusion.hybrids][:MAX_SENTENCES]:
        fees = conclusion.costs[name].fees
        sentence = describe_hybrid(
            name,
            conclusion.hybrids[name],
            conclusion.currency,
            fees=None if fees is None else 1_000 * fees,
            with_mae=name != conclusion.reference,
        )
        sentences.append(sentence)
    return sentences


def is_frontier(comparison: Comparison, conclusion: Conclusion) -> bool:
    """Return whether a competitor is a hosted model, or the saved answers of one that a hybrid asks."""
    asked = {hybrid.member for hybrid in conclusion.hybrids.values() if hybrid.is_paid}
    return comparison.pricer_type == "hosted" or (comparison.pricer_type == "saved" and comparison.competitor in asked)


def no_frontier_sentence(conclusion: Conclusion) -> str:
    """State that no frontier model was evaluated, or only as the member of a model that asks one."""
    name, hybrid = pricer_label(conclusion.reference), conclusion.hybrids.get(conclusion.reference)
    if hybrid is not None and hybrid.is_paid:
        member = member_label(hybrid.member)
        start = "The API model that it asks" if not hybrid.member else member
        return f"{start} was not evaluated on its own, so whether {name} is more accurate is not tested."
    alone = " on its own" if any(hybrid.is_paid for hybrid in conclusion.hybrids.values()) else ""
    return f"No frontier model was evaluated{alone}, so how {name} compares with one is unknown."


def hosted_sentences(conclusion: Conclusion) -> list[str]:
    """Compare the reference with each hosted model, most accurate first, or state that none was evaluated."""
    hosted = [comparison for comparison in conclusion.comparisons if is_frontier(comparison, conclusion)]
    name = pricer_label(conclusion.reference)
    if not hosted:
        return [] if conclusion.pricer_type == "hosted" else [no_frontier_sentence(conclusion)]
    sentences = [comparison_sentence(comparison, conclusion) for comparison in hosted[:MAX_SENTENCES]]
    rest = hosted[MAX_SENTENCES:]
    if rest:
        sentences.append(f"Of {format_count(len(rest), 'more hosted model')}: {outcome_counts(rest, name)}.")
    return sentences


def outcome_counts(comparisons: Sequence[Comparison], name: str) -> str:
    """Count the comparisons by their outcome for the reference, in words."""
    phrases = {
        "better": f"{name} has a lower MAE than {{}}",
        "worse": "{} have a lower MAE",
        "no significant difference": f"{{}} show {SAME}",
    }
    counts = Counter(comparison.outcome for comparison in comparisons)
    return ", ".join(phrases.get(outcome, "{} cannot be compared").format(count) for outcome, count in counts.items())


def comparison_sentence(comparison: Comparison, conclusion: Conclusion) -> str:
    """Compare the reference with one competitor in a sentence."""
    reference, competitor = pricer_label(conclusion.reference), pricer_label(comparison.competitor)
    pair = comparison.pair
    if pair is None:
        return f"{competitor} was evaluated on other items, so it is not compared with {reference}."
    if comparison.outcome == "too few items":
        count = format_count(pair.n, "common item")
        return f"{reference} and {competitor} cannot be compared: {count} are too few for a confidence interval."
    items = f"on the same {format_count(pair.n, 'item')}"
    cost = cost_clause(comparison, conclusion)
    unanswered = unanswered_sentence(competitor, comparison.unanswered, pair.n)
    difference = absolute_difference(pair, conclusion.currency)
    if comparison.outcome == "better":
        return f"{reference} has a lower MAE than {competitor}, by {difference} {items}{cost}.{unanswered}"
    if comparison.outcome == "worse":
        return f"{competitor} has a lower MAE than {reference}, by {difference} {items}{cost}.{unanswered}"
    observed = observed_difference(pair, reference, conclusion.currency)
    return f"{reference} shows {SAME} from {competitor} {items}: {observed}{cost}.{unanswered}"


def unanswered_sentence(name: str, missing: int, n: int) -> str:
    """State how many items were unanswered and what they are charged at; empty if all were answered."""
    if not missing:
        return ""
    if missing == n:
        return f" {name} left all {format_count(n, 'item')} unanswered; each is charged at the training median."
    charge = "it is charged" if missing == 1 else "they are charged"
    return f" {name} left {missing:,} of the {format_count(n, 'item')} unanswered; {charge} at the training median."


def observed_difference(pair: Difference, name: str, currency: str) -> str:
    """Describe a difference that is not significant; `name` is the second of the pair, which the clause is about."""
    if not pair.difference:
        return "no difference was observed"
    direction = "lower" if pair.difference > 0 else "higher"
    clause = f"its MAE is {absolute_difference(pair, currency)} {direction} here"
    return f"{clause}, and {power_clause(pair.n_needed)}" if pair.n_needed else clause


def power_clause(needed: int, test: str = "the simultaneous test") -> str:
    """State the sample size at which a test detects the observed difference; the conclusion's is simultaneous over all
    of its comparisons, a leaderboard's is the pair's own.
    """
    return f"about {format_estimate(needed)} items would be needed for 80 % power of {test}"


def cost_clause(comparison: Comparison, conclusion: Conclusion) -> str:
    """Compare the cost per quote with a hosted model's; empty if there is no fee to compare."""
    if comparison.pricer_type != "hosted":
        return ""
    if conclusion.costs[comparison.competitor].quote is None:
        return "; its cost per quote is unknown"
    ratio = comparison.times
    if ratio is None:
        return ""
    if 1 / 1.5 < ratio < 1.5:
        return ", at about the same cost per quote"
    if comparison.outcome == "better":
        share = f"1/{format_factor(ratio)} of" if ratio > 1 else f"{format_factor(1 / ratio)} times"
        return f", at {share} its cost per quote"
    share = f"{format_factor(ratio)} times" if ratio > 1 else f"1/{format_factor(1 / ratio)}"
    return f"; a quote by {pricer_label(comparison.competitor)} costs {share} as much"


def other_model_sentences(conclusion: Conclusion) -> list[str]:
    """Compare the reference with the user's other models and with precomputed answers, by outcome."""
    others = [
        comparison
        for comparison in conclusion.comparisons
        if comparison.pricer_type in ("own", "saved") and not is_frontier(comparison, conclusion)
    ]
    if not others:
        return []
    name = pricer_label(conclusion.reference)
    better = [comparison for comparison in others if comparison.outcome == "better"]
    same = [comparison for comparison in others if comparison.outcome == "no significant difference"]
    clauses = []
    if better:
        names = join_names([pricer_label(comparison.competitor) for comparison in better], MAX_NAMES)
        clauses.append(f"has a lower MAE than {names}")
    if same:
        clauses.append(f"shows {SAME} from {same_names(same)}")
    scope = "your other models" if conclusion.pricer_type == "own" else "your models"
    sentences = [f"Of {scope}, {name} {' and '.join(clauses)}."] if clauses else []
    rest = [comparison for comparison in others if comparison.outcome in ("worse", *NOT_COMPARED)]
    sentences += [comparison_sentence(comparison, conclusion) for comparison in rest[:MAX_SENTENCES]]
    unanswered = [
        unanswered_sentence(pricer_label(comparison.competitor), comparison.unanswered, comparison.pair.n)[1:]
        for comparison in [*better, *same]
        if comparison.pair and comparison.unanswered
    ]
    return sentences + unanswered[:MAX_SENTENCES]


def same_names(comparisons: Sequence[Comparison]) -> str:
    """Name the competitors without a significant difference, with the sample size needed if there is only one."""
    needed = comparisons[0].pair.n_needed if comparisons[0].pair is not None else None
    clause = f" ({power_clause(needed)})" if needed and len(comparisons) == 1 else ""
    return join_names([pricer_label(comparison.competitor) for comparison in comparisons], MAX_NAMES) + clause


def llm_sentences(conclusion: Conclusion) -> list[str]:
    """State whether one of the user's language models improves on the sparse MLP."""
    question = conclusion.llm
    if question.state == "no LLM":
        return ["Whether an LLM of your own would improve on the sparse MLP is unknown: none was evaluated."]
    if question.state == "no sparse MLP":
        return ["Whether the LLM improves on a sparse MLP is unknown: no sparse MLP was evaluated."]
    return [llm_sentence(pair, conclusion, tuned=question.tuned) for pair in question.pairs]


def llm_sentence(comparison: LlmPair, conclusion: Conclusion, *, tuned: bool) -> str:
    """Compare one language model, or an ensemble that contains one, with the sparse MLP."""
    pair, name = comparison.pair, pricer_label(comparison.llm)
    mlp = "the sparse MLP" if comparison.mlp == "sparse_mlp" else f"the sparse MLP {pricer_label(comparison.mlp)}"
    member = comparison.role == "member"
    kind = "an LLM" if tuned else "an untuned LLM"
    subject = f"{name}, an ensemble with an LLM," if member else f"{name}, {kind} on its own,"
    if pair is None or comparison.outcome == "too few items":
        reason = "they were evaluated on different items" if pair is None else "there are too few common items"
        return f"Whether {subject} improves on {mlp} is unknown: {reason}."
    ratio = comparison.seconds_times
    seconds = f", at {format_factor(ratio)} times the seconds per quote of the MLP" if ratio else ""
    items = f"on {format_count(pair.n, 'item')}"
    if comparison.outcome == "no significant difference":
        observed = observed_difference(pair, name, conclusion.currency)
        return f"{subject} shows {SAME} from {mlp} {items}: {observed}{seconds}."
    difference = absolute_difference(pair, conclusion.currency)
    direction = "lower" if comparison.outcome == "better" else "higher"
    return f"{subject} has a {direction} MAE than {mlp}, by {difference} {items}{seconds}."


def break_even_sentences(conclusion: Conclusion) -> list[str]:
    """State from how many quotes this machine is cheaper than the most accurate hosted model with known fees."""
    priced = (
        comparison
        for comparison in conclusion.comparisons
        if comparison.break_even is not None and conclusion.costs[comparison.competitor].quote is not None
    )
    comparison = next(priced, None)
    if comparison is None or comparison.break_even is None:
        return []
    own, break_even = conclusion.costs[conclusion.reference], comparison.break_even
    name, competitor = pricer_label(conclusion.reference), pricer_label(comparison.competitor)
    if break_even.quotes is not None:
        return [f"{name} breaks even with {competitor} after {format_quotes(break_even.quotes)}, fitting included."]
    if break_even.why == "never":
        return [f"{name} never breaks even with {competitor}: its quotes are not cheaper."]
    if own.fees is None:
        return [f"When {name} breaks even with {competitor} is unknown: its fees are unknown."]
    if conclusion.machine_cost is None:
        limit = break_even.machine_cost
        clause = (
            f"; it is cheaper than {competitor} if the machine costs under {format_usd(limit)} an hour" if limit else ""
        )
        return [f"The cost per quote of {name} is unknown without the cost of this machine (--machine-cost){clause}."]
    missing = "its seconds per quote were" if own.seconds is None else "its fitting time was"
    return [f"When {name} breaks even with {competitor} is unknown: {missing} not measured."]


def pricer_label(name: str) -> str:
    """Return a pricer's name on one line, shortened if it is long."""
    return to_single_line(name, MAX_NAME_LENGTH)


def absolute_difference(pair: Difference, currency: str) -> str:
    """Format the size of a difference with its interval, both mirrored if the difference is negative."""
    size = format_price(abs(pair.difference), currency)
    low, high = pair.low, pair.high
    if low is None or high is None:
        return size
    return size + (format_bounds(low, high, currency) if pair.difference >= 0 else format_bounds(-high, -low, currency))


def format_factor(value: float) -> str:
    """Format a factor with one decimal below 10 and two significant digits above: `3.2`, `210`, `12,000`."""
    if value < 9.95:
        return f"{value:.1f}"
    unit = 10 ** max(0, len(str(int(value))) - 2)
    return f"{int(value / unit + 0.5) * unit:,}"


def coverage_sentence(name: str, check: CoverageCheck, currency: str) -> str:
    """State the coverage of a pricer's intervals on all items, in a band of the quote or in a category."""
    level = f"{check.level:.0%}".replace("%", " %")
    scope = {
        "all": "",
        "quote band": f" for quotes of {format_band(check.label, currency)}",
        "category": f" in category {to_single_line(check.label, 40)}",
    }[check.scope]
    coverage = f"{format_share(check.coverage.point)} (n = {check.n:,})"
    return f"{pricer_label(name)}: coverage of the {level} intervals{scope} is {coverage}, {coverage_result(check)}."


def coverage_result(check: CoverageCheck) -> str:
    """State whether a coverage is significantly off its level, with the Holm-corrected p-value."""
    level = f"{check.level:.0%}".replace("%", " %")
    if check.p is None:
        return "too few near-duplicate groups to test"
    if not check.is_significant:
        return f"within sampling error of {level}"
    direction = "below" if check.coverage.point < check.level else "above"
    p = "p < 0.001" if check.p < 0.001 else f"p = {check.p:.2g}"
    return f"significantly {direction} {level} ({p})"
