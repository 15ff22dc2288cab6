"""What evaluations come to: the leaderboard, bands, coverage, running error, the worst items.

`leaderboard(read_evals("out/evals"))[0].mae.point` is the mean error of the best, 38.9 say.

Different items are never ranked together: pricers judged on the same items form a group, the largest group
first. Within a group, in order of mean error, a rank is a range: the first place that the tests leave open, one more
than the pricers told apart as better, to the last one, above the pricers told apart as worse. Being told apart does not
carry over from pair to pair, so ranges overlap: A and B may be 1-2 where C, worse than A only, is 2-3 (as rank sets:
Mogstad et al. 2024; here each pair is tested at 95 %). Everything is a function of an evals folder; it needs no model.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from pricesmith.core.types import EvalRow, Evaluation
from pricesmith.evaluation.compare import Difference, compare
from pricesmith.evaluation.cost import fitting_seconds
from pricesmith.evaluation.evaluate import EvalArrays, to_arrays
from pricesmith.evaluation.results import EvalItem, Evals
from pricesmith.metrics.bands import (
    CoverageBand,
    ErrorBand,
    Mask,
    category_masks,
    coverage_bands,
    error_bands,
    price_edges,
    price_masks,
)
from pricesmith.metrics.bootstrap import MIN_GROUPS, Codes, Interval, bootstrap_interval
from pricesmith.metrics.coverage import ALPHA, adjust_p_values
from pricesmith.metrics.metrics import METRICS, Array, is_course_range

MAE = METRICS["MAE"]
LEVEL = 0.9
ALL = "all"


@dataclass(frozen=True)
class LeaderboardRow:
    """One pricer's line. Money in the catalog's currency; seconds and dollars are for 1,000 items.

    `group` counts from 0; only rows of one group were judged on the same items, and the places `rank` to `rank_to`,
    those that the tests leave open, are within it.
    `tied` is True where the row is not told apart from its group's best, at 95 % for each pair; the `best`
    row itself is not `tied`. `needed` is how many items would tell the two apart. `difference` is to that best
    too; in a later group it is to the first group's best on the items both have, or None without any.
    `course_hit` is None outside dollars and the course's range, `dollars_per_1000` where a hosted model's fees are not
    known. Intervals reach from price ÷ `below` to price × `above`; these and `coverage` are None without intervals.
    `coverage_checks` test the coverage on all items, by band of the quote and by category.
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
    seconds_per_1000: float
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

    @property
    def rank_range(self) -> str:
        """The rank as it is shown: `1`, or `2–3`."""
        return f"{self.rank}" if self.rank == self.rank_to else f"{self.rank}–{self.rank_to}"

    @property
    def miscoverage(self) -> tuple[CoverageCheck, ...]:
        """The checks whose coverage is significantly off its level."""
        return tuple(check for check in self.coverage_checks if check.is_significant)


@dataclass(frozen=True)
class RunningError:
    """The mean error after the first `n` items, and its 95 % band (None below 5 groups)."""

    n: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]


@dataclass(frozen=True)
class WorstItem:
    """An item that a pricer was far off on. `error` in money."""

    item: EvalItem
    row: EvalRow
    error: float


