"""The fits of a learning curve: nested subsets of the training rows, fitted and evaluated, each saved when it is done.

A repeat is an order of all near-duplicate groups; a part of the rows is the first groups in that order, so parts are
nested and no group is split. Repeats come in pairs, the second in the opposite order: the halves of a pair share no
row, so every training row is outside all parts of one of them and can be priced by fits that left it out.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pricesmith.catalog.catalog import Catalog, half_of
from pricesmith.core.atomic import atomic_file, write_json
from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.folders import scratch_build
from pricesmith.core.progress import Progress
from pricesmith.core.types import Item, Pricer, Recipe
from pricesmith.evaluation.evaluate import evaluate, to_arrays
from pricesmith.metrics.bootstrap import Codes, encode_groups
from pricesmith.metrics.metrics import Array
from pricesmith.pricers.fitting import CompositeRecipe, FitData, catalog_info, fit_recipe
from pricesmith.pricers.model import CATALOG

PARTS = (8, 4, 2, 1)
MIN_ROWS = 400  # training rows; an eighth of fewer is too little to fit a model on
# Kinds that learn nothing from validation, so all of it can evaluate them; a test checks that.
WITHOUT_VALIDATION = frozenset({"median", "ridge", "knn", "sparse_mlp"})
BATCH = 1_024
ORDER_KEY = "advise"  # part of the hash that orders groups: another key gives other subsets


@dataclass(frozen=True)
class FitTask:
    """One fit: on the `part`-th of the rows in a repeat."""

    part: int
    repeat: int

    @property
    def name(self) -> str:
        """The file name of its result, without ending."""
        return f"part-{self.part}-repeat-{self.repeat}"

    @property
    def description(self) -> str:
        """The part in words."""
        return "all rows" if self.part == 1 else f"1/{self.part} of the rows"


@dataclass(frozen=True)
class FitResult:
    """Quotes of a fit for the evaluated items, shape (n,), and for left-out training rows, shape (m,); its seconds."""

    evaluated: Array
    left_out: Array
    seconds: float


@dataclass(frozen=True)
class FitMaterial:
    """Rows to fit on and to evaluate. `evaluated` are rows of validation, `evaluated_groups` their groups by id."""

    catalog: Catalog
    train: list[Item]
    train_groups: list[str]
    tune: list[Item]
    evaluated: list[Item]
    evaluated_groups: Mapping[str, str]
    median: float
    max_left_out: int

    @property
    def group_codes(self) -> Codes:
        """Groups of the evaluated items as codes, shape (n,)."""
        return encode_groups([self.evaluated_groups[item.listing.id] for item in self.evaluated])

    @property
    def truths(self) -> Array:
        """Prices of the evaluated items, shape (n,)."""
        return np.array([item.price for item in self.evaluated])


def build_material(catalog: Catalog, kind: str, max_left_out: int) -> FitMaterial:
    """Read the rows of a catalog. A kind that learns from validation gets its tune half and is evaluated on the other.

    Raises InputError if there are too few rows for a curve.
    """
    train, train_groups = catalog.items_and_groups("train")
    if len(train) < MIN_ROWS:
        raise InputError(
            "The catalog has too few training rows for a learning curve",
            got=f"{len(train):,}",
            allowed=f"{MIN_ROWS} or more",
            hint="Add rows first; with so few, more rows will help.",
        )
    items, groups = catalog.items_and_groups("validation")
    uses_validation = kind not in WITHOUT_VALIDATION
    evaluated = [
        (item, group)
        for item, group in zip(items, groups, strict=True)
        if not uses_validation or half_of(group) == "calibrate"
    ]
    if not evaluated:
        raise InputError(
            f"{catalog.path} has no validation rows to evaluate on", hint="Curate it with a larger validation share."
        )
    return FitMaterial(
        catalog=catalog,
        train=train,
        train_groups=train_groups,
        tune=catalog.tune_half() if uses_validation else [],
        evaluated=[item for item, _ in evaluated],
        evaluated_groups={item.listing.id: group for item, group in evaluated},
        median=float(np.median([item.price for item in train])),
        max_left_out=max_left_out,
    )


def build_tasks(repeats: int) -> list[FitTask]:
    """Return every fit of a curve, small ones first: `repeats` of each part, and one of all rows."""
    return [FitTask(part, repeat) for part in PARTS for repeat in range(1 if part == 1 else repeats)]


def nested_order(groups: Sequence[str], repeat: int) -> list[str]:
    """Return the distinct groups in the order of a repeat; repeats 0 and 1, 2 and 3, ... are each other's reverse."""
    pair = repeat // 2
    ordered = sorted(set(groups), key=lambda group: hashlib.sha256(f"{ORDER_KEY} {pair} {group}".encode()).digest())
    return ordered[::-1] if repeat % 2 else ordered


