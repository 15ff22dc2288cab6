"""One table, view or query of a PostgreSQL server, read in the child (`parse`) over ADBC.

The transaction is read-only, whatever the query asks. The server writes every value as text, as it does in a CSV
export, so that any type can be read: numeric(10,2) 24.50 becomes "24.50", and money keeps its sign. Arrays and JSON
become lines of text as in a JSON file, without keys that say price. Bytes are left out.

It says {"database": "shop", "table": "products"}, the header, and rows of texts.
"""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from pricesmith.catalog.readers.jsonl import flatten_value
from pricesmith.catalog.readers.messages import FileRefused, MessageWriter

SHOWN_TABLES = 12
BATCH_BYTES = 4_000_000  # that the driver gathers before it hands rows on
LOCK_SECONDS = 10
BYTES, STRUCTURES = ("bytea",), ("json", "jsonb")  # an array's type begins with an underscore
# The same rows come in the same order and the same form from any client.
SESSION = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "synchronize_seqscans": "off",
    "max_parallel_workers_per_gather": "0",
    "lock_timeout": f"{LOCK_SECONDS}s",
}
TABLES = """
SELECT c.oid::bigint, n.nspname::text, c.relname::text, c.relkind IN ('r', 'p') AND NOT c.relispartition,
       pg_catalog.pg_table_is_visible(c.oid),
       pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_any_column_privilege(c.oid, 'SELECT')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'v', 'm', 'p', 'f') AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
  AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.objid = c.oid
                  AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype = 'e')
ORDER BY NOT pg_catalog.pg_table_is_visible(c.oid), 2, 3
"""
COLUMNS = """
SELECT attname::text, pg_catalog.has_column_privilege(attrelid, attnum, 'SELECT') FROM pg_catalog.pg_attribute
WHERE attrelid = $1::bigint::oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
# What the classes and codes of SQLSTATE mean: what happened, and what to do.
STATES = {
    "57014": ("it takes longer than its time limit", "Add &timeout=SECONDS, or read a table or a materialized view."),
    "55P03": ("the table is locked by another program", "Run the command again when that program has finished."),
    "42501": ("you may not read it", "Ask the database's owner for the right to SELECT, or use another user."),
    "25006": ("it would change the database", "Use a query that only reads."),
    "22021": ("its text does not fit its encoding", "Leave out the column with ?query=SELECT ..."),
    "22P05": ("its text does not fit UTF-8", "Leave out the column with ?query=SELECT ..."),
    "42": ("the query cannot be run", "Try the query in psql first."),
    "22": ("the query fails on a value", "Try the query in psql first."),
    "08": ("the connection was lost", "Run the command again. Nothing was written."),
    "57P": ("the server ended the connection", "Run the command again. Nothing was written."),
    "53": ("the server has too little memory, disk or connections", "Run the command again later."),
}


def postgresql(connection: str, task: dict[str, Any], answer: MessageWriter) -> None:
    """The rows of a table or a query; `connection` is libpq's connection string."""
    sys.meta_path.insert(0, WithoutDataFrames())
    import adbc_driver_manager
    from adbc_driver_postgresql import dbapi

    connected = False
    try:
        with dbapi.connect(connection, autocommit=False) as base:
            connected = True
            with base.cursor() as cursor:
                begin(cursor, task["timeout"])
                database = fetch(cursor, "SELECT pg_catalog.current_database()::text")[0][0]
                if task["query"]:
                    name, query = "", task["query"]
                else:
                    name, query = choose_table(cursor, database, task["table"], answer)
                answer.say(database=database, table=name)
                copy_rows(cursor, query, answer)
    except (adbc_driver_manager.Error, OSError) as error:
        raise refusal(error, connected) from None


class WithoutDataFrames:
    """Finds neither polars nor pandas: the driver and Arrow import them wherever they are installed, which takes two
    thirds of this process's time, and nothing here is a data frame."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Nothing, so that the next finder is asked. Raises ModuleNotFoundError for the two."""
        if name in ("polars", "pandas"):
            raise ModuleNotFoundError(f"{name} is not needed here", name=name)


