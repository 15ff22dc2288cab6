"""The leaderboard, and errors by band, coverage, running error and the worst items of an evaluation.

`build_leaderboard(read_evals("out/evals"))[0].mae.point` is the MAE of the most accurate pricer, for example 38.9.

Pricers evaluated on different items are never ranked together: those with the same items form a group, the group with
most pricers first. Within a group, in order of MAE, a rank is a range: from 1 + the number of pricers that are
significantly better, to the number of pricers less those that are significantly worse. Significance is not transitive,
so ranges overlap: A and B may rank 1-2 while C, significantly worse than A only, ranks 2-3 (as rank sets: Mogstad et
al. 2024; here each pair is tested at 95 %). Everything is computed from an evals folder, without any model.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pricesmith.core.types import EvalRow, Evaluation
from pricesmith.evaluation.compare import Difference, compare
from pricesmith.evaluation.cost import fitting_seconds, timed_seconds
from pricesmith.evaluation.cost_curve import HybridFacts, read_hybrid
from pricesmith.evaluation.evaluate import EvalArrays
from pricesmith.evaluation.results import EvalItem, Evals
from pricesmith.metrics.bands import (
    ALPHA,
    CoverageBand,
    ErrorBand,
    Mask,
    adjust_p_values,
    category_masks,
    coverage_bands,
    error_bands,
    price_edges,
    price_masks,
)
from pricesmith.metrics.bootstrap import MIN_GROUPS, Codes, Interval, bootstrap_interval
from pricesmith.metrics.metrics import METRICS, Array, is_course_range
from pricesmith.text.formatting import to_single_line

MAE = METRICS["MAE"]
LEVEL = 0.9
ALL = "all"


@dataclass(frozen=True)
class LeaderboardRow:
    """One row of the leaderboard. Money in the catalog's currency; seconds and dollars are for 1,000 items.

    `group` counts from 0; only rows of one group were evaluated on the same items, and ranks `rank` to `rank_to` are
    within it. `tied` is True if the row does not differ significantly from the best of its group, at 95 % for each
    pair; the `best` row itself is not `tied`. `n_needed` is the sample size that detects the observed difference with
    80 % power. `difference` is to that best; in a later group, to the first group's best on their common items, None
    without any. `course_hit` is None unless the catalog is in dollars within the course's price range,
    `dollars_per_1000` if a hosted model's fees are unknown. The typical interval is price ÷ `lower_factor` to
    × `upper_factor`; these and `coverage` are None without intervals. `coverage_checks` test the coverage on all
    items, by band of the quote and by category. `hybrid` is known of a pricer that asks another one.
    """

    name: str
    kind: str
    group: int
    rank: int
    rank_to: int
    best: bool
    tied: bool
    n: int
    mae: Interval
    median_error: float
    rmsle: float
    within_20: float
    bias: float
    n_unanswered: int
    seconds_per_1000: float | None  # None: no answer was timed
    dollars_per_1000: float | None
    fit_seconds: float | None
    course_hit: float | None
    coverage: Interval | None
    lower_factor: float | None
    upper_factor: float | None
    coverage_checks: tuple[CoverageCheck, ...]
    difference: Difference | None
    n_needed: int | None
    note: str
    hybrid: HybridFacts | None = None

    @property
    def rank_range(self) -> str:
        """The rank as text: `1`, or `2–3`."""
        return f"{self.rank}" if self.rank == self.rank_to else f"{self.rank}–{self.rank_to}"

    @property
    def miscoverage(self) -> tuple[CoverageCheck, ...]:
        """The checks whose coverage is significantly off its level."""
        return tuple(check for check in self.coverage_checks if check.is_significant)


@dataclass(frozen=True)
class RunningError:
    """The MAE after the first `n` items, and its 95 % band (None below 5 groups)."""

    n: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]


@dataclass(frozen=True)
class WorstItem:
    """An item with a large error; `error` is in money."""

    item: EvalItem
    row: EvalRow
    error: float


def build_leaderboard(evals: Evals, *, seed: int = 0) -> list[LeaderboardRow]:
    """The leaderboard: groups of pricers with the same items, each sorted by MAE."""
    rows: list[LeaderboardRow] = []
    overall_best: EvalArrays | None = None
    for number, group in enumerate(group_by_items(evals.evaluations)):
        ordered = sorted(
            (evals.arrays[evaluation.pricer] for evaluation in group), key=lambda data: (data.mae, data.pricer)
        )
        best = ordered[0]
        overall_best = overall_best or best
        pairs = [
            [compare(data, ahead, MAE, seed=seed) for ahead in ordered[:index]] for index, data in enumerate(ordered)
        ]
        n_worse = Counter(pair.b for behind in pairs for pair in behind if pair.better == pair.b)
        for data, ahead in zip(ordered, pairs, strict=True):
            to_best = ahead[0] if ahead else None
            facts: dict[str, Any] = {
                "group": number,
                "rank": 1 + sum(pair.better == pair.b for pair in ahead),
                "rank_to": len(ordered) - n_worse[data.pricer],
                "best": data is best,
                "tied": to_best is not None and not to_best.is_significant,
                "difference": compare_if_common(data, overall_best, seed) if number else to_best,
                "n_needed": to_best.n_needed if to_best else None,
            }
            facts["coverage_checks"] = tuple(check_coverage(data, evals, seed=seed))
            rows.append(leaderboard_row(data, evals.meta[data.pricer], facts, seed))
    return rows


def group_by_items(evaluations: Sequence[Evaluation]) -> list[list[Evaluation]]:
    """Evaluations grouped by their set of items: the set with most pricers first, then with most items."""
    groups: dict[frozenset[str], list[Evaluation]] = {}
    for evaluation in evaluations:
        if evaluation.rows:
            groups.setdefault(frozenset(row.id for row in evaluation.rows), []).append(evaluation)
    return sorted(groups.values(), key=lambda group: (-len(group), -len(group[0].rows), group[0].pricer))


def compare_if_common(data: EvalArrays, best: EvalArrays, seed: int) -> Difference | None:
    """The difference on common items; None without any."""
    if data.positions.keys().isdisjoint(best.positions):
        return None
    return compare(data, best, MAE, seed=seed)


def average_seconds(rows: Sequence[EvalRow], meta: Mapping[str, Any]) -> float | None:
    """Return the seconds for 1,000 items, None if most answers of an API model were not timed."""
    if meta.get("kind") != "api":
        return 1000 * sum(row.seconds for row in rows) / len(rows)
    timed = timed_seconds(rows)
    return 1000 * sum(timed) / len(timed) if timed else None


def other_models_note(meta: Mapping[str, Any]) -> str:
    """State how many answers of an API model came from another model than was asked; empty if none did."""
    others = meta.get("other_models")
    counts = [count for count in others.values() if isinstance(count, int)] if isinstance(others, Mapping) else []
    if not isinstance(others, Mapping) or not sum(counts):
        return ""
    names = ", ".join(to_single_line(str(name), 40) for name in list(others)[:3])
    return f"{sum(counts):,} {'answer' if sum(counts) == 1 else 'answers'} came from another model: {names}"


def leaderboard_row(data: EvalArrays, meta: dict[str, Any], facts: dict[str, Any], seed: int) -> LeaderboardRow:
    """One row, with what is known of its rank (`facts`)."""
    evaluation, rows = data.evaluation, data.evaluation.rows

    def value(name: str) -> float:
        return METRICS[name].value(data.truth, data.quote)

    has_course_range = is_course_range(evaluation.currency, evaluation.price_range)
    fees_known = meta.get("cost_known") is not False and all(row.cost_usd is not None for row in rows)
    band = overall_coverage(data, get_confidence(meta), seed)
    return LeaderboardRow(
        name=evaluation.pricer,
        kind=str(meta.get("kind", "")),
        n=len(rows),
        mae=bootstrap_interval(data.error, data.groups, seed=seed),
        median_error=value("median error"),
        rmsle=value("RMSLE"),
        within_20=value("within 20 %"),
        bias=value("bias"),
        n_unanswered=int((~data.answered).sum()),
        seconds_per_1000=average_seconds(rows, meta),
        dollars_per_1000=1000 * sum(row.cost_usd or 0.0 for row in rows) / len(rows) if fees_known else None,
        fit_seconds=fitting_seconds(evaluation, meta),
        course_hit=value("course hit") if has_course_range else None,
        coverage=band.coverage if band else None,
        lower_factor=band.lower_factor if band else None,
        upper_factor=band.upper_factor if band else None,
        note="; ".join(note for note in (evaluation.note, other_models_note(meta)) if note),
        hybrid=read_hybrid(meta),
        **facts,
    )


def get_confidence(meta: Mapping[str, Any]) -> float:
    """The nominal coverage of a pricer's intervals."""
    return float(meta.get("confidence") or LEVEL)


