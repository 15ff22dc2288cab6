"""Two files that change as one: rows, `NAME.jsonl`, and the meta file that names them by their SHA-256.

    write_pair(folder, "mlp", rows, {"pricer": "mlp", ...})

New rows wait as `.NAME.SHA256.jsonl` until the meta file has taken the place of the old one, which is the one step from
the old evaluation to the new; then they take theirs. A reader finds the rows of the meta file it read in either place.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pricesmith.core.atomic import file_lock, read_json, sweep_temporaries, sync_folder, write_atomic, write_json
from pricesmith.core.errors import InputError, UsageError

META = ".meta.json"
ROWS = ".jsonl"
NAMED = "rows_sha256"
MOST_LINE = 1 << 24


def write_result_files(folder: Path, name: str, rows: bytes, meta: Mapping[str, Any]) -> None:
    """Write rows and their meta file, to which `rows_sha256` is added; one that fails leaves the old pair as it was."""
    digest = hashlib.sha256(rows).hexdigest()
    with file_lock(folder / f".{name}.lock"):
        publish_pending_rows(folder, name)
        try:
            write_atomic(pending_rows_path(folder, name, digest), rows)
            write_json(folder / f"{name}{META}", {**meta, NAMED: digest})
        finally:
            publish_pending_rows(folder, name)


def recover_result_files(folder: Path, name: str) -> None:
    """Put rows whose meta file is there into their place, and drop what a kill left half written."""
    digest = "[0-9a-f]" * 64
    patterns = (f".{name}.{digest}{ROWS}", f"..{name}.{digest}{ROWS}.*.tmp", f".{name}{META}.*.tmp")
    if any(any(folder.glob(pattern)) for pattern in patterns):
        with file_lock(folder / f".{name}.lock"):
            publish_pending_rows(folder, name)
            for pattern in patterns[1:]:
                sweep_temporaries(folder, pattern)


def check_ours(folder: Path, name: str) -> None:
    """Raises UsageError if a file that an evaluation would replace is not one that we wrote."""
    for path, is_ours in ((folder / f"{name}{META}", is_meta), (folder / f"{name}{ROWS}", is_rows)):
        if os.path.lexists(path) and (path.is_symlink() or not is_ours(path)):
            raise UsageError(
                f"{path} exists, and `pricesmith eval` did not write it",
                got="a link" if path.is_symlink() else "another file",
                hint="Choose another folder, or move that file away.",
            )


def is_meta(path: Path) -> bool:
    """Whether a file is the meta file of an evaluation."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and {"format", "pricer", NAMED} <= set(found)


def is_rows(path: Path) -> bool:
    """Whether a file holds rows of an evaluation, by its first line. An empty file is no loss."""
    try:
        with path.open("rb") as handle:
            line = handle.readline(MOST_LINE)
        found = json.loads(line or b"null")
    except (OSError, ValueError, RecursionError):
        return False
    return found is None or (isinstance(found, dict) and {"id", "truth", "price", "raw"} <= set(found))


def publish_pending_rows(folder: Path, name: str) -> None:
    """Put rows whose meta file is there into their place, and drop those that a kill left without one."""
    for path in folder.glob(f".{name}.{'[0-9a-f]' * 64}{ROWS}"):
        if path == pending_rows_path(folder, name, read_rows_digest(folder / f"{name}{META}")):
            os.replace(path, folder / f"{name}{ROWS}")
            sync_folder(folder)
        else:
            path.unlink(missing_ok=True)


def read_rows(folder: Path, name: str, digest: str) -> bytes | None:
    """The rows with this SHA-256, in their place or still waiting; None where they are in neither."""
    place = folder / f"{name}{ROWS}"
    for path in (
        place,
        pending_rows_path(folder, name, digest),
        place,
    ):  # they may move between the first look and the second
        try:
            rows = path.read_bytes()
        except FileNotFoundError:
            continue
        if hashlib.sha256(rows).hexdigest() == digest:
            return rows
    return None


def pending_rows_path(folder: Path, name: str, digest: str) -> Path:
    """Where rows stand until the meta file that names them is there."""
    return folder / f".{name}.{digest}{ROWS}"


def read_rows_digest(meta: Path) -> str:
    """The rows that a meta file names; empty where there is none, or a damaged one."""
    try:
        return str(read_json(meta)[NAMED])
    except (InputError, KeyError, TypeError):
        return ""