def fetch(cursor: Any, query: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """All rows of a small query."""
    cursor.execute(query, parameters or None)
    rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def begin(cursor: Any, seconds: int) -> None:
    """Begin a read-only transaction with a fixed form of values and a time limit."""
    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    cursor.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
    for name, value in {**SESSION, "statement_timeout": f"{seconds}s"}.items():
        fetch(cursor, "SELECT pg_catalog.set_config($1, $2, true)", (name, value))
    if (
        fetch(cursor, "SELECT pg_catalog.current_setting('server_encoding')")[0][0] == "SQL_ASCII"
    ):  # any bytes: they are not to be checked as UTF-8
        cursor.execute("SET LOCAL client_encoding = 'SQL_ASCII'")


@dataclass(frozen=True)
class Table:
    """A table or view. `stored` says that it is not a view, `visible` that its name needs no schema."""

    oid: int
    schema: str
    name: str
    stored: bool
    visible: bool
    readable: bool

    @property
    def full(self) -> str:
        """Its name with its schema."""
        return f"{self.schema}.{self.name}"

    @property
    def shown(self) -> str:
        """Its name as `?table=` takes it."""
        return self.name if self.visible else self.full


def choose_table(cursor: Any, database: str, wanted: str, answer: MessageWriter) -> tuple[str, str]:
    """The name of the table to read and the query for it. Raises FileRefused if there is none, or several."""
    tables = [Table(*row) for row in fetch(cursor, TABLES)]
    chosen = match_table([table for table in tables if table.readable], wanted) if wanted else only_table(tables)
    if chosen is None:
        raise no_such_table(tables, database, wanted)
    columns = fetch(cursor, COLUMNS, (chosen.oid,))
    hidden = [name for name, allowed in columns if not allowed]
    if hidden:
        answer.say(note=f"columns that you may not read are left out: {', '.join(hidden[:SHOWN_TABLES])}")
    names = ", ".join(identifier(name) for name, allowed in columns if allowed)
    return chosen.shown, f"SELECT {names} FROM {identifier(chosen.schema)}.{identifier(chosen.name)}"


def identifier(name: str) -> str:
    """A name in double quotes: nothing in it is SQL."""
    return '"' + name.replace('"', '""') + '"'


def match_table(tables: list[Table], wanted: str) -> Table | None:
    """The table of this name, with or without its schema; of several, the one that needs no schema."""
    for alike in (str, str.lower):
        fitting = [table for table in tables if alike(wanted) in (alike(table.name), alike(table.full))]
        exact = [table for table in fitting if alike(table.full) == alike(wanted)] or fitting
        usual = [table for table in exact if table.visible] or exact
        if len(usual) == 1:
            return usual[0]
        if usual:
            shown = [table.full for table in usual]
            raise FileRefused(
                f"several schemas have a table {wanted!r}",
                f"{len(shown):,} tables",
                ", ".join(shown[:SHOWN_TABLES]),
                f"Use ?table={quote(shown[0])}.",
            )
    return None


def only_table(tables: list[Table]) -> Table | None:
    """The only table that can be read; views count only if there is no table."""
    readable = [table for table in tables if table.readable]
    stored = [table for table in readable if table.stored] or readable
    return stored[0] if len(stored) == 1 else None


def no_such_table(tables: list[Table], database: str, wanted: str) -> FileRefused:
    """The refusal of a table that is not there, must be named or cannot be read, with those that can."""
    import difflib

    names = [table.shown for table in tables if table.readable]
    if wanted and match_table([table for table in tables if not table.readable], wanted):
        hint = "Ask the database's owner for the right to SELECT, or use another user."
        return FileRefused(f"you may not read the table {wanted!r}", wanted[:100], ", ".join(names[:12]), hint)
    if not names:
        what = "it has no table that you may read"
        return FileRefused(what, f"the database {database!r}", "", "Name another database, or use another user.")
    near = difflib.get_close_matches(wanted, names, SHOWN_TABLES, 0.5) if wanted else []
    shown = list(dict.fromkeys([*near, *names]))
    allowed = ", ".join(shown[:SHOWN_TABLES]) + (" ..." if len(shown) > SHOWN_TABLES else "")
    if wanted:
        return FileRefused(f"it has no table {wanted[:100]!r}", wanted[:100], allowed, f"Use ?table={quote(shown[0])}.")
    hint = f"Name one after the database: ?table={quote(shown[0])}."
    return FileRefused("it has several tables", f"{len(names):,} tables and views", allowed, hint)


def copy_rows(cursor: Any, query: str, answer: MessageWriter) -> None:
    """Write the rows of a query, every value as text."""
    schema = cursor.adbc_execute_schema(query)
    kinds = [(field.metadata or {}).get(b"POSTGRESQL:type", b"").decode() for field in schema]
    structured = {place for place, kind in enumerate(kinds) if kind in STRUCTURES or kind.startswith("_")}
    aliases = ", ".join(f"c{place}" for place in range(len(kinds)))
    longest = answer.limits.cell + 1  # a longer text is cut, and the row is rejected as too large
    cells = ", ".join(as_text(f"q.c{place}", kind, longest) for place, kind in enumerate(kinds))
    header = answer.header(list(schema.names))
    cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(BATCH_BYTES)})
    cursor.execute(f"SELECT {cells} FROM (\n{query}\n) AS q({aliases})")
    # The driver's own reader keeps the codes of errors that the public one loses.
    reader = getattr(getattr(cursor, "_results", None), "reader", None) or cursor.fetch_record_batch()
    for batch in reader:
        columns = [texts_of(column, structured=place in structured) for place, column in enumerate(batch.columns)]
        for row in zip(*columns, strict=True):
            answer.row(row, sum(len(cell) for cell in row if cell is not None) + 8 * len(header))


