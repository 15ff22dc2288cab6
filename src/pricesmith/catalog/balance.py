"""`--train-rows N`: which training items stay, so that no common price, category or source dominates.

    >>> prices, hashes = np.array([5.0, 5.0, 6.0, 900.0]), np.arange(4, dtype=np.uint64)
    >>> balance(prices, hashes, ["pen"] * 3 + ["sofa"], ["shop.csv"] * 4, 2, 0).after
    [1, 0, 0, 0, 0, 0, 0, 0, 0, 1]

A source has a share in proportion to the square root of its items, and so has each stratum within its source (power
allocation: Bankier 1988). A stratum is a price band (10 of equal width in log price) of a category: its first level
(`Garden > Hoses` is `garden`), and all categories with under 0.2 % of the training items are one. The items of a
stratum come in the order of a hash of seed and content; the one at place k = 0, 1, 2 ... has the key (k + 1/2) / share
of the stratum, and the N items with the smallest keys stay (Sainte-Laguë's divisors). So a larger N adds items and
removes none.
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
    "each source, and in it each price band of a category, has a share in proportion to the square root of its items; "
    "inside a band a seeded hash of the row chooses"
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
    prices: NDArray[np.float64],
    hashes: NDArray[np.uint64],
    categories: Sequence[str],
    sources: Sequence[str],
    train_rows: int,
    seed: int,
) -> Balance:
    """Choose `train_rows` of the training items, or all if there are fewer; `hashes` are their content hashes."""
    edges = log_edges(prices, N_BANDS)
    bands = histogram(prices, edges)
    kinds = number_categories(categories)
    shops = np.unique(np.asarray(sources, dtype=np.str_), return_inverse=True)[1].reshape(-1)
    codes = (shops * (int(kinds.max()) + 1) + kinds) * N_BANDS + bands
    _, first, strata, sizes = np.unique(codes, return_index=True, return_inverse=True, return_counts=True)
    strata, roots, shop = strata.reshape(-1), sizes**POWER, shops[first]
    shares = np.bincount(shops)[shop] ** POWER * roots / np.bincount(shop, roots)[shop]
    mixed = mix_hashes(seed, hashes)
    order = np.lexsort((mixed, strata))
    place = np.empty(len(prices))
    place[order] = np.arange(len(prices)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    keys = (place + 0.5) / shares[strata]
    mask = np.zeros(len(prices), dtype=np.bool_)
    mask[np.lexsort((mixed, keys))[:train_rows]] = True
    before, after = (np.bincount(bands[rows], minlength=N_BANDS).tolist() for rows in (slice(None), mask))
    shown = [float(f"{edge:.6g}") for edge in edges]
    return Balance(mask, shown, before, after, int(kinds.max()) + 1, len(sizes))


def balance_train(
    finalized: Finalized, labels: Sequence[tuple[str, str]], train_rows: int | None, seed: int
) -> tuple[NDArray[np.bool_], dict[str, Any]]:
    """Which rows stay under `--train-rows`, and what the ledger says of it. Validation and test stay whole.

    `labels` are the category and the source of all kept rows, in their order.
    """
    mask = np.ones(len(finalized.rows), dtype=np.bool_)
    if train_rows is None:
        return mask, {}
    train = np.flatnonzero(finalized.splits == 0)
    categories, sources = zip(*(labels[place] for place in train.tolist()), strict=True)
    chosen = balance(finalized.prices[train], finalized.hashes[train], categories, sources, train_rows, seed)
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
