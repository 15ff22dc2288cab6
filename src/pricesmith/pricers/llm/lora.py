"""Tuning an open language model into a pricer: LoRA adapters on a frozen base, and one of two read-outs.

* `lora_tokens` trains the model to write the price: only the number and one end token are in the loss.
* `lora_bins` puts a head on the last state that predicts a distribution over price bins (a soft histogram as target).

The model folder is a PEFT folder that `PeftModel.from_pretrained` loads, with `price_config.json`, which has the prompt
and the read-out. An interrupted training resumes from `checkpoints/` in the folder that it was building.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from peft import LoraConfig, TaskType
from pydantic import Field
from torch import nn
from transformers import set_seed

from pricesmith.core.atomic import atomic_file, read_json, write_json
from pricesmith.core.errors import PricesmithError, UsageError
from pricesmith.core.processes import current_processes
from pricesmith.core.progress import SILENT, Progress, format_duration
from pricesmith.core.settings import Settings
from pricesmith.core.types import Item, Listing, Pricer
from pricesmith.pricers.llm.adapters import (
    add_adapter,
    find_target_modules,
    init_head_from_probe,
    mixed_precision,
    peak_memory,
)
from pricesmith.pricers.llm.base_model import (
    base_fingerprint,
    check_prompt,
    find_base,
    load_classifier,
    load_language_model,
    load_tokenizer,
    tokenizer_fingerprint,
)
from pricesmith.pricers.llm.batching import BinLoss, PlannedBatches, Schedule, Throughput, build_examples, token_losses
from pricesmith.pricers.llm.checkpoints import (
    ADAPTER,
    CHECKPOINTS,
    TrainingCurve,
    best_checkpoint,
    best_is_far_worse,
    checkpoint_step,
    checkpoints,
    find_damage,
    has_stalled,
    newest_checkpoint,
    read_history,
    validation_maes,
)
from pricesmith.pricers.llm.device_memory import catch_out_of_memory, evaluation_tokens
from pricesmith.pricers.llm.pricer import PRICE_CONFIG, LlmPricer, load_adapter, prompt_style, read_config
from pricesmith.pricers.llm.readout import PriceBins, TokenReader
from pricesmith.pricers.llm.trainer import (
    FAR,
    MEDIAN,
    UNTUNED,
    PriceTrainer,
    ValidationResult,
    preserve_rng,
    training_arguments,
)
from pricesmith.text.formatting import format_money
from pricesmith.text.prompts import Prompt

PLAN, UNTUNED_FILE, CURVE = "plan.json", "untuned.json", "training.jsonl"
MAX_EVAL_ITEMS, MAX_GPU_EVAL_ITEMS = 500, 2000  # validation items in an evaluation, on a CPU and on a GPU
MIN_HEAD_ROWS = 50  # fewer rows do not fit a head of price bins
PROBE_ITEMS = 32  # validation items that are priced to measure the speed, at least
PROBE_STEPS = 20  # that are timed before the training
PROBE_TIME_SHARE = 0.1  # of the minutes, for timing them
HEAD_SHARE = 0.15  # of the time left then, for the rows that the head of price bins is initialized from


class TunedRecipe(Settings):
    """Settings that both read-outs share."""

    resumes: ClassVar[bool] = True
    files: ClassVar[tuple[str, ...]] = (PRICE_CONFIG, "adapter_config.json", ADAPTER)
    probed: ClassVar[bool] = False  # pricing takes seconds, and loading checks the shapes
    base: str = Field("gemma-3-270m", description="a preset, a local folder, a .gguf file or a Hub id")
    revision: str | None = Field(None, description="of a Hub id: a commit, tag or branch")
    quantization: Literal["auto", "none", "nf4"] = Field("auto", description="nf4: 4 bits (QLoRA, needs [qlora])")
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="auto: bf16 if the machine computes in it"
    )
    style: Literal["plain", "chat"] | None = Field(
        None, description="of the prompt; none: chat for instruct bases with a template"
    )
    max_length: int = Field(200, ge=8, description="tokens of a listing that the model reads")
    lora_r: int = Field(16, ge=1, description="rank of the LoRA matrices")
    lora_alpha: float = Field(32, gt=0, description="LoRA scale is lora_alpha / lora_r")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="LoRA dropout; costs a fifth of the speed on a CPU")
    target_modules: str | tuple[str, ...] = Field(
        "all-linear", description='"all-linear", "attention", or names of modules'
    )
    learning_rate: float = Field(3e-4, gt=0, description="highest learning rate")
    lr_scheduler_type: Literal["cosine", "linear", "constant_with_warmup"] = Field(
        "cosine", description="learning-rate schedule"
    )
    warmup_ratio: float = Field(0.03, ge=0, lt=1, description="share of the steps in which the learning rate rises")
    epochs: float = Field(3, gt=0, description="over the training rows, at most")
    minutes: float = Field(20, ge=0, description="from loading to calibration, at most; 0: no limit")
    tokens_per_batch: int = Field(1024, ge=16, description="size of a batch, in tokens")
    gradient_checkpointing: Literal["auto"] | bool = Field("auto", description="less memory, a third slower")
    n_evals: int = Field(8, ge=1, description="evaluations on validation items during training")
    patience: int = Field(3, ge=0, description="evaluations without improvement before it stops; 0: never")
    seed: int = Field(0, ge=0, description="of adapters, batches and dropout")
    report_to: str = Field("none", description="what else the Trainer reports to, such as tensorboard")

    def fit(self, train: Sequence[Item], validation: Sequence[Item], folder: Path, progress: Progress = SILENT) -> None:
        """Tune on `train` and write the adapter with the lowest MAE on `validation`; resumes an interrupted training.

        `folder/catalog.json` has the price range and the currency. Raises UsageError, InputError or MissingExtra if the
        base or a setting cannot be used, PricesmithError if training diverges or the disk is full.
        """
        processes = current_processes()
        if processes.leads:
            if (folder / PRICE_CONFIG).is_file():  # written last
                progress.note("The adapter is tuned already.")
                return
            processes.share({"folder": str(folder), "settings": self.model_dump(mode="json")})
        with preserve_rng(), catch_out_of_memory(f"tune {self.base}", self.less_memory()):
            set_seed(self.seed)
            tuning = TuningRun(self, train, validation, folder, progress)
            with mixed_precision(tuning.model):
                tuning.train()
            if processes.leads:
                tuning.finish()

    def less_memory(self) -> str:
        """What to do if memory runs out during the training."""
        smaller = max(16, self.tokens_per_batch // 2)
        checkpointing = "" if self.gradient_checkpointing is True else " --set gradient_checkpointing=true"
        return f"Add --set tokens_per_batch={smaller}{checkpointing} --overwrite, or choose a smaller base."

    def calibration_rows(self, folder: Path) -> int | None:
        """The number of rows that the minutes allow to calibrate on; None: all."""
        return read_config(folder).calibration_rows

    def load(self, folder: Path) -> Pricer:
        """The pricer of a model folder. Raises InputError if its base or tokenizer has changed since."""
        return load_adapter(folder)


class LoraTokens(TunedRecipe):
    """Settings of a model that writes the price."""

    kind: ClassVar[str] = "lora_tokens"


class LoraBins(TunedRecipe):
    """Settings of a model with a head of price bins."""

    kind: ClassVar[str] = "lora_bins"
    bins: int = Field(64, ge=2, le=4096, description="log-spaced price bins")
    sigma: float = Field(2.0, gt=0, description="width of the softened target, in bins (HL-Gauss)")
    head_init_rows: int = Field(1500, ge=0, description="rows that the head is initialized from; 0: at random")


class TuningRun:
    """One training: the model with its adapter, the examples, the trainer, and the files written at the end."""

    def __init__(
        self, settings: TunedRecipe, train: Sequence[Item], validation: Sequence[Item], folder: Path, progress: Progress
    ) -> None:
        self.started = time.perf_counter()
        self.settings, self.folder, self.progress = settings, folder, progress
        facts = read_json(folder / "catalog.json")
        self.price_range: tuple[float, float] = tuple(facts["price_range"])
        self.currency = str(facts["currency"])
        self.base = find_base(settings.base, settings.revision, progress)
        self.tokenizer = load_tokenizer(self.base)
        self.prompt = Prompt(
            style=prompt_style(self.base, self.tokenizer, settings.style),
            currency=self.currency,
            max_length=settings.max_length,
        )
        check_prompt(self.base, self.tokenizer, self.prompt)
        prices = [item.price for item in train]
        self.median_price = float(np.median(prices))
        self.reader: TokenReader | PriceBins
        if isinstance(settings, LoraBins):
            self.reader = PriceBins.from_prices(prices, settings.bins, 3 * settings.sigma)
        else:
            self.reader = TokenReader(self.tokenizer, self.price_range, self.prompt.style, currency=self.currency)
        loading = time.perf_counter()
        self.model = self.build_model()  # first: a model that cannot be loaded fails fast
        self.load_seconds = time.perf_counter() - loading  # loaded once more at the end, for calibration
        answer = self.reader.answer if isinstance(self.reader, TokenReader) else None
        self.examples = build_examples(train, self.encode, answer, progress)
        at_most = MAX_GPU_EVAL_ITEMS if torch.cuda.is_available() else MAX_EVAL_ITEMS
        order = np.random.default_rng(settings.seed).permutation(len(validation))[:at_most]
        self.validation_items = [validation[index] for index in order]
        self.n_calibration = len(validation)  # the other half of validation is as large
        self.trainer = self.build_trainer()
        self.trainer.references = {MEDIAN: [abs(self.median_price - item.price) for item in self.validation_items]}

    def encode(self, listings: Sequence[Listing]) -> list[list[int]]:
        """The prompts of listings as token ids."""
        return self.prompt.encode(self.tokenizer, listings)

    def build_model(self) -> nn.Module:
        """The frozen base with its adapter, whose weights are fp32 in any dtype of the base."""
        settings = self.settings
        self.progress.start(f"loading {self.base.name}")
        bins = self.reader if isinstance(self.reader, PriceBins) else None
        set_seed(settings.seed)  # the head of a classifier is initialized at random
        weights = (settings.dtype, settings.quantization)
        if bins:
            model = load_classifier(self.base, len(bins.edges) - 1, *weights)
        else:
            model = load_language_model(self.base, *weights)
        self.dtype = str(model.dtype).removeprefix("torch.")
        config = LoraConfig(
            task_type=TaskType.SEQ_CLS if bins else TaskType.CAUSAL_LM,
            r=settings.lora_r,
            lora_alpha=settings.lora_alpha,  # type: ignore[arg-type]
            lora_dropout=settings.lora_dropout,
            target_modules=find_target_modules(model, settings.target_modules),
        )
        return add_adapter(
            model, config, gradient_checkpointing=settings.gradient_checkpointing is True, base=settings.base
        )

    def build_trainer(self) -> PriceTrainer:
        """The trainer, with its batches, its loss and its validation."""
        settings = self.settings
        folder = self.folder / CHECKPOINTS
        if current_processes().leads:
            folder.mkdir(parents=True, exist_ok=True)
        args = training_arguments(
            folder, settings.learning_rate, settings.lr_scheduler_type, settings.seed, settings.report_to
        )
        lengths = [len(example) for example in self.examples]
        tokens = evaluation_tokens(settings.tokens_per_batch)
        self.pricer = LlmPricer(settings.base, self.model, self.tokenizer, self.prompt, self.reader, tokens)
        try:
            return PriceTrainer(
                self.model,
                args,
                examples=self.examples,
                # Not packed: a row of several listings needs a mask, and with a mask attention is dense on a GPU too.
                batches=PlannedBatches(lengths, settings.seed, settings.tokens_per_batch, PROBE_STEPS),
                pad=int(self.tokenizer.pad_token_id or 0),
                loss=BinLoss(self.reader, getattr(settings, "sigma", 1.0))
                if isinstance(self.reader, PriceBins)
                else token_losses,
                validate=self.validate,
                curve=TrainingCurve(self.folder / CURVE),
                patience=settings.patience,
                progress=self.progress,
                format_error=lambda error: format_money(error, self.currency),
            )
        except (ValueError, RuntimeError, ImportError) as error:
            if settings.report_to == "none":
                raise
            raise UsageError(
                f"The Trainer cannot report to {settings.report_to}",
                got=str(error).splitlines()[0][:200],
                hint=f"Install {settings.report_to}, or use report_to=none.",
            ) from None

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
        wanted = min(len(self.examples), getattr(settings, "head_init_rows", 0))
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

    def init_head(self, rows: int) -> None:
        """Initialize a head of price bins from `rows` rows, priced by the frozen base."""
        settings = self.settings
        if not rows or not isinstance(settings, LoraBins) or not isinstance(self.reader, PriceBins):
            return
        indexes = np.random.default_rng(settings.seed).permutation(len(self.examples))[:rows]
        examples, tokens = [self.examples[index] for index in indexes], 2 * settings.tokens_per_batch
        with preserve_rng():
            init_head_from_probe(
                self.model, examples, self.reader, settings.sigma, self.trainer.pad, tokens, self.progress
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
        adapter = sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad)
        weights = f"{adapter / 1e6:.2g} million weights of an adapter on {self.base.name} in {self.dtype}."
        return f"{schedule.describe(self.trainer.batches)} {weights}"

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

    def finish(self) -> None:
        """Copy the best complete checkpoint's adapter into the model folder, and write its prompt and read-out."""
        best, mae = best_checkpoint(self.folder / CHECKPOINTS, self.progress)
        self.refuse_diverged()
        for name in ("adapter_config.json", ADAPTER):
            with atomic_file(self.folder / name) as temporary:
                shutil.copyfile(best / name, temporary)
        write_json(
            self.folder / PRICE_CONFIG,
            {
                "format": 1,
                "readout": "bins" if isinstance(self.reader, PriceBins) else "tokens",
                "base": self.base.name,
                "revision": self.base.revision,
                "base_fingerprint": base_fingerprint(self.base),
                "tokenizer_fingerprint": tokenizer_fingerprint(self.tokenizer),
                "prompt": self.prompt.model_dump(mode="json"),
                "currency": self.currency,
                "price_range": list(self.price_range),
                "edges": list(self.reader.edges) if isinstance(self.reader, PriceBins) else None,
                "dtype": self.dtype,
                "quantization": "nf4" if self.settings.quantization == "nf4" else "none",
                "step": checkpoint_step(best),
                "validation_mae": mae,
                "calibration_rows": Schedule(**read_json(self.folder / CHECKPOINTS / PLAN)).calibration_rows,
            },
        )
