"""One served model: a thread that prices, a queue of limited length, and batches made of whatever waits.

    engine = await Engine.open("ridge", Path("out/ridge"))
    answers = await engine.price([ListingInput(text="Garden hose, 25 m")])

A model prices 256 listings in little more time than ten, so all requests that wait are priced together. `swap` replaces
the model between two batches: no request is dropped, and none is priced by two models.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from pricesmith.batch.price import PricedRow, price_row
from pricesmith.batch.price_one import DescriptionReader, fields_not_given
from pricesmith.catalog.comparables import Comparable
from pricesmith.core.errors import PricesmithError, UsageError
from pricesmith.core.types import Listing, Quote
from pricesmith.pricers.model import PriceModel, load_model
from pricesmith.serve.errors import ServeError, too_busy
from pricesmith.serve.schemas import Described, ListingInput
from pricesmith.serve.spending import DailySpending

BATCH = 1_024  # listings that are priced together at most; one larger request is priced whole


@dataclass(frozen=True)
class EngineLimits:
    """`waiting` listings may wait at most. The others are for models that ask an API model: `spending` is what all
    models of a server may spend in a day, `api_timeout` is in seconds, after which a listing is priced without it."""

    waiting: int = 20_000
    api_timeout: float = 20.0
    api_concurrency: int = 8
    spending: DailySpending | None = None


@dataclass(frozen=True)
class Answer:
    """What the engine says about one listing. `error` is set, and the rest is not, if it cannot be priced at all."""

    listing: Listing | None = None
    row: PricedRow | None = None
    comparables: tuple[Comparable, ...] = ()
    not_given: tuple[str, ...] = ()
    error: PricesmithError | None = None


@dataclass
class LoadedModel:
    """A model and what is made from it; a swap replaces all of it at once."""

    model: PriceModel
    reader: DescriptionReader
    context: contextvars.Context
    loaded_at: str
    exit_stack: ExitStack = field(default_factory=ExitStack)

    @classmethod
    def open(cls, folder: Path, limits: EngineLimits) -> LoadedModel:
        """Load and check a model folder. Raises InputError if it is not a finished, undamaged model."""
        model = load_model(folder)
        loaded = cls(
            model,
            DescriptionReader(model.info),
            contextvars.copy_context(),
            datetime.now(UTC).isoformat(timespec="seconds"),
        )
        if model.asks_api:
            from pricesmith.pricers.api.model_spec import ApiSettings

            settings = ApiSettings(None, limits.api_concurrency, limits.api_timeout, fallback=True)
            if limits.spending is not None:
                settings.use_budget(limits.spending.budget)
            loaded.context.run(loaded.exit_stack.enter_context, settings)
        _ = model.index  # read now, so that the first request need not wait
        return loaded

    def close(self) -> None:
        """Close what the API model of this model has opened."""
        self.context.run(self.exit_stack.close)


@dataclass
class Job:
    """One request: its listings, how many comparables each wants, and the future of its answers."""

    listings: Sequence[Described]
    ids: Sequence[str]
    comparables: int
    future: asyncio.Future[tuple[LoadedModel, list[Answer]]]


class Engine:
    """Prices for one name; `open` makes it."""

    def __init__(self, name: str, folder: Path, loaded: LoadedModel, limits: EngineLimits) -> None:
        self.name, self.folder, self.loaded, self.limits = name, folder, loaded, limits
        self.thread = ThreadPoolExecutor(1, thread_name_prefix=f"price-{name}")
        self.jobs: deque[Job] = deque()
        self.waiting = 0  # listings of the jobs in the queue
        self.wake = asyncio.Event()
        self.batches = self.priced = self.failed = self.unanswered = 0
        self.sizes: Counter[int] = Counter()  # batches by the number of binary digits of their length
        self.seconds_per_listing = 0.002
        self.stopping = False
        self.task: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, name: str, folder: Path, limits: EngineLimits | None = None) -> Engine:
        """Load a model folder, or the chosen model of a build folder, and start to price."""
        limits = limits or EngineLimits()
        loaded = await asyncio.to_thread(LoadedModel.open, folder, limits)
        engine = cls(name, folder, loaded, limits)
        engine.task = asyncio.create_task(engine.run())
        return engine

    @property
    def model(self) -> PriceModel:
        """The model that prices now."""
        return self.loaded.model

    async def close(self) -> None:
        """Finish the batch in work and stop; what waits is answered with an error."""
        self.stopping = True
        self.wake.set()
        if self.task is not None:
            await asyncio.gather(self.task, return_exceptions=True)
        for job in self.jobs:
            if not job.future.done():
                job.future.set_exception(stopping_error())
        self.jobs.clear()
        self.thread.shutdown()
        self.loaded.close()

    async def price(
        self, listings: Sequence[Described], ids: Sequence[str], comparables: int = 0
    ) -> tuple[LoadedModel, list[Answer]]:
        """One answer for each listing, in order, and the model that gave them. `ids` become the listings' ids.

        Raises ServeError: 429 if too many listings wait, 503 while the server stops.
        """
        if self.stopping:
            raise stopping_error()
        if self.waiting and self.waiting + len(listings) > self.limits.waiting:
            raise too_busy(self.waiting * self.seconds_per_listing)
        future: asyncio.Future[tuple[LoadedModel, list[Answer]]] = asyncio.get_running_loop().create_future()
        self.jobs.append(Job(listings, ids, comparables, future))
        self.waiting += len(listings)
        self.wake.set()
        return await future

    async def swap(self, loaded: LoadedModel) -> LoadedModel:
        """Price with another model from the next batch on; returns the old one, which no batch uses any more."""
        old, self.loaded = self.loaded, loaded
        await asyncio.get_running_loop().run_in_executor(self.thread, lambda: None)  # the batch in work is done then
        return old

    async def run(self) -> None:
        """Price what waits, batch after batch."""
        loop = asyncio.get_running_loop()
        while not self.stopping:
            await self.wake.wait()
            while not self.stopping and (batch := self.take()):
                loaded, started = self.loaded, loop.time()
                try:
                    answers = await loop.run_in_executor(self.thread, partial(self.work, loaded, batch))
                except Exception as error:
                    await self.price_singly(loaded, batch, error)
                else:
                    for job, own in zip(batch, answers, strict=True):
                        if not job.future.done():
                            job.future.set_result((loaded, own))
                    self.unanswered += sum(not has_price(answer) for own in answers for answer in own)
                count = sum(len(job.listings) for job in batch)
                self.batches += 1
                self.sizes[count.bit_length()] += 1
                self.priced += count
                self.seconds_per_listing += 0.1 * ((loop.time() - started) / count - self.seconds_per_listing)
            self.wake.clear()

    def take(self) -> list[Job]:
        """The next batch: whole requests, in their order. Requests whose client has gone are left out."""
        batch: list[Job] = []
        count = 0
        while self.jobs and (not batch or count + len(self.jobs[0].listings) <= BATCH):
            job = self.jobs.popleft()
            self.waiting -= len(job.listings)
            if not job.future.done():
                batch.append(job)
                count += len(job.listings)
        return batch

    async def price_singly(self, loaded: LoadedModel, batch: Sequence[Job], error: Exception) -> None:
        """After a failed batch: price each request alone, so that one of them does not fail the others."""
        loop = asyncio.get_running_loop()
        for job in batch:
            try:
                if len(batch) > 1:
                    (answers,) = await loop.run_in_executor(self.thread, partial(self.work, loaded, [job]))
                    result: Any = (loaded, answers)
                else:
                    raise error
            except Exception as own_error:
                self.failed += 1
                if not job.future.done():
                    job.future.set_exception(own_error)
            else:
                if not job.future.done():
                    job.future.set_result(result)

    def work(self, loaded: LoadedModel, batch: Sequence[Job]) -> list[list[Answer]]:
        """The answers of a batch, computed in the engine's thread."""
        if self.limits.spending is not None:
            self.limits.spending.renew()
        return loaded.context.run(price_jobs, loaded, batch)


