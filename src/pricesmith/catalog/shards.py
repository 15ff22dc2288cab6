"""Finished pieces of the first pass of curate, on disk: a killed build resumes from them.

    with ShardWriter(folder, first=1) as writer:  # folder: of one feed
        writer.add(prepare_rows(batch, feed, rules))
        shard = writer.finish(last=True)
    find_shards(folder)[1].rows

A shard is a range of rows of one feed, `SHARD_ROWS` long whatever the number of processes, and a folder named after its
first row: `staged.parquet`, `sketches.bin`, `rejects.jsonl`, for products also `links.bin`, `products.bin` and
`linked.bin`, and `shard.json`, written last, with the counts and the files' sizes and checksums. It is written under a
temporary name and renamed as a whole. What is in it depends on the feed's rows and the rules alone, so any process may
write it, on any machine that shares the folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from pricesmith.catalog.readers.sources import BadRow, Limits, RawRow
from pricesmith.catalog.staging import Feed, Masked, PreparedRows, Rules, staged_schema
from pricesmith.core.atomic import sync_folder

SHARD_ROWS = 250_000
FORMAT = 1
FACTS = "shard.json"
STAGED, SKETCHES, REJECTS = "staged.parquet", "sketches.bin", "rejects.jsonl"
LINKS, PRODUCTS, LINKED = "links.bin", "products.bin", "linked.bin"
GROUP = 8_000  # rows of one piece of the staged file
PIECE = 1 << 20
Batch = Sequence[RawRow | BadRow]


@dataclass
class StagedShard:
    """A finished shard: its folder, its first row (counted from 1), how many rows it has and how many are staged.

    `last`: the feed ends with it. `rejected` counts rows by reason; `late`, `price_columns` and `unnamed` are those of
    `PreparedRows`, added up.
    """

    folder: Path
    first: int
    rows: int = 0
    staged: int = 0
    last: bool = False
    masked: Masked = field(default_factory=Masked)
    rejected: Counter[str] = field(default_factory=Counter)
    late: dict[str, None] = field(default_factory=dict)
    price_columns: Counter[str] = field(default_factory=Counter)
    unnamed: int = 0

    def rejects(self) -> Iterator[tuple[int, str]]:
        """The row number of each rejected row, and the reason."""
        if (path := self.folder / REJECTS).is_file():
            with path.open(encoding="utf-8") as lines:
                for line in lines:
                    number, reason = json.loads(line)
                    yield number, reason

    def hashes(self, name: str) -> Any:
        """The numbers of 64 bits in one of its files, none if it is not there."""
        path = self.folder / name
        return np.fromfile(path, dtype=np.uint64) if path.is_file() else np.empty(0, np.uint64)

    def to_dict(self) -> dict[str, Any]:
        """The shard for its `shard.json`."""
        facts = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "folder"}
        return {**facts, "late": list(self.late), "masked": asdict(self.masked)}


def read_shard(folder: Path) -> StagedShard | None:
    """The finished shard in a folder; None if it is unfinished or damaged."""
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        files = facts.pop("files")
        if facts.pop("format") != FORMAT or any(describe_file(folder / name) != files[name] for name in files):
            return None
        facts["masked"], facts["late"] = Masked(**facts["masked"]), dict.fromkeys(facts["late"])
        for name in ("rejected", "price_columns"):
            facts[name] = Counter(facts[name])
        return StagedShard(folder, **facts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def describe_file(path: Path) -> dict[str, int]:
    """The size of a file and its CRC-32."""
    size = checksum = 0
    with path.open("rb") as handle:
        while piece := handle.read(PIECE):
            size, checksum = size + len(piece), zlib.crc32(piece, checksum)
    return {"bytes": size, "crc32": checksum}


def find_shards(folder: Path) -> dict[int, StagedShard]:
    """The finished shards of a feed by their first row. Damaged ones are removed."""
    shards: dict[int, StagedShard] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if not path.name.startswith("."):
            if (shard := read_shard(path)) is None:
                remove(path)
            else:
                shards[shard.first] = shard
    return shards


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def is_worth_keeping(folder: Path, least: int | None = None, *, whole: bool = False) -> bool:
    """Whether the finished shards of all feeds in a folder have at least `least` rows together, by default as many as a
    full shard. `whole`: only feeds that are finished count."""
    rows = 0
    for feed in folder.glob("[!.]*"):
        shards: dict[int, StagedShard] = {}
        for path in feed.glob(f"[0-9]*/{FACTS}"):
            with suppress(OSError, ValueError, KeyError, TypeError):  # a damaged one does not count
                facts = json.loads(path.read_text(encoding="utf-8"))
                shards[facts["first"]] = StagedShard(path.parent, facts["first"], facts["rows"], last=facts["last"])
        if not whole or are_whole(shards):
            rows += sum(shard.rows for shard in shards.values())
    return rows >= (SHARD_ROWS if least is None else least)


def are_whole(shards: dict[int, StagedShard]) -> bool:
    """Whether shards are all of a feed: none is missing up to the last one."""
    ends = [shard.first for shard in shards.values() if shard.last]
    return len(ends) == 1 and sorted(shards) == list(range(1, ends[0] + 1, SHARD_ROWS))


def first_row(number: int) -> int:
    """The first row of the shard that the row `number` belongs to."""
    return number - (number - 1) % SHARD_ROWS


def split_batches(batches: Iterable[Batch]) -> Iterator[tuple[int, Batch]]:
    """Batches cut where a shard ends, each with the first row of its shard."""
    for batch in batches:
        while batch:
            first = first_row(batch[0].number)
            room = first + SHARD_ROWS - batch[0].number
            yield first, batch[:room]
            batch = batch[room:]


class ShardWriter:
    """Writes one shard, a batch at a time. Without `finish` nothing of it stays."""

    def __init__(self, folder: Path, first: int) -> None:
        self.target = folder / f"{first:012d}"
        self.shard = StagedShard(self.target, first)
        self.waiting: list[Any] = []
        self.products: set[int] = set()
        self.linked: set[int] = set()

    def __enter__(self) -> ShardWriter:
        import pyarrow.parquet as pq

        self.target.parent.mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix=f".{self.target.name}.", suffix=".tmp", dir=self.target.parent))
        self.files = ExitStack()
        self.sketches = self.files.enter_context((self.folder / SKETCHES).open("wb"))
        self.links = self.files.enter_context((self.folder / LINKS).open("wb"))
        self.rejects = self.files.enter_context((self.folder / REJECTS).open("w", encoding="utf-8"))
        out = pq.ParquetWriter(self.folder / STAGED, staged_schema(), compression="zstd", compression_level=1)
        self.out = self.files.enter_context(out)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.files.close()
        finally:
            if self.folder.exists():
                shutil.rmtree(self.folder)

    def add(self, rows: PreparedRows) -> None:
        """Add the rows of one batch, which follow those of the last one."""
        shard = self.shard
        shard.rows += rows.rows
        shard.masked.add(rows.masked)
        shard.rejected.update(reason for _, reason in rows.rejected)
        shard.late.update(rows.late)
        shard.price_columns.update(rows.price_columns)
        shard.unnamed += rows.unnamed
        self.products |= rows.products
        self.linked |= rows.linked
        self.rejects.writelines(f"{json.dumps(entry)}\n" for entry in rows.rejected)
        self.sketches.write(rows.sketches)
        self.links.write(rows.links)
        if rows.table is None:
            return
        self.waiting.append(rows.table)
        shard.staged += rows.table.num_rows
        if sum(table.num_rows for table in self.waiting) >= GROUP:
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait as one piece."""
        import pyarrow as pa

        if self.waiting:
            self.out.write_table(pa.concat_tables(self.waiting).combine_chunks())
            self.waiting = []

    def finish(self, *, last: bool) -> StagedShard:
        """Write the rest and the counts, and give the folder its name. `last`: the feed ends with this shard.

        A table of one shard is not synced to the disk: it is done again in seconds, and its checksums tell if it must.
        """
        self.flush()
        for name, hashes in ((PRODUCTS, self.products), (LINKED, self.linked)):
            if hashes:
                np.array(sorted(hashes), dtype=np.uint64).tofile(self.folder / name)
        self.files.close()
        self.shard.last = last
        for path in self.folder.iterdir():
            if path.name in (LINKS, REJECTS) and not path.stat().st_size:
                path.unlink()
        files = {path.name: describe_file(path) for path in sorted(self.folder.iterdir())}
        facts = {"format": FORMAT, **self.shard.to_dict(), "files": files}
        (self.folder / FACTS).write_text(json.dumps(facts), encoding="utf-8")
        if not (last and self.shard.first == 1):
            sync_files(self.folder)
        try:
            os.rename(self.folder, self.target)
        except OSError:
            if read_shard(self.target) is None:  # else another process was faster, with the same rows
                raise
        return self.shard


