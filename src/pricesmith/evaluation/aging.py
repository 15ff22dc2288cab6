"""How the error grows with the age of the training data: test items by the days between them and the last training day.

    bands = error_by_age(arrays, ages_of(arrays, evals))
    trend = age_trend(arrays, ages_of(arrays, evals))

Ages are known of catalogs that are split by time. The trend is the slope of the absolute error over age, by least
squares, with a standard error that is robust to near-duplicate groups (Liang & Zeger 1986) and Student's t for as many
degrees of freedom as there are groups, less 1. Items that are no later than the training data take no part in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from pricesmith.evaluation.evaluate import EvalArrays
from pricesmith.evaluation.results import Evals
from pricesmith.metrics.bands import ALPHA, ErrorBand, adjust_p_values, error_bands
from pricesmith.metrics.bootstrap import MIN_GROUPS
from pricesmith.metrics.metrics import Array

MOST_BANDS, LEAST_ITEMS = 6, 30  # bands of about equal numbers of items, and the least items of a band
MONTH = 30  # days of the unit of the slope
NOT_LATER = "not later than training"


@dataclass(frozen=True)
class AgeTrend:
    """The change of the MAE for 30 days of age, with its 95 % confidence interval; None where it cannot be computed.

    `p` is two-sided, and `adjusted_p` is Holm's over all pricers of a report. `last_to_first` is the MAE of the oldest
    band over that of the youngest, None if that is 0. `n` counts items, `days` is their span.
    """

    slope: float
    low: float | None
    high: float | None
    p: float | None
    n: int
    groups: int
    days: int
    last_to_first: float | None
    adjusted_p: float | None = None

    @property
    def is_significant(self) -> bool:
        """Whether the error changes with age at 5 %, all pricers of the report taken together."""
        return self.adjusted_p is not None and self.adjusted_p < ALPHA


def ages_of(data: EvalArrays, evals: Evals) -> Array | None:
    """The days after the last training day of each item, shape (n,); NaN where unknown; None if all are."""
    days = [evals.items[id].days_after_training for id in data.ids]
    ages = np.array([np.nan if day is None else day for day in days], dtype=np.float64)
    return None if np.isnan(ages).all() else ages


def age_edges(ages: Array) -> list[int]:
    """The first day of each band and the day after the last one, for ages above 0 in bands of about equal numbers of
    items; a day is in one band. Empty if there are too few items or days for two bands."""
    later = np.sort(ages[ages > 0]).astype(np.int64)
    count = min(MOST_BANDS, len(later) // LEAST_ITEMS)
    if count < 2:
        return []
    starts = {int(later[len(later) * place // count]) for place in range(1, count)} - {int(later[0])}
    edges = [int(later[0]), *sorted(starts), int(later[-1]) + 1]
    while len(edges) > 2:
        sizes = [int(((later >= start) & (later < end)).sum()) for start, end in pairwise(edges)]
        smallest = int(np.argmin(sizes))
        if sizes[smallest] >= LEAST_ITEMS:
            return edges
        del edges[smallest if smallest else 1]
    return []


def error_by_age(data: EvalArrays, ages: Array, *, seed: int = 0) -> list[ErrorBand]:
    """The error by days after the last training day; first on items that are no later, if there are any. Empty if
    there are too few items for two bands."""
    edges = age_edges(ages)
    if not edges:
        return []
    masks = [(NOT_LATER, ages <= 0)]
    masks += [(band_name(start, end - 1), (ages >= start) & (ages < end)) for start, end in pairwise(edges)]
    return error_bands(data.truth, data.quote, data.groups, masks, seed=seed)


def band_name(first: int, last: int) -> str:
    """The days of a band.

    >>> band_name(1, 14), band_name(1, 1)
    ('1 to 14 days', 'day 1')
    """
    return f"{first:,} to {last:,} days" if last > first else f"day {first:,}"


def age_trend(data: EvalArrays, ages: Array, bands: Sequence[ErrorBand]) -> AgeTrend:
    """The change of the MAE with age over the items that are later than the training data."""
    from scipy import stats

    later = ages > 0
    age, errors = ages[later] / MONTH, data.error[later]
    _, codes = np.unique(data.groups[later], return_inverse=True)
    groups = int(codes.max()) + 1
    centered = age - age.mean()
    spread = float((centered**2).sum())
    dated = [band for band in bands if band.label != NOT_LATER]
    first, last = dated[0].mae.point, dated[-1].mae.point
    ratio = last / first if first > 0 else None
    days = int(ages[later].max() - ages[later].min())
    if not spread:
        return AgeTrend(0.0, None, None, None, len(age), groups, days, ratio)
    slope = float((centered * errors).sum()) / spread
    rest = errors - errors.mean() - slope * centered
    scores = np.bincount(codes, centered * rest)
    if groups < MIN_GROUPS or not (se := float(np.sqrt((scores**2).sum() * groups / (groups - 1))) / spread):
        return AgeTrend(slope, None, None, None, len(age), groups, days, ratio)
    half = float(stats.t.ppf(0.975, groups - 1)) * se
    p = 2 * float(stats.t.sf(abs(slope) / se, groups - 1))
    return AgeTrend(slope, slope - half, slope + half, p, len(age), groups, days, ratio)


def adjust_trends(trends: Mapping[str, AgeTrend]) -> dict[str, AgeTrend]:
    """The trends of several pricers with p-values that hold for all of them together (Holm)."""
    adjusted = adjust_p_values([trend.p for trend in trends.values()])
    return {name: replace(trend, adjusted_p=p) for (name, trend), p in zip(trends.items(), adjusted, strict=True)}


def age_dict(bands: Sequence[ErrorBand], trend: AgeTrend) -> dict[str, Any]:
    """The bands and the trend of one pricer as plain values."""
    first = next((band.mae.point for band in bands if band.label != NOT_LATER), 0.0)
    return {
        "bands": [
            {
                "label": band.label,
                "n": band.n,
                "mae": band.mae.point,
                "low": band.mae.low,
                "high": band.mae.high,
                "ratio_to_first": band.mae.point / first if first > 0 and band.label != NOT_LATER else None,
                "typical_factor": band.ratio,
            }
            for band in bands
        ],
        "trend": {**asdict(trend), "is_significant": trend.is_significant, "slope_days": MONTH},
    }
