"""A bidirectional encoder, all of whose weights are tuned to the price, with numbers and similar listings beside it.

    states of the tokens -> mean -> with the numbers, categories and neighbors' prices of the listing through a hidden
    layer -> logits over price bins + scale x log of the neighbors' distribution over the same bins

The loss mixes the cross-entropy of a softened histogram (HL-Gauss) with the expected error in money. The model folder
has the encoder as a folder that stock transformers loads (`encoder/`), the head, and what the columns are made of. An
interrupted training resumes from `checkpoints/`, to the same weights.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import ConfigDict, Field, model_validator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import set_seed

from pricesmith.core.atomic import atomic_file, read_json, write_json
from pricesmith.core.errors import InputError
from pricesmith.core.model_files import (
    check_increasing,
    check_range,
    damaged_file,
    read_settings,
    read_tensors,
)
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.settings import Settings
from pricesmith.core.types import Item, Listing, Pricer, Quote
from pricesmith.pricers.llm.base_model import PretrainedBase, best_dtype, load_tokenizer, quiet_transformers
from pricesmith.pricers.llm.batching import Example, PlannedBatches, StepBatch, collate, divide_batch
from pricesmith.pricers.llm.checkpoints import CHECKPOINTS, WEIGHTS, TrainingCurve, best_checkpoint, checkpoint_step
from pricesmith.pricers.llm.device_memory import catch_out_of_memory
from pricesmith.pricers.llm.encoder_base import check_context, encode_listings, find_encoder, load_encoder
from pricesmith.pricers.llm.encoder_features import FIELDS, INDEX, SCALE, EncoderFeatures, EncoderInputs
from pricesmith.pricers.llm.pricer import HIGH, LOW, pricing_batches
from pricesmith.pricers.llm.readout import PriceBins
from pricesmith.pricers.llm.trainer import MEDIAN, PriceTrainer, preserve_rng, training_arguments
from pricesmith.pricers.llm.tuning import CURVE, PLAN, PROBE_STEPS, Tuning
from pricesmith.text.formatting import format_money

ENCODER, HEAD, CONFIG = "encoder", "head.safetensors", "encoder.json"
CATEGORY_DIM = 8
PRICED_AT_ONCE = 2048  # listings whose columns are computed together
TOKENS = 8192  # of a batch that is priced
MAX_EVAL_ITEMS = 2_000  # with 500, chance chose a checkpoint of the middle: 36.72 against 35.77 of the last one
MIN_STEPS, MIN_TOKENS = 300, 512  # of a training, and of a batch


class EncoderRecipe(Settings):
    """Settings of the encoder."""

    kind: ClassVar[str] = "encoder"
    resumes: ClassVar[bool] = True
    files: ClassVar[tuple[str, ...]] = (
        *(CONFIG, HEAD, INDEX, FIELDS, SCALE),
        *(
            f"{ENCODER}/{name}"
            for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
        ),
    )
    probed: ClassVar[bool] = False
    base: str = Field("all-minilm-l6-v2", description="a packaged encoder, a local folder or a Hub id")
    revision: str | None = Field(None, description="of a Hub id: a commit, tag or branch")
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="of the encoder's products; auto: bf16 if the machine computes in it"
    )
    max_length: int = Field(96, ge=8, description="tokens of a listing that the encoder reads")
    hidden_dim: int = Field(256, ge=1, le=8192, description="units of the hidden layer over text and columns")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout of the hidden layer")
    bins: int = Field(64, ge=2, le=4096, description="log-spaced price bins")
    sigma: float = Field(1.5, gt=0, description="width of the softened target, in bins (HL-Gauss)")
    money_loss_weight: float = Field(
        0.3, ge=0, le=1, description="weight of the expected error in money in the loss; the rest is cross-entropy"
    )
    learning_rate: float = Field(2e-4, gt=0, description="highest learning rate of the encoder")
    head_learning_rate: float = Field(1e-3, gt=0, description="highest learning rate of all other layers")
    lr_scheduler_type: Literal["cosine", "linear", "constant_with_warmup"] = Field(
        "linear", description="learning-rate schedule"
    )
    warmup_ratio: float = Field(0.05, ge=0, lt=1, description="share of the steps in which the learning rate rises")
    epochs: float = Field(4, gt=0, description="over the training rows, at most")
    minutes: float = Field(60, ge=0, description="from loading to calibration, at most; 0: no limit")
    tokens_per_batch: int = Field(4096, ge=16, description="size of a batch, in tokens")
    n_evals: int = Field(8, ge=1, description="evaluations on validation items during training")
    patience: int = Field(0, ge=0, description="evaluations without improvement before it stops; 0: never")
    seed: int = Field(0, ge=0, description="of the head, batches and dropout")
    report_to: str = Field("none", description="what else the Trainer reports to, such as tensorboard")

    def fit(self, train: Sequence[Item], validation: Sequence[Item], folder: Path, progress: Progress = SILENT) -> None:
        """Tune on `train` and write the weights with the lowest MAE on `validation`; resumes an interrupted training.

        `folder/catalog.json` has the price range and the currency. Raises UsageError or InputError if the base or a
        setting cannot be used, PricesmithError if training diverges or the disk is full.
        """
        if (folder / CONFIG).is_file():  # written last
            progress.note("The encoder is tuned already.")
            return
        smaller = f"Add --set tokens_per_batch={max(16, self.tokens_per_batch // 2)} --overwrite."
        with preserve_rng(), catch_out_of_memory(f"tune {self.base}", smaller):
            set_seed(self.seed)
            tuning = EncoderTuning(self, train, validation, folder, progress)
            tuning.train()
            tuning.finish()

    def calibration_rows(self, folder: Path) -> int | None:
        """The number of rows that the minutes allow to calibrate on; None: all."""
        return read_settings(folder / CONFIG, EncoderConfig).calibration_rows

    def load(self, folder: Path) -> Pricer:
        """The pricer of a model folder. Raises InputError if a file is missing or damaged."""
        return load_pricer(folder)


class EncoderConfig(Settings):
    """`encoder.json` of a model folder."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)
    format: Literal[1]
    base: str
    revision: str | None = None
    currency: str
    price_range: tuple[float, float]
    edges: tuple[float, ...] = Field(description="of the price bins")
    max_length: int = Field(ge=1)
    hidden_dim: int = Field(ge=1)
    dtype: Literal["bfloat16", "float32"]
    step: int
    validation_mae: float | None = None
    calibration_rows: int | None = None

    @model_validator(mode="after")
    def checked(self) -> EncoderConfig:
        """Raises ValueError if the price range is empty, or the edges of the bins do not increase."""
        check_range(self.price_range)
        if len(self.edges) < 3:
            raise ValueError("edges of at least two price bins")
        check_increasing(self.edges)
        return self


