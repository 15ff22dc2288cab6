"""transformers' Trainer with a loss on price positions only, checkpoints that are complete, and bit-equal resumption.

The batch and dropout of every step, and the steps at which the trainer logs, evaluates and saves, are functions of the
settings alone, and evaluating or saving does not change the random state: an interrupted and resumed training ends with
exactly the weights of an uninterrupted one. Validation errors are in money, read out as the finished pricer reads.

A training with a finite loss may have diverged too. Its validation errors are compared with two references on the same
items: the median training price quoted for every item, and the model before its first step.
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
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback, TrainingArguments

from pricesmith.core.errors import PricesmithError
from pricesmith.core.processes import current_processes
from pricesmith.core.progress import Progress
from pricesmith.pricers.llm.adapters import is_bf16, peak_memory
from pricesmith.pricers.llm.batching import (
    Batch,
    Example,
    PlannedBatches,
    Schedule,
    StepBatch,
    Throughput,
    collate,
    divide_batch,
)
from pricesmith.pricers.llm.checkpoints import (
    ERROR,
    FAR_WORSE,
    RNG_STATE,
    TrainingCurve,
    best_step,
    has_stalled,
    prune_checkpoints,
    validation_maes,
    write_marker,
)
from pricesmith.pricers.llm.device_memory import is_out_of_memory

Loss = Callable[[nn.Module, Batch], Tensor]  # the loss of each example of a batch [examples]
FAR = 1.25  # times the MAE of a reference; a model that is so much worse than the median is of no use
CERTAIN = 3.0  # standard errors of the paired difference: a false alarm in one of 700 evaluations at the limit
MIN_ITEMS = 20  # fewer show nothing
MEDIAN, UNTUNED = "the median quote", "the untuned model"


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """MAE in money on validation items, the share of items that were answered, and the absolute error of each item."""

    mae: float
    answered: float
    errors: Sequence[float] = ()


@contextlib.contextmanager
def preserve_rng() -> Iterator[None]:
    """Restore the random state of Python, NumPy and torch after the block."""
    python, numpy = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


class ScheduleCallback(TrainerCallback):
    """Makes the Trainer log, evaluate and save by a Schedule, and stop when its time is over; advances the progress.

    `seconds()` is the training time so far, in seconds. Clocks differ: rank 0 decides for all processes."""

    def __init__(self, schedule: Schedule, progress: Progress, seconds: Callable[[], float] = lambda: 0.0) -> None:
        self.schedule, self.progress, self.seconds = schedule, progress, seconds
        self.last = seconds()  # at the end of the last step or evaluation

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.last = self.seconds()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        step, last = state.global_step, state.global_step >= self.schedule.steps
        before, self.last = self.last, self.seconds()
        over = not last and self.schedule.is_over(
            2 * self.last - before
        )  # no time for another step as long as this one
        if current_processes().share(over):
            self.progress.note(
                f"Training ends after step {step:,} of {self.schedule.steps:,}, because the time is over: this machine "
                "has become slower since the steps were timed."
            )
            last = control.should_training_stop = True
        control.should_evaluate = self.schedule.evaluates_after(step) or (last and self.schedule.eval_items > 0)
        control.should_save = control.should_evaluate or step % self.schedule.save_every == 0 or last
        # A save without a log would split the mean loss of the next line.
        control.should_log = control.should_save or step % self.schedule.log_every == 0
        self.progress.advance(1)
        return control


class PriceTrainer(Trainer):
    """Trains an adapter on priced examples. `set_schedule` is called before `train`."""

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
        validate: Callable[[int], ValidationResult],
        curve: TrainingCurve,
        patience: int,
        progress: Progress,
        format_error: Callable[[float], str] = str,
    ) -> None:
        super().__init__(model=model, args=args, train_dataset=examples)
        self.adapted_model, self.examples, self.bf16 = model, examples, is_bf16(model)
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        self.batches, self.pad, self.loss, self.validate = batches, pad, loss, validate
        self.curve, self.patience, self.progress, self.format_error = curve, patience, progress, format_error
        self.references: Mapping[str, Sequence[float]] = {}  # absolute errors of the reference models
        self.pending: dict[str, Any] = {}
        self.processes = current_processes()
        self.counts = [0, 0, 0]  # tokens and positions of this process, and tokens of all, since the last line
        self.clock = time.perf_counter()

    def set_schedule(self, schedule: Schedule, done: int, *, warmup_ratio: float) -> None:
        """Set the schedule of `train`; `done` of its steps are done already."""
        self.schedule = schedule
        self.args.max_steps = schedule.steps
        self.args.warmup_steps = round(warmup_ratio * schedule.steps)
        self.batches.steps = schedule.steps
        self.add_callback(ScheduleCallback(schedule, self.progress, lambda: self.curve.seconds))
        self.counts = [0, 0, 0]
        self.progress.start("tuning", schedule.steps)
        self.progress.advance(done)
        self.clock = time.perf_counter()

    def collate_examples(self, examples: Sequence[Example]) -> StepBatch:
        """The tensors of what this process computes of a step's examples."""
        part, weight = divide_batch(examples, self.processes.rank, self.processes.size)
        batch = collate(part, self.pad, packed=self.batches.packed)
        return StepBatch(**batch, weight=weight, step_tokens=sum(map(len, examples)))

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The planned batches, all epochs in one; without workers, because collating a batch takes a millisecond."""
        loader: DataLoader[Any] = DataLoader(
            self.train_dataset,  # type: ignore[arg-type]
            batch_sampler=self.batches,
            collate_fn=self.collate_examples,
            pin_memory=self.args.dataloader_pin_memory,
        )
        if (
            self.processes.size > 1
        ):  # `collate_examples` has divided each batch; Accelerate would divide the list of them
            return loader
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The mean loss of the step's examples; the head predicts at price positions only."""
        self.counts[0] += inputs["tokens"]
        self.counts[1] += inputs["ids"].numel()
        self.counts[2] += inputs["step_tokens"]
        with self.autocast():
            return call_in_forward(model, self.loss, inputs).mean() * inputs["weight"]

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """One step. Where several processes train, the dropout is a function of the step and the process: the random
        state of the others need not be saved."""
        if self.processes.size > 1:
            numbers = np.random.SeedSequence([self.args.seed, self.state.global_step, self.processes.rank])
            torch.manual_seed(int(numbers.generate_state(1)[0]))
        return super().training_step(*args, **kwargs)

    def autocast(self) -> Any:
        """Autocast to bf16 if the base is bf16."""
        return torch.autocast(self.args.device.type, torch.bfloat16, enabled=self.bf16)

    def validate_items(self, items: int) -> ValidationResult:
        """A validation result on the first `items` items; the random state is restored afterwards."""
        with preserve_rng(), self.autocast():
            self.adapted_model.eval()
            return self.validate(items)

    def floating_point_ops(self, inputs: Any) -> int:
        """0: Trainer's own count walks over all parameters at every step."""
        return 0

    def store_flos(self) -> None:
        """Nothing: the count is 0, and Trainer would add it up over all processes, which a checkpoint of rank 0 alone
        would wait for."""

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """The MAE in money on validation items, by the read-out of the finished pricer; rank 0 evaluates, and decides
        for all whether training stops. Raises PricesmithError if the MAE is not a number."""
        if not self.processes.leads:
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, {})
            self.control.should_training_stop = self.processes.share()
            return {}
        started = time.perf_counter()
        result = self.validate_items(self.schedule.eval_items)
        if not math.isfinite(result.mae):
            raise self.diverged(f"a validation MAE of {result.mae} at step {self.state.global_step}")
        worse = far_worse_than(result.errors, self.references)
        metrics = {ERROR: result.mae, "eval_answered": result.answered, FAR_WORSE: float(bool(worse))}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        if has_stalled(self.state.log_history, self.patience):
            self.control.should_training_stop = True
        self.processes.share(bool(self.control.should_training_stop))
        self.report(result, worse)
        self.clock += time.perf_counter() - started
        return metrics

    def report(self, result: ValidationResult, worse: str = "") -> None:
        """Note the step, the losses, the validation MAE and the time left."""
        step, steps = self.state.global_step, self.schedule.steps
        best = best_step(self.state.log_history)
        lowest = min(mae for mae, _ in validation_maes(self.state.log_history))
        parts = [f"step {step:,} of {steps:,}"]
        if "train_loss" in self.pending:
            parts.append(f"loss {self.pending['train_loss']:.4g}")
        parts.append(f"validation MAE {self.format_error(result.mae)}")
        parts.append("the best so far" if best == step else f"best {self.format_error(lowest)} at step {best:,}")
        if worse:
            parts.append(f"far worse than {worse}")
        if result.answered < 1:
            parts.append(f"{1 - result.answered:.1%} unanswered")
        if "tokens_per_second" in self.pending:
            parts.append(f"{self.pending['tokens_per_second']:,.0f} tokens/s")
        left = (steps - step) * self.curve.seconds / max(step, 1)
        if self.schedule.training_seconds:
            left = min(left, max(0.0, self.schedule.training_seconds - self.curve.seconds))
        if self.control.should_training_stop and step < steps:
            stalled = has_stalled(self.state.log_history, self.patience)
            parts.append(f"no better in {self.patience} evaluations, stopping" if stalled else "stopping")
        elif step < steps:
            parts.append(f"about {left / 60:.0f} min left" if left > 90 else f"about {left:.0f} s left")
        self.progress.note(", ".join(parts))

    def diverged(self, got: str, allowed: str = "") -> PricesmithError:
        """The error for a training that has diverged; it recommends a lower learning rate."""
        hint = f"Add --set learning_rate={self.args.learning_rate / 3:.1g} --overwrite."
        return PricesmithError("The training has diverged", got=got, allowed=allowed, hint=hint)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Also collect this step's line of the training log. Raises PricesmithError if the loss or the gradient norm is
        not a number."""
        if not self.processes.leads:
            return
        not_finite = [name for name in ("loss", "grad_norm") if not math.isfinite(logs.get(name, 0.0))]
        if not_finite:
            what = {"loss": "loss", "grad_norm": "gradient norm"}[not_finite[0]]
            raise self.diverged(f"a {what} of {logs[not_finite[0]]} at step {self.state.global_step}")
        super().log(logs, start_time)
        if "loss" in logs:
            now = time.perf_counter()
            tokens, positions, all_tokens = self.counts
            self.pending |= {
                "train_loss": logs["loss"],
                "learning_rate": logs.get("learning_rate"),
                "grad_norm": logs.get("grad_norm"),
                "tokens_per_second": round(all_tokens / max(now - self.clock, 1e-9), 1),
                "padding": round(1 - tokens / max(positions, 1), 4),
            }
            self.counts, self.clock = [0, 0, 0], now
        if ERROR in logs:
            self.pending |= {"validation_mae": logs[ERROR], "answered": logs["eval_answered"]}

    def write_line(self) -> None:
        """Append the collected values of this step to the training log."""
        if self.pending:
            step = self.state.global_step
            self.curve.write({"step": step, "epoch": round(self.batches.epoch_after(step), 4), **self.pending})
            self.pending = {}

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        super()._maybe_log_save_evaluate(*args, **kwargs)
        self.write_line()

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Save the adapter alone: no `training_args.bin`, which is a pickle."""
        folder = Path(output_dir or self.args.output_dir or ".")
        assert isinstance(self.adapted_model, PeftModel)
        self.adapted_model.save_pretrained(str(folder), state_dict=state_dict, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)  # an unfilled template

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write a complete checkpoint, or none: the marker is written last. Earlier checkpoints stay until then. Rank 0
        writes it, the others wait."""
        if not self.processes.leads:
            self.processes.share()
            return
        self.write_line()  # before the checkpoint, so that a training that resumes from it has the line
        started = time.perf_counter()
        checkpoints_folder = Path(self.args.output_dir or ".")
        folder = checkpoints_folder / f"checkpoint-{self.state.global_step}"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            with preserve_rng():
                super()._save_checkpoint(model, trial)
                write_marker(folder)
        except (OSError, RuntimeError, SafetensorError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            if is_out_of_memory(error):
                raise
            raise PricesmithError(
                f"The checkpoint of step {self.state.global_step} could not be written",
                got=str(error).splitlines()[0][:200] if str(error) else type(error).__name__,
                allowed=f"{shutil.disk_usage(checkpoints_folder).free / 1e9:.1f} GB are free",
                hint="Free some space, then run the same command again: it resumes from the last complete checkpoint.",
            ) from None
        prune_checkpoints(checkpoints_folder, best_step(self.state.log_history))
        self.processes.share()
        self.clock += time.perf_counter() - started

    def _save_rng_state(self, output_dir: str) -> None:
        """Save the random state. Of several processes, that of rank 0 is saved as the one of a single process, which
        may resume from it; several do not need it."""
        if self.processes.size == 1:
            super()._save_rng_state(output_dir)
            return
        states: dict[str, Any] = {"python": random.getstate(), "numpy": np.random.get_state()}
        states["cpu"] = torch.random.get_rng_state()
        if torch.cuda.is_available():
            states["cuda"] = torch.cuda.random.get_rng_state()
        torch.save(states, Path(output_dir, RNG_STATE))

    def probe(self, steps: int, items: int, at_most: float = math.inf) -> Throughput:
        """Measure the speed of training and pricing, without changing weights, gradients or the random state.

        Times at most `steps` steps and an evaluation of `items` items. Both start small and grow, and stop before the
        next one would exceed half of `at_most` seconds.
        """
        began = time.perf_counter()
        timings: list[tuple[float, int]] = []
        with preserve_rng():
            self.adapted_model.train()
            for indexes in probe_batches(self.batches, steps):
                batch = self.collate_examples([self.examples[index] for index in indexes])
                if timings:
                    next_seconds = timings[-1][0] / timings[-1][1] * batch["ids"].numel()
                    if time.perf_counter() - began + next_seconds > at_most / 2:
                        break
                started = time.perf_counter()
                inputs = self._prepare_inputs(dict(batch))
                self.compute_loss(self.adapted_model, inputs).backward()
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                timings.append((time.perf_counter() - started, inputs["ids"].numel()))
        self.adapted_model.zero_grad(set_to_none=True)
        steady = timings[min(4, len(timings) // 2) :]  # the first steps of a process also allocate and compile
        seconds = sum(seconds for seconds, _ in steady) / sum(size for _, size in steady)
        began, count, item_seconds = time.perf_counter(), 0, 0.0
        while count < items and time.perf_counter() - began + item_seconds * min(items, 4 * count) <= at_most / 2:
            count = min(items, max(2, 4 * count))
            started = time.perf_counter()
            self.validate_items(count)
            item_seconds = (time.perf_counter() - started) / count
        return Throughput(seconds / self.processes.size, item_seconds, peak_memory())


def call_in_forward(model: nn.Module, function: Callable[[nn.Module, Any], Tensor], inputs: Any) -> Tensor:
    """`function(model, inputs)`, computed in the forward pass of a DistributedDataParallel model if it is one.

    That averages the gradients of what its forward pass computes. The function gets the model inside, whose own forward
    pass is replaced for this one call.
    """
    if not isinstance(model, DistributedDataParallel):
        return function(model, inputs)
    inside: nn.Module = model.module

    def forward(batch: Any) -> Tensor:
        del inside.forward
        return function(inside, batch)

    inside.forward = forward
    try:
        result: Tensor = model(inputs)
    finally:
        inside.__dict__.pop("forward", None)
    return result


def probe_batches(batches: Iterable[list[int]], steps: int) -> Iterator[list[int]]:
    """One example, a quarter of the first batch, then the first `steps` batches: the speed is not known yet, and a
    batch of a large base on a CPU may take minutes."""
    for number, indexes in enumerate(islice(batches, steps)):
        if number == 0 and len(indexes) > 1:
            yield indexes[:1]
            yield indexes[: max(1, len(indexes) // 4)]
        yield indexes


def is_far_worse(errors: Sequence[float], reference: Sequence[float]) -> bool:
    """Whether the MAE is significantly more than FAR times the reference's, in a paired test on the items of both.

    Both hold absolute errors of the same items, in the same order; the longer one is truncated. Infinite or missing
    errors are far worse than any reference.
    """
    n = min(len(errors), len(reference))
    if n < MIN_ITEMS:
        return False
    excess = np.asarray(errors[:n], dtype=np.float64) - FAR * np.asarray(reference[:n], dtype=np.float64)
    if not np.isfinite(excess).all():
        return True
    return bool(excess.mean() > CERTAIN * excess.std(ddof=1) / math.sqrt(n))


def far_worse_than(errors: Sequence[float], references: Mapping[str, Sequence[float]]) -> str:
    """The name of the first reference that the errors are far worse than; empty if there is none."""
    return next((name for name, reference in references.items() if is_far_worse(errors, reference)), "")


def training_arguments(
    folder: Path, learning_rate: float, lr_scheduler_type: str, seed: int, report_to: str
) -> TrainingArguments:
    """Arguments for checkpoints in `folder`, on one device. The number of steps is set with the schedule."""
    cuda = torch.cuda.is_available()
    args = TrainingArguments(
        output_dir=str(folder),
        max_steps=1,
        learning_rate=learning_rate,
        lr_scheduler_type=lr_scheduler_type,
        optim="adamw_torch_fused" if cuda else "adamw_torch",
        weight_decay=0.0,
        max_grad_norm=1.0,
        seed=seed,
        logging_strategy="no",
        eval_strategy="no",
        save_strategy="steps",
        save_steps=10**9,
        report_to=report_to if current_processes().leads else "none",
        disable_tqdm=True,
        logging_nan_inf_filter=False,
        dataloader_pin_memory=cuda,
        use_cpu=not cuda,
        ddp_find_unused_parameters=False,  # every adapter and the head have a gradient in every step
    )
    args._n_gpu = min(1, args.n_gpu)  # one process, one device: no DataParallel on a machine with more
    return args
