"""API keys: who may use a server. `pricesmith keys add|ls|rm` changes the file, a running server reads it again.

    key = add_key(default_keys_file(), "website", days=90, per_minute=600)     shown once, and not stored
    ring = KeyRing.load(path)
    ring.find(key)                                                             its ApiKey, or None

A key is 256 random bits. The file holds its SHA-256, with which nobody can log in; only its owner can read it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import stat
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from pydantic import AwareDatetime, Field

from pricesmith.core.atomic import atomic_file, file_lock, find_output
from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.model_files import check_format, read_object, read_settings
from pricesmith.core.settings import Settings

GENERATOR = "pricesmith keys"
FORMAT = 1
PREFIX = "ps_"
MAX_LENGTH = 200  # characters of a presented key that are looked at
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
HINT = "Restore the file from a backup, or delete it and add the keys again."


class ApiKey(Settings):
    """A key as it is stored. `expires` is None for one that stays valid, `per_minute` for one without a limit."""

    name: str = Field(pattern=f"^{NAME.pattern}$")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    created: AwareDatetime
    expires: AwareDatetime | None = None
    per_minute: int | None = Field(None, ge=1)

    def is_valid(self, now: datetime) -> bool:
        """Whether the key has not expired."""
        return self.expires is None or now < self.expires


class KeyFile(Settings):
    """The content of the file of keys."""

    generator: str
    format: int
    keys: tuple[ApiKey, ...] = ()


def read_clock() -> datetime:
    """The time in UTC, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def default_keys_file() -> Path:
    """The usual file of keys, in the user's configuration folder, whether it exists or not."""
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return config / "pricesmith" / "keys.json"


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """The keys of a file; none if there is no file.

    Raises InputError if it is another file, damaged, of a later version, or if other users may write it.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        return ()
    if os.name != "nt" and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise InputError(
            f"Other users may write {path}, and so add keys",
            got=stat.filemode(status.st_mode),
            allowed="write permission for its owner only",
            hint=f"chmod 600 {path}",
        )
    values = read_object(path, hint=HINT)
    if values.get("generator") != GENERATOR:
        raise InputError(
            f"{path} is not a file of keys", allowed=f"a file that `{GENERATOR} add` wrote", hint="Choose another file."
        )
    check_format(path, values, FORMAT)
    keys = read_settings(path, KeyFile, hint=HINT).keys
    if len({key.name for key in keys}) < len(keys):
        raise InputError(f"{path} is damaged", got="two keys of one name", hint=HINT)
    return keys


def write_keys(path: Path, keys: Sequence[ApiKey]) -> None:
    """Write the file of keys, for its owner only."""
    content = KeyFile(generator=GENERATOR, format=FORMAT, keys=tuple(keys)).model_dump_json(indent=2)
    if path.exists():
        path.chmod(0o600)  # the new file gets the permissions of the old one
    with atomic_file(path) as temporary:
        handle = os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(content + "\n")


def add_key(
    path: Path,
    name: str,
    *,
    days: int | None = None,
    per_minute: int | None = None,
    now: Callable[[], datetime] = read_clock,
) -> str:
    """Make a key and add it to the file; the key itself is returned and stored nowhere.

    Raises UsageError for a name that is taken or has other characters, and for limits below 1.
    """
    if not NAME.fullmatch(name):
        raise UsageError(
            "This is not a name for a key",
            got=repr(name[:80]),
            allowed="up to 64 letters, digits, dots, @, _ and -; the first one a letter or a digit",
        )
    for option, value, most in (("--days", days, 36_500), ("--rate", per_minute, 1_000_000)):
        if value is not None and not 1 <= value <= most:
            raise UsageError(f"{option} is out of range", got=str(value), allowed=f"1 to {most:,}")
    key = PREFIX + secrets.token_urlsafe(32)
    created = now()
    expires = created + timedelta(days=days) if days is not None else None
    place = find_output(path)
    with file_lock(place.with_name(f".{place.name}.lock")):
        keys = read_keys(place)
        if any(other.name == name for other in keys):
            hint = f"pricesmith keys rm {name}, or choose another name."
            raise UsageError("There is a key of this name already", got=name, hint=hint)
        stored = ApiKey(name=name, sha256=hash_key(key), created=created, expires=expires, per_minute=per_minute)
        write_keys(place, [*keys, stored])
    return key


def remove_key(path: Path, name: str) -> None:
    """Take a key out of the file. Raises UsageError if there is none of this name."""
    place = find_output(path)
    if not place.exists():
        raise UsageError("There is no key of this name", got=name, allowed=f"{path} does not exist")
    with file_lock(place.with_name(f".{place.name}.lock")):
        keys = read_keys(place)
        left = [key for key in keys if key.name != name]
        if len(left) == len(keys):
            names = ", ".join(key.name for key in keys[:30]) or "there are no keys"
            raise UsageError("There is no key of this name", got=name[:80], allowed=names)
        write_keys(place, left)


def hash_key(key: str) -> str:
    """The SHA-256 of a key, in hexadecimal. No salt or slow hash: a key is 256 random bits, not a password."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


class KeyRing:
    """The keys of a file, read again whenever it changes. Safe in any thread.

    If the file is gone or damaged later on, no key is valid, and `problem` says why.
    """

    def __init__(self, path: Path, keys: tuple[ApiKey, ...] = (), *, now: Callable[[], datetime] = read_clock) -> None:
        self.path, self.keys, self.now = path, keys, now
        self.problem = ""
        self.stamp = file_stamp(path)
        self.lock = threading.Lock()

    @classmethod
    def load(cls, path: Path, *, now: Callable[[], datetime] = read_clock) -> Self:
        """The keys of a file; none if there is no file yet. Raises InputError if it cannot be used."""
        ring = cls(path, now=now)
        ring.keys = read_keys(path)
        return ring

    def __len__(self) -> int:
        """The number of keys that are valid now."""
        self.refresh()
        return sum(key.is_valid(self.now()) for key in self.keys)

    def refresh(self) -> None:
        """Read the file again if it has changed."""
        stamp = file_stamp(self.path)
        if stamp == self.stamp:
            return
        with self.lock:
            try:
                self.keys, self.problem = read_keys(self.path), ""
            except (InputError, OSError) as error:
                self.keys, self.problem = (), str(error)
            self.stamp = stamp

    def find(self, presented: str) -> ApiKey | None:
        """The valid key that was presented; None if there is none. The time does not depend on which key it is."""
        self.refresh()
        digest = hash_key(presented[:MAX_LENGTH])
        match: ApiKey | None = None
        for key in self.keys:
            if hmac.compare_digest(key.sha256, digest):
                match = key
        return match if match is not None and match.is_valid(self.now()) else None


def file_stamp(path: Path) -> tuple[int, ...] | None:
    """What changes whenever a file is written; None if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_ctime_ns


def to_dict(key: ApiKey, now: datetime) -> dict[str, Any]:
    """A key for a person or a program to read, without its hash."""
    values = json.loads(key.model_dump_json(exclude={"sha256"}))
    return {**values, "expired": not key.is_valid(now)}


def format_keys(keys: Sequence[ApiKey], now: datetime) -> Any:
    """The keys as a table for a terminal."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for title in ("name", "created", "expires", "requests a minute"):
        table.add_column(title)
    for key in keys:
        expires = "never" if key.expires is None else f"{key.expires:%Y-%m-%d}"
        state = "" if key.is_valid(now) else " (expired)"
        limit = "no limit" if key.per_minute is None else f"{key.per_minute:,}"
        table.add_row(key.name, f"{key.created:%Y-%m-%d}", f"{expires}{state}", limit)
    return table
