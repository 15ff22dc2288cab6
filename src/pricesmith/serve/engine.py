"""One served model: a thread that prices, a queue of limited length, and batches made of whatever waits.

    engine = await Engine.open("ridge", Path("out/ridge"))
    answers = await engine.price([ListingInput(text="Garden hose, 25 m")])

A model prices 256 listings in little more time than ten, so all requests that wait are priced together. `swap` replaces
the model between two batches: no request is dropped, and none is priced by two models.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pricesmith.pricers.model import PriceModel
from pricesmith.serve.errors import ServeError, too_busy
from pricesmith.serve.loaded_model import Answer, EngineLimits, LoadedModel, PricingRequest, answer_requests
from pricesmith.serve.schemas import Described

BATCH = 1_024  # listings that are priced together at most; one larger request is priced whole


@dataclass
class Job:
    """One request and the future of its answers."""

    request: PricingRequest
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
        loaded.start_processes()
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
        self.jobs.append(Job(PricingRequest(listings, ids, comparables), future))
        self.waiting += len(listings)
        self.wake.set()
        return await future

    async def swap(self, loaded: LoadedModel) -> LoadedModel:
        """Price with another model from the next batch on; returns the old one, which no batch uses any more."""
        old, self.loaded = self.loaded, loaded
        await asyncio.get_running_loop().run_in_executor(self.thread, lambda: None)  # the batch in work is done then
        loaded.start_processes()
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
                count = sum(len(job.request.listings) for job in batch)
                self.batches += 1
                self.sizes[count.bit_length()] += 1
                self.priced += count
                self.seconds_per_listing += 0.1 * ((loop.time() - started) / count - self.seconds_per_listing)
            self.wake.clear()

    def take(self) -> list[Job]:
        """The next batch: whole requests, in their order. Requests whose client has gone are left out."""
        batch: list[Job] = []
        count = 0
        while self.jobs and (not batch or count + len(self.jobs[0].request.listings) <= BATCH):
            job = self.jobs.popleft()
            self.waiting -= len(job.request.listings)
            if not job.future.done():
                batch.append(job)
                count += len(job.request.listings)
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
        return loaded.context.run(answer_requests, loaded, [job.request for job in batch])


def stopping_error() -> ServeError:
    """The error of a request that came too late."""
    return ServeError(503, "The server is stopping", hint="Try again in a moment.")


def has_price(answer: Answer) -> bool:
    """Whether a listing got a price."""
    return answer.row is not None and answer.row.price is not None
