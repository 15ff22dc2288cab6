"""Tables of PostgreSQL servers as sources: `postgresql://USER@HOST:PORT/DATABASE?table=T`, or `?query=SELECT ...`.

>>> address = parse_address("postgresql://ann@db.example:5433/shop?table=sales.products")
>>> address.shown, address.table
('postgresql://db.example:5433/shop', 'sales.products')

The rows are read once, in a child process that may use the network but no files (`postgresql`), and copied to a
temporary Parquet file, which is then parsed as any other file. What libpq knows holds here too: `PGPASSWORD` and the
other variables, `~/.pgpass`, services, and options such as `sslmode` in the address.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from pricesmith.catalog.readers.table_copies import current_copies
from pricesmith.core.addresses import mask_password
from pricesmith.core.errors import InputError, MissingExtra, UsageError
from pricesmith.core.progress import SILENT, Progress

if TYPE_CHECKING:
    import pyarrow as pa

POSTGRESQL = ("postgresql://", "postgres://")
FORM = "postgresql://USER@HOST:PORT/DATABASE?table=TABLE"
OWN_OPTIONS = ("table", "query", "timeout")
LIBPQ_OPTIONS = (
    *("user", "password", "passfile", "connect_timeout", "application_name", "options", "target_session_attrs"),
    *("sslmode", "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl", "channel_binding", "require_auth"),
    *("gssencmode", "krbsrvname", "hostaddr", "service", "load_balance_hosts"),
)
SECONDS, MOST_SECONDS = 600, 86_400  # that the server may take for the whole table
CONNECT_SECONDS = 10  # for each host
# A connection that no packet crosses is given up after a minute.
KEEPALIVE = {"keepalives_idle": "20", "keepalives_interval": "10", "keepalives_count": "4"}
ENCODE = "Write signs such as : / ? # @ in a password as %3A %2F %3F %23 %40, or put it into ~/.pgpass."
HEX = 8  # digits of the hash that names a query


@dataclass(frozen=True)
class Address:
    """A parsed source. `connection` are libpq's parameters, which may hold a password; `shown` is without user and
    password; `seconds` is the limit for the whole table."""

    shown: str
    table: str = ""
    query: str = ""
    seconds: int = SECONDS
    connection: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)

    @property
    def key(self) -> tuple[Any, ...]:
        """What distinguishes two sources."""
        return (self.table, self.query, *sorted(self.connection.items()))


class TableCopy(NamedTuple):
    """A table that was read: its copy, the names of its database and its server, and the table's name, which for a
    query is `query-` with its hash."""

    path: Path
    server: str
    database: str
    table: str


def parse_address(source: str) -> Address:
    """The parts of a source. Raises UsageError, without its password, for what is not such an address."""
    head, _, options = source.partition("?")
    userinfo, mark, rest = head.partition("://")[2].rpartition("@")
    hosts, _, database = rest.partition("/")
    user, colon, password = userinfo.partition(":")
    names, ports = split_hosts(source, hosts)
    given = split_options(source, options)
    connection = {"host": names, "port": ports, "dbname": decode(source, database)}
    connection |= {"user": decode(source, user)} if mark else {}
    connection |= {"password": decode(source, password)} if colon else {}
    connection |= {name: value for name, value in given.items() if name not in OWN_OPTIONS}
    if given.get("table") and given.get("query"):
        raise address_error(source, "A PostgreSQL source names a table or a query, not both", "Leave out one of them.")
    return Address(
        f"postgresql://{hosts}/{connection['dbname']}",
        given.get("table", ""),
        given.get("query", "").strip().rstrip(";").rstrip(),
        read_seconds(source, given.get("timeout", str(SECONDS))),
        {name: value for name, value in connection.items() if value},
    )


def address_error(source: str, what: str, hint: str = f"Write it as {FORM}.") -> UsageError:
    """The error for an address, which is shown without its password."""
    allowed = f"{FORM}, or ?query=SELECT ... in place of the table"
    return UsageError(what, got=mask_password(source)[:300], allowed=allowed, hint=hint)


def split_hosts(source: str, hosts: str) -> tuple[str, str]:
    """The hosts and the ports, each separated by commas as libpq takes them."""
    names, ports = [], []
    for part in hosts.split(","):
        match = re.fullmatch(r"(?P<name>\[[0-9A-Fa-f:.%]+\]|[^:\[\]]*)(?::(?P<port>[0-9]{1,5})?)?", part)
        if match is None:
            raise address_error(source, "The host of a PostgreSQL source cannot be read", ENCODE)
        names.append(decode(source, match["name"].strip("[]")))
        ports.append(match["port"] or "")
    return ",".join(names), ",".join(ports) if any(ports) else ""


def split_options(source: str, options: str) -> dict[str, str]:
    """The options after the question mark. Raises UsageError for one that is not known."""
    given: dict[str, str] = {}
    for part in options.split("&") if options else ():
        name, mark, value = part.partition("=")
        if "@" in name:  # of a password with a question mark; it is not shown
            raise address_error(source, "The options of a PostgreSQL source cannot be read", ENCODE)
        if name not in (*OWN_OPTIONS, *LIBPQ_OPTIONS) or not mark or not value:
            raise UsageError(
                f"A PostgreSQL source has no option {name[:60]!r}" if mark else "An option of a source has no value",
                got=mask_password(source)[:300],
                allowed=", ".join((*OWN_OPTIONS, *LIBPQ_OPTIONS)),
                hint=f"Write it as {FORM}; in a query & is written as %26 and % as %25.",
            )
        given[name] = decode(source, value)
    return given


def decode(source: str, text: str) -> str:
    """A part of an address with its percent signs decoded. Raises UsageError if that is not UTF-8 text."""
    try:
        plain = unquote(text, errors="strict")
    except UnicodeDecodeError:
        plain = "\0"
    if "\0" in plain:
        raise address_error(source, "A percent sign in the address does not stand for UTF-8", "Write % as %25.")
    return plain


def read_seconds(source: str, text: str) -> int:
    """The option `timeout`. Raises UsageError unless it is a whole number of seconds up to a day."""
    if not re.fullmatch(r"[0-9]{1,6}", text, re.ASCII) or not 1 <= int(text) <= MOST_SECONDS:
        raise UsageError(
            "The timeout of a PostgreSQL source is not a number of seconds",
            got=text[:60],
            allowed=f"whole seconds from 1 to {MOST_SECONDS:,}",
            hint=f"Use timeout={SECONDS}, or leave it out.",
        )
    return int(text)


def connection_text(connection: Mapping[str, str]) -> str:
    """libpq's connection string: host='db.example' port='5433'."""
    values = {"connect_timeout": str(CONNECT_SECONDS), "application_name": "pricesmith", **KEEPALIVE, **connection}
    values["client_encoding"] = "UTF8"
    quoted = {name: value.replace("\\", "\\\\").replace("'", "\\'") for name, value in values.items()}
    return " ".join(f"{name}='{value}'" for name, value in quoted.items())


