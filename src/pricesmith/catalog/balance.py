"""`--train-rows N`: which training items stay, so that neither common prices nor common categories dominate.

    >>> balance(np.array([5.0, 5.0, 6.0, 900.0]), np.arange(4, dtype=np.uint64), ["pen"] * 3 + ["sofa"], 2, 0).after
    [1, 0, 0, 0, 0, 0, 0, 0, 0, 1]

A stratum is a price band (10 of equal width in log price) of a category: its first level (`Garden > Hoses` is
`garden`), and all categories with under 0.2 % of the training items are one. The items of a stratum come in the order
of a hash of seed and content; the one at place k = 0, 1, 2 ... has the key (k + 1/2) / sqrt(items of the stratum), and
the N items with the smallest keys stay. So a stratum has a share in proportion to the square root of its size (power
allocation: Bankier 1988), rounded by Sainte-Laguë's divisors. A larger N adds items and removes none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pricesmith.catalog.split import histogram, log_edges, mix_hashes

if TYPE_CHECKING:
    from pricesmith.catalog.finalize import Finalized

N_BANDS = 10  # of equal width in log price
POWER = 0.5
FEWEST = 0.002  # share of the training items below which a category is not a stratum of its own
LEVELS = re.compile(r"\s*[>|›»/]\s*")
BALANCE_RULE = (
    "each price band of a category has a share in proportion to the square root of its items; inside a band a seeded "
    "hash of the row chooses"
)


@dataclass(frozen=True)
class Balance:
    """Which training items stay (`mask`), and the items of each price band before and after."""

    mask: NDArray[np.bool_]
    edges: list[float]
    before: list[int]
    after: list[int]
    categories: int
    strata: int

    def to_dict(self, train_rows: int, seed: int) -> dict[str, Any]:
        """The ledger's entry."""
        return {
            "rule": BALANCE_RULE,
            "train_rows": train_rows,
            "seed": seed,
            "categories": self.categories,
            "strata": self.strata,
            "edges": self.edges,
            "before": self.before,
            "after": self.after,
        }


def balance(
    prices: NDArray[np.float64], hashes: NDArray[np.uint64], categories: Sequence[str], train_rows: int, seed: int
) -> Balance:
    """Choose `train_rows` of the training items, or all if there are fewer; `hashes` are their content hashes."""
    edges = log_edges(prices, N_BANDS)
    bands = histogram(prices, edges)
    kinds = number_categories(categories)
    _, strata, sizes = np.unique(kinds * N_BANDS + bands, return_inverse=True, return_counts=True)
    strata = strata.reshape(-1)
    mixed = mix_hashes(seed, hashes)
    order = np.lexsort((mixed, strata))
    place = np.empty(len(prices))
    place[order] = np.arange(len(prices)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    keys = (place + 0.5) / sizes[strata] ** POWER
    mask = np.zeros(len(prices), dtype=np.bool_)
    mask[np.lexsort((mixed, keys))[:train_rows]] = True
    before, after = (np.bincount(bands[rows], minlength=N_BANDS).tolist() for rows in (slice(None), mask))
    shown = [float(f"{edge:.6g}") for edge in edges]
    return Balance(mask, shown, before, after, int(kinds.max()) + 1, len(sizes))


def balance_train(
    finalized: Finalized, categories: Sequence[str], train_rows: int | None, seed: int
) -> tuple[NDArray[np.bool_], dict[str, Any]]:
    """Which rows stay under `--train-rows`, and what the ledger says of it. Validation and test stay whole.

    `categories` are those of all kept rows, in their order.
    """
    mask = np.ones(len(finalized.rows), dtype=np.bool_)
    if train_rows is None:
        return mask, {}
    train = np.flatnonzero(finalized.splits == 0)
    own = [categories[place] for place in train.tolist()]
    chosen = balance(finalized.prices[train], finalized.hashes[train], own, train_rows, seed)
    mask[train] = chosen.mask
    return mask, chosen.to_dict(train_rows, seed)


def number_categories(categories: Sequence[str]) -> NDArray[np.int64]:
    """The number of each item's category, by its first level; all rare ones are one."""
    names, numbers, counts = np.unique(
        [LEVELS.split(name.strip(), 1)[0].casefold() for name in categories], return_inverse=True, return_counts=True
    )
    rare = counts < FEWEST * len(categories)
    codes = np.where(rare, len(names), np.arange(len(names)))[numbers.reshape(-1)]
    return np.asarray(np.unique(codes, return_inverse=True)[1].reshape(-1), dtype=np.int64)
