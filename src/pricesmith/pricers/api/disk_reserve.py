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
from typing import BinaryIO

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
                allocate(file)
        except OSError:
            self.release()
            raise

    def release(self) -> None:
        """Give the space back."""
        self.path.unlink(missing_ok=True)


def allocate(file: BinaryIO) -> None:
    """Give a new file `RESERVE_BYTES` of the disk. Raises OSError if there is no room for them.

    Random bytes: a file system that compresses stores zeros in no space, and `posix_fallocate` does not exist on every
    system or reserves nothing.
    """
    file.write(os.urandom(RESERVE_BYTES))
    file.flush()
    os.fsync(file.fileno())
