"""Intervals and paired differences that resample groups, not items: items of one group err together.

A statistic of means (mean, root of a mean, the difference of two) gets the outer of two bounds on each side.
One is the bootstrap-t over groups: each resample draws as many groups as there are, with replacement, and
is studentized by its own group-robust standard error. The other is Student's t with that standard error and
groups - 1 degrees of freedom. Each alone is too narrow where groups are few and errors heavy-tailed; how
often they held the truth on made log-normal errors, 20 groups of 50, 1,000 times, nominal 95 %:

                              BCa    Student's t    bootstrap-t    the outer    items, not groups
    mean error                90     92             94             95           36
    difference of two         88     95             91             95

Sources: Efron & Tibshirani 1993, chapter 12; Cameron, Gelbach & Miller 2008, "Bootstrap-based improvements
for inference with clustered errors", section III; Liang & Zeger 1986 for the standard error.

A median has no such standard error, so it gets percentiles, drawn outwards for the number of groups as
Student's t would: 93-95 % for a median on the same data, 98 % for the difference of two. Source: Hesterberg
2015, "What teachers should know about the bootstrap", section 5.3 (expanded percentiles).

Simultaneous intervals for many paired differences (single-step max-t):

    intervals, level = simultaneous_intervals([(errors_a, errors_b), (errors_a, errors_c)], groups)

Every difference gets the interval above, only at a level that makes the chance of a miss anywhere 5 %, not 5 % for
each. That level is read off the same resamples: each draws groups once for all differences, and its least probable
studentized difference, in two tails, counts; the 5 % quantile of that minimum is the level for each one. It lies
between 5 % / m (Bonferroni), where the differences have nothing to do with each other, and 5 %, where they are one;
pricers compared with one reference share its sampling error, so it is well above the first.
Sources: Westfall & Young 1993, "Resampling-based multiple testing", section 2.3 (single-step min P); Beran 1988,
"Balanced simultaneous confidence sets", for the intervals that say the same as the tests; Romano & Wolf 2005 for the
studentized bootstrap of it.

Percentage of simulations with any significant difference although there is none: log-normal errors of pricers of
equal accuracy, 60 groups of 5, 1,000 times, nominal 5 %:

                                              each at 5 %    together
    a named reference against 8                24             4
    the best of 6, chosen on the same items,
    with its 8 differences                    42             2
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pricesmith.core.errors import PricesmithError
from pricesmith.metrics.metrics import Aggregate, Array, aggregate_values

Codes = npt.NDArray[np.intp]
RESAMPLES = 2_000
FEWEST, DRAWS = 500, 20_000_000  # so many groups that 2,000 resamples are over 20 million draws need fewer
ROUNDING = 1e-12  # what is left, as a share, where equal numbers were taken from each other
MIN_GROUPS = 5  # fewer cannot carry an interval: a resample of four groups has 35 outcomes
CELLS = 4_000_000  # weights held at a time, so that memory does not grow with the number of groups


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval round it. `low` and `high` are None where there are fewer than 5 groups.

    `se` is the group-robust standard error of `point`, `n` counts items and `groups` what was resampled.
    """

    point: float
    low: float | None
    high: float | None
    se: float | None
    n: int
    groups: int

    def mirrored(self) -> Interval:
        """The interval of the estimate with its sign turned."""
        low, high = (None if end is None else -end for end in (self.high, self.low))
        return Interval(-self.point, low, high, self.se, self.n, self.groups)


