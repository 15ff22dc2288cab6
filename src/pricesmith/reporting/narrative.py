"""The conclusion in words, made from its numbers by rule: no sentence says more than an interval shows.

    paragraph(conclusion(evals), about) -> ["On 2,915 items of goods (test split) blend misses ...", "It beats ...", ...]

A number in brackets is an interval; those of differences hold all together. "Beats" is said only where
the interval leaves out 0; "worth it" is about error alone, and the seconds it takes stand beside it. Errors are in the
catalog's currency, costs in US dollars.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pricesmith.evaluation.compare import Difference
from pricesmith.evaluation.conclusion import Comparison, Conclusion, LlmPair, Outcome
from pricesmith.text.formatting import (
    format_bounds,
    format_count,
    format_estimate,
    format_price,
    format_quotes,
    format_usd,
    join_names,
    to_single_line,
)

SAID = 4  # hosted models that get a sentence each; the table has them all
NAMED = 3
NAME = 48  # letters of a name that are shown
INFERIOR = ("other items", "too few items")


def conclusion_paragraph(found: Conclusion, evals_about: Mapping[str, Any]) -> list[str]:
    """The sentences of the conclusion in order. `evals_about` says what was judged: `catalog_name`, `split`, `folds`."""
    sentences = [opening(found, evals_about)]
    if not found.comparisons:
        sentences.append("Nobody else was judged, so there is nothing to compare it with.")
    sentences += api_sentences(found)
    sentences += [comparison_sentences(one, found) for one in found.comparisons if one.pricer_type == "person"][:SAID]
    sentences += other_names(found)
    sentences += llm_sentences(found)
    sentences += cost_sentences(found)
    if found.n_comparisons > 1:
        all_of = f"those of differences hold all together, corrected for {found.n_comparisons:,} comparisons"
        sentences.append(f"Brackets are {level_words(found)} intervals; {all_of}.")
    elif found.error.low is not None:
        sentences.append(f"Brackets are {level_words(found)} intervals.")
    return sentences


def opening(found: Conclusion, evals_about: Mapping[str, Any]) -> str:
    """Who is spoken of, and how far off it is."""
    name = pricer_label(found.reference)
    split = "every row, in 5 folds" if evals_about.get("folds") else f"{evals_about.get('split') or 'test'} split"
    where = f"On {format_count(found.error.n, 'item')} of {to_single_line(str(evals_about.get('catalog_name') or 'the catalog'), 60)}"
    role = {
        "own": f", which misses least of your own {found.n_candidates},"
        if found.n_candidates > 1
        else ", your own pricer,",
        "named": ", the reference you named,",
        "any": ", a "
        + {"hosted": "hosted model", "person": "person"}.get(found.pricer_type, "set of saved answers")
        + ",",
    }[found.chosen]
    miss = f"{format_price(found.error.point, found.currency)}{format_bounds(found.error.low, found.error.high, found.currency)}"
    without = " No pricer of your own was judged." if found.chosen == "any" else ""
    said = f"{where} ({split}) {name}{role} is off by {miss} on average.{without}"
    return said + unanswered_sentence(name, found.unanswered, found.error.n)


def api_sentences(found: Conclusion) -> list[str]:
    """The reference against each hosted model, most accurate first; that there was none is said too."""
    some = [one for one in found.comparisons if one.pricer_type == "hosted"]
    if not some:
        if found.pricer_type == "hosted":
            return []
        return ["No frontier model was judged here, so this says nothing of how it compares with one."]
    said = [comparison_sentences(one, found) for one in some[:SAID]]
    return said + (
        [f"Of {format_count(len(some) - SAID, 'more hosted model')}: {tally(some[SAID:])}."] if some[SAID:] else []
    )


def tally(some: Sequence[Comparison]) -> str:
    """How many there are of each outcome of the reference's."""
    said = {
        "better": "it beats {}",
        "worse": "it does not yet beat {}",
        "no significant difference": "{} not told apart",
    }
    counts = Counter(one.outcome for one in some)
    return ", ".join(said.get(outcome, "{} not compared").format(number) for outcome, number in counts.items())


