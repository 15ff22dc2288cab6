"""Networks that read a listing, look at similar listings with their prices, and weight these by attention.

    sum of embedding[feature] x weight -> query; attention over the keys of k neighbors -> their prices, adjusted for
    the difference of the keys -> with the sum and the columns of `NeighborIndex` through a hidden layer

    nets = train_networks(config, buckets, neighbors, columns, logs, rows, seeds, cache.path)
    nets.log_prices(nets.encode(gather_rows(listings), neighbors, columns))         # log prices [n, networks]

Attention over retrieved rows whose value is the neighbor's label and the difference of the keys is TabR's (Gorishniy
et al. 2023); the embedding table is trained as in the sparse MLP. The keys of all rows are recomputed every `EVERY`
steps, without a gradient. A row's neighbors never include its own near-duplicate group, in training as in use.
Networks that differ in their seed alone are trained one to a core.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from pricesmith.core.atomic import atomic_file
from pricesmith.core.model_files import Shapes, array_names, check_arrays, read_arrays, read_tensors
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.threads import N_CORES
from pricesmith.pricers.features.column_scale import ColumnScale
from pricesmith.pricers.features.hashing import BITS, F32, SparseRows, Vocabulary
from pricesmith.pricers.features.retrieval import Neighbors
from pricesmith.pricers.features.tokenizer import F64
from pricesmith.pricers.sparse_training import Adam, EmbeddingTable, PriceLoss, sum_embeddings
from pricesmith.pricers.training import (
    PriceScale,
    TrainingPoint,
    require_log_prices,
    single_threaded,
    write_curve,
)
from pricesmith.text.code_points import I64

VOCABULARY, SCALE, LABELS = "vocabulary.npz", "scale.npz", "labels.safetensors"
SHAPES: Shapes = {"means": ("float", "columns"), "spreads": ("float", "columns"), "log_span": ("float", 4)}
NETWORK: Shapes = {  # the tensors of AttentionNet with its embedding table, and the keys' inputs of the training rows
    "embedding": ("float", "features", "embedding_dim"),
    "row_keys": ("float", "rows", "key_dim"),
    "embedding_bias": ("float", "embedding_dim"),
    "key_weight": ("float", "key_dim", "embedding_dim"),
    "cosine_scale": ("float", 1),
    "distance_scale": ("float", 1),
    "no_neighbor_logit": ("float", 1),
    "label_weight": ("float", "key_dim"),
    "difference_weight": ("float", "key_dim", "key_dim"),
    "value_bias": ("float", "key_dim"),
    "hidden_bias": ("float", "hidden_dim"),
    "output_weight": ("float", "hidden_dim"),
    "output_bias": ("float", 1),
    "skip": ("float", 1),
}
EVERY = 15  # steps between two computations of all keys
MASKED = -1e4  # the logit of a missing neighbor
CHUNK = 4096
MIN_STEPS = 150


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Sizes, learning rates and epochs of the networks, named as in the recipe."""

    n_neighbors: int
    embedding_dim: int
    hidden_dim: int
    key_dim: int
    epochs: int
    batch_size: int
    learning_rate: float
    embedding_learning_rate: float
    dollar_loss_weight: float
    min_count: int

    def batch_sizes(self, rows: int) -> list[int]:
        """The batch size of each epoch: doubling in the last half; few rows get more epochs."""
        first = min(self.batch_size, max(16, rows // 100))
        sizes = [first << max(0, number - self.epochs // 2 + 1) for number in range(self.epochs)]
        while sum(-(-rows // size) for size in sizes) < MIN_STEPS and len(sizes) < MIN_STEPS:
            sizes.insert(0, first)
        return sizes


@dataclass(frozen=True, slots=True)
class AttentionBatch:
    """The inputs of n listings: sparse rows, their neighbors, and standardized columns [n, columns]."""

    matrix: Any
    neighbors: Neighbors
    columns: F32

    def rows(self, selection: Any) -> AttentionBatch:
        """The inputs of some of the listings."""
        return AttentionBatch(self.matrix[selection], self.neighbors.rows(selection), self.columns[selection])


class AttentionNet:
    """One network: `embedding` [features, embedding_dim], and its dense tensors by name."""

    def __init__(self, embedding: Tensor, dense: Mapping[str, Tensor]) -> None:
        self.embedding, self.dense = embedding, dict(dense)

    @classmethod
    def new(cls, config: TrainConfig, features: int, columns: int, generator: torch.Generator) -> AttentionNet:
        """A network with initial weights."""

        def uniform(*size: int, scale: int) -> Tensor:
            return (torch.rand(*size, generator=generator) * 2 - 1) / math.sqrt(scale)

        width, hidden, keys = config.embedding_dim, config.hidden_dim, config.key_dim
        embedding = torch.randn(features, width, generator=generator).mul_(0.1)
        dense = {
            "embedding_bias": torch.zeros(width),
            "key_weight": uniform(keys, width, scale=width),
            "cosine_scale": torch.tensor([4.0]),
            "distance_scale": torch.tensor([1.0]),
            "no_neighbor_logit": torch.zeros(1),
            "label_weight": uniform(keys, scale=4),
            "difference_weight": uniform(keys, keys, scale=keys),
            "value_bias": torch.zeros(keys),
            "hidden_weight": uniform(hidden, width + keys + 3 + columns, scale=width),
            "hidden_bias": uniform(hidden, scale=width),
            "output_weight": uniform(hidden, scale=hidden),
            "output_bias": torch.zeros(1),
            "skip": torch.tensor([0.5]),
        }
        return cls(embedding, dense)

    def forward(self, sums: Tensor, neighbors: Neighbors, keys: Tensor, labels: Tensor, columns: Tensor) -> Tensor:
        """Standardized log prices [n], from sums of embeddings [n, embedding_dim], neighbors, columns [n, columns],
        and the keys and labels of all rows that can be neighbors."""
        dense = self.dense
        indices = torch.from_numpy(neighbors.indices)
        present, rows = indices >= 0, indices.clamp(min=0)
        differences = F.linear(sums, dense["key_weight"])[:, None] - keys[rows]
        logits = torch.from_numpy(neighbors.cosines).to(sums.dtype) * dense["cosine_scale"]
        logits = logits - 4 * dense["distance_scale"].abs() * (differences**2).mean(-1)
        nobody = dense["no_neighbor_logit"].expand(len(sums), 1)
        logits = torch.cat([logits.masked_fill(~present, MASKED), nobody], 1)
        weights, known = torch.softmax(logits, 1)[:, :-1], labels[rows]
        adjusted = F.linear(differences, dense["difference_weight"], dense["value_bias"])
        values = known[..., None] * dense["label_weight"] + adjusted
        context = (weights[..., None] * F.gelu(values)).sum(1)
        mean, square = (weights * known).sum(1), (weights * known * known).sum(1)
        moments = torch.stack([mean, square, weights.sum(1)], 1)
        inputs = torch.cat([F.gelu(sums + dense["embedding_bias"]), context, moments, columns], 1)
        hidden = F.gelu(F.linear(inputs, dense["hidden_weight"], dense["hidden_bias"]))
        return hidden @ dense["output_weight"] + dense["output_bias"] + dense["skip"] * mean

    def keys(self, matrix: Any) -> Tensor:
        """The keys of sparse rows [n, key_dim]."""
        return F.linear(embed_rows(matrix, self.embedding), self.dense["key_weight"])


def embed_rows(matrix: Any, embedding: Tensor) -> Tensor:
    """The sum of embeddings of each sparse row [n, embedding_dim]."""
    return sum_embeddings(matrix.indices, matrix.data, matrix.indptr, embedding)


def train_network(
    config: TrainConfig, inputs: AttentionBatch, prices: PriceScale, rows: I64, seed: int
) -> tuple[AttentionNet, list[TrainingPoint]]:
    """A network trained on the rows `rows` of all rows that can be neighbors, and its training curve.

    The network depends on nothing but its arguments.
    """
    started = time.perf_counter()
    shuffle, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    net = AttentionNet.new(config, inputs.matrix.shape[1], inputs.columns.shape[1], generator)
    table, dense = EmbeddingTable(net.embedding), list(net.dense.values())
    for tensor in dense:
        tensor.requires_grad_()
    adam, loss_function = Adam(dense), PriceLoss(prices, config.dollar_loss_weight, rows)
    columns, curve, sizes = torch.from_numpy(inputs.columns), [], config.batch_sizes(len(rows))
    step, steps = 0, sum(math.ceil(len(rows) / size) for size in sizes)
    for epoch, size in enumerate(sizes, 1):
        order, total = rows[shuffle.permutation(len(rows))], 0.0
        for start in range(0, len(order), size):
            if step % EVERY == 0:
                with torch.no_grad():
                    embedded = embed_rows(inputs.matrix, net.embedding)
            batch = order[start : start + size]
            lookup, decay = table.look_up(inputs.matrix[batch]), 1 - step / steps
            sums = lookup.sums.requires_grad_()
            neighbors = BatchNeighbors(embedded, net.dense["key_weight"], inputs.neighbors.rows(batch))
            labels = loss_function.targets[neighbors.rows]
            outputs = net.forward(sums, neighbors.neighbors, neighbors.keys, labels, columns[batch])
            loss = loss_function(outputs, torch.from_numpy(batch))
            gradient, *gradients = torch.autograd.grad(loss, [sums, *dense])
            adam.step(gradients, config.learning_rate * decay)
            table.update(lookup, gradient, step, config.embedding_learning_rate * decay)
            total += float(loss.detach()) * len(batch)
            step += 1
        seconds = round(time.perf_counter() - started, 2)
        curve.append(TrainingPoint(epoch=epoch, train_loss=round(total / max(1, len(rows)), 5), seconds=seconds))
    for tensor in dense:
        tensor.requires_grad_(False)
    net.embedding = net.embedding.half().float()  # as it will be on disk
    return net, curve


class BatchNeighbors:
    """The neighbors of a batch: their distinct `rows`, the `keys` of these, and `neighbors` as indices into both."""

    def __init__(self, embedded: Tensor, key_weight: Tensor, neighbors: Neighbors) -> None:
        used, positions = np.unique(neighbors.indices, return_inverse=True)
        self.rows = torch.from_numpy(np.maximum(used, 0))
        self.keys = F.linear(embedded[self.rows], key_weight)
        positions = positions.reshape(neighbors.indices.shape)
        self.neighbors = Neighbors(np.where(neighbors.indices < 0, -1, positions), neighbors.cosines)


class NetworkReader:
    """A trained network with the keys and labels of its neighbors.

    It computes in double precision, so that the output for a listing is the same in any batch, to more digits than the
    threshold of a tree can separate.
    """

    def __init__(self, net: AttentionNet, row_keys: Tensor, labels: F64) -> None:
        self.net = AttentionNet(net.embedding, {name: tensor.double() for name, tensor in net.dense.items()})
        self.row_keys, self.labels = row_keys.double(), torch.from_numpy(labels)

    def outputs(self, inputs: AttentionBatch) -> F64:
        """Standardized log prices [n]."""
        parts = []
        for start in range(0, inputs.matrix.shape[0], CHUNK):
            batch = inputs.rows(slice(start, start + CHUNK))
            with torch.no_grad():
                sums = embed_rows(batch.matrix, self.net.embedding).double()
                columns = torch.from_numpy(batch.columns).double()
                parts.append(self.net.forward(sums, batch.neighbors, self.row_keys, self.labels, columns).numpy())
        return np.concatenate(parts) if parts else np.zeros(0)


class NetworkEnsemble:
    """Trained networks. `labels` [rows] are the standardized log prices of all rows that can be neighbors; `span` is
    the mean and spread of log prices, the lowest and the highest."""

    def __init__(
        self,
        n_neighbors: int,
        vocabulary: Vocabulary,
        scale: ColumnScale,
        span: F64,
        labels: F64,
        nets: Sequence[AttentionNet],
    ) -> None:
        self.n_neighbors, self.vocabulary, self.scale, self.labels = n_neighbors, vocabulary, scale, labels
        self.span, self.nets = span, list(nets)
        self.readers: list[NetworkReader] = []

    def index_rows(self, matrix: Any) -> None:
        """Compute the keys of the rows that can be neighbors."""
        self.readers = [NetworkReader(net, net.keys(matrix), self.labels) for net in self.nets]

    def encode(self, buckets: SparseRows, neighbors: Neighbors, columns: F32) -> AttentionBatch:
        """The inputs of listings, from their hashed features, neighbors and columns."""
        matrix = self.vocabulary.rows(buckets).csr(self.vocabulary.size)
        return AttentionBatch(matrix, neighbors.head(self.n_neighbors), self.scale(columns))

    def log_prices(self, inputs: AttentionBatch) -> F64:
        """Log prices [n, networks], inside the range of the training prices."""
        mean, spread, low, high = self.span
        outputs = np.stack([reader.outputs(inputs) for reader in self.readers], axis=1)
        logs: F64 = np.clip(outputs * spread + mean, low, high)
        return logs

    def save(self, folder: Path) -> None:
        """Write vocabulary, networks, keys and labels into a folder, which is created."""
        folder.mkdir(parents=True, exist_ok=True)
        self.vocabulary.save(folder / VOCABULARY)
        np.savez(folder / SCALE, means=self.scale.means, spreads=self.scale.spreads, log_span=self.span)
        for number, (net, reader) in enumerate(zip(self.nets, self.readers, strict=True)):
            tables = {"embedding": net.embedding.half(), "row_keys": reader.row_keys.float()}
            save_file({**net.dense, **tables}, folder / f"network-{number}.safetensors")
        save_file({"labels": torch.from_numpy(self.labels)}, folder / LABELS)

    @classmethod
    def load(cls, folder: Path, n_neighbors: int, count: int) -> NetworkEnsemble:
        """The networks that `save` wrote. Raises InputError if a file is missing or damaged."""
        require_log_prices("log_span" in array_names(folder / SCALE), folder)
        arrays = read_arrays(folder / SCALE, SHAPES)
        scale, span = ColumnScale(arrays["means"], arrays["spreads"]), arrays["log_span"]
        vocabulary, stored = Vocabulary.load(folder / VOCABULARY), read_tensors(folder / LABELS)
        rows = check_arrays(folder / LABELS, stored, {"labels": ("float", "rows")})["rows"]
        sizes = {"features": vocabulary.size, "columns": len(scale.means), "rows": rows}
        labels = stored["labels"].numpy()
        nets, row_keys = [], []
        for number in range(count):
            path = folder / f"network-{number}.safetensors"
            tensors = read_tensors(path)
            check_network(path, tensors, sizes)
            row_keys.append(tensors.pop("row_keys"))
            nets.append(AttentionNet(tensors.pop("embedding").float(), tensors))
        ensemble = cls(n_neighbors, vocabulary, scale, span, labels, nets)
        ensemble.readers = [NetworkReader(net, keys, labels) for net, keys in zip(nets, row_keys, strict=True)]
        return ensemble


def network_files(count: int) -> list[str]:
    """The file names of `count` networks."""
    return [VOCABULARY, SCALE, LABELS, *(f"network-{number}.safetensors" for number in range(count))]


def check_network(path: Path, tensors: Mapping[str, Tensor], sizes: Mapping[str, int]) -> None:
    """Raise InputError if the tensors of a file are not those of a network of these sizes."""
    check_arrays(path, tensors, NETWORK, sizes)
    embedding_dim, key_dim = tensors["embedding_bias"].shape[0], tensors["label_weight"].shape[0]
    inputs = embedding_dim + key_dim + 3 + sizes["columns"]
    check_arrays(path, tensors, {"hidden_weight": ("float", "hidden_dim", inputs)})


def train_networks(
    config: TrainConfig,
    buckets: SparseRows,
    neighbors: Neighbors,
    columns: F32,
    logs: F64,
    rows: I64,
    seeds: Sequence[int],
    checkpoint: Callable[[str], Path],
    progress: Progress = SILENT,
    curve_folder: Path | None = None,
) -> NetworkEnsemble:
    """Networks trained on the rows `rows`; `neighbors` and `columns` of all rows refer only to those.

    `logs` are the log prices of all rows. `checkpoint` gives the file of a finished network, which is read if it
    exists. The training curves are appended in `curve_folder`.
    """
    vocabulary = fit_vocabulary(buckets, rows, config.min_count)
    scale = ColumnScale.from_columns(columns[rows])
    selected = PriceScale.from_prices(np.exp(logs[rows]).tolist())
    prices = replace(selected, logs=logs)
    span = np.array([prices.mean, prices.spread, selected.logs.min(), prices.top])
    labels = (prices.logs - prices.mean) / prices.spread
    ensemble = NetworkEnsemble(config.n_neighbors, vocabulary, scale, span, labels, [])
    inputs = ensemble.encode(buckets, neighbors, columns)

    def fit(seed: int) -> tuple[AttentionNet, list[TrainingPoint]]:
        path = checkpoint(f"log-network-{seed}.safetensors")
        if path.is_file():
            tensors = read_tensors(path)
            return AttentionNet(tensors.pop("embedding").float(), tensors), []
        net, curve = train_network(config, inputs, prices, rows, seed)
        with atomic_file(path) as temporary:
            save_file({**net.dense, "embedding": net.embedding.half()}, temporary)
        return net, curve

    with single_threaded, ThreadPoolExecutor(N_CORES) as pool:
        for number, (net, curve) in enumerate(pool.map(fit, seeds), 1):
            ensemble.nets.append(net)
            if curve_folder:
                points = [point.model_copy(update={"series": f"network {number}"}) for point in curve]
                write_curve(curve_folder, points, append=True)
            progress.advance()
    ensemble.index_rows(inputs.matrix)
    return ensemble


def fit_vocabulary(buckets: SparseRows, rows: I64, min_count: int) -> Vocabulary:
    """The vocabulary of some rows: a feature that none of them has would be noise in the others."""
    part = buckets.csr(1 << BITS)[rows]
    return Vocabulary.from_rows(SparseRows(part.indices, part.data, part.indptr.astype(np.int64)), min_count, 1 << BITS)
