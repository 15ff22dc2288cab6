"""Whole files: a reader sees the old one or the new one, never half of either. `folders` does the same for folders.

A file is written to a temporary name, synced and renamed. Links are resolved before any work starts, and the real file
is written; pipes, devices and links to nothing are refused.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from pricesmith.core.errors import InputError, UsageError

PATIENCE = 0.3  # seconds until a lock counts as held: one that is being let go is free by then
# The machine in the names of temporary files, empty if only this one writes: numbers of processes are one machine's.
MACHINE: ContextVar[str] = ContextVar("machine", default="")


def is_utf8(name: str) -> bool:
    """Whether a name is UTF-8: one that is not could not be written into any file of ours."""
    return name.isprintable() or not any("\ud800" <= sign <= "\udfff" for sign in name)


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` last."""
    if os.name == "nt":  # folders cannot be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_process_alive(pid: int) -> bool:
    """Whether a process of this number runs on this machine."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return pid > 0


@contextlib.contextmanager
def file_lock(path: Path, refusal: str = "") -> Iterator[None]:
    """Hold the lock file `path`. The system frees the lock of a process that was killed.

    With a `refusal`, raises UsageError in those words if another process holds it; without one, waits.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=PATIENCE if refusal else -1)
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(refusal, hint="Wait until it has finished, then run this command again.") from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if not path.stat().st_size:  # ours are empty; removed while held, so that nobody locks a nameless file
                path.unlink()
        lock.release()


def find_output(path: Path) -> Path:
    """The real place of a file that is to be written. Raises UsageError for what is not to become a file: a folder, a
    pipe, a device, or a link to nothing."""
    if path.is_symlink() and not path.exists():
        raise UsageError(
            f"{path} is a link to a place that does not exist",
            got=os.readlink(path),
            hint="Choose another path, or correct the link.",
        )
    if path.is_dir():
        raise UsageError(f"{path} is a folder", allowed="a file", hint="Name a file in it.")
    if path.exists() and not path.is_file():
        raise UsageError(
            f"{path} is not a regular file",
            got="a pipe" if path.is_fifo() else "a device or socket",
            allowed="a path that does not exist yet, or a regular file",
            hint="Write to a regular file, then copy it there.",
        )
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def sweep_temporaries(folder: Path, pattern: str) -> None:
    """Remove temporary files of ours, `.NAME.PID.tmp`, that match and whose process is gone. Those that other machines
    write, `.NAME.MACHINE-PID.tmp`, are left alone."""
    for leftover in folder.glob(pattern):
        machine, _, pid = leftover.name.removesuffix(".tmp").rpartition(".")[2].rpartition("-")
        ours = leftover.name.endswith(".tmp") and pid.isdigit() and machine == MACHINE.get()
        if ours and not is_process_alive(int(pid)):
            leftover.unlink(missing_ok=True)


def temporary_path(place: Path, mark: str = "") -> Path:
    """The temporary name of a file: `.NAME.PID.tmp`, or `.NAME.MACHINE-PID.tmp` if other machines write there too."""
    machine = f"{name}-" if (name := MACHINE.get()) else ""
    return place.with_name(f".{place.name}{mark}.{machine}{os.getpid()}.tmp")


@contextlib.contextmanager
def atomic_files(*paths: Path) -> Iterator[list[Path]]:
    """Temporary paths to write to. When the block ends well, they take the places of `paths`, all or none of them.

    All are on the disk before the first is renamed. A link is written through, a file keeps its permissions.
    """
    places = [find_output(path) for path in paths]
    temporaries = [temporary_path(place) for place in places]
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        sweep_temporaries(place.parent, f".{glob.escape(place.name)}.*.tmp")
    try:
        yield temporaries
        for temporary, place in zip(temporaries, places, strict=True):
            if place.exists():
                shutil.copymode(place, temporary)
            with temporary.open("rb") as handle:
                os.fsync(handle.fileno())
        replace_all(temporaries, places)
        for folder in {place.parent for place in places}:
            sync_folder(folder)
    finally:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)


def replace_all(temporaries: Sequence[Path], places: Sequence[Path]) -> None:
    """Rename each file to its place. If one cannot be renamed, those before it get their old content back."""
    backups = [temporary_path(place, ".old") for place in places]
    done: list[int] = []
    try:
        for number, place in enumerate(places[:-1]):
            if place.exists():
                try:
                    os.link(place, backups[number])
                except OSError:  # a file system without hard links
                    shutil.copy2(place, backups[number])
        for number, (temporary, place) in enumerate(zip(temporaries, places, strict=True)):
            os.replace(temporary, place)
            done.append(number)
    except BaseException:
        for number in done:
            if backups[number].exists():
                os.replace(backups[number], places[number])
            else:
                places[number].unlink()
        raise
    finally:
        for backup in backups:
            backup.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path to write to; it takes the place of `path` when the block ends well, and is gone otherwise."""
    with atomic_files(path) as (temporary,):
        yield temporary


def write_atomic(path: Path, data: str | bytes) -> None:
    """Write a whole file. A line end stays as it is on every system."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)


def write_json(path: Path, value: Any) -> None:
    """Write JSON that strict readers take: no NaN, no infinity."""
    write_atomic(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """JSON as it stands in our files. Raises ValueError for NaN and infinity."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def read_json(path: Path, *, hint: str = "Build it again in another folder.") -> Any:
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
                hint="Build the folder again with --overwrite.",
            )


def describe_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The settings that differ, as `name: old -> new`, separated by semicolons."""
    names = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    return "; ".join(f"{name}: {old.get(name)!r} -> {new.get(name)!r}" for name in names)


def is_complete(folder: Path, marker: str) -> bool:
    """Whether a folder's last-written file is there."""
    return (folder / marker).is_file()
