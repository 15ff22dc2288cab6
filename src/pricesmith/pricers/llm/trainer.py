"""The trainer of the specialist: transformers' Trainer with a loss on price positions only and checkpoints that hold.

Every step's batch, its dropout and the steps at which it logs, judges and saves are functions of the settings alone,
and judging or saving leaves the random numbers as they were: a run that was killed and resumed ends with the very
weights of one that was not. Errors of validation are in money, read as the finished pricer will read them.
"""

from __future__ import annotations

import contextlib
import math
import random
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback, TrainingArguments

from pricesmith.core.errors import PricesmithError
from pricesmith.core.progress import Progress
from pricesmith.pricers.llm.adapters import is_bf16, peak_memory
from pricesmith.pricers.llm.batching import Batch, Example, PlannedBatches, Schedule, Throughput, collate
from pricesmith.pricers.llm.checkpoints import (
    ERROR,
    FAR_WORSE,
    TrainingCurve,
    best_step,
    has_stalled,
    prune_checkpoints,
    validation_errors,
    write_marker,
)
from pricesmith.pricers.llm.divergence import far_worse_than

Loss = Callable[[nn.Module, Batch], Tensor]  # the loss of each example of a batch [examples]


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """Mean error in money on validation, the share of its items that had an answer, and the error of each item."""

    error: float
    answered: float
    errors: Sequence[float] = ()


@contextlib.contextmanager
def preserve_rng() -> Iterator[None]:
    """Whatever the block draws at random or seeds, the numbers after it are as if it had not been."""
    python, numpy = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


class ScheduleCallback(TrainerCallback):
    """Tells the Trainer after which steps to log, judge and save, and when its time is over, and the person how far
    it is. `seconds` of training have passed so far."""

    def __init__(self, schedule: Schedule, progress: Progress, seconds: Callable[[], float] = lambda: 0.0) -> None:
        self.schedule, self.progress, self.seconds = schedule, progress, seconds
        self.last = seconds()  # when the last step or judgment ended

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.last = self.seconds()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        step, last = state.global_step, state.global_step >= self.schedule.steps
        before, self.last = self.last, self.seconds()
        if not last and self.schedule.is_over(2 * self.last - before):  # no time for another step like this one
            self.progress.note(
                f"The time is over after step {step:,} of {self.schedule.steps:,}: this machine has become slower "
                "since the steps were timed."
            )
            last = control.should_training_stop = True
        control.should_evaluate = self.schedule.judges_after(step) or (last and self.schedule.judged > 0)
        control.should_save = control.should_evaluate or step % self.schedule.save_every == 0 or last
        # A save without a log would cut the mean loss of the next line in two.
        control.should_log = control.should_save or step % self.schedule.log_every == 0
        self.progress.advance(1)
        return control


