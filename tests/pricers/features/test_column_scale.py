"""Columns are standardized, whatever is missing in them."""

from __future__ import annotations

import numpy as np
import pytest

from pricesmith.pricers.features.column_scale import ColumnScale


def test_a_scale_does_not_mind_what_is_missing() -> None:
    """A column that is empty, or constant, or full of gaps stays finite."""
    columns = np.array([[1, np.nan, 5, np.nan], [3, np.nan, 5, 1e30]], dtype=np.float32)
    scaled = ColumnScale.from_columns(columns)(columns)
    assert np.isfinite(scaled).all()
    assert scaled[:, 0] == pytest.approx([-1, 1], abs=1e-3)
    assert (scaled[:, 1] == 0).all()