def libpq_variables() -> dict[str, str]:
    """The variables that libpq reads: PGPASSWORD and its like, and where the home folder with ~/.pgpass is."""
    names = [name for name in os.environ if name.startswith(("PG", "KRB5")) or name in ("HOME", "SSL_CERT_FILE")]
    return {name: os.environ[name] for name in names}


def fetch_table(address: Address, limits: Any, progress: Progress = SILENT) -> TableCopy:
    """Read a table into a temporary file, or take the copy of this command.

    Raises MissingExtra without the driver, and InputError if the table cannot be read to its end.
    """
    copies = current_copies()
    if address.key in copies.known:
        known: TableCopy = copies.known[address.key]
        return known
    if any(importlib.util.find_spec(name) is None for name in ("adbc_driver_manager", "adbc_driver_postgresql")):
        raise MissingExtra("Reading PostgreSQL needs the ADBC driver, which is not installed", "sql")
    if address.connection.get("password"):
        progress.note(
            "The password in the address can be seen in the list of processes and in the shell's history: "
            "PGPASSWORD or ~/.pgpass hide it."
        )
    path = copies.folder / f"{len(copies.known) + 1}.parquet"
    try:
        names = copy_rows(address, limits, path, progress)
    except OSError as error:
        raise InputError(
            "The table cannot be copied to the folder of temporary files",
            got=error.strerror or str(error),
            hint="Free some space, or set TMPDIR to another folder.",
        ) from None
    table = f"query-{hashlib.sha256(address.query.encode()).hexdigest()[:HEX]}" if address.query else names["table"]
    copy = TableCopy(path, address.shown.partition("://")[2].partition("/")[0], names["database"], table)
    copies.known[address.key] = copy
    return copy


def copy_rows(address: Address, limits: Any, path: Path, progress: Progress) -> dict[str, str]:
    """Write the rows that the child reads to a Parquet file; the names of the database and the table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pricesmith.catalog.readers.sandbox import run_worker

    task: dict[str, Any] = {
        "name": address.shown,
        "format": "postgresql",
        "table": address.table,
        "query": address.query,
    }
    task |= {"timeout": address.seconds, "limits": {**limits, "seconds": address.seconds + 2.0 * CONNECT_SECONDS}}
    progress.start(f"reading {address.shown}")
    names: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        text = connection_text(address.connection)
        messages = run_worker(None, task, text=text, variables=libpq_variables())
        stack.enter_context(contextlib.closing(messages))
        writer, schema = None, pa.schema([])
        for message in messages:
            if "note" in message:
                progress.note(f"{address.shown}: {message['note']}")
            elif "database" in message:
                names = message
            elif "header" in message:
                schema = pa.schema([(name, pa.large_string()) for name in message["header"]])
                # Without dictionaries: a copy of repeated texts would look like a file made to fill the memory.
                writer = stack.enter_context(pq.ParquetWriter(path, schema, compression="snappy", use_dictionary=False))
            elif "rows" in message:
                assert writer is not None
                writer.write_table(to_table(message["rows"], schema))
                progress.advance(len(message["rows"]))
    return names


def to_table(rows: list[list[str | None]], schema: pa.Schema) -> pa.Table:
    """Rows of texts as an Arrow table."""
    import pyarrow as pa

    columns = [pa.array(column, pa.large_string()) for column in zip(*rows, strict=True)]
    return pa.Table.from_arrays(columns, schema=schema)
