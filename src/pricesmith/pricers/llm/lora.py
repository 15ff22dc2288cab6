"""Tuning an open language model into a pricer: LoRA adapters on a frozen base, and one of two read-outs.

* `lora_tokens` trains the model to write the price: only the number and one end token are in the loss.
* `lora_bins` puts a head on the last state that predicts a distribution over price bins (a soft histogram as target).

The model folder is a PEFT folder that `PeftModel.from_pretrained` loads, with `price_config.json`, which has the prompt
and the read-out. An interrupted training resumes from `checkpoints/` in the folder that it was building.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from peft import LoraConfig, TaskType
from pydantic import Field
from torch import nn
from transformers import set_seed

from pricesmith.core.atomic import atomic_file, read_json, write_json
from pricesmith.core.errors import UsageError
from pricesmith.core.processes import current_processes
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.settings import Settings
from pricesmith.core.types import Item, Listing, Pricer
from pricesmith.pricers.llm.adapters import (
    add_adapter,
    find_target_modules,
    init_head_from_probe,
    mixed_precision,
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
from pricesmith.pricers.llm.batching import BinLoss, PlannedBatches, Schedule, build_examples, token_losses
from pricesmith.pricers.llm.checkpoints import (
    ADAPTER,
    CHECKPOINTS,
    TrainingCurve,
    best_checkpoint,
    checkpoint_step,
)
from pricesmith.pricers.llm.device_memory import catch_out_of_memory, evaluation_tokens
from pricesmith.pricers.llm.pricer import PRICE_CONFIG, LlmPricer, load_adapter, prompt_style, read_config
from pricesmith.pricers.llm.readout import PriceBins, TokenReader
from pricesmith.pricers.llm.trainer import (
    MEDIAN,
    PriceTrainer,
    preserve_rng,
    training_arguments,
)
from pricesmith.pricers.llm.tuning import CURVE, PLAN, PROBE_STEPS, Tuning
from pricesmith.text.formatting import format_money
from pricesmith.text.prompts import Prompt


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


class TuningRun(Tuning):
    """The training of an adapter: the base, its prompt and read-out."""

    trained = "an adapter on"

    def __init__(
        self, settings: TunedRecipe, train: Sequence[Item], validation: Sequence[Item], folder: Path, progress: Progress
    ) -> None:
        super().__init__(train, validation, folder, progress, settings.seed)
        self.settings: TunedRecipe = settings
        self.base = find_base(settings.base, settings.revision, progress)
        self.tokenizer = load_tokenizer(self.base)
        self.prompt = Prompt(
            style=prompt_style(self.base, self.tokenizer, settings.style),
            currency=self.currency,
            max_length=settings.max_length,
        )
        check_prompt(self.base, self.tokenizer, self.prompt)
        self.reader: TokenReader | PriceBins
        if isinstance(settings, LoraBins):
            prices = [item.price for item in train]
            self.reader = PriceBins.from_prices(prices, settings.bins, 3 * settings.sigma)
        else:
            self.reader = TokenReader(self.tokenizer, self.price_range, self.prompt.style, currency=self.currency)
        loading = time.perf_counter()
        self.model = self.build_model()  # first: a model that cannot be loaded fails fast
        self.load_seconds = time.perf_counter() - loading
        answer = self.reader.answer if isinstance(self.reader, TokenReader) else None
        self.examples = build_examples(train, self.encode, answer, progress)
        self.trainer = self.build_trainer()
        self.trainer.references = {MEDIAN: self.median_errors()}

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
        folder = self.make_checkpoint_folder()
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

    def head_rows(self) -> int:
        """The rows that the settings say, for a head of price bins."""
        return self.settings.head_init_rows if isinstance(self.settings, LoraBins) else 0

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
