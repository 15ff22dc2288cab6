"""Whole folders: old or new, never half, and nothing of anybody else is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pricesmith.core import folders
from pricesmith.core.atomic import write_json
from pricesmith.core.errors import UsageError
from pricesmith.core.folders import SETTINGS, build_folder


def write_output(folder: Path, text: str = "one", *, overwrite: bool = False, **settings: object) -> bool:
    """Build a folder with one file; whether anything was built."""
    with build_folder(folder, "done.json", settings, overwrite=overwrite, noun="thing") as build:
        if build is None:
            return False
        (build.folder / "file.txt").write_text(text)
        build.finish({"n": 1})
    return True


def test_the_same_command_again_is_finished(tmp_path: Path) -> None:
    """A whole folder with the same settings is not built twice."""
    assert write_output(tmp_path / "a", alpha=1)
    assert not write_output(tmp_path / "a", alpha=1)


def test_other_settings_are_refused_with_the_difference(tmp_path: Path) -> None:
    """What differs is process, and nothing is overwritten."""
    write_output(tmp_path / "a", alpha=1)
    with pytest.raises(UsageError) as caught:
        write_output(tmp_path / "a", "two", alpha=2)
    assert "alpha: 1 -> 2" in str(caught.value)
    assert (tmp_path / "a" / "file.txt").read_text() == "one"


def test_overwrite_builds_beside_and_swaps(tmp_path: Path) -> None:
    """--overwrite replaces the folder as a whole and leaves nothing beside it."""
    write_output(tmp_path / "a", alpha=1)
    assert write_output(tmp_path / "a", "two", overwrite=True, alpha=2)
    assert (tmp_path / "a" / "file.txt").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_an_interrupted_overwrite_starts_over_unless_it_resumes(tmp_path: Path) -> None:
    """With `resume`, what an interrupted build with the same settings left is found again."""
    write_output(tmp_path / "a")

    def begin(resume: bool) -> list[str]:
        with (
            pytest.raises(KeyboardInterrupt),
            build_folder(tmp_path / "a", "done.json", {}, overwrite=True, noun="thing", resume=resume) as build,
        ):
            names = [path.name for path in build.folder.iterdir() if path.name != SETTINGS]
            (build.folder / f"part-{len(names)}").write_text("work")
            build.keep = True
            raise KeyboardInterrupt
        return names

    assert begin(resume=True) == []
    assert begin(resume=True) == ["part-0"]
    assert begin(resume=False) == []
    assert (tmp_path / "a" / "file.txt").read_text() == "one"


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    """A user's own folder is never built into, not even with --overwrite."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("meow")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="not a thing"):
            write_output(tmp_path / "photos", overwrite=overwrite)
    assert (tmp_path / "photos" / "cat.jpg").read_text() == "meow"


def test_an_unfinished_build_is_gone_on_with(tmp_path: Path) -> None:
    """After a kill, the same settings go on; other settings are process the difference."""
    beside = tmp_path / ".a.building"
    beside.mkdir()
    write_json(beside / SETTINGS, {"generator": "pricesmith unfinished folder", "format": 1, "settings": {"alpha": 1}})
    (beside / "partial").write_text("kept")
    with pytest.raises(UsageError, match="unfinished"):
        write_output(tmp_path / "a", alpha=2)
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
        "from pricesmith.core.folders import build_folder\n"
        "from pricesmith.core.errors import UsageError\n"
        "try:\n"
        "    with build_folder(pathlib.Path(sys.argv[1]), 'done.json', {}): pass\n"
        "except UsageError as error:\n"
        "    print(error)\n"
    )
    with build_folder(tmp_path / "a", "done.json", {}) as build:
        assert build is not None
        process = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], capture_output=True, text=True)
        build.finish({})
    assert "Another process is writing" in process.stdout


def kill_at(step: int, build: object) -> bool:
    """Run `build` in a child that dies, as by kill -9, before its `step`-th change to the files; whether it did."""
    pid = os.fork()
    if pid == 0:
        count = 0

        def counted(change: Callable[..., object]) -> Callable[..., object]:
            def changed(*args: object, **more: object) -> object:
                nonlocal count
                count += 1
                if count == step:
                    os._exit(9)
                return change(*args, **more)

            return changed

        for name in ("rename", "replace", "unlink", "rmdir", "mkdir"):
            setattr(os, name, counted(getattr(os, name)))
        folders.swap_folders = counted(folders.swap_folders)  # type: ignore[assignment]
        build()  # type: ignore[operator]
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9


