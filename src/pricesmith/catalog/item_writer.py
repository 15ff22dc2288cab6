"""items.parquet: the kept rows in the order of their content hashes, the same bytes in whatever order they were read.

Each shard is read once. If the texts are more than memory is to hold, they are sorted into ranges of the order, a file
for each in the folder; then each range is read and sorted. So every text is written and read once, from front to
back, however many there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pricesmith.catalog.catalog import ITEMS, SPLITS
from pricesmith.catalog.dates import NO_DAY
from pricesmith.catalog.shards import STAGED, StagedFeeds
from pricesmith.core.progress import Progress

if TYPE_CHECKING:
    import duckdb

    from pricesmith.catalog.finalize import Finalized

GROUP = 10_000  # rows of one row group of items.parquet
RANGE = 10 * GROUP  # rows of one range of the order, or more if there would be more than MOST_RANGES
MOST_RANGES = 200  # each is a file that is open: macOS allows a process 256
MOST_BYTES = 50_000_000  # of texts that are sorted at once
NOWHERE = np.uint32(0xFFFFFFFF)
TEXTS = ["title", "text", "category", "brand", "origin"]
PLACE = "place"  # the column with the place of a row among all items


def write_items(
    base: duckdb.DuckDBPyConnection,
    folder: Path,
    staged: StagedFeeds,
    finalized: Finalized,
    mask: NDArray[np.bool_],
    sources: list[str],
    currency: str,
    progress: Progress,
) -> None:
    """Write items.parquet and, meanwhile, other files in `folder`: the kept rows of `mask` in order of content hash."""
    import pyarrow.parquet as pq

    ranks = np.flatnonzero(mask)
    progress.start("writing the items", len(ranks))
    place = np.full(staged.count, NOWHERE, dtype=np.uint32)
    place[finalized.rows[ranks]] = np.arange(len(ranks), dtype=np.uint32)
    dated = bool(len(ranks)) and int(finalized.days[0]) != NO_DAY
    schema = item_schema(dated)
    options: dict[str, Any] = {"compression": "zstd", "compression_level": 3, "write_page_checksum": True}
    with TextRanges(folder, len(ranks)) as texts, pq.ParquetWriter(folder / ITEMS, schema, **options) as out:
        start = 0
        for shard in staged.ordered():
            texts.add_file(shard.folder / STAGED, place[start : start + shard.staged])
            start += shard.staged
        del place
        done = 0
        for table in texts.read():
            here = ranks[done : done + table.num_rows]
            items = describe_rows(base, finalized, here, table, sources, currency).select(schema.names).cast(schema)
            for first in range(0, table.num_rows, GROUP):
                out.write_table(items.slice(first, GROUP), row_group_size=GROUP)
                progress.advance(min(GROUP, table.num_rows - first))
            done += table.num_rows


def item_schema(dated: bool) -> Any:
    """The columns of items.parquet."""
    import pyarrow as pa

    names = ["id", "title", "text", "category", "brand", "price", "currency", "group", "split", "source"]
    return pa.schema([(name, pa.float64() if name == "price" else pa.string()) for name in names + ["date"] * dated])


def describe_rows(
    base: duckdb.DuckDBPyConnection,
    finalized: Finalized,
    ranks: NDArray[np.int64],
    texts: Any,
    sources: list[str],
    currency: str,
) -> Any:
    """A table with all columns of the items of ascending `ranks`, whose texts are given."""
    import pyarrow as pa
    import pyarrow.compute as pc

    first, last = int(ranks[0]), int(ranks[-1])
    rows = base.execute(
        "SELECT id, price, source, day FROM kept WHERE rank BETWEEN ? AND ? ORDER BY rank", [first, last]
    ).to_arrow_reader(len(ranks))
    known = rows.read_all().take(pa.array(ranks - first)).combine_chunks()
    names = pa.array(sources, pa.string()).take(known["source"])
    origin = texts["origin"]
    columns = {name: texts[name] for name in TEXTS} | {"id": known["id"], "price": known["price"]}
    columns |= {
        "currency": pa.array([currency], pa.string()).take(pa.array(np.zeros(len(ranks), dtype=np.int8))),
        "group": format_hashes(finalized.groups[ranks]),
        "split": pa.array(list(SPLITS), pa.string()).take(pa.array(finalized.splits[ranks])),
        "source": pc.if_else(pc.fill_null(pc.not_equal(origin, ""), False), origin, names),
        "date": known["day"].cast(pa.date32()).cast(pa.string()),
    }
    return pa.table(columns)


def format_hashes(hashes: NDArray[np.uint64]) -> Any:
    """Each as 16 hexadecimal digits, in an array of pyarrow."""
    import pyarrow as pa

    digits = hashes.astype(">u8").tobytes().hex().encode()
    ends = np.arange(len(hashes) + 1, dtype=np.int32) * 16
    return pa.StringArray.from_buffers(len(hashes), pa.py_buffer(ends), pa.py_buffer(digits))


class TextRanges:
    """The texts of rows, which come in any order, read in the order of their places.

    Those of one range (`RANGE` places) are in a file of record batches, unless all together are small.
    """

    def __init__(self, folder: Path, rows: int) -> None:
        self.folder, self.rows = folder, rows
        self.waiting: list[Any] = []
        self.held = 0
        self.files: list[Any] = []
        self.range = max(RANGE, -(-rows // (MOST_RANGES * GROUP)) * GROUP)  # its rows, whole row groups
        self.sizes: NDArray[np.int64] = np.zeros(-(-rows // self.range), dtype=np.int64)  # bytes of each range

    def __enter__(self) -> TextRanges:
        self.stack = ExitStack()
        return self

    def __exit__(self, *error: object) -> None:
        self.stack.close()
        for path in self.folder.glob("texts-*.arrow"):
            path.unlink()

    def add_file(self, path: Path, place: NDArray[np.uint32]) -> None:
        """Add the rows of a staged file that have a place."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            start = 0
            for batch in file.iter_batches(8_000, columns=TEXTS):
                own = place[start : start + batch.num_rows]
                start += batch.num_rows
                table = pa.Table.from_batches([batch]).append_column(PLACE, pa.array(own))
                table = table if (chosen := own != NOWHERE).all() else table.filter(pa.array(chosen))
                self.waiting.append(table)
                self.held += table.nbytes
                if self.held > MOST_BYTES:
                    self.flush()

    def flush(self) -> None:
        """Write the rows that wait into the files of their ranges."""
        import pyarrow as pa

        if not self.files:
            schema, options = self.waiting[0].schema, pa.ipc.IpcWriteOptions(compression="lz4")
            for number in range(len(self.sizes)):
                writer = pa.ipc.new_stream(str(self.folder / f"texts-{number}.arrow"), schema, options=options)
                self.files.append(self.stack.enter_context(writer))
        table = sort_rows(self.waiting)
        self.waiting, self.held = [], 0
        bounds = np.searchsorted(table[PLACE].to_numpy(), np.arange(len(self.files) + 1) * self.range)
        for number in np.flatnonzero(np.diff(bounds)).tolist():
            own = table.slice(bounds[number], bounds[number + 1] - bounds[number])
            self.files[number].write_table(own)
            self.sizes[number] += own.nbytes

    def read(self) -> Iterator[Any]:
        """Tables of all rows in order, each of whole row groups of the items but for the last."""
        if not self.files:
            if self.waiting:
                yield sort_rows(self.waiting)
            return
        if self.waiting:
            self.flush()
        self.stack.close()
        for number, size in enumerate(self.sizes.tolist()):
            path = self.folder / f"texts-{number}.arrow"
            start, stop = number * self.range, min((number + 1) * self.range, self.rows)
            step = max(1, int((stop - start) * MOST_BYTES / max(size, MOST_BYTES)) // GROUP) * GROUP
            for low in range(start, stop, step):
                yield read_range(path, low, min(low + step, stop))
            path.unlink()


def sort_rows(tables: list[Any]) -> Any:
    """Tables as one, in the order of their places."""
    import pyarrow as pa

    table = pa.concat_tables(tables).combine_chunks()
    return table.take(pa.array(np.argsort(table[PLACE].to_numpy())))


def read_range(path: Path, start: int, stop: int) -> Any:
    """The rows of a file of record batches whose place is from `start` to `stop`, in order."""
    import pyarrow as pa

    tables = []
    with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
        for batch in stream:
            low, high = np.searchsorted(batch.column(PLACE).to_numpy(), [start, stop])
            if low < high:
                tables.append(pa.Table.from_batches([batch.slice(low, high - low)]))
    return sort_rows(tables)
