"""The sparse MLP: every feature of a listing is a row of one table, their weighted sum goes through a small network.

    sum of embedding[feature] x weight -> GELU -> hidden layer -> GELU -> log1p price, standardised

A step reads and writes only the rows of the table that its batch names, with a running mean of squared gradients for
each number in them (RMSprop on what was touched): it costs what the batch holds and not what the vocabulary holds.
The batch doubles every pass. Members that differ in their seed alone are trained one to a core, and their log quotes
averaged. Short training, doubling batches and a model for each core come from the winners of Mercari (Kaggle 2018).
"""

from __future__ import annotations

import json
import math
import time
import warnings
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
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from pricesmith.pricers.features.bags import F32, chunks
from pricesmith.pricers.features.buffer import I64
from pricesmith.pricers.features.cores import CORES, one_thread_each
from pricesmith.pricers.features.vocabulary import I32, Rows, Vocabulary, as_buckets, gather
from pricesmith.settings import Settings
from pricesmith.types import Item, Listing, Pricer, Quote

MODEL = "sparse_mlp.safetensors"
VOCABULARY = "vocabulary.npz"
CURVE = "training.jsonl"
BLOCK = 4096  # rows of the table updated at once, so that they stay in the cache
DECAY = 0.9999  # of the running mean of squared gradients
LEAST_STEPS = 150

with warnings.catch_warnings():  # torch says once in a process that CSR is in beta; the first tensor says it to nobody
    warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
    torch.sparse_csr_tensor(torch.zeros(2, dtype=torch.int64), [], [], (1, 1), check_invariants=False)


class SparseMlp(Settings):
    """Settings of the sparse MLP."""

    kind: ClassVar[str] = "sparse_mlp"
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
        raw = gather([item.listing for item in train])
        words = Vocabulary.of(raw, self.min_count, self.most_features)
        rows, held = words.rows(raw), words.rows(gather([item.listing for item in validation]))
        del raw
        prices = Prices.of([item.price for item in train])
        truths = np.array([item.price for item in validation])
        sizes = batches(len(train), self)
        with one_thread_each, ThreadPoolExecutor(CORES) as pool:
            jobs = [Training(self, words.size, rows, prices, held, truths, number) for number in range(self.members)]
            nets = list(pool.map(lambda job: job.run(sizes), jobs))
        words.save(run / VOCABULARY)
        tensors = {f"{name}.{number}": getattr(net, name) for number, net in enumerate(nets) for name in Net.NAMES}
        save_file({**tensors, "scale": torch.tensor([prices.mean, prices.spread, prices.top])}, run / MODEL)
        lines = [{**line, "seconds": round(line["seconds"] - started, 2)} for job in jobs for line in job.curve]
        (run / CURVE).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    def load(self, run: Path) -> Pricer:
        """The pricer that a run folder holds."""
        with safe_open(run / MODEL, framework="pt") as tensors:
            mean, spread, top = tensors.get_tensor("scale").tolist()
            names = [[f"{name}.{number}" for name in Net.NAMES] for number in range(self.members)]
            nets = [Net(*(tensors.get_tensor(name).float() for name in own)) for own in names]
        return SparseMlpPricer(Vocabulary.load(run / VOCABULARY), nets, Prices(np.zeros(0), mean, spread, top))


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices as the network sees them: log1p, less its mean, through its spread; `top` is the highest log1p."""

    logs: NDArray[np.float64]
    mean: float
    spread: float
    top: float

    @classmethod
    def of(cls, prices: Sequence[float]) -> Prices:
        logs = np.log1p(np.array(prices))
        return cls(logs, float(logs.mean()), float(logs.std()) or 1.0, float(logs.max()))


def batches(rows: int, settings: SparseMlp) -> list[int]:
    """The batch of each pass: doubling, fewer passes for many rows, small batches and more passes for few."""
    first = min(settings.batch, max(16, rows // 100))
    sizes = [first << number for number in range(settings.passes)]
    sizes = sizes[-max(2, settings.most_rows // max(rows, 1)) :]
    while sum(math.ceil(rows / size) for size in sizes) < LEAST_STEPS and len(sizes) < LEAST_STEPS:
        sizes.insert(0, first)
    return sizes


@dataclass(slots=True)
class Net:
    """One member. Shapes: table [features, width], inner [hidden, width], outer [hidden]."""

    table: Tensor
    shift: Tensor
    inner: Tensor
    inner_shift: Tensor
    outer: Tensor
    outer_shift: Tensor
    NAMES: ClassVar[tuple[str, ...]] = ("table", "shift", "inner", "inner_shift", "outer", "outer_shift")

    @classmethod
    def new(cls, features: int, width: int, hidden: int, draw: torch.Generator) -> Net:
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
        """Standardised log prices [rows] from sums of embeddings [rows, width]."""
        inner = F.gelu(F.linear(F.gelu(summed + self.shift), self.inner, self.inner_shift))
        return inner @ self.outer + self.outer_shift


def summed(places: I32, weights: F32, starts: NDArray[Any], table: Tensor) -> Tensor:
    """The weighted sum of the table's rows that each row names: [rows, width]."""
    names, cuts = torch.from_numpy(places.astype(np.int32, copy=False)), torch.from_numpy(starts[:-1].astype(np.int32))
    return F.embedding_bag(names, table, cuts, mode="sum", per_sample_weights=torch.from_numpy(weights))


