"""The places of a learning curve: nested subsets of the training rows, fitted and judged, each kept when it is done.

A draw is an order of all groups; a part of the rows is its first groups, so the parts are nested and none is cut.
Draws come in pairs, the second in the opposite order: the halves of a pair share no row, so every training row is
outside of all parts of one of them, and can be judged by their fits as a row that they have not seen.
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
from pricesmith.core.folders import FolderBuild
from pricesmith.core.progress import Progress
from pricesmith.core.types import Item, Recipe
from pricesmith.evaluation.evaluate import evaluate, to_arrays
from pricesmith.metrics.bootstrap import Codes, encode_groups
from pricesmith.metrics.metrics import Array
from pricesmith.pricers.fitting import CompositeRecipe, FitData, catalog_info, fit_recipe
from pricesmith.pricers.model import CATALOG

TASK_FOLDER = (8, 4, 2, 1)
LEAST = 400  # training rows; an eighth of fewer is too little to fit anything on
# What these learn from validation is nothing, so all of it can judge them; a test bears it out.
WITHOUT_FIT = frozenset({"median", "ridge", "knn", "sparse_mlp"})
BATCH = 1_024


@dataclass(frozen=True)
class FitTask:
    """One fit: the `part`-th of the rows in draw number `draw`."""

    part: int
    draw: int

    @property
    def name(self) -> str:
        return f"part-{self.part}-draw-{self.draw}"

    @property
    def told(self) -> str:
        """The part in words."""
        return "all rows" if self.part == 1 else f"1/{self.part} of the rows"


@dataclass(frozen=True)
class FitResult:
    """What a fit said: quotes for the judged items (n,), for the rows it left out (m,), and its seconds."""

    held: Array
    left_out: Array
    seconds: float


@dataclass(frozen=True)
class FitMaterial:
    """What fits are made from and judged on. `held` are rows of validation, `groups` codes of theirs."""

    catalog: Catalog
    train: list[Item]
    names: list[str]
    tune: list[Item]
    held: list[Item]
    held_groups: Mapping[str, str]
    median: float
    most_left_out: int

    @property
    def codes(self) -> Codes:
        """Groups of the judged items as codes, (n,)."""
        return encode_groups([self.held_groups[item.listing.id] for item in self.held])

    @property
    def truths(self) -> Array:
        """Prices of the judged items, (n,)."""
        return np.array([item.price for item in self.held])


def build_material(catalog: Catalog, kind: str, most_left_out: int) -> FitMaterial:
    """The rows of a catalog. A kind that learns from validation gets the tune half of it and is judged on the other.

    Raises InputError where there are too few rows for a curve.
    """
    train, names = catalog.items_and_groups("train")
    if len(train) < LEAST:
        raise InputError(
            "The catalog has too few training rows for a learning curve",
            got=f"{len(train):,}",
            allowed=f"{LEAST} or more",
            hint="Add rows first; under that every row helps.",
        )
    held, groups = catalog.items_and_groups("validation")
    judged = [
        (item, group)
        for item, group in zip(held, groups, strict=True)
        if kind in WITHOUT_FIT or half_of(group) == "calibrate"
    ]
    if not judged:
        raise InputError(f"{catalog.path} has no validation rows to judge on", hint="Curate it with a larger share.")
    tune = [] if kind in WITHOUT_FIT else catalog.tune_half()
    median = float(np.median([item.price for item in train]))
    own = {item.listing.id: group for item, group in judged}
    return FitMaterial(catalog, train, names, tune, [item for item, _ in judged], own, median, most_left_out)


def build_tasks(fits: int) -> list[FitTask]:
    """Every fit of a curve, the small ones first: `fits` of each part, and one of all rows."""
    return [FitTask(part, draw) for part in TASK_FOLDER for draw in range(1 if part == 1 else fits)]


def nested_order(names: Sequence[str], draw: int) -> list[str]:
    """The groups of a draw in its order; draws 0 and 1, 2 and 3, ... are each other's opposite."""
    pair = draw // 2
    ordered = sorted(set(names), key=lambda name: hashlib.sha256(f"advise {pair} {name}".encode()).digest())
    return ordered[::-1] if draw % 2 else ordered


