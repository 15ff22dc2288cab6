"""What an encoder sees beside the text: numbers and categories of a listing, and similar training listings with prices.

    features, inputs = EncoderFeatures.from_items(listings, prices, bins)    # inputs of the training rows themselves
    features.encode(others)                                                  # of new listings

The prices of similar listings are columns (means, spreads, local ridges) and a distribution over the price bins. The
near-duplicate group of a training row is excluded from its neighbors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pricesmith.core.atomic import write_json
from pricesmith.core.model_files import Shapes, read_arrays, read_object, report_damage
from pricesmith.core.types import Listing
from pricesmith.pricers.features.column_scale import ColumnScale
from pricesmith.pricers.features.hashing import F32, gather_rows
from pricesmith.pricers.features.retrieval import N_NEIGHBORS, NeighborIndex, Neighbors, group_listings
from pricesmith.pricers.features.trees import TabularFields
from pricesmith.pricers.llm.readout import PriceBins

INDEX, FIELDS, SCALE = "neighbors.npz", "fields.json", "scale.npz"
SHAPES: Shapes = {"means": ("float", "columns"), "spreads": ("float", "columns")}
MAX_NUMBERS, MIN_NUMBERS = 160, 40  # numeric columns at most, and listings that have one at least
MAX_NAMES, MIN_NAMES = 200, 30  # values of a categorical at most, and listings that have one at least
VOTERS = 32  # neighbors whose prices are a distribution over the bins
VOTE_SIGMA = 2.0  # bins
SHARPNESS = 4  # weight of a neighbor: its cosine to this power
LEAST = 2e-3  # probability that is added to each bin before the logarithm
CHUNK = 1024

I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class EncoderInputs:
    """The inputs of n listings: standardized columns [n, columns], codes of categories [n, categories] (0: none) and
    the log of the neighbors' distribution over the price bins [n, bins]."""

    columns: F32
    codes: I64
    votes: F32

    def tensors(self, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        """The inputs of some of the listings."""
        selection = np.asarray(rows, dtype=np.int64)
        return {
            "columns": torch.from_numpy(self.columns[selection]),
            "codes": torch.from_numpy(self.codes[selection]),
            "votes": torch.from_numpy(self.votes[selection]),
        }


class EncoderFeatures:
    """The fields of a listing that are columns, the search for similar listings, and the scale of all columns."""

    def __init__(self, fields: TabularFields, index: NeighborIndex, scale: ColumnScale, bins: PriceBins) -> None:
        self.fields, self.index, self.scale, self.bins = fields, index, scale, bins

    @classmethod
    def from_items(
        cls, listings: Sequence[Listing], prices: Sequence[float], bins: PriceBins
    ) -> tuple[EncoderFeatures, EncoderInputs]:
        """The features of training rows, and the inputs of these rows."""
        buckets, groups = gather_rows(listings), group_listings(listings)
        index = NeighborIndex.from_rows(buckets, np.log(np.array(prices, dtype=np.float64)))
        neighbors = index.search(index.matrix, N_NEIGHBORS, groups, groups)
        fields = TabularFields.from_listings(listings, MAX_NUMBERS, MIN_NUMBERS, MAX_NAMES, MIN_NAMES)
        table = fields.columns(listings)
        columns = np.column_stack([table[:, len(fields.categories) :], index.columns(neighbors)])
        features = cls(fields, index, ColumnScale.from_columns(columns), bins)
        return features, features.inputs(table, neighbors, columns)

    @property
    def n_columns(self) -> int:
        """The number of columns: each value, and for numbers whether there is one."""
        return len(self.scale.means) + len(self.fields.numbers)

    @property
    def category_sizes(self) -> list[int]:
        """The number of values of each categorical."""
        return [len(names) for names in self.fields.categories.values()]

    def encode(self, listings: Sequence[Listing]) -> EncoderInputs:
        """The inputs of listings."""
        neighbors = self.index.search(self.index.encode(gather_rows(listings)), N_NEIGHBORS)
        table = self.fields.columns(listings)
        columns = np.column_stack([table[:, len(self.fields.categories) :], self.index.columns(neighbors)])
        return self.inputs(table, neighbors, columns)

    def inputs(self, table: F32, neighbors: Neighbors, columns: F32) -> EncoderInputs:
        """The inputs, from the table of the fields, the neighbors, and the columns before they are standardized."""
        categories = len(self.fields.categories)
        present = np.isfinite(columns[:, : len(self.fields.numbers)]).astype(np.float32)
        codes = np.nan_to_num(table[:, :categories], nan=-1.0).astype(np.int64) + 1
        return EncoderInputs(
            np.column_stack([self.scale(columns), present]).astype(np.float32), codes, self.votes(neighbors)
        )

    def votes(self, neighbors: Neighbors) -> F32:
        """The log of the distribution of the neighbors' prices over the bins [n, bins]; uniform without neighbors."""
        nearest = neighbors.head(VOTERS)
        count = len(self.bins.edges) - 1
        votes = np.empty((len(nearest.indices), count), dtype=np.float32)
        for start in range(0, len(votes), CHUNK):
            part = nearest.rows(slice(start, start + CHUNK))
            weights = np.where(part.indices >= 0, np.maximum(part.cosines, 1e-6).astype(np.float64) ** SHARPNESS, 0.0)
            used, positions = np.unique(np.maximum(part.indices, 0), return_inverse=True)
            prices = torch.from_numpy(np.exp(self.index.logs[used])) if len(self.index.logs) else torch.ones(len(used))
            labels = self.bins.targets(prices, VOTE_SIGMA).numpy()
            mass = np.einsum("nk,nkb->nb", weights, labels[positions.reshape(part.indices.shape)])
            total = weights.sum(axis=1, keepdims=True)
            mass = np.where(total > 0, mass / np.maximum(total, 1e-9), 1 / count)
            votes[start : start + CHUNK] = np.log(mass + LEAST)
        return votes

    def save(self, folder: Path) -> None:
        """Write the fields, the search and the scale into a folder."""
        self.index.save(folder / INDEX)
        np.savez(folder / SCALE, means=self.scale.means, spreads=self.scale.spreads)
        write_json(folder / FIELDS, self.fields.to_dict())

    @classmethod
    def load(cls, folder: Path, bins: PriceBins) -> EncoderFeatures:
        """The features that `save` wrote. Raises InputError if a file is missing or damaged."""
        values: dict[str, Any] = read_object(folder / FIELDS)
        with report_damage(folder / FIELDS):
            fields = TabularFields.from_dict(values)
        index = NeighborIndex.load(folder / INDEX)
        nobody = Neighbors(np.full((1, N_NEIGHBORS), -1), np.zeros((1, N_NEIGHBORS), dtype=np.float32))
        columns = len(fields.numbers) + index.columns(nobody).shape[1]
        arrays = read_arrays(folder / SCALE, SHAPES, {"columns": columns})
        return cls(fields, index, ColumnScale(arrays["means"], arrays["spreads"]), bins)
