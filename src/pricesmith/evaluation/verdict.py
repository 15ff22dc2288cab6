"""The verdict in numbers: one champion against everybody else, corrected for many comparisons, with what quotes cost.

    found = verdict(read_evals("out/evals"), box_price=0.40)
    found.champion, [(one.rival, one.outcome) for one in found.versus]

The champion is named, or it is one's own pricer with the smallest mean error on the items that most were judged on. One
that is chosen by looking at these very items has luck on its side, so the correction then covers the comparisons of
every pricer that could have been chosen; a champion who is named beforehand is corrected for its own only. The
intervals of its differences hold together at 95 % (`compare_together`); that of its own error is a plain one.
report/sentences.py makes the words.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pricesmith.errors import UsageError
from pricesmith.evaluation.compare import Difference, compare_together
from pricesmith.evaluation.cost import (
    TUNED,
    UNTUNED,
    BreakEven,
    Cost,
    Side,
    break_even,
    cost_of,
    side_of,
    times,
)
from pricesmith.evaluation.evaluate import columns_of
from pricesmith.evaluation.store import Evals
from pricesmith.evaluation.summary import groups_of
from pricesmith.measures.resample import Interval, interval
from pricesmith.types import Evaluation

CONFIDENCE = 0.95
CHEAP = "sparse_mlp"
CONSTANT = "constant"
Outcome = Literal["better", "worse", "not told apart", "too few items", "other items"]
Chosen = Literal["named", "own", "any"]  # own: the best of one's own; any: there is none of one's own


@dataclass(frozen=True)
class Versus:
    """The champion against one rival on the items that both have. `pair` is rival minus champion: above 0 the champion
    errs less. `outcome` is the champion's. `times` is how many times the champion's cost a quote of the rival's is.
    `unanswered` counts the rival's missing answers among these items, which are charged like everybody's.
    """

    rival: str
    kind: str
    side: Side
    outcome: Outcome
    pair: Difference | None
    times: float | None
    break_even: BreakEven | None
    unanswered: int = 0


@dataclass(frozen=True)
class LlmPair:
    """One's own language model, alone or as a member of something, against the sparse MLP.

    `pair` is MLP minus LLM: above 0 the LLM errs less, and `outcome` is the LLM's. `seconds_times` is how many times
    the MLP's seconds it takes for a quote, None where they are not known.
    """

    role: Literal["alone", "member"]
    llm: str
    mlp: str
    outcome: Outcome
    pair: Difference | None
    seconds_times: float | None


@dataclass(frozen=True)
class LlmQuestion:
    """Whether a language model of one's own is worth it over the sparse MLP; the best of each is asked. `tuned` is of
    the one alone.
    """

    state: Literal["no LLM", "no sparse MLP", "compared"]
    tuned: bool = False
    pairs: tuple[LlmPair, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """The champion, everybody against it, and what all cost. Errors in the catalog's currency, costs in US dollars.

    `among` is how many it was chosen from, `unanswered` its own missing answers. `comparisons` counts what the
    intervals were corrected for; `each` is the confidence of one of them by itself, the lowest.
    """

    champion: str
    kind: str
    side: Side
    chosen: Chosen
    among: int
    error: Interval
    currency: str
    versus: tuple[Versus, ...]
    llm: LlmQuestion
    costs: Mapping[str, Cost]
    kinds: Mapping[str, str]
    comparisons: int
    each: float
    box_price: float | None
    confidence: float = CONFIDENCE
    unanswered: int = 0


def verdict(evals: Evals, *, champion: str | None = None, box_price: float | None = None, seed: int = 0) -> Verdict:
    """The verdict on an evals folder; `box_price` is what one's own box costs, in US dollars an hour.

    Raises UsageError where nobody goes by the champion's name, or the box's price is none.
    """
    if box_price is not None and not (math.isfinite(box_price) and box_price > 0):
        raise UsageError(
            "The box's price is not a price",
            got=f"{box_price}",
            allowed="US dollars an hour, above 0",
            hint="Leave --box-price out where it is not known; costs are then said to be unknown.",
        )
    ordered = league_order(evals)
    kinds = {one.pricer: str(evals.meta[one.pricer].get("kind", "")) for one in ordered}
    best, candidates, chosen = champion_of(evals, ordered, kinds, champion)
    rivals = [one for one in ordered if one is not best]
    alone, members, cheap = llms_of(ordered, evals, kinds)
    pairs = {(one.pricer, best.pricer): (one, best) for one in rivals}
    more = [(one, own) for own in candidates for one in ordered if one is not own]
    more += [(mlp, llm) for llm in [*alone, *members] for mlp in cheap]
    for one, other in more:
        if (one.pricer, other.pricer) not in pairs and (other.pricer, one.pricer) not in pairs:
            pairs[one.pricer, other.pricer] = (one, other)
    compared = dict(zip(pairs, compare_together(list(pairs.values()), confidence=CONFIDENCE, seed=seed), strict=True))
    costs = {one.pricer: cost_of(one, evals.meta[one.pricer], box_price) for one in ordered}
    tested = [one for one in compared.values() if one is not None and one.low is not None]
    data = columns_of(best)
    return Verdict(
        champion=best.pricer,
        kind=kinds[best.pricer],
        side=side_of(kinds[best.pricer]),
        chosen=chosen,
        among=len(candidates),
        error=interval(data.error, data.families, seed=seed),
        currency=best.currency,
        versus=tuple(versus(one, kinds, compared[one.pricer, best.pricer], costs, best) for one in rivals),
        llm=llm_question(alone, members, cheap, compared, costs, kinds),
        costs=costs,
        kinds=kinds,
        comparisons=len(tested),
        each=min((one.confidence for one in tested), default=CONFIDENCE),
        box_price=box_price,
        unanswered=silences(best, best),
    )


def league_order(evals: Evals) -> list[Evaluation]:
    """Everybody as the league has them: most judged items first, then the smallest mean error."""
    groups = groups_of(evals.evaluations)
    return [one for group in groups for one in sorted(group, key=lambda one: (mean_error(one), one.pricer))]


def mean_error(evaluation: Evaluation) -> float:
    return float(columns_of(evaluation).error.mean())


def champion_of(
    evals: Evals, ordered: Sequence[Evaluation], kinds: Mapping[str, str], name: str | None
) -> tuple[Evaluation, list[Evaluation], Chosen]:
    """The champion, everybody that it was chosen from, and how. Raises UsageError where its name is nobody's."""
    if name is not None:
        return named_one(ordered, name, "--champion"), [], "named"
    for group in groups_of(evals.evaluations):
        own = [one for one in ordered if one in group and side_of(kinds[one.pricer]) == "own"]
        able = [one for one in own if kinds[one.pricer] != CONSTANT] or own
        if able:
            return able[0], able, "own"
    group = groups_of(evals.evaluations)[0]
    first = [one for one in ordered if one in group]
    return first[0], first, "any"


