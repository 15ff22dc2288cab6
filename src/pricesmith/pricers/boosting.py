"""Gradient boosting over the numbers of a listing, on top of what a linear model makes of its words.

    "DDR5 RAM 16 GB\\nmodules: 2"   ->   gb: 16, modules: 2, first word: ddr5, and what ridge says of the words

Trees cut numbers well and hundreds of thousands of sparse words badly, so the words come in as one number: the log
price of a ridge over TF-IDF. On training rows it is the answer of a ridge that has not seen them (stacking: Wolpert
1992), with titles that begin alike in one fold, for a ridge that knows an item's twin would look better than it is. Its
category, brand and first word tell the trees what a number is of: 16 GB of a phone or a module. The trees have the L1
objective on log price and stop early on validation.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pricesmith.core.atomic import write_json
from pricesmith.core.model_files import Shapes, check_names, damaged_file, read_arrays, read_object
from pricesmith.core.settings import Settings
from pricesmith.core.types import Item, Listing, Pricer, Quote, render
from pricesmith.pricers.features.tfidf import fit_vectorizer, get_vocabulary, restore_vectorizer
from pricesmith.pricers.features.trees import read_trees
from pricesmith.text.words import segment_text, unit_pattern

FACTS = "boosting.json"
ARRAYS = "boosting.npz"
TREES = "trees.txt"
BATCH = 4096
SHAPES: Shapes = {"idf": ("float", "words"), "weights": ("float", "words"), "bias": ("float", 1)}
GROUPS = ("category", "brand", "first word")
FOLDS = 4
ALIKE = 4  # titles whose first words are the same are in one fold
MAX_CHARS = 20_000
LEAST_VALIDATION = 20
TREES_UNWATCHED = 100  # how many trees are safe where there is too little validation to stop by
LARGEST = 1e12
LINE = re.compile(r"^([^:\n]{1,30}):[^0-9\n]*([0-9]+(?:\.[0-9]+)?)", re.MULTILINE)

Array = npt.NDArray[np.float64]
Places = Mapping[str, int]


class BoostingRecipe(Settings):
    """Settings of the boosting pricer."""

    kind: ClassVar[str] = "boosting"
    files: ClassVar[tuple[str, ...]] = (FACTS, ARRAYS, TREES)
    rate: float = Field(0.1, gt=0, le=1, description="how much of the error a tree takes away")
    leaves: int = Field(127, ge=2, le=4096, description="leaves of a tree")
    trees: int = Field(1500, ge=1, description="at most this many")
    patience: int = Field(50, ge=1, description="trees without progress on validation before it stops")
    numbers: int = Field(300, ge=0, description="at most this many kinds of number are columns")
    min_numbers: int = Field(50, ge=1, description="a kind of number in fewer listings is not a column")
    groups: int = Field(200, ge=0, description="at most this many categories, brands and first words are told apart")
    min_groups: int = Field(30, ge=1, description="a category, brand or first word of fewer listings is not told apart")
    seed: int = Field(0, ge=0, description="of the shuffling")

    def fit(self, train: Sequence[Item], validation: Sequence[Item], run: Path) -> None:
        """Write the ridge, the names of the number columns and the trees."""
        import lightgbm as lgb

        logs = np.log([item.price for item in train])
        wares = [item.listing for item in train]
        reader, matrix = fit_vectorizer([render(ware) for ware in wares])
        weights, bias = fit_ridge(matrix, logs)
        found, told = [numeric_features(ware) for ware in wares], [item_groups(ware) for ware in wares]
        keys = common_keys(found, self.numbers, self.min_numbers)
        groups = [common_keys(({one[name]: 1} for one in told), self.groups, self.min_groups) for name in GROUPS]
        table = feature_matrix(found, keys, told, groups, out_of_fold_quotes(matrix, logs, assign_folds(train)))
        chosen = self.parameters(len(train))
        data = lgb.Dataset(table, logs, params=chosen, categorical_feature=list(range(len(GROUPS))))
        pricer = BoostingPricer(reader, weights, bias, keys, groups, None)
        watched = len(validation) >= LEAST_VALIDATION
        stop: dict[str, Any] = {"num_boost_round": self.trees if watched else min(self.trees, TREES_UNWATCHED)}
        if watched:
            truth = np.log([item.price for item in validation])
            seen = lgb.Dataset(pricer.table([item.listing for item in validation]), truth, reference=data)
            stop |= {"valid_sets": [seen], "callbacks": [lgb.early_stopping(self.patience, verbose=False)]}
        model = lgb.train(chosen, data, **stop)
        (run / TREES).write_text(model.model_to_string(num_iteration=model.best_iteration), encoding="utf-8")
        np.savez(run / ARRAYS, idf=reader.idf_, weights=weights, bias=np.array([bias]))
        names = {"words": get_vocabulary(reader), "numbers": list(keys), "groups": [list(group) for group in groups]}
        write_json(run / FACTS, {**names, "trees": model.num_trees()})

    def parameters(self, rows: int) -> dict[str, Any]:
        """What LightGBM is told. One thread: two that share cores with other work took five times as long."""
        return {
            "objective": "l1",
            "metric": "l1",
            "learning_rate": self.rate,
            "num_leaves": self.leaves,
            "min_data_in_leaf": max(1, min(20, rows // 20)),
            "feature_fraction": 0.5,
            "bagging_fraction": 0.7 if rows >= 20 else 1.0,
            "bagging_freq": 1,
            "max_bin": 63,
            "seed": self.seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "verbosity": -1,
        }

    def load(self, run: Path) -> Pricer:
        """The pricer that a run folder holds."""
        path = run / FACTS
        facts = read_object(path)
        words, numbers = (check_names(path, facts.get(name), name) for name in ("words", "numbers"))
        lists = facts.get("groups")
        if not isinstance(lists, list) or len(lists) != len(GROUPS):
            raise damaged_file(path, f"groups: {lists!r}", allowed=f"{len(GROUPS)} lists of names")
        groups = [column_values(check_names(path, names, "groups")) for names in lists]
        arrays = read_arrays(run / ARRAYS, SHAPES, {"words": len(words)})
        trees = read_trees(run / TREES, len(groups) + len(numbers) + 1)
        reader, bias = restore_vectorizer(words, arrays["idf"]), float(arrays["bias"][0])
        return BoostingPricer(reader, arrays["weights"], bias, column_values(numbers), groups, trees)


class BoostingPricer:
    """Quotes what the trees say."""

    def __init__(self, reader: Any, weights: Array, bias: float, keys: Places, groups: Sequence[Places], trees: Any):
        self.reader, self.weights, self.bias, self.trees = reader, weights, bias, trees
        self.keys, self.groups = keys, groups

    @property
    def name(self) -> str:
        return "boosting"

    def table(self, listings: Sequence[Listing]) -> Array:
        """The trees' columns, shape (n, groups + numbers + 1)."""
        linear = self.reader.transform([render(ware) for ware in listings]) @ self.weights + self.bias
        found, told = [numeric_features(ware) for ware in listings], [item_groups(ware) for ware in listings]
        return feature_matrix(found, self.keys, told, self.groups, linear)

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        """One quote a listing."""
        quotes: list[Quote] = []
        for start in range(0, len(listings), BATCH):
            logs = self.trees.predict(self.table(listings[start : start + BATCH]), num_threads=1)
            quotes += [Quote(float(price)) for price in np.exp(logs)]
        return quotes


