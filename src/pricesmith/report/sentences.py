"""The verdict in words, made from its numbers by rule: no sentence says more than an interval shows.

    paragraph(verdict(evals), about) -> ["On 2,915 items of goods (test split) blend misses ...", "It beats ...", ...]

A number in brackets is an interval; those of differences hold all together. "Beats" is said only where
the interval leaves out 0; "worth it" is about error alone, and the seconds it takes stand beside it. Errors are in the
catalog's currency, costs in US dollars.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pricesmith.evaluation.compare import Difference
from pricesmith.evaluation.verdict import LlmPair, Outcome, Verdict, Versus
from pricesmith.text.formatting import about, amount, count, listed, number, plain, quotes_of, usd

SAID = 4  # hosted models that get a sentence each; the table has them all
NAMED = 3
NAME = 48  # letters of a name that are shown
INFERIOR = ("other items", "too few items")


def paragraph(found: Verdict, evals_about: Mapping[str, Any]) -> list[str]:
    """The sentences of the verdict in order. `evals_about` says what was judged: `catalog_name`, `split`, `folds`."""
    sentences = [opening(found, evals_about)]
    if not found.versus:
        sentences.append("Nobody else was judged, so there is nothing to compare it with.")
    sentences += hosted_sentences(found)
    sentences += [against(one, found) for one in found.versus if one.side == "person"][:SAID]
    sentences += others(found)
    sentences += llm_sentences(found)
    sentences += cost_sentences(found)
    if found.comparisons > 1:
        all_of = f"those of differences hold all together, corrected for {found.comparisons:,} comparisons"
        sentences.append(f"Brackets are {level(found)} intervals; {all_of}.")
    elif found.error.low is not None:
        sentences.append(f"Brackets are {level(found)} intervals.")
    return sentences


def opening(found: Verdict, evals_about: Mapping[str, Any]) -> str:
    """Who is spoken of, and how far off it is."""
    name = who(found.champion)
    split = "every row, in 5 folds" if evals_about.get("folds") else f"{evals_about.get('split') or 'test'} split"
    where = f"On {count(found.error.n, 'item')} of {plain(str(evals_about.get('catalog_name') or 'the catalog'), 60)}"
    role = {
        "own": f", which misses least of your own {found.among}," if found.among > 1 else ", your own pricer,",
        "named": ", the champion you named,",
        "any": ", a " + {"hosted": "hosted model", "person": "person"}.get(found.side, "set of saved answers") + ",",
    }[found.chosen]
    miss = f"{amount(found.error.point, found.currency)}{brackets(found.error.low, found.error.high, found.currency)}"
    without = " No pricer of your own was judged." if found.chosen == "any" else ""
    said = f"{where} ({split}) {name}{role} is off by {miss} on average.{without}"
    return said + unanswered(name, found.unanswered, found.error.n)


def hosted_sentences(found: Verdict) -> list[str]:
    """The champion against each hosted model, most accurate first; that there was none is said too."""
    some = [one for one in found.versus if one.side == "hosted"]
    if not some:
        if found.side == "hosted":
            return []
        return ["No frontier model was judged here, so this says nothing of how it compares with one."]
    said = [against(one, found) for one in some[:SAID]]
    return said + ([f"Of {count(len(some) - SAID, 'more hosted model')}: {tally(some[SAID:])}."] if some[SAID:] else [])


def tally(some: Sequence[Versus]) -> str:
    """How many there are of each outcome of the champion's."""
    said = {"better": "it beats {}", "worse": "it does not yet beat {}", "not told apart": "{} not told apart"}
    counts = Counter(one.outcome for one in some)
    return ", ".join(said.get(outcome, "{} not compared").format(number) for outcome, number in counts.items())


def against(one: Versus, found: Verdict) -> str:
    """The champion and one rival in a sentence."""
    me, rival = who(found.champion), who(one.rival)
    if one.pair is None:
        return f"{rival} was judged on other items, so the two are not compared."
    items = f"on the same {count(one.pair.n, 'item')}"
    price = at_cost(one, found)
    if one.outcome == "too few items":
        return f"Of {rival} nothing can be said: {count(one.pair.n, 'common item')} are too few for an interval."
    gap = f"{amount(abs(one.pair.difference), found.currency)}{spread(one.pair, found.currency)}"
    silent = unanswered(rival, one.unanswered, one.pair.n)
    if one.outcome == "better":
        return f"{me} beats {rival} by {gap} {items}{price}.{silent}"
    if one.outcome == "worse":
        yet = "not yet" if one.side == "hosted" else "not"
        return f"{me} does {yet} beat {rival}, which is off by {gap} less {items}{price}.{silent}"
    return f"{me} is not told apart from {rival} {items}: {undecided(one.pair, me, found.currency)}{price}.{silent}"


