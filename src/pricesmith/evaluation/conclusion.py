"""The conclusion: one reference model against all others, corrected for multiple comparisons, with costs.

    conclusion = conclude(read_evals("out/evals"), machine_cost=0.40)
    conclusion.reference, [(comparison.competitor, comparison.outcome) for comparison in conclusion.comparisons]

The reference model is named by the user, or it is the user's own pricer with the lowest MAE on the items that most
pricers were evaluated on. Choosing it on these items favors it, so the correction then covers the comparisons of every
pricer that could have been chosen; a reference named beforehand is corrected for its own comparisons only. The
intervals of its differences are simultaneous at 95 % (`compare_simultaneously`); that of its own MAE is pointwise.
reporting/narrative.py turns the conclusion into sentences.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pricesmith.core.errors import UsageError
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
from pricesmith.evaluation.cost_curve import HybridFacts, read_asked, read_hybrid
from pricesmith.evaluation.evaluate import EvalArrays
from pricesmith.evaluation.leaderboard import group_by_items
from pricesmith.evaluation.results import Evals
from pricesmith.metrics.bootstrap import Interval, bootstrap_interval

CONFIDENCE = 0.95
CHEAP = "sparse_mlp"
MEDIAN = "median"
Outcome = Literal["better", "worse", "no significant difference", "too few items", "other items"]
Chosen = Literal["named", "own", "any"]  # own: the best of the user's own pricers; any: there are none


@dataclass(frozen=True)
class Comparison:
    """The reference model against one competitor on their common items.

    `pair` is competitor minus reference: above 0 the reference has the lower error. `outcome` is the reference's.
    `times` is the cost of a competitor's quote divided by that of a reference's quote. `unanswered` counts the
    competitor's unanswered items among the common ones, which are charged at the median.
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
    """The user's own language model, alone or as a member of an ensemble, against the sparse MLP.

    `pair` is MLP minus LLM: above 0 the LLM has the lower error; `outcome` is the LLM's. `seconds_times` is the LLM's
    seconds for a quote divided by the MLP's, None if either is unknown.
    """

    role: Literal["alone", "member"]
    llm: str
    mlp: str
    outcome: Outcome
    pair: Difference | None
    seconds_times: float | None


@dataclass(frozen=True)
class LlmComparison:
    """Whether the best language model of the user is worth its cost over the best sparse MLP; `tuned` says whether the
    one that works alone is fine-tuned."""

    state: Literal["no LLM", "no sparse MLP", "compared"]
    tuned: bool = False
    pairs: tuple[LlmPair, ...] = ()


