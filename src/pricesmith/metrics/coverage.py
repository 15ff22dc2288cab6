"""Is the coverage of intervals significantly off its level? A two-sided test that counts near-duplicate groups.

    test = coverage_test(held, groups, level=0.9)
    adjust_p_values([test.p, ...])                                  # Holm: one level of error over all bands

The exact binomial test needs independent items; those of one group are held or missed together. So the number of items
is divided by the design effect: the group-robust variance of the coverage over that of independent items, 1 at least
(Korn & Graubard 1998, who do the same for the Clopper-Pearson interval). Where all items are held or all are missed,
nothing shows how groups agree, and each group counts as one item.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pricesmith.metrics.bootstrap import MIN_GROUPS, Codes
from pricesmith.metrics.metrics import Array

ALPHA = 0.05


@dataclass(frozen=True)
class CoverageTest:
    """The two-sided test of a coverage against `level`. `p` is None below 5 groups; `effective` is the number of
    independent items that these say as much as."""

    level: float
    p: float | None
    effective: float


def coverage_test(held: Array, groups: Codes, level: float) -> CoverageTest:
    """Test 0s and 1s of shape (n,), in groups 0..G-1 of shape (n,), against a coverage of `level`."""
    count = int(groups.max()) + 1
    effective = effective_items(held, groups)
    if count < MIN_GROUPS:
        return CoverageTest(level, None, effective)
    return CoverageTest(level, binomial_p(effective * float(held.mean()), effective, level), effective)


def effective_items(held: Array, groups: Codes) -> float:
    """How many independent items say as much as these, between the number of groups and of items at most."""
    n, count, share = len(held), int(groups.max()) + 1, float(held.mean())
    if share in (0.0, 1.0) or count < 2:
        return float(count)
    sums = np.bincount(groups, held - share)
    robust = float(np.square(sums).sum()) * count / (count - 1) / n**2
    return n / max(1.0, robust / (share * (1 - share) / n))


def binomial_p(successes: float, trials: float, level: float) -> float:
    """The two-sided exact binomial p-value, twice the smaller tail, for numbers that need not be whole."""
    from scipy.special import betainc

    at_least = float(betainc(successes, trials - successes + 1, level)) if successes > 0 else 1.0
    at_most = 1 - float(betainc(successes + 1, trials - successes, level)) if successes < trials else 1.0
    return min(1.0, 2 * min(at_least, at_most))


def adjust_p_values(values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p-values, in the order given; None stays None and does not count as a test."""
    order = sorted((index for index, p in enumerate(values) if p is not None), key=lambda index: values[index] or 0.0)
    adjusted: list[float | None] = [None] * len(values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * (values[index] or 0.0)))
        adjusted[index] = highest
    return adjusted