def named_one(ordered: Sequence[Evaluation], name: str, option: str) -> Evaluation:
    """The evaluation of a pricer. Raises UsageError where its name is nobody's."""
    found = next((one for one in ordered if one.pricer == name), None)
    if found is None:
        names = [one.pricer for one in ordered]
        near = difflib.get_close_matches(name, names, n=1)
        raise UsageError(
            f"Nobody in this folder is called {name!r}",
            got=f"{option} {name}",
            allowed=", ".join(names),
            hint=f"Did you mean {near[0]!r}?" if near else "Name one of these.",
        )
    return found


def versus(
    rival: Evaluation, kinds: Mapping[str, str], pair: Difference | None, costs: Mapping[str, Cost], best: Evaluation
) -> Versus:
    """The champion against one rival."""
    kind = kinds[rival.pricer]
    own, other = costs[best.pricer], costs[rival.pricer]
    meeting = break_even(own, other) if own.side == "own" and other.side == "hosted" else None
    outcome, silent = outcome_of(pair, best.pricer), silences(rival, best)
    return Versus(rival.pricer, kind, side_of(kind), outcome, pair, times(own, other), meeting, silent)


def silences(one: Evaluation, other: Evaluation) -> int:
    """How many of the items that both have `one` has no answer to."""
    both = {row.id for row in other.rows}
    return sum(row.price is None for row in one.rows if row.id in both)


def outcome_of(pair: Difference | None, of: str) -> Outcome:
    """What a pair says of one of its two."""
    if pair is None:
        return "other items"
    if pair.low is None:
        return "too few items"
    if not pair.told_apart:
        return "not told apart"
    return "better" if pair.better == of else "worse"


def llms_of(
    ordered: Sequence[Evaluation], evals: Evals, kinds: Mapping[str, str]
) -> tuple[list[Evaluation], list[Evaluation], list[Evaluation]]:
    """One's own language models (the tuned ones where there are any), the pricers that have one among their parts, and
    the sparse MLPs; each best first."""
    tuned = [one for one in ordered if kinds[one.pricer] in TUNED]
    untuned = [one for one in ordered if kinds[one.pricer] in UNTUNED]
    language = {*TUNED, *UNTUNED}
    members = [one for one in ordered if language & parts_of(evals.meta[one.pricer])]
    return tuned or untuned, members, [one for one in ordered if kinds[one.pricer] == CHEAP]


def parts_of(meta: Mapping[str, Any]) -> set[str]:
    """The kinds of what a pricer is put together from, as its meta file tells."""
    parts = meta.get("parts")
    return {str(kind) for kind in parts.values()} if isinstance(parts, Mapping) else set()


def llm_question(
    alone: Sequence[Evaluation],
    members: Sequence[Evaluation],
    cheap: Sequence[Evaluation],
    compared: Mapping[tuple[str, str], Difference | None],
    costs: Mapping[str, Cost],
    kinds: Mapping[str, str],
) -> LlmQuestion:
    """Whether a language model is worth it over the sparse MLP: the best of each."""
    if not alone and not members:
        return LlmQuestion("no LLM")
    tuned = bool(alone) and kinds[alone[0].pricer] in TUNED
    if not cheap:
        return LlmQuestion("no sparse MLP", tuned)
    mlp = cheap[0].pricer
    roles: tuple[tuple[Literal["alone", "member"], Sequence[Evaluation]], ...] = (("alone", alone), ("member", members))
    found = []
    for role, some in roles:
        for one in some[:1]:
            pair = turned(compared, mlp, one.pricer)
            mine, its = costs[one.pricer].seconds, costs[mlp].seconds
            slower = mine / its if mine and its else None
            found.append(LlmPair(role, one.pricer, mlp, outcome_of(pair, one.pricer), pair, slower))
    return LlmQuestion("compared", tuned, tuple(found))


def turned(compared: Mapping[tuple[str, str], Difference | None], a: str, b: str) -> Difference | None:
    """The difference `a` minus `b`, whichever way round it was taken."""
    if (a, b) in compared:
        return compared[a, b]
    found = compared[b, a]
    return None if found is None else found.mirrored()
