"""Answers that were paid for are remembered: SQLite, by endpoint, model, prompt and listing.

    with Answers(default_path()) as answers:
        key = key_of(endpoint.url, endpoint.model, messages, settings)
        answers.find([key]).get(key)

What was said is kept as it was said, with its tokens, seconds and dollars, also where it is no price: what it means is
read again each time. A question is claimed before it is asked, so that commands that run at once never pay for it
twice; the claims of a command that has ended, or was killed, count no more. A mark is written before a request is sent
and taken away with its answer, so that after a kill what may have been asked for nothing is known. The prompts
themselves are not kept, only their SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pricesmith.core.errors import InputError
from pricesmith.pricers.api.owner import Owner

VERSION = 1
CHUNK = 500  # keys of one query
ADDED = (("answers", "lost_usd REAL"), ("answers", "told_usd REAL"), ("asked", "pid INTEGER"))  # to older stores
TABLES = """
CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, endpoint TEXT NOT NULL, model TEXT NOT NULL,
  text TEXT NOT NULL, finish TEXT NOT NULL, tokens_in INTEGER, tokens_out INTEGER, cost_usd REAL,
  seconds REAL NOT NULL, at REAL NOT NULL, lost_usd REAL, told_usd REAL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_model ON answers (endpoint, model);
