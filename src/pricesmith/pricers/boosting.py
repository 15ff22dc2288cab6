"""Gradient boosting over the numbers of a listing and the output of a ridge over its words.

    "DDR5 RAM 16 GB\\nmodules: 2"   ->   gb: 16, modules: 2, first word: ddr5, and the log price of a ridge

Trees split well on numbers and badly on hundreds of thousands of sparse words, so the words are one column: the log
price of a ridge over TF-IDF. On training rows it is out of fold (stacking: Wolpert 1992); titles that begin alike are
in one fold, because a ridge fitted on a variant of an item would look better than it is. Category, brand and first word
are categorical columns: 16 GB of a phone is not 16 GB of a module. The trees minimize the L1 loss on log price, with
early stopping on validation.
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

from pricesmith.catalog.items import get_listings, get_prices
from pricesmith.core.atomic import write_json
from pricesmith.core.model_files import Shapes, check_names, damaged_file, read_arrays, read_object
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.settings import Settings
from pricesmith.core.types import Item, Listing, Pricer, Quote, render
from pricesmith.pricers.features.tfidf import TfidfWeights, fit_tfidf
from pricesmith.pricers.features.trees import BoostingCurve, read_trees
from pricesmith.pricers.training import get_weights, write_curve
from pricesmith.text.words import segment_text, unit_pattern

NAMES = "boosting.json"
ARRAYS = "boosting.npz"
TREES = "trees.txt"
BATCH = 4096
SHAPES: Shapes = {"idf": ("float", "words"), "weights": ("float", "words"), "bias": ("float", 1)}
GROUPS = ("category", "brand", "first word")
FOLDS = 4
FOLD_WORDS = 4  # titles with the same first words are in one fold
MAX_CHARS = 20_000
MIN_VALIDATION = 20
UNVALIDATED_TREES = 100  # a safe number of trees without enough validation rows for early stopping
LARGEST = 1e12
LINE = re.compile(r"^([^:\n]{1,30}):[^0-9\n]*([0-9]+(?:\.[0-9]+)?)", re.MULTILINE)

Array = npt.NDArray[np.float64]
Columns = Mapping[str, int]


class BoostingRecipe(Settings):
    """Settings of the boosting pricer."""

    kind: ClassVar[str] = "boosting"
    takes_weights: ClassVar[bool] = True
    files: ClassVar[tuple[str, ...]] = (NAMES, ARRAYS, TREES)
    learning_rate: float = Field(0.1, gt=0, le=1, description="learning rate of the trees")
    num_leaves: int = Field(127, ge=2, le=4096, description="leaves of a tree")
    n_estimators: int = Field(1500, ge=1, description="trees, at most")
    patience: int = Field(50, ge=1, description="trees without progress on validation before early stopping")
    max_numbers: int = Field(300, ge=0, description="numeric columns, at most")
    min_numbers: int = Field(50, ge=1, description="a numeric column occurs in at least this many listings")
    max_groups: int = Field(200, ge=0, description="categories, brands and first words, at most")
    min_groups: int = Field(30, ge=1, description="each of these occurs in at least this many listings")
    seed: int = Field(0, ge=0, description="seed of the sampling of rows and columns")

    def fit(self, train: Sequence[Item], validation: Sequence[Item], folder: Path, progress: Progress = SILENT) -> None:
        """Write the ridge, the names of the number columns and the trees."""
        import lightgbm as lgb

        logs, listings = np.log(get_prices(train)), get_listings(train)
        words, idf, matrix = fit_tfidf(listings)
        row_weights = get_weights(train)
        weights, bias = fit_ridge(matrix, logs, row_weights)
        numbers, names = [numeric_features(listing) for listing in listings], [item_groups(item) for item in listings]
        keys = common_keys(numbers, self.max_numbers, self.min_numbers)
        groups = [common_keys(({row[name]: 1} for row in names), self.max_groups, self.min_groups) for name in GROUPS]
        linear = out_of_fold_quotes(matrix, logs, assign_folds(train), row_weights)
        table = feature_matrix(numbers, keys, names, groups, linear)
        params = self.lightgbm(len(train))
        categorical = list(range(len(GROUPS)))
        data = lgb.Dataset(table, logs, weight=row_weights, params=params, categorical_feature=categorical)
        tfidf = TfidfWeights(words, idf)
        pricer = BoostingPricer(tfidf, weights, bias, keys, groups, None)
        curve = BoostingCurve("trees")
        options: dict[str, Any] = {"num_boost_round": min(self.n_estimators, UNVALIDATED_TREES)}
        if len(validation) >= MIN_VALIDATION:
            truth = np.log([item.price for item in validation])
            listings = [item.listing for item in validation]
            later = lgb.Dataset(pricer.table(listings), truth, reference=data, weight=get_weights(validation))
            options = {"num_boost_round": self.n_estimators, **curve.options(data, later, self.patience)}
        model = lgb.train(params, data, **options)
        (folder / TREES).write_text(model.model_to_string(num_iteration=model.best_iteration), encoding="utf-8")
        np.savez(folder / ARRAYS, idf=idf, weights=weights, bias=np.array([bias]))
        columns = {"words": words, "numbers": list(keys), "groups": [list(group) for group in groups]}
        write_json(folder / NAMES, {**columns, "trees": model.num_trees()})
        write_curve(folder, curve.points())

    def lightgbm(self, rows: int) -> dict[str, Any]:
        """LightGBM's parameters. One thread: two that share cores with other work took five times as long."""
        return {
            "objective": "l1",
            "metric": "l1",
            "learning_rate": self.learning_rate,
            "num_leaves": self.num_leaves,
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

    def load(self, folder: Path) -> Pricer:
        """The pricer of a model folder."""
        path = folder / NAMES
        values = read_object(path)
        words, numbers = (check_names(path, values.get(name), name) for name in ("words", "numbers"))
        lists = values.get("groups")
        if not isinstance(lists, list) or len(lists) != len(GROUPS):
            raise damaged_file(path, f"groups: {lists!r}", allowed=f"{len(GROUPS)} lists of names")
        groups = [number_names(check_names(path, names, "groups")) for names in lists]
        arrays = read_arrays(folder / ARRAYS, SHAPES, {"words": len(words)})
        trees = read_trees(folder / TREES, len(groups) + len(numbers) + 1)
        tfidf, bias = TfidfWeights(words, arrays["idf"]), float(arrays["bias"][0])
        return BoostingPricer(tfidf, arrays["weights"], bias, number_names(numbers), groups, trees)


class BoostingPricer:
    """Quotes exp(output of the trees)."""

    def __init__(
        self, tfidf: TfidfWeights, weights: Array, bias: float, keys: Columns, groups: Sequence[Columns], trees: Any
    ) -> None:
        self.tfidf, self.weights, self.bias, self.trees = tfidf, weights, bias, trees
        self.keys, self.groups = keys, groups

    @property
    def name(self) -> str:
        return "boosting"

    def table(self, listings: Sequence[Listing]) -> Array:
        """The columns of the trees [n, groups + numbers + 1]."""
        linear = self.tfidf.dot([render(listing) for listing in listings], self.weights) + self.bias
        numbers, names = [numeric_features(listing) for listing in listings], [item_groups(item) for item in listings]
        return feature_matrix(numbers, self.keys, names, self.groups, linear)

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        """One quote for each listing."""
        quotes: list[Quote] = []
        for start in range(0, len(listings), BATCH):
            logs = self.trees.predict(self.table(listings[start : start + BATCH]), num_threads=1)
            quotes += [Quote(float(price)) for price in np.exp(logs)]
        return quotes


def fit_ridge(matrix: Any, logs: Array, row_weights: Array | None = None) -> tuple[Array, float]:
    """Weights and bias of a ridge on log prices; three digits are precise enough for a column."""
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=1.0, tol=1e-2, copy_X=False).fit(matrix, logs, sample_weight=row_weights)
    return model.coef_, float(model.intercept_)


