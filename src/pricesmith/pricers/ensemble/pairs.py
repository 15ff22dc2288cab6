"""Pairs of a listing and a similar training listing: how its price compares with that one's.

    partners = Partners(fields, n_categories, logs)                     # training rows that listings are paired with
    pairs = partners.pair(table, near, fallback)
    trees = fit_trees(TreeRows(pairs.table, truths[pairs.rows], pairs.logs), params, seeds)
    pairs.mean(trees.predict(pairs.table))                              # a log price for each listing

A row of the trees is a pair: the columns of the listing, all log prices among them also relative to the partner's, and
how the fields of the two differ. The trees predict the log of the ratio of the two prices; the quote is the mean over
the partners, weighted by a power of the cosine. A listing without any neighbor is paired with its `fallback`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pricesmith.core.model_files import Shapes, read_arrays
from pricesmith.pricers.features.hashing import F32
from pricesmith.pricers.features.retrieval import SHARPNESS, Neighbors
from pricesmith.pricers.features.tokenizer import F64
from pricesmith.text.code_points import I64

FIELDS = "partners.npz"
SHAPES: Shapes = {"fields": ("float", "rows", "fields")}
MAX_NUMBERS = 48  # numbers, the most frequent ones, that are compared
MISSING = -1.0  # in the file: codes of categories and logs of 1 + a number are not negative
PAIRS_A_ROW = 3  # that the trees are grown on
MAX_PAIRS = 600_000  # that the trees are grown on; of many rows one pair each


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of listings, (pairs): their columns [pairs, columns], the number of the listing, the log price of the
    partner, and the weight."""

    table: F32
    rows: I64
    logs: F64
    weights: F64

    def mean(self, log_ratios: F64) -> F64:
        """The log price of each listing [listings] from the log ratio of its price to each partner's [pairs]."""
        count = int(self.rows.max(initial=-1)) + 1
        sums = np.bincount(self.rows, self.weights * (self.logs + log_ratios), count)
        return np.asarray(sums / np.bincount(self.rows, self.weights, count))


@dataclass(frozen=True, slots=True)
class Partners:
    """Training rows: their fields [rows, categories + numbers], NaN where one is missing, the first `n_categories`
    of them codes of categories, and their log prices [rows]."""

    fields: F32
    n_categories: int
    logs: F64

    @classmethod
    def from_table(cls, tabular: F32, n_categories: int, logs: F64) -> Partners:
        """The training rows with these tabular columns, in which frequent numbers come first."""
        return cls(np.ascontiguousarray(tabular[:, : n_categories + MAX_NUMBERS]), n_categories, logs)

    def pair(
        self,
        table: F32,
        log_columns: Sequence[int],
        near: Neighbors,
        fallback: F64,
        chosen: NDArray[np.bool_] | None = None,
    ) -> Pairs:
        """The pairs of listings with their neighbors `near` [listings, k], or with those that are `chosen` alone.

        `table` [listings, columns] begins with the fields; `log_columns` are those of its columns that are log prices.
        `fallback` [listings] are the log prices that a listing without a neighbor is compared with.
        """
        present = near.indices >= 0
        present[:, 0] = True
        if chosen is not None:
            present &= chosen
        rows, ranks = np.nonzero(present)
        indices = near.indices[rows, ranks]
        known = indices >= 0
        logs = np.where(known, self.logs[indices], fallback[rows])
        cosines = near.cosines[rows, ranks].astype(np.float64)
        size, fields = table.shape[1], self.fields.shape[1]
        pairs = np.empty((len(rows), size + 5 + fields + len(log_columns)), dtype=np.float32)
        pairs[:, :size] = table[rows]
        own = pairs[:, :fields]
        partners = np.where(known[:, None], self.fields[indices], np.float32(np.nan))
        differences = own - partners
        missing = np.isnan(differences)
        first = slice(None, self.n_categories)
        differences[:, first] = np.where(missing[:, first], np.float32(np.nan), differences[:, first] == 0)
        numbers = slice(self.n_categories, None)
        distance = np.nansum(np.abs(differences[:, numbers]), axis=1)
        one_only = (np.isnan(own) != np.isnan(partners))[:, numbers].sum(axis=1)
        pairs[:, size : size + 3] = np.column_stack([cosines, ranks, logs])
        pairs[:, size + 3 : size + 3 + fields] = differences
        pairs[:, size + 3 + fields : size + 5 + fields] = np.column_stack([distance, one_only])
        pairs[:, size + 5 + fields :] = table[:, list(log_columns)][rows] - logs[:, None]
        weights = np.maximum(cosines, 1e-6) ** SHARPNESS
        return Pairs(pairs, rows, logs, weights)

    def save(self, folder: Path) -> None:
        """Write the fields; the log prices are those of the search."""
        np.savez_compressed(folder / FIELDS, fields=np.nan_to_num(self.fields, nan=MISSING))

    @classmethod
    def load(cls, folder: Path, n_categories: int, n_numbers: int, logs: F64) -> Partners:
        """The rows that `save` wrote. Raises InputError if the file is missing or damaged."""
        sizes = {"rows": len(logs), "fields": n_categories + min(n_numbers, MAX_NUMBERS)}
        fields = read_arrays(folder / FIELDS, SHAPES, sizes)["fields"].astype(np.float32)
        return cls(np.where(fields < 0, np.float32(np.nan), fields), n_categories, logs)


def choose_pairs(near: Neighbors, seed: int, most: int = PAIRS_A_ROW) -> NDArray[np.bool_]:
    """At most `most` neighbors of each listing at random, of those that there are, [listings, k]; fewer of very many
    listings. Trees are grown on them: the pairs of one listing are alike, so that more cost time and give little."""
    count, k = near.indices.shape
    each = max(1, min(most, MAX_PAIRS // max(1, count)))
    draws = np.random.default_rng(seed).random((count, k))
    draws[near.indices < 0] += 1
    draws[:, 0] -= near.indices[:, 0] < 0  # it is paired with the fallback
    order = np.argsort(draws, axis=1)[:, :each]
    chosen = np.zeros((count, k), dtype=bool)
    np.put_along_axis(chosen, order, True, axis=1)
    return chosen
