"""Checkpoints that an interrupted training resumes from, and the training log.

A checkpoint's marker, with the size and SHA-256 of every file, is written last. A checkpoint is read only if its marker
is valid and the folder holds exactly the files of the marker, byte for byte. The newest is the one with the highest
step in its path, whatever the clock says. `training_args.bin`, the one file of a Trainer that can hold code, is deleted
before the marker is written.
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
MARKER = "complete.json"
FORMAT = 1
UNTRUSTED = "training_args.bin"
STATE = "trainer_state.json"
RNG_STATE = "rng_state.pth"
ADAPTER = "adapter_model.safetensors"
WEIGHTS = "model.safetensors"  # of a training of all weights
NEEDED = frozenset({"optimizer.pt", "scheduler.pt", RNG_STATE, STATE})
ADAPTER_FILES = frozenset({ADAPTER, "adapter_config.json"})
KEEP = 3
ERROR = "eval_mae"  # the key of the validation MAE, in money, in a Trainer's log
FAR_WORSE = "eval_far_worse"  # 1.0 if that MAE is far worse than a reference model's


def checkpoint_step(folder: Path) -> int:
    """The step in a checkpoint's path; -1 if it is not a checkpoint."""
    match = re.fullmatch(r"checkpoint-(\d+)", folder.name)
    return int(match[1]) if match else -1


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, complete or not, newest first."""
    paths = [path for path in folder.iterdir() if checkpoint_step(path) >= 0] if folder.is_dir() else []
    return sorted(paths, key=checkpoint_step, reverse=True)


def write_marker(folder: Path) -> None:
    """Complete a written checkpoint: delete what must not be read again, sync every file, write the marker last."""
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
    """What is wrong with a checkpoint, in a few words; empty if it is complete."""
    if not (folder / MARKER).is_file():
        return f"it has no {MARKER}: it was not finished"
    try:
        marker = read_json(folder / MARKER)
    except InputError:
        return f"its {MARKER} cannot be read"
    files = marker.get("files") if isinstance(marker, dict) else None
    if not isinstance(files, dict) or marker.get("format") != FORMAT or marker.get("step") != checkpoint_step(folder):
        return f"its {MARKER} is not valid"
    names = {path.name for path in folder.iterdir()} - {MARKER}
    weights = {WEIGHTS} if WEIGHTS in files else ADAPTER_FILES
    if missing := sorted((NEEDED | weights | set(files)) - names):
        return f"{missing[0]} is missing"
    if foreign := sorted(names - set(files)):
        return f"{foreign[0]} does not belong to it"
    changed = (name for name, facts in sorted(files.items()) if not is_unchanged(folder / name, facts))
    name = next(changed, "")
    return f"{name} was changed after it was written" if name else ""


def is_unchanged(path: Path, facts: Any) -> bool:
    """Whether a file has the size and the hash of its marker."""
    if not isinstance(facts, dict) or path.is_symlink() or not path.is_file():
        return False
    return path.stat().st_size == facts.get("bytes") and sha256(path) == facts.get("sha256")


def newest_checkpoint(folder: Path, progress: Progress = SILENT) -> Path | None:
    """The newest complete checkpoint; newer ones that are not complete are named in one warning and deleted."""
    broken: list[str] = []
    for path in checkpoints(folder):
        damage = find_damage(path)
        if not damage:
            warn_skipped(broken, f"training resumes from {path.name}", progress)
            return path
        broken.append(f"{path.name} is skipped ({damage})")
        shutil.rmtree(path, ignore_errors=True)
    warn_skipped(broken, "no complete checkpoint is left, training starts over", progress)
    return None


def read_history(folder: Path) -> list[dict[str, Any]]:
    """The log of the Trainer that wrote a complete checkpoint."""
    history: list[dict[str, Any]] = read_json(folder / STATE)["log_history"]
    return history


def best_checkpoint(folder: Path, progress: Progress = SILENT) -> tuple[Path, float | None]:
    """The complete checkpoint with the lowest validation MAE, and that MAE; the newest and None if none has one.

    Raises InputError if there is no complete checkpoint. A warning names a better one that is damaged.
    """
    complete = [path for path in checkpoints(folder) if not find_damage(path)]
    if not complete:
        raise InputError(f"There is no complete checkpoint in {folder}", hint="Run the same command with --overwrite.")
    maes = validation_maes(read_history(complete[0]))
    usable = [(mae, step) for mae, step in maes if folder / f"checkpoint-{step}" in complete]
    if not usable:
        return complete[0], None
    mae, step = min(usable)
    if step != min(maes)[1]:
        progress.note(
            f"Warning: the best checkpoint, of step {min(maes)[1]:,}, is damaged; the one of step {step:,} is used."
        )
    return folder / f"checkpoint-{step}", mae


def warn_skipped(broken: list[str], consequence: str, progress: Progress) -> None:
    """Note one warning for all skipped checkpoints."""
    if broken:
        progress.note(f"Warning: {'; '.join(broken)}; {consequence}.")


def prune_checkpoints(folder: Path, best: int | None) -> None:
    """Delete all but the newest KEEP checkpoints and the one of step `best`; their markers first."""
    for path in checkpoints(folder)[KEEP:]:
        if checkpoint_step(path) != best:
            (path / MARKER).unlink(missing_ok=True)
            shutil.rmtree(path, ignore_errors=True)


def validation_maes(history: Sequence[Mapping[str, Any]]) -> list[tuple[float, int]]:
    """(MAE, step) of every evaluation in a Trainer's log, in order."""
    return [(float(line[ERROR]), int(line["step"])) for line in history if ERROR in line]


