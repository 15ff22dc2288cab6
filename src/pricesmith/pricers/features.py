"""From listings to sparse features: words, word pairs, key-and-value pairs, numbers with their units. No torch.

    title     Crucial CT16G52C42S5 16 GB
    text      speed: 5,5200        -> speed|5 speed|5200, and the magnitude of the second number of "speed"
              modules: 1,16        -> 16 stands near 2^4 of the second number of "modules"

Everything is array work over one buffer of code points: a word is a run of one class of code points, its hash a
difference of prefix sums, a pair two hashes mixed. One listing costs about 15 microseconds.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pricesmith.types import Listing

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]
F32 = NDArray[np.float32]

KNOWN = 0x32000  # code points from here on are private or unassigned: never part of a word
BASE = 0x9E3779B97F4A7C15
OTHER, LETTER, DIGIT = 0, 1, 2
CHUNK = 1 << 20  # code points worked on at once
BUCKETS_PER_DOUBLING = 2

WORD, PAIR, TITLE, VALUE, LINE, PART, UNIT, COUNT, CROSS, NUMBER = (
    np.uint64(0x8F5C_28F5_C28F_5C29 * (kind + 3) & (2**64 - 1)) for kind in range(10)
)


@dataclass(frozen=True, slots=True)
class Bag:
    """Sparse rows: row `i` holds `hashes[starts[i]:starts[i + 1]]`, each once, with its `weights`."""

    hashes: U64
    weights: F32
    starts: I64


@functools.cache
def classes() -> NDArray[np.uint8]:
    """The class of every code point: part of a word as `\\w` has it, with 0-9 apart."""
    table = np.fromiter((chr(point).isalnum() for point in range(KNOWN)), np.uint8, KNOWN)
    table[ord("_")] = LETTER
    table[ord("0") : ord("9") + 1] = DIGIT
    return table


def mix(values: U64) -> U64:
    """The finaliser of splitmix64: every bit of the answer hangs on every bit of the input."""
    values = values ^ (values >> np.uint64(30))
    values = values * np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


@functools.cache
def points() -> U64:
    """A random-looking number for every code point."""
    return mix(np.arange(1, KNOWN + 1, dtype=np.uint64) * np.uint64(BASE))


@functools.cache
def powers(length: int) -> tuple[U64, U64]:
    """BASE^0 .. BASE^(length-1) modulo 2^64, and their inverses."""
    with np.errstate(over="ignore"):
        up, down = (np.full(length, base, dtype=np.uint64) for base in (BASE, pow(BASE, -1, 2**64)))
        up[0] = down[0] = 1
        return np.multiply.accumulate(up), np.multiply.accumulate(down)
