"""The most similar training listings of a listing, columns made of their prices, and the training rows as such a set.

    index = NeighborIndex.from_rows(gather_rows(listings), logs)
    neighbors = index.search(index.encode(gather_rows(others)), 64)    # indices and cosines, nearest first
    index.columns(neighbors)                                           # means, spreads, local ridge: one row a listing

    rows = RetrievalSet.from_items(items, folds=5, seed=0)
    rows.neighbors()       # neighbors of other near-duplicate groups
    rows.neighbors(0)      # neighbors that are not in fold 0 either

Similarity is the cosine over the features of the sparse MLP (words, numbers with their unit and magnitude, crosses with
the group), weighted by rarity; features of more than `MAX_SHARE` of the listings are left out. The near-duplicate group
of a training row is excluded from its neighbors: otherwise the columns would be better on training rows than on new
ones.

The local ridge solves a ridge regression among the nearest alone, in its dual form (Gaussian process regression with
a linear kernel: Rasmussen and Williams 2006, section 2.1): it extrapolates from the prices of 16 GB and 32 GB to 64 GB,
and its standard deviation grows with the distance from all training listings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricesmith.catalog.near_duplicates import find_groups, sketch
from pricesmith.core.atomic import atomic_file
from pricesmith.core.model_files import Shapes, read_arrays, sparse_rows
from pricesmith.core.types import Item, Listing, render
from pricesmith.pricers.features.hashing import BITS, F32, SparseRows, Vocabulary, gather_rows
from pricesmith.pricers.features.tokenizer import F64
from pricesmith.pricers.training import map_in_threads, single_threaded_blas
from pricesmith.text.code_points import I64

MAX_SHARE = 0.04  # a feature of more of the listings separates none of them, and costs the most
MIN_ROWS = 1_000  # with fewer listings every feature counts
MAX_GRAM_ROWS = 4_000  # up to this size the cosines of all pairs are computed once: 64 MB
BLOCK = 256
MAX_CELLS = 16_000_000  # of a block's product with all rows
SHARPNESS = 4  # weight of a neighbor: its cosine to this power
MEANS = (1, 3, 8, 32)
RIDGES = (32, 64)  # numbers of neighbors of the local ridges, increasing
BIAS, NOISE = 3.0, 0.05  # variances of its constant and of its noise, in units of its slopes'
SHAPES: Shapes = {
    "buckets": ("int", "features"),
    "weights": ("float", "features"),
    "data": ("float", "cells"),
    "indices": ("int", "cells"),
    "indptr": ("int", "ends"),
    "logs": ("float", "rows"),
}
LOG_PRICES = (0, 2, 4, 5, 7, 9)  # the columns that are estimates of the log price: the ridges, the means
N_NEIGHBORS = RIDGES[-1]  # the columns are made of this many neighbors
CHUNK = 512  # local ridges solved at once
PAIRED = 64  # listings whose neighbors' rows are copied at once


@dataclass(frozen=True, slots=True)
class Neighbors:
    """Neighbors of n listings: indices of training rows (-1: none) and cosines, both [n, k], nearest first."""

    indices: I64
    cosines: F32

    def head(self, k: int) -> Neighbors:
        """The k nearest."""
        return Neighbors(self.indices[:, :k], self.cosines[:, :k])

    def rows(self, selection: Any) -> Neighbors:
        """The neighbors of some of the listings."""
        return Neighbors(self.indices[selection], self.cosines[selection])


class NeighborIndex:
    """A search over training rows; `matrix` [rows, features] has rows of length 1, `logs` [rows] their log prices."""

    def __init__(self, vocabulary: Vocabulary, matrix: Any, logs: F64) -> None:
        self.vocabulary, self.matrix, self.logs = vocabulary, matrix, logs
        self.transposed = matrix.T.tocsr()
        self.gram: F32 | None = None
        self.mean_log = float(logs.mean()) if len(logs) else 0.0

    @classmethod
    def from_rows(cls, buckets: SparseRows, logs: F64) -> NeighborIndex:
        """A search over rows of buckets (`gather_rows`) with their log prices [rows]."""
        vocabulary = Vocabulary.from_rows(buckets, 2, 1 << BITS)
        if len(logs) > MIN_ROWS:
            counts = np.bincount(buckets.indices, minlength=1 << BITS)[vocabulary.buckets]
            rare = counts < MAX_SHARE * len(logs)
            vocabulary = Vocabulary.from_buckets(vocabulary.buckets[rare], vocabulary.weights[rare])
        return cls(vocabulary, normalize_rows(vocabulary.rows(buckets).csr(vocabulary.size)), logs)

    def encode(self, buckets: SparseRows) -> Any:
        """Rows of buckets as vectors of this search [n, features]."""
        return normalize_rows(self.vocabulary.rows(buckets).csr(self.vocabulary.size))

    def search(
        self, vectors: Any, k: int, row_groups: I64 | None = None, vector_groups: I64 | None = None
    ) -> Neighbors:
        """The k nearest training rows of each vector. With the near-duplicate groups of the training rows and of the
        vectors, rows of the vector's own group are excluded."""
        count = vectors.shape[0]
        indices, cosines = np.full((count, k), -1, dtype=np.int64), np.zeros((count, k), dtype=np.float32)
        size = max(1, min(BLOCK, MAX_CELLS // max(1, len(self.logs))))

        def search_block(start: int) -> None:
            product = (vectors[start : start + size] @ self.transposed).tocsr()
            for row in range(product.shape[0]):
                begin, end = product.indptr[row], product.indptr[row + 1]
                near, scores = product.indices[begin:end], product.data[begin:end]
                if row_groups is not None and vector_groups is not None:
                    other = row_groups[near] != vector_groups[start + row]
                    near, scores = near[other], scores[other]
                near, scores = top_k(near, scores, k)
                indices[start + row, : len(near)], cosines[start + row, : len(near)] = near, scores

        map_in_threads(search_block, range(0, count, size))
        return Neighbors(indices, cosines)

    def columns(self, neighbors: Neighbors, pairs: F32 | None = None, mean_log: float | None = None) -> F32:
        """Columns made of the log prices of `N_NEIGHBORS` neighbors [n, columns], NaN without neighbors.

        They are local ridges with their standard deviations; weighted means and spreads of the nearest few; medians,
        extremes, the first three; cosines. `pairs` are the cosines among the neighbors [n, N_NEIGHBORS, N_NEIGHBORS],
        if they are known; `mean_log` is the mean log price of the rows that can be neighbors, if not all can."""
        neighbors = neighbors.head(N_NEIGHBORS)
        present = neighbors.indices >= 0
        logs = np.where(present, self.logs[np.maximum(neighbors.indices, 0)] if len(self.logs) else 0.0, np.nan)
        weights = np.where(present, np.maximum(neighbors.cosines, 1e-6).astype(np.float64) ** SHARPNESS, 0.0)
        center = self.mean_log if mean_log is None else mean_log
        with single_threaded_blas:
            columns: list[Any] = [self.local_ridges(neighbors, present, logs, pairs, center)]
        any_neighbor = present.any(axis=1)
        for k in MEANS:
            share, near = weights[:, :k], np.nan_to_num(logs[:, :k])
            total = np.where(any_neighbor, share.sum(axis=1), np.nan)
            mean = (share * near).sum(axis=1) / total
            columns.append(mean)
            if k > 1:
                columns.append(np.sqrt((share * (near - mean[:, None]) ** 2).sum(axis=1) / total))
        columns += [row_medians(logs[:, :5]), row_medians(logs[:, :16])]
        columns += [
            np.where(any_neighbor, np.fmin.reduce(logs[:, :8], axis=1), np.nan),
            np.fmax.reduce(logs[:, :8], axis=1),
        ]
        columns += [
            neighbors.cosines[:, [0, 2, 7]],
            neighbors.cosines[:, :8].mean(axis=1, dtype=np.float64),
            logs[:, :3],
        ]
        return np.column_stack(columns).astype(np.float32)

    def local_ridges(
        self, neighbors: Neighbors, present: NDArray[np.bool_], logs: F64, pairs: F32 | None, center: float
    ) -> F64:
        """The prediction of a ridge regression among the k nearest, for each k of RIDGES, and its standard
        deviation."""
        answers = np.empty((len(present), 2 * len(RIDGES)))
        for start in range(0, len(present), CHUNK):
            here = slice(start, start + CHUNK)
            errors = np.nan_to_num(logs[here] - center)
            to_them = np.where(present[here], BIAS + neighbors.cosines[here], 0.0)
            cosines = self.pairwise_cosines(neighbors.indices[here]) if pairs is None else pairs[here]
            # A missing neighbor has a variance of its own and no covariance.
            among = cosines.astype(np.float64)
            among += BIAS
            if not present[here].all():
                among[~(present[here][:, :, None] & present[here][:, None, :])] = 0.0
            for column, k in enumerate(RIDGES):
                system = among[:, :k, :k].copy()
                system[:, np.arange(k), np.arange(k)] += np.where(present[here, :k], NOISE, 1.0)
                solved = np.linalg.solve(system, np.stack([errors[:, :k], to_them[:, :k]], axis=-1))
                answers[here, 2 * column] = (to_them[:, :k] * solved[..., 0]).sum(axis=1) + center
                left = BIAS + 1.0 + NOISE - (to_them[:, :k] * solved[..., 1]).sum(axis=1)
                answers[here, 2 * column + 1] = np.sqrt(np.maximum(left, 1e-6))
        return answers

    def pairwise_cosines(self, indices: I64) -> F32:
        """The cosines among the neighbors of each listing, [n, k, k]; undefined for missing neighbors."""
        count, k = indices.shape
        if 0 < len(self.logs) <= MAX_GRAM_ROWS:
            if self.gram is None:
                self.gram = (self.matrix @ self.transposed).toarray()
            near = np.maximum(indices, 0)
            among = self.gram[near[:, :, None], near[:, None, :]]
            among[:, np.arange(k), np.arange(k)] = 1.0
            return among
        among = np.zeros((count, k, k), dtype=np.float32)
        column, lines = np.zeros(self.matrix.shape[1], dtype=np.int32), np.arange(k)
        for start in range(0, count if len(self.logs) else 0, PAIRED):
            block = np.maximum(indices[start : start + PAIRED], 0)
            rows = self.matrix[block.ravel()]
            for number in range(len(block)):
                ends = rows.indptr[number * k : (number + 1) * k + 1]
                entries = rows.indices[ends[0] : ends[-1]]
                ordered = np.sort(entries)
                again = ordered[1:] == ordered[:-1]
                second = again.copy()
                second[1:] &= ~again[:-1]
                # A feature of a single neighbor makes no pair similar: all of these share the first column.
                shared = ordered[1:][second]
                width = len(shared) + 1
                column[shared] = np.arange(1, width)
                dense = np.zeros(k * width, dtype=np.float32)
                dense[np.repeat(lines * width, np.diff(ends)) + column[entries]] = rows.data[ends[0] : ends[-1]]
                column[shared] = 0
                dense = dense.reshape(k, width)
                among[start + number] = dense[:, 1:] @ dense[:, 1:].T
        among[:, lines, lines] = 1.0
        return among

    def save(self, path: Path) -> None:
        """Write the search as arrays."""
        matrix = {name: getattr(self.matrix, name) for name in ("data", "indices", "indptr")}
        np.savez(path, buckets=self.vocabulary.buckets, weights=self.vocabulary.weights, logs=self.logs, **matrix)

    @classmethod
    def load(cls, path: Path) -> NeighborIndex:
        """The search that `save` wrote."""
        arrays = read_arrays(path, SHAPES)
        vocabulary = Vocabulary.from_arrays(path, arrays)
        parts = (arrays["data"], arrays["indices"], arrays["indptr"])
        matrix = sparse_rows(path, parts, (len(arrays["logs"]), vocabulary.size))
        return cls(vocabulary, matrix, arrays["logs"])


def normalize_rows(matrix: Any) -> Any:
    """The rows of a sparse matrix, scaled to length 1 unless they are empty; duplicate entries are summed."""
    matrix.sum_duplicates()
    sizes = np.diff(matrix.indptr)
    row = np.repeat(np.arange(len(sizes)), sizes)
    squares = np.bincount(row, matrix.data.astype(np.float64) ** 2, minlength=len(sizes))
    matrix.data /= np.sqrt(np.maximum(squares, 1e-12)).astype(np.float32)[row]
    return matrix


def top_k(indices: Any, scores: F32, k: int) -> tuple[Any, Any]:
    """The k highest scores with their indices; near-ties, which rounding makes, go to the smaller index."""
    if len(scores) > k:
        highest = scores >= np.partition(scores, len(scores) - k)[len(scores) - k] - 1e-5
        indices, scores = indices[highest], scores[highest]
    order = np.lexsort((indices, -np.round(scores, 5)))[:k]
    return indices[order], np.minimum(scores[order], 1.0)


def row_medians(logs: F64) -> F64:
    """The median of each row, NaN if the row is empty."""
    medians = np.full(len(logs), np.nan)
    filled = np.isfinite(logs).any(axis=1)
    medians[filled] = np.nanmedian(logs[filled], axis=1)
    return medians


def group_listings(listings: Sequence[Listing]) -> I64:
    """The near-duplicate group of each listing [n]."""
    texts = [render(listing) for listing in listings]
    return find_groups(sketch(texts)) if texts else np.zeros(0, dtype=np.int64)


def assign_folds(groups: I64, count: int, seed: int) -> I64:
    """The fold of each row [n]; a group is in a single fold."""
    names, group = np.unique(groups, return_inverse=True)
    return np.asarray(np.random.default_rng(seed).permutation(len(names))[group] % count, dtype=np.int64)


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
            with single_threaded_blas:
                cosines = self.index.pairwise_cosines(self.wide.indices[rows])
            row, columns = np.arange(len(cosines))[:, None, None], []
            for fold in (None, *self.folds):
                neighbors, order = self.select_neighbors(fold, rows)
                pairs = cosines[row, order[:, :, None], order[:, None, :]]
                columns.append(self.index.columns(neighbors, pairs, float(self.logs[self.fold != fold].mean())))
            parts.append(np.stack(columns))
        return np.concatenate(parts, axis=1)
