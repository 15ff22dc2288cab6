"""Disk space that is held for answers which are paid for, and given back when the disk is full.

    reserve = DiskReserve(Path("answers.sqlite.reserve"))
    reserve.hold()          before anything is asked; raises OSError if the disk has no room
    reserve.release()       when an answer cannot be stored; then try again

Other programs may fill a disk while requests are in flight. Without such a reserve their answers would be lost.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

RESERVE_BYTES = 4_000_000  # hundreds of answers, with the pages of the database that change with each


@dataclass(frozen=True)
class DiskReserve:
    """A file of `RESERVE_BYTES` that all commands with the same response cache share."""

    path: Path

    def hold(self) -> None:
        """Make the file, if it is not there whole. Raises OSError if there is no room for it."""
        try:
            if self.path.stat().st_size >= RESERVE_BYTES:
                return
        except FileNotFoundError:
            pass
        try:
            with self.path.open("wb") as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
                else:
                    file.write(bytes(RESERVE_BYTES))
        except OSError:
            self.release()
            raise

    def release(self) -> None:
        """Give the space back."""
        self.path.unlink(missing_ok=True)