def overall_coverage(data: EvalArrays, level: float, seed: int = 0) -> CoverageBand | None:
    """The coverage of all intervals and their typical width; None without intervals."""
    return next(iter(masked_coverage(data, [(ALL, data.bounded)], level, seed)), None)


def masked_coverage(data: EvalArrays, masks: Sequence[tuple[str, Mask]], level: float, seed: int) -> list[CoverageBand]:
    """The coverage on each mask."""
    arrays = (data.truth, data.quote, data.low, data.high, data.groups)
    return coverage_bands(*arrays, masks, level=level, seed=seed)


@dataclass(frozen=True)
class CoverageCheck:
    """The test of a pricer's coverage on all items, in a band of the quote or in a category.

    `p` is adjusted for all bands and categories of the pricer (Holm); None if there are too few groups to test.
    """

    scope: Literal["all", "quote band", "category"]
    band: CoverageBand
    level: float
    p: float | None

    @property
    def label(self) -> str:
        """The band's or category's label."""
        return self.band.label

    @property
    def n(self) -> int:
        """The number of items with an interval."""
        return self.band.n

    @property
    def coverage(self) -> Interval:
        """The share of true prices inside their intervals, with its 95 % confidence interval."""
        return self.band.coverage

    @property
    def is_significant(self) -> bool:
        """Whether the coverage is significantly off its level."""
        return self.p is not None and self.p < ALPHA


