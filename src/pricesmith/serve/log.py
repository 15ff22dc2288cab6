"""The log of a server: every quote, every sold price, answers to repeat, and what API models cost, in one SQLite file.

    with RequestLog("shop.requests.db") as log:
        record = log.build_quote(listing, quote, model=model.name, identity=model.identity, currency="USD")
        await log.record_quotes([record])          returns when the row is on disk; raises LogUnavailable if it is not
        await log.record_feedback(FeedbackRecord(new_quote_id(), 20.0, "USD", quote_id=record.quote_id, title="..."))

    LogReader("shop.requests.db").read_feedback()   also while a server writes it

One process writes a log, another one is refused. One thread writes it, and commits together whatever waits
(SQLite in WAL mode, `synchronous=FULL`), so that a row survives a kill of the process and a loss of power.

Listings of quotes are stored as a hash and a length, unless `store_text`. The hash is keyed with a random key of the
log: equal listings are recognized within one log, and hashes of two logs cannot be compared. Whoever has the file has
the key, and can test whether a text that he knows is in it. Feedback is stored with its text.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

from pricesmith.core.errors import InputError
from pricesmith.core.types import Listing, Quote, render
from pricesmith.pricers.reference import listing_length
from pricesmith.serve.log_file import default_log_path
from pricesmith.serve.log_reader import LogReader, feedback_values
from pricesmith.serve.log_records import (
    FeedbackRecord,
    LogUnavailable,
    QuoteRecord,
    Reservation,
    StoredAnswer,
    format_time,
    new_quote_id,
    parse_day,
)
from pricesmith.serve.log_writer import LogWriter

__all__ = [
    "DeletedRows",
    "FeedbackRecord",
    "LogReader",
    "LogUnavailable",
    "QuoteRecord",
    "RequestLog",
    "Reservation",
    "StoredAnswer",
    "default_log_path",
    "new_quote_id",
]

IDEMPOTENCY_HOURS = 24
AT, NOTE, TEXT = (QuoteRecord._fields.index(name) for name in ("at", "note", "text"))
COPIED = ("model", "identity", "price", "low", "high", "currency", "listing_hash")  # from a quote to its feedback

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DeletedRows:
    """What a deletion removed. `erased`: no byte of the text is left in the file and its journal; False while another
    program reads the log or its disk is too full to rewrite it, and then the text goes when the log is next closed."""

    quotes: int
    feedback: int
    erased: bool


def read_clock() -> datetime:
    """The time in UTC."""
    return datetime.now(UTC)


class RequestLog(LogReader):
    """A log that is written. Every method is safe in any thread; those without `_sync` are for asyncio.

    Raises UsageError if the path is not allowed or another process writes the log, InputError if the file is not a log
    of this version. A write raises LogUnavailable if it is not on disk.
    """

    def __init__(self, path: Path | str, *, store_text: bool = False, now: Callable[[], datetime] = read_clock) -> None:
        self.store_text, self.now = store_text, now
        self.hash_key = b""
        self.writer = LogWriter(path, self.prepare)
        super().__init__(self.writer.path)

    def prepare(self, connection: sqlite3.Connection) -> None:
        """Read the key of the hashes; forget requests that a killed server left unanswered, so that they can be sent
        again."""
        (self.hash_key,) = connection.execute("SELECT value FROM meta WHERE name = 'hash key'").fetchone()
        connection.execute("DELETE FROM idempotency WHERE status IS NULL")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what waits, and close the file."""
        self.writer.close()

    async def run(self, work: Callable[[sqlite3.Connection], T], *, alone: bool = False) -> T:
        """The result of work in a transaction, after its commit."""
        return await asyncio.wrap_future(self.writer.submit(work, alone=alone))

    def run_sync(self, work: Callable[[sqlite3.Connection], T], *, alone: bool = False) -> T:
        """The result of work in a transaction, after its commit."""
        future: Future[T] = self.writer.submit(work, alone=alone)
        return future.result()

    # Hashes

    def hash_listing(self, listing: Listing) -> str:
        """The hash by which the same listing is recognized within this log: 32 hexadecimal digits."""
        parts = (listing.title, listing.text, listing.category, listing.brand)
        return self.hash_bytes("\0".join(parts).encode("utf-8", "replace"))

    def hash_bytes(self, content: bytes) -> str:
        """A hash with the key of this log, for the body of a request: 32 hexadecimal digits."""
        return hashlib.blake2b(content, key=self.hash_key, digest_size=16).hexdigest()

    # Quotes

    def build_quote(
        self,
        listing: Listing,
        quote: Quote,
        *,
        model: str,
        identity: str,
        currency: str,
        request_id: str = "",
        key_name: str = "",
        quote_id: str = "",
    ) -> QuoteRecord:
        """The record of a quote of a listing, without its time, which is that of its recording."""
        return QuoteRecord(
            quote_id=quote_id or new_quote_id(),
            request_id=request_id,
            model=model,
            identity=identity,
            listing_hash=self.hash_listing(listing),
            chars=listing_length(listing),
            price=quote.price,
            low=quote.low,
            high=quote.high,
            currency=currency,
            nothing_similar=quote.nothing_similar,
            note=quote.note or ("" if quote.price is not None else quote.raw),
            cost_usd=quote.cost_usd,
            seconds=quote.seconds,
            key_name=key_name,
            text=render(listing) if self.store_text else "",
        )

    async def record_quotes(self, rows: Sequence[QuoteRecord], answer: StoredAnswer | None = None) -> None:
        """Store quotes, and the answer to their request in the same transaction if it has an idempotency key.

        Raises InputError if a quote_id is in the log already, and then stores none of them.
        """
        await self.run(self.insert_quotes(rows, answer))

    def record_quotes_sync(self, rows: Sequence[QuoteRecord], answer: StoredAnswer | None = None) -> None:
        """The same, for code without asyncio."""
        self.run_sync(self.insert_quotes(rows, answer))

    def insert_quotes(
        self, rows: Sequence[QuoteRecord], answer: StoredAnswer | None
    ) -> Callable[[sqlite3.Connection], None]:
        """The work that stores quotes; their texts are left out unless `store_text`."""
        now = format_time(self.now())
        values = [quote_values(row, now, self.store_text) for row in rows]

        def work(connection: sqlite3.Connection) -> None:
            try:
                connection.executemany(insert_statement("quotes", QuoteRecord._fields), values)
            except sqlite3.IntegrityError:
                raise InputError(
                    "A quote_id is in the log already", hint="Use new_quote_id() for each quote."
                ) from None
            self.store_answer(connection, answer)

        return work

    # Feedback

    async def record_feedback(self, record: FeedbackRecord, answer: StoredAnswer | None = None) -> FeedbackRecord:
        """Store a sold price with the quote that was given for it, and return it as stored.

        Raises InputError if the feedback_id is in the log already.
        """
        return await self.run(self.insert_feedback(record, answer))

    def record_feedback_sync(self, record: FeedbackRecord, answer: StoredAnswer | None = None) -> FeedbackRecord:
        """The same, for code without asyncio."""
        return self.run_sync(self.insert_feedback(record, answer))

    def insert_feedback(
        self, record: FeedbackRecord, answer: StoredAnswer | None
    ) -> Callable[[sqlite3.Connection], FeedbackRecord]:
        """The work that stores feedback."""
        listing = Listing("", record.title, record.text, record.category, record.brand)
        given = replace(
            record,
            at=record.at or format_time(self.now()),
            listing_hash=record.listing_hash or self.hash_listing(listing),
        )

        def work(connection: sqlite3.Connection) -> FeedbackRecord:
            select = f"SELECT {', '.join(COPIED)} FROM quotes WHERE quote_id = ?"
            row = connection.execute(select, (given.quote_id,)).fetchone() if given.quote_id else None
            stored = given
            if row is not None:
                names = ("quote_currency" if name == "currency" else name for name in COPIED)
                stored = replace(given, **dict(zip(names, row, strict=True)))
            values = feedback_values(stored)
            try:
                connection.execute(insert_statement("feedback", tuple(values)), tuple(values.values()))
            except sqlite3.IntegrityError:
                raise InputError("This feedback_id is in the log already", got=given.feedback_id) from None
            self.store_answer(connection, answer)
            return stored

        return work

    # Deletion

    async def delete_feedback(self, feedback_id: str) -> DeletedRows:
        """Delete one sold price and erase its text from the file and its journal. The file is rewritten for that, and
        other writes wait."""
        return await self.run(self.erase("DELETE FROM feedback WHERE feedback_id = ?", feedback_id), alone=True)

    def delete_feedback_sync(self, feedback_id: str) -> DeletedRows:
        """The same, for code without asyncio."""
        return self.run_sync(self.erase("DELETE FROM feedback WHERE feedback_id = ?", feedback_id), alone=True)

    async def delete_before(self, day: date | str) -> DeletedRows:
        """Delete quotes, feedback and stored answers from before a day (UTC), and erase their texts."""
        return await self.run(self.erase_before(day), alone=True)

    def delete_before_sync(self, day: date | str) -> DeletedRows:
        """The same, for code without asyncio."""
        return self.run_sync(self.erase_before(day), alone=True)

    def erase_before(self, day: date | str) -> Callable[[sqlite3.Connection], DeletedRows]:
        """The work that erases what is older than a day."""
        start = (parse_day(day) if isinstance(day, str) else day).isoformat()
        tables = ("feedback", "quotes", "idempotency")
        return self.erase(";".join(f"DELETE FROM {table} WHERE at < ?" for table in tables), start)

    def erase(self, statements: str, value: str) -> Callable[[sqlite3.Connection], DeletedRows]:
        """The work that deletes rows and rewrites the file without them."""

        def work(connection: sqlite3.Connection) -> DeletedRows:
            connection.execute("BEGIN IMMEDIATE")
            counts = {s.split()[2]: connection.execute(s, (value,)).rowcount for s in statements.split(";")}
            connection.execute("COMMIT")
            erased = True
            if any(counts.values()):
                try:
                    connection.execute("VACUUM")
                    (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                    erased = not busy
                except sqlite3.OperationalError:  # the disk is too full for a second copy, or the log is being read
                    erased = False
            return DeletedRows(counts.get("quotes", 0), counts.get("feedback", 0), erased)

        return work

    # Idempotency

    async def reserve(self, key: str, route: str, body_hash: str, scope: str = "") -> Reservation:
        """Whether a request with an idempotency key is new. Keys of different scopes (API keys) are different keys;
        they are forgotten after 24 hours. `body_hash` should be from `hash_bytes`."""
        return await self.run(self.reserve_key(key, route, body_hash, scope))

    def reserve_sync(self, key: str, route: str, body_hash: str, scope: str = "") -> Reservation:
        """The same, for code without asyncio."""
        return self.run_sync(self.reserve_key(key, route, body_hash, scope))

    def reserve_key(
        self, key: str, route: str, body_hash: str, scope: str
    ) -> Callable[[sqlite3.Connection], Reservation]:
        """The work that looks a key up, and notes it if it is new."""
        now = self.now()
        oldest = format_time(now - timedelta(hours=IDEMPOTENCY_HOURS))

        def work(connection: sqlite3.Connection) -> Reservation:
            connection.execute("DELETE FROM idempotency WHERE at < ?", (oldest,))
            select = "SELECT route, body_hash, status, body, media_type FROM idempotency WHERE scope = ? AND key = ?"
            row = connection.execute(select, (scope, key)).fetchone()
            if row is None:
                insert = "INSERT INTO idempotency VALUES (?, ?, ?, ?, ?, NULL, NULL, '')"
                connection.execute(insert, (scope, key, route, body_hash, format_time(now)))
                return Reservation("new")
            if (row[0], row[1]) != (route, body_hash):
                return Reservation("conflict")
            if row[2] is None:
                return Reservation("in progress")
            return Reservation("stored", StoredAnswer(key, scope, row[2], row[3], row[4]))

        return work

    async def finish(self, answer: StoredAnswer) -> None:
        """Store the answer to a request whose key was reserved. An answer to quotes or feedback is stored with them."""
        await self.run(lambda connection: self.store_answer(connection, answer))

    def finish_sync(self, answer: StoredAnswer) -> None:
        """The same, for code without asyncio."""
        self.run_sync(lambda connection: self.store_answer(connection, answer))

    async def release(self, key: str, scope: str = "") -> None:
        """Forget a reserved key whose request failed, so that it can be repeated."""
        await self.run(lambda connection: release_key(connection, key, scope))

    def release_sync(self, key: str, scope: str = "") -> None:
        """The same, for code without asyncio."""
        self.run_sync(lambda connection: release_key(connection, key, scope))

    def store_answer(self, connection: sqlite3.Connection, answer: StoredAnswer | None) -> None:
        """Store an answer under its reserved key."""
        if answer is None:
            return
        connection.execute(
            "UPDATE idempotency SET status = ?, body = ?, media_type = ? WHERE scope = ? AND key = ?",
            (answer.status, answer.body, answer.media_type, answer.scope, answer.key),
        )

    # Spending

    async def record_spending(self, day: date, usd: float) -> float:
        """Add US dollars to what API models cost on a day; the total of the day. A negative amount is given back."""
        return await self.run(add_spending(day, usd))

    def record_spending_sync(self, day: date, usd: float) -> float:
        """The same, for code without asyncio."""
        return self.run_sync(add_spending(day, usd))


def quote_values(row: QuoteRecord, now: str, store_text: bool) -> Sequence[Any]:
    """The values of a row of the table of quotes."""
    if row.at and not row.text and row.note.isascii():
        return row
    values = list(row)
    values[AT] = row.at or now
    values[NOTE] = row.note.encode("utf-8", "replace").decode()
    values[TEXT] = row.text.encode("utf-8", "replace").decode() if store_text else ""
    return values


def insert_statement(table: str, columns: Sequence[str]) -> str:
    """The statement that inserts a row."""
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


def release_key(connection: sqlite3.Connection, key: str, scope: str) -> None:
    """Forget a key that has no answer yet."""
    connection.execute("DELETE FROM idempotency WHERE scope = ? AND key = ? AND status IS NULL", (scope, key))


def add_spending(day: date, usd: float) -> Callable[[sqlite3.Connection], float]:
    """The work that adds an amount to a day's spending."""

    def work(connection: sqlite3.Connection) -> float:
        upsert = "INSERT INTO spending VALUES (?, max(0, ?)) ON CONFLICT DO UPDATE SET usd = max(0, usd + ?)"
        connection.execute(upsert, (day.isoformat(), usd, usd))
        (total,) = connection.execute("SELECT usd FROM spending WHERE day = ?", (day.isoformat(),)).fetchone()
        return float(total)

    return work
