"""What an interrupted training goes on from: checkpoints that are whole or not there, and the training curve.

A checkpoint's marker, with the size and SHA-256 of every file, is written last. A checkpoint is trusted only where its
marker is sound and the folder holds exactly the files that the marker names, byte for byte: nothing of it is read
before. The newest is the one with the highest step in its path, whatever a clock says. `training_args.bin`, the one
file of a Trainer that could hold code, is deleted before the marker is written.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pricesmith.core.atomic import read_json, sha256, sync_folder, write_atomic, write_json
from pricesmith.core.errors import InputError
from pricesmith.core.progress import SILENT, Progress

CHECKPOINTS = "checkpoints"
MARKER = "whole.json"
FORMAT = 1
UNTRUSTED = "training_args.bin"
STATE = "trainer_state.json"
ADAPTER = "adapter_model.safetensors"
NEEDED = frozenset({ADAPTER, "adapter_config.json", "optimizer.pt", "scheduler.pt", "rng_state.pth", STATE})
KEEP = 3
ERROR = "eval_error"  # the name under which a Trainer's log holds the error in money
FAR_WORSE = "eval_far_worse"  # 1.0 where that error is far worse than what anybody can do without training


def checkpoint_step(folder: Path) -> int:
    """The step in a checkpoint's path; -1 where it is no checkpoint's."""
    found = re.fullmatch(r"checkpoint-(\d+)", folder.name)
    return int(found[1]) if found else -1


def checkpoints(place: Path) -> list[Path]:
    """The checkpoints under a folder, whole or not, newest first."""
    found = [path for path in place.iterdir() if checkpoint_step(path) >= 0] if place.is_dir() else []
    return sorted(found, key=checkpoint_step, reverse=True)


def write_marker(folder: Path) -> None:
    """Make a written checkpoint whole: drop what is not to be read again, sync every file, write the marker last."""
    (folder / UNTRUSTED).unlink(missing_ok=True)
    files = {}
    for path in sorted(folder.iterdir()):
        if path.name == MARKER:
            continue
        with path.open("rb") as handle:
            os.fsync(handle.fileno())
        files[path.name] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    sync_folder(folder)
    write_json(folder / MARKER, {"format": FORMAT, "step": checkpoint_step(folder), "files": files})
    sync_folder(folder.parent)


def find_damage(folder: Path) -> str:
    """What is wrong with a checkpoint, in a few words; empty where it is whole."""
    if not (folder / MARKER).is_file():
        return f"it has no {MARKER}: it was not finished"
    try:
        marker = read_json(folder / MARKER)
    except InputError:
        return f"its {MARKER} cannot be read"
    files = marker.get("files") if isinstance(marker, dict) else None
    if not isinstance(files, dict) or marker.get("format") != FORMAT or marker.get("step") != checkpoint_step(folder):
        return f"its {MARKER} does not say what it holds"
    there = {path.name for path in folder.iterdir()} - {MARKER}
    if missing := sorted((NEEDED | set(files)) - there):
        return f"{missing[0]} is missing"
    if foreign := sorted(there - set(files)):
        return f"{foreign[0]} does not belong to it"
    changed = (name for name, facts in sorted(files.items()) if not is_unchanged(folder / name, facts))
    name = next(changed, "")
    return f"{name} was changed after it was written" if name else ""


def is_unchanged(path: Path, facts: Any) -> bool:
    """Whether a file has the size and the hash that a marker names."""
    if not isinstance(facts, dict) or path.is_symlink() or not path.is_file():
        return False
    return path.stat().st_size == facts.get("bytes") and sha256(path) == facts.get("sha256")


def newest_checkpoint(place: Path, progress: Progress = SILENT) -> Path | None:
    """The newest whole checkpoint; newer ones that are not whole are named in one warning and deleted."""
    broken: list[str] = []
    for path in checkpoints(place):
        wrong = find_damage(path)
        if not wrong:
            format_note(broken, f"going on from {path.name}", progress)
            return path
        broken.append(f"{path.name} is passed over ({wrong})")
        shutil.rmtree(path, ignore_errors=True)
    format_note(broken, "no whole checkpoint is left, training starts over", progress)
    return None


def read_history(folder: Path) -> list[dict[str, Any]]:
    """The log of the Trainer that wrote a whole checkpoint."""
    history: list[dict[str, Any]] = read_json(folder / STATE)["log_history"]
    return history


def best_checkpoint(place: Path, progress: Progress = SILENT) -> tuple[Path, float | None]:
    """The whole checkpoint with the lowest error, and that error; the newest where none was judged.

    Raises InputError where there is none. A better one that is not whole any more is named in a warning.
    """
    whole = [path for path in checkpoints(place) if not find_damage(path)]
    if not whole:
        raise InputError(f"There is no whole checkpoint in {place}", hint="Run the same command with --overwrite.")
    judged = validation_errors(read_history(whole[0]))
    error, step = min(((e, n) for e, n in judged if place / f"checkpoint-{n}" in whole), default=(None, None))
    if judged and step != min(judged)[1]:
        progress.note(f"Warning: the best checkpoint, of step {min(judged)[1]:,}, is damaged: that of {step} is taken.")
    return (whole[0] if step is None else place / f"checkpoint-{step}"), error


def format_note(broken: list[str], so: str, progress: Progress) -> None:
    """One warning for all checkpoints that were passed over."""
    if broken:
        progress.note(f"Warning: {'; '.join(broken)}; {so}.")


def prune_checkpoints(place: Path, best: int | None) -> None:
    """Delete all but the newest KEEP checkpoints and the one of step `best`; the marker goes first."""
    for path in checkpoints(place)[KEEP:]:
        if checkpoint_step(path) != best:
            (path / MARKER).unlink(missing_ok=True)
            shutil.rmtree(path, ignore_errors=True)


def validation_errors(history: Sequence[Mapping[str, Any]]) -> list[tuple[float, int]]:
    """(error, step) of every judgment in a Trainer's log, in order."""
    return [(float(line[ERROR]), int(line["step"])) for line in history if ERROR in line]


