"""Whole files and folders."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pricesmith.errors import InputError, UsageError
from pricesmith.workspace import (
    SETTINGS,
    atomic_file,
    build_folder,
    inventory,
    read_json,
    verify,
    write_atomic,
    write_json,
)


def made(folder: Path, text: str = "one", *, fresh: bool = False, **settings: object) -> bool:
    """Build a folder with one file; whether anything was built."""
    with build_folder(folder, "done.json", settings, fresh=fresh, noun="thing") as build:
        if build is None:
            return False
        (build.folder / "file.txt").write_text(text)
        build.finish({"n": 1})
    return True


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    """An error while writing changes nothing and leaves no temporary file."""
    path = tmp_path / "a.txt"
    write_atomic(path, "old")
    with pytest.raises(RuntimeError), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["a.txt"]


def test_leftovers_of_a_killed_writer_are_swept(tmp_path: Path) -> None:
    """A temporary file whose process is gone is removed by the next write of the same file."""
    (tmp_path / ".a.txt.999999999.tmp").write_text("half")
    write_atomic(tmp_path / "a.txt", "new")
    assert [found.name for found in tmp_path.iterdir()] == ["a.txt"]


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


def test_the_same_command_again_is_finished(tmp_path: Path) -> None:
    """A whole folder with the same settings is not built twice."""
    assert made(tmp_path / "a", alpha=1)
    assert not made(tmp_path / "a", alpha=1)


def test_other_settings_are_refused_with_the_difference(tmp_path: Path) -> None:
    """What differs is told, and nothing is overwritten."""
    made(tmp_path / "a", alpha=1)
    with pytest.raises(UsageError) as caught:
        made(tmp_path / "a", "two", alpha=2)
    assert "alpha: 1 -> 2" in str(caught.value)
    assert (tmp_path / "a" / "file.txt").read_text() == "one"


def test_fresh_builds_beside_and_swaps(tmp_path: Path) -> None:
    """--fresh replaces the folder as a whole and leaves nothing beside it."""
    made(tmp_path / "a", alpha=1)
    assert made(tmp_path / "a", "two", fresh=True, alpha=2)
    assert (tmp_path / "a" / "file.txt").read_text() == "two"
    assert [found.name for found in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    """A user's own folder is never built into, not even with --fresh."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("meow")
    for fresh in (False, True):
        with pytest.raises(UsageError, match="not a thing"):
            made(tmp_path / "photos", fresh=fresh)
    assert (tmp_path / "photos" / "cat.jpg").read_text() == "meow"


def test_an_unfinished_build_is_gone_on_with(tmp_path: Path) -> None:
    """After a kill, the same settings go on; other settings are told the difference."""
    beside = tmp_path / ".a.building"
    beside.mkdir()
    write_json(beside / SETTINGS, {"alpha": 1})
    (beside / "partial").write_text("kept")
    with pytest.raises(UsageError, match="unfinished"):
        made(tmp_path / "a", alpha=2)
    with build_folder(tmp_path / "a", "done.json", {"alpha": 1}) as build:
        assert build is not None
        assert build.resumed
        assert (build.folder / "partial").read_text() == "kept"
        build.finish({})
    assert (tmp_path / "a" / "done.json").is_file()


def test_two_writers_of_one_folder_do_not_meet(tmp_path: Path) -> None:
    """The second is refused while the first is at work."""
    code = (
        "import sys, pathlib\n"
        "from pricesmith.workspace import build_folder\n"
        "from pricesmith.errors import UsageError\n"
        "try:\n"
        "    with build_folder(pathlib.Path(sys.argv[1]), 'done.json', {}): pass\n"
        "except UsageError as error:\n"
        "    print(error)\n"
    )
    with build_folder(tmp_path / "a", "done.json", {}) as build:
        assert build is not None
        told = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], capture_output=True, text=True)
        build.finish({})
    assert "Another process is writing" in told.stdout


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
