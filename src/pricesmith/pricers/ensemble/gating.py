"""How much of a quote is the networks' and how much the trees': by how far they are apart.

Near each other, both are listened to; where they are far apart the trees, which know what the networks said, have had
their reasons. The shares are chosen in money on rows that neither had seen, one for each tenth of these rows by the
distance, and go over into each other between the middles of the tenths: a quote must not jump with the last digit of
a distance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pricesmith.pricers.features.knn import F64

BINS = 10
LEAST_ROWS = 200  # of a bin
SHARES = np.linspace(0, 1, 51)


@dataclass(frozen=True, slots=True)
class Gate:
    """The networks' `shares` [k], 0 to 1, at the distances `apart` [k] of log prices, increasing."""

    apart: F64
    shares: F64

    @classmethod
    def of(cls, networks: F64, trees: F64, truths: F64) -> Gate:
        """The shares that err least in money; all in logs [n], of rows that neither had seen."""
        apart = np.abs(networks - trees)
        bins = max(1, min(BINS, len(apart) // LEAST_ROWS))
        parts = np.array_split(np.argsort(apart, kind="stable"), bins)
        shares = [gate_share(networks[part], trees[part], truths[part]) for part in parts]
        return cls(np.array([np.median(apart[part]) for part in parts]), np.array(shares))

    def mixed(self, networks: F64, trees: F64) -> F64:
        """The log of the weighted mean of two prices, all in logs [n]."""
        return gated_mean(networks, trees, np.interp(np.abs(networks - trees), self.apart, self.shares))

    def plain(self) -> dict[str, Any]:
        """As JSON; `made` reads it."""
        return {"apart": self.apart.tolist(), "shares": self.shares.tolist()}

    @classmethod
    def made(cls, facts: Mapping[str, Any]) -> Gate:
        """What `plain` told. Raises ValueError where the facts are none."""
        apart, shares = (np.array(facts[name], dtype=np.float64) for name in ("apart", "shares"))
        if not (apart.ndim == shares.ndim == 1 and 0 < len(apart) == len(shares) and np.isfinite(apart).all()):
            raise ValueError("distances and shares are two lists of numbers, of one length")
        if (np.diff(apart) < 0).any() or not ((shares >= 0) & (shares <= 1)).all():
            raise ValueError("distances rise, and shares are from 0 to 1")
        return cls(apart, shares)


NEUTRAL = Gate(np.zeros(1), np.full(1, 0.5))


def gated_mean(networks: F64, trees: F64, share: F64 | float) -> F64:
    """The log of the weighted mean of two prices; `share` is the networks'."""
    return np.asarray(np.log(share * np.exp(networks) + (1 - share) * np.exp(trees)))


def gate_share(networks: F64, trees: F64, truths: F64) -> float:
    """The networks' share that errs least in money, to a fiftieth; all in logs [n]. Half where none errs less."""
    errors = [np.abs(np.exp(gated_mean(networks, trees, share)) - np.exp(truths)).mean() for share in SHARES]
    return float(SHARES[int(np.argmin(errors))]) if min(errors) < max(errors) else 0.5