@pytest.mark.parametrize("one_step", [True, False], ids=["swapped at once", "swapped in three steps"])
def test_a_kill_at_any_step_of_a_swap_loses_nothing(
    one_step: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After it the old folder or the new one is there, whole, at the latest when the same command has run again."""
    if not one_step:

        def in_three(first: Path, other: Path) -> None:
            os.rename(other, folders.aside_path(other))
            os.rename(first, other)
            os.rename(folders.aside_path(other), first)

        monkeypatch.setattr(folders, "swap_folders", in_three)
    for step in range(1, 200):
        folder = tmp_path / f"{step}"
        folder.mkdir()
        write_output(folder / "a", "old", alpha=1)
        killed = kill_at(step, lambda folder=folder: write_output(folder / "a", "new", overwrite=True, alpha=2))
        if one_step:
            assert (folder / "a" / "file.txt").read_text() in ("old", "new")
            assert (folder / "a" / "done.json").is_file()
        write_output(folder / "a", "new", overwrite=True, alpha=2)
        assert (folder / "a" / "file.txt").read_text() == "new"
        assert sorted(path.name for path in folder.iterdir()) == ["a"]
        assert sorted(path.name for path in (folder / "a").iterdir()) == ["done.json", "file.txt"]
        if not killed:
            assert step > 8
            return
    pytest.fail("the build never ended")


@pytest.mark.parametrize("name", ["notes.txt", "models/ridge.bin", ".git/config", "file.txt/x"])
def test_a_file_that_we_did_not_write_is_never_removed(name: str, tmp_path: Path) -> None:
    """It is named before any work starts, and it and the old folder stand."""
    write_output(tmp_path / "a", alpha=1)
    if name.startswith("file.txt"):
        (tmp_path / "a" / "file.txt").unlink()
    (tmp_path / "a" / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "a" / name).write_text("mine")
    for alpha in (1, 2):
        with pytest.raises(UsageError, match="not part of the thing") as caught:
            write_output(tmp_path / "a", "two", overwrite=True, alpha=alpha)
        assert name.split("/")[0] in caught.value.got
    assert (tmp_path / "a" / name).read_text() == "mine"
    with pytest.raises(UsageError) as caught:
        write_output(tmp_path / "a", "two", alpha=2)
    assert "--overwrite" not in caught.value.hint


@pytest.mark.parametrize(
    "marker",
    ['{"name": "web app"}', '{"settings": {}}', "[]", "{", '{"generator": "pricesmith other", "format": 1}'],
)
def test_a_marker_of_another_program_does_not_count(marker: str, tmp_path: Path) -> None:
    """A file that is only called like ours makes no folder ours."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "done.json").write_text(marker)
    with pytest.raises(UsageError, match="not a thing"):
        write_output(tmp_path / "a", overwrite=True, alpha=1)
    assert (tmp_path / "a" / "done.json").read_text() == marker


def test_a_file_that_came_during_the_work_stays(tmp_path: Path) -> None:
    """The swap is refused, and the work is kept for the same command again."""
    write_output(tmp_path / "a", alpha=1)
    with (
        pytest.raises(UsageError, match="not part of"),
        build_folder(tmp_path / "a", "done.json", {"alpha": 2}, overwrite=True, noun="thing") as build,
    ):
        assert build is not None
        (tmp_path / "a" / "notes.txt").write_text("mine")
        build.finish({})
    assert (tmp_path / "a" / "notes.txt").read_text() == "mine"
    (tmp_path / "a" / "notes.txt").unlink()
    assert write_output(tmp_path / "a", "two", overwrite=True, alpha=2)


def test_a_link_is_written_through(tmp_path: Path) -> None:
    """New or --overwrite: the link stays a link, and the real folder holds the build."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert write_output(tmp_path / "link", "one", alpha=1)
    assert write_output(tmp_path / "link", "two", overwrite=True, alpha=2)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "file.txt").read_text() == "two"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


def test_a_link_to_nothing_and_a_link_inside_are_refused(tmp_path: Path) -> None:
    """Neither is followed, and what a link inside names is untouched."""
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(UsageError, match="does not exist"):
        write_output(tmp_path / "link")
    write_output(tmp_path / "a", alpha=1)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("meow")
    (tmp_path / "a" / "photos").symlink_to(tmp_path / "photos")
    with pytest.raises(UsageError, match="not part of"):
        write_output(tmp_path / "a", overwrite=True, alpha=2)
    assert (tmp_path / "photos" / "cat.jpg").read_text() == "meow"


def test_what_is_read_does_not_lie_in_what_is_written(tmp_path: Path) -> None:
    """A source inside the target is refused, also one that the marker lists."""
    write_output(tmp_path / "a", alpha=1)
    with (
        pytest.raises(UsageError, match="is read by this command"),
        build_folder(tmp_path / "a", "done.json", {}, overwrite=True, inputs=[tmp_path / "a" / "file.txt"]),
    ):
        pass
    assert (tmp_path / "a" / "file.txt").read_text() == "one"


def test_somebody_elses_building_folder_is_left_alone(tmp_path: Path) -> None:
    """A hidden folder of that name counts as ours only by what it says."""
    (tmp_path / ".a.building").mkdir()
    (tmp_path / ".a.building" / "plan.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="in the way"):
            write_output(tmp_path / "a", overwrite=overwrite, alpha=1)
    assert (tmp_path / ".a.building" / "plan.txt").read_text() == "mine"
