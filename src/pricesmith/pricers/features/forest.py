"""LightGBM's trees for many rows at once, in numpy: the sums of LightGBM's `predict`, to the last bit.

    forest = Forest.from_text(booster.model_to_string())
    forest.predict(table)                              # [n], as booster.predict(table)

LightGBM follows one row through one tree after the other, and most of its time goes into branches that the processor
cannot foresee. Here some hundred rows take a step in some dozen trees at the same time. All numbers become their ranks
among the thresholds of their column first, so that a node is one integer: its column, the rank of its threshold, and
where its children are. A set of categories is a column of its own, 0 inside and 1 outside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricesmith.text.code_points import I64

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Codes = NDArray[np.uint16]
LEAF = (1 << 16) - 1  # the rank of a leaf: no number has a higher one, so that a row stays there
MOST = LEAF - 1  # columns and ranks
ROWS, TREES = 512, 32  # of a step: their nodes and codes stay in the cache
FIRST, EVERY = 6, 2  # steps after which rows that have reached their leaf are set aside
TINY = float(np.float32(1e-35))  # LightGBM reads numbers up to this, in single precision, as 0
CATEGORICAL, DEFAULT_LEFT = 1, 2  # bits of a decision type; those above are the kind of missing values
NAN_IS_ZERO, NAN_IS_MISSING = 0, 2
TO_LEFT, TO_RIGHT, AS_ZERO = 0, 1, 2  # what becomes of a missing number


@dataclass(frozen=True, slots=True)
class Splits:
    """The nodes of all trees: columns of the table, thresholds, decision types, and children (negative: a leaf)."""

    trees: I64
    columns: I64
    thresholds: F64
    types: I64
    left: I64
    right: I64


class Forest:
    """The trees of one booster. `columns` are what ranks are made of: (column of the table, what becomes of NaN) for
    numbers, then `sets`: (column of the table, bits of the categories)."""

    def __init__(
        self,
        nodes: I64,
        values: F64,
        roots: I64,
        thresholds: Mapping[int, F64],
        columns: Sequence[tuple[int, int]],
        sets: Sequence[tuple[int, NDArray[np.bool_]]],
    ) -> None:
        self.nodes, self.values, self.roots = nodes, values, roots
        self.thresholds, self.columns, self.sets = thresholds, columns, sets
        self.tables = category_tables(sets)

    @classmethod
    def from_text(cls, text: str) -> Forest | None:
        """The forest of a booster as LightGBM writes it; None if its trees are of a kind that is not known here."""
        trees = [read_tree(part) for part in text.split("\nTree=")[1:]]
        if not trees or any("split_feature" not in tree and len(tree["leaf_value"]) > 1 for tree in trees):
            return None
        splits = join_splits(trees)
        categorical = (splits.types & CATEGORICAL) > 0
        missing = splits.types >> 2
        if not np.isin(missing[~categorical], (NAN_IS_ZERO, NAN_IS_MISSING)).all():
            return None
        to = np.where(splits.types & DEFAULT_LEFT, TO_LEFT, TO_RIGHT)
        variants = np.where(missing == NAN_IS_MISSING, to, AS_ZERO)
        thresholds, ranks = {}, np.zeros(len(variants), dtype=np.int64)
        for column in np.unique(splits.columns[~categorical]).tolist():
            own = (splits.columns == column) & ~categorical
            thresholds[column], ranks[own] = np.unique(splits.thresholds[own], return_inverse=True)
        keys, numbers = np.unique(splits.columns[~categorical] * 3 + variants[~categorical], return_inverse=True)
        columns = [(key // 3, key % 3) for key in keys.tolist()]
        places = np.zeros(len(variants), dtype=np.int64)
        places[~categorical] = numbers
        places[categorical], sets = number_sets(trees, splits, np.flatnonzero(categorical))
        places[categorical] += len(columns)
        if max([len(columns) + len(sets), *map(len, thresholds.values())]) >= MOST:
            return None
        return cls(*lay_out(trees, splits, places, ranks), thresholds, columns, sets)

    def predict(self, table: F32) -> F64:
        """The sum of the trees for each row of a table [n]."""
        sums = np.zeros(len(table))
        for start in range(0, len(table), ROWS):
            codes = self.encode(table[start : start + ROWS])
            for first in range(0, len(self.roots), TREES):
                for values in self.values[self.find_leaves(codes, self.roots[first : first + TREES])]:
                    sums[start : start + ROWS] += values  # tree after tree, as LightGBM adds them up
        return sums

    def encode(self, table: F32) -> Codes:
        """The ranks of the numbers of some rows, and which sets their categories are in [n, columns + sets]."""
        codes = np.zeros((len(table), max(1, len(self.columns) + len(self.sets))), dtype=np.uint16)
        numbers = table.astype(np.float64)
        numbers[np.abs(numbers) <= TINY] = 0.0
        missing = np.isnan(numbers)
        ranks = {
            column: np.searchsorted(own, np.where(missing[:, column], 0.0, numbers[:, column]))
            for column, own in self.thresholds.items()
        }
        for place, (column, variant) in enumerate(self.columns):
            ends = {TO_LEFT: 0, TO_RIGHT: len(self.thresholds[column])}
            codes[:, place] = (
                np.where(missing[:, column], ends[variant], ranks[column]) if variant in ends else ranks[column]
            )
        for column, (places, inside) in self.tables.items():
            outside = len(inside) - 1  # missing, negative and unknown categories
            values = np.where(missing[:, column], -1.0, numbers[:, column])
            known = (values > -1) & (values < outside)
            codes[:, places + len(self.columns)] = inside[np.where(known, values, outside).astype(np.int64)]
        return codes

    def find_leaves(self, codes: Codes, roots: I64) -> I64:
        """The place of the leaf of each row in each of some trees [trees, n]."""
        n_rows, width = codes.shape
        flat, nodes = codes.ravel(), np.repeat(roots, n_rows)
        base = np.tile(np.arange(n_rows) * width, len(roots))
        leaves, places = nodes.copy(), np.arange(len(nodes))
        step = 0
        while len(nodes):
            packed = self.nodes.take(nodes)
            rank = packed & LEAF
            if step >= FIRST and (step - FIRST) % EVERY == 0:
                leaves[places] = nodes
                active = np.flatnonzero(rank != LEAF)
                places, base, packed, rank = places[active], base[active], packed[active], rank[active]
            column = packed >> 16
            column &= LEAF
            column += base
            nodes = packed >> 32
            nodes += flat.take(column) > rank
            step += 1
        return leaves.reshape(len(roots), n_rows)


def read_tree(text: str) -> dict[str, NDArray[Any]]:
    """The numbers of one tree by name."""
    kinds = {"threshold": np.float64, "leaf_value": np.float64}
    wanted = ("split_feature", "decision_type", "left_child", "right_child", "cat_boundaries", "cat_threshold", *kinds)
    pairs = (line.partition("=") for line in text.split("\n"))
    texts = {name: values for name, _, values in pairs if name in wanted and values}
    return {name: np.array(values.split(), dtype=kinds.get(name, np.int64)) for name, values in texts.items()}


def join_splits(trees: Sequence[Mapping[str, NDArray[Any]]]) -> Splits:
    """The nodes of all trees, tree after tree."""
    inner = [tree for tree in trees if "split_feature" in tree]
    numbers = np.repeat(np.arange(len(trees)), [len(tree.get("split_feature", ())) for tree in trees])
    names = ("split_feature", "threshold", "decision_type", "left_child", "right_child")
    parts = [np.concatenate([np.zeros(0, np.int64), *(tree[name] for tree in inner)]) for name in names]
    columns, thresholds, types, left, right = parts
    return Splits(
        numbers,
        columns.astype(np.int64),
        thresholds.astype(np.float64),
        *(p.astype(np.int64) for p in (types, left, right)),
    )


def number_sets(
    trees: Sequence[Mapping[str, NDArray[Any]]], splits: Splits, rows: I64
) -> tuple[list[int], list[tuple[int, NDArray[np.bool_]]]]:
    """The number of the set of categories of each of some nodes, and the distinct sets."""
    sets: dict[tuple[int, bytes], int] = {}
    numbers = []
    for row in rows.tolist():
        tree, place = trees[int(splits.trees[row])], int(splits.thresholds[row])
        first, last = tree["cat_boundaries"][place : place + 2]
        words = tree["cat_threshold"][first:last].astype("<u4").tobytes()
        numbers.append(sets.setdefault((int(splits.columns[row]), words), len(sets)))
    bits = [(column, np.unpackbits(np.frombuffer(words, np.uint8), bitorder="little") > 0) for column, words in sets]
    return numbers, bits


def category_tables(sets: Sequence[tuple[int, NDArray[np.bool_]]]) -> dict[int, tuple[I64, Codes]]:
    """For each column with sets their numbers, and 0 or 1 for each category and set, the last row for all others."""
    tables = {}
    for column in dict.fromkeys(column for column, _ in sets):
        numbers = [number for number, (own, _) in enumerate(sets) if own == column]
        outside = np.ones((max(len(sets[number][1]) for number in numbers) + 1, len(numbers)), dtype=np.uint16)
        for place, number in enumerate(numbers):
            bits = sets[number][1]
            outside[: len(bits), place] = ~bits
        tables[column] = np.array(numbers, dtype=np.int64), outside
    return tables


def lay_out(
    trees: Sequence[Mapping[str, NDArray[Any]]], splits: Splits, columns: I64, ranks: I64
) -> tuple[I64, F64, I64]:
    """The nodes of all trees, each an integer, with siblings side by side; the values of the leaves at their places
    [nodes]; the root of each tree."""
    leaves = np.array([len(tree["leaf_value"]) for tree in trees], dtype=np.int64)
    roots = np.concatenate((np.zeros(1, np.int64), np.cumsum(2 * leaves - 1)[:-1]))
    own = np.arange(len(columns)) - np.repeat(np.cumsum(leaves - 1) - (leaves - 1), leaves - 1)
    root = roots[splits.trees]
    children = root + 1 + 2 * own  # where the left child is; the right one is next to it
    place_of = np.empty(int((2 * leaves - 1).sum()), dtype=np.int64)  # of inner nodes, and behind them of leaves
    first_leaf = root + (leaves - 1)[splits.trees]
    place_of[roots] = roots
    for side, child in enumerate((splits.left, splits.right)):
        inner = child >= 0
        place_of[np.where(inner, root + child, first_leaf + ~child)] = children + side
    nodes = np.arange(len(place_of), dtype=np.int64) << 32 | LEAF  # a leaf leads to itself
    nodes[place_of[root + own]] = children << 32 | columns << 16 | ranks
    values = np.zeros(len(nodes))
    numbers = np.arange(int(leaves.sum())) - np.repeat(np.cumsum(leaves) - leaves, leaves)
    tree = np.repeat(np.arange(len(trees)), leaves)
    values[place_of[roots[tree] + leaves[tree] - 1 + numbers]] = np.concatenate([tree["leaf_value"] for tree in trees])
    return nodes, values, roots
