"""The weight of networks and trees in a quote, by how far their answers are apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pricesmith.pricers.features.tokenizer import F64

GATE_BINS = 10
MIN_BIN_ROWS = 200  # of a bin
GATE_WEIGHTS = np.linspace(0, 1, 51)


@dataclass(frozen=True, slots=True)
class Gate:
    """The weight of networks and trees in a quote, by how far their answers are apart: the networks' `weights` [k], 0
    to 1, at the `distances` [k] of the two log prices, increasing.

    The trees take the networks' output as a feature, so that most weight is theirs, above all where the two disagree.
    The weights minimize the MAE in money on out-of-fold rows, one for each tenth of these rows by distance, and are
    interpolated between the medians of the tenths: a quote must not jump with the last digit of a distance.
    """

    distances: F64
    weights: F64

    @classmethod
    def fit(cls, networks: F64, trees: F64, truths: F64) -> Gate:
        """The weights with the lowest MAE in money; all log prices [n] of rows that neither was fitted on."""
        distances = np.abs(networks - trees)
        bins = max(1, min(GATE_BINS, len(distances) // MIN_BIN_ROWS))
        parts = np.array_split(np.argsort(distances, kind="stable"), bins)
        weights = [best_weight(networks[part], trees[part], truths[part]) for part in parts]
        return cls(np.array([np.median(distances[part]) for part in parts]), np.array(weights))

    def combine(self, networks: F64, trees: F64) -> F64:
        """The log of the weighted mean of two prices, all log prices [n]."""
        return weighted_log_mean(networks, trees, np.interp(np.abs(networks - trees), self.distances, self.weights))

    def to_dict(self) -> dict[str, Any]:
        """The gate as JSON values, for `from_dict`."""
        return {"distances": self.distances.tolist(), "weights": self.weights.tolist()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Gate:
        """The gate of `to_dict`. Raises ValueError if the values are out of range."""
        distances, weights = (np.array(values[name], dtype=np.float64) for name in ("distances", "weights"))
        vectors = distances.ndim == weights.ndim == 1 and 0 < len(distances) == len(weights)
        if not (vectors and np.isfinite(distances).all()):
            raise ValueError("distances and weights must be two lists of numbers of the same length")
        if (np.diff(distances) < 0).any() or not ((weights >= 0) & (weights <= 1)).all():
            raise ValueError("distances must increase, and weights must be between 0 and 1")
        return cls(distances, weights)


EQUAL_WEIGHTS = Gate(np.zeros(1), np.full(1, 0.5))


def weighted_log_mean(networks: F64, trees: F64, weight: F64 | float) -> F64:
    """The log of the weighted mean of two prices; `weight` is the networks' weight."""
    return np.asarray(np.log(weight * np.exp(networks) + (1 - weight) * np.exp(trees)))


def best_weight(networks: F64, trees: F64, truths: F64) -> float:
    """The networks' weight with the lowest MAE in money, to a fiftieth; 0.5 if all weights have the same MAE."""
    errors = [
        np.abs(np.exp(weighted_log_mean(networks, trees, weight)) - np.exp(truths)).mean() for weight in GATE_WEIGHTS
    ]
    return float(GATE_WEIGHTS[int(np.argmin(errors))]) if min(errors) < max(errors) else 0.5
