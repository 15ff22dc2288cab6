"""`--train-rows N`: keep N training items, so that cheap things do not drown the dear ones.

The rule: training items are counted in 40 bins of equal width in log price. Every bin keeps at most the same number
of items, the largest number that keeps no more than N in all (water-filling), so crowded bins are cut down to one
level and sparse ones stay whole. What is left to N goes one by one to the bins that were cut, the dearest first.
Inside a bin a hash of seed and id chooses. Validation and test are never balanced.

    >>> level([10, 3, 50], 23)
    10
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricesmith.catalog.split import draw_groups

BINS = 40
RULE = (
    "at most the same number of training items from each of 40 bins of equal width in log price (water-filling); "
    "inside a bin a seeded hash of the row chooses"
)


@dataclass(frozen=True)
class Balance:
    """Which training items stay, and the histogram before and after."""

    kept: NDArray[np.bool_]
    edges: list[float]
    before: list[int]
    after: list[int]

    def to_dict(self, train_rows: int, seed: int) -> dict[str, Any]:
        """What the ledger says of it."""
        return {
            "rule": RULE,
            "train_rows": train_rows,
            "seed": seed,
            "edges": self.edges,
            "before": self.before,
            "after": self.after,
        }


def waterfill_level(counts: Sequence[int], train_rows: int) -> int:
    """The largest number that, as a cap for every count, keeps no more than `train_rows` in all."""
    left = train_rows
    for done, count in enumerate(sorted(counts)):
        share = left // (len(counts) - done)
        if count > share:
            return share
        left -= count
    return max(counts, default=0)


def log_edges(prices: NDArray[np.float64], bins: int = BINS) -> NDArray[np.float64]:
    """The edges of bins of equal width in log price, (bins + 1,)."""
    low, high = float(prices.min()), float(prices.max())
    return np.geomspace(low, high if high > low else low * 1.01, bins + 1)


def histogram(prices: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin of each price, (prices,)."""
    return np.clip(np.searchsorted(edges, prices, side="right") - 1, 0, len(edges) - 2).astype(np.int64)


def balance(value: NDArray[np.float64], hashes: NDArray[np.uint64], train_rows: int, seed: int) -> Balance:
    """Choose `train_rows` of the training items, all of them where there are no more. `hashes` are those of the items."""
    edges = log_edges(value)
    bins = histogram(value, edges)
    before = np.bincount(bins, minlength=len(edges) - 1)
    cap = waterfill_level(before.tolist(), train_rows)
    room = np.minimum(before, cap)
    spare = train_rows - int(room.sum())
    for cut in np.flatnonzero(before > cap)[::-1][: max(spare, 0)]:
        room[cut] += 1
    kept = np.zeros(len(value), dtype=np.bool_)
    order = np.lexsort((draw_groups(seed, hashes), bins))
    starts = np.cumsum(before) - before
    for start, most in zip(starts.tolist(), room.tolist(), strict=True):
        kept[order[start : start + most]] = True
    after = np.bincount(bins[kept], minlength=len(before))
    return Balance(kept, [float(f"{edge:.6g}") for edge in edges], before.tolist(), after.tolist())