def select_rows(names: Sequence[str], task: FitTask) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which training rows a task is fitted on, (rows,): the first whole groups of its draw that fit in its part."""
    if task.part == 1:
        return np.ones(len(names), dtype=bool)
    sizes: dict[str, int] = {}
    for name in names:
        sizes[name] = sizes.get(name, 0) + 1
    room, inside = len(names) // task.part, set()
    for name in nested_order(names, task.draw):
        room -= sizes[name]
        if room < 0:
            break
        inside.add(name)
    return np.array([name in inside for name in names], dtype=bool)


def exclude_category(material: FitMaterial, draw: int) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Places of the training rows that no part of a draw holds (but the whole), at most half of `most_left_out`: those
    of the last groups in its order."""
    names = material.names
    outside = np.flatnonzero(~select_rows(names, FitTask(2, draw))).tolist()
    rank = {name: place for place, name in enumerate(nested_order(names, draw ^ 1))}
    places = sorted(outside, key=lambda place: (rank[names[place]], place))
    return np.array(sorted(places[: material.most_left_out // 2]), dtype=np.intp)


def run_task(task: FitTask, material: FitMaterial, recipe: Recipe, folder: Path, progress: Progress) -> FitResult:
    """Fit and judge one task, or read what is kept of it in `folder`."""
    kept = folder / f"{task.name}.npz"
    if kept.is_file():
        with np.load(kept, allow_pickle=False) as arrays:
            return FitResult(arrays["held"], arrays["left_out"], float(arrays["seconds"]))
    inside = select_rows(material.names, task)
    train = [item for item, here in zip(material.train, inside, strict=True) if here]
    begun, place = time.time(), folder / f"{task.name}.fitting"
    if not getattr(recipe, "resumes", False):
        shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True, exist_ok=True)
    progress.start(f"fitting {recipe.kind} on {task.told}")
    write_json(place / CATALOG, catalog_info(material.catalog, train))
    seconds = fit_recipe(recipe, FitData(train, material.tune, []), FolderBuild(place, place, "", {}), begun, progress)
    pricer = recipe.load(place)
    unseen = [] if task.part == 1 else [material.train[at] for at in exclude_category(material, task.draw)]
    progress.start(f"judging {recipe.kind} of {task.told}", len(material.held) + len(unseen))
    held, unheld = (quotes(pricer, items, material, progress) for items in (material.held, unseen))
    done = FitResult(held, unheld, seconds)
    with atomic_file(kept) as temporary, temporary.open("wb") as handle:
        np.savez(handle, held=done.held, left_out=done.left_out, seconds=np.float64(seconds))
    shutil.rmtree(place, ignore_errors=True)
    return done


def quotes(pricer: Any, items: Sequence[Item], material: FitMaterial, progress: Progress) -> Array:
    """A pricer's quotes by the rules of `eval`: clipped to the catalog's range, no answer charged at the constant."""
    if not items:
        return np.zeros(0)
    catalog = material.catalog
    found = evaluate(
        pricer,
        items,
        catalog=catalog.fingerprint,
        median=material.median,
        currency=catalog.currency,
        price_range=catalog.price_range,
        batch=BATCH,
        progress=progress,
    )
    return to_arrays(found).quote


def check_recipe(recipe: Recipe) -> None:
    """Raises UsageError for a recipe that is made of other runs: those know all rows already."""
    if isinstance(recipe, CompositeRecipe):
        raise UsageError(
            f"A {recipe.kind} is made of runs that were fitted on all rows",
            got=recipe.kind,
            allowed="a recipe that is fitted on rows",
            hint="Ask for advice with one of its members.",
        )