def unanswered(name: str, missing: int, n: int) -> str:
    """A sentence on missing answers, which count as the constant's quote; empty where there are none."""
    if not missing:
        return ""
    if missing == n:
        return f" {name} answered none of the {count(n, 'item')}: each is charged at the median price."
    other = "the other one is" if missing == 1 else f"the other {missing:,} are"
    return f" {name} answered {n - missing:,} of the {count(n, 'item')}; {other} charged at the median price."


def undecided(pair: Difference, name: str, currency: str) -> str:
    """What was seen of two that are not told apart; `name` is the second of the pair, of whom it is said."""
    if not pair.difference:
        return "no difference was seen"
    way = "less" if pair.difference > 0 else "more"
    seen = f"here {name} is off by {amount(abs(pair.difference), currency)}{spread(pair, currency)} {way}"
    return f"{seen}, and about {about(pair.needed)} items would tell" if pair.needed else seen


def at_cost(one: Versus, found: Verdict) -> str:
    """How the two compare in cost, after what was said of their error; empty where there is no fee to speak of."""
    if one.side != "hosted":
        return ""
    if found.costs[one.rival].quote is None:
        return "; what its answers cost is unknown"
    if one.times is None:
        return ""
    if 1 / 1.5 < one.times < 1.5:
        return ", at about the same cost a quote"
    if one.outcome == "better":
        share = f"1/{short(one.times)} of" if one.times > 1 else f"{short(1 / one.times)} times"
        return f", at {share} its cost a quote"
    share = f"{short(one.times)} times" if one.times > 1 else f"1/{short(1 / one.times)}"
    return f"; a quote of that one costs {share} as much"


def others(found: Verdict) -> list[str]:
    """The champion against the other pricers of one's own (and saved answers), by outcome."""
    some = [one for one in found.versus if one.side in ("own", "saved")]
    if not some:
        return []
    told = {outcome: [one for one in some if one.outcome == outcome] for outcome in ("better", "not told apart")}
    parts = []
    if told["better"]:
        parts.append(f"beats {listed([who(one.rival) for one in told['better']], NAMED)}")
    if told["not told apart"]:
        parts.append(f"is not told apart from {tied_with(told['not told apart'])}")
    mine = "your other pricers" if found.side == "own" else "your pricers"
    said = [f"Of {mine} {who(found.champion)} {' and '.join(parts)}."] if parts else []
    said += [against(one, found) for one in some if one.outcome in ("worse", *INFERIOR)][:SAID]
    silent = [(one.rival, one.unanswered, one.pair.n) for one in some if one.outcome in told and one.pair]
    return said + [unanswered(who(name), missing, n)[1:] for name, missing, n in silent if missing][:SAID]


def tied_with(some: Sequence[Versus]) -> str:
    """Who is not told apart, with the items that would do it for the first."""
    needed = some[0].pair.needed if some[0].pair is not None else None
    would = f" (about {about(needed)} items would tell)" if needed and len(some) == 1 else ""
    return listed([who(one.rival) for one in some], NAMED) + would


def llm_sentences(found: Verdict) -> list[str]:
    """Whether a language model of one's own is worth it over the sparse MLP."""
    question = found.llm
    if question.state == "no LLM":
        return ["Whether an LLM of your own would be worth it over the sparse MLP is not known: none was judged."]
    if question.state == "no sparse MLP":
        return ["Whether the LLM is worth it over a sparse MLP is not known: no sparse MLP was judged."]
    return [llm_sentence(one, found, tuned=question.tuned) for one in question.pairs]