@dataclass(frozen=True)
class Conclusion:
    """The reference model, all others against it, and the costs. Errors are in the catalog's currency, costs in US
    dollars.

    `n_candidates` is the number of pricers it was chosen from, `unanswered` its own unanswered items.
    `n_comparisons` is the number of comparisons that the intervals are corrected for; `pairwise_confidence` is the
    lowest pointwise confidence of one of them. `hybrids` are the pricers that ask another one, by rank.
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
    hybrids: Mapping[str, HybridFacts] = field(default_factory=dict)


def conclude(
    evals: Evals, *, reference: str | None = None, machine_cost: float | None = None, seed: int = 0
) -> Conclusion:
    """The conclusion of an evals folder; `machine_cost` is the cost of the user's machine in US dollars an hour.

    Raises UsageError if the reference's name is unknown or the machine cost is not a positive number.
    """
    if machine_cost is not None and not (math.isfinite(machine_cost) and machine_cost > 0):
        raise UsageError(
            "The cost of the machine is not a price",
            got=f"{machine_cost}",
            allowed="US dollars an hour, above 0",
            hint="Leave out --machine-cost if you do not know it; costs are then shown as unknown.",
        )
    ordered = leaderboard_order(evals)
    kinds = {data.pricer: str(evals.meta[data.pricer].get("kind", "")) for data in ordered}
    best, candidates, chosen = pick_reference(evals, ordered, kinds, reference)
    competitors = [data for data in ordered if data is not best]
    alone, members, cheap = llm_pairs(ordered, evals, kinds)
    pairs = {(data.pricer, best.pricer): (data, best) for data in competitors}
    others = [(data, candidate) for candidate in candidates for data in ordered if data is not candidate]
    others += [(mlp, llm) for llm in [*alone, *members] for mlp in cheap]
    for left, right in others:
        if (left.pricer, right.pricer) not in pairs and (right.pricer, left.pricer) not in pairs:
            pairs[left.pricer, right.pricer] = (left, right)
    differences = compare_simultaneously(list(pairs.values()), confidence=CONFIDENCE, seed=seed)
    compared = dict(zip(pairs, differences, strict=True))
    costs = {data.pricer: build_cost(data.evaluation, evals.meta[data.pricer], machine_cost) for data in ordered}
    tested = [difference for difference in differences if difference is not None and difference.low is not None]
    return Conclusion(
        reference=best.pricer,
        kind=kinds[best.pricer],
        pricer_type=get_pricer_type(kinds[best.pricer]),
        chosen=chosen,
        n_candidates=len(candidates),
        error=bootstrap_interval(best.error, best.groups, seed=seed),
        currency=best.evaluation.currency,
        comparisons=tuple(
            compare_with_reference(data, kinds, compared[data.pricer, best.pricer], costs, best) for data in competitors
        ),
        llm=compare_llm_with_mlp(alone, members, cheap, compared, costs, kinds),
        costs=costs,
        kinds=kinds,
        n_comparisons=len(tested),
        pairwise_confidence=min((difference.confidence for difference in tested), default=CONFIDENCE),
        machine_cost=machine_cost,
        unanswered=count_unanswered(best, best),
        hybrids={
            data.pricer: hybrid for data in ordered if (hybrid := read_hybrid(evals.meta[data.pricer])) is not None
        },
    )


def leaderboard_order(evals: Evals) -> list[EvalArrays]:
    """All pricers in the order of the leaderboard: by group of common items, then by MAE."""
    groups = group_by_items(evals.evaluations)
    arrays = evals.arrays
    return [
        data
        for group in groups
        for data in sorted(
            (arrays[evaluation.pricer] for evaluation in group), key=lambda data: (data.mae, data.pricer)
        )
    ]


def pick_reference(
    evals: Evals, ordered: Sequence[EvalArrays], kinds: Mapping[str, str], name: str | None
) -> tuple[EvalArrays, list[EvalArrays], Chosen]:
    """The reference model, the pricers it was chosen from, and how. Raises UsageError if its name is unknown."""
    if name is not None:
        return find_named(ordered, name, "--reference"), [], "named"
    groups = [{evaluation.pricer for evaluation in group} for group in group_by_items(evals.evaluations)]
    for names in groups:
        own = [data for data in ordered if data.pricer in names and get_pricer_type(kinds[data.pricer]) == "own"]
        fitted = [data for data in own if kinds[data.pricer] != MEDIAN] or own
        if fitted:
            return fitted[0], fitted, "own"
    first = [data for data in ordered if data.pricer in groups[0]]
    return first[0], first, "any"


def find_named(ordered: Sequence[EvalArrays], name: str, option: str) -> EvalArrays:
    """The evaluation of a pricer. Raises UsageError if the name is unknown."""
    match = next((data for data in ordered if data.pricer == name), None)
    if match is None:
        names = [data.pricer for data in ordered]
        close = difflib.get_close_matches(name, names, n=1)
        raise UsageError(
            f"No pricer in this folder is named {name!r}",
            got=f"{option} {name}",
            allowed=", ".join(names),
            hint=f"Did you mean {close[0]!r}?" if close else "Name one of these.",
        )
    return match


def compare_with_reference(
    competitor: EvalArrays,
    kinds: Mapping[str, str],
    pair: Difference | None,
    costs: Mapping[str, Cost],
    best: EvalArrays,
) -> Comparison:
    """The comparison of the reference model with one competitor."""
    kind = kinds[competitor.pricer]
    own, other = costs[best.pricer], costs[competitor.pricer]
    crosses = own.pricer_type == "own" and other.pricer_type == "hosted"
    return Comparison(
        competitor=competitor.pricer,
        kind=kind,
        pricer_type=get_pricer_type(kind),
        outcome=classify_outcome(pair, best.pricer),
        pair=pair,
        times=cost_ratio(own, other),
        break_even=break_even(own, other) if crosses else None,
        unanswered=count_unanswered(competitor, best),
    )


def count_unanswered(data: EvalArrays, other: EvalArrays) -> int:
    """The number of common items that `data` leaves unanswered."""
    return sum(id in other.positions for id, answered in zip(data.ids, data.answered, strict=True) if not answered)


def classify_outcome(pair: Difference | None, pricer: str) -> Outcome:
    """The outcome of a comparison for one of its two pricers."""
    if pair is None:
        return "other items"
    if pair.low is None:
        return "too few items"
    if not pair.is_significant:
        return "no significant difference"
    return "better" if pair.better == pricer else "worse"


def llm_pairs(
    ordered: Sequence[EvalArrays], evals: Evals, kinds: Mapping[str, str]
) -> tuple[list[EvalArrays], list[EvalArrays], list[EvalArrays]]:
    """The user's own language models (the tuned ones if there are any), the ensembles with a language model among
    their members, and the sparse MLPs; each by rank. An ensemble that asks an API model says nothing of an own one."""
    tuned = [data for data in ordered if kinds[data.pricer] in TUNED]
    untuned = [data for data in ordered if kinds[data.pricer] in UNTUNED]
    llm_kinds = {*TUNED, *UNTUNED}
    members = [
        data
        for data in ordered
        if llm_kinds & member_kinds(evals.meta[data.pricer]) and read_asked(evals.meta[data.pricer]) is None
    ]
    return tuned or untuned, members, [data for data in ordered if kinds[data.pricer] == CHEAP]


def member_kinds(meta: Mapping[str, Any]) -> set[str]:
    """The kinds of a pricer's members, from its meta file."""
    parts = meta.get("parts")
    return {str(kind) for kind in parts.values()} if isinstance(parts, Mapping) else set()