def build_leaderboard(evals: Evals, *, seed: int = 0) -> list[LeaderboardRow]:
    """The leaderboard: groups of the same items, and the smallest mean error first in each."""
    rows: list[LeaderboardRow] = []
    first_best: Evaluation | None = None
    for number, group in enumerate(group_by_items(evals.evaluations)):
        ordered = sorted(group, key=lambda one: (float(to_arrays(one).error.mean()), one.pricer))
        best = ordered[0]
        first_best = first_best or best
        pairs = [[compare(one, ahead, MAE, seed=seed) for ahead in ordered[:k]] for k, one in enumerate(ordered)]
        worse = Counter(pair.b for behind in pairs for pair in behind if pair.better == pair.b)
        for evaluation, ahead in zip(ordered, pairs, strict=True):
            to_best = ahead[0] if ahead else None
            facts: dict[str, Any] = {
                "group": number,
                "rank": 1 + sum(pair.better == pair.b for pair in ahead),
                "rank_to": len(ordered) - worse[evaluation.pricer],
                "best": evaluation is best,
                "tied": to_best is not None and not to_best.is_significant,
                "difference": common_difference(evaluation, first_best, seed) if number else to_best,
                "n_needed": to_best.n_needed if to_best else None,
            }
            facts["coverage_checks"] = tuple(check_coverage(evaluation, evals, seed=seed))
            rows.append(leaderboard_row(evaluation, evals.meta[evaluation.pricer], facts, seed))
    return rows


def group_by_items(evaluations: Sequence[Evaluation]) -> list[list[Evaluation]]:
    """Evaluations by the set of their items: the set with most pricers first, then with most items."""
    groups: dict[frozenset[str], list[Evaluation]] = {}
    for evaluation in evaluations:
        if evaluation.rows:
            groups.setdefault(frozenset(row.id for row in evaluation.rows), []).append(evaluation)
    return sorted(groups.values(), key=lambda group: (-len(group), -len(group[0].rows), group[0].pricer))


def common_difference(evaluation: Evaluation, best: Evaluation, seed: int) -> Difference | None:
    """The difference on common items; None without any."""
    theirs = {row.id for row in best.rows}
    if not any(row.id in theirs for row in evaluation.rows):
        return None
    return compare(evaluation, best, MAE, seed=seed)


def leaderboard_row(evaluation: Evaluation, meta: dict[str, Any], facts: dict[str, Any], seed: int) -> LeaderboardRow:
    """One line of the table, with what is known of its place."""
    data, rows = to_arrays(evaluation), evaluation.rows

    def value(name: str) -> float:
        return METRICS[name].value(data.truth, data.quote)

    course = is_course_range(evaluation.currency, evaluation.price_range)
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
        seconds_per_1000=1000 * sum(row.seconds for row in rows) / len(rows),
        dollars_per_1000=None
        if meta.get("cost_known") is False or any(row.cost_usd is None for row in rows)
        else 1000 * sum(row.cost_usd or 0.0 for row in rows) / len(rows),
        fit_seconds=fitting_seconds(evaluation, meta),
        course_hit=value("course hit") if course else None,
        coverage=band.coverage if band else None,
        lower_factor=band.lower_factor if band else None,
        upper_factor=band.upper_factor if band else None,
        note=evaluation.note,
        **facts,
    )


def get_confidence(meta: Mapping[str, Any]) -> float:
    """The share of truths that a pricer's intervals are made to hold."""
    return float(meta.get("confidence") or LEVEL)


def overall_coverage(data: EvalArrays, level: float, seed: int = 0) -> CoverageBand | None:
    """How often intervals hold the truth, and how far they reach; None without intervals."""
    return next(iter(masked_coverage(data, [(ALL, data.bounded)], level, seed)), None)


def masked_coverage(data: EvalArrays, masks: Sequence[tuple[str, Mask]], level: float, seed: int) -> list[CoverageBand]:
    """Coverage on each mask."""
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


def check_coverage(evaluation: Evaluation, evals: Evals, *, seed: int = 0) -> list[CoverageCheck]:
    """Test a pricer's coverage on all items, in each band of the quote and in each category; empty without intervals."""
    level = get_confidence(evals.meta[evaluation.pricer])
    whole = overall_coverage(to_arrays(evaluation), level, seed)
    if whole is None:
        return []
    quote_bands = coverage_by_quote(evaluation, level=level, seed=seed)
    tested: list[tuple[Literal["all", "quote band", "category"], CoverageBand]] = [("all", whole)]
    tested += [("quote band", band) for band in quote_bands if len(quote_bands) > 1]
    tested += [("category", band) for band in coverage_by_category(evaluation, evals, seed=seed)]
    p_values = adjust_p_values([band.test.p for _, band in tested])
    return [CoverageCheck(scope, band, level, p) for (scope, band), p in zip(tested, p_values, strict=True)]


