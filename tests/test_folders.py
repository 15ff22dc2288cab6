"""Whole folders: old or new, never half, and nothing of anybody else is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pricesmith.errors import UsageError
from pricesmith.folders import SETTINGS, build_folder
from pricesmith.workspace import write_json


def made(folder: Path, text: str = "one", *, fresh: bool = False, **settings: object) -> bool:
    """Build a folder with one file; whether anything was built."""
    with build_folder(folder, "done.json", settings, fresh=fresh, noun="thing") as build:
        if build is None:
            return False
        (build.folder / "file.txt").write_text(text)
        build.finish({"n": 1})
    return True


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
    write_json(beside / SETTINGS, {"generator": "pricesmith unfinished folder", "format": 1, "settings": {"alpha": 1}})
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
        "from pricesmith.folders import build_folder\n"
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
