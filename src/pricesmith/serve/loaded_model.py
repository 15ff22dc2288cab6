"""A loaded model and the answers it gives: the part of the engine that also runs in other processes.

loaded = LoadedModel.open(Path("out/ridge"), EngineLimits())
answers = price_requests(loaded, [PricingRequest([ListingInput(text="Garden hose, 25 m")], ["q1"])])
"""

from __future__ import annotations

import contextvars
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pricesmith.batch.price_one import DescriptionReader, fields_not_given
from pricesmith.batch.priced_row import PricedRow, price_row
from pricesmith.catalog.comparables import Comparable
from pricesmith.core.errors import PricesmithError, UsageError
from pricesmith.core.types import Listing, Quote
from pricesmith.pricers.model import PriceModel, load_model
from pricesmith.serve.batch_pool import BatchPool, PartFunction
from pricesmith.serve.schemas import Described, ListingInput
from pricesmith.serve.spending import DailySpending

T = TypeVar("T")
# Kinds of models whose large batches are divided between processes.
DIVISIBLE = frozenset(("median", "ridge", "boosting", "sparse_mlp", "knn", "best", "precomputed", "blend", "cascade"))
MIN_DIVIDED = 128  # listings from which two processes are faster than one (benchmarks/README.md, "The server")
PART = 64  # listings that a process prices at once; larger parts save no CPU


@dataclass(frozen=True)
class EngineLimits:
    """`waiting` listings may wait at most; `batch_processes` price one large batch together. The others are for models
    that ask an API model: `spending` is what all models of a server may spend in a day, `api_timeout` is in seconds,
    after which a listing is priced without it."""

    waiting: int = 20_000
    api_timeout: float = 20.0
    api_concurrency: int = 8
    spending: DailySpending | None = None
    batch_processes: int = 1


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
    pool: BatchPool | None = None  # not started by `open`

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
        if limits.batch_processes > 1 and can_divide(model):
            loaded.pool = BatchPool(model.path, model.identity, limits.batch_processes - 1)
        return loaded

    def start_processes(self) -> None:
        """Start the other processes for large batches; this one prices alone until they are ready."""
        if self.pool is not None:
            self.pool.start()

    @property
    def processes(self) -> int:
        """The number of processes that can price now, this one included."""
        return 1 + (self.pool.ready if self.pool is not None else 0)

    def map(self, function: PartFunction, parts: Sequence[Any]) -> list[Any]:
        """The results of a function of this module for each part, in order, by all processes."""
        price_here = partial(function, self)
        if self.pool is None or len(parts) < 2:
            return list(map(price_here, parts))
        return self.pool.map(function, parts, price_here)

    def map_rows(self, function: PartFunction, rows: Sequence[T]) -> list[Any]:
        """The results of a function of this module for each row, by all processes if there are many."""
        size = PART if self.processes > 1 and len(rows) >= MIN_DIVIDED else max(1, len(rows))
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        return [result for part in self.map(function, parts) for result in part]

    def close(self) -> None:
        """End the processes, and close what the API model of this model has opened."""
        if self.pool is not None:
            self.pool.close()
        self.context.run(self.exit_stack.close)


def can_divide(model: PriceModel) -> bool:
    """Whether the batches of a model can be divided between processes: neither it nor a member asks an API model or is
    a language model, which uses all cores by itself, and no listing is rewritten by one."""
    return not model.asks_api and model.rewriter is None and all(kind in DIVISIBLE for kind in find_kinds(model))


def find_kinds(pricer: Any) -> Iterator[str]:
    """The kinds of a model and of its members; "" for a member that is no model folder."""
    if not isinstance(pricer, PriceModel):
        yield ""
        return
    yield pricer.recipe.kind
    inner: Any = pricer.pricer
    while hasattr(inner, "pricer"):
        inner = inner.pricer
    for member in getattr(inner, "members", ()):
        yield from find_kinds(member)


@dataclass(frozen=True)
class PricingRequest:
    """The listings of one request, the ids that their answers get, and how many comparables each wants."""

    listings: Sequence[Described]
    ids: Sequence[str]
    comparables: int = 0


def divide_requests(requests: Sequence[PricingRequest], size: int) -> Iterator[list[PricingRequest]]:
    """Parts of `size` listings, in order, the last one shorter; a request may be in several parts."""
    part: list[PricingRequest] = []
    room = size
    for request in requests:
        start = 0
        while start < len(request.listings):
            own = slice(start, start + room)
            part.append(PricingRequest(request.listings[own], request.ids[own], request.comparables))
            count = len(part[-1].listings)
            start, room = start + count, room - count
            if not room:
                yield part
                part, room = [], size
    if part:
        yield part


def join_answers(requests: Sequence[PricingRequest], parts: Sequence[Sequence[Sequence[Answer]]]) -> list[list[Answer]]:
    """The answers of each request from those of the parts that `divide_requests` made."""
    answers = iter([answer for part in parts for own in part for answer in own])
    return [[next(answers) for _ in request.listings] for request in requests]


def answer_requests(loaded: LoadedModel, requests: Sequence[PricingRequest]) -> list[list[Answer]]:
    """The answers of requests, by all processes of the model if there are many listings."""
    count = sum(len(request.listings) for request in requests)
    if count < MIN_DIVIDED or loaded.processes == 1:
        return price_requests(loaded, requests)
    return join_answers(requests, loaded.map(price_requests, list(divide_requests(requests, PART))))


def price_requests(loaded: LoadedModel, requests: Sequence[PricingRequest]) -> list[list[Answer]]:
    """The answers of requests, all priced in one call of the model."""
    model, reader = loaded.model, loaded.reader
    read: list[list[Listing | PricesmithError]] = [
        [read_listing(reader, value, id) for value, id in zip(request.listings, request.ids, strict=True)]
        for request in requests
    ]
    listings = [listing for own in read for listing in own if isinstance(listing, Listing)]
    quotes = iter(model.price(listings, check_similarity=True))
    answers = []
    for request, own in zip(requests, read, strict=True):
        pairs = [(listing, next(quotes) if isinstance(listing, Listing) else None) for listing in own]
        near = iter(find_near(model, pairs, request.comparables))
        answers.append(
            [
                build_answer(loaded, value, listing, quote, near)
                for value, (listing, quote) in zip(request.listings, pairs, strict=True)
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


def price_listings(loaded: LoadedModel, listings: Sequence[Listing]) -> list[Quote]:
    """The quotes of listings."""
    return loaded.model.price(listings)


def check_listings(loaded: LoadedModel, listings: Sequence[Listing]) -> list[bool | None]:
    """Whether nothing is similar to each listing."""
    return loaded.model.nothing_similar(listings)


def find_comparables(loaded: LoadedModel, rows: Sequence[tuple[Listing, Quote, int]]) -> list[list[Comparable]]:
    """The comparables of listings with these quotes, so many of each."""
    k = max((k for _, _, k in rows), default=0)
    near = loaded.model.find_comparables([row[0] for row in rows], k, quotes=[row[1] for row in rows])
    return [own[: row[2]] for own, row in zip(near, rows, strict=True)]
