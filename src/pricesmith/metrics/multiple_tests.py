"""Which of many p-values are small enough: the false discovery rate of Benjamini and Hochberg.

>>> benjamini_hochberg(np.array([0.001, 0.02, 0.5, 0.9])).round(3).tolist()
[0.004, 0.04, 0.667, 0.9]
"""

from __future__ import annotations

import numpy as np

from pricesmith.metrics.metrics import Array


def benjamini_hochberg(p_values: Array) -> Array:
    """The adjusted p-values [n] of Benjamini and Hochberg (1995), in the order given; NaN stays NaN and is no test.

    Rejecting all hypotheses whose adjusted p-value is at most q holds the false discovery rate at q if the p-values are
    valid and positively dependent (Benjamini & Yekutieli 2001). Conformal p-values from one calibration set are (Bates,
    Candes, Lei, Romano & Sesia 2023, "Testing for outliers with conformal p-values").
    """
    adjusted = np.full(len(p_values), np.nan)
    tests = np.flatnonzero(np.isfinite(p_values))
    if not len(tests):
        return adjusted
    order = tests[np.argsort(p_values[tests], kind="stable")]
    ratios = p_values[order] * len(order) / np.arange(1, len(order) + 1)
    adjusted[order] = np.minimum(1.0, np.minimum.accumulate(ratios[::-1])[::-1])
    return adjusted
