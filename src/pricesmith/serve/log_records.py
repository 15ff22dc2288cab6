"""What the log stores: quotes, sold prices, idempotent answers; and the error of a log that cannot be written.

record = QuoteRecord(new_quote_id(), price=24.5, currency="USD", model="shop", identity="3f...")
record_at("2026-10-03T08:00:00.000Z")    a datetime in UTC
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Literal, NamedTuple

from pricesmith.core.errors import InputError, PricesmithError


class LogUnavailable(PricesmithError):
    """The log cannot be written: the disk is full, the file is locked, damaged or gone. Nothing was stored.

    A server answers 503: a quote that is not in the log is not given.
    """


class QuoteRecord(NamedTuple):  # a tuple, because a batch makes thousands of them
    """One quote that was given. `at` is in UTC with milliseconds, `2026-10-03T08:00:00.000Z`; empty: the time at which
    it is recorded.

    `listing_hash` and `chars` (its length in characters) describe the listing; `text` is stored only by a log with
    `store_text`. `price` is None for a listing without a quote, and `note` then says why.
    """

    quote_id: str
    request_id: str = ""
    at: str = ""
    model: str = ""
    identity: str = ""
    listing_hash: str = ""
    chars: int = 0
    price: float | None = None
    low: float | None = None
    high: float | None = None
    currency: str = ""
    nothing_similar: bool | None = None
    note: str = ""
    cost_usd: float | None = 0.0
    seconds: float | None = None
    key_name: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class FeedbackRecord:
    """A sold listing: its text, and what it was sold for. `sold_on` is a date, `2026-10-03`, or empty.

    `quote_id` names the quote that was given, or is empty. If that quote is in the log, `model`, `identity`, `price`,
    `low`, `high`, `quote_currency` and `listing_hash` are copied from it, otherwise they are stored as given here.
    Raises InputError for an amount or a date that cannot be one.
    """

    feedback_id: str
    sold_price: float
    currency: str
    title: str = ""
    text: str = ""
    category: str = ""
    brand: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    sold_on: str = ""
    at: str = ""
    quote_id: str = ""
    model: str = ""
    identity: str = ""
    price: float | None = None
    low: float | None = None
    high: float | None = None
    quote_currency: str = ""
    listing_hash: str = ""
    key_name: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.sold_price < float("inf"):
            raise InputError("The price of a sold listing must be above 0", got=f"{self.sold_price!r}")
        if self.sold_on:
            parse_day(self.sold_on)


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """The answer to a request with an idempotency key. It must not repeat the text of a listing."""

    key: str
    scope: str
    status: int
    body: bytes
    media_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Reservation:
    """Whether a request with an idempotency key is to be handled.

    `new`: handle it, then `finish` or `release`. `stored`: send `answer` again. `conflict`: the key was used for
    another request. `in progress`: the first request with this key is not answered yet.
    """

    state: Literal["new", "stored", "conflict", "in progress"]
    answer: StoredAnswer | None = None


def new_quote_id() -> str:
    """A random identifier that sorts by time: a UUID of version 7, as text."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    digits = f"{value:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def format_time(moment: datetime) -> str:
    """A time in UTC with milliseconds: `2026-10-03T08:00:00.000Z`. A time without a zone is in UTC."""
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_day(text: str) -> date:
    """A day written as `2026-10-03`. Raises InputError for anything else."""
    try:
        if len(text) != 10:
            raise ValueError(text)
        return date.fromisoformat(text)
    except ValueError:
        raise InputError(
            "This is not a date", got=repr(text[:40]), allowed="YYYY-MM-DD, for example 2026-10-03"
        ) from None


def record_at(text: str) -> datetime:
    """The time of a record. Raises InputError if it is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InputError("This is not a time", got=repr(text[:40]), allowed="2026-10-03T08:00:00.000Z") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
