"""The log's file: where it may be, how it is created, opened and checked, and its tables.

It is a SQLite database in WAL mode with an application id and a format number of its own. A file that is not a log is
never opened by SQLite, and so never changed.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from pricesmith.core.atomic import find_output, sync_folder
from pricesmith.core.build_file import BUILD_FILE, SWEEP_FILE, SWEEP_MODEL
from pricesmith.core.errors import InputError, UsageError
from pricesmith.serve.log_records import LogUnavailable

APPLICATION_ID = 0x5053_4C47
FORMAT = 1
SUFFIX = ".requests.db"
WAIT_SECONDS = 2.0  # for a lock of another program on the file
MARKERS = ("manifest.json", "ledger.json", "export.json", "base.json", "sweep.json", ".settings.json")
PARTS_OF_A_BUILD = ("models", "catalog", "evals")

TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE quotes (
  number INTEGER PRIMARY KEY, quote_id TEXT NOT NULL UNIQUE, request_id TEXT NOT NULL, at TEXT NOT NULL,
  model TEXT NOT NULL, identity TEXT NOT NULL, listing_hash TEXT NOT NULL, chars INTEGER NOT NULL,
  price REAL, low REAL, high REAL, currency TEXT NOT NULL, nothing_similar INTEGER, note TEXT NOT NULL,
  cost_usd REAL, seconds REAL, key_name TEXT NOT NULL, text TEXT NOT NULL
);
CREATE TABLE feedback (
  number INTEGER PRIMARY KEY, feedback_id TEXT NOT NULL UNIQUE, sold_price REAL NOT NULL, currency TEXT NOT NULL,
  title TEXT NOT NULL, text TEXT NOT NULL, category TEXT NOT NULL, brand TEXT NOT NULL, fields TEXT NOT NULL,
  sold_on TEXT NOT NULL, at TEXT NOT NULL, quote_id TEXT NOT NULL, model TEXT NOT NULL, identity TEXT NOT NULL,
  price REAL, low REAL, high REAL, quote_currency TEXT NOT NULL, listing_hash TEXT NOT NULL, key_name TEXT NOT NULL
);
CREATE INDEX feedback_by_time ON feedback (at);
CREATE TABLE idempotency (
  scope TEXT NOT NULL, key TEXT NOT NULL, route TEXT NOT NULL, body_hash TEXT NOT NULL, at TEXT NOT NULL,
  status INTEGER, body BLOB, media_type TEXT NOT NULL, PRIMARY KEY (scope, key)
);
CREATE INDEX idempotency_by_time ON idempotency (at);
CREATE TABLE spending (day TEXT PRIMARY KEY, usd REAL NOT NULL) WITHOUT ROWID;
"""


def default_log_path(model: Path | str) -> Path:
    """The log of a model folder: `NAME.requests.db` beside it, or beside the build or sweep folder that it is in."""
    folder = Path(os.path.realpath(model))
    if folder.name == SWEEP_MODEL and (folder.parent / SWEEP_FILE).is_file():
        folder = folder.parent
    if folder.parent.name == "models" and (folder.parent.parent / BUILD_FILE).is_file():
        folder = folder.parent.parent
    return folder.with_name(f"{folder.name}{SUFFIX}")


def find_log_file(path: Path | str) -> Path:
    """The real path of a log that is to be written. Raises UsageError if a log cannot be there: a folder, a pipe, a
    missing parent folder, or a place inside a model, a catalog, an export or a build's models."""
    place = Path(os.path.realpath(find_output(Path(path))))
    if not place.parent.is_dir():
        raise UsageError(
            f"The folder of the log {path} does not exist",
            hint=f"Create it: mkdir -p {place.parent}; or choose another.",
        )
    for folder in place.parents:
        inside = place.relative_to(folder).parts[0]
        if is_ours(folder) or (
            inside in PARTS_OF_A_BUILD and len(place.relative_to(folder).parts) > 1 and is_build(folder)
        ):
            raise UsageError(
                f"The log {path} would be inside a folder of Pricesmith",
                got=str(folder if is_ours(folder) else folder / inside),
                allowed="a path outside models, catalogs, exports and builds",
                hint="Such a folder is replaced as a whole. Put the log beside it, for example NAME.requests.db.",
            )
    return place