def comparison_sentences(one: Comparison, found: Conclusion) -> str:
    """The reference and one competitor in a sentence."""
    me, competitor = pricer_label(found.reference), pricer_label(one.competitor)
    if one.pair is None:
        return f"{competitor} was judged on other items, so the two are not compared."
    items = f"on the same {format_count(one.pair.n, 'item')}"
    price = cost_clause(one, found)
    if one.outcome == "too few items":
        return f"Of {competitor} nothing can be said: {format_count(one.pair.n, 'common item')} are too few for an interval."
    gap = f"{format_price(abs(one.pair.difference), found.currency)}{spread_words(one.pair, found.currency)}"
    silent = unanswered_sentence(competitor, one.unanswered, one.pair.n)
    if one.outcome == "better":
        return f"{me} beats {competitor} by {gap} {items}{price}.{silent}"
    if one.outcome == "worse":
        yet = "not yet" if one.pricer_type == "hosted" else "not"
        return f"{me} does {yet} beat {competitor}, which is off by {gap} less {items}{price}.{silent}"
    return f"{me} is not told apart from {competitor} {items}: {undecided_sentence(one.pair, me, found.currency)}{price}.{silent}"


def unanswered_sentence(name: str, missing: int, n: int) -> str:
    """A sentence on missing answers, which count as the constant's quote; empty where there are none."""
    if not missing:
        return ""
    if missing == n:
        return f" {name} answered none of the {format_count(n, 'item')}: each is charged at the median price."
    other = "the other one is" if missing == 1 else f"the other {missing:,} are"
    return f" {name} answered {n - missing:,} of the {format_count(n, 'item')}; {other} charged at the median price."


def undecided_sentence(pair: Difference, name: str, currency: str) -> str:
    """What was seen of two that are not told apart; `name` is the second of the pair, of whom it is said."""
    if not pair.difference:
        return "no difference was seen"
    way = "less" if pair.difference > 0 else "more"
    seen = f"here {name} is off by {format_price(abs(pair.difference), currency)}{spread_words(pair, currency)} {way}"
    return f"{seen}, and about {format_estimate(pair.n_needed)} items would tell" if pair.n_needed else seen


def cost_clause(one: Comparison, found: Conclusion) -> str:
    """How the two compare in cost, after what was said of their error; empty where there is no fee to speak of."""
    if one.pricer_type != "hosted":
        return ""
    if found.costs[one.competitor].quote is None:
        return "; what its answers cost is unknown"
    if one.times is None:
        return ""
    if 1 / 1.5 < one.times < 1.5:
        return ", at about the same cost a quote"
    if one.outcome == "better":
        share = f"1/{short_name(one.times)} of" if one.times > 1 else f"{short_name(1 / one.times)} times"
        return f", at {share} its cost a quote"
    share = f"{short_name(one.times)} times" if one.times > 1 else f"1/{short_name(1 / one.times)}"
    return f"; a quote of that one costs {share} as much"


def other_names(found: Conclusion) -> list[str]:
    """The reference against the other pricers of one's own (and saved answers), by outcome."""
    some = [one for one in found.comparisons if one.pricer_type in ("own", "saved")]
    if not some:
        return []
    told = {
        outcome: [one for one in some if one.outcome == outcome] for outcome in ("better", "no significant difference")
    }
    parts = []
    if told["better"]:
        parts.append(f"beats {join_names([pricer_label(one.competitor) for one in told['better']], NAMED)}")
    if told["no significant difference"]:
        parts.append(f"is not told apart from {tie_clause(told['no significant difference'])}")
    mine = "your other pricers" if found.pricer_type == "own" else "your pricers"
    said = [f"Of {mine} {pricer_label(found.reference)} {' and '.join(parts)}."] if parts else []
    said += [comparison_sentences(one, found) for one in some if one.outcome in ("worse", *INFERIOR)][:SAID]
    silent = [(one.competitor, one.unanswered, one.pair.n) for one in some if one.outcome in told and one.pair]
    return (
        said
        + [unanswered_sentence(pricer_label(name), missing, n)[1:] for name, missing, n in silent if missing][:SAID]
    )


def tie_clause(some: Sequence[Comparison]) -> str:
    """Who is not told apart, with the items that would do it for the first."""
    needed = some[0].pair.n_needed if some[0].pair is not None else None
    would = f" (about {format_estimate(needed)} items would tell)" if needed and len(some) == 1 else ""
    return join_names([pricer_label(one.competitor) for one in some], NAMED) + would


def llm_sentences(found: Conclusion) -> list[str]:
    """Whether a language model of one's own is worth it over the sparse MLP."""
    question = found.llm
    if question.state == "no LLM":
        return ["Whether an LLM of your own would be worth it over the sparse MLP is not known: none was judged."]
    if question.state == "no sparse MLP":
        return ["Whether the LLM is worth it over a sparse MLP is not known: no sparse MLP was judged."]
    return [llm_sentence(one, found, tuned=question.tuned) for one in question.pairs]