class PriceTrainer(Trainer):
    """Trains an adapter on priced examples. `schedule` is set before `train`."""

    schedule: Schedule

    def __init__(
        self,
        model: nn.Module,
        args: TrainingArguments,
        *,
        examples: Sequence[Example],
        batches: PlannedBatches,
        pad: int,
        loss: Loss,
        judge: Callable[[int], ValidationResult],
        curve: TrainingCurve,
        patience: int,
        progress: Progress,
        shown: Callable[[float], str] = str,
    ) -> None:
        super().__init__(model=model, args=args, train_dataset=examples)
        self.net, self.examples, self.bf16 = model, examples, is_bf16(model)
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        self.batches, self.pad, self.loss, self.judge = batches, pad, loss, judge
        self.curve, self.patience, self.progress, self.shown = curve, patience, progress, shown
        self.references: Mapping[str, Sequence[float]] = {}  # absolute errors of what a training must not be worse than
        self.pending: dict[str, Any] = {}
        self.seen = [0, 0]  # tokens and positions since the last line
        self.clock = time.perf_counter()

    def follow(self, schedule: Schedule, done: int, *, warmup_ratio: float) -> None:
        """Take the schedule that `train` will keep, `done` of its steps being behind it."""
        self.schedule = schedule
        self.args.max_steps = schedule.steps
        self.args.warmup_steps = round(warmup_ratio * schedule.steps)
        self.batches.steps = schedule.steps
        self.add_callback(ScheduleCallback(schedule, self.progress, lambda: self.curve.seconds))
        self.seen = [0, 0]
        self.progress.start("tuning", schedule.steps)
        self.progress.advance(done)
        self.clock = time.perf_counter()

    def collated(self, examples: Sequence[Example]) -> Batch:
        """The tensors of a step's examples."""
        return collate(examples, self.pad, packed=self.batches.packed)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The planned batches, all epochs in one; no workers, since a batch is a millisecond's work."""
        loader: DataLoader[Any] = DataLoader(
            self.train_dataset,  # type: ignore[arg-type]
            batch_sampler=self.batches,
            collate_fn=self.collated,
            pin_memory=self.args.dataloader_pin_memory,
        )
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The mean of the losses of the step's examples; the head is asked at price positions only."""
        self.seen[0] += inputs["tokens"]
        self.seen[1] += inputs["ids"].numel()
        with self.autocast():
            return self.loss(model, inputs).mean()

    def autocast(self) -> Any:
        """bf16 arithmetic where the base is bf16."""
        return torch.autocast(self.args.device.type, torch.bfloat16, enabled=self.bf16)

    def judged(self, items: int) -> ValidationResult:
        """A judgment that leaves no trace."""
        with preserve_rng(), self.autocast():
            self.net.eval()
            return self.judge(items)

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted here: Trainer's count walks over all parameters at every step."""
        return 0

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Error in money on validation items, by the read-out that the finished pricer uses. Raises PricesmithError
        where it is no number."""
        started = time.perf_counter()
        found = self.judged(self.schedule.judged)
        if not math.isfinite(found.error):
            raise self.diverged(f"a validation error of {found.error} at step {self.state.global_step}")
        worse = far_worse_than(found.errors, self.references)
        metrics = {ERROR: found.error, "eval_answered": found.answered, FAR_WORSE: float(bool(worse))}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        if has_stalled(self.state.log_history, self.patience):
            self.control.should_training_stop = True
        self.tell(found, worse)
        self.clock += time.perf_counter() - started
        return metrics

    def tell(self, found: ValidationResult, worse: str = "") -> None:
        """One line for a person: where the training is, and how well it prices."""
        step, steps = self.state.global_step, self.schedule.steps
        best = best_step(self.state.log_history)
        lowest = min(error for error, _ in validation_errors(self.state.log_history))
        parts = [f"step {step:,} of {steps:,}"]
        if "loss" in self.pending:
            parts.append(f"loss {self.pending['loss']:.4g}")
        parts.append(f"validation error {self.shown(found.error)}")
        parts.append("the best so far" if best == step else f"best {self.shown(lowest)} at step {best:,}")
        if worse:
            parts.append(f"far worse than {worse}")
        if found.answered < 1:
            parts.append(f"{1 - found.answered:.1%} without an answer")
        if "tokens_per_second" in self.pending:
            parts.append(f"{self.pending['tokens_per_second']:,.0f} tokens/s")
        left = (steps - step) * self.curve.seconds / max(step, 1)
        if self.schedule.training_seconds:
            left = min(left, max(0.0, self.schedule.training_seconds - self.curve.seconds))
        if self.control.should_training_stop and step < steps:
            stalled = has_stalled(self.state.log_history, self.patience)
            parts.append(f"no better for {self.patience} times, stopping" if stalled else "stopping")
        elif step < steps:
            parts.append(f"about {left / 60:.0f} min left" if left > 90 else f"about {left:.0f} s left")
        self.progress.note(", ".join(parts))

    def diverged(self, got: str, allowed: str = "") -> PricesmithError:
        """The error for a training that has diverged, with a lower rate as advice."""
        hint = f"Add --set learning_rate={self.args.learning_rate / 3:.1g} --overwrite."
        return PricesmithError("The training has diverged", got=got, allowed=allowed, hint=hint)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Also gather this step's line of the training curve. Raises PricesmithError where the loss is no number."""
        wild = [name for name in ("loss", "grad_norm") if not math.isfinite(logs.get(name, 0.0))]
        if wild:
            what = {"loss": "loss", "grad_norm": "gradient"}[wild[0]]
            raise self.diverged(f"a {what} of {logs[wild[0]]} at step {self.state.global_step}")
        super().log(logs, start_time)
        if "loss" in logs:
            now = time.perf_counter()
            tokens, positions = self.seen
            self.pending |= {
                "loss": logs["loss"],
                "learning_rate": logs.get("learning_rate"),
                "grad_norm": logs.get("grad_norm"),
                "tokens_per_second": round(tokens / max(now - self.clock, 1e-9), 1),
                "padding": round(1 - tokens / max(positions, 1), 4),
            }
            self.seen, self.clock = [0, 0], now
        if ERROR in logs:
            self.pending |= {"error": logs[ERROR], "answered": logs["eval_answered"]}

    def write_line(self) -> None:
        """Append what was logged of this step to the training curve."""
        if self.pending:
            step = self.state.global_step
            self.curve.write({"step": step, "epoch": round(self.batches.epoch_after(step), 4), **self.pending})
            self.pending = {}

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        super()._maybe_log_save_evaluate(*args, **kwargs)
        self.write_line()

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """The adapter alone: no `training_args.bin`, which could not be read without running what it holds."""
        folder = Path(output_dir or self.args.output_dir or ".")
        assert isinstance(self.net, PeftModel)
        self.net.save_pretrained(str(folder), state_dict=state_dict, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)  # a form that nobody has filled in

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """A whole checkpoint, or none: sealed when all of it is on the disk. The last whole ones stay until then."""
        self.write_line()  # before, so that whoever goes on from here has the line
        started = time.perf_counter()
        place = Path(self.args.output_dir or ".")
        folder = place / f"checkpoint-{self.state.global_step}"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            with preserve_rng():
                super()._save_checkpoint(model, trial)
                write_marker(folder)
        except (OSError, RuntimeError, SafetensorError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise PricesmithError(
                f"The checkpoint of step {self.state.global_step} could not be written",
                got=str(error).splitlines()[0][:200] if str(error) else type(error).__name__,
                allowed=f"{shutil.disk_usage(place).free / 1e9:.1f} GB are free",
                hint="Free some space, then run the same command again: it goes on from the last whole checkpoint.",
            ) from None
        prune_checkpoints(place, best_step(self.state.log_history))
        self.clock += time.perf_counter() - started

    def probe(self, steps: int, items: int, at_most: float = math.inf) -> Throughput:
        """What training and judging take, by steps that leave no trace: no update, gradients and RNG as before.

        At most `steps` steps and a judgment on `items` items, of which each begins small and grows, and ends before
        what comes next would take it over half of `at_most` seconds.
        """
        began = time.perf_counter()
        found: list[tuple[float, int]] = []
        with preserve_rng():
            self.net.train()
            for places in growing(self.batches, steps):
                laid = self.collated([self.examples[place] for place in places])
                if (
                    found
                    and time.perf_counter() - began + found[-1][0] / found[-1][1] * laid["ids"].numel() > at_most / 2
                ):
                    break
                started = time.perf_counter()
                inputs = self._prepare_inputs(dict(laid))
                self.compute_loss(self.net, inputs).backward()
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                found.append((time.perf_counter() - started, inputs["ids"].numel()))
        self.net.zero_grad(set_to_none=True)
        warm = found[min(4, len(found) // 2) :]  # the first steps of a process also allocate and compile
        seconds = sum(seconds for seconds, _ in warm) / sum(size for _, size in warm)
        began, judged, each = time.perf_counter(), 0, 0.0
        while judged < items and time.perf_counter() - began + each * min(items, 4 * judged) <= at_most / 2:
            judged = min(items, max(2, 4 * judged))
            started = time.perf_counter()
            self.judged(judged)
            each = (time.perf_counter() - started) / judged
        return Throughput(seconds, each, peak_memory())


def growing(batches: Iterable[list[int]], steps: int) -> Iterator[list[int]]:
    """One example and a quarter of the first batch, then the first `steps` batches whole: nobody knows yet how slow a
    base is, and a batch of a large one on a CPU may take minutes."""
    for number, places in enumerate(islice(batches, steps)):
        if number == 0 and len(places) > 1:
            yield places[:1]
            yield places[: max(1, len(places) // 4)]
        yield places
