"""Which rows share a band of their sketches, found for one block of rows after another.

    index = BandIndex(keys, rows, allocate)
    block = index.read_block(0, 1_000, lambda later, earlier: None)
    block.pairs(0, 1_000, keep)

For each band the index has the rows that share their key with another one, in the order of the keys, and for each row
where the first one of the same key stands there and how many of these come before it, up to `cap`. All arrays are
written and read from front to back, so they may be in files; one band is held in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pricesmith.core.progress import SILENT, Progress

Ints = NDArray[np.int64]
Allocate = Callable[[str, Any, tuple[int, ...]], Any]
PAIRS = 2_000_000  # pairs that are made at once


def allocate_memory(name: str, dtype: Any, shape: tuple[int, ...]) -> Any:
    """A new array in memory."""
    return np.empty(shape, dtype=dtype)


class Band(NamedTuple):
    """The rows that share a key of one band.

    `members` are the first rows of each key, key after key. `rows` are the rows that are not the first of their key, in
    ascending order, with the place in `members` of the first row of their key (`starts`) and the number of members that
    come before them (`counts`).
    """

    members: NDArray[np.uint32]
    rows: NDArray[np.uint32]
    starts: NDArray[np.uint32]
    counts: NDArray[np.uint8]


def list_band(keys: NDArray[np.uint32], rows: Ints, cap: int) -> Band:
    """The rows that share a key of one band; `keys` are those of `rows`, which ascend."""
    codes = keys.astype(np.uint64) << np.uint64(32)
    codes |= rows.astype(np.uint64)
    codes.sort()
    upper = (codes >> np.uint64(32)).astype(np.uint32)
    follows = np.r_[False, upper[1:] == upper[:-1]][: len(codes)]
    del upper
    shared = follows.copy()
    shared[:-1] |= follows[1:]
    numbers, follows = codes[shared].astype(np.uint32), follows[shared]
    del codes, shared
    begins = np.flatnonzero(~follows)
    sizes = np.diff(np.r_[begins, len(numbers)])
    place = np.arange(len(numbers)) - np.repeat(begins, sizes)
    heads = np.minimum(sizes, cap)  # members of each key
    starts = np.repeat((np.cumsum(heads) - heads).astype(np.uint32), sizes)[follows]
    counts = np.minimum(place[follows], cap).astype(np.uint8)
    later = numbers[follows]
    order = np.argsort(later)
    return Band(numbers[place < cap], later[order], starts[order], counts[order])


class BandIndex:
    """The rows that share a band, of all bands."""

    def __init__(
        self,
        keys: Any,
        rows: Ints,
        cap: int,
        allocate: Allocate = allocate_memory,
        progress: Progress = SILENT,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        """`keys` is (bands, all rows), `rows` are the rows to look at, in ascending order."""
        self.release = release
        self.bands: list[Band] = []
        for number in range(len(keys)):
            own = np.asarray(keys[number])
            band = list_band(own if len(rows) == len(own) else own[rows], rows, cap)
            stored = []
            for name, values in band._asdict().items():
                stored.append(allocate(f"{name}-{number}", values.dtype, values.shape))
                stored[-1][...] = values
            self.bands.append(Band(*stored))
            progress.advance()
            release()

    def read_block(self, start: int, stop: int, visit: Callable[[Ints, Ints], None]) -> BlockIndex:
        """The rows from `start` to `stop` that share a band with each other. `visit` gets the pairs (row of the block,
        row before it) that share a band, some of them several times."""
        block = BlockIndex(len(self.bands), start, stop)
        for number, band in enumerate(self.bands):
            low, high = np.searchsorted(band.rows, np.array([start, stop], dtype=np.uint32))
            rows, begins = np.asarray(band.rows[low:high]), band.starts[low:high].astype(np.int64)
            counts, members = band.counts[low:high].astype(np.int64), np.asarray(band.members)
            if start:
                places = count_before(members < start)
                outside = places[begins + counts].astype(np.int64) - places[begins]
                for later, which in expand(outside):
                    visit(rows[later].astype(np.int64), members[begins[later] + which].astype(np.int64))
                begins, counts = begins + outside, counts - outside
            inside = (members >= start) & (members < stop)
            block.add(number, rows - np.uint32(start), count_before(inside)[begins], counts, members[inside])
            self.release()
        block.join()
        return block


def count_before(chosen: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """How many are chosen before each place, and in all; (places + 1,)."""
    counts = np.zeros(len(chosen) + 1, dtype=np.uint32)
    np.cumsum(chosen, out=counts[1:])
    return counts


def expand(counts: Ints) -> Any:
    """For each entry the numbers 0, 1 ... below its count: pairs of arrays (entry, number), `PAIRS` or so at a time."""
    entries = np.flatnonzero(counts)
    ends = np.cumsum(counts[entries])
    low = 0
    while low < len(entries):
        done = int(ends[low - 1]) if low else 0
        high = max(low + 1, int(np.searchsorted(ends, done + PAIRS, side="right")))
        count = counts[entries[low:high]]
        total = int(ends[high - 1]) - done
        yield np.repeat(entries[low:high], count), np.arange(total) - np.repeat(np.cumsum(count) - count, count)
        low = high


class BlockIndex:
    """The rows of one block that share a band with an earlier row of it; rows are counted from the start of the block.

    `members` has the first rows of each key of each band, `starts` (bands, rows) where those of a row begin, and
    `counts` (bands, rows) how many of them come before it.
    """

    def __init__(self, bands: int, start: int, stop: int) -> None:
        self.start = start
        self.starts = np.zeros((bands, stop - start), dtype=np.uint32)
        self.counts = np.zeros((bands, stop - start), dtype=np.uint8)
        self.parts: list[NDArray[np.uint32]] = []
        self.size = 0
        self.members = np.empty(0, dtype=np.uint32)

    def add(self, band: int, rows: Any, begins: Any, counts: Any, members: Any) -> None:
        """Add one band: its rows, where their keys begin among `members` (rows of all blocks), and their counts."""
        self.starts[band, rows] = begins + np.uint32(self.size)
        self.counts[band, rows] = counts
        self.parts.append(members - np.uint32(self.start))
        self.size += len(members)

    def join(self) -> None:
        """Make the members of all bands one array."""
        self.members, self.parts = np.concatenate(self.parts), []

    def pairs(self, start: int, stop: int, keep: Callable[[Ints], NDArray[np.bool_]]) -> Ints:
        """The pairs (row, earlier row that shares a band) of the rows from `start` to `stop`, as one sorted number
        each: the row's in the upper 32 bits. Only earlier rows that `keep` says are looked at."""
        counts = self.counts[:, start:stop]
        band, place = np.nonzero(counts)
        count = counts[band, place].astype(np.int64)
        first = self.starts[band, start + place].astype(np.int64)
        inside = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
        earlier = self.members[np.repeat(first, count) + inside].astype(np.int64)
        later = np.repeat(start + place, count)
        is_kept = keep(earlier)
        return np.unique(later[is_kept] << 32 | earlier[is_kept])