def best_step(history: Sequence[Mapping[str, Any]]) -> int | None:
    """The step of the lowest validation MAE, the first of equals; None before any evaluation."""
    return min(validation_maes(history), default=(0.0, None))[1]


def best_is_far_worse(history: Sequence[Mapping[str, Any]]) -> bool:
    """Whether even the best evaluation was far worse than the median quote or the untuned model."""
    best = best_step(history)
    return any(line.get(FAR_WORSE) == 1.0 for line in history if ERROR in line and line["step"] == best)


def has_stalled(history: Sequence[Mapping[str, Any]], patience: int) -> bool:
    """Whether none of the last `patience` evaluations was better than the best before them (0: never)."""
    steps = [step for _, step in validation_maes(history)]
    best = best_step(history)
    return patience > 0 and best is not None and len(steps) - 1 - steps.index(best) >= patience


class TrainingCurve:
    """The training log `training.jsonl`, a JSON object on each line.

    Keys: step, epoch, seconds; train_loss, learning_rate, grad_norm, tokens_per_second, padding (if a loss was logged);
    validation_mae, answered (after an evaluation). A training that resumes at a step drops the lines after it.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.before = path, 0.0
        self.started = time.perf_counter()

    def resume_at(self, step: int) -> None:
        """Drop the lines after `step`; the seconds continue from the last line left."""
        lines = [line for line in self.lines() if line["step"] <= step]
        write_atomic(self.path, "".join(json.dumps(line) + "\n" for line in lines))
        self.before = float(lines[-1]["seconds"]) if lines else 0.0
        self.started = time.perf_counter()

    def lines(self) -> list[dict[str, Any]]:
        """The complete lines; an interruption may have truncated the last one."""
        lines = []
        for text in self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []:
            with contextlib.suppress(ValueError, TypeError, KeyError):
                line = json.loads(text)
                float(line["seconds"]), int(line["step"])
                lines.append(line)
        return lines

    @property
    def seconds(self) -> float:
        """Seconds of training, earlier interrupted processes included."""
        return self.before + time.perf_counter() - self.started

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one line."""
        text = json.dumps({**line, "seconds": round(self.seconds, 2)}, allow_nan=False) + "\n"
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(text)
