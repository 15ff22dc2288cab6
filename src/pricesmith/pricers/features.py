"""From listings to sparse features: words, word pairs, words under their key, numbers with their unit. No torch.

    Crucial CT16G52C42S5 16 GB     a title: its words and pairs, and the parts "ct", "16", "g", ... of its part numbers
    speed: 5,5200                  a line with a key: "5" and "5200" count apart from other keys' 5 and 5200
    modules: 1,16                  the second number of "modules" lies on its bucket of magnitude, 2^4

All of it is array work on one buffer of code points: a word is a run of one class of code points, its hash is a
difference of prefix sums, a pair is two hashes mixed. Nothing is looked up in a dictionary, so a listing costs
some 20 microseconds, and a word that was never seen simply has a hash that nobody knows.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pricesmith.types import Listing

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]
F32 = NDArray[np.float32]
Flags = NDArray[np.bool_]

KNOWN = 0x32000  # code points from here on are private or unassigned, never part of a word
BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64
OTHER, LETTER, DIGIT = 0, 1, 2
TITLE, TEXT, FIELDS = 0, 3, 4  # the fields of a listing in the buffer: title, category, brand, text
MAX_CHARS = 20_000  # of a field; what follows is not read
LONGEST_KEY = 40  # code points before the colon of a line
LONGEST_LINE = 80
CHUNK = 1024  # listings worked on at once
BUCKETS = 3  # of magnitude, for each doubling
NEWLINE, SPACE, QUOTE, COMMA, DASH, DOT, COLON = (ord(sign) for sign in '\n ",-.:')


@dataclass(frozen=True, slots=True)
class Bags:
    """Sparse rows: row `i` holds the feature hashes `hashes[starts[i]:starts[i + 1]]` with their `weights`."""

    hashes: U64
    weights: F32
    starts: I64


def bags(listings: Sequence[Listing]) -> Bags:
    """The features of each listing; a feature that occurs twice stands there twice."""
    parts = [bags_of_chunk(listings[start : start + CHUNK]) for start in range(0, len(listings), CHUNK)]
    if not parts:
        return Bags(np.zeros(0, np.uint64), np.zeros(0, np.float32), np.zeros(1, np.int64))
    counts = np.concatenate([np.diff(part.starts) for part in parts])
    return Bags(
        np.concatenate([part.hashes for part in parts]),
        np.concatenate([part.weights for part in parts]),
        np.concatenate((np.zeros(1, np.int64), np.cumsum(counts))),
    )


def bags_of_chunk(listings: Sequence[Listing]) -> Bags:
    """`bags`, with the arrays of all listings at once."""
    found = Found()
    text = read(listings)
    lines = lines_of(text)
    words = tokens(text, lines, (text.kind != OTHER).view(np.uint8))
    parts = tokens(text, lines, text.kind)
    group = groups(text, words)
    add_words(found, words, parts, lines, group)
    add_numbers(found, text, parts, lines, group)
    return found.sorted(len(listings))


@dataclass(slots=True)
class Found:
    """Features as they are found, kind after kind."""

    rows: list[I64] = field(default_factory=list)
    hashes: list[U64] = field(default_factory=list)
    weights: list[F32] = field(default_factory=list)

    def add(self, kind: str, row: I64, value: U64, weight: F32 | None = None) -> None:
        """Features of one kind: the same value in two kinds is two features."""
        self.rows.append(row)
        self.hashes.append(mix(value ^ salt(kind)))
        self.weights.append(np.ones(len(row), np.float32) if weight is None else weight)

    def add_magnitude(self, kind: str, row: I64, context: U64, size: NDArray[np.float64]) -> None:
        """Positive numbers as shares of the two buckets of magnitude they lie between, so that near sizes are near."""
        scaled = np.log2(size) * BUCKETS
        low = np.floor(scaled)
        share = (scaled - low).astype(np.float32)
        place = context + (low.astype(np.int64) + 1000).astype(np.uint64)
        between = share > 0
        self.add(kind, row, place, 1 - share)
        self.add(kind, row[between], place[between] + np.uint64(1), share[between])

    def sorted(self, listings: int) -> Bags:
        """All features, listing after listing; the order within one does not depend on its neighbours."""
        row = np.concatenate(self.rows)
        order = np.argsort(row.astype(np.int16 if listings < 2**15 else np.int64), kind="stable")
        starts = np.concatenate((np.zeros(1, np.int64), np.cumsum(np.bincount(row, minlength=listings))))
        return Bags(np.concatenate(self.hashes)[order], np.concatenate(self.weights)[order], starts)


@functools.cache
def classes() -> NDArray[np.uint8]:
    """The class of every code point: part of a word as `\\w` has it, with 0-9 apart."""
    table = np.fromiter((chr(point).isalnum() for point in range(KNOWN)), np.uint8, KNOWN)
    table[ord("_")] = LETTER
    table[ord("0") : ord("9") + 1] = DIGIT
    return table


@functools.cache
def points() -> U64:
    """A number for every code point, as if drawn at random."""
    return mix(np.arange(1, KNOWN + 1, dtype=np.uint64) * np.uint64(BASE))


@functools.lru_cache(maxsize=4)
def powers(length: int) -> tuple[U64, U64]:
    """BASE^0 .. BASE^(length-1) modulo 2^64, and their inverses."""
    up, down = (np.full(length, base, dtype=np.uint64) for base in (BASE, pow(BASE, -1, 2**64)))
    up[0] = down[0] = 1
    return np.multiply.accumulate(up), np.multiply.accumulate(down)


@functools.cache
def salt(kind: str) -> np.uint64:
    """What sets the features of one kind apart from the others."""
    return np.uint64(int.from_bytes(hashlib.sha256(kind.encode()).digest()[:8], "little"))


def mix(values: U64) -> U64:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014): every bit of the answer hangs on all of the input."""
    values = values ^ (values >> np.uint64(30))
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


