"""`curate --cluster ADDRESS`: the first pass of curate, which reads and cleans all rows, on the nodes of a Ray cluster.

If there are as many files as cores, each file is read by a node; else this process reads and sends ranges of rows. A
node writes whole shards (`catalog.shards`) into the unfinished catalog on the shared folder, the same as one machine
would, so the catalog has the same fingerprint. Groups and split are found by this process, from the shards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from pricesmith.catalog.catalog import Catalog
from pricesmith.catalog.curation import curate as curate_files
from pricesmith.catalog.first_pass import STAGING, Preparation, UnfinishedRows, read_nothing, stage_feed
from pricesmith.catalog.prepare import prepare_rows
from pricesmith.catalog.readers.feeds import NoteKeeper, read_inherited
from pricesmith.catalog.readers.sources import Limits, Source
from pricesmith.catalog.shards import Batch, ShardWriter, find_shards
from pricesmith.catalog.staging import Feed, Rules
from pricesmith.cluster.connection import check_address
from pricesmith.cluster.shards import Shard, ShardResult, raise_failures
from pricesmith.cluster.tasks import open_cluster
from pricesmith.core.errors import InputError, PricesmithError
from pricesmith.core.progress import SILENT, Progress

Unfinished = Sequence[tuple[Feed, Path]]  # feeds, each with the folder of its shards


@dataclass(frozen=True)
class FileToStage:
    """A file that a node reads. `feed` has no function to read it: that could not be sent."""

    feed: Feed
    folder: Path
    source: Source
    limits: Limits


@dataclass(frozen=True)
class RowsToStage:
    """The rows of one shard of a feed, from the row `first` on. `last`: the feed ends with it."""

    feed: Feed
    folder: Path
    first: int
    batches: Sequence[Batch]
    last: bool


def curate(sources: Sequence[str], to: Path, *, cluster: str | None = None, **options: Any) -> Catalog:
    """Build a catalog as `catalog.curation.curate` does, with its options; the rows are cleaned on the `cluster`, if
    one is given.

    Raises ShardsFailed, with everything that is done kept, if some files or rows could not be read.
    """
    with ExitStack() as stack:
        if cluster is not None:
            check_address(cluster)
            token = STAGING.set(partial(stage_on_cluster, cluster))
            stack.callback(STAGING.reset, token)
        return curate_files(sources, to, **options)


def stage_on_cluster(address: str, unfinished: Unfinished, rules: Rules, progress: Progress) -> None:
    """Write all shards of the feeds that are missing. Raises ShardsFailed if some cannot be written.

    An error of the cluster, which is not one of the sources, costs no shard that is finished.
    """
    if not unfinished:
        return
    try:
        results = stage_on_nodes(address, unfinished, rules, progress)
    except PricesmithError as error:
        error.keeps_work = not isinstance(error, InputError)
        raise
    raise_failures(results, "curated")


def stage_on_nodes(address: str, unfinished: Unfinished, rules: Rules, progress: Progress) -> list[ShardResult]:
    """Write all shards of the feeds that are missing; the result of each."""
    for _, folder in unfinished:
        folder.mkdir(parents=True, exist_ok=True)
    root = unfinished[0][1].parent.resolve()
    results: list[ShardResult] = []
    with open_cluster(address, folders=[root], progress=progress) as cluster:
        progress.start(
            f"reading {len(unfinished):,} files" if len(unfinished) > 1 else f"reading {unfinished[0][0].name}"
        )
        files = [file for feed, folder in unfinished if (file := describe_file(feed, folder.resolve())) is not None]
        whole = {file.folder: file for file in files} if len(files) >= cluster.count_cores() else {}
        shards = [Shard(file.feed.name, file, str(root)) for file in whole.values()]
        for result in cluster.run(stage_file, rules, shards):
            count_rows(result, progress)
            if result.facts.get("missing"):
                del whole[Path(result.facts["missing"])]
            else:
                results.append(result)
        others = [(feed, folder.resolve()) for feed, folder in unfinished if folder.resolve() not in whole]
        for result in cluster.run(stage_rows, rules, read_shards(others, progress)):
            count_rows(result, progress)
            results.append(result)
    return results


def count_rows(result: ShardResult, progress: Progress) -> None:
    """Show the rows and the notes of a shard."""
    for note in result.facts.get("notes", ()):
        progress.note(note)
    progress.advance(result.facts.get("rows", 0))


def describe_file(feed: Feed, folder: Path) -> FileToStage | None:
    """A feed as a file that a node may read; None if only this process can read it, such as a table of a server."""
    if not isinstance(feed.read, partial) or feed.read.func is not read_inherited:
        return None
    source, limits, _, _ = feed.read.args
    return None if source.table else FileToStage(without_reading(feed), folder, source, limits)


def without_reading(feed: Feed) -> Feed:
    """What of a feed the work needs, and can be sent."""
    return replace(feed, read=read_nothing, kind=None)


def stage_file(rules: Rules, file: FileToStage) -> dict[str, Any]:
    """Read a file on a node and write its shards; `missing` names the folder if the node does not see the file, or sees
    another one under its path."""
    if not sees_file(file):
        return {"missing": str(file.folder)}
    notes = NoteKeeper()
    read = partial(read_inherited, file.source, file.limits, notes, file.feed.variants)
    shards = find_shards(file.folder)
    with Preparation(rules, processes=1) as preparation:
        stage_feed(replace(file.feed, read=read), file.folder, shards, preparation, SILENT)
    return {"rows": sum(shard.rows for shard in shards.values()), "notes": notes.texts}


def sees_file(file: FileToStage) -> bool:
    """Whether this machine has the file that the command looked at."""
    try:
        return file.source.facts() == file.feed.facts
    except OSError:
        return False


def read_shards(feeds: Unfinished, progress: Progress) -> Iterator[Shard]:
    """Read feeds here; the rows of each of their missing shards."""
    for feed, folder in feeds:
        rows = UnfinishedRows(feed.read(), find_shards(folder), progress)
        empty = True
        for first, group in groupby(rows, key=lambda entry: entry[0]):
            batches = [batch for _, batch in group]
            end = first + sum(map(len, batches))
            empty = False
            content = RowsToStage(without_reading(feed), folder, first, batches, rows.end < end)
            yield Shard(f"{feed.name}, rows {first:,} to {end - 1:,}", content, str(folder))
        if empty and not rows.end:
            yield Shard(feed.name, RowsToStage(without_reading(feed), folder, 1, [], True), str(folder))


def stage_rows(rules: Rules, rows: RowsToStage) -> dict[str, Any]:
    """Clean the rows of one shard and write it; the number of rows."""
    with ShardWriter(rows.folder, rows.first) as writer:
        for batch in rows.batches:
            writer.add(prepare_rows(batch, rows.feed, rules))
        return {"rows": writer.finish(last=rows.last).rows}
