"""The sketches of all kept rows in the order of their content hashes, in memory or, if they are many, in a file.

    with sort_sketches(staged.sketches(), rows, folder) as sketches:
        sketches[:1_000]  # (1000, 128)

Each shard is read once, and its rows are sorted into ranges of the order; then each range is sorted in memory. So every
byte is read and written twice, from front to back, however many rows there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedRandom
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricesmith.catalog.mapped_arrays import reserve

MOST_IN_MEMORY = 500_000  # rows
RANGE = 250_000  # rows that are sorted in memory at once
WIDTH = 128
BYTES = WIDTH * 2
NOWHERE = np.uint32(0xFFFFFFFF)


class SketchFile:
    """Sketches in a file, (rows, 128); a slice of them is read from the file."""

    def __init__(self, file: BufferedRandom, rows: int) -> None:
        self.file, self.rows = file, rows

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, here: slice) -> NDArray[np.uint16]:
        start, stop, _ = here.indices(self.rows)
        self.file.seek(start * BYTES)
        values = np.fromfile(self.file, dtype=np.uint16, count=max(0, stop - start) * WIDTH)
        return values.reshape(-1, WIDTH)

    def write(self, start: int, values: NDArray[np.uint16]) -> None:
        """Write sketches from a row on."""
        self.file.seek(start * BYTES)
        self.file.write(values.data)


@contextmanager
def sort_sketches(paths: Sequence[Path], rows: NDArray[np.int64], folder: Path) -> Iterator[Any]:
    """The sketches of `rows`, in this order; a row's number is its place in the files `paths` together.

    A file in `folder` has no name any more once it is written. Raises OSError if the disk has no room for it.
    """
    counts = [path.stat().st_size // BYTES for path in paths]
    place = np.full(sum(counts), NOWHERE, dtype=np.uint32)
    place[rows] = np.arange(len(rows), dtype=np.uint32)
    if len(rows) <= MOST_IN_MEMORY:
        sketches = np.empty((len(rows), WIDTH), dtype=np.uint16)
        for target, values in read_shards(paths, counts, place):
            sketches[target] = values
        yield sketches
        return
    path = folder / "sketches.bin"
    try:
        with path.open("w+b") as file:
            reserve(file.fileno(), len(rows) * BYTES)
            path.unlink()
            whole = SketchFile(file, len(rows))
            sort_file(whole, read_shards(paths, counts, place))
            yield whole
    finally:
        path.unlink(missing_ok=True)


def read_shards(
    paths: Sequence[Path], counts: Sequence[int], place: NDArray[np.uint32]
) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.uint16]]]:
    """The sketches of each file that have a place, and these places."""
    start = 0
    for path, count in zip(paths, counts, strict=True):
        own = place[start : start + count]
        chosen = own != NOWHERE
        values = np.fromfile(path, dtype=np.uint16).reshape(-1, WIDTH)
        yield (own, values) if chosen.all() else (own[chosen], values[chosen])
        start += count


def sort_file(sketches: SketchFile, shards: Iterator[tuple[NDArray[np.uint32], NDArray[np.uint16]]]) -> None:
    """Write all sketches at their places."""
    edges = np.arange(0, len(sketches), RANGE)
    filled = edges.copy()  # where each range is written next
    held = np.empty(len(sketches), dtype=np.uint32)  # the place that what is written there belongs to
    for target, values in shards:
        order = np.argsort(target)
        target, values = target[order], values[order]
        bounds = np.r_[np.searchsorted(target, edges.astype(np.uint32)), len(target)]
        for number, (low, high) in enumerate(pairwise(bounds.tolist())):
            start = int(filled[number])
            sketches.write(start, values[low:high])
            held[start : start + high - low] = target[low:high]
            filled[number] += high - low
    for start in range(0, len(sketches), RANGE):
        values = sketches[start : start + RANGE]
        sorted_values = np.empty_like(values)
        sorted_values[held[start : start + RANGE] - np.uint32(start)] = values
        sketches.write(start, sorted_values)
