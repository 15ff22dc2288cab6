"""Arrays in files of a work folder."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from pricesmith.catalog.mapped_arrays import MappedArrays


def test_an_array_keeps_its_values_when_its_pages_are_released(tmp_path: Path) -> None:
    """And its file has no name, so that nothing is left of it."""
    with MappedArrays(tmp_path) as arrays:
        values = arrays.allocate("values", np.uint32, (3, 1_000))
        values[:] = np.arange(3_000).reshape(3, 1_000)
        arrays.release()
        assert (values == np.arange(3_000).reshape(3, 1_000)).all()
        assert list(tmp_path.iterdir()) == []


def test_an_array_of_nothing_needs_no_file(tmp_path: Path) -> None:
    with MappedArrays(tmp_path) as arrays:
        assert arrays.allocate("values", np.uint32, (3, 0)).shape == (3, 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system reserves no room")
def test_a_full_disk_is_an_error_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a signal that ends the process later; a file system that cannot reserve room is used without."""

    def refuse(handle: int, start: int, size: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with MappedArrays(tmp_path) as arrays:
        code = errno.ENOSPC
        with pytest.raises(OSError, match="No space left"):
            arrays.allocate("values", np.uint8, (10,))
        code = errno.EOPNOTSUPP
        assert len(arrays.allocate("values", np.uint8, (10,))) == 10
    assert list(tmp_path.iterdir()) == []
