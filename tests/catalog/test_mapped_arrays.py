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


def test_files_are_one_array(tmp_path: Path) -> None:
    """Also if one of them is empty; a single file is mapped as it is."""
    paths = [tmp_path / name for name in "abc"]
    for path, count in zip(paths, (2, 0, 3), strict=True):
        np.full((count, 4), count, dtype=np.uint16).tofile(path)
    with MappedArrays(tmp_path) as arrays:
        assert arrays.read_all("values", paths, np.uint16, 4)[:, 0].tolist() == [2, 2, 3, 3, 3]
        assert arrays.read_all("values", paths[:1], np.uint16, 4).shape == (2, 4)
    assert sorted(tmp_path.iterdir()) == paths


def test_an_array_of_nothing_needs_no_file(tmp_path: Path) -> None:
    with MappedArrays(tmp_path) as arrays:
        (tmp_path / "empty.bin").touch()
        assert arrays.allocate("values", np.uint32, (3, 0)).shape == (3, 0)
        assert arrays.read(tmp_path / "empty.bin", np.uint16, 128).shape == (0, 128)


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
