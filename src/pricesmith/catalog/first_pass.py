"""The first pass of curate over all feeds: batches are prepared on all cores, and staged in the order of the files.

    with Rejects(...) as rejects, Stage(folder) as stage:
        masked = stage_feeds(feeds, rules, stage, rejects, SILENT)

The first rows are prepared in this process: a small table is done before another process has started. The result is
the same with any number of processes, because each batch is prepared by a function of that batch alone (`prepare`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

from pricesmith.catalog.prepare import prepare_rows
from pricesmith.catalog.readers.sources import BadRow, RawRow
from pricesmith.catalog.row_price import REGULAR, describe_prices
from pricesmith.catalog.staging import Feed, Masked, PreparedRows, RejectCounts, Rejects, Rules, Stage
from pricesmith.core.cores_and_memory import available_cores
from pricesmith.core.progress import Progress
from pricesmith.text.formatting import format_count

MOST_PRODUCTS = 1_000_000  # names of products that are counted
FIRST_ROWS = 20_000  # rows that are prepared here before other processes are started
MOST_PROCESSES = 8  # more would wait for this process, which reads and writes
AHEAD = 2  # batches in flight for each process
Batch = Sequence[RawRow | BadRow]


def stage_feeds(feeds: Sequence[Feed], rules: Rules, stage: Stage, rejects: Rejects, progress: Progress) -> Masked:
    """Read every feed once. What passes is staged, what does not is refused by name."""
    masked = Masked()
    with Preparation(rules, count_processes()) as preparation:
        for place, feed in enumerate(feeds):
            progress.start(f"reading {feed.name}")
            products = ProductCount()
            for prepared in preparation.prepare(feed, place):
                rejects.tally.rows[feed.name] += prepared.rows
                rejects.tally.late.update(prepared.late)
                for number, reason in prepared.rejected:
                    rejects.add(feed.name, number, reason)
                masked.add(prepared.masked)
                if prepared.price_columns:
                    rejects.tally.price_columns.setdefault(feed.name, Counter()).update(prepared.price_columns)
                products.add(prepared)
                stage.add(prepared)
                progress.advance(prepared.rows)
            rejects.tally.products[feed.name] = products.total if feed.variants else 0
            if feed.kind:
                progress.note(f"{feed.name}: {format_kind(feed, rejects.tally)}")
            if (counts := rejects.tally.price_columns.get(feed.name)) and counts.keys() != {REGULAR}:
                progress.note(f"{feed.name}: {describe_prices(feed.columns, counts)}")
    return masked


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

    def prepare(self, feed: Feed, place: int) -> Iterator[PreparedRows]:
        """The batches of one feed, prepared."""
        waiting: deque[tuple[Any, Batch]] = deque()
        sent = replace(feed, read=read_nothing, kind=None)  # what the work needs, and can be sent
        for batch in feed.read():
            self.rows += len(batch)
            if self.rows > FIRST_ROWS and self.processes > 1:
                if self.pool is None:
                    self.pool = start_pool(self.processes)
                waiting.append((self.submit(batch, sent, place), batch))
            else:
                waiting.append((None, batch))
            if len(waiting) > AHEAD * self.processes or waiting[0][0] is None:
                yield self.finish(*waiting.popleft(), sent, place)
        while waiting:
            yield self.finish(*waiting.popleft(), sent, place)

    def submit(self, batch: Batch, feed: Feed, place: int) -> Any:
        """The future of a batch, None once a process of the pool has died."""
        from loky.process_executor import BrokenProcessPool

        try:
            return self.pool.submit(prepare_rows, batch, feed, place, self.rules)
        except BrokenProcessPool:
            return None

    def finish(self, future: Any, batch: Batch, feed: Feed, place: int) -> PreparedRows:
        """A prepared batch. It is prepared here if a process died, for lack of memory for example."""
        if future is not None:
            from loky.process_executor import BrokenProcessPool

            try:
                prepared: PreparedRows = future.result()
                return prepared
            except BrokenProcessPool:
                self.processes = 1
        return prepare_rows(batch, feed, place, self.rules)


def start_pool(processes: int) -> Any:
    """Processes that start without the caller's main module, so that a script needs no guard against running twice."""
    from loky.backend import get_context
    from loky.process_executor import ProcessPoolExecutor

    return ProcessPoolExecutor(processes, context=get_context("loky"))


def read_nothing() -> Iterable[Batch]:
    """No rows."""
    return ()


class ProductCount:
    """Counts the products that rows belong to, up to a million names; rows that name none are one each."""

    def __init__(self) -> None:
        self.names: set[int] = set()
        self.linked: set[int] = set()  # variants that a product's row lists
        self.unnamed = 0

    def add(self, rows: PreparedRows) -> None:
        """Count the products of a batch."""
        self.unnamed += rows.unnamed
        if len(self.names) < MOST_PRODUCTS:
            self.names |= rows.products
            self.linked |= rows.linked

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
