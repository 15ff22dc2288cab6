"""Several networks of `attention.py` with what they need to read a listing: vocabulary, scale of columns, labels.

    nets = train_networks(plan, raw, found, columns, prices, chosen)
    nets.logs(nets.seen(gather(wares), found, columns))         # log prices [n, members]

Networks that differ in their seed alone are trained one to a core.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from pricesmith.core.atomic import atomic_file
from pricesmith.core.model_files import Shapes, array_names, check_arrays, read_arrays, read_tensors
from pricesmith.core.progress import SILENT, Progress
from pricesmith.pricers.ensemble.attention import (
    AttentionBatch,
    AttentionConfig,
    AttentionNet,
    FeatureReader,
    TrainingData,
    train_network,
)
from pricesmith.pricers.features.hashing import F32
from pricesmith.pricers.features.knn import F64, Neighbors
from pricesmith.pricers.features.log_price import require_log_prices
from pricesmith.pricers.features.threads import N_CORES, single_threaded
from pricesmith.pricers.features.tokenizer import I64
from pricesmith.pricers.features.vocabulary import BITS, SparseRows, Vocabulary
from pricesmith.pricers.sparse_optim import PriceScale

VOCABULARY, SCALE, LABELS = "vocabulary.npz", "scale.npz", "labels.safetensors"
SHAPES: Shapes = {"means": ("float", "columns"), "spreads": ("float", "columns"), "log_span": ("float", 4)}
NETWORK: Shapes = {  # the tensors of attention.Net, and its table and keys
    "table": ("float", "features", "width"),
    "memory": ("float", "rows", "keys"),
    "shift": ("float", "width"),
    "key": ("float", "keys", "width"),
    "sharpness": ("float", 1),
    "distance": ("float", 1),
    "nobody": ("float", 1),
    "value": ("float", "keys"),
    "difference": ("float", "keys", "keys"),
    "value_shift": ("float", "keys"),
    "inner_shift": ("float", "hidden"),
    "outer": ("float", "hidden"),
    "outer_shift": ("float", 1),
    "skip": ("float", 1),
}
FAR = 4.0  # a column is cut at so many standard deviations
LEAST_STEPS = 150


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Sizes, rates and passes of networks, as the recipe has them."""

    near: int
    width: int
    hidden: int
    keys: int
    passes: int
    batch: int
    rate: float
    table_rate: float
    money: float
    min_count: int

    def sizes(self, rows: int) -> list[int]:
        """The batch of each pass: doubling in the last half of them; more passes where there are few rows."""
        first = min(self.batch, max(16, rows // 100))
        sizes = [first << max(0, number - self.passes // 2 + 1) for number in range(self.passes)]
        while sum(-(-rows // size) for size in sizes) < LEAST_STEPS and len(sizes) < LEAST_STEPS:
            sizes.insert(0, first)
        return sizes


@dataclass(frozen=True, slots=True)
class TargetScale:
    """Means and spreads of columns, both [columns]; what is missing is put at the mean."""

    means: F64
    spreads: F64

    @classmethod
    def of(cls, columns: F32) -> TargetScale:
        there = np.isfinite(columns)
        counts = np.maximum(there.sum(axis=0), 1)
        means = np.where(there, columns, 0.0).sum(axis=0, dtype=np.float64) / counts
        squares = np.where(there, (columns - means) ** 2, 0.0).sum(axis=0, dtype=np.float64) / counts
        return cls(means, np.sqrt(squares) + 1e-6)

    def __call__(self, columns: F32) -> F32:
        """The columns, standardized."""
        scaled = np.nan_to_num((columns - self.means) / self.spreads, nan=0.0, posinf=FAR, neginf=-FAR)
        return np.clip(scaled, -FAR, FAR).astype(np.float32)


class NetworkEnsemble:
    """Trained networks. `labels` [rows]: the standardized log prices of all rows that can be neighbors."""

    def __init__(
        self, near: int, words: Vocabulary, scale: TargetScale, span: F64, labels: F64, nets: Sequence[AttentionNet]
    ) -> None:
        self.near, self.words, self.scale, self.labels, self.nets = near, words, scale, labels, list(nets)
        self.span = span  # mean and spread of log prices, the lowest and the highest
        self.readers: list[FeatureReader] = []

    def know(self, matrix: Any) -> None:
        """Work out the keys of the rows that can be neighbors."""
        self.readers = [FeatureReader(net, net.keys(matrix), self.labels) for net in self.nets]

    def seen(self, raw: SparseRows, found: Neighbors, columns: F32) -> AttentionBatch:
        """Listings, their neighbors and columns, as the networks see them."""
        return AttentionBatch(self.words.rows(raw).csr(self.words.size), found.head(self.near), self.scale(columns))

    def logs(self, seen: AttentionBatch) -> F64:
        """Log prices [n, members], inside the range of the training prices."""
        mean, spread, low, high = self.span
        told = np.stack([reader.answers(seen) for reader in self.readers], axis=1)
        logs: F64 = np.clip(told * spread + mean, low, high)
        return logs

    def save(self, folder: Path) -> None:
        """Write vocabulary, networks, keys and labels into a folder, which is made."""
        folder.mkdir(parents=True, exist_ok=True)
        self.words.save(folder / VOCABULARY)
        np.savez(folder / SCALE, means=self.scale.means, spreads=self.scale.spreads, log_span=self.span)
        for number, (net, reader) in enumerate(zip(self.nets, self.readers, strict=True)):
            keys = {"table": net.table.half(), "memory": reader.memory.float()}
            save_file({**net.parts, **keys}, folder / f"network-{number}.safetensors")
        save_file({"labels": torch.from_numpy(self.labels)}, folder / LABELS)

    @classmethod
    def load(cls, folder: Path, near: int, members: int) -> NetworkEnsemble:
        """The networks that `save` wrote. Raises InputError where a file is missing or damaged."""
        require_log_prices("log_span" in array_names(folder / SCALE), folder)
        arrays = read_arrays(folder / SCALE, SHAPES)
        scale, span = TargetScale(arrays["means"], arrays["spreads"]), arrays["log_span"]
        words, labels = Vocabulary.load(folder / VOCABULARY), read_tensors(folder / LABELS)
        rows = check_arrays(folder / LABELS, labels, {"labels": ("float", "rows")})["rows"]
        sizes = {"features": words.size, "columns": len(scale.means), "rows": rows}
        labels = labels["labels"].numpy()
        nets, memories = [], []
        for number in range(members):
            path = folder / f"network-{number}.safetensors"
            parts = model_tensors(path)
            check_network(path, parts, sizes)
            memories.append(parts.pop("memory"))
            nets.append(AttentionNet(parts.pop("table").float(), parts))
        found = cls(near, words, scale, span, labels, nets)
        found.readers = [FeatureReader(net, memory, labels) for net, memory in zip(nets, memories, strict=True)]
        return found


def model_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file."""
    return read_tensors(path)


def files_of(members: int) -> list[str]:
    """The names of the files of so many networks."""
    return [VOCABULARY, SCALE, LABELS, *(f"network-{number}.safetensors" for number in range(members))]


def check_network(path: Path, parts: Mapping[str, Tensor], sizes: Mapping[str, int]) -> None:
    """Raises InputError where the tensors of a file are not those of a network of these sizes."""
    check_arrays(path, parts, NETWORK, sizes)
    width, keys = parts["shift"].shape[0], parts["value"].shape[0]
    whole = width + keys + 3 + sizes["columns"]
    check_arrays(path, parts, {"inner": ("float", "hidden", whole)})


def train_networks(
    plan: TrainConfig,
    raw: SparseRows,
    found: Neighbors,
    columns: F32,
    logs: F64,
    chosen: I64,
    seeds: Sequence[int],
    kept: Callable[[str], Path],
    progress: Progress = SILENT,
) -> NetworkEnsemble:
    """Networks trained on the rows `chosen`; the neighbors `found` of all rows, and their columns, name only those.

    `logs` are the log prices of all rows; `kept` says where a part of the work lies once it is done, and may be found.
    """
    words = build_vocabulary(raw, chosen, plan.min_count)
    scale = TargetScale.of(columns[chosen])
    of_chosen = PriceScale.of(np.exp(logs[chosen]).tolist())
    told = replace(of_chosen, logs=logs)
    span = np.array([told.mean, told.spread, of_chosen.logs.min(), told.top])
    nets = NetworkEnsemble(plan.near, words, scale, span, (told.logs - told.mean) / told.spread, [])
    seen = nets.seen(raw, found, columns)
    shape = AttentionConfig(words.size, plan.width, plan.hidden, plan.keys, columns.shape[1])

    def one(seed: int) -> AttentionNet:
        path = kept(f"log-network-{seed}.safetensors")
        if path.is_file():
            parts = model_tensors(path)
            return AttentionNet(parts.pop("table").float(), parts)
        lesson = TrainingData(shape, plan.sizes(len(chosen)), plan.rate, plan.table_rate, plan.money, seed)
        net = train_network(lesson, seen, told, chosen)
        with atomic_file(path) as temporary:
            save_file({**net.parts, "table": net.table.half()}, temporary)
        return net

    with single_threaded, ThreadPoolExecutor(N_CORES) as pool:
        for net in pool.map(one, seeds):
            nets.nets.append(net)
            progress.advance()
    nets.know(seen.matrix)
    return nets


def build_vocabulary(raw: SparseRows, chosen: I64, least: int) -> Vocabulary:
    """The vocabulary of some rows: a feature that none of them has would be noise in the others."""
    part = raw.csr(1 << BITS)[chosen]
    return Vocabulary.of(SparseRows(part.indices, part.data, part.indptr.astype(np.int64)), least, 1 << BITS)
