"""Whole files and folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from pricesmith.core.atomic import (
    atomic_file,
    inventory,
    read_json,
    verify,
    write_atomic,
    write_json,
)
from pricesmith.core.errors import InputError


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    """An error while writing changes nothing and leaves no temporary file."""
    path = tmp_path / "a.txt"
    write_atomic(path, "old")
    with pytest.raises(RuntimeError), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_leftovers_of_a_killed_writer_are_swept(tmp_path: Path) -> None:
    """A temporary file whose process is gone is removed by the next write of the same file."""
    (tmp_path / ".a.txt.999999999.tmp").write_text("half")
    write_atomic(tmp_path / "a.txt", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_json_that_strict_readers_refuse_is_not_written(tmp_path: Path) -> None:
    """NaN never reaches a file."""
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not (tmp_path / "a.json").exists()


def test_damaged_json_is_an_input_error(tmp_path: Path) -> None:
    """A half file is named, not traced back."""
    (tmp_path / "a.json").write_text('{"x": ')
    with pytest.raises(InputError, match="damaged"):
        read_json(tmp_path / "a.json")


def test_a_changed_file_is_found(tmp_path: Path) -> None:
    """An inventory catches one flipped byte, and a path that leads outside."""
    (tmp_path / "a.bin").write_bytes(b"12345")
    files = inventory(tmp_path)
    verify(tmp_path, files)
    (tmp_path / "a.bin").write_bytes(b"12346")
    with pytest.raises(InputError, match="was changed"):
        verify(tmp_path, files)
    with pytest.raises(InputError, match="outside"):
        verify(tmp_path, {"../a": {"bytes": 1, "sha256": ""}})
