"""Benjamini and Hochberg's adjusted p-values."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pricesmith.metrics.multiple_tests import benjamini_hochberg


@given(st.lists(st.floats(1e-9, 1.0), min_size=1, max_size=60), st.floats(0.01, 0.5))
def test_rejections_are_those_of_the_step_up_procedure(values: list[float], fdr: float) -> None:
    """The largest k with p(k) <= fdr k / m decides: the k smallest are rejected."""
    p = np.array(values)
    passed = np.flatnonzero(np.sort(p) <= fdr * np.arange(1, len(p) + 1) / len(p) + 1e-12)
    rejected = int(passed.max()) + 1 if len(passed) else 0
    assert (
        abs(int((benjamini_hochberg(p) <= fdr + 1e-12).sum()) - rejected) <= (p == np.sort(p)[rejected - 1]).sum() - 1
    )


def test_missing_p_values_are_no_tests() -> None:
    """They stay missing, and the others are adjusted for their own number."""
    adjusted = benjamini_hochberg(np.array([0.01, np.nan, 0.04]))
    assert np.isnan(adjusted[1])
    assert adjusted[[0, 2]].tolist() == [0.02, 0.04]
    assert benjamini_hochberg(np.array([])).tolist() == []


def test_the_false_discovery_rate_is_held() -> None:
    """On uniform p-values beside very small ones, over many draws."""
    draw = np.random.default_rng(0)
    shares = []
    for _ in range(400):
        p = np.concatenate([draw.uniform(size=90), draw.uniform(0, 1e-4, size=10)])
        rejected = np.flatnonzero(benjamini_hochberg(p) <= 0.1)
        shares.append((rejected < 90).mean() if len(rejected) else 0.0)
    assert np.mean(shares) <= 0.1
