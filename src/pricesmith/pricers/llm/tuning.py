"""One training, from its plan to its last checkpoint: what adapters and whole models have in common.

A subclass loads the model, builds the trainer and writes the files of the model folder. The plan (steps, evaluations)
is made from the measured speed and stored, so that an interrupted training resumes with the same one.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from pricesmith.core.atomic import read_json, write_json
from pricesmith.core.errors import PricesmithError, UsageError
from pricesmith.core.processes import current_processes
from pricesmith.core.progress import Progress, format_duration
from pricesmith.core.types import Item, Listing, Quote
from pricesmith.pricers.llm.adapters import peak_memory
from pricesmith.pricers.llm.base_model import PretrainedBase
from pricesmith.pricers.llm.batching import Example, Schedule, Throughput
from pricesmith.pricers.llm.checkpoints import (
    CHECKPOINTS,
    best_is_far_worse,
    checkpoint_step,
    checkpoints,
    find_damage,
    has_stalled,
    newest_checkpoint,
    read_history,
    validation_maes,
)
from pricesmith.pricers.llm.trainer import FAR, MEDIAN, UNTUNED, PriceTrainer, ValidationResult
from pricesmith.text.formatting import format_money

PLAN, UNTUNED_FILE, CURVE = "plan.json", "untuned.json", "training.jsonl"
MAX_EVAL_ITEMS, MAX_GPU_EVAL_ITEMS = 500, 2000  # validation items in an evaluation, on a CPU and on a GPU
MIN_HEAD_ROWS = 50  # fewer rows do not fit a head of price bins
PROBE_ITEMS = 32  # validation items that are priced to measure the speed, at least
PROBE_STEPS = 20  # that are timed before the training
PROBE_TIME_SHARE = 0.1  # of the minutes, for timing them
HEAD_SHARE = 0.15  # of the time left then, for the rows that the head of price bins is initialized from


class TuningSettings(Protocol):
    """What the plan of a training reads of its settings, as `TunedRecipe` describes them."""

    @property
    def minutes(self) -> float: ...
    @property
    def epochs(self) -> float: ...
    @property
    def n_evals(self) -> int: ...
    @property
    def patience(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def warmup_ratio(self) -> float: ...


class BatchPricer(Protocol):
    """The pricer that is trained: it prices batches of `tokens_per_batch` tokens."""

    tokens_per_batch: int

    def price(self, listings: Sequence[Listing], /) -> list[Quote]: ...


class Tuning:
    """One training: the model, the examples, the trainer, and the plan. A subclass sets `base`, `model`, `examples`,
    `trainer`, `pricer`, and `load_seconds`: what loading took, which is done once more for calibration."""

    settings: TuningSettings
    base: PretrainedBase
    model: nn.Module
    examples: Sequence[Example]
    trainer: PriceTrainer
    pricer: BatchPricer
    load_seconds: float
    dtype: str
    trained = "a head and"  # what of the base is trained, in words
    max_eval_items = MAX_EVAL_ITEMS  # on a CPU

    def __init__(
        self, train: Sequence[Item], validation: Sequence[Item], folder: Path, progress: Progress, seed: int
    ) -> None:
        self.started = time.perf_counter()
        self.folder, self.progress = folder, progress
        facts = read_json(folder / "catalog.json")
        self.price_range: tuple[float, float] = tuple(facts["price_range"])
        self.currency = str(facts["currency"])
        self.median_price = float(np.median([item.price for item in train]))
        at_most = MAX_GPU_EVAL_ITEMS if torch.cuda.is_available() else self.max_eval_items
        order = np.random.default_rng(seed).permutation(len(validation))[:at_most]
        self.validation_items = [validation[index] for index in order]
        self.n_calibration = len(validation)  # the other half of validation is as large

    def make_checkpoint_folder(self) -> Path:
        """The folder of the checkpoints, which rank 0 creates."""
        folder = self.folder / CHECKPOINTS
        if current_processes().leads:
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def median_errors(self) -> list[float]:
        """The absolute errors of the median training price on the validation items: the reference `MEDIAN`."""
        return [abs(self.median_price - item.price) for item in self.validation_items]

    def describe_weights(self) -> str:
        """The number of trained weights, the base and the dtype, in words."""
        count = sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad)
        return f"{count / 1e6:.2g} million weights of {self.trained} {self.base.name} in {self.dtype}."

    def head_rows(self) -> int:
        """The training rows that a head is initialized from, before the time is looked at."""
        return 0

    def init_head(self, rows: int) -> None:
        """Initialize a head from `rows` rows; nothing where a head starts at random."""

    def validate(self, count: int) -> ValidationResult:
        """The MAE on the first `count` validation items; an unanswered one is charged the median price."""
        items = self.validation_items[:count]
        low, high = self.price_range
        quotes = [quote.price for quote in self.pricer.price([item.listing for item in items])]
        prices = [self.median_price if price is None else min(max(price, low), high) for price in quotes]
        errors = [abs(price - item.price) for price, item in zip(prices, items, strict=True)]
        answered = sum(price is not None for price in quotes) / len(items)
        return ValidationResult(round(float(np.mean(errors)), 6), answered, errors)

    def seconds_left(self) -> float:
        """Seconds of the minutes that are left to be planned."""
        if not self.settings.minutes:
            return math.inf
        return 60 * self.settings.minutes - (time.perf_counter() - self.started) - self.load_seconds

    def plan(self) -> Schedule:
        """Time a few steps, initialize the head, and plan the rest of the training by the measured speed.

        Raises UsageError if the shortest training does not fit into the minutes.
        """
        settings = self.settings
        self.progress.start("timing a few steps")
        at_most = 60 * PROBE_TIME_SHARE * settings.minutes or math.inf
        items = len(self.validation_items[: self.probe_items()])
        pace = self.trainer.probe(PROBE_STEPS, items, at_most=at_most)
        wanted = min(len(self.examples), self.head_rows())
        rows = wanted if wanted >= MIN_HEAD_ROWS else 0
        self.refuse_short(pace, min(rows, MIN_HEAD_ROWS))
        if rows and settings.minutes:
            rows = min(rows, max(MIN_HEAD_ROWS, int(HEAD_SHARE * self.seconds_left() / max(pace.item_seconds, 1e-9))))
        self.init_head(rows)
        return self.build_schedule(pace, self.seconds_left(), rows)

    def probe_items(self) -> int:
        """How many validation items are priced to measure the speed: on a GPU a full batch, to try its memory too."""
        if not torch.cuda.is_available():
            return PROBE_ITEMS
        shortest = min(len(example.prompt) for example in self.examples)
        return max(PROBE_ITEMS, self.pricer.tokens_per_batch // shortest + 1)

    def build_schedule(self, pace: Throughput, left: float, head_rows: int) -> Schedule:
        """The schedule that fits into `left` seconds."""
        return Schedule.build(
            self.trainer.batches,
            pace,
            epochs=self.settings.epochs,
            left=left,
            n_evals=self.settings.n_evals,
            n_validation=len(self.validation_items),
            n_calibration=self.n_calibration,
            head_rows=head_rows,
        )

    def refuse_short(self, pace: Throughput, head_rows: int) -> None:
        """Raises UsageError if the shortest training, with evaluation and calibration, does not fit into the time."""
        minutes = self.settings.minutes
        if not minutes:
            return
        left = self.seconds_left() - head_rows * pace.item_seconds
        least = self.build_schedule(pace, max(left, 0.0), head_rows)
        if least.needed_seconds <= left:
            return
        needed = 60 * minutes - left + 1.2 * least.needed_seconds
        raise UsageError(
            f"{minutes:g} minutes are too few to tune {self.base.name} on this machine",
            got=f"{format_duration(60 * minutes - left)} for loading, timing and the head; then {least.steps} steps, "
            f"{(least.n_evals + 1) * least.eval_items} validation quotes and {least.calibration_rows} quotes to "
            f"calibrate intervals take about {format_duration(least.needed_seconds)}",
            allowed=f"{math.ceil(needed / 6) / 10:g} minutes or more; 0: no limit",
            hint=f"Add --set minutes={math.ceil(needed / 6) / 10:g}, or choose a smaller base or a lower max_length.",
        )

    def validate_untuned(self, items: int) -> None:
        """Measure the MAE before the first step: a training that ends far worse has diverged."""
        if not items:
            return
        self.progress.start(f"pricing {items} validation items before tuning")
        result = self.trainer.validate_items(items)
        errors = [round(float(error), 6) for error in result.errors]
        write_json(self.folder / CHECKPOINTS / UNTUNED_FILE, {"errors": errors})
        median_mae = float(np.mean(self.trainer.references[MEDIAN][:items]))
        self.progress.note(
            f"Before tuning: validation MAE {format_money(result.mae, self.currency)}; median price for every item: "
            f"{format_money(median_mae, self.currency)}."
        )

    def estimate(self, schedule: Schedule) -> str:
        """The schedule, its estimated time and the number of trained weights, in words."""
        return f"{schedule.describe(self.trainer.batches)} {self.describe_weights()}"

    def train(self) -> None:
        """Train to the end of the schedule, from the newest complete checkpoint if there is one. Rank 0 plans; where
        several processes train, torch copies its weights to the others."""
        processes = current_processes()
        plan = processes.share(self.prepare() if processes.leads else None)
        if processes.size > 1 and plan["examples"] != self.examples_digest():
            raise PricesmithError(
                "The processes have read different training rows",
                hint="Run the same command again; the catalog and the base must not change while it starts.",
            )
        self.trainer.set_schedule(Schedule(**plan["schedule"]), plan["done"], warmup_ratio=self.settings.warmup_ratio)
        if plan["trains"]:
            checkpoint = str(self.folder / CHECKPOINTS / plan["checkpoint"]) if plan["checkpoint"] else None
            self.trainer.train(resume_from_checkpoint=checkpoint)

    def examples_digest(self) -> str:
        """A hash of the examples' token ids and prices; empty for a single process, which compares it with nobody's."""
        if current_processes().size == 1:
            return ""
        digest = hashlib.sha256()
        for example in self.examples:
            digest.update(np.array([*example.prompt, *example.answer, -1]).tobytes() + repr(example.price).encode())
        return digest.hexdigest()

    def prepare(self) -> dict[str, Any]:
        """Plan the training, or read its plan; the schedule, the steps done, the checkpoint to resume from, and whether
        any steps are left."""
        folder = self.folder / CHECKPOINTS
        planned = (folder / PLAN).is_file()
        if not planned:
            shutil.rmtree(folder)  # a checkpoint without its schedule is of no use
            folder.mkdir()
            limit = self.trainer.batches.describe_limit(self.settings.epochs, self.settings.minutes)
            self.progress.note(f"{limit} {peak_memory():.1f} GB of memory so far; a few steps are timed next.")
        last = newest_checkpoint(folder, self.progress) if planned else None
        if not planned:
            write_json(folder / PLAN, asdict(self.plan()))
        schedule = Schedule(**read_json(folder / PLAN))
        if planned and last is None:
            self.init_head(schedule.head_rows)
        done = checkpoint_step(last) if last else 0
        self.progress.note(self.estimate(schedule))
        if (size := current_processes().size) > 1:
            self.progress.note(f"{size} processes: each computes its share of every batch.")
        if last is None:
            self.validate_untuned(schedule.eval_items)
        if (folder / UNTUNED_FILE).is_file():
            self.trainer.references = {**self.trainer.references, UNTUNED: read_json(folder / UNTUNED_FILE)["errors"]}
        if last:
            self.progress.note(f"Resuming from step {done:,} of {schedule.steps:,}.")
        self.trainer.curve.resume_at(done)
        history = read_history(last) if last else []
        before = self.trainer.curve.before
        over = schedule.is_over(before + before / max(1, done)) or has_stalled(history, self.settings.patience)
        return {
            "schedule": asdict(schedule),
            "done": done,
            "checkpoint": last.name if last else "",
            "trains": done < schedule.steps and not over,
            "examples": self.examples_digest(),
        }

    def refuse_diverged(self) -> None:
        """Raises PricesmithError if even the best evaluation was far worse than a reference model. A model that is far
        worse than the median quote but better than before its first step has begun to learn: that is a warning."""
        history = read_history(next(path for path in checkpoints(self.folder / CHECKPOINTS) if not find_damage(path)))
        if not best_is_far_worse(history):
            return
        best, step = min(validation_maes(history))
        items = Schedule(**read_json(self.folder / CHECKPOINTS / PLAN)).eval_items
        maes = {name: float(np.mean(errors[:items])) for name, errors in self.trainer.references.items() if errors}
        compared = " and ".join(f"{format_money(mae, self.currency)} of {name}" for name, mae in maes.items())
        got = f"a validation MAE of {format_money(best, self.currency)} at step {step:,}, its best; {compared}"
        if UNTUNED in maes and best < maes[UNTUNED]:
            self.progress.note(
                f"Warning: the training has diverged or was too short: {got}. The model is of no use yet. Fit again "
                "with more minutes or epochs, or with "
                f"--set learning_rate={self.settings.learning_rate / 3:.1g} --overwrite."
            )
            return
        raise self.trainer.diverged(
            got, allowed=f"not significantly more than {FAR:g} times either of them, on {items} items"
        )
