"""Whether a training has diverged, by its validation errors: a training with a finite loss may have diverged too.

Evaluations are compared with two references on the same items: the median training price quoted for every item, and
the model before its first step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

FAR = 1.25  # times the MAE of a reference; a model that is so much worse than the median is of no use
CERTAIN = 3.0  # standard errors of the paired difference: a false alarm in one of 700 evaluations at the limit
MIN_ITEMS = 20  # fewer show nothing
MEDIAN, UNTUNED = "the median quote", "the untuned model"


def is_far_worse(errors: Sequence[float], reference: Sequence[float]) -> bool:
    """Whether the MAE is significantly more than FAR times the reference's, in a paired test on the items of both.

    Both hold absolute errors of the same items, in the same order; the longer one is truncated. Infinite or missing
    errors are far worse than any reference.
    """
    n = min(len(errors), len(reference))
    if n < MIN_ITEMS:
        return False
    excess = np.asarray(errors[:n], dtype=np.float64) - FAR * np.asarray(reference[:n], dtype=np.float64)
    if not np.isfinite(excess).all():
        return True
    return bool(excess.mean() > CERTAIN * excess.std(ddof=1) / math.sqrt(n))


def far_worse_than(errors: Sequence[float], references: Mapping[str, Sequence[float]]) -> str:
    """The name of the first reference that the errors are far worse than; empty if there is none."""
    return next((name for name, reference in references.items() if is_far_worse(errors, reference)), "")
