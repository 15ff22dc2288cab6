"""The vocabulary: which hashed features are used, and their weights.

bucket 1,402,331: 12 occurrences in 6,000 rows -> column 88,412, weight 1 + log(500)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricesmith.core.model_files import Shapes, check_below, damaged_file, read_arrays
from pricesmith.core.types import Listing
from pricesmith.pricers.features.hashing import F32, build_bags, chunks
from pricesmith.pricers.features.threads import N_CORES
from pricesmith.pricers.features.tokenizer import I64

I32 = NDArray[np.int32]
BITS = 22  # a feature is the top bits of its hash
SHAPES: Shapes = {"buckets": ("int", "features"), "weights": ("float", "features")}


@dataclass(frozen=True, slots=True)
class SparseRows:
    """Sparse rows: row `i` has the entries `starts[i]` to `starts[i + 1]` of `indices` (buckets or columns of a
    vocabulary) and `weights`."""

    indices: I32
    weights: F32
    starts: I64

    def csr(self, columns: int) -> Any:
        """The rows as a scipy matrix."""
        from scipy.sparse import csr_matrix

        dtype = np.int32 if len(self.indices) < 2**31 else np.int64
        return csr_matrix((self.weights, self.indices, self.starts.astype(dtype)), (len(self.starts) - 1, columns))


def hash_to_buckets(listings: Sequence[Listing]) -> SparseRows:
    """The features of a few listings, as rows of buckets."""
    bags = build_bags(listings)
    return SparseRows((bags.hashes >> np.uint64(64 - BITS)).astype(np.int32), bags.weights, bags.starts)


def gather_rows(listings: Sequence[Listing]) -> SparseRows:
    """The features of any number of listings, as rows of buckets."""
    with ThreadPoolExecutor(N_CORES) as pool:
        parts = list(pool.map(hash_to_buckets, chunks(listings)))
    counts = np.concatenate([np.diff(part.starts) for part in parts])
    return SparseRows(
        np.concatenate([part.indices for part in parts]),
        np.concatenate([part.weights for part in parts]),
        np.concatenate((np.zeros(1, np.int64), np.cumsum(counts))),
    )


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The buckets that are used, and their weights: 1 + log(rows / occurrences)."""

    buckets: I32
    weights: F32
    columns: I32  # bucket -> column, -1 if it is not used

    @classmethod
    def from_rows(cls, rows: SparseRows, min_count: int, max_features: int) -> Vocabulary:
        """The buckets that occur `min_count` times or more, and the most frequent `max_features` of these."""
        counts = np.bincount(rows.indices, minlength=1 << BITS)
        n_rows = len(rows.starts) - 1
        min_count = min(min_count, max(1, n_rows // 2))
        sizes = np.cumsum(np.bincount(counts)[::-1])[::-1]  # sizes[n]: the buckets that occur n times or more
        while min_count + 1 < len(sizes) and sizes[min_count] > max_features:
            min_count += 1
        buckets = np.flatnonzero(counts >= min_count)
        weights = 1 + np.log(np.maximum(n_rows / counts[buckets], 1))
        return cls.from_buckets(buckets.astype(np.int32), weights.astype(np.float32))

    @classmethod
    def from_buckets(cls, buckets: I32, weights: F32) -> Vocabulary:
        """The vocabulary of increasing buckets and their weights, both [features]."""
        columns = np.full(1 << BITS, -1, dtype=np.int32)
        columns[buckets] = np.arange(len(buckets), dtype=np.int32)
        return cls(buckets, weights, columns)

    @property
    def size(self) -> int:
        """The number of columns, at least 1."""
        return max(1, len(self.buckets))

    def rows(self, buckets: SparseRows) -> SparseRows:
        """Rows of buckets as weighted columns of the vocabulary, each row of length 1; unknown buckets are dropped."""
        indices = self.columns[buckets.indices]
        known = indices >= 0
        ends = np.concatenate((np.zeros(1, np.int64), np.cumsum(known, dtype=np.int64)))
        starts = np.asarray(ends[buckets.starts], dtype=np.int64)
        indices = indices[known]
        weights = buckets.weights[known] * self.weights[indices]
        row = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        squares = np.bincount(row, weights * weights.astype(np.float64), minlength=len(starts) - 1)
        return SparseRows(indices, weights / np.sqrt(squares).astype(np.float32)[row], starts)

    def save(self, path: Path) -> None:
        """Write the vocabulary as arrays."""
        np.savez(path, buckets=self.buckets, weights=self.weights)

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """The vocabulary that `save` wrote. Raises InputError if the file is damaged."""
        return cls.from_arrays(path, read_arrays(path, SHAPES))

    @classmethod
    def from_arrays(cls, path: Path, arrays: Mapping[str, Any]) -> Vocabulary:
        """The vocabulary of arrays that were read from `path`. Raises InputError if they are damaged."""
        buckets = arrays["buckets"]
        check_below(path, "buckets", buckets, 1 << BITS)
        if (np.diff(buckets) <= 0).any():
            raise damaged_file(path, "buckets that do not increase", allowed="each bucket once, in order")
        return cls.from_buckets(buckets, arrays["weights"].astype(np.float32))
