"""Training of networks that begin with an embedding table, of which a batch uses a few rows.

    batch = table.look_up(matrix[rows])             # the embedding rows that the batch uses, and its sums
    table.update(batch, gradient, step, rate)       # RMSprop on these rows alone

A step reads and writes only the embedding rows of its batch, so that its cost depends on the batch and not on the size
of the vocabulary. Only training needs this module and torch: fitted networks price with numpy (`sparse_mlp.py`).
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pricesmith.pricers.features.hashing import F32, I32, SparseRows
from pricesmith.pricers.training import PriceScale, TrainingPoint
from pricesmith.text.code_points import I64

BLOCK = 4096  # embedding rows updated at once, so that they stay in the cache
DECAY = 0.9999  # of the running mean of squared gradients

with warnings.catch_warnings():  # torch warns once in a process that CSR is in beta; this first tensor uses it up
    warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
    torch.sparse_csr_tensor(torch.zeros(2, dtype=torch.int64), [], [], (1, 1), check_invariants=False)


def sum_embeddings(indices: I32, weights: F32, starts: NDArray[Any], table: Tensor) -> Tensor:
    """The weighted sum of embedding rows for each sparse row, [rows, embedding_dim]."""
    rows, offsets = (
        torch.from_numpy(indices.astype(np.int32, copy=False)),
        torch.from_numpy(starts[:-1].astype(np.int32)),
    )
    return F.embedding_bag(rows, table, offsets, mode="sum", per_sample_weights=torch.from_numpy(weights))


def embedding_gradient(matrix: Any, gradient: Tensor) -> Tensor:
    """Gradient of the loss with respect to each embedding row, from the gradient with respect to the sums."""
    transposed = matrix.T.tocsr()
    ends, columns, values = (
        torch.from_numpy(part) for part in (transposed.indptr, transposed.indices, transposed.data)
    )
    return torch.sparse_csr_tensor(ends, columns, values, transposed.shape, check_invariants=False) @ gradient


class Adam:
    """Adam (Kingma and Ba 2014) for a few small tensors: the first step of torch.optim imports for 3 seconds."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors, self.steps = tensors, 0
        self.moments = [(torch.zeros_like(tensor), torch.zeros_like(tensor)) for tensor in tensors]

    def step(self, gradients: Sequence[Tensor], learning_rate: float) -> None:
        """Update the tensors in place."""
        self.steps += 1
        with torch.no_grad():
            for tensor, gradient, (first, second) in zip(self.tensors, gradients, self.moments, strict=True):
                first.lerp_(gradient, 0.1)
                second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
                divisor = (second / (1 - 0.999**self.steps)).sqrt_().add_(1e-8)
                tensor.addcdiv_(first, divisor, value=-learning_rate / (1 - 0.9**self.steps))


@dataclass(frozen=True, slots=True)
class EmbeddingLookup:
    """The embedding rows of a batch.

    `matrix` holds the sparse rows of the batch, `positions` the position among `used` of each of its entries, `rows`
    [used, embedding_dim] the embeddings, `sums` [batch, embedding_dim] their weighted sums.
    """

    matrix: Any
    positions: I32
    used: Tensor
    rows: Tensor
    sums: Tensor