CREATE TABLE IF NOT EXISTS asked (key TEXT PRIMARY KEY, at REAL NOT NULL, pid INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS claims (key TEXT PRIMARY KEY, owner TEXT NOT NULL, pid INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS speech (endpoint TEXT NOT NULL, model TEXT NOT NULL, said TEXT NOT NULL,
  PRIMARY KEY (endpoint, model)) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Completion:
    """One answer as it came. `finish` is the endpoint's word for why it ended, `refusal` where it says that it refuses.

    Tokens and dollars are None where they are not known; `seconds` is from the request to the whole answer. `lost_usd`
    is what of the dollars is for tries before it whose replies never came, at worst: they may not have been charged.
    `told_usd` is what the endpoint itself said that the answer cost.
    """

    text: str
    finish: str
    tokens_in: int | None
    tokens_out: int | None
    cost_usd: float | None
    seconds: float
    lost_usd: float = 0.0
    told_usd: float | None = None


def default_cache_path() -> Path:
    """Where answers are remembered: below $PRICESMITH_CACHE, or ~/.cache/pricesmith."""
    return Path(os.environ.get("PRICESMITH_CACHE") or Path.home() / ".cache" / "pricesmith") / "answers.sqlite"


def cache_key(url: str, model: str, messages: Sequence[Mapping[str, str]], settings: Mapping[str, Any]) -> str:
    """What an answer is remembered by: the SHA-256 of everything that could have changed it."""
    whole = json.dumps([url, model, list(messages), dict(settings)], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(whole.encode("ascii")).hexdigest()


class ResponseCache:
    """The store. Threads may share it; each answer is on disk when `keep` returns. Raises InputError where it is
    damaged."""

    def __init__(self, path: Path) -> None:
        self.path, self.lock = path, threading.RLock()
        self.owner = Owner(path.with_name(f"{path.name}.owners"))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.base = sqlite3.connect(path, timeout=30, check_same_thread=False, isolation_level=None)
            try:
                self.base.execute("PRAGMA journal_mode = WAL")
                self.base.execute("PRAGMA synchronous = FULL")
                (version,) = self.base.execute("PRAGMA user_version").fetchone()
                if version not in (0, VERSION):
                    raise sqlite3.DatabaseError(f"version {version}, not {VERSION}")
                self.base.executescript(TABLES)
                for name, column in ADDED:
                    there = {row[1] for row in self.base.execute(f"PRAGMA table_info({name})")}
                    if column.split()[0] not in there:
                        self.base.execute(f"ALTER TABLE {name} ADD COLUMN {column}")
                self.base.execute(f"PRAGMA user_version = {VERSION}")
            except BaseException:
                self.base.close()
                raise
        except (sqlite3.Error, OSError) as error:
            raise damaged_error(path, error) from None

    def __enter__(self) -> ResponseCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file, and of what is claimed."""
        with self.lock:
            self.base.close()
            self.owner.close()

    def run(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """One statement, committed; its rows."""
        try:
            with self.lock:
                return self.base.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise damaged_error(self.path, error) from None

    def find(self, keys: Iterable[str]) -> dict[str, Completion]:
        """The remembered answers among `keys`."""
        columns = "key, text, finish, tokens_in, tokens_out, cost_usd, seconds, COALESCE(lost_usd, 0.0), told_usd"
        return {row[0]: Completion(*row[1:]) for row in self.among(f"SELECT {columns} FROM answers", keys)}

    def marked(self, keys: Iterable[str]) -> set[str]:
        """Those of `keys` that were sent and never answered, as a kill leaves them."""
        marks = self.among("SELECT key FROM asked", keys)
        claims = self.among("SELECT key, owner FROM claims", [key for (key,) in marks])
        living = {owner: self.owner.is_living(owner) for owner in {owner for _, owner in claims}}
        return {key for (key,) in marks} - {key for key, owner in claims if living[owner]}

    def claim(self, key: str) -> Literal["claimed", "answered"] | int:
        """Reserve a question, in one step for all processes and threads. It is `claimed`; or it is `answered`; or the
        process id of the command that has it now."""
        with self.lock:
            if isinstance(holder := self.holder(key), int):
                return holder
            try:
                self.owner.lock()
                self.base.execute("BEGIN IMMEDIATE")
                try:
                    found = self.holder(key)
                    if not found:
                        claim = (key, self.owner.name, os.getpid())
                        self.base.execute("INSERT OR REPLACE INTO claims (key, owner, pid) VALUES (?, ?, ?)", claim)
                    self.base.execute("COMMIT")
                except BaseException:
                    self.base.execute("ROLLBACK")
                    raise
            except (sqlite3.Error, OSError) as error:
                raise damaged_error(self.path, error) from None
            return found or "claimed"

    def holder(self, key: str) -> Literal["", "answered"] | int:
        """Who has a question: nobody, an answer, or a living process. Locks of dead ones are removed."""
        if self.run("SELECT 1 FROM answers WHERE key = ?", (key,)):
            return "answered"
        rows = self.run("SELECT owner, pid FROM claims WHERE key = ?", (key,))
        return next((int(pid) for owner, pid in rows if self.owner.is_living(owner)), "")

    def release(self, key: str) -> None:
        """Give a claim back, where there is no answer: the next one who waits for it asks."""
        self.run("DELETE FROM asked WHERE key = ? AND pid = ?", (key, os.getpid()))
        self.run("DELETE FROM claims WHERE key = ? AND owner = ?", (key, self.owner.name))

    def among(self, select: str, keys: Iterable[str]) -> list[tuple[Any, ...]]:
        """The rows of a SELECT whose key is one of `keys`."""
        unique = list(dict.fromkeys(keys))
        found: list[tuple[Any, ...]] = []
        for start in range(0, len(unique), CHUNK):
            part = unique[start : start + CHUNK]
            found += self.run(f"{select} WHERE key IN ({','.join('?' * len(part))})", part)
        return found

    def mark(self, key: str) -> None:
        """Say that a request is about to be sent."""
        self.run("INSERT OR REPLACE INTO asked (key, at, pid) VALUES (?, ?, ?)", (key, time.time(), os.getpid()))

    def keep(self, key: str, endpoint: str, model: str, said: Completion) -> None:
        """Remember an answer and end its claim; the first one of a key stays."""
        facts = (said.text, said.finish, said.tokens_in, said.tokens_out, said.cost_usd, said.seconds)
        try:
            with self.lock:
                self.base.execute("BEGIN IMMEDIATE")
                try:
                    row = (key, endpoint, model, *facts, time.time(), said.lost_usd, said.told_usd)
                    into = "key, endpoint, model, text, finish, tokens_in, tokens_out, cost_usd, seconds, at"
                    into = f"{into}, lost_usd, told_usd"  # named: columns added later stand in another order
                    self.base.execute(f"INSERT OR IGNORE INTO answers ({into}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", row)
                    self.base.execute("DELETE FROM asked WHERE key = ?", (key,))
                    self.base.execute("DELETE FROM claims WHERE key = ?", (key,))
                    self.base.execute("COMMIT")
                except BaseException:
                    self.base.execute("ROLLBACK")
                    raise
        except sqlite3.Error as error:
            raise damaged_error(self.path, error) from None

    def speech(self, endpoint: str, model: str) -> dict[str, Any]:
        """What was found out about how an endpoint is spoken to; empty where nothing was."""
        rows = self.run("SELECT said FROM speech WHERE endpoint = ? AND model = ?", (endpoint, model))
        try:
            return dict(json.loads(rows[0][0])) if rows else {}
        except (ValueError, TypeError):
            return {}

    def learn(self, endpoint: str, model: str, speech: Mapping[str, Any]) -> None:
        """Remember how an endpoint is spoken to."""
        self.run("INSERT OR REPLACE INTO speech VALUES (?, ?, ?)", (endpoint, model, json.dumps(dict(speech))))

    def usual_output(self, endpoint: str, model: str) -> float | None:
        """The mean number of output tokens of a model's remembered answers; None below 5 of them."""
        (row,) = self.run(
            "SELECT COUNT(tokens_out), AVG(tokens_out) FROM answers WHERE endpoint = ? AND model = ?", (endpoint, model)
        )
        return float(row[1]) if row[0] >= 5 else None


def damaged_error(path: Path, error: Exception) -> InputError:
    """The error for a store that cannot be used."""
    return InputError(
        f"The remembered answers in {path} cannot be used",
        got=str(error)[:200],
        hint="Free some space or check its permissions; where the file is damaged, move it away (answers cost money).",
    )