def fit_ridge(matrix: Any, logs: Array) -> tuple[Array, float]:
    """Weights and bias of a ridge on log prices; an answer to three digits is enough for a column."""
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=1.0, tol=1e-2).fit(matrix, logs)
    return model.coef_, float(model.intercept_)


def assign_folds(items: Sequence[Item]) -> npt.NDArray[np.int64]:
    """The fold of each item, the same for titles that begin alike."""
    heads = [
        " ".join(segment_text(ware.title or ware.text[:200]).split()[:ALIKE]) for ware in (i.listing for i in items)
    ]
    return np.array([zlib.crc32(head.encode("utf-8", "replace")) % FOLDS for head in heads], dtype=np.int64)


def out_of_fold_quotes(matrix: Any, logs: Array, folds: npt.NDArray[np.int64]) -> Array:
    """For each training row the log price that a ridge without its fold gives it."""
    answers = np.full(len(logs), logs.mean())
    for fold in np.unique(folds):
        inside = folds == fold
        if inside.all():
            break
        weights, bias = fit_ridge(matrix[~inside], logs[~inside])
        answers[inside] = matrix[inside] @ weights + bias
    return answers


def numeric_features(listing: Listing) -> dict[str, float]:
    """The numbers of a listing by the word that follows them ("gb") or the name of their line ("modules:")."""
    whole = render(listing)[:MAX_CHARS]
    text = segment_text(whole)
    found: dict[str, float] = {}
    for number, unit in unit_pattern(text).findall(text):
        found.setdefault(unit, min(float(number), LARGEST))
    for key, number in LINE.findall(text):
        found.setdefault(f"{key.strip()}:", min(float(number), LARGEST))
    found["characters"] = float(len(whole))
    return found


def item_groups(listing: Listing) -> dict[str, str]:
    """What a listing is one of: its category, its brand, and the first word of its title, all in lower case."""
    first = segment_text((listing.title or listing.text)[:MAX_CHARS]).split(maxsplit=1)
    words = (segment_text(listing.category), segment_text(listing.brand), first[0] if first else "")
    return {name: word[:200] for name, word in zip(GROUPS, words, strict=True)}


def column_values(names: Sequence[str]) -> dict[str, int]:
    """The place of each name."""
    return {name: place for place, name in enumerate(names)}


def common_keys(found: Iterable[Mapping[str, float]], most: int, least: int) -> dict[str, int]:
    """The most frequent keys, each with its place."""
    counts = Counter(key for one in found for key in one)
    kept = sorted((key for key, count in counts.items() if count >= least), key=lambda key: (-counts[key], key))
    return column_values(kept[:most])


def feature_matrix(
    found: Sequence[Mapping[str, float]],
    keys: Places,
    told: Sequence[Mapping[str, str]],
    groups: Sequence[Places],
    linear: Array,
) -> Array:
    """The trees' columns, shape (n, groups + numbers + 1): the place of each group's name, log(1 + number), NaN where
    there is none; the ridge's answer last."""
    table = np.full((len(found), len(groups) + len(keys) + 1), np.nan)
    for row, (numbers, names) in enumerate(zip(found, told, strict=True)):
        for column, (group, name) in enumerate(zip(groups, names.values(), strict=True)):
            table[row, column] = group.get(name, np.nan)
        for key, number in numbers.items():
            if key in keys:
                table[row, len(groups) + keys[key]] = np.log1p(number)
    table[:, -1] = linear
    return table
