"""Tokenizer: listings as one buffer of code points, and the words, numbers and keyed lines in it.

    crucial ct16g52c42s5 16 gb⏎ memory⏎ ⏎ speed: 5,5200⏎ ...    title, category, brand, text: a newline ends each

Everything is array work: a word is a run of one class of code points, and its hash a difference of prefix sums. No
dictionary is used, so that a listing takes about ten microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pricesmith.core.types import Listing, text_without_repeats
from pricesmith.text.code_points import (
    DIGIT,
    I64,
    SPECIAL,
    U64,
    classes,
    code_points,
    field_starts,
    find_runs,
    hash_spans,
    mix_hash,
    prefix_hashes,
)
from pricesmith.text.words import segment_text

F64 = NDArray[np.float64]
Flags = NDArray[np.bool_]

TITLE, TEXT, FIELDS = 0, 3, 4  # the fields of a listing in the buffer: title, category, brand, text
MAX_CHARS = 20_000  # of a field; the rest is ignored
LONGEST_KEY = 40  # code points before the colon of a line
NEWLINE, SPACE, QUOTE, COMMA, DASH, DOT, COLON = (ord(character) for character in '\n ",-.:')


@dataclass(frozen=True, slots=True)
class TextBuffer:
    """Listings as one buffer of code points, in lower case, their words separated, each field ended by a newline."""

    raw: NDArray[np.uint32]
    kind: NDArray[np.uint8]  # class of each code point
    sums: U64  # sums[i]: of point_hashes()[code] x BASE^position, over the first i positions
    down: U64  # BASE^-position
    fields: I64  # where each field starts, FIELDS to a listing, and the end

    def hash(self, start: I64, end: I64) -> U64:
        """Hashes of the spans from `start` to `end`, independent of their position in the buffer."""
        return hash_spans(self.sums, self.down, start, end)


def read_texts(listings: Sequence[Listing]) -> TextBuffer:
    """The buffer of listings. Repeated lines are dropped, as in `render`."""
    fields: list[str] = []
    for listing in listings:
        text = text_without_repeats(listing)
        parts = (listing.title, listing.category, listing.brand, text)
        fields += [part[:MAX_CHARS].lower() for part in parts]
    raw = code_points(fields)
    kind = classes(raw)
    if kind.max(initial=0) >= SPECIAL:
        fields = [segment_text(part) for part in fields]
        raw = code_points(fields)
        kind = classes(raw) & np.uint8(SPECIAL - 1)
    return TextBuffer(raw, kind, *prefix_hashes(raw), field_starts(fields))


@dataclass(frozen=True, slots=True)
class LineSpans:
    """The lines of a buffer. A line that begins with "key:" has the key's end and hash, others their start and 0."""

    start: I64
    end: I64
    keyed: Flags
    key_end: I64
    key: U64
    field: I64


def find_lines(text: TextBuffer) -> LineSpans:
    """The lines, and their keys."""
    end = np.flatnonzero(text.raw == NEWLINE)
    start = np.concatenate((np.zeros(1, dtype=np.int64), end[:-1] + 1))
    colons = np.append(np.flatnonzero(text.raw == COLON), len(text.raw))
    colon = colons[np.searchsorted(colons, start)]
    keyed = (colon < end) & (colon - start <= LONGEST_KEY)
    key_end = np.where(keyed, colon, start)
    key = np.where(keyed, text.hash(start, key_end), np.uint64(0))
    return LineSpans(start, end, keyed, key_end, key, np.searchsorted(text.fields, start, side="right") - 1)


@dataclass(frozen=True, slots=True)
class TokenSpans:
    """Words, or the parts of words that are all letters or all digits, in the order of the buffer."""

    start: I64
    end: I64
    hash: U64
    line: I64
    row: I64  # index of the listing
    field: I64  # TITLE .. TEXT
    valued: Flags  # part of a value: in the text, after the key of its line


def find_tokens(text: TextBuffer, lines: LineSpans, kind: NDArray[np.uint8]) -> TokenSpans:
    """The runs of code points of one class."""
    start, end = find_runs(kind)  # the buffer ends with a newline, so the last run is outside
    line = np.searchsorted(lines.end, start)
    field = lines.field[line]
    valued = lines.keyed[line] & (start > lines.key_end[line]) & (field % FIELDS == TEXT)
    return TokenSpans(start, end, text.hash(start, end), line, field // FIELDS, field % FIELDS, valued)


def group_hashes(text: TextBuffer, words: TokenSpans) -> U64:
    """The hash of each listing's group: its category, else its brand, else the first word of its title."""
    titled = np.flatnonzero(words.field == TITLE)
    group = np.zeros(len(text.fields) // FIELDS, dtype=np.uint64)
    group[words.row[titled][::-1]] = words.hash[titled][::-1]
    for field in (2, 1):  # brand, then category
        start, end = text.fields[field:-1:FIELDS], text.fields[field + 1 :: FIELDS] - 1
        group = np.where(end > start, text.hash(start, end), group)
    return mix_hash(group)


@dataclass(frozen=True, slots=True)
class NumberTokens:
    """Numbers as written ("1.2" and "1,000" are one number), with the indices of their first and last parts."""

    size: NDArray[np.float64]
    first: I64
    last: I64


def find_numbers(text: TextBuffer, parts: TokenSpans) -> NumberTokens:
    """The numbers of a buffer."""
    digits = np.flatnonzero(text.kind[parts.start] == DIGIT)
    start, length = parts.start[digits], np.minimum(parts.end[digits] - parts.start[digits], 15)
    size = np.zeros(len(digits))
    for digit in range(int(length.max(initial=0))):
        more = digit < length
        size[more] = size[more] * 10 + (text.raw[start[more] + digit] - 48.0)
    touching = np.zeros(len(digits), dtype=bool)  # one character is between this run of digits and the one before
    touching[1:] = start[1:] == parts.end[digits][:-1] + 1
    sign = np.where(start > 0, text.raw[np.maximum(start - 1, 0)], 0)
    decimal = touching & (sign == DOT)
    grouped = touching & (sign == COMMA) & (length == 3)
    grouped[1:] &= (length[:-1] <= 3) & (size[:-1] > 0)
    last = digits.copy()
    for joined, scale in ((grouped, 1000.0), (decimal, 0.0)):
        joined[1:] &= ~joined[:-1]
        here = np.flatnonzero(joined)
        last[here - 1] = digits[here]
        if scale:
            size[here - 1] = size[here - 1] * scale + size[here]
        else:
            size[here - 1] += size[here] / 10.0 ** length[here]
    own = ~(grouped | decimal)
    return NumberTokens(size[own], digits[own], last[own])
