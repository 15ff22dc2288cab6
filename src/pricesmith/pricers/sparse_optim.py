"""Steps of networks that begin with a table of embeddings, of which a batch names a few rows.

    sums = summed(places, weights, starts, table)       # [rows, width]: each row's weighted sum of the table's rows
    descend(table, squares, used, slope, step, rate)    # the rows that the batch has used, moved against the slope

A step reads and writes only the rows of the table that its batch names: it costs what the batch holds and not what the
vocabulary holds.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pricesmith.pricers.features.hashing import F32
from pricesmith.pricers.features.vocabulary import I32

BLOCK = 4096  # rows of the table updated at once, so that they stay in the cache
DECAY = 0.9999  # of the running mean of squared gradients

with warnings.catch_warnings():  # torch says once in a process that CSR is in beta; the first tensor says it to nobody
    warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
    torch.sparse_csr_tensor(torch.zeros(2, dtype=torch.int64), [], [], (1, 1), check_invariants=False)


@dataclass(frozen=True, slots=True)
class PriceScale:
    """Prices as a network sees them: logs, less their mean, divided by their spread; `top` is the highest log."""

    logs: NDArray[np.float64]
    mean: float
    spread: float
    top: float

    @classmethod
    def of(cls, prices: Sequence[float]) -> PriceScale:
        logs = np.log(np.array(prices))
        return cls(logs, float(logs.mean()), float(logs.std()) or 1.0, float(logs.max()))


def sum_rows(places: I32, weights: F32, starts: NDArray[Any], table: Tensor) -> Tensor:
    """The weighted sum of the table's rows that each row names: [rows, width]."""
    names, cuts = torch.from_numpy(places.astype(np.int32, copy=False)), torch.from_numpy(starts[:-1].astype(np.int32))
    return F.embedding_bag(names, table, cuts, mode="sum", per_sample_weights=torch.from_numpy(weights))


def spread_gradient(matrix: Any, slope: Tensor) -> Tensor:
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


class EmbeddingTable:
    """A table of embeddings in training, [features, width], and the running mean of each number's squared gradient.

    A step of RMSprop with bias correction touches the rows that its batch has used.
    """

    def __init__(self, rows: Tensor) -> None:
        self.rows, self.squares = rows, torch.zeros_like(rows)
        self.place = np.zeros(len(rows), dtype=np.int32)

    def take(self, part: Any) -> TakenRows:
        """The rows that a sparse matrix of a batch names, and its sums."""
        ordered = np.sort(part.indices)
        used = ordered[np.diff(ordered, prepend=-1) != 0]
        self.place[used] = np.arange(len(used), dtype=np.int32)
        places = self.place[part.indices]
        rows = self.rows.index_select(0, torch.from_numpy(used))
        return TakenRows(
            part, places, torch.from_numpy(used).long(), rows, sum_rows(places, part.data, part.indptr, rows)
        )

    def descend(self, taken: TakenRows, slope: Tensor, step: int, rate: float) -> None:
        """Move the rows that a batch has taken, given the slope of the loss along its sums."""
        from scipy.sparse import csr_matrix

        if not len(taken.used):
            return
        shape = (taken.part.shape[0], len(taken.used))
        blame = spread_gradient(csr_matrix((taken.part.data, taken.places, taken.part.indptr), shape), slope)
        correction = 1 - DECAY ** (step + 1)
        for start in range(0, len(taken.used), BLOCK):
            here, grad = taken.used[start : start + BLOCK], blame[start : start + BLOCK]
            squares = self.squares.index_select(0, here).mul_(DECAY).addcmul_(grad, grad, value=1 - DECAY)
            self.squares.index_copy_(0, here, squares)
            divisor = squares.div_(correction).sqrt_().add_(1e-8)
            moved = taken.rows[start : start + BLOCK].addcdiv_(grad, divisor, value=-rate)
            self.rows.index_copy_(0, here, moved)


@dataclass(frozen=True, slots=True)
class TakenRows:
    """What a batch names: its sparse rows, their places among `used`, the table's rows `used` and each row's sum."""

    part: Any
    places: I32
    used: Tensor
    rows: Tensor
    sums: Tensor
