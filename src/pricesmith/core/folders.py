"""Whole folders: a reader sees the old one or the new one, never half of either.

A folder is built beside its place, its marker file is written last, and it is renamed as a whole; without its marker a
folder is unfinished. The marker is JSON and holds the settings it was built with, so the same command again can tell
finished, unfinished and different apart.

Only what a command of ours wrote is deleted or replaced. A marker counts with our generator, format and settings, and
its inventory lists what belongs to the folder: one that holds anything else is not replaced. A link is resolved before
any work starts, and the real folder is written.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from pricesmith.core.atomic import (
    describe_difference,
    file_lock,
    is_complete,
    read_json,
    sweep_temporaries,
    sync_folder,
    write_json,
)
from pricesmith.core.errors import PricesmithError, UsageError

SETTINGS = ".settings.json"  # in an unfinished folder: what it is, and its settings
FORMAT = 1
GENERATOR = "pricesmith"
LIST_FILES = ("run", "base")  # their markers list the files themselves, in `files`


@dataclass
class FolderBuild:
    """A folder on its way. Write under `folder`, then `finish` it. `keep` is set by work that can be gone on with."""

    target: Path
    folder: Path
    marker: str
    settings: Mapping[str, Any]
    noun: str = "folder"
    resumed: bool = False
    keep: bool = False
    done: bool = False

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Write the marker last, sync everything and rename the folder into its place (swapped with an older one).

        The marker lists the folder's files, with sizes, unless `facts` does so itself in `files`. Raises UsageError,
        with the work kept, if the target has meanwhile got a file that is not ours.
        """
        sweep_temporaries(self.folder, "**/.*.tmp")
        for path in self.folder.rglob("*"):
            if path.is_file():
                with path.open("rb") as handle:
                    os.fsync(handle.fileno())
        owner = {"generator": f"{GENERATOR} {self.noun}", "format": FORMAT}
        inventory = {} if self.noun in LIST_FILES else {"inventory": list_files(self.folder)}
        write_json(self.folder / self.marker, {**owner, **facts, **inventory, "settings": self.settings})
        self.keep = True
        check_replaceable(self.target, self.marker, self.noun)
        (self.folder / SETTINGS).unlink(missing_ok=True)
        if self.target.exists() and not any(self.target.iterdir()):
            self.target.rmdir()
        if self.target.exists():
            swap_folders(self.folder, self.target)
            self.done = True
            clear_old(self.folder, self.target, self.marker, self.noun)
        else:
            os.rename(self.folder, self.target)
        sync_folder(self.target.parent)
        self.done = True


def list_files(folder: Path) -> dict[str, dict[str, int]]:
    """The size of every file under an unfinished folder, by relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / SETTINGS)
    return {path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size} for path in files}


def owned_files(folder: Path, marker: str, noun: str) -> set[str] | None:
    """The relative paths that a finished folder's marker lists, its own included; None if the marker is not ours."""
    path = folder / marker
    try:
        values = json.loads(path.read_text(encoding="utf-8")) if path.is_file() and not path.is_symlink() else None
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or values.get("generator") != f"{GENERATOR} {noun}":
        return None
    files = values.get("files" if noun in LIST_FILES else "inventory")
    if not (isinstance(values.get("format"), int) and isinstance(values.get("settings"), dict)):
        return None
    return {*files, marker} if isinstance(files, dict) else None


def foreign_files(folder: Path, owned: set[str]) -> list[str]:
    """What a folder holds beside the files `owned`: other files, folders that hold any, and links of any name."""
    foreign: list[str] = []
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            foreign.append(path.name)
        elif path.is_file():
            foreign += [path.name] if path.name not in owned else []
        else:
            prefix = f"{path.name}/"
            inside = {name.removeprefix(prefix) for name in owned if name.startswith(prefix)}
            others = foreign_files(path, inside)
            foreign += [f"{prefix}{name}" for name in others] if inside else [prefix] * bool(others)
    return foreign


def remove_owned(folder: Path, owned: set[str], *, last: str) -> None:
    """Remove the files `owned` and the folders that are empty then, the file `last` at the end; nothing else."""
    for root, folders, files in os.walk(folder, topdown=False):
        for name in files:
            path = Path(root, name)
            relative = path.relative_to(folder).as_posix()
            if relative in owned and relative != last and not path.is_symlink():
                path.unlink()
        for name in folders:
            with contextlib.suppress(OSError):  # a link, or a folder that is not empty
                Path(root, name).rmdir()
    (folder / last).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def clear_old(folder: Path, target: Path, marker: str, noun: str) -> None:
    """Remove a replaced folder. What somebody put into it during the swap goes into the new one."""
    owned = owned_files(folder, marker, noun)
    if owned is not None:
        remove_owned(folder, owned, last=marker)
    if folder.is_dir():
        for path in folder.iterdir():
            if not os.path.lexists(target / path.name):
                os.rename(path, target / path.name)
        with contextlib.suppress(OSError):
            folder.rmdir()


