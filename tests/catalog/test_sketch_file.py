"""Sketches in the order of the rows, in memory or in a file."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from pricesmith.catalog import sketch_file
from pricesmith.catalog.sketch_file import WIDTH, SketchFile, sort_sketches


@pytest.fixture
def shards(tmp_path: Path) -> tuple[list[Path], np.ndarray]:
    """Files of 30, 0 and 17 sketches, and all sketches."""
    whole = np.random.default_rng(0).integers(0, 2**16, (47, WIDTH), dtype=np.uint16)
    paths = [tmp_path / name for name in "abc"]
    for path, rows in zip(paths, np.split(whole, [30, 30]), strict=True):
        rows.tofile(path)
    return paths, whole


@pytest.mark.parametrize("most", [0, 100])
@pytest.mark.parametrize("count", [0, 20, 47])
def test_sketches_come_in_the_order_of_the_rows(
    shards: tuple[list[Path], np.ndarray], most: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rows or some of them, and no file stays."""
    paths, whole = shards
    monkeypatch.setattr(sketch_file, "MOST_IN_MEMORY", most)
    monkeypatch.setattr(sketch_file, "RANGE", 8)
    rows = np.random.default_rng(1).permutation(47)[:count]
    with sort_sketches(paths, rows, paths[0].parent) as sketches:
        assert len(sketches) == count
        assert isinstance(sketches, SketchFile) == (count > most)
        assert (sketches[:] == whole[rows]).all()
        assert (sketches[3:9] == whole[rows[3:9]]).all()
    assert sorted(paths[0].parent.iterdir()) == paths


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system reserves no room")
def test_a_full_disk_is_an_error_before_anything_is_written(
    shards: tuple[list[Path], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing stays of the file."""

    def refuse(handle: int, start: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    monkeypatch.setattr(sketch_file, "MOST_IN_MEMORY", 0)
    paths, _ = shards
    with (
        pytest.raises(OSError, match="No space left"),
        sort_sketches(paths, np.arange(47), paths[0].parent),
    ):
        pass
    assert sorted(paths[0].parent.iterdir()) == paths
