"""The conclusion in numbers: one reference against everybody else, corrected for many comparisons, with what quotes cost.

    found = conclusion(read_evals("out/evals"), machine_cost=0.40)
    found.reference, [(one.competitor, one.outcome) for one in found.comparisons]

The reference is named, or it is one's own pricer with the smallest mean error on the items that most were judged on. One
that is chosen by looking at these very items has luck on its side, so the correction then covers the comparisons of
every pricer that could have been chosen; a reference who is named beforehand is corrected for its own only. The
intervals of its differences hold together at 95 % (`compare_together`); that of its own error is a plain one.
report/sentences.py makes the words.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pricesmith.core.errors import UsageError
from pricesmith.core.types import Evaluation
from pricesmith.evaluation.compare import Difference, compare_simultaneously
from pricesmith.evaluation.cost import (
    TUNED,
    UNTUNED,
    BreakEven,
    Cost,
    PricerType,
    break_even,
    build_cost,
    cost_ratio,
    get_pricer_type,
)
from pricesmith.evaluation.evaluate import to_arrays
from pricesmith.evaluation.leaderboard import group_by_items
from pricesmith.evaluation.results import Evals
from pricesmith.metrics.bootstrap import Interval, bootstrap_interval

CONFIDENCE = 0.95
CHEAP = "sparse_mlp"
MEDIAN = "median"
Outcome = Literal["better", "worse", "no significant difference", "too few items", "other items"]
Chosen = Literal["named", "own", "any"]  # own: the best of one's own; any: there is none of one's own


@dataclass(frozen=True)
class Comparison:
    """The reference against one competitor on the items that both have. `pair` is competitor minus reference: above 0 the reference
    errs less. `outcome` is the reference's. `times` is how many times the reference's cost a quote of the competitor's is.
    `unanswered` counts the competitor's missing answers among these items, which are charged like everybody's.
    """

    competitor: str
    kind: str
    pricer_type: PricerType
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
class LlmComparison:
    """Whether a language model of one's own is worth it over the sparse MLP; the best of each is asked. `tuned` is of
    the one alone.
    """

    state: Literal["no LLM", "no sparse MLP", "compared"]
    tuned: bool = False
    pairs: tuple[LlmPair, ...] = ()


@dataclass(frozen=True)
class Conclusion:
    """The reference, everybody against it, and what all cost. Errors in the catalog's currency, costs in US dollars.

    `among` is how many it was chosen from, `unanswered` its own missing answers. `comparisons` counts what the
    intervals were corrected for; `each` is the confidence of one of them by itself, the lowest.
    """

    reference: str
    kind: str
    pricer_type: PricerType
    chosen: Chosen
    n_candidates: int
    error: Interval
    currency: str
    comparisons: tuple[Comparison, ...]
    llm: LlmComparison
    costs: Mapping[str, Cost]
    kinds: Mapping[str, str]
    n_comparisons: int
    pairwise_confidence: float
    machine_cost: float | None
    confidence: float = CONFIDENCE
    unanswered: int = 0


def conclude(
    evals: Evals, *, reference: str | None = None, machine_cost: float | None = None, seed: int = 0
) -> Conclusion:
    """The conclusion on an evals folder; `machine_cost` is what one's own box costs, in US dollars an hour.

    Raises UsageError where nobody goes by the reference's name, or the box's price is none.
    """
    if machine_cost is not None and not (math.isfinite(machine_cost) and machine_cost > 0):
        raise UsageError(
            "The box's price is not a price",
            got=f"{machine_cost}",
            allowed="US dollars an hour, above 0",
            hint="Leave --machine-cost out where it is not known; costs are then said to be unknown.",
        )
    ordered = leaderboard_order(evals)
    kinds = {one.pricer: str(evals.meta[one.pricer].get("kind", "")) for one in ordered}
    best, candidates, chosen = pick_reference(evals, ordered, kinds, reference)
    competitors = [one for one in ordered if one is not best]
    alone, members, cheap = llm_pairs(ordered, evals, kinds)
    pairs = {(one.pricer, best.pricer): (one, best) for one in competitors}
    more = [(one, own) for own in candidates for one in ordered if one is not own]
    more += [(mlp, llm) for llm in [*alone, *members] for mlp in cheap]
    for one, other in more:
        if (one.pricer, other.pricer) not in pairs and (other.pricer, one.pricer) not in pairs:
            pairs[one.pricer, other.pricer] = (one, other)
    compared = dict(
        zip(pairs, compare_simultaneously(list(pairs.values()), confidence=CONFIDENCE, seed=seed), strict=True)
    )
    costs = {one.pricer: build_cost(one, evals.meta[one.pricer], machine_cost) for one in ordered}
    tested = [one for one in compared.values() if one is not None and one.low is not None]
    data = to_arrays(best)
    return Conclusion(
        reference=best.pricer,
        kind=kinds[best.pricer],
        pricer_type=get_pricer_type(kinds[best.pricer]),
        chosen=chosen,
        n_candidates=len(candidates),
        error=bootstrap_interval(data.error, data.groups, seed=seed),
        currency=best.currency,
        comparisons=tuple(
            compare_with_reference(one, kinds, compared[one.pricer, best.pricer], costs, best) for one in competitors
        ),
        llm=compare_llm_with_mlp(alone, members, cheap, compared, costs, kinds),
        costs=costs,
        kinds=kinds,
        n_comparisons=len(tested),
        pairwise_confidence=min((one.confidence for one in tested), default=CONFIDENCE),
        machine_cost=machine_cost,
        unanswered=count_unanswered(best, best),
    )


def leaderboard_order(evals: Evals) -> list[Evaluation]:
    """Everybody as the leaderboard has them: most judged items first, then the smallest mean error."""
    groups = group_by_items(evals.evaluations)
    return [one for group in groups for one in sorted(group, key=lambda one: (compute_mae(one), one.pricer))]


def compute_mae(evaluation: Evaluation) -> float:
    return float(to_arrays(evaluation).error.mean())


def pick_reference(
    evals: Evals, ordered: Sequence[Evaluation], kinds: Mapping[str, str], name: str | None
) -> tuple[Evaluation, list[Evaluation], Chosen]:
    """The reference, everybody that it was chosen from, and how. Raises UsageError where its name is nobody's."""
    if name is not None:
        return find_named(ordered, name, "--reference"), [], "named"
    for group in group_by_items(evals.evaluations):
        own = [one for one in ordered if one in group and get_pricer_type(kinds[one.pricer]) == "own"]
        able = [one for one in own if kinds[one.pricer] != MEDIAN] or own
        if able:
            return able[0], able, "own"
    group = group_by_items(evals.evaluations)[0]
    first = [one for one in ordered if one in group]
    return first[0], first, "any"


