"""One table or view of a SQLite database, read in the child (`parse`). Nothing that the file contains can run.

The database is opened read-only and unchangeable, so no journal is replayed and no file is written. Extensions,
virtual tables, triggers and functions that touch anything outside are not available; an authorizer allows reading and
built-in functions only. Time, memory and row limits are those of every file.
"""

from __future__ import annotations

import math
import sqlite3
from typing import Any
from urllib.parse import quote

from pricesmith.catalog.readers.messages import TOO_LARGE, FileRefused, MessageWriter, Value
from pricesmith.text.price_parser import word_set

SHOWN_TABLES = 12
ROWS = 500  # fetched at a time
LONGEST = 50_000_000  # bytes of a row
ALLOWED_ACTIONS = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ)
FUNCTIONS = word_set(
    """abs avg cast ceil ceiling coalesce concat count date datetime floor format group_concat hex ifnull iif instr
    json_extract julianday length like lower ltrim max min nullif printf replace round rtrim strftime string_agg substr
    substring sum time total trim typeof unicode upper -> ->>"""
)


def sqlite(limits: Any, table: str, answer: MessageWriter) -> None:
    """The rows of `table` in the database on standard input; of its only table if the name is empty."""
    base = sqlite3.connect("file:/dev/fd/0?mode=ro&immutable=1", uri=True)
    try:
        base.text_factory = lambda text: text.decode("utf-8", "replace")
        base.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST)
        base.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        for setting in ("trusted_schema = OFF", "cell_size_check = ON", "temp_store = MEMORY", "query_only = ON"):
            base.execute(f"PRAGMA {setting}")
        name = choose_table(base, table)
        base.set_authorizer(authorize)
        read_table(base, name, limits, answer)
    except sqlite3.DataError:
        raise FileRefused(
            "a row is too large", f"over {LONGEST:,} bytes", f"{LONGEST:,} bytes", "Read another table."
        ) from None
    except sqlite3.DatabaseError as error:
        if "not authorized" in str(error) or "prohibited" in str(error) or "unsafe use" in str(error):
            raise FileRefused(
                f"the table {table!r} does more than reading",
                str(error),
                "tables, and views of tables with usual functions",
                "Read a table instead, or export the view as CSV.",
            ) from None
        raise
    finally:
        base.close()


def choose_table(base: sqlite3.Connection, table: str) -> str:
    """The name of the table to read. Raises FileRefused if it is not there, or none is named and there are several."""
    entries = base.execute(
        "SELECT name, type, sql FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' "
        "ESCAPE '\\' ORDER BY name"
    ).fetchall()
    names = [name for name, _, sql in entries if "virtual table" not in " ".join(str(sql).lower().split())[:40]]
    tables = [name for name, kind, _ in entries if kind == "table" and name in names]
    shown = ", ".join(names[:SHOWN_TABLES]) + (" ..." if len(names) > SHOWN_TABLES else "")
    if not names:
        raise FileRefused("it has no table", "no table or view that can be read", "", "Name another file.")
    if table:
        match = [name for name in names if name == table] or [name for name in names if name.lower() == table.lower()]
        if match:
            return str(match[0])
        raise FileRefused(f"it has no table {table!r}", table[:100], shown, f"Use ?table={quote(names[0])}.")
    if len(names) == 1 or len(tables) == 1:
        return str(tables[0] if tables else names[0])
    raise FileRefused(
        "it has several tables",
        f"{len(names):,} tables and views",
        shown,
        f"Name one after the file: ?table={quote(tables[0] if tables else names[0])}.",
    )


def authorize(action: int, first: str | None, second: str | None, *_: object) -> int:
    """SQLite's permission for one step of a query: reading, and functions that only compute."""
    if action in ALLOWED_ACTIONS:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION and str(second).lower() in FUNCTIONS:
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


def read_table(base: sqlite3.Connection, name: str, limits: Any, answer: MessageWriter) -> None:
    """Write the rows of a table, in its own order."""
    quoted = name.replace('"', '""')
    cursor = base.execute(f'SELECT * FROM "{quoted}"')
    header = answer.header([str(column[0]) for column in cursor.description])
    while rows := cursor.fetchmany(ROWS):
        for row in rows:
            cells = [plain_value(cell) for cell in row]
            size = sum(len(cell) for cell in cells if isinstance(cell, str))
            if any(isinstance(cell, str) and len(cell) > limits.cell for cell in cells):
                answer.row(TOO_LARGE, 0)
            elif all(cell is None or cell == "" for cell in cells):
                answer.blank()
            else:
                answer.row(cells, size + 8 * len(header))


def plain_value(cell: object) -> Value:
    """A value of SQLite as JSON can hold it; None for bytes that are not text."""
    if isinstance(cell, float) and not math.isfinite(cell):
        return None
    if isinstance(cell, bytes):
        try:
            return cell.decode("utf-8")
        except UnicodeDecodeError:
            return None
    return cell if isinstance(cell, str | int | float) else None