def as_text(column: str, kind: str, longest: int) -> str:
    """The SQL of a value as text of bounded length; NULL for bytes."""
    if kind in BYTES:
        return "NULL::text"
    text = f"pg_catalog.to_json({column})::text" if kind in STRUCTURES or kind.startswith("_") else f"{column}::text"
    return f"pg_catalog.left({text}, {longest})"


def texts_of(column: Any, *, structured: bool) -> list[str | None]:
    """A column of texts; bytes that are not UTF-8 are read as Windows-1252. Arrays and JSON become lines."""
    try:
        texts: list[str | None] = column.to_pylist()
    except UnicodeDecodeError:
        import pyarrow as pa

        texts = [None if cell is None else decode(cell) for cell in column.cast(pa.large_binary()).to_pylist()]
    return [flatten_json(text) for text in texts] if structured else texts


def decode(cell: bytes) -> str:
    """The bytes of a text in a database without an encoding."""
    try:
        return cell.decode("utf-8")
    except UnicodeDecodeError:
        return cell.decode("cp1252", "replace")


def flatten_json(text: str | None) -> str | None:
    """An array or JSON as lines of text; one that was cut, or is too deep, as it is."""
    if text is None:
        return None
    with contextlib.suppress(ValueError, RecursionError):
        return flatten_value(json.loads(text))
    return text


def refusal(error: Any, connected: bool) -> FileRefused:
    """What the server or the driver says, as a refusal."""
    details = dict(getattr(error, "details", None) or ())
    message = details.get(b"PG_DIAG_MESSAGE_PRIMARY", b"").decode("utf-8", "replace")
    message = message or " ".join(str(error).replace("[libpq]", "").split())
    state = (getattr(error, "sqlstate", None) or "").ljust(5)
    if not connected:
        hint = "Check host, port, user and password (PGPASSWORD, ~/.pgpass), and that the server is running."
        return FileRefused("the server cannot be reached, or refuses the connection", message, "", hint)
    lost = "server closed the connection" in str(error) or "no connection to the server" in str(error)
    for known in (state, state[:3], "08" if lost else state[:2]):
        if known in STATES:
            what, hint = STATES[known]
            return FileRefused(what, message, "", hint)
    return FileRefused("the server reports an error", message, "", "Try the query in psql first.")
