"""Write two files as one: rows, `NAME.jsonl`, and the meta file that holds their SHA-256.

    write_result_files(folder, "mlp", rows, {"pricer": "mlp", ...})

New rows are first written to `.NAME.SHA256.jsonl`. Replacing the meta file is the single step from the old evaluation
to the new one; then the rows are renamed to `NAME.jsonl`. A reader finds the rows of its meta file in either place.
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
ROWS_SHA256 = "rows_sha256"
MAX_LINE_BYTES = 1 << 24


def write_result_files(folder: Path, name: str, rows: bytes, meta: Mapping[str, Any]) -> None:
    """Write rows and their meta file, with `rows_sha256` added; a failure leaves the old pair unchanged."""
    digest = hashlib.sha256(rows).hexdigest()
    with file_lock(folder / f".{name}.lock"):
        publish_pending_rows(folder, name)
        try:
            write_atomic(pending_rows_path(folder, name, digest), rows)
            write_json(folder / f"{name}{META}", {**meta, ROWS_SHA256: digest})
        finally:
            publish_pending_rows(folder, name)


def recover_result_files(folder: Path, name: str) -> None:
    """Publish pending rows whose meta file exists, and remove what a killed process left incomplete."""
    digest = "[0-9a-f]" * 64
    patterns = (f".{name}.{digest}{ROWS}", f"..{name}.{digest}{ROWS}.*.tmp", f".{name}{META}.*.tmp")
    if any(any(folder.glob(pattern)) for pattern in patterns):
        with file_lock(folder / f".{name}.lock"):
            publish_pending_rows(folder, name)
            for pattern in patterns[1:]:
                sweep_temporaries(folder, pattern)


def check_ours(folder: Path, name: str) -> None:
    """Raises UsageError if an evaluation would replace a file that Pricesmith did not write."""
    for path, is_ours in ((folder / f"{name}{META}", is_meta), (folder / f"{name}{ROWS}", is_rows)):
        if os.path.lexists(path) and (path.is_symlink() or not is_ours(path)):
            raise UsageError(
                f"{path} exists, but `pricesmith eval` did not write it",
                got="a link" if path.is_symlink() else "another file",
                hint="Choose another folder, or move that file away.",
            )


def is_meta(path: Path) -> bool:
    """Whether a file is the meta file of an evaluation."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(values, dict) and {"format", "pricer", ROWS_SHA256} <= set(values)


def is_rows(path: Path) -> bool:
    """Whether a file holds rows of an evaluation, by its first line. An empty file counts, as nothing is lost."""
    try:
        with path.open("rb") as handle:
            line = handle.readline(MAX_LINE_BYTES)
        values = json.loads(line or b"null")
    except (OSError, ValueError, RecursionError):
        return False
    return values is None or (isinstance(values, dict) and {"id", "truth", "price", "raw"} <= set(values))


def publish_pending_rows(folder: Path, name: str) -> None:
    """Publish pending rows whose meta file exists, and remove pending rows without one."""
    for path in folder.glob(f".{name}.{'[0-9a-f]' * 64}{ROWS}"):
        if path == pending_rows_path(folder, name, read_rows_digest(folder / f"{name}{META}")):
            os.replace(path, folder / f"{name}{ROWS}")
            sync_folder(folder)
        else:
            path.unlink(missing_ok=True)


def read_rows(folder: Path, name: str, digest: str) -> bytes | None:
    """The rows with this SHA-256, published or pending; None if there are none."""
    published = folder / f"{name}{ROWS}"
    pending = pending_rows_path(folder, name, digest)
    for path in (published, pending, published):  # another process may publish them in between
        try:
            rows = path.read_bytes()
        except FileNotFoundError:
            continue
        if hashlib.sha256(rows).hexdigest() == digest:
            return rows
    return None


def pending_rows_path(folder: Path, name: str, digest: str) -> Path:
    """The path of rows until their meta file exists."""
    return folder / f".{name}.{digest}{ROWS}"


def read_rows_digest(meta: Path) -> str:
    """The SHA-256 of the rows that a meta file names; empty if the file is missing or damaged."""
    try:
        return str(read_json(meta)[ROWS_SHA256])
    except (InputError, KeyError, TypeError):
        return ""
