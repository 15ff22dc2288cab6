"""Which items of a catalog are judged, and what each pricer may have learnt from.

A catalog of 2,000 rows or more is judged on one split. A smaller one is judged in 5 folds by family: every
row is judged once, by a pricer fitted without its fold.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pricesmith.catalog.store import ITEMS, SPLITS, Catalog
from pricesmith.errors import UsageError
from pricesmith.evaluation.store import Comparable, EvalItem, near_of
from pricesmith.types import Item, Listing

FOLDS = 5
FOLD_ROWS = 2_000
JUDGED = ("validation", "test")
NEAR = 3
BATCH = 1_024

Search = Callable[[Sequence[Listing], int], Sequence[Sequence[Comparable]]]
Index = Callable[[Sequence[Item]], Search]


@dataclass(frozen=True)
class Fold:
    """Items to judge, and outside of the one fold of a large catalog what a pricer is refitted on."""

    items: list[Item]
    train: list[Item]
    validation: list[Item]


@dataclass(frozen=True)
class Plan:
    """Folds of items, the family of each id, the constant's quote, and what an evals folder is kept under."""

    folds: tuple[Fold, ...]
    families: Mapping[str, str]
    constant: float
    folded: bool
    about: Mapping[str, Any]


def plan_of(catalog: Catalog, split: str, *, in_folds: bool = True) -> Plan:
    """What is judged; without `in_folds`, the split of a small catalog too.

    Raises UsageError where the split is the training rows, unknown or empty. An item without an answer is charged at
    the median of the train split, in folds too: one number for all rows.
    """
    if split not in JUDGED:
        what = "Nobody is judged on the train split" if split == "train" else f"A catalog has no split {split!r}"
        raise UsageError(what, got=split, allowed=" or ".join(JUDGED), hint="Pricers learn from the train split.")
    folded = in_folds and row_count(catalog) < FOLD_ROWS
    items: list[Item] = []
    families: dict[str, str] = {}
    for part in SPLITS if folded else (split,):
        some, names = catalog.items_and_families(part)
        items += some
        families.update((item.listing.id, family) for item, family in zip(some, names, strict=True))
    if not items:
        raise UsageError(f"{catalog.path} has no items in its split {split}", hint="Choose another split.")
    folds = folds_of(items, families) if folded else [Fold(items, [], [])]
    about = {"format": 1, "catalog": catalog.fingerprint, "split": "folds" if folded else split}
    constant = float(np.median(catalog.columns("train", ("price",))["price"]))
    return Plan(tuple(folds), families, constant, folded, about)


def row_count(catalog: Catalog) -> int:
    """How many items a catalog has, over all splits."""
    import pyarrow.parquet as pq

    return int(pq.read_metadata(catalog.path / ITEMS).num_rows)


def drawn(family: str) -> bytes:
    """A family's place in an order that has nothing to do with it; the same on every machine."""
    return hashlib.sha256(f"judge {family}".encode()).digest()


def limited(plan: Plan, limit: int) -> Plan:
    """The plan for `limit` items, family by family in drawn order; only the last family can be cut."""
    ordered = sorted(plan.families, key=lambda id: (drawn(plan.families[id]), id))
    chosen = set(ordered[:limit])
    folds = (replace(fold, items=[item for item in fold.items if item.listing.id in chosen]) for fold in plan.folds)
    return replace(plan, folds=tuple(fold for fold in folds if fold.items))


def folds_of(items: Sequence[Item], families: Mapping[str, str]) -> list[Fold]:
    """Folds of like size that no family crosses; a ninth of the families that are left are for validation."""
    sizes = Counter(families[item.listing.id] for item in items)
    load = [0] * FOLDS
    place: dict[str, int] = {}
    for family in sorted(sizes, key=lambda family: (-sizes[family], drawn(family))):
        place[family] = min(range(FOLDS), key=lambda fold: (load[fold], fold))
        load[place[family]] += sizes[family]
    folds = []
    for number in range(FOLDS):
        # Each fold draws its own, or all would be calibrated on the same few.
        order = {family: drawn(f"held {number} {family}") for family in sizes if place[family] != number}
        others = sorted(order, key=order.__getitem__)
        held = set(others[: -(-len(others) // 9)])
        here: tuple[list[Item], list[Item], list[Item]] = ([], [], [])
        for item in items:
            family = families[item.listing.id]
            here[0 if place[family] == number else 2 if family in held else 1].append(item)
        folds.append(Fold(*here))
    return [fold for fold in folds if fold.items]


def judged_items(catalog: Catalog, plan: Plan, index: Index | None) -> list[EvalItem]:
    """Every item of a plan with three comparables of this catalog's train split, in folds of the other folds.

    Where a search gives one listing more, that is the most similar one: its similarity is kept.

    They are the same for all pricers, also for a run of another catalog, which learnt from other rows.
    """
    found: list[EvalItem] = []
    for fold in plan.folds:
        train = fold.train + fold.validation if plan.folded else catalog.items("train")
        # In folds no family is on both sides; nor is it in the split that curate makes, which this bears out.
        names = [] if plan.folded else catalog.columns("train", ("family",))["family"]
        trained = Counter(str(name) for name in names)
        search = index(train) if index else None
        for start in range(0, len(fold.items), BATCH):
            part = fold.items[start : start + BATCH]
            near = search([item.listing for item in part], NEAR) if search else [[] for _ in part]
            for item, some in zip(part, near, strict=True):
                ware, family = item.listing, plan.families[item.listing.id]
                known = (ware.id, ware.title, ware.category, item.price, family, trained[family])
                highest = max((one.similarity for one in some), default=0.0) if search else None
                found.append(EvalItem(*known, near_of(some[:NEAR]), highest))
    return found
