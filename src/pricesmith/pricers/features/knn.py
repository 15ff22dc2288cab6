"""The most similar training listings of a listing, and what their prices say: the features of a pricer that retrieves.

    shop = Nearest.of(listings, logs)
    found = shop.search(shop.vectors(wares), 64)            # places and cosines, nearest first
    shop.columns(found)                                     # means, spreads, local ridge: one row a listing

Similarity is the cosine over the features of the sparse MLP (words, numbers with their unit and magnitude, crosses with
the group), weighted by rarity; what more than `MAX_SHARE` of the listings have is left out. A training row is not shown
its own group: else the columns would be better on training rows than on new ones.

The local ridge solves a ridge regression among the nearest alone, in its dual form (Gaussian process regression with
a linear kernel: Rasmussen and Williams 2006, section 2.1): 16 GB and 32 GB of one module tell what 64 GB cost, and its
standard deviation tells how far from all that is known a listing is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricesmith.catalog.near_duplicates import find_groups, sketch
from pricesmith.core.model_files import Shapes, read_arrays, sparse_rows
from pricesmith.core.types import Listing, render
from pricesmith.pricers.features.hashing import F32
from pricesmith.pricers.features.tokenizer import I64
from pricesmith.pricers.features.vocabulary import BITS, SparseRows, Vocabulary, gather_ranges

F64 = NDArray[np.float64]

MAX_SHARE = 0.04  # a feature of more of the listings tells none apart, and costs the most
FEW = 1_000  # below so many listings every feature counts
GRAM = 4_000  # up to so many listings the cosines of all pairs are worked out once: 64 MB
BLOCK = 256
CELLS = 16_000_000  # of a block's product with all rows
SHARPNESS = 4  # weight of a neighbor: its cosine to this power
MEANS = (1, 3, 8, 32)
RIDGES = (32, 64)  # how many neighbors a local ridge is solved among, the most last
BIAS, NOISE = 3.0, 0.05  # variances of its constant and of its noise, in units of its slopes'
SHAPES: Shapes = {
    "buckets": ("int", "features"),
    "weights": ("float", "features"),
    "data": ("float", "cells"),
    "indices": ("int", "cells"),
    "indptr": ("int", "ends"),
    "logs": ("float", "rows"),
}
SAME_TEXT = RIDGES[-1]  # neighbors that the columns are made of
CHUNK = 512  # local ridges solved at once


@dataclass(frozen=True, slots=True)
class Neighbors:
    """Neighbors of n listings: places among the training rows (-1: none) and cosines, both [n, k], nearest first."""

    places: I64
    cosines: F32

    def head(self, k: int) -> Neighbors:
        """The k nearest."""
        return Neighbors(self.places[:, :k], self.cosines[:, :k])

    def rows(self, chosen: Any) -> Neighbors:
        """The neighbors of some of the listings."""
        return Neighbors(self.places[chosen], self.cosines[chosen])


class NeighborIndex:
    """A search over training rows; `matrix` [rows, features] has rows of length 1, `logs` [rows] their log prices."""

    def __init__(self, words: Vocabulary, matrix: Any, logs: F64) -> None:
        self.words, self.matrix, self.logs = words, matrix, logs
        self.turned = matrix.T.tocsr()
        self.gram: F32 | None = None
        self.middle = float(logs.mean()) if len(logs) else 0.0

    @classmethod
    def of(cls, raw: SparseRows, logs: F64) -> NeighborIndex:
        """A search over rows of buckets, as `gather` has them, with their log prices."""
        words = Vocabulary.of(raw, 2, 1 << BITS)
        if len(logs) > FEW:
            counts = np.bincount(raw.places, minlength=1 << BITS)[words.buckets]
            rare = counts < MAX_SHARE * len(logs)
            words = Vocabulary.made(words.buckets[rare], words.weights[rare])
        return cls(words, normalize_rows(words.rows(raw).csr(words.size)), logs)

    def vectors(self, listings: Sequence[Listing]) -> Any:
        """The listings as rows of this search."""
        return self.vectors_of(gather_ranges(listings))

    def vectors_of(self, raw: SparseRows) -> Any:
        """Rows of buckets as rows of this search."""
        return normalize_rows(self.words.rows(raw).csr(self.words.size))

    def search(self, vectors: Any, k: int, groups: I64 | None = None, of: I64 | None = None) -> Neighbors:
        """The k nearest training rows of each vector. With `groups` of the training rows and `of` the vectors, a row
        of the vector's own group is not shown."""
        count = vectors.shape[0]
        places, cosines = np.full((count, k), -1, dtype=np.int64), np.zeros((count, k), dtype=np.float32)
        size = max(1, min(BLOCK, CELLS // max(1, len(self.logs))))
        for start in range(0, count, size):
            product = (vectors[start : start + size] @ self.turned).tocsr()
            for row in range(product.shape[0]):
                begin, end = product.indptr[row], product.indptr[row + 1]
                near, scores = product.indices[begin:end], product.data[begin:end]
                if groups is not None and of is not None:
                    strange = groups[near] != of[start + row]
                    near, scores = near[strange], scores[strange]
                near, scores = top_k(near, scores, k)
                places[start + row, : len(near)], cosines[start + row, : len(near)] = near, scores
        return Neighbors(places, cosines)

    def columns(self, found: Neighbors, among: F32 | None = None, middle_log: float | None = None) -> F32:
        """What the prices of `SEEN` neighbors say, in logs [n, columns]: local ridges with their standard deviations;
        weighted means and spreads of the nearest few; medians, extremes, the first three; cosines. NaN without any.

        `among` are the cosines among the neighbors [n, SEEN, SEEN], where they are known already; `middle_log` is the
        mean log price of the rows that may be seen, where that is not all of them."""
        found = found.head(SAME_TEXT)
        there = found.places >= 0
        logs = np.where(there, self.logs[np.maximum(found.places, 0)] if len(self.logs) else 0.0, np.nan)
        weights = np.where(there, np.maximum(found.cosines, 1e-6).astype(np.float64) ** SHARPNESS, 0.0)
        center = self.middle if middle_log is None else middle_log
        told: list[Any] = [self.local_ridges(found, there, logs, among, center)]
        some = there.any(axis=1)
        for k in MEANS:
            share, near = weights[:, :k], np.nan_to_num(logs[:, :k])
            total = np.where(some, share.sum(axis=1), np.nan)
            mean = (share * near).sum(axis=1) / total
            told.append(mean)
            if k > 1:
                told.append(np.sqrt((share * (near - mean[:, None]) ** 2).sum(axis=1) / total))
        told += [weighted_median(logs[:, :5]), weighted_median(logs[:, :16])]
        told += [np.where(some, np.fmin.reduce(logs[:, :8], axis=1), np.nan), np.fmax.reduce(logs[:, :8], axis=1)]
        told += [found.cosines[:, [0, 2, 7]], found.cosines[:, :8].mean(axis=1, dtype=np.float64), logs[:, :3]]
        return np.column_stack(told).astype(np.float32)

    def local_ridges(
        self, found: Neighbors, there: NDArray[np.bool_], logs: F64, known: F32 | None, center: float
    ) -> F64:
        """For each k of RIDGES the answer of a ridge regression among the k nearest, and its standard deviation."""
        answers = np.empty((len(there), 2 * len(RIDGES)))
        for start in range(0, len(there), CHUNK):
            here = slice(start, start + CHUNK)
            errors = np.nan_to_num(logs[here] - center)
            to_them = np.where(there[here], BIAS + found.cosines[here], 0.0)
            cosines = self.cosines_among(found.places[here]) if known is None else known[here]
            # A missing neighbor has a variance of its own and touches nothing.
            both = there[here][:, :, None] & there[here][:, None, :]
            among = np.where(both, BIAS + cosines.astype(np.float64), 0.0)
            for column, k in enumerate(RIDGES):
                noise = np.where(there[here, :k], NOISE, 1.0)
                system = among[:, :k, :k] + np.eye(k) * noise[:, :, None]
                solved = np.linalg.solve(system, np.stack([errors[:, :k], to_them[:, :k]], axis=-1))
                answers[here, 2 * column] = (to_them[:, :k] * solved[..., 0]).sum(axis=1) + center
                left = BIAS + 1.0 + NOISE - (to_them[:, :k] * solved[..., 1]).sum(axis=1)
                answers[here, 2 * column + 1] = np.sqrt(np.maximum(left, 1e-6))
        return answers

    def cosines_among(self, places: I64) -> F32:
        """The cosines among the neighbors of each listing, [n, k, k]; nonsense where there is none."""
        count, k = places.shape
        if 0 < len(self.logs) <= GRAM:
            if self.gram is None:
                self.gram = (self.matrix @ self.turned).toarray()
            near = np.maximum(places, 0)
            among = self.gram[near[:, :, None], near[:, None, :]]
            among[:, np.arange(k), np.arange(k)] = 1.0
            return among
        among = np.zeros((count, k, k), dtype=np.float32)
        ends, features, values = self.matrix.indptr, self.matrix.indices, self.matrix.data
        place = np.zeros(self.matrix.shape[1], dtype=np.int64)
        for row in range(count if len(self.logs) else 0):
            near = np.maximum(places[row], 0)
            sizes = ends[near + 1] - ends[near]
            total = int(sizes.sum())
            here = np.repeat(ends[near] - np.cumsum(sizes) + sizes, sizes) + np.arange(total)
            own = features[here]
            ordered = np.sort(own)
            # A feature that one neighbor alone has makes no two of them alike: it shares the first column.
            shared = ordered[1:][ordered[1:] == ordered[:-1]]
            shared = shared[np.diff(shared, prepend=-1) != 0]
            place[shared] = np.arange(1, len(shared) + 1)
            dense = np.zeros((k, len(shared) + 1), dtype=np.float32)
            dense[np.repeat(np.arange(k), sizes), place[own]] = values[here]
            place[shared] = 0
            among[row] = dense[:, 1:] @ dense[:, 1:].T
            np.fill_diagonal(among[row], 1.0)
        return among

    def save(self, path: Path) -> None:
        """Write the search as arrays."""
        matrix = {name: getattr(self.matrix, name) for name in ("data", "indices", "indptr")}
        np.savez(path, buckets=self.words.buckets, weights=self.words.weights, logs=self.logs, **matrix)

    @classmethod
    def load(cls, path: Path) -> NeighborIndex:
        """The search that `save` wrote."""
        arrays = read_arrays(path, SHAPES)
        words = Vocabulary.checked(path, arrays)
        parts = (arrays["data"], arrays["indices"], arrays["indptr"])
        return cls(words, sparse_rows(path, parts, (len(arrays["logs"]), words.size)), arrays["logs"])


def normalize_rows(matrix: Any) -> Any:
    """The rows, each of length 1 where it is not empty; what stands in a row twice is added up."""
    matrix.sum_duplicates()
    sizes = np.diff(matrix.indptr)
    row = np.repeat(np.arange(len(sizes)), sizes)
    squares = np.bincount(row, matrix.data.astype(np.float64) ** 2, minlength=len(sizes))
    matrix.data /= np.sqrt(np.maximum(squares, 1e-12)).astype(np.float32)[row]
    return matrix


def top_k(places: Any, scores: F32, k: int) -> tuple[Any, Any]:
    """The k highest scores; near-ties, which rounding makes on some machines, go to the smaller place."""
    if len(scores) > k:
        kept = scores >= np.partition(scores, len(scores) - k)[len(scores) - k] - 1e-5
        places, scores = places[kept], scores[kept]
    order = np.lexsort((places, -np.round(scores, 5)))[:k]
    return places[order], np.minimum(scores[order], 1.0)


def weighted_median(logs: F64) -> F64:
    """The median of each row, NaN where it is empty."""
    found = np.full(len(logs), np.nan)
    some = np.isfinite(logs).any(axis=1)
    found[some] = np.nanmedian(logs[some], axis=1)
    return found


def groups_of_texts(listings: Sequence[Listing]) -> I64:
    """The group of each listing: near-duplicates share one (catalog/groups.py)."""
    texts = [render(ware) for ware in listings]
    return find_groups(sketch(texts)) if texts else np.zeros(0, dtype=np.int64)


def folds_of(groups: I64, count: int, seed: int) -> I64:
    """The fold of each row; a group is in one."""
    found, group = np.unique(groups, return_inverse=True)
    return np.asarray(np.random.default_rng(seed).permutation(len(found))[group] % count, dtype=np.int64)