@dataclass(frozen=True, slots=True)
class Text:
    """Listings as one buffer of code points, in lower case, each field ended by a newline."""

    raw: NDArray[np.uint32]
    kind: NDArray[np.uint8]  # class of each code point
    sums: U64  # sums[i]: of points()[code] x BASE^place, over the first i places
    down: U64  # BASE^-place
    fields: I64  # where each field starts, FIELDS to a listing, and the end

    def hash(self, start: I64, end: I64) -> U64:
        """Hashes of the stretches from `start` to `end`: the same wherever in a buffer they stand."""
        return mix((self.sums[end] - self.sums[start]) * self.down[start])


def read(listings: Sequence[Listing]) -> Text:
    """The buffer. The title is not repeated where the text opens with it, as `render` has it."""
    fields: list[str] = []
    for ware in listings:
        text = ware.text[: MAX_CHARS + len(ware.title)]
        if ware.title and text.startswith(ware.title):
            text = text[len(ware.title) :]
        fields += [part[:MAX_CHARS].lower() for part in (ware.title, ware.category, ware.brand, text)]
    starts = np.zeros(len(fields) + 1, dtype=np.int64)
    np.cumsum([len(part) + 1 for part in fields], out=starts[1:])
    raw = np.frombuffer(("\n".join(fields) + "\n").encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    known = np.minimum(raw, KNOWN - 1)
    up, down = powers(1 << len(raw).bit_length())
    sums = np.zeros(len(raw) + 1, dtype=np.uint64)
    np.cumsum(points()[known] * up[: len(raw)], out=sums[1:])
    return Text(raw, classes()[known], sums, down, starts)


@dataclass(frozen=True, slots=True)
class Lines:
    """The lines of a buffer; one that opens with "key:" has the key's end and hash, another its start and 0."""

    start: I64
    end: I64
    keyed: Flags
    key_end: I64
    key: U64
    field: I64


def lines_of(text: Text) -> Lines:
    """The lines, and their keys."""
    end = np.flatnonzero(text.raw == NEWLINE)
    start = np.concatenate((np.zeros(1, dtype=np.int64), end[:-1] + 1))
    colons = np.append(np.flatnonzero(text.raw == COLON), len(text.raw))
    colon = colons[np.searchsorted(colons, start)]
    keyed = (colon < end) & (colon - start <= LONGEST_KEY)
    key_end = np.where(keyed, colon, start)
    key = np.where(keyed, text.hash(start, key_end), np.uint64(0))
    return Lines(start, end, keyed, key_end, key, np.searchsorted(text.fields, start, side="right") - 1)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Words, or the parts of words that are all letters or all digits, in the order of the buffer."""

    start: I64
    end: I64
    hash: U64
    line: I64
    row: I64  # the listing
    field: I64  # TITLE .. TEXT
    valued: Flags  # it stands in a value: in the text, after the key of its line


def tokens(text: Text, lines: Lines, kind: NDArray[np.uint8]) -> Tokens:
    """The runs of one class."""
    edge = np.flatnonzero(kind[1:] != kind[:-1]) + 1
    start = np.concatenate((np.zeros(1, dtype=np.int64), edge))
    inside = kind[start] != OTHER
    start, end = start[inside], edge[inside[:-1]]  # the buffer ends with a newline, so the last run is outside
    line = np.searchsorted(lines.end, start)
    place = lines.field[line]
    valued = lines.keyed[line] & (start > lines.key_end[line]) & (place % FIELDS == TEXT)
    return Tokens(start, end, text.hash(start, end), line, place // FIELDS, place % FIELDS, valued)


def groups(text: Text, words: Tokens) -> U64:
    """What a listing is one of: its category, else its brand, else the first word of its title."""
    titled = np.flatnonzero(words.field == TITLE)
    group = np.zeros(len(text.fields) // FIELDS, dtype=np.uint64)
    group[words.row[titled][::-1]] = words.hash[titled][::-1]
    for place in (2, 1):  # brand, then category
        start, end = text.fields[place:-1:FIELDS], text.fields[place + 1 :: FIELDS] - 1
        group = np.where(end > start, text.hash(start, end), group)
    return mix(group)


def add_words(found: Found, words: Tokens, parts: Tokens, lines: Lines, group: U64) -> None:
    """Words and pairs anywhere, words and parts of the title, also within the group, and words of a value under its key."""
    found.add("word", words.row, words.hash)
    first = np.flatnonzero(words.row[1:] == words.row[:-1])
    found.add("pair", words.row[first], mix(words.hash[first]) + words.hash[first + 1])
    for name, some in (("title", words), ("part", parts)):
        titled = some.field == TITLE
        row, value = some.row[titled], some.hash[titled]
        found.add(name, row, value)
        found.add(f"{name} in group", row, group[row] + value)
    row, value = words.row[words.valued], words.hash[words.valued]
    key = lines.key[words.line[words.valued]]
    found.add("value", row, key + value)
    found.add("value in group", row, mix(group[row] + key) + value)


def add_lines(found: Found, text: Text, lines: Lines) -> None:
    """A short line with a key, as a whole."""
    short = lines.keyed & (lines.end - lines.start < LONGEST_LINE) & (lines.field % FIELDS == TEXT)
    found.add("line", lines.field[short] // FIELDS, text.hash(lines.start[short], lines.end[short]))


@dataclass(frozen=True, slots=True)
class Numbers:
    """Numbers as written: "1.2" and "1,000" are one; with the places among the parts of their first and last digits."""

    size: NDArray[np.float64]
    first: I64
    last: I64


def numbers_of(text: Text, parts: Tokens) -> Numbers:
    """The numbers of a buffer."""
    digits = np.flatnonzero(text.kind[parts.start] == DIGIT)
    start, length = parts.start[digits], np.minimum(parts.end[digits] - parts.start[digits], 15)
    size = np.zeros(len(digits))
    for place in range(int(length.max(initial=0))):
        more = place < length
        size[more] = size[more] * 10 + (text.raw[start[more] + place] - 48.0)
    touching = np.zeros(len(digits), dtype=bool)  # one sign stands between this run of digits and the one before
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
    return Numbers(size[own], digits[own], last[own])


def add_numbers(found: Found, text: Text, parts: Tokens, lines: Lines, group: U64) -> None:
    """The magnitude of each number after its key or the word before it, and with its unit; each also within the group."""
    numbers = numbers_of(text, parts)
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
    place = np.arange(len(first))
    order = np.minimum(place - np.maximum.accumulate(np.where(opens, place, 0)), 5).astype(np.uint64)
    word = mix(np.where(close, parts.hash[before], np.uint64(0)))
    context = mix(np.where(parts.valued[first], lines.key[line] + order, word))
    unit = mix(parts.hash[after] + np.uint64(1))
    found.add("exact", row[with_unit], text.hash(parts.start[first], parts.end[last])[with_unit] + unit[with_unit])
    size = np.maximum(numbers.size, 2.0**-10)
    for kind, some, here in (("after", slice(None), context), ("unit", with_unit, unit)):
        found.add_magnitude(kind, row[some], here[some], size[some])
        found.add_magnitude(f"{kind} in group", row[some], mix(group[row] + here)[some], size[some])
