"""The first pass of curate over all feeds: batches are prepared on all cores, and written as shards.

    with Rejects(...) as rejects:
        staged = stage_feeds(feeds, rules, folder, LIMITS, rejects, SILENT)

The first rows are prepared in this process: a small table is done before another process has started. The result is
the same with any number of processes, because each batch is prepared by a function of that batch alone (`prepare`).
Shards that an interrupted build has finished are taken as they are (`shards`).
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any

from pricesmith.catalog.prepare import prepare_rows
from pricesmith.catalog.readers.sources import Limits
from pricesmith.catalog.row_price import REGULAR, describe_prices
from pricesmith.catalog.shards import (
    LINKED,
    PRODUCTS,
    Batch,
    ShardWriter,
    StagedFeeds,
    StagedShard,
    are_whole,
    find_shards,
    identify_feed,
    remove,
    split_batches,
)
from pricesmith.catalog.staging import Feed, PreparedRows, RejectCounts, Rejects, Rules
from pricesmith.core.cores_and_memory import available_cores
from pricesmith.core.progress import Progress
from pricesmith.text.formatting import format_count

MOST_PRODUCTS = 1_000_000  # names of products that are counted
FIRST_ROWS = 20_000  # rows that are prepared here before other processes are started
MOST_PROCESSES = 8  # more would wait for this process, which reads and writes
AHEAD = 2  # batches in flight for each process
POLL = 1.0  # seconds between two looks at whether the parent lives
# Who writes the shards of unfinished feeds, (feed, folder), if not this process alone: staging(feeds, rules, progress).
Staging = Callable[[Sequence[tuple[Feed, Path]], Rules, Progress], None]
STAGING: ContextVar[Staging | None] = ContextVar("staging", default=None)


def stage_feeds(
    feeds: Sequence[Feed], rules: Rules, folder: Path, limits: Limits, rejects: Rejects, progress: Progress
) -> StagedFeeds:
    """Read every feed once and write its shards, each feed's in a folder of its own in `folder`. What passes is staged,
    what does not is refused by name."""
    names = name_folders(feeds, rules, limits)
    remove_other_shards(folder, names, progress)
    existing = [find_shards(folder / name) for name in names]
    if finished := sum(shard.rows for shards in existing for shard in shards.values()):
        progress.note(f"Resuming: {format_count(finished, 'row')} were read and cleaned before the interruption.")
    if (staging := STAGING.get()) is not None:
        entries = zip(feeds, names, existing, strict=True)
        staging([(feed, folder / name) for feed, name, shards in entries if not are_whole(shards)], rules, progress)
        existing = [find_shards(folder / name) for name in names]
    staged = StagedFeeds()
    with Preparation(rules, count_processes()) as preparation:
        for feed, name, shards in zip(feeds, names, existing, strict=True):
            progress.start(f"reading {feed.name}")
            if not are_whole(shards):
                stage_feed(feed, folder / name, shards, preparation, progress)
            staged.shards.append([shards[first] for first in sorted(shards)])
            tally_shards(feed, staged.shards[-1], rejects, progress)
    return staged


def name_folders(feeds: Sequence[Feed], rules: Rules, limits: Limits) -> list[str]:
    """The folder of each feed's shards: its identity, with a number if an earlier feed has the same rows, as copies of
    a file do."""
    names, seen = list[str](), Counter[str]()
    for feed in feeds:
        identity = identify_feed(feed, rules, limits)
        seen[identity] += 1
        names.append(identity if seen[identity] == 1 else f"{identity}-{seen[identity]}")
    return names


def stage_feed(
    feed: Feed, folder: Path, shards: dict[int, StagedShard], preparation: Preparation, progress: Progress
) -> None:
    """Write the shards of a feed that are not among the finished `shards`, and add them there."""
    batches = UnfinishedRows(feed.read(), shards, progress)
    for first, group in groupby(preparation.prepare(batches, feed), key=lambda entry: entry[0]):
        with ShardWriter(folder, first) as writer:
            for _, prepared in group:
                writer.add(prepared)
                progress.advance(prepared.rows)
            shards[first] = writer.finish(last=batches.end < first + writer.shard.rows)
    if not shards:
        with ShardWriter(folder, 1) as writer:
            shards[1] = writer.finish(last=True)


class UnfinishedRows:
    """The batches of a feed, each with the first row of its shard, without those of finished shards."""

    def __init__(self, batches: Iterable[Batch], finished: Mapping[int, StagedShard], progress: Progress) -> None:
        self.batches, self.finished, self.progress = batches, {*finished}, progress
        self.end = 0  # the number of the last row that was read

    def __iter__(self) -> Iterator[tuple[int, Batch]]:
        for first, batch in split_batches(self.batches):
            self.end = batch[-1].number
            if first in self.finished:
                self.progress.advance(len(batch))
            else:
                yield first, batch


def remove_other_shards(folder: Path, names: Sequence[str], progress: Progress) -> None:
    """Remove the shards of feeds that are not among `names`, and unfinished shards."""
    others = [path for path in folder.iterdir() if path.name not in names] if folder.is_dir() else []
    rows = sum(shard.rows for path in others for shard in find_shards(path).values())
    if rows:
        progress.note(
            f"{format_count(rows, 'row')} that an interrupted build had read are read again: the files, the options or "
            "the version have changed since."
        )
    unfinished = [path for name in names for path in (folder / name).glob(".*")]
    for path in (*others, *unfinished):
        remove(path)


def tally_shards(feed: Feed, shards: Sequence[StagedShard], rejects: Rejects, progress: Progress) -> None:
    """Count a feed's rows, write down which were rejected, and say what the feed is."""
    tally, products = rejects.tally, ProductCount()
    for shard in shards:
        tally.rows[feed.name] += shard.rows
        tally.late.update(shard.late)
        for number, reason in shard.rejects():
            rejects.add(feed.name, number, reason)
        if shard.price_columns:
            tally.price_columns.setdefault(feed.name, Counter()).update(shard.price_columns)
        products.add(shard)
    tally.products[feed.name] = products.total if feed.variants else 0
    if feed.kind:
        progress.note(f"{feed.name}: {format_kind(feed, tally)}")
    if (counts := tally.price_columns.get(feed.name)) and counts.keys() != {REGULAR}:
        progress.note(f"{feed.name}: {describe_prices(feed.columns, counts)}")


