"""Whether a training has diverged, judged by its validation errors: a finite loss alone does not show that it has not.

Judgments are compared with two references on the same items: the median training price quoted for everything, and the
model before its first step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

FAR = 1.25  # times the MAE of a reference; what errs more than a constant by this much has learned nothing of use
CERTAIN = 3.0  # standard errors of the paired difference: one healthy judgment in 700 at the limit is flagged
MIN_ITEMS = 20  # fewer tell nothing
MEDIAN, UNTUNED = "the median quote", "the untuned model"


def is_far_worse(errors: Sequence[float], reference: Sequence[float]) -> bool:
    """Whether the MAE is more than FAR times the reference's on the items both have, beyond sampling error.

    Both hold absolute errors of the same items, in the same order; the longer one is cut. Paired: an item that is hard
    for both does not count against either. Infinite or missing errors are far worse than anything.
    """
    n = min(len(errors), len(reference))
    if n < MIN_ITEMS:
        return False
    excess = np.asarray(errors[:n], dtype=np.float64) - FAR * np.asarray(reference[:n], dtype=np.float64)
    if not np.isfinite(excess).all():
        return True
    return bool(excess.mean() > CERTAIN * excess.std(ddof=1) / math.sqrt(n))


def far_worse_than(errors: Sequence[float], references: Mapping[str, Sequence[float]]) -> str:
    """The name of the first reference that the errors are far worse than; empty where there is none."""
    return next((name for name, known in references.items() if is_far_worse(errors, known)), "")