def llm_sentence(one: LlmPair, found: Conclusion, *, tuned: bool) -> str:
    """One comparison of a language model with the sparse MLP."""
    slower = f", at {short_name(one.seconds_times)} times the MLP's seconds a quote" if one.seconds_times else ""
    mlp = "the sparse MLP" if one.mlp == "sparse_mlp" else f"the sparse MLP {pricer_label(one.mlp)}"
    if one.role == "member":
        return llm_member(one, found, mlp, slower)
    kind = "An LLM" if tuned else "An untuned LLM"
    if one.pair is None or one.outcome == "too few items":
        why = "they were judged on other items" if one.pair is None else "there are too few common items"
        return f"Whether {pricer_label(one.llm)}, an LLM, is worth it over {mlp} is not known: {why}."
    if one.outcome == "no significant difference":
        return (
            f"{kind} alone is not shown to be worth it over {mlp}: {pricer_label(one.llm)} is not told apart from it on "
            f"{format_count(one.pair.n, 'item')}, {undecided_sentence(one.pair, pricer_label(one.llm), found.currency)}{slower}."
        )
    gap = f"{format_price(abs(one.pair.difference), found.currency)}{spread_words(one.pair, found.currency)}"
    worth, way = {"better": ("is worth it by its error", "less"), "worse": ("is not worth it", "more")}[one.outcome]
    return f"{kind} alone {worth} over {mlp}: {pricer_label(one.llm)} is off by {gap} {way} on {format_count(one.pair.n, 'item')}{slower}."


def llm_member(one: LlmPair, found: Conclusion, mlp: str, slower: str) -> str:
    """A pricer with a language model among its members. How much of its error is the model's merit is not known."""
    name = f"{pricer_label(one.llm)}, which has an LLM among its members,"
    if one.pair is None or one.outcome == "too few items":
        return f"{name} is not compared with {mlp}: {'other' if one.pair is None else 'too few'} items."
    if one.outcome == "no significant difference":
        return f"{name} is not told apart from {mlp}: {undecided_sentence(one.pair, pricer_label(one.llm), found.currency)}{slower}."
    gap = f"{format_price(abs(one.pair.difference), found.currency)}{spread_words(one.pair, found.currency)}"
    return f"{name} is off by {gap} {'less' if one.outcome == 'better' else 'more'} than {mlp}{slower}."


def cost_sentences(found: Conclusion) -> list[str]:
    """What a hosted model's fees mean for one's own box: paid back, never, or not known without the box's price."""
    one = next(
        (
            one
            for one in found.comparisons
            if one.break_even is not None and format_fee(found, one.competitor) is not None
        ),
        None,
    )
    if one is None or one.break_even is None:
        return []
    own, meeting, me = found.costs[found.reference], one.break_even, pricer_label(found.reference)
    if meeting.quotes is not None:
        return [
            f"{me}'s fitting is paid back after {format_quotes(meeting.quotes)} not asked of {pricer_label(one.competitor)}."
        ]
    if meeting.why == "never":
        return [f"{me} does not become cheaper than {pricer_label(one.competitor)} here, however many quotes."]
    if found.machine_cost is None:
        level = (
            f"; it is the cheaper one while the box costs under {format_usd(meeting.machine_cost)} an hour"
            if meeting.machine_cost
            else ""
        )
        return [f"What a quote of {me} costs is unknown without the price of the box (--machine-cost){level}."]
    missing = "the seconds of a quote were" if own.seconds is None else "the time of its fitting was"
    return [f"When {me} becomes cheaper than {pricer_label(one.competitor)} is unknown: {missing} not measured."]


def format_fee(found: Conclusion, name: str) -> float | None:
    return found.costs[name].quote


def pricer_label(name: str) -> str:
    """A pricer's name on one line."""
    return to_single_line(name, NAME)


def level_words(found: Conclusion) -> str:
    return f"{found.confidence:.0%}".replace("%", " %")


def spread_words(pair: Difference, currency: str) -> str:
    """The interval of a difference whose size alone is said: turned where the difference is below 0."""
    low, high = pair.low, pair.high
    if low is None or high is None:
        return ""
    return format_bounds(low, high, currency) if pair.difference >= 0 else format_bounds(-high, -low, currency)


def format_whole(value: float) -> str:
    """A factor with two digits: `210`, `1,400`, `3`."""
    size = 10 ** max(0, len(str(int(value))) - 2)
    return f"{int(value / size + 0.5) * size:,}"


def short_name(value: float) -> str:
    """A factor for `n times`: one place below 10, two digits above."""
    return f"{value:.1f}" if value < 9.95 else format_whole(value)


def outcome_text(outcome: Outcome) -> str:
    """An outcome of the reference's, for a table."""
    return {
        "better": "reference better",
        "worse": "competitor better",
        "no significant difference": "no significant difference",
        "too few items": "too few items",
        "other items": "no items in common",
    }[outcome]
