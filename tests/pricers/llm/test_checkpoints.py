"""A checkpoint is whole or it is not there, and what was not sealed by us is never read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pricesmith.core.progress import Progress
from pricesmith.pricers.llm.checkpoints import (
    ADAPTER_FILES,
    MARKER,
    NEEDED,
    TrainingCurve,
    best_step,
    checkpoint_step,
    checkpoints,
    find_damage,
    has_stalled,
    newest_checkpoint,
    prune_checkpoints,
    write_marker,
)


class Notes(Progress):
    """Records notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def write_checkpoint(parent: Path, step: int) -> Path:
    """A sealed checkpoint with a file of each name that a real one has."""
    folder = parent / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    for name in NEEDED | ADAPTER_FILES:
        (folder / name).write_bytes(f"{name} of step {step}".encode() * 20)
    (folder / "training_args.bin").write_bytes(b"code")
    write_marker(folder)
    return folder


def truncate(folder: Path) -> None:
    (folder / "optimizer.pt").write_bytes((folder / "optimizer.pt").read_bytes()[:50])


def zero(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(bytes(path.stat().st_size))


def flip(folder: Path) -> None:
    data = bytearray((folder / "rng_state.pth").read_bytes())
    data[17] ^= 1
    (folder / "rng_state.pth").write_bytes(data)


def delete(folder: Path) -> None:
    (folder / "scheduler.pt").unlink()


def unmark(folder: Path) -> None:
    (folder / MARKER).unlink()


def empty_marker(folder: Path) -> None:
    (folder / MARKER).write_text("")


def garble(folder: Path) -> None:
    (folder / MARKER).write_text('{"format": 1, "step": 30, "files": {')


def hollow(folder: Path) -> None:
    (folder / MARKER).write_text('{"format": 1, "step": 30, "files": {}}')


def other_shape(folder: Path) -> None:
    (folder / MARKER).write_text('[{"files": 3}]')


def plant(folder: Path) -> None:
    """A file that a Trainer would read before the right one."""
    (folder / "optimizer.bin").write_bytes(b"code")


def link(folder: Path) -> None:
    path = folder / "optimizer.pt"
    path.rename(folder.parent / "elsewhere")
    path.symlink_to(folder.parent / "elsewhere")


WAYS = [truncate, zero, flip, delete, unmark, empty_marker, garble, hollow, other_shape, plant, link]


@pytest.mark.parametrize("damage", WAYS, ids=lambda way: way.__name__)
def test_a_broken_newest_falls_back_to_the_one_before(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """Whatever broke the newest, the previous one is taken, with one warning that names both and the reason."""
    write_checkpoint(tmp_path, 10)
    previous, last = write_checkpoint(tmp_path, 20), write_checkpoint(tmp_path, 30)
    damage(last)
    assert find_damage(last)
    notes = Notes()
    assert newest_checkpoint(tmp_path, notes) == previous
    assert len(notes.notes) == 1
    assert "checkpoint-30 is skipped" in notes.notes[0]
    assert "training resumes from checkpoint-20" in notes.notes[0]
    assert not last.exists(), "its leftovers would mix with the files of the next checkpoint of that step"


def test_a_complete_newest_checkpoint_is_used_without_a_note(tmp_path: Path) -> None:
    """The highest step in the path wins, not the latest write and not the order of letters."""
    write_checkpoint(tmp_path, 100)
    write_checkpoint(tmp_path, 20)
    notes = Notes()
    assert newest_checkpoint(tmp_path, notes) == tmp_path / "checkpoint-100"
    assert notes.notes == []


def test_where_all_are_broken_training_starts_over(tmp_path: Path) -> None:
    """One warning for all of them."""
    for step in (10, 20):
        flip(write_checkpoint(tmp_path, step))
    notes = Notes()
    assert newest_checkpoint(tmp_path, notes) is None
    assert len(notes.notes) == 1
    assert "starts over" in notes.notes[0]
    assert newest_checkpoint(tmp_path / "none", notes) is None


def test_sealing_drops_what_could_hold_code(tmp_path: Path) -> None:
    """`training_args.bin` is gone before the marker is there; the marker names all that is left."""
    folder = write_checkpoint(tmp_path, 10)
    assert not (folder / "training_args.bin").exists()
    assert set(json.loads((folder / MARKER).read_text())["files"]) == NEEDED | ADAPTER_FILES


def test_pruning_keeps_three_and_the_best(tmp_path: Path) -> None:
    """The newest three by step and the one with the lowest error stay."""
    for step in (10, 20, 30, 40, 50, 60):
        write_checkpoint(tmp_path, step)
    (tmp_path / "checkpoint-notes").mkdir()
    prune_checkpoints(tmp_path, best=20)
    assert [checkpoint_step(path) for path in checkpoints(tmp_path)] == [60, 50, 40, 20]
    assert (tmp_path / "checkpoint-notes").is_dir()


def test_the_training_log_continues_after_the_resumed_step(tmp_path: Path) -> None:
    """Later lines and a torn one are dropped; seconds add up over the processes."""
    curve = TrainingCurve(tmp_path / "training.jsonl")
    for step in (1, 2, 3):
        curve.write({"step": step, "train_loss": 1 / step})
    with curve.path.open("a") as handle:
        handle.write('{"step": 4, "lo')
    again = TrainingCurve(tmp_path / "training.jsonl")
    again.resume_at(2)
    again.write({"step": 3, "train_loss": 0.5})
    lines = again.lines()
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert lines[2]["train_loss"] == 0.5
    assert lines[2]["seconds"] >= lines[1]["seconds"]


def test_patience_is_read_from_the_history() -> None:
    """Stalled means that the last evaluations were all no better than the best before them; a resume sees the same."""
    history = [{"loss": 1.0, "step": 1}]
    for step, error in ((10, 5.0), (20, 4.0), (30, 4.0), (40, 4.5)):
        history.append({"eval_mae": error, "step": step})
    assert best_step(history) == 20
    assert has_stalled(history, 2)
    assert not has_stalled(history, 3)
    assert not has_stalled(history, 0)
    assert not has_stalled([], 1)
    assert best_step([]) is None
