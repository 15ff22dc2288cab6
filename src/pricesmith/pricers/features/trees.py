"""Gradient-boosted trees of LightGBM: their table, their training and its curve, and reading them from text.

    parse_fields(Listing("1", "DDR5 RAM 16 GB", "modules: 2,8"))   # {"title gb": 16, "gb": 16, ...}
    table = TabularFields.from_listings(listings, 100, 20, 500, 5).columns(listings)

    params = TreeParams(n_categorical=12, n_estimators=1000, learning_rate=0.05, num_leaves=127)
    ensemble = fit_trees(TreeRows(table, logs), params, seeds=(0, 1, 2), validation=TreeRows(later, truths))
    ensemble.predict(table)                                        # [n]

The first columns of a table are categories, the others the numbers of a listing by key and unit, and its length. Each
number of a line is a column, and so is their product ("modules: 2,8" is 16 GB). A text is checked before it is read:
LightGBM aborts the process on a damaged one.
"""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pricesmith.core.atomic import write_atomic
from pricesmith.core.model_files import damaged_file, report_damage
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.threads import N_CORES
from pricesmith.core.types import Listing, render
from pricesmith.pricers.features.hashing import F32
from pricesmith.pricers.features.tokenizer import F64
from pricesmith.pricers.training import FEW_ROWS, TrainingPoint, map_in_threads, write_curve
from pricesmith.text.words import segment_text, unit_pattern

MAX_CHARS = 20_000
NUMBERS_PER_LINE = 4  # the rest is ignored
LARGEST = 1e12
NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
LINE = re.compile(r"^([^:\n]{1,30}):[ ]*(.+)$", re.MULTILINE)
NAMED = ("category", "brand", "first word")
MAX_VALUE_CHARS = 80  # of a categorical value
MAX_CATEGORICALS = 12  # category, brand and first word, and the lines that most listings have

Columns = Mapping[str, int]


def parse_fields(listing: Listing) -> tuple[dict[str, float], dict[str, str]]:
    """The numbers of a listing by name, and its categories: category, brand, first word, the value of each line."""
    whole, head = render(listing)[:MAX_CHARS], (listing.title or listing.text[:200])[:MAX_CHARS]
    text, title = segment_text(whole), segment_text(head)
    first = title.split(maxsplit=1)
    numbers: dict[str, float] = {}
    groups = dict(zip(NAMED, (segment_text(listing.category), segment_text(listing.brand), *first[:1]), strict=False))
    for key, value in LINE.findall(text):
        key = key.strip()
        groups.setdefault(f"{key}:", value.strip()[:MAX_VALUE_CHARS])
        values = [parse_number(number) for number in NUMBER.findall(value)[:NUMBERS_PER_LINE]]
        for index, number in enumerate(values):
            numbers.setdefault(f"{key}#{index}", number)
        if len(values) > 1:
            numbers.setdefault(f"{key}#product", min(math.prod(values), LARGEST))
    for number, unit in unit_pattern(title).findall(title):
        numbers.setdefault(f"title {unit}", parse_number(number))
    for number, unit in unit_pattern(text).findall(text):
        numbers.setdefault(unit, parse_number(number))
    numbers |= {"characters": len(whole), "in title": len(head), "lines": text.count("\n"), "words": text.count(" ")}
    numbers["digits in title"] = sum(character.isdigit() for character in title)
    return numbers, groups


def parse_number(text: str) -> float:
    """The number of a text, at most `LARGEST`."""
    return min(float(text[:30]), LARGEST)


