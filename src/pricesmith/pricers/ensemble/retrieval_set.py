"""The training rows of a pricer that retrieves: their neighbors, their folds, and what is finished of a fit.

stock = Stock.of(items, folds=5, seed=0)
stock.found()       # neighbors of other groups
stock.found(0)      # neighbors that are not in fold 0 either
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pricesmith import __version__
from pricesmith.core.atomic import atomic_file
from pricesmith.core.types import Item, Listing
from pricesmith.pricers.features.hashing import F32
from pricesmith.pricers.features.knn import F64, SAME_TEXT, NeighborIndex, Neighbors, folds_of, groups_of_texts
from pricesmith.pricers.features.tokenizer import I64
from pricesmith.pricers.features.vocabulary import SparseRows, gather_ranges

CHUNK = 512  # rows whose neighbors are compared at once


class StageCache:
    """Finished parts of a fit, each a file in a folder; those of another version of the program are not taken."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """Where a part lies, or will."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / f"checkpoint-{__version__}-{name}"

    def __call__(self, name: str, make: Callable[[], Any]) -> Any:
        """An array, made where it is not there yet."""
        path = self.path(f"{name}.npy")
        if not path.is_file():
            found = make()
            with atomic_file(path) as temporary, temporary.open("wb") as file:
                np.save(file, found)
        return np.load(path, allow_pickle=False)


@dataclass(frozen=True, slots=True)
class RetrievalSet:
    """Training rows: their log prices, groups' folds [n], the search over them, and each row's neighbors."""

    listings: Sequence[Listing]
    logs: F64
    raw: SparseRows
    fold: I64
    nearest: NeighborIndex
    wide: Neighbors

    @classmethod
    def of(cls, items: Sequence[Item], folds: int, seed: int) -> RetrievalSet:
        """The rows, and so many neighbors of each that enough are left when a fold is left out."""
        listings, logs = [item.listing for item in items], np.log([item.price for item in items])
        raw, groups = gather_ranges(listings), groups_of_texts(listings)
        nearest = NeighborIndex.of(raw, logs)
        count = SAME_TEXT * folds // (folds - 1) + SAME_TEXT // 2
        wide = nearest.search(nearest.matrix, count, groups, groups)
        return cls(listings, logs, raw, folds_of(groups, folds, seed), nearest, wide)

    @property
    def folds(self) -> list[int]:
        """The folds that leave something to learn from; none where all is one group."""
        found = [int(fold) for fold in np.unique(self.fold)]
        return found if len(found) > 1 else []

    def found(self, fold: int | None = None) -> Neighbors:
        """The neighbors of each row, of all rows or of those that are not in a fold."""
        return self.shown(fold)[0]

    def shown(self, fold: int | None, here: slice = slice(None)) -> tuple[Neighbors, I64]:
        """The neighbors of some rows, and where among the wide ones they stand [n, SEEN]."""
        places, cosines = self.wide.places[here], self.wide.cosines[here]
        kept = (places >= 0) & (self.fold[places] != (-1 if fold is None else fold))
        order = np.argsort(~kept, axis=1, kind="stable")[:, :SAME_TEXT]
        places = np.take_along_axis(np.where(kept, places, -1), order, 1)
        return Neighbors(places, np.take_along_axis(np.where(kept, cosines, np.float32(0)), order, 1)), order

    def columns(self) -> F32:
        """The columns of neighbors' prices [1 + folds, n, columns]: of all rows, then without each fold.

        All are worked out at once, for the cosines among the neighbors take the time.
        """
        parts = []
        for start in range(0, len(self.logs), CHUNK):
            here = slice(start, start + CHUNK)
            among = self.nearest.cosines_among(self.wide.places[here])
            row, told = np.arange(len(among))[:, None, None], []
            for fold in (None, *self.folds):
                found, order = self.shown(fold, here)
                near = among[row, order[:, :, None], order[:, None, :]]
                told.append(self.nearest.columns(found, near, float(self.logs[self.fold != fold].mean())))
            parts.append(np.stack(told))
        return np.concatenate(parts, axis=1)
