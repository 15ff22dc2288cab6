"""A network that reads a listing, looks at similar ones with their prices, and chooses which of them to believe.

    sum of embedding[feature] x weight -> key; attention over the keys of k neighbors -> their prices, and what each
    price becomes for the difference of the keys -> with the sum and the columns of `Nearest` through a hidden layer

Attention over retrieved rows whose value is the neighbor's label and the difference of the keys is TabR's (Gorishniy
et al. 2023); the table of embeddings is trained as the sparse MLP's. The keys of all rows are worked out again every
`EVERY` steps, without a gradient. A row's neighbors never hold its own group, in training as in use.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pricesmith.pricers.features.hashing import F32
from pricesmith.pricers.features.knn import Neighbors
from pricesmith.pricers.features.tokenizer import I64
from pricesmith.pricers.sparse_optim import Adam, EmbeddingTable, PriceScale, sum_rows

EVERY = 15  # steps between two readings of all keys
NOWHERE = -1e4  # the logit of a neighbor that is not there
CHUNK = 4096
F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class AttentionConfig:
    """Sizes of a network: features of its table, their embeddings, its hidden layer, its keys, columns beside."""

    features: int
    width: int
    hidden: int
    keys: int
    columns: int


@dataclass(frozen=True, slots=True)
class AttentionBatch:
    """What a network sees of n listings: sparse rows, their neighbors, and standardized columns [n, columns]."""

    matrix: Any
    found: Neighbors
    columns: F32

    def rows(self, chosen: Any) -> AttentionBatch:
        """Some of the listings."""
        return AttentionBatch(self.matrix[chosen], self.found.rows(chosen), self.columns[chosen])


class AttentionNet:
    """One network; `parts` are its small tensors by name, `table` its embeddings [features, width]."""

    def __init__(self, table: Tensor, parts: Mapping[str, Tensor]) -> None:
        self.table, self.parts = table, dict(parts)

    @classmethod
    def new(cls, shape: AttentionConfig, draw: torch.Generator) -> AttentionNet:
        """A network as training starts from it."""

        def uniform(*size: int, scale: int) -> Tensor:
            return (torch.rand(*size, generator=draw) * 2 - 1) / math.sqrt(scale)

        width, hidden, keys = shape.width, shape.hidden, shape.keys
        table = torch.randn(shape.features, width, generator=draw).mul_(0.1)
        parts = {
            "shift": torch.zeros(width),
            "key": uniform(keys, width, scale=width),
            "sharpness": torch.tensor([4.0]),
            "distance": torch.tensor([1.0]),
            "nobody": torch.zeros(1),
            "value": uniform(keys, scale=4),
            "difference": uniform(keys, keys, scale=keys),
            "value_shift": torch.zeros(keys),
            "inner": uniform(hidden, width + keys + 3 + shape.columns, scale=width),
            "inner_shift": uniform(hidden, scale=width),
            "outer": uniform(hidden, scale=hidden),
            "outer_shift": torch.zeros(1),
            "skip": torch.tensor([0.5]),
        }
        return cls(table, parts)

    def answer(self, sums: Tensor, found: Neighbors, keys: Tensor, labels: Tensor, columns: Tensor) -> Tensor:
        """Standardized log prices [rows], from sums of embeddings [rows, width], neighbors, and the keys and labels of
        all rows that can be neighbors."""
        parts = self.parts
        places = torch.from_numpy(found.places)
        there, names = places >= 0, places.clamp(min=0)
        apart = F.linear(sums, parts["key"])[:, None] - keys[names]
        near = torch.from_numpy(found.cosines).to(sums.dtype) * parts["sharpness"]
        near = near - 4 * parts["distance"].abs() * (apart**2).mean(-1)
        logits = torch.cat([near.masked_fill(~there, NOWHERE), parts["nobody"].expand(len(sums), 1)], 1)
        share, known = torch.softmax(logits, 1)[:, :-1], labels[names]
        value = known[..., None] * parts["value"] + F.linear(apart, parts["difference"], parts["value_shift"])
        told = (share[..., None] * F.gelu(value)).sum(1)
        mean, square = (share * known).sum(1), (share * known * known).sum(1)
        beside = torch.stack([mean, square, share.sum(1)], 1)
        all_of_it = torch.cat([F.gelu(sums + parts["shift"]), told, beside, columns], 1)
        inner = F.gelu(F.linear(all_of_it, parts["inner"], parts["inner_shift"]))
        return inner @ parts["outer"] + parts["outer_shift"] + parts["skip"] * mean

    def keys(self, matrix: Any) -> Tensor:
        """The keys of sparse rows [rows, keys]."""
        return F.linear(segment_sums(matrix, self.table), self.parts["key"])


def segment_sums(matrix: Any, table: Tensor) -> Tensor:
    """Each row's sum of embeddings."""
    return sum_rows(matrix.indices, matrix.data, matrix.indptr, table)