def best_step(history: Sequence[Mapping[str, Any]]) -> int | None:
    """The step of the lowest error, the first of equals; None before any judgment."""
    return min(validation_errors(history), default=(0.0, None))[1]


def best_is_far_worse(history: Sequence[Mapping[str, Any]]) -> bool:
    """Whether even the best judgment was far worse than the median quote or the untuned model."""
    best = best_step(history)
    return any(line.get(FAR_WORSE) == 1.0 for line in history if ERROR in line and line["step"] == best)


def has_stalled(history: Sequence[Mapping[str, Any]], patience: int) -> bool:
    """Whether the last `patience` judgments have all been no better than the best before them (0: never)."""
    steps = [step for _, step in validation_errors(history)]
    best = best_step(history)
    return patience > 0 and best is not None and len(steps) - 1 - steps.index(best) >= patience


class TrainingCurve:
    """`training.jsonl`: one line a log, appended; lines after the step that a run goes on from are dropped."""

    def __init__(self, path: Path) -> None:
        self.path, self.before = path, 0.0
        self.started = time.perf_counter()

    def go_on_from(self, step: int) -> None:
        """Keep the whole lines up to `step`; seconds go on from the last of them."""
        kept = [line for line in self.lines() if line["step"] <= step]
        write_atomic(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self.before = float(kept[-1]["seconds"]) if kept else 0.0
        self.started = time.perf_counter()

    def lines(self) -> list[dict[str, Any]]:
        """The lines that are whole; a kill may have cut the last one."""
        found = []
        for text in self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []:
            with contextlib.suppress(ValueError, TypeError, KeyError):
                line = json.loads(text)
                float(line["seconds"]), int(line["step"])
                found.append(line)
        return found

    @property
    def seconds(self) -> float:
        """Seconds of training, with those of the processes before this one."""
        return self.before + time.perf_counter() - self.started

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one line."""
        text = json.dumps({**line, "seconds": round(self.seconds, 2)}, allow_nan=False) + "\n"
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(text)
