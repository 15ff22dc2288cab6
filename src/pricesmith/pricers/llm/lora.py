"""Tuning an open language model into a pricer: LoRA adapters on a frozen base, and one of two read-outs.

* `lora_tokens` trains the model to write the price: the whole number and one end token, and nothing else is learned.
* `lora_bins` puts a head on the last state that spreads an answer over price bins (a softened histogram as target).

The run folder is a plain PEFT folder that `PeftModel.from_pretrained` loads, and `price_config.json` beside it, which
says how it is asked and read. A killed run goes on from `checkpoints/` in the folder it was building.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from peft import LoraConfig, TaskType
from pydantic import Field
from torch import nn
from transformers import set_seed

from pricesmith.core.atomic import atomic_file, read_json, write_json
from pricesmith.core.errors import UsageError
from pricesmith.core.progress import SILENT, Progress, format_duration
from pricesmith.core.settings import Settings
from pricesmith.core.types import Item, Pricer
from pricesmith.pricers.llm.adapters import add_adapter, find_target_modules, mixed_precision, peak_memory
from pricesmith.pricers.llm.arguments import training_arguments
from pricesmith.pricers.llm.base_model import (
    base_fingerprint,
    find_base,
    load_classifier,
    load_language_model,
    load_tokenizer,
    refuse_prompt,
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
    validation_errors,
)
from pricesmith.pricers.llm.divergence import FAR, MEDIAN, UNTUNED
from pricesmith.pricers.llm.head_init import init_head_from_probe
from pricesmith.pricers.llm.pricer import PRICE_CONFIG, LlmPricer, load_adapter, prompt_style, read_config
from pricesmith.pricers.llm.readout import TREE_CACHE, PriceBins, TokenReader
from pricesmith.pricers.llm.trainer import PriceTrainer, ValidationResult, preserve_rng
from pricesmith.text.formatting import format_money
from pricesmith.text.prompts import Prompt

PLAN, START, CURVE = "plan.json", "start.json", "training.jsonl"
MOST_JUDGED = 500  # validation items in a judgment
LEAST_WARM = 50  # rows that say anything about a head of bins
PROBE = 20  # steps that tell how long a step takes
PROBE_SHARE = 0.1  # of a given time that this may take
HEAD_SHARE = 0.15  # of the time that is left then, for the rows that a head of bins is fitted to
PACKED = torch.cuda.is_available()  # else padded: on a CPU a row of all would make attention quadratic


class TunedRecipe(Settings):
    """Settings that both read-outs share."""

    resumes: ClassVar[bool] = True
    files: ClassVar[tuple[str, ...]] = (PRICE_CONFIG, "adapter_config.json", ADAPTER)
    probed: ClassVar[bool] = False  # an answer takes seconds, and its shapes are checked where it is loaded
    base: str = Field("gemma-3-270m", description="a preset, a local folder, a .gguf file or a Hub id")
    revision: str | None = Field(None, description="of a Hub id: a commit, tag or branch")
    quantization: Literal["auto", "none", "nf4"] = Field("auto", description="nf4: 4 bits (QLoRA, needs [qlora])")
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="auto: bf16 where the machine computes it"
    )
    style: Literal["plain", "chat"] | None = Field(None, description="none: chat for instruct bases with a template")
    max_length: int = Field(200, ge=8, description="of a listing that the model reads")
    lora_r: int = Field(16, ge=1, description="of the LoRA matrices")
    lora_alpha: float = Field(32, gt=0, description="LoRA scale: alpha / rank")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="LoRA dropout; costs a fifth of the speed on a CPU")
    target_modules: str | tuple[str, ...] = Field(
        "all-linear", description='"all-linear", "attention", or names of modules'
    )
    learning_rate: float = Field(3e-4, gt=0, description="highest learning rate")
    lr_scheduler_type: Literal["cosine", "linear", "constant_with_warmup"] = Field(
        "cosine", description="of the learning rate"
    )
    warmup_ratio: float = Field(0.03, ge=0, lt=1, description="share of the steps in which the rate rises")
    epochs: float = Field(3, gt=0, description="passes over the rows, at most")
    minutes: float = Field(
        20, ge=0, description="for all of it, from loading to calibration; 0: as long as `epochs` takes"
    )
    tokens_per_batch: int = Field(1024, ge=16, description="of a step")
    gradient_checkpointing: Literal["auto"] | bool = Field(
        "auto", description="activations: less memory, a third slower"
    )
    n_evals: int = Field(8, ge=1, description="judgments on validation over the run")
    patience: int = Field(3, ge=0, description="judgments without a better one before it stops; 0: never")
    seed: int = Field(0, ge=0, description="of adapters, batches and dropout")
    report_to: str = Field("none", description="where else the Trainer reports to, e.g. tensorboard")

    def fit(self, train: Sequence[Item], validation: Sequence[Item], run: Path, progress: Progress = SILENT) -> None:
        """Tune on `train` and write the best adapter by error in money on `validation`; goes on where it was killed.

        `run/catalog.json` has the price range and the currency. Raises UsageError, InputError or MissingExtra where
        the base or a setting cannot be used, PricesmithError where training diverges or a disk is full.
        """
        if (run / PRICE_CONFIG).is_file():  # written last
            progress.note("The adapter is tuned already.")
            return
        with preserve_rng():
            set_seed(self.seed)
            job = TuningRun(self, train, validation, run, progress)
            with mixed_precision(job.model):
                job.train()
            job.finish()

    def calibration_rows(self, run: Path) -> int | None:
        """How many rows the time that was given allows to calibrate on; None: all."""
        return read_config(run).calibration_rows

    def load(self, run: Path) -> Pricer:
        """The pricer that a run folder holds. Raises InputError where its base or tokenizer is another by now."""
        return load_adapter(run)


class LoraTokens(TunedRecipe):
    """Settings of a model that writes the price."""

    kind: ClassVar[str] = "lora_tokens"


class LoraBins(TunedRecipe):
    """Settings of a model with a head of price bins."""

    kind: ClassVar[str] = "lora_bins"
    bins: int = Field(64, ge=2, le=4096, description="log-spaced price bins")
    sigma: float = Field(2.0, gt=0, description="width of the softened target, in bins (HL-Gauss)")
    head_init_rows: int = Field(1500, ge=0, description="rows that the head is first fitted to; 0: it starts at random")


class TuningRun:
    """One fit: the model with its adapter, the examples, the trainer, and what is written when it is over."""

    def __init__(
        self, settings: TunedRecipe, train: Sequence[Item], validation: Sequence[Item], run: Path, progress: Progress
    ) -> None:
        self.started = time.perf_counter()
        self.settings, self.run, self.progress = settings, run, progress
        facts = read_json(run / "catalog.json")
        self.price_range: tuple[float, float] = tuple(facts["price_range"])
        self.currency = str(facts["currency"])
        self.base = find_base(settings.base, settings.revision, progress)
        self.tokenizer = load_tokenizer(self.base)
        self.prompt = Prompt(
            style=prompt_style(self.base, self.tokenizer, settings.style),
            currency=self.currency,
            max_length=settings.max_length,
        )
        refuse_prompt(self.base, self.tokenizer, self.prompt)
        prices = [item.price for item in train]
        self.typical = float(np.median(prices))
        self.reader: TokenReader | PriceBins
        if isinstance(settings, LoraBins):
            self.reader = PriceBins.over(prices, settings.bins, 3 * settings.sigma)
        else:
            self.reader = TokenReader(self.tokenizer, self.price_range, self.prompt.style, currency=self.currency)
        loading = time.perf_counter()
        self.model = self.adapted()  # first: what cannot be loaded is told before anything that takes long
        self.load_seconds = time.perf_counter() - loading  # once more at the end, for calibration
        answer = self.reader.answer if isinstance(self.reader, TokenReader) else None
        self.examples = build_examples(train, lambda wares: self.prompt.encode(self.tokenizer, wares), answer, progress)
        order = np.random.default_rng(settings.seed).permutation(len(validation))[:MOST_JUDGED]
        self.held = [validation[place] for place in order]
        self.calibration = len(validation)  # the other half of validation is as large
        self.trainer = self.made_trainer()
        self.trainer.references = {MEDIAN: [abs(self.typical - item.price) for item in self.held]}

    def adapted(self) -> nn.Module:
        """The frozen base with its adapter, whose weights are fp32 whatever those of the base are."""
        settings = self.settings
        self.progress.start(f"loading {self.base.name}")
        bins = self.reader if isinstance(self.reader, PriceBins) else None
        set_seed(settings.seed)  # a classifier's head is made at random
        how = (settings.dtype, settings.quantization)
        model = load_classifier(self.base, len(bins.edges) - 1, *how) if bins else load_language_model(self.base, *how)
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

    def made_trainer(self) -> PriceTrainer:
        """The trainer, with its batches, its loss and its judge."""
        settings = self.settings
        (place := self.run / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        args = training_arguments(
            place, settings.learning_rate, settings.lr_scheduler_type, settings.seed, settings.report_to
        )
        lengths = [len(example) for example in self.examples]
        kind = getattr(self.model.config, "model_type", "")
        sigma, packed = getattr(settings, "sigma", 1.0), PACKED and kind in TREE_CACHE.split()
        self.judging = LlmPricer(
            settings.base, self.model, self.tokenizer, self.prompt, self.reader, 4 * settings.tokens_per_batch
        )
        try:
            return PriceTrainer(
                self.model,
                args,
                examples=self.examples,
                batches=PlannedBatches(lengths, settings.seed, settings.tokens_per_batch, PROBE, packed=packed),
                pad=int(self.tokenizer.pad_token_id or 0),
                loss=BinLoss(self.reader, sigma) if isinstance(self.reader, PriceBins) else token_losses,
                judge=self.judge,
                curve=TrainingCurve(self.run / CURVE),
                patience=settings.patience,
                progress=self.progress,
                shown=lambda error: format_money(error, self.currency),
            )
        except (ValueError, RuntimeError, ImportError) as error:
            if settings.report_to == "none":
                raise
            raise UsageError(
                f"The Trainer cannot report to {settings.report_to}",
                got=str(error).splitlines()[0][:200],
                hint="Install what it needs, or use report_to=none.",
            ) from None

    def judge(self, items: int) -> ValidationResult:
        """Error in money on the first `items` of the held ones; one without an answer is charged the median price."""
        held = self.held[:items]
        low, high = self.price_range
        quotes = [quote.price for quote in self.judging.price([item.listing for item in held])]
        prices = [self.typical if price is None else min(max(price, low), high) for price in quotes]
        errors = [abs(price - item.price) for price, item in zip(prices, held, strict=True)]
        answered = sum(price is not None for price in quotes) / len(held)
        return ValidationResult(round(float(np.mean(errors)), 6), answered, errors)

    def left(self) -> float:
        """Seconds of the given time that are left for what is still to be planned."""
        if not self.settings.minutes:
            return math.inf
        return 60 * self.settings.minutes - (time.perf_counter() - self.started) - self.load_seconds

    def scheduled(self) -> Schedule:
        """Time a few steps, fit the head, and plan the rest of the training by what that took.

        Raises UsageError where the least that makes a training does not fit into the given time.
        """
        settings = self.settings
        self.progress.start("timing a few steps")
        at_most = 60 * PROBE_SHARE * settings.minutes or math.inf
        pace = self.trainer.probe(PROBE, len(self.held[:32]), at_most=at_most)
        wanted = min(len(self.examples), getattr(settings, "head_init_rows", 0))
        rows = wanted if wanted >= LEAST_WARM else 0
        self.refuse_short(pace, min(rows, LEAST_WARM))
        if rows and settings.minutes:
            rows = min(rows, max(LEAST_WARM, int(HEAD_SHARE * self.left() / max(pace.item_seconds, 1e-9))))
        self.start_head(rows)
        return self.schedule_in(pace, self.left(), rows)

    def schedule_in(self, pace: Throughput, left: float, head_rows: int) -> Schedule:
        """The schedule that `left` seconds hold."""
        return Schedule.of(
            self.trainer.batches,
            pace,
            epochs=self.settings.epochs,
            left=left,
            n_evals=self.settings.n_evals,
            held=len(self.held),
            calibration=self.calibration,
            head_rows=head_rows,
        )

    def refuse_short(self, pace: Throughput, head_rows: int) -> None:
        """Raises UsageError where the least training, with all that belongs to it, does not fit into the time left."""
        minutes = self.settings.minutes
        if not minutes:
            return
        left = self.left() - head_rows * pace.item_seconds
        least = self.schedule_in(pace, max(left, 0.0), head_rows)
        if least.needed_seconds <= left:
            return
        needed = 60 * minutes - left + 1.2 * least.needed_seconds
        raise UsageError(
            f"{minutes:g} minutes are too few to tune {self.base.name} on this machine",
            got=f"{format_duration(60 * minutes - left)} for loading, timing and the head; then {least.steps} steps, "
            f"{(least.evals + 1) * least.judged} validation quotes and {least.calibration_rows} to calibrate "
            f"intervals take about {format_duration(least.needed_seconds)}",
            allowed=f"{math.ceil(needed / 6) / 10:g} minutes or more; 0: no limit",
            hint=f"Add --set minutes={math.ceil(needed / 6) / 10:g}, or choose a smaller base or fewer max_length.",
        )

    def start_head(self, rows: int) -> None:
        """Fit a head of bins to so many rows of the frozen base before anything is tuned."""
        settings = self.settings
        if not rows or not isinstance(settings, LoraBins) or not isinstance(self.reader, PriceBins):
            return
        drawn = np.random.default_rng(settings.seed).permutation(len(self.examples))[:rows]
        examples, tokens = [self.examples[place] for place in drawn], 2 * settings.tokens_per_batch
        with preserve_rng():
            init_head_from_probe(
                self.model, examples, self.reader, settings.sigma, self.trainer.pad, tokens, self.progress
            )

    def judge_start(self, items: int) -> None:
        """Judge the model before its first step: a training that ends far worse than this has diverged."""
        if not items:
            return
        self.progress.start(f"pricing {items} validation items before tuning")
        found = self.trainer.judged(items)
        write_json(self.run / CHECKPOINTS / START, {"errors": [round(float(error), 6) for error in found.errors]})
        typical = float(np.mean(self.trainer.references[MEDIAN][:items]))
        self.progress.note(
            f"Before tuning: validation error {format_money(found.error, self.currency)}; of the median price for everything "
            f"{format_money(typical, self.currency)}."
        )

    def estimate(self, schedule: Schedule) -> str:
        """What a person should know before it starts."""
        adapter = sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad)
        weights = f"{adapter / 1e6:.2g} million weights are trained, on {self.base.name} in {self.dtype}."
        return f"{schedule.told(self.trainer.batches)} {weights}"

    def train(self) -> None:
        """Train to the end of the schedule, from the newest whole checkpoint where there is one."""
        place = self.run / CHECKPOINTS
        planned = (place / PLAN).is_file()
        if not planned:
            shutil.rmtree(place)  # without its plan a checkpoint says nothing
            place.mkdir()
            known = self.trainer.batches.expected(self.settings.epochs, self.settings.minutes)
            self.progress.note(f"{known} {peak_memory():.1f} GB of memory so far; a few steps are timed next.")
        last = newest_checkpoint(place, self.progress) if planned else None
        if not planned:
            write_json(place / PLAN, asdict(self.scheduled()))
        schedule = Schedule(**read_json(place / PLAN))
        if planned and last is None:
            self.start_head(schedule.head_rows)
        done = checkpoint_step(last) if last else 0
        self.progress.note(self.estimate(schedule))
        if last is None:
            self.judge_start(schedule.judged)
        if (place / START).is_file():
            self.trainer.references = {**self.trainer.references, UNTUNED: read_json(place / START)["errors"]}
        if last:
            self.progress.note(f"Going on from step {done:,} of {schedule.steps:,}.")
        self.trainer.curve.go_on_from(done)
        self.trainer.follow(schedule, done, warmup_ratio=self.settings.warmup_ratio)
        history = read_history(last) if last else []
        before = self.trainer.curve.before
        over = schedule.is_over(before + before / max(1, done)) or has_stalled(history, self.settings.patience)
        if done < schedule.steps and not over:
            self.trainer.train(resume_from_checkpoint=str(last) if last else None)

    def refuse_diverged(self) -> None:
        """Raises PricesmithError where even the best judgment was far worse than a reference. A model that is far
        worse than the median quote but better than before its first step has begun to learn: that is a warning."""
        history = read_history(next(path for path in checkpoints(self.run / CHECKPOINTS) if not find_damage(path)))
        if not best_is_far_worse(history):
            return
        best, step = min(validation_errors(history))
        items = Schedule(**read_json(self.run / CHECKPOINTS / PLAN)).judged
        known = {name: float(np.mean(errors[:items])) for name, errors in self.trainer.references.items() if errors}
        shown = " and ".join(f"{format_money(error, self.currency)} of {name}" for name, error in known.items())
        got = f"a validation error of {format_money(best, self.currency)} at step {step:,}, its best; {shown}"
        if UNTUNED in known and best < known[UNTUNED]:
            self.progress.note(
                f"Warning: the training has diverged or was too short: {got}. The model is of no use yet; fit again "
                f"with more minutes or epochs, or with --set learning_rate={self.settings.learning_rate / 3:.1g} --overwrite."
            )
            return
        raise self.trainer.diverged(got, allowed=f"at most {FAR:g} times either, as far as {items} items can tell")

    def finish(self) -> None:
        """Put the best whole checkpoint's adapter into the run folder, and how it is asked and read."""
        best, error = best_checkpoint(self.run / CHECKPOINTS, self.progress)
        self.refuse_diverged()
        for name in ("adapter_config.json", ADAPTER):
            with atomic_file(self.run / name) as temporary:
                shutil.copyfile(best / name, temporary)
        write_json(
            self.run / PRICE_CONFIG,
            {
                "format": 1,
                "readout": "bins" if isinstance(self.reader, PriceBins) else "tokens",
                "base": self.base.name,
                "revision": self.base.revision,
                "base_print": base_fingerprint(self.base),
                "tokenizer_print": tokenizer_fingerprint(self.tokenizer),
                "prompt": self.prompt.model_dump(mode="json"),
                "currency": self.currency,
                "price_range": list(self.price_range),
                "edges": list(self.reader.edges) if isinstance(self.reader, PriceBins) else None,
                "dtype": self.dtype,
                "quantization": "nf4" if self.settings.quantization == "nf4" else "none",
                "step": checkpoint_step(best),
                "error": error,
                "calibration_rows": Schedule(**read_json(self.run / CHECKPOINTS / PLAN)).calibration_rows,
            },
        )
