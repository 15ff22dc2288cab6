"""Standardizes columns by their mean and spread over the training rows, and clips them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pricesmith.pricers.features.hashing import F32
from pricesmith.pricers.features.tokenizer import F64

CLIP = 4.0  # standardized columns are clipped here


@dataclass(frozen=True, slots=True)
class ColumnScale:
    """Means and spreads of columns, both [columns]; missing values become the mean."""

    means: F64
    spreads: F64

    @classmethod
    def from_columns(cls, columns: F32) -> ColumnScale:
        """The scale of training columns [n, columns]."""
        finite = np.isfinite(columns)
        counts = np.maximum(finite.sum(axis=0), 1)
        means = np.where(finite, columns, 0.0).sum(axis=0, dtype=np.float64) / counts
        squares = np.where(finite, (columns - means) ** 2, 0.0).sum(axis=0, dtype=np.float64) / counts
        return cls(means, np.sqrt(squares) + 1e-6)

    def __call__(self, columns: F32) -> F32:
        """The columns, standardized and clipped."""
        scaled = np.nan_to_num((columns - self.means) / self.spreads, nan=0.0, posinf=CLIP, neginf=-CLIP)
        return np.clip(scaled, -CLIP, CLIP).astype(np.float32)