def check_coverage(data: EvalArrays, evals: Evals, *, seed: int = 0) -> list[CoverageCheck]:
    """Test a pricer's coverage on all items, in each band of the quote and in each category; empty without
    intervals."""
    level = get_confidence(evals.meta[data.pricer])
    whole = overall_coverage(data, level, seed)
    if whole is None:
        return []
    quote_bands = coverage_by_quote(data, level=level, seed=seed)
    tested: list[tuple[Literal["all", "quote band", "category"], CoverageBand]] = [("all", whole)]
    tested += [("quote band", band) for band in quote_bands if len(quote_bands) > 1]
    tested += [("category", band) for band in coverage_by_category(data, evals, seed=seed)]
    p_values = adjust_p_values([band.test.p for _, band in tested])
    return [CoverageCheck(scope, band, level, p) for (scope, band), p in zip(tested, p_values, strict=True)]


def coverage_by_category(data: EvalArrays, evals: Evals, most: int = 10, *, seed: int = 0) -> list[CoverageBand]:
    """Coverage by category: the `most` frequent ones, then all others together; empty if there is one category only."""
    masks = category_masks([evals.items[id].category for id in data.ids], most)
    return masked_coverage(data, masks, get_confidence(evals.meta[data.pricer]), seed) if len(masks) > 1 else []


def error_by_price(data: EvalArrays, *, seed: int = 0) -> list[ErrorBand]:
    """The error by band of the truth."""
    masks = price_masks(data.truth, price_edges(data.truth))
    return error_bands(data.truth, data.quote, data.groups, masks, seed=seed)


def error_by_category(data: EvalArrays, evals: Evals, most: int = 8, *, seed: int = 0) -> list[ErrorBand]:
    """The error by category: the `most` frequent ones, then all others together."""
    masks = category_masks([evals.items[id].category for id in data.ids], most)
    return error_bands(data.truth, data.quote, data.groups, masks, seed=seed)


def error_by_training(data: EvalArrays, evals: Evals, *, seed: int = 0) -> list[ErrorBand]:
    """The error on items with and without a near duplicate in training (`EvalItem.close_in_training`)."""
    close = np.array([evals.items[id].close_in_training for id in data.ids], dtype=bool)
    masks = [("similar training listing", close), ("no similar training listing", ~close)]
    return error_bands(data.truth, data.quote, data.groups, masks, seed=seed)


def coverage_by_quote(data: EvalArrays, *, level: float = LEVEL, seed: int = 0) -> list[CoverageBand]:
    """Coverage and width of intervals by band of the quote; the band edges are those of the truth."""
    masks = price_masks(data.quote, price_edges(data.truth))
    return masked_coverage(data, masks, level, seed)


def running_error(data: EvalArrays, points: int = 100) -> RunningError:
    """The MAE as items are added, in an order by hash of their group that is the same for all pricers.

    The band is mean ± t x the group-robust standard error so far, with groups - 1 degrees of freedom.
    """
    from scipy import stats

    groups_of_ids = data.evaluation.groups
    data = data.select(sorted(data.ids, key=lambda id: order_digest(groups_of_ids.get(id, id), id)))
    stops = np.unique(np.geomspace(1, len(data.ids), points).astype(int)) if data.ids else np.array([], dtype=int)
    means: list[float] = []
    low: list[float | None] = []
    high: list[float | None] = []
    for stop in stops.tolist():
        mean, se, groups = running_mean(data.error[:stop], data.groups[:stop])
        half = float(stats.t.ppf(0.975, groups - 1)) * se if groups >= MIN_GROUPS else None
        means.append(mean)
        low.append(None if half is None else max(0.0, mean - half))
        high.append(None if half is None else mean + half)
    return RunningError(tuple(stops.tolist()), tuple(means), tuple(low), tuple(high))


def running_mean(errors: Array, groups: Codes) -> tuple[float, float, int]:
    """Mean, group-robust standard error and number of groups of per-item errors, shape (n,)."""
    mean = float(errors.mean())
    totals = np.bincount(groups, errors - mean)
    count = len(totals)
    se = float(np.sqrt(np.square(totals).sum() * count / max(1, count - 1))) / len(errors)
    return mean, se, count


def worst_items(data: EvalArrays, evals: Evals, most: int = 30) -> list[WorstItem]:
    """The items with the largest error, largest first; unanswered items are charged at the median."""
    errors = data.error
    order = np.argsort(-errors, kind="stable")[:most]
    rows = [(data.evaluation.rows[index], float(errors[index])) for index in order]
    return [WorstItem(evals.items[row.id], row, error) for row, error in rows]


def order_digest(*parts: str) -> tuple[bytes, ...]:
    """Hashes of the parts, as a sort key that does not depend on their content's order."""
    return tuple(hashlib.sha256(part.encode("utf-8", "surrogatepass")).digest() for part in parts)
