"""The sparse MLP: the weighted sum of the embeddings of a listing's features goes through a small network.

    sum of embedding[feature] x weight -> GELU -> hidden layer -> GELU -> log price, standardized

The batch size doubles every epoch. Networks that differ in their seed alone are trained one to a core, and their log
quotes are averaged. Short training, doubling batches and a model for each core come from the winners of the Mercari
Price Suggestion Challenge (Kaggle 2018). Training uses torch (`sparse_training.py`); a fitted model prices with numpy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pricesmith.catalog.items import get_listings, get_prices
from pricesmith.core.model_files import Shapes, check_arrays, report_damage
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.settings import Settings
from pricesmith.core.threads import N_CORES
from pricesmith.core.types import Item, Listing, Pricer, Quote
from pricesmith.pricers.features.hashing import (
    SparseRows,
    Vocabulary,
    chunks,
    gather_parts,
    gather_rows,
    hash_to_buckets,
)
from pricesmith.pricers.training import (
    LARGEST_LOG,
    PriceScale,
    get_weights,
    require_log_prices,
    single_threaded,
    write_curve,
)

MODEL = "sparse_mlp.safetensors"
VOCABULARY = "vocabulary.npz"
SHAPES: Shapes = {
    "embedding": ("float", "features", "embedding_dim"),
    "embedding_bias": ("float", "embedding_dim"),
    "hidden_weight": ("float", "hidden_dim", "embedding_dim"),
    "hidden_bias": ("float", "hidden_dim"),
    "output_weight": ("float", "hidden_dim"),
    "output_bias": ("float", 1),
}
MIN_STEPS = 150
FEW_ROWS = 8  # up to this many listings are priced without importing scipy, which takes a third of a second
SEED_STRIDE = 1_000_003  # between the seeds of two networks

F32 = NDArray[np.float32]


class SparseMlpRecipe(Settings):
    """Settings of the sparse MLP."""

    kind: ClassVar[str] = "sparse_mlp"
    takes_weights: ClassVar[bool] = True
    files: ClassVar[tuple[str, ...]] = (MODEL, VOCABULARY)
    seed: int = Field(0, ge=0, description="seed of the first network")
    ensemble_size: int = Field(4, ge=1, le=64, description="number of networks that are averaged")
    embedding_dim: int = Field(64, ge=1, le=1024, description="length of a feature's embedding")
    hidden_dim: int = Field(64, ge=1, le=1024, description="units of the hidden layer")
    epochs: int = Field(4, ge=1, le=100, description="passes over the rows; the batch size doubles with each")
    batch_size: int = Field(512, ge=1, description="rows in a step of the first epoch; smaller if there are few rows")
    max_rows: int = Field(1_200_000, ge=1, description="training rows over all epochs; many rows get fewer epochs")
    min_count: int = Field(3, ge=1, description="features that occur less often are ignored")
    max_features: int = Field(1_000_000, ge=1, description="size of the vocabulary; the rarest features go first")
    learning_rate: float = Field(0.02, gt=0, description="learning rate of the dense layers")
    embedding_learning_rate: float = Field(0.03, gt=0, description="learning rate of the embeddings")
    dollar_loss_weight: float = Field(
        0.8, ge=0, le=1, description="weight of the error in money in the loss; the rest is the error in log price"
    )

    def fit(self, train: Sequence[Item], validation: Sequence[Item], folder: Path, progress: Progress = SILENT) -> None:
        """Write the vocabulary, the networks and their training curve; validation only draws the curve."""
        from safetensors.numpy import save_file

        from pricesmith.pricers.sparse_training import NetSettings, NetTrainer, TrainableNet, ValidationRows

        parts = gather_parts(get_listings(train))
        vocabulary = Vocabulary.from_parts(parts, self.min_count, self.max_features)
        matrix = vocabulary.rows_of_parts(parts).csr(vocabulary.size)
        prices = PriceScale.from_prices(get_prices(train))
        later = ValidationRows(vocabulary.rows(gather_rows(get_listings(validation))), get_prices(validation))
        settings = NetSettings(**{name: getattr(self, name) for name in NetSettings.__dataclass_fields__})
        sizes = batch_sizes(len(train), self)
        numbers, weights = range(self.ensemble_size), get_weights(train)
        trainers = [NetTrainer(settings, matrix, prices, later, number, weights) for number in numbers]

        def run(trainer: NetTrainer) -> TrainableNet:
            return trainer.run(sizes, self.seed + SEED_STRIDE * trainer.number)

        with single_threaded, ThreadPoolExecutor(N_CORES) as pool:
            nets = list(pool.map(run, trainers))
        vocabulary.save(folder / VOCABULARY)
        arrays = {f"{name}.{n}": getattr(net, name).numpy() for n, net in enumerate(nets) for name in net.NAMES}
        scale = np.array([prices.mean, prices.spread, prices.top], dtype=np.float32)
        save_file({**arrays, "log_scale": scale}, folder / MODEL)
        write_curve(folder, [point for trainer in trainers for point in trainer.curve])

    def load(self, folder: Path) -> Pricer:
        """The pricer of a model folder."""
        from safetensors.numpy import load_file

        path = folder / MODEL
        vocabulary = Vocabulary.load(folder / VOCABULARY)
        with report_damage(path):
            arrays = load_file(path)
        require_log_prices("log_scale" in arrays, folder)
        sizes = {"features": vocabulary.size, "embedding_dim": self.embedding_dim, "hidden_dim": self.hidden_dim}
        numbers = range(self.ensemble_size)
        shapes = {f"{name}.{number}": shape for number in numbers for name, shape in SHAPES.items()}
        check_arrays(path, arrays, {**shapes, "log_scale": ("float", 3)}, sizes)
        nets = [SparseNet(**{name: arrays[f"{name}.{number}"] for name in SHAPES}) for number in numbers]
        mean, spread, top = arrays["log_scale"].tolist()
        return SparseMlpPricer(vocabulary, nets, PriceScale(np.zeros(0), mean, spread, top))


def batch_sizes(rows: int, settings: SparseMlpRecipe) -> list[int]:
    """The batch size of each epoch: doubling; many rows get fewer epochs, few rows smaller batches and more epochs."""
    first = min(settings.batch_size, max(16, rows // 100))
    sizes = [first << number for number in range(settings.epochs)]
    sizes = sizes[-max(2, settings.max_rows // max(rows, 1)) :]
    while sum(math.ceil(rows / size) for size in sizes) < MIN_STEPS and len(sizes) < MIN_STEPS:
        sizes.insert(0, first)
    return sizes


@dataclass(frozen=True, slots=True)
class SparseNet:
    """One fitted network: embedding [features, embedding_dim] in half precision, hidden_weight [hidden_dim,
    embedding_dim], output_weight [hidden_dim], and the biases of the three layers."""

    embedding: NDArray[np.float16]
    embedding_bias: F32
    hidden_weight: F32
    hidden_bias: F32
    output_weight: F32
    output_bias: F32

    def forward(self, rows: SparseRows) -> F32:
        """Standardized log prices [rows]."""
        inputs = gelu(self.sum_embeddings(rows) + self.embedding_bias)
        hidden = gelu(inputs @ self.hidden_weight.T + self.hidden_bias)
        return np.asarray(hidden @ self.output_weight + self.output_bias)

    def sum_embeddings(self, rows: SparseRows) -> F32:
        """The weighted sum of the embeddings of each row [rows, embedding_dim]."""
        if len(rows.starts) - 1 <= FEW_ROWS:
            parts = [slice(start, end) for start, end in pairwise(rows.starts)]
            terms = [rows.weights[part, None] * self.embedding[rows.indices[part]].astype(np.float32) for part in parts]
            # Added in the order of the sparse product below, so that a listing has the same quote in any batch.
            sums = [np.add.accumulate(part, axis=0)[-1] if len(part) else 0 * self.embedding_bias for part in terms]
            return np.stack(sums)
        used, positions = np.unique(rows.indices, return_inverse=True)
        matrix = SparseRows(positions.astype(np.int32), rows.weights, rows.starts).csr(max(1, len(used)))
        return np.asarray(matrix @ self.embedding[used if len(used) else [0]].astype(np.float32))


def gelu(values: F32) -> F32:
    """The Gaussian error linear unit (Hendrycks and Gimpel 2016), exact."""
    scaled = values * np.float32(math.sqrt(0.5))
    if len(values) <= FEW_ROWS:
        errors = np.array([math.erf(value) for value in scaled.ravel().tolist()], np.float32).reshape(scaled.shape)
    else:
        from scipy.special import erf

        errors = erf(scaled)
    return np.asarray(np.float32(0.5) * values * (np.float32(1) + errors))


class SparseMlpPricer:
    """Quotes exp(mean of the networks' log prices)."""

    def __init__(self, vocabulary: Vocabulary, nets: Sequence[SparseNet], prices: PriceScale) -> None:
        self.vocabulary, self.nets, self.prices = vocabulary, nets, prices

    @property
    def name(self) -> str:
        return "sparse_mlp"

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        """One quote for each listing; a listing without a known feature gets the networks' output for no features."""
        if not listings:
            return []
        parts = list(chunks(listings))
        if len(parts) == 1:
            logs = self.log_prices(listings)
        else:
            with ThreadPoolExecutor(N_CORES) as pool:
                logs = np.concatenate(list(pool.map(self.log_prices, parts)))
        return [Quote(price) for price in np.exp(np.clip(logs, -LARGEST_LOG, LARGEST_LOG)).tolist()]

    def price_features(self, buckets: SparseRows) -> NDArray[np.float64]:
        """The prices [n] of a few listings whose features are hashed already: those of `price`."""
        return np.exp(np.clip(self.log_prices_of(buckets), -LARGEST_LOG, LARGEST_LOG))

    def log_prices(self, listings: Sequence[Listing]) -> NDArray[np.float64]:
        """Log prices [n] of a few listings."""
        return self.log_prices_of(hash_to_buckets(listings))

    def log_prices_of(self, buckets: SparseRows) -> NDArray[np.float64]:
        """Log prices [n] from hashed features."""
        rows = self.vocabulary.rows(buckets)
        outputs = np.stack([net.forward(rows) for net in self.nets])
        return np.asarray(outputs.astype(np.float64).mean(axis=0) * self.prices.spread + self.prices.mean)
