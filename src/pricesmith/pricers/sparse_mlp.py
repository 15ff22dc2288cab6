"""The sparse MLP: every feature of a listing is a row of one table, their weighted sum goes through a small network.

    sum of embedding[feature] x weight -> GELU -> hidden layer -> GELU -> log price, standardized

A step reads and writes only the rows of the table that its batch names, with a running mean of squared gradients for
each number in them (RMSprop on what was touched): it costs what the batch holds and not what the vocabulary holds.
The batch doubles every pass. Members that differ in their seed alone are trained one to a core, and their log quotes
averaged. Short training, doubling batches and a model for each core come from the winners of Mercari (Kaggle 2018).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from safetensors.torch import save_file
from torch import Tensor

from pricesmith.core.model_files import Shapes, check_arrays, read_tensors
from pricesmith.core.settings import Settings
from pricesmith.core.types import Item, Listing, Pricer, Quote
from pricesmith.pricers.features.hashing import chunks
from pricesmith.pricers.features.log_price import LARGEST_LOG, require_log_prices
from pricesmith.pricers.features.threads import N_CORES, single_threaded
from pricesmith.pricers.features.tokenizer import I64
from pricesmith.pricers.features.vocabulary import SparseRows, Vocabulary, gather_ranges, hash_to_buckets
from pricesmith.pricers.sparse_optim import Adam, EmbeddingTable, PriceScale, sum_rows

MODEL = "sparse_mlp.safetensors"
VOCABULARY = "vocabulary.npz"
SHAPES: Shapes = {
    "table": ("float", "features", "width"),
    "shift": ("float", "width"),
    "inner": ("float", "hidden", "width"),
    "inner_shift": ("float", "hidden"),
    "outer": ("float", "hidden"),
    "outer_shift": ("float", 1),
}
CURVE = "training.jsonl"
LEAST_STEPS = 150


class SparseMlpRecipe(Settings):
    """Settings of the sparse MLP."""

    kind: ClassVar[str] = "sparse_mlp"
    files: ClassVar[tuple[str, ...]] = (MODEL, VOCABULARY)
    seed: int = Field(0, ge=0, description="seed of the first member")
    members: int = Field(4, ge=1, le=64, description="networks that are averaged")
    width: int = Field(64, ge=1, le=1024, description="length of a feature's embedding")
    hidden: int = Field(64, ge=1, le=1024, description="units of the hidden layer")
    passes: int = Field(4, ge=1, le=100, description="passes over the rows; the batch doubles with each")
    batch: int = Field(512, ge=1, description="rows in a step of the first pass; fewer where there are few rows")
    most_rows: int = Field(1_200_000, ge=1, description="rows a member sees in all; many rows get fewer passes")
    min_count: int = Field(3, ge=1, description="a feature that occurs less often is not used")
    most_features: int = Field(1_000_000, ge=1, description="size of the vocabulary; the rarest go first")
    rate: float = Field(0.02, gt=0, description="learning rate of the network")
    table_rate: float = Field(0.03, gt=0, description="learning rate of the embeddings")
    money: float = Field(0.8, ge=0, le=1, description="share of the loss that is error in money; the rest is in logs")

    def fit(self, train: Sequence[Item], validation: Sequence[Item], run: Path) -> None:
        """Write the vocabulary, the networks and their training curve; validation only draws the curve."""
        started = time.perf_counter()
        raw = gather_ranges([item.listing for item in train])
        words = Vocabulary.of(raw, self.min_count, self.most_features)
        rows, held = words.rows(raw), words.rows(gather_ranges([item.listing for item in validation]))
        del raw
        prices = PriceScale.of([item.price for item in train])
        truths = np.array([item.price for item in validation])
        sizes = iter_batches(len(train), self)
        with single_threaded, ThreadPoolExecutor(N_CORES) as pool:
            jobs = [
                TrainingState(self, words.size, rows, prices, held, truths, number) for number in range(self.members)
            ]
            nets = list(pool.map(lambda job: job.run(sizes), jobs))
        words.save(run / VOCABULARY)
        tensors = {
            f"{name}.{number}": getattr(net, name) for number, net in enumerate(nets) for name in SparseNet.NAMES
        }
        save_file({**tensors, "log_scale": torch.tensor([prices.mean, prices.spread, prices.top])}, run / MODEL)
        lines = [{**line, "seconds": round(line["seconds"] - started, 2)} for job in jobs for line in job.curve]
        (run / CURVE).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    def load(self, run: Path) -> Pricer:
        """The pricer that a run folder holds."""
        words = Vocabulary.load(run / VOCABULARY)
        tensors = read_tensors(run / MODEL)
        require_log_prices("log_scale" in tensors, run)
        sizes = {"features": words.size, "width": self.width, "hidden": self.hidden}
        shapes = {f"{name}.{number}": SHAPES[name] for number in range(self.members) for name in SparseNet.NAMES}
        check_arrays(run / MODEL, tensors, {**shapes, "log_scale": ("float", 3)}, sizes)
        mean, spread, top = tensors["log_scale"].tolist()
        names = [[f"{name}.{number}" for name in SparseNet.NAMES] for number in range(self.members)]
        nets = [SparseNet(*(tensors[name].float() for name in own)) for own in names]
        return SparseMlpPricer(words, nets, PriceScale(np.zeros(0), mean, spread, top))


def iter_batches(rows: int, settings: SparseMlpRecipe) -> list[int]:
    """The batch of each pass: doubling, fewer passes for many rows, small batches and more passes for few."""
    first = min(settings.batch, max(16, rows // 100))
    sizes = [first << number for number in range(settings.passes)]
    sizes = sizes[-max(2, settings.most_rows // max(rows, 1)) :]
    while sum(math.ceil(rows / size) for size in sizes) < LEAST_STEPS and len(sizes) < LEAST_STEPS:
        sizes.insert(0, first)
    return sizes


@dataclass(slots=True)
class SparseNet:
    """One member. Shapes: table [features, width], inner [hidden, width], outer [hidden]."""

    table: Tensor
    shift: Tensor
    inner: Tensor
    inner_shift: Tensor
    outer: Tensor
    outer_shift: Tensor
    NAMES: ClassVar[tuple[str, ...]] = ("table", "shift", "inner", "inner_shift", "outer", "outer_shift")

    @classmethod
    def new(cls, features: int, width: int, hidden: int, draw: torch.Generator) -> SparseNet:
        def uniform(*shape: int, scale: int) -> Tensor:
            return (torch.rand(*shape, generator=draw) * 2 - 1) / math.sqrt(scale)

        return cls(
            torch.randn(features, width, generator=draw).mul_(0.1),
            torch.zeros(width),
            uniform(hidden, width, scale=width),
            uniform(hidden, scale=width),
            uniform(hidden, scale=hidden),
            torch.zeros(1),
        )

    @property
    def small(self) -> list[Tensor]:
        """All but the table."""
        return [self.shift, self.inner, self.inner_shift, self.outer, self.outer_shift]

    def answer(self, summed: Tensor) -> Tensor:
        """Standardized log prices [rows] from sums of embeddings [rows, width]."""
        inner = F.gelu(F.linear(F.gelu(summed + self.shift), self.inner, self.inner_shift))
        return inner @ self.outer + self.outer_shift


class TrainingState:
    """The training of one member. The plan of its batches is a function of its seed alone."""

    def __init__(
        self,
        settings: SparseMlpRecipe,
        features: int,
        rows: SparseRows,
        prices: PriceScale,
        held: SparseRows,
        truths: Any,
        number: int,
    ) -> None:
        self.settings, self.prices, self.held, self.truths, self.number = settings, prices, held, truths, number
        self.matrix, self.features = rows.csr(features), features
        self.targets = torch.from_numpy(((prices.logs - prices.mean) / prices.spread).astype(np.float32))
        self.money = torch.from_numpy(np.exp(prices.logs - prices.mean).astype(np.float32))
        self.typical = float((self.money - self.money.median()).abs().mean()) or 1.0
        self.curve: list[dict[str, Any]] = []

    def run(self, sizes: Sequence[int]) -> SparseNet:
        """A trained member."""
        seed = self.settings.seed + 1_000_003 * self.number
        plan, draw = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        net = SparseNet.new(self.features, self.settings.width, self.settings.hidden, draw)
        table = EmbeddingTable(net.table)
        for tensor in net.small:
            tensor.requires_grad_()
        adam = Adam(net.small)
        rows, step, steps = self.matrix.shape[0], 0, sum(math.ceil(self.matrix.shape[0] / size) for size in sizes)
        for number, size in enumerate(sizes):
            order, total = plan.permutation(rows), 0.0
            for start in range(0, rows, size):
                batch = order[start : start + size]
                total += self.step(net, table, adam, batch, step, 1 - step / steps) * len(batch)
                step += 1
            self.record(net, number, size, total / rows)
        for tensor in net.small:
            tensor.requires_grad_(False)
        net.table = net.table.half()  # half the memory and half the folder, the same quotes to 0.02 %
        return net

    def step(self, net: SparseNet, table: EmbeddingTable, adam: Adam, batch: I64, step: int, share: float) -> float:
        """One step on the rows `batch` at `share` of the learning rates; the loss before it."""
        taken = table.take(self.matrix[batch])
        sums = taken.sums.requires_grad_()
        loss = self.loss(net.answer(sums), torch.from_numpy(batch))
        slope, *slopes = torch.autograd.grad(loss, [sums, *net.small])
        adam.step(slopes, self.settings.rate * share)
        table.descend(taken, slope, step, self.settings.table_rate * share)
        return float(loss.detach())

    def loss(self, answers: Tensor, batch: Tensor) -> Tensor:
        """Mean absolute error, in logs and in money, each in units of what a constant quote errs by."""
        logs = (answers - self.targets[batch]).abs()
        quotes = torch.exp((answers * self.prices.spread).clamp(max=self.prices.top - self.prices.mean + 0.1))
        money = (quotes - self.money[batch]).abs() / self.typical
        return ((1 - self.settings.money) * logs + self.settings.money * money).mean()

    def record(self, net: SparseNet, number: int, size: int, loss: float) -> None:
        """One line of the training curve: loss on the rows, error on the tune half."""
        line = {"member": self.number, "pass": number + 1, "batch": size, "loss": round(loss, 5)}
        if len(self.truths):
            with torch.no_grad():
                logs = net.answer(sum_rows(self.held.places, self.held.weights, self.held.starts, net.table)).numpy()
            quotes = np.exp(logs * self.prices.spread + self.prices.mean)
            line["tune_error"] = float(f"{np.abs(quotes - self.truths).mean():.6g}")
        self.curve.append({**line, "seconds": time.perf_counter()})


class SparseMlpPricer:
    """Quotes exp(mean of the members' logs)."""

    def __init__(self, words: Vocabulary, nets: Sequence[SparseNet], prices: PriceScale) -> None:
        self.words, self.nets, self.prices = words, nets, prices

    @property
    def name(self) -> str:
        return "sparse_mlp"

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        """One quote a listing; one without a known feature gets what the networks say to nothing."""
        if not listings:
            return []
        parts = list(chunks(listings))
        with single_threaded, ThreadPoolExecutor(N_CORES) as pool:
            logs = np.concatenate(list(pool.map(self.logs, parts)) if len(parts) > 1 else [self.logs(listings)])
        return [Quote(price) for price in np.exp(np.clip(logs, -LARGEST_LOG, LARGEST_LOG)).tolist()]

    def logs(self, listings: Sequence[Listing]) -> NDArray[np.float64]:
        """Logs of the quotes of a few listings."""
        rows = self.words.rows(hash_to_buckets(listings))
        with torch.no_grad():
            sums = (sum_rows(rows.places, rows.weights, rows.starts, net.table) for net in self.nets)
            answers = torch.stack([net.answer(one) for net, one in zip(self.nets, sums, strict=True)])
        return np.asarray(answers.double().mean(0).numpy() * self.prices.spread + self.prices.mean)
