"""Copies of database tables, each read once for a whole command, in a temporary folder that goes at its end.

    with table_copies() as copies:
        path = copies.folder / "1.parquet"

All steps of a command then read the same rows, and the server is asked once.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class TableCopies:
    """The folder of the copies, and what was copied by its address."""

    folder: Path
    known: dict[Any, Any] = field(default_factory=dict)


OPEN: ContextVar[TableCopies | None] = ContextVar("table_copies", default=None)


@contextmanager
def table_copies() -> Iterator[TableCopies]:
    """Copies that are shared within the block, also by blocks inside it, and deleted at its end."""
    if (shared := OPEN.get()) is not None:
        yield shared
        return
    with tempfile.TemporaryDirectory(prefix="pricesmith-", ignore_cleanup_errors=True) as folder:
        copies = TableCopies(Path(folder))
        token = OPEN.set(copies)
        try:
            yield copies
        finally:
            OPEN.reset(token)


def current_copies() -> TableCopies:
    """The copies of the innermost block; outside of any, new ones that are deleted when the process ends."""
    if (shared := OPEN.get()) is not None:
        return shared
    folder = Path(tempfile.mkdtemp(prefix="pricesmith-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return TableCopies(folder)
