"""Simultaneous confidence intervals for many paired differences (single-step max-t).

    found, level = intervals_together([(errors_a, errors_b), (errors_a, errors_c)], groups)

Every difference gets the interval of `resample.interval`, only at a level that makes the chance of a miss anywhere
5 %, not 5 % for each. That level is read off the same resamples: each draws groups once for all differences, and its
least probable studentize difference, in two tails, counts; the 5 % quantile of that minimum is the level for each one.
It lies between 5 % / m (Bonferroni), where the differences have nothing to do with each other, and 5 %, where they are
one; pricers compared with one reference share its
sampling error, so it is well above the first.
Sources: Westfall & Young 1993, "Resampling-based multiple testing", section 2.3 (single-step min P); Beran 1988,
"Balanced simultaneous confidence sets", for the intervals that say the same as the tests; Romano & Wolf 2005 for the
studentize bootstrap of it.

Percentage of simulations with any significant difference although there is none: log-normal errors of pricers of
equal accuracy, 60 groups of 5, 1,000 times, nominal 5 %:

                                              each at 5 %    together
    a named reference against 8                24             4
    the best of 6, chosen on the same items,
    with its 8 differences                    42             2
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pricesmith.metrics.bootstrap import (
    DRAWS,
    FEWEST,
    MIN_GROUPS,
    RESAMPLES,
    Codes,
    Interval,
    bootstrap_estimates,
    group_sums,
    resample_weights,
)
from pricesmith.metrics.metrics import Aggregate, Array, aggregate_values

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
    """The interval of each paired difference `one` - `other` of means, which hold all together at `confidence`, and
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