def select_rows(groups: Sequence[str], task: FitTask) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which training rows a task is fitted on, shape (rows,): the first whole groups that fit in its part."""
    if task.part == 1:
        return np.ones(len(groups), dtype=bool)
    sizes: dict[str, int] = {}
    for group in groups:
        sizes[group] = sizes.get(group, 0) + 1
    room, selected = len(groups) // task.part, set()
    for group in nested_order(groups, task.repeat):
        room -= sizes[group]
        if room < 0:
            break
        selected.add(group)
    return np.array([group in selected for group in groups], dtype=bool)


def left_out_rows(material: FitMaterial, repeat: int) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Return the indices of training rows outside all parts of a repeat (but the whole), at most half of
    `max_left_out`: rows of the last groups in its order.
    """
    groups = material.train_groups
    outside = np.flatnonzero(~select_rows(groups, FitTask(2, repeat))).tolist()
    rank = {group: position for position, group in enumerate(nested_order(groups, repeat ^ 1))}
    ordered = sorted(outside, key=lambda row: (rank[groups[row]], row))
    return np.array(sorted(ordered[: material.max_left_out // 2]), dtype=np.intp)


def run_task(task: FitTask, material: FitMaterial, recipe: Recipe, folder: Path, progress: Progress) -> FitResult:
    """Fit and evaluate one task, or read its result if `folder` has it."""
    path = folder / f"{task.name}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as arrays:
            return FitResult(arrays["evaluated"], arrays["left_out"], float(arrays["seconds"]))
    selected, model_folder = select_rows(material.train_groups, task), folder / f"{task.name}.fitting"
    seconds = fit_part(recipe, material, selected, model_folder, progress, task.description)
    pricer = recipe.load(model_folder)
    left_out = [] if task.part == 1 else [material.train[row] for row in left_out_rows(material, task.repeat)]
    progress.start(f"evaluating {recipe.kind} on {task.description}", len(material.evaluated) + len(left_out))
    evaluated = price_items(pricer, material.evaluated, material, progress)
    result = FitResult(evaluated, price_items(pricer, left_out, material, progress), seconds)
    with atomic_file(path) as temporary, temporary.open("wb") as handle:
        np.savez(handle, evaluated=result.evaluated, left_out=result.left_out, seconds=np.float64(seconds))
    shutil.rmtree(model_folder, ignore_errors=True)
    return result


def fit_part(
    recipe: Recipe,
    material: FitMaterial,
    selected: np.ndarray[Any, np.dtype[np.bool_]],
    folder: Path,
    progress: Progress,
    description: str,
) -> float:
    """Fit a recipe on the `selected` training rows, shape (rows,), into a folder of its own; the seconds it took.

    A recipe that resumes starts from the checkpoints in `folder`. `description` says which part of the rows it is.
    """
    started = time.time()
    if not getattr(recipe, "resumes", False):
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    train = [item for item, inside in zip(material.train, selected, strict=True) if inside]
    progress.start(f"fitting {recipe.kind} on {description}")
    write_json(folder / CATALOG, catalog_info(material.catalog, train))
    return fit_recipe(recipe, FitData(train, material.tune, []), scratch_build(folder), started, progress)


def price_items(pricer: Pricer, items: Sequence[Item], material: FitMaterial, progress: Progress) -> Array:
    """Return a pricer's quotes, shape (n,), by the rules of `eval`: clipped to the catalog's price range, unanswered
    items charged at the training median.
    """
    if not items:
        return np.zeros(0)
    catalog = material.catalog
    evaluation = evaluate(
        pricer,
        items,
        catalog=catalog.fingerprint,
        median=material.median,
        currency=catalog.currency,
        price_range=catalog.price_range,
        batch=BATCH,
        progress=progress,
    )
    return to_arrays(evaluation).quote


def check_recipe(recipe: Recipe) -> None:
    """Raise UsageError for a recipe made of other models: those were fitted on all rows."""
    if isinstance(recipe, CompositeRecipe):
        raise UsageError(
            f"A {recipe.kind} is made of models that were fitted on all rows, so it has no learning curve",
            got=recipe.kind,
            allowed="a recipe that is fitted on rows",
            hint="Measure the learning curve of one of its members.",
        )