def sync_files(folder: Path) -> None:
    """Make the files of a folder last."""
    for path in folder.iterdir():
        with path.open("rb") as handle:
            os.fsync(handle.fileno())
    sync_folder(folder)


def identify_feed(feed: Feed, rules: Rules, limits: Limits) -> str:
    """16 hexadecimal digits that stand for everything that the shards of a feed depend on: its content, how it is read,
    the rules, and the versions of the programs. The feed's name does not count."""
    from importlib.metadata import version

    parts = {
        "format": FORMAT,
        "shard_rows": SHARD_ROWS,
        "versions": {name: version(name) for name in ("pricesmith", "rensa")} | {"python": sys.version_info[:2]},
        "facts": feed.facts,
        "reading": feed.reading,
        "category": feed.category,
        "columns": feed.columns.model_dump(),
        "named": feed.named,
        "marks": feed.marks,
        "variants": feed.variants and [feed.variants.kind, dict(feed.variants.columns)],
        "dates": feed.dates and [feed.dates.name, feed.dates.order],
        "rules": [rules.cleaning.model_dump(), rules.currency, rules.low, rules.high],
        "limits": asdict(limits),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@dataclass
class StagedFeeds:
    """All rows that the first pass has staged: the shards of each feed, in order. A row's number is its place in all of
    them together."""

    shards: list[list[StagedShard]] = field(default_factory=list)

    @property
    def count(self) -> int:
        """The number of staged rows."""
        return sum(shard.staged for shards in self.shards for shard in shards)

    @property
    def masked(self) -> Masked:
        """How many amounts were masked."""
        masked = Masked()
        for shard in self.ordered():
            masked.add(shard.masked)
        return masked

    def ordered(self) -> list[StagedShard]:
        """The shards of all feeds."""
        return [shard for shards in self.shards for shard in shards]

    def create_view(self, base: Any) -> None:
        """Make the staged rows known to a database as `staged`: the columns of `staged_schema`, `row` and `source`."""
        paths, start = list[str](), 0
        base.execute("CREATE OR REPLACE TABLE shards (filename VARCHAR, source INTEGER, start BIGINT)")
        for source, shards in enumerate(self.shards):
            for shard in shards:
                paths.append(str(shard.folder / STAGED))
                base.execute("INSERT INTO shards VALUES (?, ?, ?)", [paths[-1], source, start])
                start += shard.staged
        files = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
        base.execute(
            f"""CREATE OR REPLACE VIEW staged AS
            SELECT s.* EXCLUDE (filename, file_row_number), f.start + s.file_row_number AS row, f.source AS source
            FROM read_parquet([{files}], filename = true, file_row_number = true) s JOIN shards f USING (filename)"""
        )

    def sketches(self) -> list[Path]:
        """The files with the sketches of all rows, in order."""
        return [shard.folder / SKETCHES for shard in self.ordered()]

    def links(self) -> Any:
        """Pairs (variant, product) of all rows, (pairs, 2)."""
        return np.concatenate([np.empty(0, np.uint64), *(shard.hashes(LINKS) for shard in self.ordered())]).reshape(
            -1, 2
        )