def stopping_error() -> ServeError:
    """The error of a request that came too late."""
    return ServeError(503, "The server is stopping", hint="Try again in a moment.")


def has_price(answer: Answer) -> bool:
    """Whether a listing got a price."""
    return answer.row is not None and answer.row.price is not None


def price_jobs(loaded: LoadedModel, jobs: Sequence[Job]) -> list[list[Answer]]:
    """The answers of requests, all priced in one call of the model."""
    model, reader = loaded.model, loaded.reader
    read: list[list[Listing | PricesmithError]] = [
        [read_listing(reader, value, id) for value, id in zip(job.listings, job.ids, strict=True)] for job in jobs
    ]
    listings = [listing for own in read for listing in own if isinstance(listing, Listing)]
    quotes = iter(model.price(listings, check_similarity=True))
    answers = []
    for job, own in zip(jobs, read, strict=True):
        pairs = [(listing, next(quotes) if isinstance(listing, Listing) else None) for listing in own]
        near = iter(find_near(model, pairs, job.comparables))
        answers.append(
            [
                build_answer(loaded, value, listing, quote, near)
                for value, (listing, quote) in zip(job.listings, pairs, strict=True)
            ]
        )
    return answers


def find_near(
    model: PriceModel, pairs: Sequence[tuple[Listing | PricesmithError, Quote | None]], k: int
) -> list[list[Comparable]]:
    """The comparables of each priced listing."""
    asked = [(listing, quote) for listing, quote in pairs if isinstance(listing, Listing) and quote is not None]
    if not k:
        return [[] for _ in asked]
    return model.find_comparables([listing for listing, _ in asked], k, quotes=[quote for _, quote in asked])


def read_listing(reader: DescriptionReader, value: Described, id: str) -> Listing | PricesmithError:
    """A description as a listing, or why it is none."""
    try:
        if isinstance(value, ListingInput):
            return reader.read(value.text, value.all_fields(), id)
        return reader.read(value, {}, id)
    except UsageError as error:
        return error


def build_answer(
    loaded: LoadedModel, value: Described, listing: Listing | PricesmithError, quote: Quote | None, near: Any
) -> Answer:
    """The answer for one listing."""
    if quote is None or not isinstance(listing, Listing):
        assert isinstance(listing, PricesmithError)
        return Answer(error=listing)
    row = price_row(listing.id, quote, str(loaded.model.info["currency"]), None)
    fields = value.fields if isinstance(value, ListingInput) else ()
    missing = fields_not_given(listing, loaded.reader.known, fields)
    return Answer(listing, row, tuple(next(near)), tuple(missing))
