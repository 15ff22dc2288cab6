"""Reading a log, also while a server writes it.

reader = LogReader(path)
for record in reader.iter_quotes(since="2026-10-01"): ...
reader.read_feedback()
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import fields
from datetime import date
from pathlib import Path
from typing import Any

from pricesmith.core.errors import InputError
from pricesmith.serve.log_file import check_log_file, check_tables, connect, damaged_log, report_log_errors
from pricesmith.serve.log_records import FeedbackRecord, QuoteRecord, parse_day, record_at
from pricesmith.text.formatting import to_single_line

ROWS_AT_ONCE = 2_000
FEEDBACK_COLUMNS = tuple(field.name for field in fields(FeedbackRecord))
NUMBERS = {"price", "low", "high", "sold_price", "cost_usd", "seconds", "chars", "nothing_similar"}


class LogReader:
    """The content of a log. Raises InputError if there is no log at `path`, or if it is damaged."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not check_log_file(self.path):
            raise InputError(
                f"There is no log at {self.path}",
                allowed="a log that `pricesmith serve` wrote",
                hint="`pricesmith serve MODEL --log FILE` writes one.",
            )

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that only reads, and sees one state of the log."""
        with report_log_errors(self.path), closing(connect(self.path, readonly=True)) as connection:
            check_tables(connection, self.path)
            yield connection

    def iter_quotes(self, since: date | str | None = None, *, identity: str | None = None) -> Iterator[QuoteRecord]:
        """The quotes since a day (UTC), in the order in which they were stored; of one model only if `identity` is
        given."""
        yield from (to_quote(row, self.path) for row in self.select("quotes", QuoteRecord._fields, since, identity))

    def iter_columns(
        self, table: str, names: Sequence[str], since: date | str | None = None
    ) -> Iterator[tuple[Any, ...]]:
        """Some columns of the quotes or of the feedback since a day, which is faster than whole records."""
        yield from self.select(table, names, since, None)

    def read_quotes(self, since: date | str | None = None, *, identity: str | None = None) -> list[QuoteRecord]:
        """The same, as a list."""
        return list(self.iter_quotes(since, identity=identity))

    def read_feedback(self, since: date | str | None = None, *, identity: str | None = None) -> list[FeedbackRecord]:
        """The sold prices since a day (UTC), in the order in which they were stored."""
        return [to_feedback(row, self.path) for row in self.select("feedback", FEEDBACK_COLUMNS, since, identity)]

    def find_quote(self, quote_id: str) -> QuoteRecord | None:
        """A quote by its id; None if it is not in the log."""
        rows = self.select("quotes", QuoteRecord._fields, None, None, "quote_id = ?", quote_id)
        return next((to_quote(row, self.path) for row in rows), None)

    def spending(self, day: date) -> float:
        """US dollars that API models cost on a day."""
        with self.reading() as connection:
            row = connection.execute("SELECT usd FROM spending WHERE day = ?", (day.isoformat(),)).fetchone()
        return float(row[0]) if row else 0.0

    def count_rows(self) -> dict[str, int]:
        """The number of quotes and of sold prices."""
        with self.reading() as connection:
            return {
                table: int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
                for table in ("quotes", "feedback")
            }

    def count_by_model(self) -> list[dict[str, Any]]:
        """For each model and identity: quotes, sold prices, and the first and the last day of both."""
        union = """SELECT model, identity, at, 1 AS quote, 0 AS sold FROM quotes
            UNION ALL SELECT model, identity, at, 0, 1 FROM feedback"""
        names = ("model", "identity", "quotes", "feedback", "first_day", "last_day")
        with self.reading() as connection:
            rows = connection.execute(
                f"""SELECT model, identity, sum(quote), sum(sold), substr(min(at), 1, 10), substr(max(at), 1, 10)
                FROM ({union}) GROUP BY model, identity ORDER BY min(at), model, identity"""
            ).fetchall()
        return [dict(zip(names, row, strict=True)) for row in rows]

    def select(
        self,
        table: str,
        names: Sequence[str],
        since: date | str | None,
        identity: str | None,
        condition: str = "",
        *values: str,
    ) -> Iterator[tuple[Any, ...]]:
        """The rows of a table that meet all conditions, checked."""
        conditions, parameters = [condition] * bool(condition), [*values]
        if since is not None:
            conditions.append("at >= ?")
            parameters.append((parse_day(since) if isinstance(since, str) else since).isoformat())
        if identity is not None:
            conditions.append("identity = ?")
            parameters.append(identity)
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        with self.reading() as connection:
            cursor = connection.execute(f"SELECT {', '.join(names)} FROM {table}{where} ORDER BY number", parameters)
            while rows := cursor.fetchmany(ROWS_AT_ONCE):
                check_rows(names, rows, self.path)
                yield from rows


def check_rows(names: Sequence[str], rows: Sequence[tuple[Any, ...]], path: Path) -> None:
    """Raise InputError if a value is of another type than its column or no finite number, or a day is none."""
    for name, values in zip(names, zip(*rows, strict=True), strict=True):
        if name in NUMBERS:
            valid = set(map(type, values)) <= {float, int, type(None)} and all(map(math.isfinite, filter(None, values)))
        else:
            valid = set(map(type, values)) == {str}
        if not valid:
            raise damaged_log(path, f"a value of the column {name}")
        if name == "at":
            for day in {value[:10] for value in values}:
                check_time(day, path)


def to_quote(row: tuple[Any, ...], path: Path) -> QuoteRecord:
    """A row of the table of quotes as a record."""
    record = QuoteRecord(*row)
    check_time(record.at, path)
    similar = record.nothing_similar
    return record if similar is None else record._replace(nothing_similar=bool(similar))


def to_feedback(row: tuple[Any, ...], path: Path) -> FeedbackRecord:
    """A row of the table of feedback as a record."""
    values = dict(zip(FEEDBACK_COLUMNS, row, strict=True))
    check_time(values["at"], path)
    try:
        further = json.loads(values["fields"])
        if not isinstance(further, dict) or not all(isinstance(value, str) for value in further.values()):
            raise damaged_log(path, f"fields: {values['fields'][:60]!r}")
        return FeedbackRecord(**{**values, "fields": further})
    except (ValueError, RecursionError, TypeError, InputError) as error:
        raise damaged_log(path, str(error)) from None


def check_time(text: str, path: Path) -> None:
    """Raise InputError if a text is no time."""
    try:
        record_at(text)
    except InputError as error:
        raise damaged_log(path, f"at: {error.got}") from None


def feedback_values(record: FeedbackRecord) -> dict[str, Any]:
    """The values of a row of the table of feedback, by column name."""
    values = {name: getattr(record, name) for name in FEEDBACK_COLUMNS}
    for name in ("title", "text", "category", "brand"):
        values[name] = values[name].encode("utf-8", "replace").decode()
    texts = {str(name): str(value) for name, value in record.fields.items()}
    return {**values, "fields": json.dumps(texts)}  # ASCII, so that every text can be stored


def format_contents(contents: Sequence[Mapping[str, Any]]) -> Any:
    """What `count_by_model` returns as a table for a terminal."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for title in ("model", "identity", "quotes", "sold prices", "first day", "last day"):
        table.add_column(title, justify="right" if title in ("quotes", "sold prices") else "left")
    for row in contents:
        counts = (f"{row['quotes']:,}", f"{row['feedback']:,}")
        names = (Text(to_single_line(str(row["model"]) or "(none)", 60)), Text(str(row["identity"])[:12]))
        table.add_row(*names, *counts, str(row["first_day"]), str(row["last_day"]))
    return table
