"""Whether new values have the distribution of earlier ones: histograms of quantile bins, PSI, and its test.

    reference = build_histogram(logs, groups)
    change = compare(reference, new_logs)
    change.psi, change.p, change.shift, change.shift_p

PSI (population stability index) is sum((new share - old share) log(new share / old share)) over the bins; usual
thresholds are 0.1 (moderate) and 0.25 (large). Without any change it is not 0 but about (bins - 1) (1/n + 1/m) for n
new and m reference values (Yurdakul 2018): 0.23 for 40 quotes in ten bins, over the first threshold. So `psi` has this
bias subtracted, and `p` is from the two-sample chi-square test of the same counts. A shift of the mean is a much
sharper test than ten bins; `shift_p` is Welch's t-test of it.

Reference values of one near-duplicate group are alike: their number is divided by the design effect of their mean, and
their standard error is robust to groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field, model_validator

from pricesmith.core.settings import Settings
from pricesmith.metrics.bootstrap import Codes
from pricesmith.metrics.metrics import Array

BINS = 10
DIGITS = 6  # values that agree to this many decimals are one value: the last digits depend on the batch
MODERATE, LARGE = 0.1, 0.25
PSEUDO_COUNT = 0.5  # in each bin, so that an empty one does not make PSI infinite


class Histogram(Settings):
    """Shares of values in bins. Bin i has the values from `edges[i - 1]` to below `edges[i]`.

    `n` values were counted, which say as much as `effective_n` independent ones; `se` is the standard error of `mean`,
    robust to groups.
    """

    edges: tuple[float, ...]
    shares: tuple[float, ...] = Field(min_length=1)
    n: int = Field(ge=1)
    effective_n: float = Field(gt=0)
    mean: float
    std: float = Field(ge=0)
    se: float = Field(ge=0)

    @model_validator(mode="after")
    def check_bins(self) -> Histogram:
        """Raise ValueError if edges do not increase, or the shares are not those of their bins."""
        if any(a >= b for a, b in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError("edges that increase")
        if len(self.shares) != len(self.edges) + 1 or min(self.shares) < 0 or abs(sum(self.shares) - 1) > 1e-6:
            raise ValueError("one share from 0 to 1 for each bin, with a sum of 1")
        return self


@dataclass(frozen=True)
class DistributionChange:
    """How new values differ from a histogram. `shift` is the difference of the means, new minus reference.

    `psi` has its bias subtracted and is at least 0. p-values are None for fewer than two values, or without spread.
    """

    n: int
    psi: float
    p: float | None
    shift: float
    shift_p: float | None


def build_histogram(values: Array, groups: Codes, bins: int = BINS) -> Histogram:
    """A histogram of finite values, shape (n,), in quantile bins; equal values are in one bin. `groups` are their
    codes 0..G-1, shape (n,)."""
    values = round_values(values)
    n, mean, std = len(values), float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else 0.0
    edges = quantile_edges(values, bins)
    se = robust_error(values, groups)
    effective = n if not std or not se else min(float(n), max(1.0, (std / se) ** 2))
    return Histogram(
        edges=edges,
        shares=tuple((count_bins(values, edges) / n).tolist()),
        n=n,
        effective_n=effective,
        mean=mean,
        std=std,
        se=max(se, std / math.sqrt(n)),
    )


def round_values(values: Array) -> Array:
    """Values without the digits that depend on the batch they were computed in."""
    return np.asarray(np.round(values, DIGITS), dtype=np.float64)


def quantile_edges(values: Array, bins: int) -> tuple[float, ...]:
    """Edges between distinct values, at the quantiles; fewer than `bins` - 1 if values are repeated."""
    distinct = np.unique(values)
    middles = (distinct[1:] + distinct[:-1]) / 2
    if not len(middles):
        return ()
    quantiles = np.quantile(values, np.arange(1, bins) / bins)
    places = np.clip(np.searchsorted(distinct, quantiles) - 1, 0, len(middles) - 1)
    return tuple(float(edge) for edge in middles[np.unique(places)])


def count_bins(values: Array, edges: Sequence[float]) -> Array:
    """How many values each bin has, shape (bins,)."""
    places = np.searchsorted(np.asarray(edges, dtype=np.float64), values, side="right")
    return np.bincount(places, minlength=len(edges) + 1).astype(np.float64)


def robust_error(values: Array, groups: Codes) -> float:
    """The standard error of the mean, robust to groups; 0.0 for a single group."""
    count = int(groups.max()) + 1 if len(groups) else 0
    if count < 2:
        return 0.0
    sums = np.bincount(groups, values - values.mean(), minlength=count)
    return math.sqrt(float(np.square(sums).sum()) * count / (count - 1)) / len(values)


def stability_index(old: Array, new: Array) -> float:
    """PSI of two rows of counts, shape (bins,), without its bias under no change; at least 0."""
    bins, m, n = len(old), float(old.sum()), float(new.sum())
    p, q = ((counts + PSEUDO_COUNT) / (counts.sum() + PSEUDO_COUNT * bins) for counts in (old, new))
    return max(0.0, float(((q - p) * np.log(q / p)).sum()) - (bins - 1) * (1 / n + 1 / m))


def compare(reference: Histogram, values: Array) -> DistributionChange:
    """How finite values, shape (n,), n >= 1, differ from a reference."""
    from scipy import stats

    values = round_values(values)
    n = len(values)
    old, new = np.array(reference.shares) * reference.effective_n, count_bins(values, reference.edges)
    p = None
    if len(old) > 1:
        pooled = (old + new) / (old.sum() + new.sum())
        used = pooled > 0
        expected = np.concatenate([pooled[used] * old.sum(), pooled[used] * n])
        chi2 = float((np.square(np.concatenate([old[used], new[used]]) - expected) / expected).sum())
        p = float(stats.chi2.sf(chi2, int(used.sum()) - 1)) if used.sum() > 1 else None
    shift = float(values.mean()) - reference.mean
    return DistributionChange(n, stability_index(old, new), p, shift, welch_p(reference, values, shift))


def welch_p(reference: Histogram, values: Array, shift: float) -> float | None:
    """The two-sided p-value of a difference of means; None for fewer than two values, or without spread."""
    from scipy import stats

    n = len(values)
    if n < 2:
        return None
    own, other = float(values.var(ddof=1)) / n, reference.se**2
    if own + other <= 0:
        return None
    freedom = (own + other) ** 2 / (own**2 / (n - 1) + other**2 / max(1.0, reference.effective_n - 1))
    return float(2 * stats.t.sf(abs(shift) / math.sqrt(own + other), freedom))
