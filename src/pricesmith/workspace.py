"""Whole files and whole folders: a reader sees the old one or the new one, never half of either.

A file is written to a temporary name, synced and renamed. A folder is built beside its place, its marker file is
written last, and it is renamed as a whole; without its marker a folder is unfinished. The marker is JSON and holds
the settings it was built with, so the same command again can tell finished, unfinished and different apart.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pricesmith.errors import InputError, PricesmithError, UsageError

SETTINGS = ".settings.json"
LOCK = ".lock"


def sayable(name: str) -> bool:
    """Whether a name is UTF-8: one that is not could not be written into any file of ours."""
    return name.isprintable() or not any("\ud800" <= sign <= "\udfff" for sign in name)


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` last."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_living(pid: int) -> bool:
    """Whether a process of this number runs on this machine."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return pid > 0


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path to write to; it takes the place of `path` when the block ends well, and is gone otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        pid = leftover.name.removesuffix(".tmp").rpartition(".")[2]
        if pid.isdigit() and not is_living(int(pid)):
            leftover.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: Path, data: str | bytes) -> None:
    """Write a whole file. A line end stays as it is on every system."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)


def write_json(path: Path, value: Any) -> None:
    """Write JSON that strict readers take: no NaN, no infinity."""
    write_atomic(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, *, hint: str = "Run the stage again with --fresh.") -> Any:
    """JSON from a file of ours. Raises InputError, with a `hint`, where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse_constant)
    except FileNotFoundError:
        raise InputError(f"There is no file {path}", hint="Check the path, or run the stage again.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged", got=str(error)[:200], hint=hint) from None


def refuse_constant(name: str) -> Any:
    """Raises ValueError: NaN and Infinity are not JSON, and no file of ours holds them."""
    raise ValueError(f"it holds {name}, which is not JSON")


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def inventory(folder: Path, *, skip: frozenset[str] = frozenset()) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file under `folder`, by relative path; dot files at the top are ours and left out."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in files}
    return {
        name: {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for name, path in names.items()
        if name not in skip and not name.startswith(".")
    }


def verify(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises InputError where a file of an inventory is missing or was changed."""
    for name, facts in files.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{folder} names a file outside itself", got=name, hint="Do not use this folder.")
        if not path.is_file() or path.stat().st_size != facts["bytes"] or sha256(path) != facts["sha256"]:
            raise InputError(
                f"{path} is missing or was changed after it was written",
                allowed=f"the file of {facts['bytes']} bytes that the folder's marker names",
                hint="Build the folder again with --fresh.",
            )


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The settings that differ, as `name: old -> new`, separated by semicolons."""
    names = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    return "; ".join(f"{name}: {old.get(name)!r} -> {new.get(name)!r}" for name in names)


def is_whole(folder: Path, marker: str) -> bool:
    """Whether a folder's last-written file is there."""
    return (folder / marker).is_file()


@dataclass
class Build:
    """A folder on its way. Write under `folder`, then `finish` it. `keep` is set by work that can be gone on with."""

    target: Path
    folder: Path
    marker: str
    settings: Mapping[str, Any]
    resumed: bool = False
    keep: bool = False
    done: bool = False

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Write the marker last, sync everything and rename the folder into its place (swapped with an older one)."""
        (self.folder / SETTINGS).unlink(missing_ok=True)
        for path in self.folder.rglob("*"):
            if path.is_file():
                with path.open("rb") as handle:
                    os.fsync(handle.fileno())
        write_json(self.folder / self.marker, {**facts, "settings": self.settings})
        (self.folder / LOCK).unlink(missing_ok=True)
        if self.target.exists() and not any(self.target.iterdir()):
            self.target.rmdir()
        if self.target.exists():
            exchange(self.folder, self.target)
            shutil.rmtree(self.folder)
        else:
            os.rename(self.folder, self.target)
        sync_folder(self.target.parent)
        self.done = True


def exchange(one: Path, other: Path) -> None:
    """Swap two folders in one step where the system can (Linux), else in two."""
    libc = ctypes.CDLL(None, use_errno=True)
    at_cwd, swap = -100, 2
    if hasattr(libc, "renameat2"):
        if libc.renameat2(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), swap) == 0:
            return
        code = ctypes.get_errno()
        if code not in (errno.EINVAL, errno.ENOSYS):
            raise OSError(code, os.strerror(code), str(other))
    aside = other.with_name(f".{other.name}.old")
    os.rename(other, aside)
    os.rename(one, other)
    os.rename(aside, one)


@contextlib.contextmanager
def build_folder(
    target: Path, marker: str, settings: Mapping[str, Any], *, fresh: bool = False, noun: str = "folder"
) -> Iterator[Build | None]:
    """A `Build`, or None where the same command has already finished.

    Raises UsageError where the folder, finished or not, was made with other settings, or holds what is not ours.
    A block that raises leaves nothing behind, unless it set `keep`. A killed one leaves a hidden folder beside the
    target, which the same command goes on with or starts over.
    """
    settings = json.loads(json.dumps(settings))
    target = Path(os.path.abspath(target))
    if not fresh and finished(target, marker, settings, noun):
        yield None
        return
    if fresh and target.exists() and not is_whole(target, marker):
        refuse_foreign(target, noun, marker)
    beside = target.with_name(f".{target.name}.building")
    beside.mkdir(parents=True, exist_ok=True)
    with (beside / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"Another process is writing {target}", hint="Wait for it, or stop it.") from None
        resumed = claim(beside, target, settings, fresh=fresh)
        build = Build(target, beside, marker, settings, resumed)
        try:
            yield build
            if not build.done:
                raise PricesmithError(f"{target} was not finished")
        finally:
            if not build.done and not build.keep:
                shutil.rmtree(beside, ignore_errors=True)


def finished(target: Path, marker: str, settings: Mapping[str, Any], noun: str) -> bool:
    """Whether `target` is whole and made with these settings. Raises UsageError where it is something else."""
    if not target.exists():
        return False
    if not is_whole(target, marker):
        refuse_foreign(target, noun, marker)
        return False
    old = read_json(target / marker).get("settings", {})
    if old != settings:
        raise UsageError(
            f"{target} is a finished {noun} made with other settings",
            got=difference(old, settings),
            hint="Choose another folder, or add --fresh to build it again.",
        )
    return True


def refuse_foreign(target: Path, noun: str, marker: str) -> None:
    """Raises UsageError where `target` is there and is neither empty nor ours."""
    if not target.is_dir() or any(target.iterdir()):
        raise UsageError(
            f"{target} exists and is not a {noun}",
            got="a file" if not target.is_dir() else f"a folder without {marker}",
            hint="Choose a path that does not exist yet.",
        )


def claim(beside: Path, target: Path, settings: Mapping[str, Any], *, fresh: bool) -> bool:
    """Make the building folder ours; True where an unfinished build with the same settings can be gone on with."""
    path = beside / SETTINGS
    if path.is_file() and not fresh:
        old = read_json(path)
        if old == settings:
            return True
        raise UsageError(
            f"An unfinished build of {target} was started with other settings",
            got=difference(old, settings),
            hint="Use the settings it was started with, or add --fresh to start over.",
        )
    for other in beside.iterdir():
        if other.name != LOCK:
            shutil.rmtree(other) if other.is_dir() else other.unlink()
    write_json(path, dict(settings))
    return False