class FusedEncoder(nn.Module):
    """The encoder, and the head that takes its mean state with the columns of a listing."""

    def __init__(self, encoder: Any, features: EncoderFeatures, hidden: int, dropout: float, *, bf16: bool) -> None:
        super().__init__()
        bins = len(features.bins.edges) - 1
        self.encoder, self.bf16 = encoder, bf16
        self.categories = nn.ModuleList([nn.Embedding(n + 1, CATEGORY_DIM) for n in features.category_sizes])
        columns = features.n_columns + CATEGORY_DIM * len(features.category_sizes)
        self.columns = nn.Sequential(nn.Linear(columns, hidden), nn.GELU())
        self.text = nn.Linear(int(encoder.config.get_text_config().hidden_size), hidden)
        self.body = nn.Sequential(
            nn.LayerNorm(2 * hidden), nn.Linear(2 * hidden, hidden), nn.GELU(), nn.Dropout(dropout)
        )
        self.head = nn.Linear(hidden, bins)
        self.vote_scale = nn.Parameter(torch.ones(1))

    def forward(self, ids: Tensor, lengths: Tensor, columns: Tensor, codes: Tensor, votes: Tensor) -> Tensor:
        """Logits [n, bins], fp32, of token ids [n, columns] padded on the right, their lengths [n], and the inputs
        beside them (`EncoderInputs`)."""
        device = self.vote_scale.device
        ids, lengths, columns, codes, votes = (part.to(device) for part in (ids, lengths, columns, codes, votes))
        mask = torch.arange(ids.shape[1], device=device) < lengths[:, None]
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            states = self.encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        mean = (states.float() * mask[..., None]).sum(1) / lengths[:, None]
        named = [embedding(codes[:, number]) for number, embedding in enumerate(self.categories)]
        beside = self.columns(torch.cat([columns, *named], 1))
        logits: Tensor = self.head(self.body(torch.cat([self.text(mean), beside], 1)))
        return logits + self.vote_scale * votes

    def head_state(self) -> dict[str, Tensor]:
        """All weights but the encoder's."""
        return {name: tensor for name, tensor in self.state_dict().items() if not name.startswith("encoder.")}


