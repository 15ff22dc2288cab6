"""Tells the claims of running commands from those of commands that have ended, however they ended.

    owner = Owner(folder)
    owner.lock()                    from now on others see that it lives
    owner.is_living(other.name)     until that one is closed, or its process has ended

An owner holds a lock on a file of its own. The system lets go of it when the process ends, also by a kill, and unlike a
process id it is never given to another one, nor does it differ between containers.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from pathlib import Path

from filelock import FileLock, Timeout

DAY = 86_400.0


class Owner:
    """One owner of claims, a store of answers that is open. Not for several threads at once."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, uuid.uuid4().hex
        self.held = False
        self.own = FileLock(folder / self.name, timeout=0, thread_local=False)

    def lock(self) -> None:
        """Be alive from now on. Locks that killed processes left a day ago are removed."""
        if self.held:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.iterdir():
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < time.time() - DAY:  # a new one may not be locked yet
                    self.is_living(path.name)
        self.own.acquire()
        self.held = True

    def is_living(self, name: str) -> bool:
        """Whether the owner of this name is open in a process that runs. The file of a dead one is removed."""
        if name == self.name:
            return self.held
        path = self.folder / name
        if not path.is_file():
            return False
        probe = FileLock(path, timeout=0, thread_local=False)
        try:
            with probe:
                path.unlink(missing_ok=True)
        except Timeout:
            return True
        return False

    def close(self) -> None:
        """End all claims."""
        if self.held:
            self.held = False
            self.own.release()
            (self.folder / self.name).unlink(missing_ok=True)
