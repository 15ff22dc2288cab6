"""Sources that are not plain paths: `sqlite:FILE?table=T`.

>>> split_sqlite("sqlite:shop.db?table=products")
('shop.db', 'products')
>>> split_sqlite("sqlite:shop.db")
('shop.db', '')
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from pricesmith.core.errors import InputError, UsageError

SQLITE = "sqlite:"
TABLE = "table="
UNWRITTEN = ("-wal", "-journal")  # files beside a database that hold changes


def split_sqlite(source: str) -> tuple[str, str]:
    """The path and the table of `sqlite:FILE?table=T`. Raises UsageError for another option than the table."""
    path, mark, query = source.removeprefix(SQLITE).rpartition("?")
    if not mark or (not query.startswith(TABLE) and Path(source.removeprefix(SQLITE)).exists()):
        return source.removeprefix(SQLITE), ""
    if not query.startswith(TABLE) or query == TABLE:
        raise UsageError(
            "A SQLite source names a file and a table",
            got=source,
            allowed="sqlite:FILE or sqlite:FILE?table=TABLE",
            hint=f"Use sqlite:{path}?table=TABLE.",
        )
    return path, unquote(query.removeprefix(TABLE))


def sqlite_path(source: str) -> tuple[Path, str]:
    """The file and the table of a SQLite source. Raises InputError if the file is not there, is not a plain file, or
    has changes beside it that are not written yet."""
    named, table = split_sqlite(source)
    path = Path(named).expanduser()
    if not path.is_file():
        raise InputError(
            f"There is no SQLite file {named}",
            got=source,
            allowed="sqlite:FILE?table=TABLE",
            hint="Check the path.",
        )
    for ending in UNWRITTEN:
        beside = path.with_name(path.name + ending)
        if beside.exists() and beside.stat().st_size:
            raise InputError(
                f"{path.name} has changes that are not in the file yet",
                got=f"{beside.name}, {beside.stat().st_size:,} bytes",
                allowed="a database that no program is writing to",
                hint=f"Close the program that uses it, or copy it: sqlite3 {named} '.backup copy.db'",
            )
    return path, table