def coverage_by_category(evaluation: Evaluation, evals: Evals, most: int = 10, *, seed: int = 0) -> list[CoverageBand]:
    """Coverage by category: the `most` commonest, then the others together; none where there is one category only."""
    data = to_arrays(evaluation)
    masks = category_masks([evals.items[id].category for id in data.ids], most)
    return masked_coverage(data, masks, get_confidence(evals.meta[evaluation.pricer]), seed) if len(masks) > 1 else []


def error_by_price(evaluation: Evaluation, *, seed: int = 0) -> list[ErrorBand]:
    """The error by band of the truth."""
    data = to_arrays(evaluation)
    masks = price_masks(data.truth, price_edges(data.truth))
    return error_bands(data.truth, data.quote, data.groups, masks, seed=seed)


def error_by_category(evaluation: Evaluation, evals: Evals, most: int = 8, *, seed: int = 0) -> list[ErrorBand]:
    """The error by category: the `most` commonest, then the others together."""
    data = to_arrays(evaluation)
    masks = category_masks([evals.items[id].category for id in data.ids], most)
    return error_bands(data.truth, data.quote, data.groups, masks, seed=seed)


def error_by_training(evaluation: Evaluation, evals: Evals, *, seed: int = 0) -> list[ErrorBand]:
    """The error on items with and without a near-repeat in training (`EvalItem.close_in_training`)."""
    data = to_arrays(evaluation)
    close = np.array([evals.items[id].close_in_training for id in data.ids], dtype=bool)
    masks = [("similar training listing", close), ("no similar training listing", ~close)]
    return error_bands(data.truth, data.quote, data.groups, masks, seed=seed)


def coverage_by_quote(evaluation: Evaluation, *, level: float = LEVEL, seed: int = 0) -> list[CoverageBand]:
    """Coverage and width of intervals by band of the quote; the bands are those of the truth."""
    data = to_arrays(evaluation)
    masks = price_masks(data.quote, price_edges(data.truth))
    return masked_coverage(data, masks, level, seed)


def running_error(evaluation: Evaluation, points: int = 100) -> RunningError:
    """The mean error as items come in, in an order drawn by hash of their group, which is the same for all
    pricers.

    The band is mean +- t x the group-robust standard error so far, with groups - 1 degrees of freedom.
    """
    from scipy import stats

    rows = sorted(evaluation.rows, key=lambda row: order_digest(evaluation.groups.get(row.id, row.id), row.id))
    data = to_arrays(replace(evaluation, rows=tuple(rows)))
    stops = np.unique(np.geomspace(1, len(rows), points).astype(int)) if rows else np.array([], dtype=int)
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
    """Mean, group-robust standard error and number of groups of the first items."""
    mean = float(errors.mean())
    totals = np.bincount(groups, errors - mean)
    count = len(totals)
    se = float(np.sqrt(np.square(totals).sum() * count / max(1, count - 1))) / len(errors)
    return mean, se, count


def worst_items(evaluation: Evaluation, evals: Evals, most: int = 30) -> list[WorstItem]:
    """The items with the largest error, largest first; an item without an answer is charged at the constant's
    quote.
    """
    errors = to_arrays(evaluation).error
    order = np.argsort(-errors, kind="stable")[:most]
    return [WorstItem(evals.items[row.id], row, float(errors[i])) for i in order for row in (evaluation.rows[i],)]


def order_digest(*parts: str) -> tuple[bytes, ...]:
    """Parts as hashes to order by."""
    return tuple(hashlib.sha256(part.encode("utf-8", "surrogatepass")).digest() for part in parts)
