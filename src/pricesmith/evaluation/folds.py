"""Which items of a catalog are judged, and what each pricer may have learnt from.

A catalog of 2,000 rows or more is judged on one split. A smaller one is judged in 5 folds by group: every
row is judged once, by a pricer fitted without its fold.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pricesmith.catalog.catalog import ITEMS, SPLITS, Catalog
from pricesmith.core.errors import UsageError
from pricesmith.core.types import Item, Listing
from pricesmith.evaluation.results import ComparableRow, EvalItem, build_comparables

N_FOLDS = 5
MAX_ROWS_FOR_FOLDS = 2_000
JUDGED = ("validation", "test")
NEAR = 3
BATCH = 1_024

Search = Callable[[Sequence[Listing], int], Sequence[Sequence[ComparableRow]]]
Index = Callable[[Sequence[Item]], Search]


@dataclass(frozen=True)
class Fold:
    """Items to judge, and outside of the one fold of a large catalog what a pricer is refitted on."""

    items: list[Item]
    train: list[Item]
    validation: list[Item]


@dataclass(frozen=True)
class EvalPlan:
    """Folds of items, the group of each id, the median's quote, and what an evals folder is kept under."""

    folds: tuple[Fold, ...]
    groups: Mapping[str, str]
    median: float
    folded: bool
    about: Mapping[str, Any]


def build_plan(catalog: Catalog, split: str, *, in_folds: bool = True) -> EvalPlan:
    """What is judged; without `in_folds`, the split of a small catalog too.

    Raises UsageError where the split is the training rows, unknown or empty. An item without an answer is charged at
    the median of the train split, in folds too: one number for all rows.
    """
    if split not in JUDGED:
        what = "Nobody is judged on the train split" if split == "train" else f"A catalog has no split {split!r}"
        raise UsageError(what, got=split, allowed=" or ".join(JUDGED), hint="Pricers learn from the train split.")
    folded = in_folds and row_count(catalog) < MAX_ROWS_FOR_FOLDS
    items: list[Item] = []
    groups: dict[str, str] = {}
    for part in SPLITS if folded else (split,):
        some, names = catalog.items_and_groups(part)
        items += some
        groups.update((item.listing.id, group) for item, group in zip(some, names, strict=True))
    if not items:
        raise UsageError(f"{catalog.path} has no items in its split {split}", hint="Choose another split.")
    folds = assign_folds(items, groups) if folded else [Fold(items, [], [])]
    about = {"format": 1, "catalog": catalog.fingerprint, "split": "folds" if folded else split}
    median = float(np.median(catalog.columns("train", ("price",))["price"]))
    return EvalPlan(tuple(folds), groups, median, folded, about)


def row_count(catalog: Catalog) -> int:
    """How many items a catalog has, over all splits."""
    import pyarrow.parquet as pq

    return int(pq.read_metadata(catalog.path / ITEMS).num_rows)


def order_key(group: str) -> bytes:
    """A group's place in an order that has nothing to do with it; the same on every machine."""
    return hashlib.sha256(f"judge {group}".encode()).digest()


def limit_items(plan: EvalPlan, limit: int) -> EvalPlan:
    """The plan for `limit` items, group by group in drawn order; only the last group can be cut."""
    ordered = sorted(plan.groups, key=lambda id: (order_key(plan.groups[id]), id))
    chosen = set(ordered[:limit])
    folds = (replace(fold, items=[item for item in fold.items if item.listing.id in chosen]) for fold in plan.folds)
    return replace(plan, folds=tuple(fold for fold in folds if fold.items))


def assign_folds(items: Sequence[Item], groups: Mapping[str, str]) -> list[Fold]:
    """Folds of like size that no group crosses; a ninth of the groups that are left are for validation."""
    sizes = Counter(groups[item.listing.id] for item in items)
    load = [0] * N_FOLDS
    place: dict[str, int] = {}
    for group in sorted(sizes, key=lambda group: (-sizes[group], order_key(group))):
        place[group] = min(range(N_FOLDS), key=lambda fold: (load[fold], fold))
        load[place[group]] += sizes[group]
    folds = []
    for number in range(N_FOLDS):
        # Each fold draws its own, or all would be calibrated on the same few.
        order = {group: order_key(f"held {number} {group}") for group in sizes if place[group] != number}
        others = sorted(order, key=order.__getitem__)
        held = set(others[: -(-len(others) // 9)])
        here: tuple[list[Item], list[Item], list[Item]] = ([], [], [])
        for item in items:
            group = groups[item.listing.id]
            here[0 if place[group] == number else 2 if group in held else 1].append(item)
        folds.append(Fold(*here))
    return [fold for fold in folds if fold.items]


def eval_items(catalog: Catalog, plan: EvalPlan, index: Index | None) -> list[EvalItem]:
    """Every item of a plan with three comparables of this catalog's train split, in folds of the other folds.

    Where a search gives one listing more, that is the most similar one: its similarity is kept.

    They are the same for all pricers, also for a run of another catalog, which learnt from other rows.
    """
    found: list[EvalItem] = []
    for fold in plan.folds:
        train = fold.train + fold.validation if plan.folded else catalog.items("train")
        # In folds no group is on both sides; nor is it in the split that curate makes, which this bears out.
        names = [] if plan.folded else catalog.columns("train", ("group",))["group"]
        trained = Counter(str(name) for name in names)
        search = index(train) if index else None
        for start in range(0, len(fold.items), BATCH):
            part = fold.items[start : start + BATCH]
            near = search([item.listing for item in part], NEAR) if search else [[] for _ in part]
            for item, some in zip(part, near, strict=True):
                ware, group = item.listing, plan.groups[item.listing.id]
                known = (ware.id, ware.title, ware.category, item.price, group, trained[group])
                highest = max((one.similarity for one in some), default=0.0) if search else None
                found.append(EvalItem(*known, build_comparables(some[:NEAR]), highest))
    return found