def compare_llm_with_mlp(
    alone: Sequence[EvalArrays],
    members: Sequence[EvalArrays],
    cheap: Sequence[EvalArrays],
    compared: Mapping[tuple[str, str], Difference | None],
    costs: Mapping[str, Cost],
    kinds: Mapping[str, str],
) -> LlmComparison:
    """Whether a language model is worth its cost over the sparse MLP: the best of each."""
    if not alone and not members:
        return LlmComparison("no LLM")
    tuned = bool(alone) and kinds[alone[0].pricer] in TUNED
    if not cheap:
        return LlmComparison("no sparse MLP", tuned)
    mlp = cheap[0].pricer
    roles: tuple[tuple[Literal["alone", "member"], Sequence[EvalArrays]], ...] = (("alone", alone), ("member", members))
    pairs = []
    for role, pricers in roles:
        if pricers:
            llm = pricers[0].pricer
            difference = find_difference(compared, mlp, llm)
            seconds, mlp_seconds = costs[llm].seconds, costs[mlp].seconds
            ratio = seconds / mlp_seconds if seconds and mlp_seconds else None
            pairs.append(LlmPair(role, llm, mlp, classify_outcome(difference, llm), difference, ratio))
    return LlmComparison("compared", tuned, tuple(pairs))


def find_difference(compared: Mapping[tuple[str, str], Difference | None], a: str, b: str) -> Difference | None:
    """The difference `a` minus `b`, whichever of the two directions was computed."""
    if (a, b) in compared:
        return compared[a, b]
    reverse = compared[b, a]
    return None if reverse is None else reverse.mirrored()
