"""Arrays in files of a work folder: larger than memory may be, and gone when they are not needed any more.

with MappedArrays(folder) as arrays:
    keys = arrays.allocate("keys", np.uint32, (26, 1_000_000))
    arrays.release()  # pages leave memory, and stay in the file
"""

from __future__ import annotations

import errno
import math
import mmap
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np


class MappedArrays:
    """Arrays that are mapped from files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.maps: list[mmap.mmap] = []

    def __enter__(self) -> MappedArrays:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.maps.clear()  # each is unmapped with the last array on it

    def allocate(self, name: str, dtype: Any, shape: tuple[int, ...]) -> Any:
        """A new array in a file that has no name any more. Raises OSError where the disk has no room for it."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if not size:
            return np.empty(shape, dtype=dtype)
        path = self.folder / f"{name}.bin"
        try:
            with path.open("w+b") as file:
                reserve(file.fileno(), size)
                whole = mmap.mmap(file.fileno(), size)
        finally:
            path.unlink(missing_ok=True)
        self.maps.append(whole)
        return np.frombuffer(whole, dtype=dtype).reshape(shape)

    def release(self) -> None:
        """Release mapped pages from memory; they stay in the files."""
        for whole in self.maps:
            whole.madvise(mmap.MADV_DONTNEED)


def reserve(handle: int, size: int) -> None:
    """Give a file its size, with room on the disk: a page that is written later without room would end the process."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(handle, 0, size)
            return
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
    os.truncate(handle, size)
