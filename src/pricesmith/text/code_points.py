"""Texts as arrays of code points: which are part of words, and hashes of spans of them.

    raw = code_points(["red rope", "hose"])      # "red rope\nhose\n", 14 code points
    classes(raw) != OTHER                        # where the words are
    sums, down = prefix_hashes(raw)
    hash_spans(sums, down, start, end)           # the same wherever a word stands

A word is what `split_words` finds in a text that `segment_text` has put into lower case. Everything is array work.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pricesmith.text.words import text_patterns

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]
Points = NDArray[np.uint32]
Classes = NDArray[np.uint8]

ASCII = 128
KNOWN = 0x34000  # code points from here on are private or unassigned (Unicode 17), never part of a word
BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64
OTHER, LETTER, DIGIT = 0, 1, 2
SPECIAL = 4  # added to the class of a code point for which a text has to be segmented first


@functools.cache
def character_classes() -> Classes:
    """The class of every code point: LETTER if `split_words` makes it part of a word, DIGIT for 0-9, else OTHER."""
    characters = "".join(map(chr, range(KNOWN)))
    table = np.fromiter(map(str.isalnum, characters), np.uint8, KNOWN)
    patterns = text_patterns()
    table[[match.start() for match in patterns.mark.finditer(characters)]] = LETTER
    table[[match.start() for match in patterns.special.finditer(characters)]] += SPECIAL
    table[ord("_")] = LETTER
    table[ord("0") : ord("9") + 1] = DIGIT
    table[-1] = OTHER  # it stands for all code points from `KNOWN` on
    return table


@functools.cache
def ascii_classes() -> Classes:
    """The first `ASCII` entries of `character_classes`."""
    characters = [chr(point) for point in range(ASCII)]
    classes = [DIGIT if c.isdigit() else LETTER if c.isalnum() or c == "_" else OTHER for c in characters]
    return np.array(classes, np.uint8)


def classes(raw: Points) -> Classes:
    """The class of each code point; `SPECIAL` is added to those of a text that has to be segmented first."""
    # The table of all code points takes a quarter of a second, which plain text need not wait for.
    if raw.max(initial=0) < ASCII:
        return ascii_classes()[raw]
    return character_classes()[np.minimum(raw, KNOWN - 1)]


@functools.cache
def point_hashes() -> U64:
    """A pseudorandom number for every code point."""
    return mix_hash(np.arange(1, KNOWN + 1, dtype=np.uint64) * np.uint64(BASE))


@functools.lru_cache(maxsize=4)
def hash_powers(length: int) -> tuple[U64, U64]:
    """BASE^0 .. BASE^(length-1) modulo 2^64, and their inverses."""
    up, down = (np.full(length, base, dtype=np.uint64) for base in (BASE, pow(BASE, -1, 2**64)))
    up[0] = down[0] = 1
    return np.multiply.accumulate(up), np.multiply.accumulate(down)


def mix_hash(values: U64) -> U64:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014): every bit of the output depends on the whole input."""
    values = values ^ (values >> np.uint64(30))
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def code_points(fields: Sequence[str]) -> Points:
    """The code points of fields, each ended by a newline."""
    return np.frombuffer(("\n".join(fields) + "\n").encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def field_starts(fields: Sequence[str]) -> I64:
    """Where each field starts among `code_points`, and the end [fields + 1]."""
    starts = np.zeros(len(fields) + 1, dtype=np.int64)
    np.cumsum([len(part) + 1 for part in fields], out=starts[1:])
    return starts


def prefix_hashes(raw: Points) -> tuple[U64, U64]:
    """sums[i]: of the hash of each code point x BASE^position, over the first i positions; and BASE^-position."""
    up, down = hash_powers(1 << len(raw).bit_length())
    sums = np.zeros(len(raw) + 1, dtype=np.uint64)
    np.cumsum(point_hashes()[np.minimum(raw, KNOWN - 1)] * up[: len(raw)], out=sums[1:])
    return sums, down


def hash_spans(sums: U64, down: U64, start: I64, end: I64) -> U64:
    """Hashes of the spans from `start` to `end`, independent of their position in the buffer."""
    return mix_hash((sums[end] - sums[start]) * down[start])


def find_runs(kind: Classes) -> tuple[I64, I64]:
    """The starts and ends of the runs of one class but OTHER, which the last code point has."""
    edge = np.flatnonzero(kind[1:] != kind[:-1]) + 1
    start = np.concatenate((np.zeros(1, dtype=np.int64), edge))
    inside = kind[start] != OTHER
    return start[inside], edge[inside[:-1]]
