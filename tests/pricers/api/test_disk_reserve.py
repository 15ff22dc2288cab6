"""Disk space that is held for answers."""

from __future__ import annotations

import errno
import os
import zlib
from pathlib import Path

import pytest

from pricesmith.pricers.api.disk_reserve import RESERVE_BYTES, DiskReserve


def test_the_space_is_held_once_and_given_back(tmp_path: Path) -> None:
    """A file that is there whole stays; one that is too small is made again."""
    reserve = DiskReserve(tmp_path / "reserve")
    reserve.release()
    reserve.path.write_bytes(b"a part")
    reserve.hold()
    held = reserve.path.stat()
    assert held.st_size == RESERVE_BYTES
    reserve.hold()
    assert reserve.path.stat().st_mtime_ns == held.st_mtime_ns
    reserve.release()
    assert not reserve.path.exists()


def test_the_reserve_takes_its_space_on_a_file_system_that_compresses_too(tmp_path: Path) -> None:
    """It cannot be made smaller."""
    reserve = DiskReserve(tmp_path / "reserve")
    reserve.hold()
    content = reserve.path.read_bytes()
    assert len(content) == RESERVE_BYTES
    assert len(zlib.compress(content)) >= RESERVE_BYTES


def test_a_full_disk_leaves_no_half_a_reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is the system's."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    reserve = DiskReserve(tmp_path / "reserve")
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        reserve.hold()
    assert not reserve.path.exists()