@dataclass(frozen=True, slots=True)
class RowExample(Example):
    """An example with the number of its training row."""

    row: int


class EncoderTrainer(PriceTrainer):
    """The Trainer of all weights, with a learning rate for the encoder and one for the other layers."""

    inputs: EncoderInputs
    head_learning_rate: float

    def collate_examples(self, examples: Sequence[Example]) -> StepBatch:
        """The tensors of what this process computes of a step's examples, with the inputs beside the text."""
        part, weight = divide_batch(examples, self.processes.rank, self.processes.size)
        values: Any = {
            **collate(part, self.pad),
            **self.inputs.tensors([example.row for example in part if isinstance(example, RowExample)]),
            "lengths": torch.tensor([len(example) for example in part]),
            "weight": weight,
            "step_tokens": sum(map(len, examples)),
        }
        batch: StepBatch = values
        return batch

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW with two learning rates; fused, which computes the same on a CPU in a fifth of the time."""
        if self.optimizer is None:
            trained = [(name, weight) for name, weight in self.adapted_model.named_parameters() if weight.requires_grad]
            encoder = [weight for name, weight in trained if name.startswith("encoder.")]
            others = [weight for name, weight in trained if not name.startswith("encoder.")]
            groups = [
                {"params": encoder, "lr": self.args.learning_rate},
                {"params": others, "lr": self.head_learning_rate},
            ]
            self.optimizer = torch.optim.AdamW(groups, weight_decay=0.01, fused=True)
        return self.optimizer

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Save all weights alone: no `training_args.bin`, which is a pickle."""
        folder = Path(output_dir or self.args.output_dir or ".")
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: part.contiguous() for name, part in self.adapted_model.state_dict().items()}, folder / WEIGHTS)


class MixedLoss:
    """Cross-entropy with a softened histogram of the price, and the expected error in units of the mean price."""

    def __init__(self, bins: PriceBins, sigma: float, money_weight: float, mean_price: float) -> None:
        self.bins, self.sigma, self.money_weight, self.mean_price = bins, sigma, money_weight, mean_price
        edges = np.array(bins.edges)
        self.middles = torch.from_numpy(np.sqrt(edges[1:] * edges[:-1]))

    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        """The loss of each example [examples]."""
        logits = model_logits(model, batch)
        targets = self.bins.targets(batch["prices"], self.sigma).to(logits)
        entropy = F.cross_entropy(logits, targets, reduction="none")
        prices = batch["prices"].to(logits)
        errors = (self.middles.to(logits)[None, :] - prices[:, None]).abs() / self.mean_price
        money = (torch.softmax(logits, 1) * errors).sum(1)
        mixed: Tensor = (1 - self.money_weight) * entropy + self.money_weight * money
        return mixed


def model_logits(model: nn.Module, batch: Any) -> Tensor:
    """The logits [n, bins] of a batch."""
    logits: Tensor = model(batch["ids"], batch["lengths"], batch["columns"], batch["codes"], batch["votes"])
    return logits