def find_named(ordered: Sequence[Evaluation], name: str, option: str) -> Evaluation:
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


def compare_with_reference(
    competitor: Evaluation,
    kinds: Mapping[str, str],
    pair: Difference | None,
    costs: Mapping[str, Cost],
    best: Evaluation,
) -> Comparison:
    """The reference against one competitor."""
    kind = kinds[competitor.pricer]
    own, other = costs[best.pricer], costs[competitor.pricer]
    meeting = break_even(own, other) if own.pricer_type == "own" and other.pricer_type == "hosted" else None
    outcome, silent = classify_outcome(pair, best.pricer), count_unanswered(competitor, best)
    return Comparison(
        competitor.pricer, kind, get_pricer_type(kind), outcome, pair, cost_ratio(own, other), meeting, silent
    )


def count_unanswered(one: Evaluation, other: Evaluation) -> int:
    """How many of the items that both have `one` has no answer to."""
    both = {row.id for row in other.rows}
    return sum(row.price is None for row in one.rows if row.id in both)


def classify_outcome(pair: Difference | None, of: str) -> Outcome:
    """What a pair says of one of its two."""
    if pair is None:
        return "other items"
    if pair.low is None:
        return "too few items"
    if not pair.is_significant:
        return "no significant difference"
    return "better" if pair.better == of else "worse"


def llm_pairs(
    ordered: Sequence[Evaluation], evals: Evals, kinds: Mapping[str, str]
) -> tuple[list[Evaluation], list[Evaluation], list[Evaluation]]:
    """One's own language models (the tuned ones where there are any), the pricers that have one among their parts, and
    the sparse MLPs; each best first."""
    tuned = [one for one in ordered if kinds[one.pricer] in TUNED]
    untuned = [one for one in ordered if kinds[one.pricer] in UNTUNED]
    language = {*TUNED, *UNTUNED}
    members = [one for one in ordered if language & member_names(evals.meta[one.pricer])]
    return tuned or untuned, members, [one for one in ordered if kinds[one.pricer] == CHEAP]


def member_names(meta: Mapping[str, Any]) -> set[str]:
    """The kinds of what a pricer is put together from, as its meta file tells."""
    parts = meta.get("parts")
    return {str(kind) for kind in parts.values()} if isinstance(parts, Mapping) else set()


def compare_llm_with_mlp(
    alone: Sequence[Evaluation],
    members: Sequence[Evaluation],
    cheap: Sequence[Evaluation],
    compared: Mapping[tuple[str, str], Difference | None],
    costs: Mapping[str, Cost],
    kinds: Mapping[str, str],
) -> LlmComparison:
    """Whether a language model is worth it over the sparse MLP: the best of each."""
    if not alone and not members:
        return LlmComparison("no LLM")
    tuned = bool(alone) and kinds[alone[0].pricer] in TUNED
    if not cheap:
        return LlmComparison("no sparse MLP", tuned)
    mlp = cheap[0].pricer
    roles: tuple[tuple[Literal["alone", "member"], Sequence[Evaluation]], ...] = (("alone", alone), ("member", members))
    found = []
    for role, some in roles:
        for one in some[:1]:
            pair = find_difference(compared, mlp, one.pricer)
            mine, its = costs[one.pricer].seconds, costs[mlp].seconds
            slower = mine / its if mine and its else None
            found.append(LlmPair(role, one.pricer, mlp, classify_outcome(pair, one.pricer), pair, slower))
    return LlmComparison("compared", tuned, tuple(found))


def find_difference(compared: Mapping[tuple[str, str], Difference | None], a: str, b: str) -> Difference | None:
    """The difference `a` minus `b`, whichever way round it was taken."""
    if (a, b) in compared:
        return compared[a, b]
    found = compared[b, a]
    return None if found is None else found.mirrored()