def spread(matrix: Any, slope: Tensor) -> Tensor:
    """The transposed matrix times `slope`: what each row of the table is to be blamed for."""
    turned = matrix.T.tocsr()
    ends, places, values = (torch.from_numpy(part) for part in (turned.indptr, turned.indices, turned.data))
    return torch.sparse_csr_tensor(ends, places, values, turned.shape, check_invariants=False) @ slope


class Adam:
    """Adam (Kingma and Ba 2014) for a few small tensors: the first step of torch.optim imports for 3 seconds."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors, self.steps = tensors, 0
        self.moments = [(torch.zeros_like(one), torch.zeros_like(one)) for one in tensors]

    def step(self, slopes: Sequence[Tensor], rate: float) -> None:
        """One step against the slopes."""
        self.steps += 1
        with torch.no_grad():
            for tensor, slope, (first, second) in zip(self.tensors, slopes, self.moments, strict=True):
                first.lerp_(slope, 0.1)
                second.mul_(0.999).addcmul_(slope, slope, value=0.001)
                divisor = (second / (1 - 0.999**self.steps)).sqrt_().add_(1e-8)
                tensor.addcdiv_(first, divisor, value=-rate / (1 - 0.9**self.steps))


class Training:
    """The training of one member. The plan of its batches is a function of its seed alone."""

    def __init__(
        self, settings: SparseMlp, features: int, rows: Rows, prices: Prices, held: Rows, truths: Any, number: int
    ) -> None:
        self.settings, self.prices, self.held, self.truths, self.number = settings, prices, held, truths, number
        self.matrix, self.features = rows.csr(features), features
        self.targets = torch.from_numpy(((prices.logs - prices.mean) / prices.spread).astype(np.float32))
        self.money = torch.from_numpy(np.expm1(prices.logs).astype(np.float32))
        self.typical = float((self.money - self.money.median()).abs().mean()) or 1.0
        self.curve: list[dict[str, Any]] = []

    def run(self, sizes: Sequence[int]) -> Net:
        """A trained member."""
        seed = self.settings.seed + 1_000_003 * self.number
        plan, draw = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        net = Net.new(self.features, self.settings.width, self.settings.hidden, draw)
        self.squares = torch.zeros_like(net.table)
        self.place = np.zeros(self.features, dtype=np.int32)
        for tensor in net.small:
            tensor.requires_grad_()
        adam = Adam(net.small)
        rows, step, steps = self.matrix.shape[0], 0, sum(math.ceil(self.matrix.shape[0] / size) for size in sizes)
        for number, size in enumerate(sizes):
            order, total = plan.permutation(rows), 0.0
            for start in range(0, rows, size):
                batch = order[start : start + size]
                total += self.step(net, adam, batch, step, 1 - step / steps) * len(batch)
                step += 1
            self.record(net, number, size, total / rows)
        for tensor in net.small:
            tensor.requires_grad_(False)
        del self.squares, self.place
        net.table = net.table.half()  # half the memory and half the folder, the same quotes to 0.02 %
        return net

    def step(self, net: Net, adam: Adam, batch: I64, step: int, share: float) -> float:
        """One step on the rows `batch` at `share` of the learning rates; the loss before it."""
        from scipy.sparse import csr_matrix

        part = self.matrix[batch]
        ordered = np.sort(part.indices)
        used = ordered[np.diff(ordered, prepend=-1) != 0]
        self.place[used] = np.arange(len(used), dtype=np.int32)
        places = self.place[part.indices]
        names = torch.from_numpy(used)
        table = net.table.index_select(0, names)
        sums = summed(places, part.data, part.indptr, table).requires_grad_()
        loss = self.loss(net.answer(sums), torch.from_numpy(batch))
        slope, *slopes = torch.autograd.grad(loss, [sums, *net.small])
        adam.step(slopes, self.settings.rate * share)
        if len(used):
            local = csr_matrix((part.data, places, part.indptr), (len(batch), len(used)))
            self.update(net.table, table, names.long(), spread(local, slope), step, share)
        return float(loss.detach())

    def loss(self, answers: Tensor, batch: Tensor) -> Tensor:
        """Mean absolute error, in logs and in money, each in units of what a constant quote errs by."""
        logs = (answers - self.targets[batch]).abs()
        quotes = torch.expm1((answers * self.prices.spread + self.prices.mean).clamp(max=self.prices.top + 0.1))
        money = (quotes - self.money[batch]).abs() / self.typical
        return ((1 - self.settings.money) * logs + self.settings.money * money).mean()

    def update(self, table: Tensor, rows: Tensor, used: Tensor, slope: Tensor, step: int, share: float) -> None:
        """RMSprop with bias correction, on the rows that the batch has used."""
        correction = 1 - DECAY ** (step + 1)
        for start in range(0, len(used), BLOCK):
            here, grad = used[start : start + BLOCK], slope[start : start + BLOCK]
            squares = self.squares.index_select(0, here).mul_(DECAY).addcmul_(grad, grad, value=1 - DECAY)
            self.squares.index_copy_(0, here, squares)
            divisor = squares.div_(correction).sqrt_().add_(1e-8)
            moved = rows[start : start + BLOCK].addcdiv_(grad, divisor, value=-self.settings.table_rate * share)
            table.index_copy_(0, here, moved)

    def record(self, net: Net, number: int, size: int, loss: float) -> None:
        """One line of the training curve: loss on the rows, error on the tune half."""
        line = {"member": self.number, "pass": number + 1, "batch": size, "loss": round(loss, 5)}
        if len(self.truths):
            with torch.no_grad():
                logs = net.answer(summed(self.held.places, self.held.weights, self.held.starts, net.table)).numpy()
            quotes = np.expm1(logs * self.prices.spread + self.prices.mean)
            line["tune_error"] = round(float(np.abs(quotes - self.truths).mean()), 4)
        self.curve.append({**line, "seconds": time.perf_counter()})


class SparseMlpPricer:
    """Quotes exp(mean of the members' logs) - 1."""

    def __init__(self, words: Vocabulary, nets: Sequence[Net], prices: Prices) -> None:
        self.words, self.nets, self.prices = words, nets, prices

    @property
    def name(self) -> str:
        return "sparse_mlp"

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        """One quote a listing; one without a known feature gets what the networks say to nothing."""
        if not listings:
            return []
        parts = list(chunks(listings))
        with one_thread_each, ThreadPoolExecutor(CORES) as pool:
            logs = np.concatenate(list(pool.map(self.logs, parts)) if len(parts) > 1 else [self.logs(listings)])
        return [Quote(price) for price in np.expm1(np.clip(logs, -50, 50)).tolist()]

    def logs(self, listings: Sequence[Listing]) -> NDArray[np.float64]:
        """log1p of the quotes of a few listings."""
        rows = self.words.rows(as_buckets(listings))
        with torch.no_grad():
            sums = (summed(rows.places, rows.weights, rows.starts, net.table) for net in self.nets)
            answers = torch.stack([net.answer(one) for net, one in zip(self.nets, sums, strict=True)])
        return np.asarray(answers.double().mean(0).numpy() * self.prices.spread + self.prices.mean)
