"""The training rows of a pricer that retrieves similar listings: their neighbors and folds, and cached fit stages.

rows = RetrievalSet.from_items(items, folds=5, seed=0)
rows.neighbors()       # neighbors of other near-duplicate groups
rows.neighbors(0)      # neighbors that are not in fold 0 either
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from pricesmith.core.atomic import atomic_file
from pricesmith.core.types import Item, Listing
from pricesmith.pricers.features.hashing import F32
from pricesmith.pricers.features.knn import F64, N_NEIGHBORS, NeighborIndex, Neighbors, assign_folds, group_listings
from pricesmith.pricers.features.tokenizer import I64
from pricesmith.pricers.features.vocabulary import SparseRows, gather_rows

CHUNK = 512  # rows whose neighbors are compared at once


class StageCache:
    """Finished stages of a fit, each a file in a folder. Files of another version of Pricesmith are not used."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.version = folder, version("pricesmith")

    def path(self, name: str) -> Path:
        """The file of a stage; its folder is created."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / f"checkpoint-{self.version}-{name}"

    def __call__(self, name: str, compute: Callable[[], Any]) -> Any:
        """An array, computed if its file does not exist yet."""
        path = self.path(f"{name}.npy")
        if not path.is_file():
            values = compute()
            with atomic_file(path) as temporary, temporary.open("wb") as file:
                np.save(file, values)
        return np.load(path, allow_pickle=False)


@dataclass(frozen=True, slots=True)
class RetrievalSet:
    """Training rows: log prices [n], folds [n], the index over the rows, and a wide set of neighbors of each row."""

    listings: Sequence[Listing]
    logs: F64
    buckets: SparseRows
    fold: I64
    index: NeighborIndex
    wide: Neighbors

    @classmethod
    def from_items(cls, items: Sequence[Item], folds: int, seed: int) -> RetrievalSet:
        """The rows, with enough neighbors of each that `N_NEIGHBORS` are left without any one fold."""
        listings, logs = [item.listing for item in items], np.log([item.price for item in items])
        buckets, groups = gather_rows(listings), group_listings(listings)
        index = NeighborIndex.from_rows(buckets, logs)
        count = N_NEIGHBORS * folds // (folds - 1) + N_NEIGHBORS // 2
        wide = index.search(index.matrix, count, groups, groups)
        return cls(listings, logs, buckets, assign_folds(groups, folds, seed), index, wide)

    @property
    def folds(self) -> list[int]:
        """The folds, if there are at least two; a single near-duplicate group leaves nothing to learn from."""
        folds = [int(fold) for fold in np.unique(self.fold)]
        return folds if len(folds) > 1 else []

    def neighbors(self, fold: int | None = None) -> Neighbors:
        """The neighbors of each row, without the rows of `fold`."""
        return self.select_neighbors(fold)[0]

    def select_neighbors(self, fold: int | None, rows: slice = slice(None)) -> tuple[Neighbors, I64]:
        """The neighbors of some rows, and their positions among the wide ones [n, N_NEIGHBORS]."""
        indices, cosines = self.wide.indices[rows], self.wide.cosines[rows]
        allowed = (indices >= 0) & (self.fold[indices] != (-1 if fold is None else fold))
        order = np.argsort(~allowed, axis=1, kind="stable")[:, :N_NEIGHBORS]
        indices = np.take_along_axis(np.where(allowed, indices, -1), order, 1)
        return Neighbors(indices, np.take_along_axis(np.where(allowed, cosines, np.float32(0)), order, 1)), order

    def columns(self) -> F32:
        """The columns of neighbors' prices [1 + folds, n, columns]: with all rows, then without each fold.

        All are computed together because the cosines among the neighbors take most of the time.
        """
        parts = []
        for start in range(0, len(self.logs), CHUNK):
            rows = slice(start, start + CHUNK)
            cosines = self.index.pairwise_cosines(self.wide.indices[rows])
            row, columns = np.arange(len(cosines))[:, None, None], []
            for fold in (None, *self.folds):
                neighbors, order = self.select_neighbors(fold, rows)
                pairs = cosines[row, order[:, :, None], order[:, None, :]]
                columns.append(self.index.columns(neighbors, pairs, float(self.logs[self.fold != fold].mean())))
            parts.append(np.stack(columns))
        return np.concatenate(parts, axis=1)