@dataclass(frozen=True, slots=True)
class TrainingData:
    """How a network is trained: its shape, the batch of each pass, rates, the share of money in the loss, its seed."""

    shape: AttentionConfig
    sizes: Sequence[int]
    rate: float
    table_rate: float
    money: float
    seed: int


def train_network(lesson: TrainingData, seen: AttentionBatch, prices: PriceScale, chosen: I64) -> AttentionNet:
    """A network trained on the rows `chosen` of all that can be neighbors; a function of the lesson's seed alone."""
    plan, draw = np.random.default_rng(lesson.seed), torch.Generator().manual_seed(lesson.seed)
    net = AttentionNet.new(lesson.shape, draw)
    table, small = EmbeddingTable(net.table), list(net.parts.values())
    for tensor in small:
        tensor.requires_grad_()
    adam, judge = Adam(small), Validator(prices, lesson.money, chosen)
    columns = torch.from_numpy(seen.columns)
    step, steps = 0, sum(math.ceil(len(chosen) / size) for size in lesson.sizes)
    for size in lesson.sizes:
        order = chosen[plan.permutation(len(chosen))]
        for start in range(0, len(order), size):
            if step % EVERY == 0:
                with torch.no_grad():
                    memory = segment_sums(seen.matrix, net.table)
            batch = order[start : start + size]
            taken, share = table.take(seen.matrix[batch]), 1 - step / steps
            sums = taken.sums.requires_grad_()
            found = seen.found.rows(batch)
            keys = NeighborKeys(memory, net.parts["key"], found)
            answers = net.answer(sums, keys.found, keys.rows, judge.targets[keys.names], columns[batch])
            slope, *slopes = torch.autograd.grad(judge.loss(answers, torch.from_numpy(batch)), [sums, *small])
            adam.step(slopes, lesson.rate * share)
            table.descend(taken, slope, step, lesson.table_rate * share)
            step += 1
    for tensor in small:
        tensor.requires_grad_(False)
    net.table = net.table.half().float()  # as it will be on disk
    return net


class NeighborKeys:
    """The keys of the rows that a batch has for neighbors, `rows` [names, keys], and the neighbors by place there."""

    def __init__(self, memory: Tensor, key: Tensor, found: Neighbors) -> None:
        used, places = np.unique(found.places, return_inverse=True)
        self.names = torch.from_numpy(np.maximum(used, 0))
        self.rows = F.linear(memory[self.names], key)
        self.found = Neighbors(np.where(found.places < 0, -1, places.reshape(found.places.shape)), found.cosines)


class Validator:
    """The loss: mean absolute error, in logs and in money, each in units of what a constant quote errs by on
    the rows `chosen`."""

    def __init__(self, prices: PriceScale, money: float, chosen: I64) -> None:
        self.prices, self.share = prices, money
        self.targets = torch.from_numpy(((prices.logs - prices.mean) / prices.spread).astype(np.float32))
        self.money = torch.from_numpy(np.exp(prices.logs - prices.mean).astype(np.float32))
        learnt = self.money[torch.from_numpy(chosen)]
        self.typical = float((learnt - learnt.median()).abs().mean()) or 1.0

    def loss(self, answers: Tensor, batch: Tensor) -> Tensor:
        """Of the answers to the rows `batch`."""
        logs = (answers - self.targets[batch]).abs()
        quotes = torch.exp((answers * self.prices.spread).clamp(max=self.prices.top - self.prices.mean + 0.1))
        money = (quotes - self.money[batch]).abs() / self.typical
        return ((1 - self.share) * logs + self.share * money).mean()


class FeatureReader:
    """A trained network with the keys and labels of its neighbors. It computes in double precision, so that a listing
    has the same answer in any batch to more digits than a tree's cut can tell."""

    def __init__(self, net: AttentionNet, keys: Tensor, labels: F64) -> None:
        self.net = AttentionNet(net.table, {name: part.double() for name, part in net.parts.items()})
        self.table, self.memory, self.labels = net.table, keys.double(), torch.from_numpy(labels)

    def answers(self, seen: AttentionBatch) -> F64:
        """Standardized log prices [n]."""
        told = []
        for start in range(0, seen.matrix.shape[0], CHUNK):
            part = seen.rows(slice(start, start + CHUNK))
            with torch.no_grad():
                sums, columns = segment_sums(part.matrix, self.table).double(), torch.from_numpy(part.columns).double()
                told.append(self.net.answer(sums, part.found, self.memory, self.labels, columns).numpy())
        return np.concatenate(told) if told else np.zeros(0)
