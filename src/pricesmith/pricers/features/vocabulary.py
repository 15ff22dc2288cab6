"""Which features are used, and how much each weighs.

bucket 1,402,331: 12 occurrences in 6,000 rows -> place 88,412, weight 1 + log(500)
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
    """Sparse rows: row `i` holds `places[starts[i]:starts[i + 1]]`, buckets or places in a vocabulary, and weights."""

    places: I32
    weights: F32
    starts: I64

    def csr(self, columns: int) -> Any:
        """The rows as a scipy matrix."""
        from scipy.sparse import csr_matrix

        kind = np.int32 if len(self.places) < 2**31 else np.int64
        return csr_matrix((self.weights, self.places, self.starts.astype(kind)), (len(self.starts) - 1, columns))


def hash_to_buckets(listings: Sequence[Listing]) -> SparseRows:
    """The features of a few listings, as buckets."""
    found = build_bags(listings)
    return SparseRows((found.hashes >> np.uint64(64 - BITS)).astype(np.int32), found.weights, found.starts)


def gather_ranges(listings: Sequence[Listing]) -> SparseRows:
    """The features of any number of listings, as buckets."""
    with ThreadPoolExecutor(N_CORES) as pool:
        parts = list(pool.map(hash_to_buckets, chunks(listings)))
    counts = np.concatenate([np.diff(part.starts) for part in parts])
    return SparseRows(
        np.concatenate([part.places for part in parts]),
        np.concatenate([part.weights for part in parts]),
        np.concatenate((np.zeros(1, np.int64), np.cumsum(counts))),
    )


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The buckets that are used, and how much each weighs: 1 + log(rows / occurrences)."""

    buckets: I32
    weights: F32
    table: I32  # bucket -> place, -1 where it is not used

    @classmethod
    def of(cls, raw: SparseRows, least: int, most: int) -> Vocabulary:
        """The buckets that occur `least` times, or so often that at most `most` are left."""
        counts = np.bincount(raw.places, minlength=1 << BITS)
        rows = len(raw.starts) - 1
        least = min(least, max(1, rows // 2))
        sizes = np.cumsum(np.bincount(counts)[::-1])[::-1]  # sizes[n]: the buckets that occur n times or more
        while least + 1 < len(sizes) and sizes[least] > most:
            least += 1
        buckets = np.flatnonzero(counts >= least)
        weights = 1 + np.log(np.maximum(rows / counts[buckets], 1))
        return cls.made(buckets.astype(np.int32), weights.astype(np.float32))

    @classmethod
    def made(cls, buckets: I32, weights: F32) -> Vocabulary:
        table = np.full(1 << BITS, -1, dtype=np.int32)
        table[buckets] = np.arange(len(buckets), dtype=np.int32)
        return cls(buckets, weights, table)

    @property
    def size(self) -> int:
        return max(1, len(self.buckets))

    def rows(self, raw: SparseRows) -> SparseRows:
        """Rows of length 1 of places in the vocabulary; what is not in it is left out."""
        places = self.table[raw.places]
        known = places >= 0
        seen = np.concatenate((np.zeros(1, np.int64), np.cumsum(known, dtype=np.int64)))
        starts = np.asarray(seen[raw.starts], dtype=np.int64)
        places = places[known]
        weights = raw.weights[known] * self.weights[places]
        row = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        squares = np.bincount(row, weights * weights.astype(np.float64), minlength=len(starts) - 1)
        return SparseRows(places, weights / np.sqrt(squares).astype(np.float32)[row], starts)

    def save(self, path: Path) -> None:
        np.savez(path, buckets=self.buckets, weights=self.weights)

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """The vocabulary that `save` wrote. Raises InputError where the file is damaged."""
        return cls.checked(path, read_arrays(path, SHAPES))

    @classmethod
    def checked(cls, path: Path, arrays: Mapping[str, Any]) -> Vocabulary:
        """The vocabulary of arrays that were read from `path`. Raises InputError where they are none."""
        buckets = arrays["buckets"]
        check_below(path, "buckets", buckets, 1 << BITS)
        if (np.diff(buckets) <= 0).any():
            raise damaged_file(path, "buckets that do not rise", allowed="each bucket once, in order")
        return cls.made(buckets, arrays["weights"].astype(np.float32))
