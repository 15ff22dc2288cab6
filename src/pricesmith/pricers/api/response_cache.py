"""A cache of paid replies in SQLite, by endpoint, model, prompt and settings.

    with ResponseCache(default_cache_path()) as cache:
        key = cache_key(endpoint.url, endpoint.model, messages, settings)
        cache.find([key]).get(key)

Replies are stored as they came, with tokens, seconds and dollars, also those without a price: they are parsed again at
each use. A question is claimed before it is asked, so that commands running at once never pay for it twice; the claims
of a command that has ended or was killed do not count. A mark is written before a request is sent and removed with its
reply, so that after a kill the requests that may have been paid for nothing are known. Prompts are not stored, only
their SHA-256.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from pricesmith.core.errors import InputError
from pricesmith.pricers.api.disk_reserve import DiskReserve
from pricesmith.pricers.api.redaction import Secrets, mask_key
from pricesmith.pricers.api.usage import Usage

VERSION = 3
MAX_KEYS = 500  # of one query
STALE_SECONDS = 86_400.0  # age of a lock file that a killed process may have left
ANSWERS = """(key TEXT PRIMARY KEY, endpoint TEXT NOT NULL, model TEXT NOT NULL,
  text TEXT NOT NULL, finish TEXT NOT NULL, tokens_in INTEGER, tokens_out INTEGER, cost_usd REAL,
  seconds REAL, at REAL NOT NULL, failed_tries_usd REAL, reported_usd REAL, masked INTEGER, tokens_cached INTEGER,
  tokens_cache_write INTEGER, tokens_reasoning INTEGER, tier TEXT, response_model TEXT, purpose TEXT, effort TEXT)
  WITHOUT ROWID"""
TABLES = f"""
CREATE TABLE IF NOT EXISTS answers {ANSWERS};
CREATE INDEX IF NOT EXISTS by_model ON answers (endpoint, model);
CREATE TABLE IF NOT EXISTS asked (key TEXT PRIMARY KEY, at REAL NOT NULL, pid INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS claims (key TEXT PRIMARY KEY, owner TEXT NOT NULL, pid INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS capabilities (endpoint TEXT NOT NULL, model TEXT NOT NULL, value TEXT NOT NULL,
  PRIMARY KEY (endpoint, model)) WITHOUT ROWID;
"""
# Batch jobs; batch_jobs/store.py reads and writes them. A key is open in at most one job.
BATCH_TABLES = """
CREATE TABLE IF NOT EXISTS batch_jobs (id TEXT PRIMARY KEY, run TEXT NOT NULL, endpoint TEXT NOT NULL,
  model TEXT NOT NULL, state TEXT NOT NULL, owner TEXT NOT NULL, pid INTEGER NOT NULL, remote TEXT NOT NULL DEFAULT '',
  file TEXT NOT NULL DEFAULT '', presumed INTEGER NOT NULL DEFAULT 0, foreign_ids TEXT NOT NULL DEFAULT '[]',
  created REAL NOT NULL, sent REAL, ended REAL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batch_lines (job TEXT NOT NULL, number INTEGER NOT NULL, key TEXT NOT NULL,
  worst_usd REAL NOT NULL, state TEXT NOT NULL, cost_usd REAL, reason TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (job, key)) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS open_key ON batch_lines (key) WHERE state = 'open';
CREATE VIEW IF NOT EXISTS open_batch_lines AS SELECT key, job FROM batch_lines WHERE state = 'open';
"""
# Replies cost money, so a cache of an older version is upgraded: its columns are renamed, missing ones are added, and
# `seconds` may be NULL since version 3.
RENAMED_COLUMNS = (("answers", "lost_usd", "failed_tries_usd"), ("answers", "told_usd", "reported_usd"))
ADDED_COLUMNS = (
    *(("answers", f"{name} REAL") for name in ("failed_tries_usd", "reported_usd")),
    *(("answers", f"{name} INTEGER") for name in ("masked", "tokens_cached", "tokens_cache_write", "tokens_reasoning")),
    *(("answers", f"{name} TEXT") for name in ("tier", "response_model", "purpose", "effort")),
    ("asked", "pid INTEGER"),
)
PRICE, MEMORIZATION, REWRITING = "price", "memorization", "rewriting"  # what a reply is for


@dataclass(frozen=True)
class Completion:
    """One reply. `finish` is the endpoint's finish reason, `refusal` if it says that the model refuses.

    Tokens and dollars are None if unknown; `seconds` run from the request to the complete reply, None if the reply was
    not waited for (a batch job). `failed_tries_usd` is the part of the cost for earlier tries whose reply never
    arrived, at worst: they may not have been charged. `reported_usd` is the cost that the endpoint itself reported.
    `tokens_cached` and `tokens_cache_write` are parts of `tokens_in`, `tokens_reasoning` is a part of `tokens_out`.
    `tier` (standard, flex, batch, priority) and `response_model` are empty if the endpoint named none. `answered_at` is
    in seconds since 1970 (UTC), None before the reply is stored, except that a batch job knows it.
    """

    text: str
    finish: str
    tokens_in: int | None
    tokens_out: int | None
    cost_usd: float | None
    seconds: float | None
    failed_tries_usd: float = 0.0
    reported_usd: float | None = None
    tokens_cached: int | None = None
    tokens_cache_write: int | None = None
    tokens_reasoning: int | None = None
    tier: str = ""
    response_model: str = ""
    answered_at: float | None = field(default=None, compare=False)

    @property
    def usage(self) -> Usage:
        """The tokens, and the cost that the endpoint reported."""
        return Usage(*(getattr(self, field.name) for field in fields(Usage)))


def default_cache_path() -> Path:
    """Return the path of the response cache: below $PRICESMITH_CACHE, or ~/.cache/pricesmith."""
    return Path(os.environ.get("PRICESMITH_CACHE") or Path.home() / ".cache" / "pricesmith") / "answers.sqlite"


def cache_key(url: str, model: str, messages: Sequence[Mapping[str, str]], settings: Mapping[str, Any]) -> str:
    """Return the SHA-256 of everything that could change a reply."""
    request = json.dumps([url, model, list(messages), dict(settings)], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(request.encode("ascii")).hexdigest()


class ClaimOwner:
    """An open cache that can own claims. Not for several threads at once.

    It holds a lock on a file of its own, in `folder`. The system releases it when the process ends, also by a kill;
    unlike a process id it is never reused, and it means the same in every container.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, uuid.uuid4().hex
        self.locked = False
        self.file_lock = FileLock(folder / self.name, timeout=0, thread_local=False)

    def lock(self) -> None:
        """Become visible to other processes as alive. Removes lock files that killed processes left a day ago."""
        if self.locked:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.iterdir():
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < time.time() - STALE_SECONDS:  # a new one may not be locked yet
                    self.is_alive(path.name)
        self.file_lock.acquire()
        self.locked = True

    def is_alive(self, name: str) -> bool:
        """Return whether the owner of this name is open in a running process. Removes the file of a dead one."""
        if name == self.name:
            return self.locked
        path = self.folder / name
        if not path.is_file():
            return False
        probe = FileLock(path, timeout=0, thread_local=False)
        try:
            with probe:
                path.unlink(missing_ok=True)
        except Timeout:
            return True
        return False

    def close(self) -> None:
        """End all claims."""
        if self.locked:
            self.locked = False
            self.file_lock.release()
            (self.folder / self.name).unlink(missing_ok=True)


class ResponseCache:
    """The cache. Threads may share it; a reply is on disk when `store` returns. Raises InputError if it is damaged.

    `clock` returns the seconds since 1970 (UTC) at which a reply is stored.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path, self.clock, self.lock = path, clock, threading.RLock()
        self.owner = ClaimOwner(path.with_name(f"{path.name}.owners"))
        self.reserve = DiskReserve(path.with_name(f"{path.name}.reserve"))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.connection = sqlite3.connect(path, timeout=30, check_same_thread=False, isolation_level=None)
            try:
                self.prepare()
            except BaseException:
                self.connection.close()
                raise
        except (sqlite3.Error, OSError) as error:
            raise damaged_error(path, error) from None

    def prepare(self) -> None:
        """Create the tables, or upgrade those of an older version."""
        execute = self.connection.execute
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        execute("PRAGMA secure_delete = ON")  # an API key that is masked later must not stay in a free page
        (version,) = execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise InputError(
                f"The response cache {self.path} is of a later version of Pricesmith",
                got=f"version {version}",
                allowed=f"up to version {VERSION}",
                hint="Upgrade Pricesmith, or name another folder in PRICESMITH_CACHE, where nothing is answered yet.",
            )
        if not self.has_table("batch_jobs"):
            with self.transaction():
                for statement in BATCH_TABLES.split(";"):
                    execute(statement)
        if version == VERSION:
            return
        with self.transaction():
            if version:
                for table, old, new in RENAMED_COLUMNS:
                    if old in self.column_names(table):
                        execute(f"ALTER TABLE {table} RENAME COLUMN {old} TO {new}")
                execute("DROP TABLE IF EXISTS speech")  # relearned with the next request
            for statement in TABLES.split(";"):
                execute(statement)
            for table, column in ADDED_COLUMNS:
                if column.split()[0] not in self.column_names(table):
                    execute(f"ALTER TABLE {table} ADD COLUMN {column}")
            if version:
                self.upgrade_answers()
            execute(f"PRAGMA user_version = {VERSION}")

    def upgrade_answers(self) -> None:
        """Rebuild the table of replies of version 1 or 2, in which `seconds` could not be NULL.

        A reported cost of 0 was stored as known there; whether it was the whole cost is unknown.
        """
        execute = self.connection.execute
        names = ", ".join(row[1] for row in execute("PRAGMA table_info(answers)"))
        execute(f"CREATE TABLE new_answers {ANSWERS}")
        execute(f"INSERT INTO new_answers ({names}) SELECT {names} FROM answers")
        execute("DROP TABLE answers")
        execute("ALTER TABLE new_answers RENAME TO answers")
        execute("CREATE INDEX by_model ON answers (endpoint, model)")
        free = "cost_usd IS NOT NULL AND cost_usd <= COALESCE(failed_tries_usd, 0.0)"
        execute(f"UPDATE answers SET cost_usd = NULL WHERE reported_usd = 0 AND {free}")
        execute("UPDATE answers SET reported_usd = NULL WHERE reported_usd = 0")

    def has_table(self, table: str) -> bool:
        """Return whether there is a table of this name."""
        return bool(self.connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone())

    def column_names(self, table: str) -> set[str]:
        """Return the names of a table's columns."""
        return {row[1] for row in self.connection.execute(f"PRAGMA table_info({table})")}

    def __enter__(self) -> ResponseCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and end all claims."""
        with self.lock:
            self.connection.close()
            self.owner.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Run statements as one transaction that excludes other processes. Raises InputError if the file is damaged."""
        with self.lock:
            try:
                self.connection.execute("BEGIN IMMEDIATE")
                try:
                    yield
                    self.connection.execute("COMMIT")
                except BaseException:
                    if self.connection.in_transaction:  # SQLite ends it itself if the disk is full
                        self.connection.execute("ROLLBACK")
                    raise
            except (sqlite3.Error, OSError) as error:
                raise damaged_error(self.path, error) from None

    def run(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run and commit one statement and return its rows."""
        try:
            with self.lock:
                return self.connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise damaged_error(self.path, error) from None

    def select(self, statement: str, keys: Iterable[str]) -> list[tuple[Any, ...]]:
        """Return the rows of a SELECT whose key is one of `keys`."""
        unique = list(dict.fromkeys(keys))
        rows: list[tuple[Any, ...]] = []
        for start in range(0, len(unique), MAX_KEYS):
            part = unique[start : start + MAX_KEYS]
            rows += self.run(f"{statement} WHERE key IN ({','.join('?' * len(part))})", part)
        return rows

    def find(self, keys: Iterable[str]) -> dict[str, Completion]:
        """Return the cached replies among `keys`."""
        columns = "key, text, finish, tokens_in, tokens_out, cost_usd, seconds, COALESCE(failed_tries_usd, 0.0)"
        columns += ", reported_usd, tokens_cached, tokens_cache_write, tokens_reasoning"
        rows = self.select(f"SELECT {columns}, COALESCE(tier, ''), COALESCE(response_model, ''), at FROM answers", keys)
        return {row[0]: Completion(*row[1:]) for row in rows}

    def store(
        self, key: str, endpoint: str, model: str, completion: Completion, *, purpose: str = PRICE, effort: str = ""
    ) -> None:
        """Store a reply, with API keys already masked, and end its claim; the first reply of a key stays.

        `purpose` (price, memorization, rewriting) and `effort` (of reasoning) are kept for `mean_output_tokens`. If the
        disk is full, the reply gets the space that `claim` has reserved; no other thread claims meanwhile, which would
        take that space for its own reserve.
        """
        with self.lock:
            try:
                self.store_once(key, endpoint, model, completion, purpose, effort)
            except InputError:
                with contextlib.suppress(OSError):
                    self.reserve.release()
                self.store_once(key, endpoint, model, completion, purpose, effort)

    def store_once(
        self, key: str, endpoint: str, model: str, completion: Completion, purpose: str, effort: str
    ) -> None:
        """Store a reply and end its claim in one transaction."""
        with self.transaction():
            self.insert(key, endpoint, model, completion, purpose=purpose, effort=effort)
            self.connection.execute("DELETE FROM asked WHERE key = ?", (key,))
            self.connection.execute("DELETE FROM claims WHERE key = ?", (key,))

    def insert(
        self, key: str, endpoint: str, model: str, completion: Completion, *, purpose: str = PRICE, effort: str = ""
    ) -> None:
        """Insert a reply, inside a transaction; the first reply of a key stays."""
        row = {
            "key": key,
            "endpoint": endpoint,
            "model": model,
            "text": completion.text,
            "finish": completion.finish,
            "tokens_in": completion.tokens_in,
            "tokens_out": completion.tokens_out,
            "cost_usd": completion.cost_usd,
            "seconds": completion.seconds,
            "at": self.clock() if completion.answered_at is None else completion.answered_at,
            "failed_tries_usd": completion.failed_tries_usd,
            "reported_usd": completion.reported_usd,
            "masked": 1,
            "tokens_cached": completion.tokens_cached,
            "tokens_cache_write": completion.tokens_cache_write,
            "tokens_reasoning": completion.tokens_reasoning,
            "tier": completion.tier,
            "response_model": completion.response_model,
            "purpose": purpose,
            "effort": effort,
        }
        columns, marks = ", ".join(row), ", ".join("?" * len(row))
        self.connection.execute(f"INSERT OR IGNORE INTO answers ({columns}) VALUES ({marks})", list(row.values()))

    def mask_older(self, endpoint: str, api_key: Secrets) -> int:
        """Mask an API key on disk in an endpoint's replies of versions that stored them unmasked; returns how many.

        Each reply is checked once.
        """
        columns = "key, text, finish"
        rows = self.run(f"SELECT {columns} FROM answers WHERE endpoint = ? AND masked IS NULL", (endpoint,))
        if not rows:
            return 0
        changed = 0
        with self.transaction():
            for key, text, finish in rows:
                values = (mask_key(text, api_key), mask_key(finish, api_key))
                changed += values != (text, finish)
                self.connection.execute(
                    "UPDATE answers SET text = ?, finish = ?, masked = 1 WHERE key = ?", (*values, key)
                )
        if changed:
            self.run("PRAGMA wal_checkpoint(TRUNCATE)")  # the old text is in the write-ahead log too
        return changed

    def claim(self, key: str) -> Literal["claimed", "answered", "in a batch job"] | int:
        """Reserve a question in one step for all processes and threads.

        Returns `claimed`, `answered` if the cache has a reply, `in a batch job` if an unfinished one asks it, or the
        process id of the command that owns it. Raises InputError if the reply could not be stored: the disk is full.
        """
        with self.lock:
            if isinstance(holder := self.holder(key), int):
                return holder
            try:
                self.owner.lock()
                self.reserve.hold()
            except OSError as error:
                raise damaged_error(self.path, error) from None
            with self.transaction():
                holder = self.holder(key)
                if not holder:
                    claim = (key, self.owner.name, os.getpid())
                    self.connection.execute("INSERT OR REPLACE INTO claims (key, owner, pid) VALUES (?, ?, ?)", claim)
            return holder or "claimed"

    def holder(self, key: str) -> Literal["", "answered", "in a batch job"] | int:
        """Return `answered`, `in a batch job`, the process id of a living owner, or an empty text.

        Removes locks of dead owners.
        """
        if self.run("SELECT 1 FROM answers WHERE key = ?", (key,)):
            return "answered"
        if self.run("SELECT 1 FROM open_batch_lines WHERE key = ?", (key,)):
            return "in a batch job"
        rows = self.run("SELECT owner, pid FROM claims WHERE key = ?", (key,))
        return next((int(pid) for owner, pid in rows if self.owner.is_alive(owner)), "")

    def release(self, key: str, *, answered: bool = False) -> None:
        """Give a claim back without a reply: the next process that waits for it asks the question.

        `answered`: there was a reply that could not be stored; it stays known that the request was sent.
        """
        if not answered:
            self.run("DELETE FROM asked WHERE key = ? AND pid = ?", (key, os.getpid()))
        self.run("DELETE FROM claims WHERE key = ? AND owner = ?", (key, self.owner.name))

    def mark_sent(self, key: str) -> None:
        """Record that a request is about to be sent."""
        self.run("INSERT OR REPLACE INTO asked (key, at, pid) VALUES (?, ?, ?)", (key, time.time(), os.getpid()))

    def find_unanswered(self, keys: Iterable[str]) -> set[str]:
        """Return those of `keys` whose request was sent and never answered, as a kill leaves them."""
        with self.transaction():  # no other command stores a reply and ends its claim between the two
            sent = {key for (key,) in self.select("SELECT key FROM asked", keys)}
            claims = self.select("SELECT key, owner FROM claims", sent)
            alive = {owner: self.owner.is_alive(owner) for owner in {owner for _, owner in claims}}
        return sent - {key for key, owner in claims if alive[owner]}

    def load_capabilities(self, endpoint: str, model: str) -> dict[str, Any]:
        """Return the parameters known to be supported by an endpoint and model; empty if unknown."""
        rows = self.run("SELECT value FROM capabilities WHERE endpoint = ? AND model = ?", (endpoint, model))
        try:
            return dict(json.loads(rows[0][0])) if rows else {}
        except (ValueError, TypeError):
            return {}

    def save_capabilities(self, endpoint: str, model: str, capabilities: Mapping[str, Any]) -> None:
        """Store which parameters an endpoint and model support."""
        row = (endpoint, model, json.dumps(dict(capabilities)))
        self.run("INSERT OR REPLACE INTO capabilities VALUES (?, ?, ?)", row)

    def mean_output_tokens(self, endpoint: str, model: str, effort: str = "", purpose: str = PRICE) -> float | None:
        """Return the mean number of output tokens of a model's cached replies of a purpose; None below 5 of them.

        Replies with another reasoning effort do not count. Those of older versions do: theirs is unknown.
        """
        (row,) = self.run(
            "SELECT COUNT(*), AVG(tokens_out) FROM answers WHERE endpoint = ? AND model = ? AND tokens_out > 0"
            " AND COALESCE(purpose, ?) = ? AND COALESCE(effort, ?) = ?",
            (endpoint, model, PRICE, purpose, effort, effort),
        )
        return float(row[1]) if row[0] >= 5 else None


def damaged_error(path: Path, error: Exception) -> InputError:
    """The error for a cache that cannot be used, with what to do about its cause."""
    hint = f"Check that {path.parent} is a folder in which you may write, and that its disk works."
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF  # without the details of an extended code
    if primary == sqlite3.SQLITE_FULL or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        hint = "Free disk space, and run the same command again. All answers so far are in it."
    elif primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        hint = "Another command is using it: run the same command again when that one has ended."
    elif primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        hint = (
            "It is damaged: restore it from a copy, or move it away. Its replies cost money: `sqlite3 FILE .recover` "
            "may save them."
        )
    return InputError(f"The response cache {path} cannot be used", got=str(error)[:200], hint=hint)