def llm_sentence(one: LlmPair, found: Verdict, *, tuned: bool) -> str:
    """One comparison of a language model with the sparse MLP."""
    slower = f", at {short(one.seconds_times)} times the MLP's seconds a quote" if one.seconds_times else ""
    mlp = "the sparse MLP" if one.mlp == "sparse_mlp" else f"the sparse MLP {who(one.mlp)}"
    if one.role == "member":
        return llm_member(one, found, mlp, slower)
    kind = "An LLM" if tuned else "An untuned LLM"
    if one.pair is None or one.outcome == "too few items":
        why = "they were judged on other items" if one.pair is None else "there are too few common items"
        return f"Whether {who(one.llm)}, an LLM, is worth it over {mlp} is not known: {why}."
    if one.outcome == "not told apart":
        return (
            f"{kind} alone is not shown to be worth it over {mlp}: {who(one.llm)} is not told apart from it on "
            f"{count(one.pair.n, 'item')}, {undecided(one.pair, who(one.llm), found.currency)}{slower}."
        )
    gap = f"{amount(abs(one.pair.difference), found.currency)}{spread(one.pair, found.currency)}"
    worth, way = {"better": ("is worth it by its error", "less"), "worse": ("is not worth it", "more")}[one.outcome]
    return (
        f"{kind} alone {worth} over {mlp}: {who(one.llm)} is off by {gap} {way} on {count(one.pair.n, 'item')}{slower}."
    )


def llm_member(one: LlmPair, found: Verdict, mlp: str, slower: str) -> str:
    """A pricer with a language model among its members. How much of its error is the model's merit is not known."""
    name = f"{who(one.llm)}, which has an LLM among its members,"
    if one.pair is None or one.outcome == "too few items":
        return f"{name} is not compared with {mlp}: {'other' if one.pair is None else 'too few'} items."
    if one.outcome == "not told apart":
        return f"{name} is not told apart from {mlp}: {undecided(one.pair, who(one.llm), found.currency)}{slower}."
    gap = f"{amount(abs(one.pair.difference), found.currency)}{spread(one.pair, found.currency)}"
    return f"{name} is off by {gap} {'less' if one.outcome == 'better' else 'more'} than {mlp}{slower}."


def cost_sentences(found: Verdict) -> list[str]:
    """What a hosted model's fees mean for one's own box: paid back, never, or not known without the box's price."""
    one = next(
        (one for one in found.versus if one.break_even is not None and fee_of(found, one.rival) is not None), None
    )
    if one is None or one.break_even is None:
        return []
    own, meeting, me = found.costs[found.champion], one.break_even, who(found.champion)
    if meeting.quotes is not None:
        return [f"{me}'s fitting is paid back after {quotes_of(meeting.quotes)} not asked of {who(one.rival)}."]
    if meeting.why == "never":
        return [f"{me} does not become cheaper than {who(one.rival)} here, however many quotes."]
    if found.box_price is None:
        level = (
            f"; it is the cheaper one while the box costs under {usd(meeting.box_price)} an hour"
            if meeting.box_price
            else ""
        )
        return [f"What a quote of {me} costs is unknown without the price of the box (--box-price){level}."]
    missing = "the seconds of a quote were" if own.seconds is None else "the time of its fitting was"
    return [f"When {me} becomes cheaper than {who(one.rival)} is unknown: {missing} not measured."]


def fee_of(found: Verdict, name: str) -> float | None:
    return found.costs[name].quote


def who(name: str) -> str:
    """A pricer's name on one line."""
    return plain(name, NAME)


def level(found: Verdict) -> str:
    return f"{found.confidence:.0%}".replace("%", " %")


def spread(pair: Difference, currency: str) -> str:
    """The interval of a difference whose size alone is said: turned where the difference is below 0."""
    low, high = pair.low, pair.high
    if low is None or high is None:
        return ""
    return brackets(low, high, currency) if pair.difference >= 0 else brackets(-high, -low, currency)


def brackets(low: float | None, high: float | None, currency: str) -> str:
    """An interval behind its number: ` [28.90, 32.60]`."""
    return "" if low is None or high is None else f" [{signed(low, currency)}, {signed(high, currency)}]"


def signed(value: float, currency: str) -> str:
    """An amount without its sign of money, with the currency's digits and a minus that reads as one."""
    text = number(abs(value), currency)
    return f"−{text}" if value < 0 and text.strip("0.,") else text


def whole(value: float) -> str:
    """A factor with two digits: `210`, `1,400`, `3`."""
    size = 10 ** max(0, len(str(int(value))) - 2)
    return f"{int(value / size + 0.5) * size:,}"


def short(value: float) -> str:
    """A factor for `n times`: one place below 10, two digits above."""
    return f"{value:.1f}" if value < 9.95 else whole(value)


def outcome_words(outcome: Outcome) -> str:
    """An outcome of the champion's, for a table."""
    return {
        "better": "champion better",
        "worse": "rival better",
        "not told apart": "not told apart",
        "too few items": "too few items",
        "other items": "no items in common",
    }[outcome]