class TabularFields:
    """The columns: `numbers` has the column of each number, `categories` the code of each value of each categorical."""

    def __init__(self, numbers: Columns, categories: Mapping[str, Columns]) -> None:
        self.numbers, self.categories = numbers, categories

    @classmethod
    def from_listings(
        cls, listings: Sequence[Listing], max_numbers: int, min_numbers: int, max_names: int, min_names: int
    ) -> TabularFields:
        """The most frequent numbers and categoricals of at least `min_numbers` listings, at most `max_numbers` of the
        former, and the `max_names` most frequent values of each categorical, each of at least `min_names` listings."""
        rows = [parse_fields(listing) for listing in listings]
        numbers = common_keys((numbers for numbers, _ in rows), max_numbers, min_numbers)
        frequent = common_keys(
            ({kind: 1 for kind, name in groups.items() if name} for _, groups in rows), MAX_CATEGORICALS, min_numbers
        )
        categories = {
            kind: common_keys(({groups[kind]: 1} for _, groups in rows if groups.get(kind)), max_names, min_names)
            for kind in dict.fromkeys((*NAMED, *frequent))
        }
        return cls(numbers, {kind: names for kind, names in categories.items() if names})

    def columns(self, listings: Sequence[Listing]) -> F32:
        """Codes of categories, then log(1 + number); [n, categories + numbers], NaN if missing."""
        table = np.full((len(listings), len(self.categories) + len(self.numbers)), np.nan, dtype=np.float32)
        for row, listing in enumerate(listings):
            numbers, groups = parse_fields(listing)
            for column, (kind, codes) in enumerate(self.categories.items()):
                table[row, column] = codes.get(groups.get(kind, ""), np.nan)
            for key, number in numbers.items():
                if key in self.numbers:
                    table[row, len(self.categories) + self.numbers[key]] = math.log1p(number)
        return table

    def to_dict(self) -> dict[str, Any]:
        """The names in the order of their columns, as JSON values."""
        return {
            "numbers": list(self.numbers),
            "categories": {kind: list(codes) for kind, codes in self.categories.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TabularFields:
        """The fields of `to_dict`. Raises ValueError if the values are damaged."""
        for names in (values["numbers"], *values["categories"].values()):
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise ValueError("names must be lists of texts")
            if len(set(names)) < len(names):
                raise ValueError("names must be different")
        return cls(
            number_names(values["numbers"]), {kind: number_names(names) for kind, names in values["categories"].items()}
        )


def number_names(names: Sequence[str]) -> dict[str, int]:
    """The index of each name."""
    return {name: index for index, name in enumerate(names)}


def common_keys(rows: Iterable[Mapping[str, Any]], max_keys: int, min_count: int) -> dict[str, int]:
    """The most frequent keys that occur in at least `min_count` rows, each with its index."""
    counts = Counter(key for row in rows for key in row)
    keys = sorted((key for key, count in counts.items() if count >= min_count), key=lambda key: (-counts[key], key))
    return number_names(keys[:max_keys])


HEAD = "tree"
END = "end of trees"
ALLOWED = "the text that LightGBM wrote"
PER_SPLIT = ("split_feature", "threshold", "decision_type", "left_child", "right_child")
PER_LEAF = ("leaf_value",)
CURVE_STEP = 10  # trees between two points of a training curve


def read_trees(path: Path, columns: int | None = None) -> Any:
    """The booster of a text file. Raises InputError if the text is damaged, or its number of columns is not
    `columns`."""
    with report_damage(path):
        text = path.read_text(encoding="utf-8")
        check_trees(path, text, columns)
        return load_booster(text)


def check_trees(path: Path, text: str, columns: int | None = None) -> None:
    """Raise InputError if `text`, the content of `path`, is not a complete booster."""
    header, *trees = text.split("\nTree=")
    fields = parse_lines(header)
    if header.split("\n", 1)[0] != HEAD or END not in text:
        raise damaged_file(path, "a truncated text, or one of another kind", allowed=ALLOWED)
    sizes = fields.get("tree_sizes", "").split()
    if len(sizes) != len(trees):
        raise damaged_file(path, f"{len(trees)} trees", allowed=f"{len(sizes)} trees, as its header says")
    if fields.get("num_class") != "1" or fields.get("num_tree_per_iteration") != "1":
        raise damaged_file(path, "trees of several classes", allowed="one number for each listing")
    features = int(fields["max_feature_idx"]) + 1
    if columns is not None and features != columns:
        raise damaged_file(path, f"trees over {features} columns", allowed=f"{columns} columns")
    body = text[text.index("\nTree=") + 1 : text.index(END)] if trees else ""
    if [len(part.encode()) for part in split_trees(body)] != [int(size) for size in sizes]:
        raise damaged_file(path, "trees whose lengths differ from the header", allowed=ALLOWED)
    for number, tree in enumerate(trees):
        if reason := find_fault(parse_lines(tree.split(END)[0]), features):
            raise damaged_file(path, f"tree {number}: {reason}", allowed=ALLOWED)


def split_trees(body: str) -> list[str]:
    """The text of each tree, with its first line."""
    return [f"Tree={part}" for part in body.split("Tree=")[1:]]


def parse_lines(text: str) -> dict[str, str]:
    """The lines `name=value` of a text as a dictionary."""
    pairs = (line.partition("=") for line in text.split("\n"))
    return {name: value for name, equals, value in pairs if equals}


def find_fault(fields: dict[str, str], features: int) -> str:
    """The first fault of one tree (lengths, columns, links between nodes, leaves), or an empty text."""
    leaves, categories = int(fields["num_leaves"]), int(fields["num_cat"])
    if leaves < 1 or fields.get("is_linear", "0") != "0":
        return "not a tree of constant leaves"
    counts = dict.fromkeys(PER_SPLIT, leaves - 1) | dict.fromkeys(PER_LEAF, leaves)
    arrays = {name: np.array(fields[name].split(), dtype=np.float64) for name in counts if leaves > 1 or name in fields}
    for name, values in arrays.items():
        # LightGBM writes an infinite threshold where a split only separates the missing values of a column.
        valid = ~np.isnan(values) if name == "threshold" else np.isfinite(values)
        if len(values) != counts[name] or not valid.all():
            return f"{name} holds {len(values)} numbers, or numbers that are not finite"
    for name in ("split_gain", "internal_value", "internal_weight", "internal_count"):
        if name in fields and len(fields[name].split()) != leaves - 1:
            return f"{name} holds {len(fields[name].split())} numbers"
    if leaves == 1:
        return ""
    split, left, right = (arrays[name].astype(int) for name in ("split_feature", "left_child", "right_child"))
    if split.min() < 0 or split.max() >= features:
        return "a split on a missing column"
    children, parents = np.concatenate([left, right]), np.tile(np.arange(leaves - 1), 2)
    inner = children >= 0
    if sorted(children[inner]) != list(range(1, leaves - 1)) or sorted(-children[~inner]) != list(range(1, leaves + 1)):
        return "its nodes do not form a tree"
    if (children[inner] <= parents[inner]).any():
        return "its nodes form a cycle"
    return find_category_fault(fields, arrays, categories)


def find_category_fault(fields: dict[str, str], arrays: dict[str, Any], categories: int) -> str:
    """The first fault of the category sets of a tree, or an empty text."""
    by_category = arrays["decision_type"].astype(int) & 1 == 1
    if not categories:
        return "a split on missing categories" if by_category.any() else ""
    edges = np.array(fields["cat_boundaries"].split(), dtype=np.int64)
    words = fields["cat_threshold"].split()
    if len(edges) != categories + 1 or edges[0] != 0 or (np.diff(edges) < 0).any() or edges[-1] != len(words):
        return "category sets of a wrong length"
    if not all(word.isdigit() and int(word) < 2**32 for word in words):
        return "category sets that are not numbers"
    chosen = arrays["threshold"][by_category]
    return "a split on a missing category set" if ((chosen < 0) | (chosen >= categories)).any() else ""


class BoostingCurve:
    """Records the training curve of LightGBM: L1 loss on the training rows and MAE in money on validation rows."""

    def __init__(self, series: str) -> None:
        self.series, self.started = series, time.perf_counter()
        self.history: dict[str, dict[str, list[float]]] = {}
        self.seconds: list[float] = []

    def options(self, train: Any, validation: Any, patience: int) -> dict[str, Any]:
        """Arguments for `lightgbm.train`: early stopping by the first metric on validation, and the recording."""
        import lightgbm as lgb

        def mae(logs: Any, data: Any) -> tuple[str, float, bool]:
            return "mae", float(np.abs(np.exp(np.minimum(logs, 300)) - np.exp(data.get_label())).mean()), False

        return {
            "valid_sets": [train, validation],
            "valid_names": ["training", "validation"],
            "feval": mae,
            "callbacks": [
                lgb.early_stopping(patience, first_metric_only=True, verbose=False),
                lgb.record_evaluation(self.history),
                lambda _: self.seconds.append(time.perf_counter() - self.started),
            ],
        }

    def points(self) -> list[TrainingPoint]:
        """Every tenth step and the last one; none if nothing was recorded."""
        losses = next((values for name, values in self.history.get("training", {}).items() if name != "mae"), [])
        errors = self.history.get("validation", {}).get("mae", [])
        return [
            TrainingPoint(
                series=self.series,
                step=step,
                train_loss=float(f"{losses[step - 1]:.5g}"),
                validation_mae=float(f"{errors[step - 1]:.6g}"),
                seconds=round(self.seconds[min(step, len(self.seconds)) - 1], 2),
            )
            for step in range(1, len(losses) + 1)
            if step % CURVE_STEP == 0 or step in (1, len(losses))
        ]


UNVALIDATED_TREES = 100  # a safe number of trees without enough validation rows for early stopping


@dataclass(frozen=True, slots=True)
class TreeParams:
    """How trees are grown: `n_categorical` leading columns, LightGBM's settings, and the loss: L1 or a quantile."""

    n_categorical: int
    n_estimators: int
    learning_rate: float
    num_leaves: int
    patience: int = 100
    quantile: float | None = None
    min_data_in_leaf: int = 20

    def lightgbm(self, rows: int, seed: int) -> dict[str, Any]:
        """LightGBM's parameters. One thread: two that share cores with other work took five times as long."""
        loss = {"objective": "l1"} if self.quantile is None else {"objective": "quantile", "alpha": self.quantile}
        return {
            **loss,
            "metric": "l1" if self.quantile is None else "quantile",
            "learning_rate": self.learning_rate,
            "num_leaves": self.num_leaves,
            "min_data_in_leaf": max(1, min(self.min_data_in_leaf, rows // 20)),
            "feature_fraction": 0.3,
            "bagging_fraction": 0.7 if rows >= 20 else 1.0,
            "bagging_freq": 1,
            "max_bin": 63,
            "bin_construct_sample_cnt": 50_000,  # rows; LightGBM copies them at 12 bytes a number
            "seed": seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "verbosity": -1,
        }


class TreeEnsemble:
    """Boosters of several seeds; their predictions are averaged."""

    def __init__(self, boosters: Sequence[Any]) -> None:
        self.boosters = list(boosters)

    def predict(self, table: F32) -> F64:
        """One prediction for each row [n]."""
        if not len(table):
            return np.zeros(0)

        # In as many pieces as there are cores; a row's prediction does not depend on the others.
        size = len(table) if len(table) < FEW_ROWS else -(-len(table) // N_CORES)
        pieces = [(booster, start) for booster in self.boosters for start in range(0, len(table), size)]

        def predict(piece: tuple[Any, int]) -> Any:
            booster, start = piece
            return booster.predict(table[start : start + size], num_threads=1)

        parts = [*map(predict, pieces)] if size == len(table) else map_in_threads(predict, pieces)
        predictions = np.concatenate(parts).reshape(len(self.boosters), len(table))
        return np.asarray(predictions.mean(axis=0), dtype=np.float64)

    @property
    def n_trees(self) -> int:
        """The number of trees of the longest booster."""
        return max(int(booster.num_trees()) for booster in self.boosters)

    def save(self, folder: Path) -> None:
        """Write each booster as a text file into a folder, which is created."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, booster in zip(tree_files(len(self.boosters)), self.boosters, strict=True):
            (folder / name).write_text(booster.model_to_string(), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, count: int) -> TreeEnsemble:
        """The boosters that `save` wrote. Raises InputError if a file is missing or damaged."""
        return cls([read_trees(folder / name) for name in tree_files(count)])


def tree_files(count: int) -> list[str]:
    """The file names of `count` boosters."""
    return [f"trees-{number}.txt" for number in range(count)]


def load_booster(text: str) -> Any:
    """A booster from its text."""
    import lightgbm as lgb

    return lgb.Booster(model_str=text)


@dataclass(frozen=True, slots=True)
class TreeRows:
    """What trees are grown on: a table [n, columns], truths [n], and what the trees are added to [n]; nothing: 0."""

    table: F32
    truths: F64
    offsets: F64 | None = None


def fit_trees(
    rows: TreeRows,
    params: TreeParams,
    seeds: Sequence[int],
    validation: TreeRows | None = None,
    rounds: int = 0,
    checkpoint: Callable[[str], Path] | None = None,
    progress: Progress = SILENT,
    curve_folder: Path | None = None,
) -> TreeEnsemble:
    """Trees, with early stopping on `validation`, or exactly `rounds` of them. They predict truths less offsets.

    `checkpoint` gives the file of a finished booster, which is read if it exists. The training curve is appended in
    `curve_folder`.
    """

    def fit(seed: int) -> tuple[str, list[TrainingPoint]]:
        path = checkpoint(f"forest-{seed}.txt") if checkpoint else None
        if path and path.is_file():
            return path.read_text(encoding="utf-8"), []
        text, points = fit_booster(rows, params, seed, validation, rounds)
        if path:
            write_atomic(path, text)
        return text, points

    boosters = []
    with ThreadPoolExecutor(N_CORES) as pool:
        for text, points in pool.map(fit, seeds):
            boosters.append(load_booster(text))  # as it will be loaded: what is calibrated is what is served
            if curve_folder:
                write_curve(curve_folder, points, append=True)
            progress.advance()
    return TreeEnsemble(boosters)


def fit_booster(
    rows: TreeRows, params: TreeParams, seed: int, validation: TreeRows | None, rounds: int
) -> tuple[str, list[TrainingPoint]]:
    """The booster of one seed as text, and its training curve; the curve needs validation rows."""
    import lightgbm as lgb

    settings = params.lightgbm(len(rows.truths), seed)
    categorical = list(range(params.n_categorical))
    data = lgb.Dataset(
        rows.table, rows.truths, init_score=rows.offsets, params=settings, categorical_feature=categorical
    )
    curve = BoostingCurve(f"trees {seed + 1}")
    options: dict[str, Any] = {"num_boost_round": rounds or min(params.n_estimators, UNVALIDATED_TREES)}
    if validation is not None and not rounds:
        later = lgb.Dataset(validation.table, validation.truths, init_score=validation.offsets, reference=data)
        options = {"num_boost_round": params.n_estimators, **curve.options(data, later, params.patience)}
    booster = lgb.train(settings, data, **options)
    return str(booster.model_to_string(num_iteration=booster.best_iteration)), curve.points()
