"""The features of a listing, as hashes with weights, and the vocabulary: which of them are used.

    build_bags([Listing("1", "Rope 12 m", "Color: blue")])    word rope, pair (rope, 12), 12 m: its bucket of magnitude,
    ...
    Vocabulary.from_rows(gather_rows(listings), 2, 1 << 19)   bucket 1,402,331: 12 occurrences in 6,000 rows
                                                              -> column 88,412, weight 1 + log(500)

Features are words, pairs, words under their key, and numbers with their unit. A word that no training listing has gets
a hash that is not in the vocabulary.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricesmith.core.model_files import Shapes, check_below, damaged_file, read_arrays
from pricesmith.core.threads import map_ahead
from pricesmith.core.types import Listing
from pricesmith.pricers.features.tokenizer import (
    DASH,
    MAX_CHARS,
    QUOTE,
    SPACE,
    TITLE,
    LineSpans,
    TextBuffer,
    TokenSpans,
    find_lines,
    find_numbers,
    find_tokens,
    group_hashes,
    read_texts,
)
from pricesmith.text.code_points import I64, LETTER, OTHER, U64, mix_hash

F32 = NDArray[np.float32]
CHUNK = 1024  # listings processed at once
BLOCK = 1 << 15  # rows that become columns of a vocabulary at once
CHUNK_CHARS = 1 << 19
BUCKETS = 3  # of magnitude, for each doubling


@dataclass(frozen=True, slots=True)
class FeatureBags:
    """Sparse rows: row `i` holds the feature hashes `hashes[starts[i]:starts[i + 1]]` with their `weights`."""

    hashes: U64
    weights: F32
    starts: I64


def chunks(listings: Iterable[Listing]) -> Iterator[list[Listing]]:
    """Split listings, in order, into parts whose arrays stay small; features do not depend on the split."""
    part: list[Listing] = []
    chars = 0
    for listing in listings:
        length = min(len(listing.text), MAX_CHARS) + min(len(listing.title), MAX_CHARS)
        if len(part) == CHUNK or (part and chars + length > CHUNK_CHARS):
            yield part
            part, chars = [], 0
        part.append(listing)
        chars += length
    yield part


def build_bags(listings: Sequence[Listing]) -> FeatureBags:
    """The features of each listing; a feature that occurs twice in a listing is in its row twice."""
    if not listings:
        return FeatureBags(np.zeros(0, np.uint64), np.zeros(0, np.float32), np.zeros(1, np.int64))
    features = FeatureBuffer()
    text = read_texts(listings)
    lines = find_lines(text)
    words = find_tokens(text, lines, (text.kind != OTHER).view(np.uint8))
    parts = find_tokens(text, lines, text.kind)
    group = group_hashes(text, words)
    add_words(features, words, parts, lines, group)
    add_numbers(features, text, parts, lines, group)
    return features.sorted(len(listings))


@dataclass(slots=True)
class FeatureBuffer:
    """Features in the order in which they are extracted, kind after kind."""

    rows: list[I64] = field(default_factory=list)
    hashes: list[U64] = field(default_factory=list)
    weights: list[F32] = field(default_factory=list)

    def add(self, kind: str, row: I64, value: U64, weight: F32 | None = None) -> None:
        """Add features of one kind: the same value in two kinds is two features."""
        self.rows.append(row)
        self.hashes.append(mix_hash(value ^ salt_hash(kind)))
        self.weights.append(np.ones(len(row), np.float32) if weight is None else weight)

    def add_magnitude(self, kind: str, row: I64, context: U64, size: NDArray[np.float64]) -> None:
        """Add positive numbers as shares of the two nearest buckets of magnitude, so that similar sizes share
        features."""
        scaled = np.log2(size) * BUCKETS
        low = np.floor(scaled)
        share = (scaled - low).astype(np.float32)
        bucket = context + (low.astype(np.int64) + 1000).astype(np.uint64)
        between = share > 0
        self.add(kind, row, bucket, 1 - share)
        self.add(kind, row[between], bucket[between] + np.uint64(1), share[between])

    def sorted(self, listings: int) -> FeatureBags:
        """All features, listing after listing; the order within a listing does not depend on the others."""
        row = np.concatenate(self.rows)
        order = np.argsort(row.astype(np.int16 if listings < 2**15 else np.int64), kind="stable")
        starts = np.concatenate((np.zeros(1, np.int64), np.cumsum(np.bincount(row, minlength=listings))))
        return FeatureBags(np.concatenate(self.hashes)[order], np.concatenate(self.weights)[order], starts)


@functools.cache
def salt_hash(kind: str) -> np.uint64:
    """The salt of the hashes of one kind of feature."""
    return np.uint64(int.from_bytes(hashlib.sha256(kind.encode()).digest()[:8], "little"))


def add_words(features: FeatureBuffer, words: TokenSpans, parts: TokenSpans, lines: LineSpans, group: U64) -> None:
    """Add words and pairs; words and parts of the title, also crossed with the group; words of a value with its key."""
    features.add("word", words.row, words.hash)
    first = np.flatnonzero(words.row[1:] == words.row[:-1])
    features.add("pair", words.row[first], mix_hash(words.hash[first]) + words.hash[first + 1])
    for name, tokens in (("title", words), ("part", parts)):
        titled = tokens.field == TITLE
        row, value = tokens.row[titled], tokens.hash[titled]
        features.add(name, row, value)
        features.add(f"{name} in group", row, group[row] + value)
    row, value = words.row[words.valued], words.hash[words.valued]
    key = lines.key[words.line[words.valued]]
    features.add("value", row, key + value)


def add_numbers(features: FeatureBuffer, text: TextBuffer, parts: TokenSpans, lines: LineSpans, group: U64) -> None:
    """Add the magnitude of each number with its key or the word before it, also crossed with the group, and its
    unit."""
    numbers = find_numbers(text, parts)
    first, last = numbers.first, numbers.last
    if not len(first):
        return
    row, line = parts.row[first], parts.line[first]
    after = np.minimum(last + 1, len(parts.start) - 1)
    gap, sign = parts.start[after] - parts.end[last], text.raw[parts.end[last]]
    with_unit = (after > last) & (text.kind[parts.start[after]] == LETTER)
    with_unit &= (gap == 0) | ((gap == 1) & ((sign == SPACE) | (sign == DASH) | (sign == QUOTE)))
    before = np.maximum(first - 1, 0)
    close = (first > 0) & (parts.row[before] == row) & (parts.start[first] - parts.end[before] <= 2)
    opens = np.concatenate(([True], line[1:] != line[:-1]))
    position = np.arange(len(first))
    order = np.minimum(position - np.maximum.accumulate(np.where(opens, position, 0)), 5).astype(np.uint64)
    word = mix_hash(np.where(close, parts.hash[before], np.uint64(0)))
    context = mix_hash(np.where(parts.valued[first], lines.key[line] + order, word))
    unit = mix_hash(parts.hash[after] + np.uint64(1))
    features.add("exact", row[with_unit], text.hash(parts.start[first], parts.end[last])[with_unit] + unit[with_unit])
    size = np.maximum(numbers.size, 2.0**-10)
    features.add_magnitude("after", row, context, size)
    features.add_magnitude("after in group", row, mix_hash(group[row] + context), size)
    features.add_magnitude("unit", row[with_unit], unit[with_unit], size[with_unit])


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

    def block(self, first: int) -> SparseRows:
        """`BLOCK` rows from the row `first` on, or as many as there are."""
        starts = self.starts[first : first + BLOCK + 1]
        own = slice(starts[0], starts[-1])
        return SparseRows(self.indices[own], self.weights[own], starts - starts[0])

    def csr(self, columns: int) -> Any:
        """The rows as a scipy matrix."""
        from scipy.sparse import csr_matrix

        dtype = np.int32 if len(self.indices) < 2**31 else np.int64
        return csr_matrix((self.weights, self.indices, self.starts.astype(dtype)), (len(self.starts) - 1, columns))


def hash_to_buckets(listings: Sequence[Listing]) -> SparseRows:
    """The features of a few listings, as rows of buckets."""
    bags = build_bags(listings)
    return SparseRows((bags.hashes >> np.uint64(64 - BITS)).astype(np.int32), bags.weights, bags.starts)


def gather_rows(listings: Iterable[Listing]) -> SparseRows:
    """The features of any number of listings, as rows of buckets."""
    return concatenate_rows(gather_parts(listings))


def gather_parts(listings: Iterable[Listing]) -> list[SparseRows]:
    """The features of any number of listings, as rows of buckets in parts of at most `CHUNK` rows."""
    return list(map_ahead(hash_to_buckets, chunks(listings)))


def concatenate_rows(parts: list[SparseRows]) -> SparseRows:
    """The rows of all parts. The list is emptied on the way, so that the rows are not held twice."""
    counts = np.concatenate([np.diff(part.starts) for part in parts])
    starts = np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))
    indices, weights = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.float32)
    end = len(weights)
    while parts:
        part = parts.pop()
        start = end - len(part.indices)
        indices[start:end], weights[start:end] = part.indices, part.weights
        end = start
    return SparseRows(indices, weights, starts)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The buckets that are used, and their weights: 1 + log(rows / occurrences)."""

    buckets: I32
    weights: F32
    columns: I32  # bucket -> column, -1 if it is not used

    @classmethod
    def from_rows(cls, rows: SparseRows, min_count: int, max_features: int) -> Vocabulary:
        """The buckets that occur `min_count` times or more, and the most frequent `max_features` of these."""
        return cls.from_parts([rows], min_count, max_features)

    @classmethod
    def from_parts(cls, parts: Sequence[SparseRows], min_count: int, max_features: int) -> Vocabulary:
        """`from_rows` of the rows of all parts."""
        counts = np.zeros(1 << BITS, np.int64)
        for part in parts:
            np.add.at(counts, part.indices, 1)
        n_rows = sum(len(part.starts) - 1 for part in parts)
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
        count = len(buckets.starts) - 1
        if count <= BLOCK:
            return self.rows_of_part(buckets)
        # A block at a time: what is computed on the way takes five times the memory of the rows.
        return concatenate_rows([self.rows_of_part(buckets.block(start)) for start in range(0, count, BLOCK)])

    def rows_of_parts(self, parts: list[SparseRows]) -> SparseRows:
        """`rows` of all parts. The list is emptied on the way, so that buckets and columns are not both held."""
        parts.reverse()
        columns = []
        while parts:
            columns.append(self.rows_of_part(parts.pop()))
        return concatenate_rows(columns)

    def rows_of_part(self, buckets: SparseRows) -> SparseRows:
        """`rows`, all at once."""
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