def count_processes() -> int:
    """The cores that this process may use, at most `MOST_PROCESSES`."""
    return min(available_cores(), MOST_PROCESSES)


class Preparation:
    """Prepares batches in order, from some rows on in `processes` other processes."""

    def __init__(self, rules: Rules, processes: int) -> None:
        self.rules, self.processes = rules, processes
        self.rows = 0
        self.pool: Any = None

    def __enter__(self) -> Preparation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.pool is not None:
            self.pool.shutdown(wait=True, kill_workers=True)

    def prepare(self, batches: Iterable[tuple[int, Batch]], feed: Feed) -> Iterator[tuple[int, PreparedRows]]:
        """Batches of one feed, prepared, each with the number that came with it."""
        waiting: deque[tuple[int, Any, Batch]] = deque()
        sent = replace(feed, read=read_nothing, kind=None)  # what the work needs, and can be sent
        for first, batch in batches:
            self.rows += len(batch)
            if self.rows > FIRST_ROWS and self.processes > 1:
                if self.pool is None:
                    self.pool = start_pool(self.processes)
                waiting.append((first, self.submit(batch, sent), batch))
            else:
                waiting.append((first, None, batch))
            if len(waiting) > AHEAD * self.processes or waiting[0][1] is None:
                yield self.finish(*waiting.popleft(), sent)
        while waiting:
            yield self.finish(*waiting.popleft(), sent)

    def submit(self, batch: Batch, feed: Feed) -> Any:
        """The future of a batch, None once a process of the pool has died."""
        from loky.process_executor import BrokenProcessPool

        try:
            return self.pool.submit(prepare_rows, batch, feed, self.rules)
        except BrokenProcessPool:
            return None

    def finish(self, first: int, future: Any, batch: Batch, feed: Feed) -> tuple[int, PreparedRows]:
        """A prepared batch and its number. It is prepared here if a process died, for lack of memory for example."""
        if future is not None:
            from loky.process_executor import BrokenProcessPool

            try:
                return first, future.result()
            except BrokenProcessPool:
                self.processes = 1
        return first, prepare_rows(batch, feed, self.rules)


def start_pool(processes: int) -> Any:
    """Processes that start without the caller's main module, so that a script needs no guard against running twice."""
    from loky.backend import get_context
    from loky.process_executor import ProcessPoolExecutor

    return ProcessPoolExecutor(processes, context=get_context("loky"), initializer=end_with, initargs=(os.getpid(),))


def end_with(parent: int) -> None:
    """End this process once its parent has died: one that is killed cannot end its pool, which would wait for ever."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def read_nothing() -> Iterable[Batch]:
    """No rows."""
    return ()


class ProductCount:
    """Counts the products that rows belong to, up to a million names; rows that name none are one each."""

    def __init__(self) -> None:
        self.names: set[int] = set()
        self.linked: set[int] = set()  # variants that a product's row lists
        self.unnamed = 0

    def add(self, shard: StagedShard) -> None:
        """Count the products of a shard."""
        self.unnamed += shard.unnamed
        if len(self.names) < MOST_PRODUCTS:
            self.names.update(shard.hashes(PRODUCTS).tolist())
            self.linked.update(shard.hashes(LINKED).tolist())

    @property
    def total(self) -> int:
        """The number of products."""
        return len(self.names - self.linked) + self.unnamed


def format_kind(feed: Feed, counts: RejectCounts) -> str:
    """What a feed is: `Shopify product export: 870 rows, 48 products`."""
    label = feed.kind.label if feed.kind else "table"
    products = counts.products.get(feed.name, 0)
    rows = format_count(counts.rows[feed.name], "row")
    return f"{label}: {rows}, {format_count(products, 'product')}" if products else f"{label}: {rows}"