class EncoderTuning(Tuning):
    """The training of an encoder and its head."""

    max_eval_items = MAX_EVAL_ITEMS

    def __init__(
        self,
        settings: EncoderRecipe,
        train: Sequence[Item],
        validation: Sequence[Item],
        folder: Path,
        progress: Progress,
    ) -> None:
        super().__init__(train, validation, folder, progress, settings.seed)
        self.settings: EncoderRecipe = settings
        self.base = find_encoder(settings.base, settings.revision, progress)
        self.tokenizer = load_tokenizer(self.base)
        prices = [item.price for item in train]
        self.reader = PriceBins.from_prices(prices, settings.bins, 3 * settings.sigma)
        loading = time.perf_counter()
        progress.start(f"loading {self.base.name}")
        encoder = load_encoder(self.base)  # first: a model that cannot be loaded fails fast
        check_context(self.base, encoder, self.tokenizer, settings.max_length)
        self.load_seconds = time.perf_counter() - loading
        progress.start("finding similar listings")
        listings = [item.listing for item in train]
        self.features, self.inputs = EncoderFeatures.from_items(listings, prices, self.reader)
        self.dtype = settings.dtype if settings.dtype != "auto" else str(best_dtype()).removeprefix("torch.")
        set_seed(settings.seed)  # the head is initialized at random
        self.network = FusedEncoder(
            encoder, self.features, settings.hidden_dim, settings.dropout, bf16=self.dtype == "bfloat16"
        )
        self.model: nn.Module = self.network.to(encoder.device)
        ids = encode_listings(self.tokenizer, listings, settings.max_length)
        self.examples = [
            RowExample(array("i", prompt), (), price, row)
            for row, (prompt, price) in enumerate(zip(ids, prices, strict=True))
        ]
        self.pricer = EncoderPricer(self.network, self.tokenizer, self.features, settings.max_length)
        self.trainer = self.build_trainer(float(np.mean(prices)))
        self.trainer.references = {MEDIAN: self.median_errors()}

    def build_trainer(self, mean_price: float) -> EncoderTrainer:
        """The trainer, with its batches, its loss and its validation."""
        settings, folder = self.settings, self.make_checkpoint_folder()
        args = training_arguments(
            folder, settings.learning_rate, settings.lr_scheduler_type, settings.seed, settings.report_to
        )
        lengths = [len(example) for example in self.examples]
        trainer = EncoderTrainer(
            self.model,
            args,
            examples=self.examples,
            batches=PlannedBatches(lengths, settings.seed, self.batch_tokens(lengths), PROBE_STEPS),
            pad=int(self.tokenizer.pad_token_id or 0),
            loss=MixedLoss(self.reader, settings.sigma, settings.money_loss_weight, mean_price),
            validate=self.validate,
            curve=TrainingCurve(self.folder / CURVE),
            patience=settings.patience,
            progress=self.progress,
            format_error=lambda error: format_money(error, self.currency),
        )
        trainer.inputs, trainer.head_learning_rate = self.inputs, settings.head_learning_rate
        return trainer

    def batch_tokens(self, lengths: Sequence[int]) -> int:
        """The tokens of a batch: fewer for a small catalog, so that a training has about MIN_STEPS steps."""
        fewer = int(sum(lengths) * self.settings.epochs / MIN_STEPS)
        return min(self.settings.tokens_per_batch, max(MIN_TOKENS, fewer))

    def finish(self) -> None:
        """Write the best complete checkpoint's weights into the model folder, and the configuration last."""
        best, mae = best_checkpoint(self.folder / CHECKPOINTS, self.progress)
        self.refuse_diverged()
        self.network.load_state_dict(load_file(best / WEIGHTS))
        with quiet_transformers():
            self.network.encoder.save_pretrained(self.folder / ENCODER)
            self.tokenizer.save_pretrained(self.folder / ENCODER)
        head = {name: part.contiguous().cpu() for name, part in self.network.head_state().items()}
        with atomic_file(self.folder / HEAD) as temporary:
            save_file(head, temporary)
        self.features.save(self.folder)
        write_json(
            self.folder / CONFIG,
            {
                "format": 1,
                "base": self.base.name,
                "revision": self.base.revision,
                "currency": self.currency,
                "price_range": list(self.price_range),
                "edges": list(self.reader.edges),
                "max_length": self.settings.max_length,
                "hidden_dim": self.settings.hidden_dim,
                "dtype": self.dtype,
                "step": checkpoint_step(best),
                "validation_mae": mae,
                "calibration_rows": read_json(self.folder / CHECKPOINTS / PLAN)["calibration_rows"],
            },
        )