def encode_groups(labels: Sequence[Hashable]) -> Codes:
    """Labels as numbers from 0, in order of first appearance; shape (n,)."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels], dtype=np.intp)


def bootstrap_interval(
    values: Array,
    groups: Codes,
    aggregate: Aggregate = "mean",
    *,
    minus: Array | None = None,
    share: bool = False,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The interval of a metric over items, or of the paired difference `values` - `minus` of one.

    `values` and `minus` are per-item values of shape (n,) in the metric's unit, `groups` the codes 0..F-1
    of shape (n,). The same seed draws the same groups, so `interval(a, minus=b)` mirrors `interval(b,
    minus=a)`. `share` says that values are 0 or 1. Raises PricesmithError where there are no items or the
    shapes differ.
    """
    if len(values) != len(groups) or (minus is not None and len(minus) != len(values)):
        raise PricesmithError("Values and groups must have one entry for each item", got=f"{len(values)} values")
    if minus is not None and sorts_first(minus, values):
        # One order for both ways round: where digits cancel, sums in another order would not mirror.
        other = bootstrap_interval(
            minus, groups, aggregate, minus=values, confidence=confidence, resamples=resamples, seed=seed
        )
        return other.mirrored()
    point = aggregate_values(values, aggregate)
    if minus is not None:
        point -= aggregate_values(minus, aggregate)
    columns = values[:, None] if minus is None else np.column_stack([values, minus])
    count = int(groups.max()) + 1
    if count < MIN_GROUPS:
        return Interval(point, None, None, None, len(values), count)
    resamples = min(resamples, max(FEWEST, DRAWS // count))
    if aggregate == "median":
        low, high, se = expanded_percentiles(columns, groups, confidence, resamples, seed)
    else:
        low, high, se = bootstrap_t(columns, groups, aggregate, confidence, resamples, seed)
    if share and minus is None:
        low, high = share_bounds(point, low, high, count, confidence)
    if minus is None and values.min() >= 0:
        low = max(low, 0.0)
    return Interval(point, min(low, point), max(high, point), se, len(values), count)


def sorts_first(values: Array, other: Array) -> bool:
    """Whether `one` is the smaller at the first place where the two differ."""
    differ = np.flatnonzero(values != other)
    return bool(len(differ)) and bool(values[differ[0]] < other[differ[0]])


def resample_weights(groups: int, resamples: int, seed: int) -> Iterator[Array]:
    """How often each group is drawn in each resample: blocks of shape (some, groups)."""
    random = np.random.default_rng(seed)
    rows = max(1, min(resamples, CELLS // groups))
    for start in range(0, resamples, rows):
        block = min(rows, resamples - start)
        draws = random.integers(0, groups, (block, groups)) + groups * np.arange(block)[:, None]
        yield np.bincount(draws.ravel(), minlength=block * groups).reshape(block, groups).astype(np.float64)


def bootstrap_t(
    columns: Array, groups: Codes, aggregate: Aggregate, confidence: float, resamples: int, seed: int
) -> tuple[float, float, float]:
    """Low, high and standard error of a function of means of `columns`, shape (n, 1) or (n, 2)."""
    from scipy import stats

    means, both = group_sums(columns, groups)
    count = len(both)
    point, se = (float(estimate[0]) for estimate in bootstrap_estimates(np.ones((1, count)), both, means, aggregate))
    if not se:
        return point, point, 0.0
    scores = []
    for weights in resample_weights(count, resamples, seed):
        value, spread = bootstrap_estimates(weights, both, means, aggregate)
        telling = spread > 0  # a resample without spread says nothing about its own precision
        scores.append((value[telling] - point) / spread[telling])
    tail = (1 - confidence) / 2
    lowest, highest = np.quantile(np.concatenate(scores), [tail, 1 - tail])
    student = float(stats.t.ppf(1 - tail, count - 1))
    return point - max(float(highest), student) * se, point - min(float(lowest), -student) * se, se


def group_sums(columns: Array, groups: Codes) -> tuple[Array, Array]:
    """The means of `columns` (n, k), and of each group what `estimates` takes: shape (F, k + 1 + (k + 1)^2)."""
    means = columns.mean(axis=0)
    # Sums of what is centred lose no digits when they are squared, however large the values.
    sums = [np.bincount(groups, column) for column in (columns - means).T]
    totals: Array = np.column_stack([np.bincount(groups), *sums]).astype(np.float64)
    squares = (totals[:, :, None] * totals[:, None, :]).reshape(len(totals), -1)
    return means, np.hstack([totals, squares])


def bootstrap_estimates(weights: Array, both: Array, means: Array, aggregate: Aggregate) -> tuple[Array, Array]:
    """The statistic and its group-robust standard error in each resample, both of shape (b,).

    `weights` is (b, F). `both` holds for each group its number of items and its k centred sums, then the
    products of these k + 1 in pairs. The error is that of the linearised statistic: each group's residual,
    squared, with the factor F / (F - 1).
    """
    k = len(means)
    sums = weights @ both
    items, shift = sums[:, :1], sums[:, 1 : k + 1] / sums[:, :1]
    here = means + shift
    here[np.abs(here) <= ROUNDING * np.abs(means)] = 0.0
    value, slope = evaluate_statistic(here, aggregate)
    direction = np.hstack([-(slope * shift).sum(axis=1, keepdims=True), slope])
    products = sums[:, k + 1 :].reshape(-1, k + 1, k + 1)
    variance = np.einsum("bi,bij,bj->b", direction, products, direction)
    terms = np.einsum("bi,bij,bj->b", np.abs(direction), np.abs(products), np.abs(direction))
    variance[variance <= ROUNDING * terms] = 0.0
    groups = len(both)
    return value, np.sqrt(variance * groups / (groups - 1)) / items[:, 0]


def share_bounds(point: float, low: float, high: float, groups: int, confidence: float) -> tuple[float, float]:
    """The bounds of a share: inside 0 to 1, and not a point where every item agrees.

    Then the exact binomial bound holds, with each group as one trial. Source: Clopper & Pearson 1934.
    """
    bound = ((1 - confidence) / 2) ** (1 / groups)
    if point >= 1:
        return bound, 1.0
    if point <= 0:
        return 0.0, 1 - bound
    return low, min(high, 1.0)


def evaluate_statistic(means: Array, aggregate: Aggregate) -> tuple[Array, Array]:
    """The statistic of means of shape (b, k), and its slope in each of them, shape (b, k)."""
    value, slope = means, np.ones_like(means)
    if aggregate == "root":
        value = np.sqrt(np.maximum(means, 0.0))
        # Where the mean of squares is 0 all are, and none moves it: the slope, infinite there, is not needed.
        slope = np.divide(0.5, value, out=np.zeros_like(value), where=value > 0)
    if means.shape[1] == 2:
        return value[:, 0] - value[:, 1], slope * np.array([1.0, -1.0])
    return value[:, 0], slope


def expanded_percentiles(
    columns: Array, groups: Codes, confidence: float, resamples: int, seed: int
) -> tuple[float, float, float]:
    """Low, high and standard error of a median, or of the difference of two; `columns` has shape (n, 1) or
    (n, 2).
    """
    from scipy import stats

    count = int(groups.max()) + 1
    blocks = []
    for weights in resample_weights(count, resamples, seed):
        rows = max(1, CELLS // len(columns))
        for start in range(0, len(weights), rows):
            block = weights[start : start + rows]
            medians = [weighted_medians(column, block, groups) for column in columns.T]
            blocks.append(medians[0] - medians[1] if len(medians) == 2 else medians[0])
    values = np.concatenate(blocks)
    tail = float(stats.norm.cdf(np.sqrt(count / (count - 1)) * stats.t.ppf((1 - confidence) / 2, count - 1)))
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high), float(values.std(ddof=1)) * float(np.sqrt(count / (count - 1)))


def weighted_medians(values: Array, weights: Array, groups: Codes) -> Array:
    """The median of `values` (n,) in each resample, shape (b,); a group's weight (b, F) counts for each of
    its items.
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    cumulative = np.cumsum(weights[:, groups[order]], axis=1)
    total = cumulative[:, -1]
    below = (cumulative <= ((total - 1) // 2)[:, None]).sum(axis=1)
    above = (cumulative <= (total // 2)[:, None]).sum(axis=1)
    middle: Array = (ordered[below] + ordered[above]) / 2
    return middle


SEVERAL = 5  # differences that the usual number of resamples is enough for; the tails of more need more of them
MOST = 4  # times as many resamples, at most


def simultaneous_intervals(
    pairs: Sequence[tuple[Array, Array]],
    groups: Codes,
    aggregate: Aggregate = "mean",
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[list[Interval], float]:
    """The interval of each paired difference `one` - `other` of means, simultaneous at `confidence`, and
    the confidence that each has by itself.

    All arrays are per-item values of shape (n,) on the same items, in the metric's unit; `groups` are their codes
    0..F-1. Below 5 groups there are no intervals. `aggregate` is a mean or the root of one.
    """
    count = int(groups.max()) + 1
    points = [aggregate_values(values, aggregate) - aggregate_values(other, aggregate) for values, other in pairs]
    if count < MIN_GROUPS:
        return [Interval(point, None, None, None, len(groups), count) for point in points], confidence
    wanted = resamples * min(MOST, -(-len(pairs) // SEVERAL))
    n_resamples = min(wanted, max(FEWEST, MOST * DRAWS // count))
    errors, scores = studentize(pairs, groups, aggregate, points, n_resamples, seed)
    level = pointwise_level(scores[:, errors > 0], 1 - confidence)
    intervals = [
        Interval(point, *ends(point, float(se), score, count, level), float(se), len(groups), count)
        for point, se, score in zip(points, errors, scores.T, strict=True)
    ]
    return intervals, 1 - level


def studentize(
    pairs: Sequence[tuple[Array, Array]],
    groups: Codes,
    aggregate: Aggregate,
    points: Sequence[float],
    resamples: int,
    seed: int,
) -> tuple[Array, Array]:
    """The standard error of each difference, shape (m,), and its studentize resamples, shape (b, m).

    A resample without spread says nothing of its own precision: NaN.
    """
    count = int(groups.max()) + 1
    sums = [group_sums(np.column_stack(pair), groups) for pair in pairs]
    once = np.ones((1, count))
    errors = np.array([float(bootstrap_estimates(once, both, means, aggregate)[1][0]) for means, both in sums])
    blocks = []
    for weights in resample_weights(count, resamples, seed):
        block = np.full((len(weights), len(pairs)), np.nan)
        for column, ((means, both), point) in enumerate(zip(sums, points, strict=True)):
            value, spread = bootstrap_estimates(weights, both, means, aggregate)
            telling = spread > 0
            block[telling, column] = (value[telling] - point) / spread[telling]
        blocks.append(block)
    return errors, np.concatenate(blocks)


def pointwise_level(scores: Array, level: float) -> float:
    """The level for each of m differences at which something is missed in a share `level` of the resamples (b, m)."""
    count = scores.shape[1]
    if count <= 1:
        return level
    least = np.min([two_tailed_p(column) for column in scores.T], axis=0)
    return float(min(level, max(level / count, np.quantile(least, level, method="lower"))))


def two_tailed_p(scores: Array) -> npt.NDArray[np.float64]:
    """The two-tailed probability of each score among its own, shape (b,); that of NaN is 1."""
    known = np.flatnonzero(~np.isnan(scores))
    rank = np.empty(len(known))
    rank[np.argsort(scores[known], kind="stable")] = np.arange(1, len(known) + 1)
    p_values = np.ones(len(scores))
    p_values[known] = np.minimum(1.0, 2 * np.minimum(rank, len(known) + 1 - rank) / (len(known) + 1))
    return p_values


def ends(point: float, se: float, scores: Array, groups: int, level: float) -> tuple[float, float]:
    """The outer of bootstrap-t and Student's t on each side, as in `resample.interval`."""
    from scipy import stats

    if not se:
        return point, point
    lowest, highest = np.nanquantile(scores, [level / 2, 1 - level / 2])
    student = float(stats.t.ppf(1 - level / 2, groups - 1))
    low, high = point - max(float(highest), student) * se, point - min(float(lowest), -student) * se
    return min(low, point), max(high, point)