def swap_folders(first: Path, second: Path) -> None:
    """Swap two folders in one step if the system can (Linux, macOS), else in three."""
    libc: Any = ctypes.CDLL(None, use_errno=True) if os.name != "nt" else None
    at_cwd, swap = -100, 2
    failed = None
    if hasattr(libc, "renameat2"):
        failed = libc.renameat2(at_cwd, os.fsencode(first), at_cwd, os.fsencode(second), swap)
    elif hasattr(libc, "renamex_np"):
        failed = libc.renamex_np(os.fsencode(first), os.fsencode(second), swap)
    if failed == 0:
        return
    code = ctypes.get_errno()
    if failed is not None and code not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        raise OSError(code, os.strerror(code), str(second))
    aside = aside_path(second)
    os.rename(second, aside)
    os.rename(first, second)
    os.rename(aside, first)


def aside_path(target: Path) -> Path:
    """Where the old folder is for a moment if the system cannot swap two folders in one step."""
    return target.with_name(f".{target.name}.old")


def recover(target: Path, marker: str, noun: str) -> None:
    """Put things right after a kill between the steps of `exchange`: the old folder back, or away."""
    aside = aside_path(target)
    owned = owned_files(aside, marker, noun) if aside.is_dir() and not aside.is_symlink() else None
    if owned is None:
        return
    if not target.exists():
        os.rename(aside, target)
    else:
        clear_old(aside, target, marker, noun)


@contextlib.contextmanager
def build_folder(
    target: Path,
    marker: str,
    settings: Mapping[str, Any],
    *,
    overwrite: bool = False,
    noun: str = "folder",
    inputs: Sequence[Path] = (),
    option: str = "--overwrite",
    restart: Callable[[str], None] | None = None,
    resume: bool = False,
) -> Iterator[FolderBuild | None]:
    """A `Build`, or None if the same command has already finished.

    Raises UsageError before any work if the folder, finished or not, was made with other settings, holds what is not
    ours, or holds one of the `inputs`. A block that raises leaves nothing behind, unless it set `keep`. A killed one
    leaves a hidden folder beside the target, which the same command resumes or starts over. `option` is the name
    of the command line's option for `overwrite`. With `restart`, an unfinished build with other settings is not
    refused: `restart` is told, and the block finds what was left and removes what it cannot use. With `resume`, an
    unfinished build with the same settings is not started over by `overwrite`.
    """
    settings = json.loads(json.dumps(settings))
    target = real_folder(target, noun)
    refuse_inputs(target, inputs, noun)
    if not overwrite and is_finished(target, marker, settings, noun, option):
        yield None
        return
    if overwrite:
        check_replaceable(target, marker, noun)
    beside = target.with_name(f".{target.name}.building")
    with file_lock(target.with_name(f".{target.name}.lock"), f"Another process is writing {target}"):
        recover(target, marker, noun)
        if not overwrite and is_finished(target, marker, settings, noun, option):  # by another process, meanwhile
            yield None
            return
        check_replaceable(target, marker, noun)
        fresh = overwrite and not (resume and is_unfinished(beside, settings, noun))
        resumed = claim_folder(beside, target, marker, settings, noun, overwrite=fresh, option=option, restart=restart)
        build = FolderBuild(target, beside, marker, settings, noun, resumed)
        try:
            yield build
            if not build.done:
                raise PricesmithError(f"{target} was not finished")
        finally:
            if not build.done and not build.keep:
                with contextlib.suppress(OSError):
                    sweep(beside)
                    (beside / SETTINGS).unlink()
                    beside.rmdir()


def scratch_build(folder: Path) -> FolderBuild:
    """A `FolderBuild` of a temporary folder: it is written in place, and the caller removes it."""
    return FolderBuild(folder, folder, marker="", settings={})


def real_folder(target: Path, noun: str) -> Path:
    """The real place of a folder that is to be written. Raises UsageError for a file, or a link to nothing."""
    if target.is_symlink() and not target.exists():
        raise UsageError(
            f"{target} is a link to a place that does not exist",
            got=os.readlink(target),
            allowed=f"a {noun}, an empty folder, or a path that does not exist yet",
            hint="Choose another path, or make the folder that it names.",
        )
    return Path(os.path.realpath(target))


def refuse_inputs(target: Path, inputs: Sequence[Path], noun: str) -> None:
    """Raises UsageError if something that is read lies in the folder that is written."""
    for path in inputs:
        if Path(os.path.realpath(path)).is_relative_to(target):
            raise UsageError(
                f"{path} is read by this command and lies in the {noun} that it writes",
                got=f"{target}",
                allowed="a folder without any of the files that are read",
                hint="Choose another --to.",
            )


