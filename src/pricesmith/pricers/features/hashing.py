"""The features of a listing, as hashes with weights: words, pairs, words under their key, numbers with their unit.

    build_bags([Listing("1", "Rope 12 m", "Color: blue")])    word rope, pair (rope, 12), 12 m: its bucket of magnitude,
    ...

A word that no training listing has gets a hash that is not in the vocabulary.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pricesmith.core.types import Listing
from pricesmith.pricers.features.tokenizer import (
    DASH,
    I64,
    LETTER,
    MAX_CHARS,
    OTHER,
    QUOTE,
    SPACE,
    TITLE,
    U64,
    LineSpans,
    TextBuffer,
    TokenSpans,
    find_lines,
    find_numbers,
    find_tokens,
    group_hashes,
    mix_hash,
    read_texts,
)

F32 = NDArray[np.float32]
CHUNK = 1024  # listings processed at once
CHUNK_CHARS = 1 << 19
BUCKETS = 3  # of magnitude, for each doubling


@dataclass(frozen=True, slots=True)
class FeatureBags:
    """Sparse rows: row `i` holds the feature hashes `hashes[starts[i]:starts[i + 1]]` with their `weights`."""

    hashes: U64
    weights: F32
    starts: I64


def chunks(listings: Sequence[Listing]) -> Iterator[Sequence[Listing]]:
    """Split listings, in order, into parts whose arrays stay small; features do not depend on the split."""
    start, chars = 0, 0
    for index, listing in enumerate(listings):
        length = min(len(listing.text), MAX_CHARS) + min(len(listing.title), MAX_CHARS)
        if index - start == CHUNK or (index > start and chars + length > CHUNK_CHARS):
            yield listings[start:index]
            start, chars = index, 0
        chars += length
    yield listings[start:]


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