def is_ours(folder: Path) -> bool:
    """Whether a folder has a marker of ours: a model, a catalog, an export, a base model, or one of them in work."""
    for name in MARKERS:
        try:
            values = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(values, dict) and str(values.get("generator", "")).startswith("pricesmith "):
            return True
    return False


def is_build(folder: Path) -> bool:
    """Whether `pricesmith build` made a folder."""
    return (folder / BUILD_FILE).is_file()


def check_log_file(path: Path) -> bool:
    """Whether `path` is a log of this format; False if there is no file, or an empty one.

    Raises InputError for any other file. Reads the first bytes only.
    """
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise InputError(f"{path} cannot be read", got=error.strerror or str(error)) from None
    if not head:
        return False
    is_sqlite = head.startswith(b"SQLite format 3\0") and len(head) == 100
    if not is_sqlite or int.from_bytes(head[68:72], "big") != APPLICATION_ID:
        raise InputError(
            f"{path} is not a log of Pricesmith",
            got="another SQLite database" if is_sqlite else "a file of another kind",
            allowed="a log that `pricesmith serve` wrote, or a path that does not exist yet",
            hint="The file was not changed. Choose another path.",
        )
    version = int.from_bytes(head[60:64], "big")
    if not 1 <= version <= FORMAT:
        raise InputError(
            f"{path} was written by a later version of Pricesmith",
            got=f"format {version}",
            allowed=f"up to {FORMAT}",
            hint="Upgrade Pricesmith.",
        )
    return True


@contextmanager
def report_log_errors(path: Path) -> Iterator[None]:
    """Turn every error of SQLite and of the system into LogUnavailable."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        text = str(error).strip() or type(error).__name__
        hint = "Free space on its disk." if "full" in text else "Close other programs that use it."
        if not ("full" in text or "locked" in text):
            hint = "Check the file, its folder and its disk."
        raise LogUnavailable(f"The log {path} cannot be used", got=text[:200], hint=hint) from error


def connect(path: Path, *, readonly: bool = False) -> sqlite3.Connection:
    """A connection with the settings that every use of a log needs; transactions are explicit."""
    mode = "ro" if readonly else "rw"
    if readonly and not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-wal").exists():
        mode = "ro&immutable=1"  # SQLite could not create the files by which readers and writers share a log
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}",
        uri=True,
        timeout=WAIT_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    return connection


def open_for_writing(path: Path) -> sqlite3.Connection:
    """The connection of the writer; creates the log if there is none. Raises InputError if the tables are not ours."""
    created = not check_log_file(path)
    if created:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        sync_folder(path.parent)
    connection = connect(path)
    try:
        if created:
            create_tables(connection)
        check_tables(connection, path)
        connection.execute("PRAGMA secure_delete = ON")
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise sqlite3.OperationalError(f"the file system does not support WAL mode, but {mode}")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA journal_size_limit = 67108864")
    except BaseException:
        connection.close()
        raise
    return connection


def create_tables(connection: sqlite3.Connection) -> None:
    """Create the tables in one transaction, so that a kill leaves an empty file or a whole log."""
    connection.execute("PRAGMA auto_vacuum = NONE")
    connection.execute("BEGIN IMMEDIATE")
    for statement in split_statements(TABLES):
        connection.execute(statement)
    connection.execute("INSERT INTO meta VALUES ('hash key', ?)", (os.urandom(32),))
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")
    connection.execute("COMMIT")


def split_statements(script: str) -> list[str]:
    """The statements of a script without strings that hold a semicolon."""
    return [statement.strip() for statement in script.split(";") if statement.strip()]


def check_tables(connection: sqlite3.Connection, path: Path) -> None:
    """Raises InputError if the database has other tables, views or triggers than a log."""
    try:
        rows = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        raise damaged_log(path, str(error)) from None
    if sorted(" ".join(sql.split()) for (sql,) in rows) != sorted(
        " ".join(s.split()) for s in split_statements(TABLES)
    ):
        raise damaged_log(path, "other tables than those of a log")


def damaged_log(path: Path, got: str) -> InputError:
    """The error for a log whose content cannot be used."""
    return InputError(f"{path} is damaged", got=got[:200], hint="Restore it from a backup, or start a new log.")