def assign_folds(items: Sequence[Item]) -> npt.NDArray[np.int64]:
    """The fold of each item [n], the same for titles that begin alike."""
    texts = [item.listing.title or item.listing.text[:200] for item in items]
    heads = [" ".join(segment_text(text).split()[:FOLD_WORDS]) for text in texts]
    return np.array([zlib.crc32(head.encode("utf-8", "replace")) % FOLDS for head in heads], dtype=np.int64)


def out_of_fold_quotes(
    matrix: Any, logs: Array, folds: npt.NDArray[np.int64], row_weights: Array | None = None
) -> Array:
    """The out-of-fold log price of each training row [n] by the ridge."""
    quotes = np.full(len(logs), logs.mean())
    for fold in np.unique(folds):
        held_out = folds == fold
        if held_out.all():
            break
        own = None if row_weights is None else row_weights[~held_out]
        weights, bias = fit_ridge(matrix[~held_out], logs[~held_out], own)
        quotes[held_out] = matrix[held_out] @ weights + bias
    return quotes


def numeric_features(listing: Listing) -> dict[str, float]:
    """The numbers of a listing by the word that follows them ("gb") or the name of their line ("modules:")."""
    whole = render(listing)[:MAX_CHARS]
    text = segment_text(whole)
    numbers: dict[str, float] = {}
    for number, unit in unit_pattern(text).findall(text):
        numbers.setdefault(unit, min(float(number), LARGEST))
    for key, number in LINE.findall(text):
        numbers.setdefault(f"{key.strip()}:", min(float(number), LARGEST))
    numbers["characters"] = float(len(whole))
    return numbers


def item_groups(listing: Listing) -> dict[str, str]:
    """The category, the brand and the first word of the title of a listing, in lower case."""
    first = segment_text((listing.title or listing.text)[:MAX_CHARS]).split(maxsplit=1)
    words = (segment_text(listing.category), segment_text(listing.brand), first[0] if first else "")
    return {name: word[:200] for name, word in zip(GROUPS, words, strict=True)}


def number_names(names: Sequence[str]) -> dict[str, int]:
    """The index of each name."""
    return {name: index for index, name in enumerate(names)}


def common_keys(rows: Iterable[Mapping[str, float]], max_keys: int, min_count: int) -> dict[str, int]:
    """The most frequent keys that occur in at least `min_count` rows, each with its index."""
    counts = Counter(key for row in rows for key in row)
    keys = sorted((key for key, count in counts.items() if count >= min_count), key=lambda key: (-counts[key], key))
    return number_names(keys[:max_keys])


def feature_matrix(
    numbers: Sequence[Mapping[str, float]],
    keys: Columns,
    names: Sequence[Mapping[str, str]],
    groups: Sequence[Columns],
    linear: Array,
) -> Array:
    """The columns of the trees [n, groups + numbers + 1]: the code of each categorical value, log(1 + number), NaN if
    missing, and the log price of the ridge last."""
    table = np.full((len(numbers), len(groups) + len(keys) + 1), np.nan)
    for row, (own_numbers, own_names) in enumerate(zip(numbers, names, strict=True)):
        for column, (group, name) in enumerate(zip(groups, own_names.values(), strict=True)):
            table[row, column] = group.get(name, np.nan)
        for key, number in own_numbers.items():
            if key in keys:
                table[row, len(groups) + keys[key]] = np.log1p(number)
    table[:, -1] = linear
    return table