class EmbeddingTable:
    """An embedding table in training, [features, embedding_dim], with the running mean of squared gradients.

    A step of RMSprop with bias correction touches only the rows that its batch uses.
    """

    def __init__(self, rows: Tensor) -> None:
        self.rows, self.squares = rows, torch.zeros_like(rows)
        self.position = np.zeros(len(rows), dtype=np.int32)

    def look_up(self, matrix: Any) -> EmbeddingLookup:
        """The embedding rows that a sparse matrix uses, and its sums."""
        ordered = np.sort(matrix.indices)
        used = ordered[np.diff(ordered, prepend=-1) != 0]
        self.position[used] = np.arange(len(used), dtype=np.int32)
        positions = self.position[matrix.indices]
        rows = self.rows.index_select(0, torch.from_numpy(used))
        sums = sum_embeddings(positions, matrix.data, matrix.indptr, rows)
        return EmbeddingLookup(matrix, positions, torch.from_numpy(used).long(), rows, sums)

    def update(self, batch: EmbeddingLookup, gradient: Tensor, step: int, learning_rate: float) -> None:
        """Update the embedding rows of a batch, given the gradient with respect to its sums."""
        from scipy.sparse import csr_matrix

        if not len(batch.used):
            return
        shape = (batch.matrix.shape[0], len(batch.used))
        matrix = csr_matrix((batch.matrix.data, batch.positions, batch.matrix.indptr), shape)
        gradients = embedding_gradient(matrix, gradient)
        correction = 1 - DECAY ** (step + 1)
        for start in range(0, len(batch.used), BLOCK):
            used, block = batch.used[start : start + BLOCK], gradients[start : start + BLOCK]
            squares = self.squares.index_select(0, used).mul_(DECAY).addcmul_(block, block, value=1 - DECAY)
            self.squares.index_copy_(0, used, squares)
            divisor = squares.div_(correction).sqrt_().add_(1e-8)
            rows = batch.rows[start : start + BLOCK].addcdiv_(block, divisor, value=-learning_rate)
            self.rows.index_copy_(0, used, rows)