def is_finished(target: Path, marker: str, settings: Mapping[str, Any], noun: str, option: str = "--overwrite") -> bool:
    """Whether `target` is whole and made with these settings. Raises UsageError if it is something else."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    if not target.is_dir() or not is_complete(target, marker):
        refuse_foreign_folder(target, noun, marker)
    values = read_json(target / marker)
    old = values.get("settings") if isinstance(values, dict) else None
    if old == settings:
        return True
    owned = owned_files(target, marker, noun)
    if owned is None or not isinstance(old, dict):
        refuse_foreign_folder(target, noun, marker)
    replace = f", or replace it with {option}" if not foreign_files(target, owned) else ""
    raise UsageError(
        f"{target} is a finished {noun} made with other settings",
        got=describe_difference(old, settings),
        hint=f"Choose another folder{replace}.",
    )


def refuse_foreign_folder(target: Path, noun: str, marker: str) -> NoReturn:
    """Raises UsageError for a target that is not ours."""
    without = "another" if is_complete(target, marker) else "no"
    raise UsageError(
        f"{target} exists and is not a {noun}",
        got="a file" if not target.is_dir() else f"a folder with {without} {marker}",
        hint="Choose a path that does not exist yet.",
    )


def check_replaceable(target: Path, marker: str, noun: str) -> None:
    """Raises UsageError unless `target` is free, an empty folder, or a folder of ours that holds nothing else."""
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        refuse_foreign_folder(target, noun, marker)
    if any(target.iterdir()):
        owned = owned_files(target, marker, noun)
        if owned is None:
            refuse_foreign_folder(target, noun, marker)
        if others := foreign_files(target, owned):
            shown = ", ".join(others[:5]) + (f" and {len(others) - 5} more" if len(others) > 5 else "")
            raise UsageError(
                f"{target} holds what is not part of the {noun}",
                got=shown,
                allowed=f"the files that {marker} lists",
                hint="Move it to another folder, or choose another --to.",
            )
    if os.path.ismount(target) or Path.cwd().is_relative_to(target):
        raise UsageError(
            f"{target} cannot be replaced as a whole",
            got="a mount point" if os.path.ismount(target) else "the current folder",
            hint=f"Choose a folder in it, such as {target / noun.replace(' ', '-')}.",
        )


def claim_folder(
    beside: Path,
    target: Path,
    marker: str,
    settings: Mapping[str, Any],
    noun: str,
    *,
    overwrite: bool,
    option: str,
    restart: Callable[[str], None] | None = None,
) -> bool:
    """Make the building folder ours; True if an unfinished build with the same settings can be gone on with."""
    stamp, wanted = beside / SETTINGS, build_stamp(noun, settings)
    if beside.is_symlink() or (beside.exists() and not beside.is_dir()):
        refuse_obstacle(beside, "a link or a file")
    beside.mkdir(parents=True, exist_ok=True)
    for half in beside.glob(f".{SETTINGS}.*.tmp"):
        half.unlink()
    if stamp.is_file():
        values = read_json(stamp, hint=f"Move {beside} away, then run the same command again.")
        old = values.get("settings") if isinstance(values, dict) else None
        if not isinstance(old, dict) or values != build_stamp(noun, old):
            refuse_obstacle(beside, f"another {SETTINGS}")
        if old == settings and (restart or not overwrite):
            (beside / marker).unlink(missing_ok=True)
            return True
        if restart:
            changes = describe_difference(old, settings)
            restart(f"An unfinished build of {target} was started with other settings ({changes}).")
        elif not overwrite:
            raise UsageError(
                f"An unfinished build of {target} was started with other settings",
                got=describe_difference(old, settings),
                hint=f"Use the settings it was started with, choose another --to, or start over with {option}.",
            )
        else:
            sweep(beside)
    elif any(beside.iterdir()):  # a kill during the swap: the old folder, or the new one
        owned = owned_files(beside, marker, noun)
        if owned is not None:
            remove_owned(beside, owned, last=marker)
        if beside.exists():
            refuse_obstacle(beside, ", ".join(sorted(path.name for path in beside.iterdir())[:5]))
        beside.mkdir()
    write_json(stamp, wanted)
    return False


def is_unfinished(beside: Path, settings: Mapping[str, Any], noun: str) -> bool:
    """Whether a folder is an unfinished build of ours with these settings."""
    stamp = beside / SETTINGS
    return stamp.is_file() and not beside.is_symlink() and bool(read_json(stamp) == build_stamp(noun, settings))


def build_stamp(noun: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What says of an unfinished folder that it is ours, and how it is built."""
    return {"generator": f"{GENERATOR} unfinished {noun}", "format": FORMAT, "settings": dict(settings)}


def sweep(beside: Path) -> None:
    """Empty a building folder of ours, all but the file that says that it is one."""
    for path in beside.iterdir():
        if path.name != SETTINGS:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def refuse_obstacle(beside: Path, got: str) -> NoReturn:
    """Raises UsageError for what stands where a folder is to be built."""
    raise UsageError(
        f"{beside} is in the way: it is not an unfinished build",
        got=got,
        allowed="a folder that an interrupted command left",
        hint="Move it away, or choose another --to.",
    )