class EncoderPricer:
    """Quotes the median of the distribution over price bins; low and high are its 5 % and 95 % quantiles."""

    name = "encoder"

    def __init__(self, model: FusedEncoder, tokenizer: Any, features: EncoderFeatures, max_length: int) -> None:
        self.model, self.tokenizer, self.features, self.max_length = model, tokenizer, features, max_length
        self.tokens_per_batch, self.pad = TOKENS, int(tokenizer.pad_token_id or 0)

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        """One quote for each listing, with `low` and `high`."""
        quotes: list[Quote] = []
        for start in range(0, len(listings), PRICED_AT_ONCE):
            quotes += self.price_part(listings[start : start + PRICED_AT_ONCE])
        return quotes

    @torch.inference_mode()
    def price_part(self, listings: Sequence[Listing]) -> list[Quote]:
        """The quotes of listings whose columns are computed together."""
        prompts, inputs = encode_listings(self.tokenizer, listings, self.max_length), self.features.encode(listings)
        quotes = [Quote(None)] * len(listings)
        for indexes in pricing_batches([len(prompt) for prompt in prompts], self.tokens_per_batch):
            lengths = [len(prompts[index]) for index in indexes]
            padded = [[*prompts[index], *[self.pad] * (max(lengths) - len(prompts[index]))] for index in indexes]
            batch = {"ids": torch.tensor(padded), "lengths": torch.tensor(lengths), **inputs.tensors(indexes)}
            for index, distribution in zip(
                indexes, self.features.bins.read(model_logits(self.model, batch)), strict=True
            ):
                quotes[index] = Quote(distribution.median(), distribution.quantile(LOW), distribution.quantile(HIGH))
        return quotes


def load_pricer(folder: Path) -> EncoderPricer:
    """The pricer of a model folder. Raises InputError if a file is missing or damaged."""
    config = read_settings(folder / CONFIG, EncoderConfig)
    base = PretrainedBase(str(folder / ENCODER), folder / ENCODER)
    if not (base.path / "config.json").is_file():
        raise InputError(f"{base.path} has no config.json", hint="Fit again with --overwrite.")
    bins = PriceBins(config.edges)
    features = EncoderFeatures.load(folder, bins)
    read_weights(base.path / WEIGHTS)  # for its checks
    encoder = load_encoder(find_encoder(base.name))
    model = FusedEncoder(encoder, features, config.hidden_dim, 0.0, bf16=config.dtype == "bfloat16")
    head = read_weights(folder / HEAD)
    expected = {name: tensor.shape for name, tensor in model.head_state().items()}
    stored = {name: tensor.shape for name, tensor in head.items()}
    wrong = sorted(name for name in expected.keys() | stored.keys() if expected.get(name) != stored.get(name))
    if wrong:
        raise damaged_file(folder / HEAD, f"the tensor {wrong[0]} is missing, unknown or of another shape")
    model.load_state_dict(head, strict=False)
    return EncoderPricer(model.to(encoder.device).eval(), load_tokenizer(base), features, config.max_length)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights of a file. Raises InputError if it is damaged, or has whole numbers, which would be loaded too."""
    tensors: dict[str, Tensor] = read_tensors(path)
    integers = sorted(name for name, tensor in tensors.items() if not tensor.is_floating_point())
    if integers:
        raise damaged_file(path, f"integers in {integers[0]}", allowed="floating-point weights")
    return tensors