class PriceLoss:
    """Mean absolute error in log price and in money, each in units of the error of a constant quote on `rows`; with
    `weights`, each row counts with its weight."""

    def __init__(
        self,
        prices: PriceScale,
        dollar_loss_weight: float,
        rows: I64 | None = None,
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        self.prices, self.weight = prices, dollar_loss_weight
        self.row_weights = None if weights is None else torch.from_numpy(weights.astype(np.float32))
        self.targets = torch.from_numpy(((prices.logs - prices.mean) / prices.spread).astype(np.float32))
        self.money = torch.from_numpy(np.exp(prices.logs - prices.mean).astype(np.float32))
        money = self.money if rows is None else self.money[torch.from_numpy(rows)]
        self.constant_error = float((money - money.median()).abs().mean()) or 1.0

    def __call__(self, outputs: Tensor, rows: Tensor) -> Tensor:
        """The loss of standardized log prices [n] for the training rows with the indices `rows` [n]."""
        logs = (outputs - self.targets[rows]).abs()
        quotes = torch.exp((outputs * self.prices.spread).clamp(max=self.prices.top - self.prices.mean + 0.1))
        money = (quotes - self.money[rows]).abs() / self.constant_error
        losses = (1 - self.weight) * logs + self.weight * money
        return (losses if self.row_weights is None else losses * self.row_weights[rows]).mean()


@dataclass(slots=True)
class TrainableNet:
    """One network of the sparse MLP, with the tensors of `sparse_mlp.SparseNet`."""

    embedding: Tensor
    embedding_bias: Tensor
    hidden_weight: Tensor
    hidden_bias: Tensor
    output_weight: Tensor
    output_bias: Tensor
    NAMES: ClassVar[tuple[str, ...]] = (
        "embedding", "embedding_bias", "hidden_weight", "hidden_bias", "output_weight", "output_bias",
    )  # fmt: skip

    @classmethod
    def new(cls, features: int, embedding_dim: int, hidden_dim: int, generator: torch.Generator) -> TrainableNet:
        """A network with initial weights."""

        def uniform(*shape: int, scale: int) -> Tensor:
            return (torch.rand(*shape, generator=generator) * 2 - 1) / math.sqrt(scale)

        return cls(
            torch.randn(features, embedding_dim, generator=generator).mul_(0.1),
            torch.zeros(embedding_dim),
            uniform(hidden_dim, embedding_dim, scale=embedding_dim),
            uniform(hidden_dim, scale=embedding_dim),
            uniform(hidden_dim, scale=hidden_dim),
            torch.zeros(1),
        )

    @property
    def dense(self) -> list[Tensor]:
        """All tensors but the embedding table."""
        return [self.embedding_bias, self.hidden_weight, self.hidden_bias, self.output_weight, self.output_bias]

    def forward(self, sums: Tensor) -> Tensor:
        """Standardized log prices [rows] from sums of embeddings [rows, embedding_dim]."""
        hidden = F.gelu(F.linear(F.gelu(sums + self.embedding_bias), self.hidden_weight, self.hidden_bias))
        return hidden @ self.output_weight + self.output_bias


@dataclass(frozen=True, slots=True)
class NetSettings:
    """The settings of the recipe that training one network needs."""

    embedding_dim: int
    hidden_dim: int
    learning_rate: float
    embedding_learning_rate: float
    dollar_loss_weight: float


@dataclass(frozen=True, slots=True)
class ValidationRows:
    """Validation listings as sparse rows, and their prices [n]; they draw the training curve and nothing else."""

    rows: SparseRows
    prices: NDArray[np.float64]


class NetTrainer:
    """Training of one network on sparse rows. The order of its batches depends on its seed alone."""

    def __init__(
        self,
        settings: NetSettings,
        matrix: Any,
        prices: PriceScale,
        validation: ValidationRows,
        number: int,
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        self.settings, self.matrix, self.prices, self.validation = settings, matrix, prices, validation
        self.number, self.loss = number, PriceLoss(prices, settings.dollar_loss_weight, weights=weights)
        self.curve: list[TrainingPoint] = []

    def run(self, batch_sizes: Sequence[int], seed: int) -> TrainableNet:
        """A trained network; each epoch has its batch size."""
        started = time.perf_counter()
        shuffle, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        settings, (rows, features) = self.settings, self.matrix.shape
        net = TrainableNet.new(features, settings.embedding_dim, settings.hidden_dim, generator)
        table = EmbeddingTable(net.embedding)
        for tensor in net.dense:
            tensor.requires_grad_()
        adam = Adam(net.dense)
        step, steps = 0, sum(math.ceil(rows / size) for size in batch_sizes)
        for epoch, size in enumerate(batch_sizes, 1):
            order, total = shuffle.permutation(rows), 0.0
            for start in range(0, rows, size):
                batch = order[start : start + size]
                total += self.train_step(net, table, adam, batch, step, 1 - step / steps) * len(batch)
                step += 1
            self.curve.append(
                TrainingPoint(
                    series=f"network {self.number + 1}",
                    epoch=epoch,
                    train_loss=round(total / rows, 5),
                    validation_mae=self.validation_mae(net),
                    seconds=round(time.perf_counter() - started, 2),
                )
            )
        for tensor in net.dense:
            tensor.requires_grad_(False)
        net.embedding = net.embedding.half()  # half the memory and half the folder, the same quotes to 0.02 %
        return net

    def train_step(
        self, net: TrainableNet, table: EmbeddingTable, adam: Adam, rows: I64, step: int, decay: float
    ) -> float:
        """One step on the rows `rows` at `decay` times the learning rates; returns the loss before it."""
        batch = table.look_up(self.matrix[rows])
        sums = batch.sums.requires_grad_()
        loss = self.loss(net.forward(sums), torch.from_numpy(rows))
        gradient, *gradients = torch.autograd.grad(loss, [sums, *net.dense])
        adam.step(gradients, self.settings.learning_rate * decay)
        table.update(batch, gradient, step, self.settings.embedding_learning_rate * decay)
        return float(loss.detach())

    def validation_mae(self, net: TrainableNet) -> float | None:
        """The MAE in money on the validation rows; None without any."""
        rows = self.validation.rows
        if not len(self.validation.prices):
            return None
        with torch.no_grad():
            logs = net.forward(sum_embeddings(rows.indices, rows.weights, rows.starts, net.embedding)).numpy()
        quotes = np.exp(logs * self.prices.spread + self.prices.mean)
        return float(f"{np.abs(quotes - self.validation.prices).mean():.6g}")
