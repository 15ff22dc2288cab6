"""Which items of a catalog are evaluated, and which items a pricer may be fitted on.

A catalog of 2,000 rows or more is evaluated on one split, and so is one that is split by time, because folds would fit
on later prices than those they are tested on. A smaller one is evaluated in 5 folds by group: every row once, by a
pricer fitted without its fold.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np

from pricesmith.catalog.catalog import DATE, ITEMS, SPLITS, Catalog
from pricesmith.core.errors import UsageError
from pricesmith.core.types import Item, Listing
from pricesmith.evaluation.results import ComparableRow, EvalItem, build_comparables

N_FOLDS = 5
MAX_ROWS_FOR_FOLDS = 2_000
EVAL_SPLITS = ("validation", "test")
N_COMPARABLES = 3
BATCH = 1_024

Search = Callable[[Sequence[Listing], int], Sequence[Sequence[ComparableRow]]]
Index = Callable[[Sequence[Item]], Search]


@dataclass(frozen=True)
class Fold:
    """Items to evaluate, and the items to refit on (none in the single fold of a large catalog)."""

    items: list[Item]
    train: list[Item]
    validation: list[Item]


@dataclass(frozen=True)
class EvalPlan:
    """Folds of items, the group of each id, the median price of the train split, and the facts that identify an evals
    folder (`about`)."""

    folds: tuple[Fold, ...]
    groups: Mapping[str, str]
    median: float
    folded: bool
    about: Mapping[str, Any]


def build_plan(catalog: Catalog, split: str, *, in_folds: bool = True) -> EvalPlan:
    """The items to evaluate. With `in_folds` False, a small catalog is evaluated on the split too.

    Raises UsageError if the split is the training split, unknown or empty. An unanswered item is charged at the median
    of the train split, with folds too, so that all rows have the same one.
    """
    if split not in EVAL_SPLITS:
        what = (
            "A pricer cannot be evaluated on the train split"
            if split == "train"
            else f"A catalog has no split {split!r}"
        )
        raise UsageError(
            what,
            got=split,
            allowed=" or ".join(EVAL_SPLITS),
            hint="Pricers are fitted on the train split; evaluate on another one.",
        )
    folded = in_folds and goes_in_folds(catalog)
    items: list[Item] = []
    groups: dict[str, str] = {}
    for part in SPLITS if folded else (split,):
        split_items, split_groups = catalog.items_and_groups(part)
        items += split_items
        groups.update((item.listing.id, group) for item, group in zip(split_items, split_groups, strict=True))
    if not items:
        raise UsageError(f"{catalog.path} has no items in its split {split}", hint="Choose another split.")
    folds = assign_folds(items, groups) if folded else [Fold(items, [], [])]
    about = {"format": 1, "catalog": catalog.fingerprint, "split": "folds" if folded else split}
    median = float(np.median(catalog.columns("train", ("price",))["price"]))
    return EvalPlan(tuple(folds), groups, median, folded, about)


def goes_in_folds(catalog: Catalog) -> bool:
    """Whether a catalog is evaluated in folds: it is small, and not split by time."""
    return row_count(catalog) < MAX_ROWS_FOR_FOLDS and "dates" not in catalog.ledger


def row_count(catalog: Catalog) -> int:
    """The number of items of a catalog, over all splits."""
    import pyarrow.parquet as pq

    return int(pq.read_metadata(catalog.path / ITEMS).num_rows)


def order_key(group: str) -> bytes:
    """A sort key for a pseudo-random order of groups that is the same on every machine."""
    return hashlib.sha256(f"judge {group}".encode()).digest()


def limit_items(plan: EvalPlan, limit: int) -> EvalPlan:
    """The plan for `limit` items, whole groups in a pseudo-random order; only the last group can be cut."""
    ordered = sorted(plan.groups, key=lambda id: (order_key(plan.groups[id]), id))
    chosen = set(ordered[:limit])
    folds = (replace(fold, items=[item for item in fold.items if item.listing.id in chosen]) for fold in plan.folds)
    return replace(plan, folds=tuple(fold for fold in folds if fold.items))


def assign_folds(items: Sequence[Item], groups: Mapping[str, str]) -> list[Fold]:
    """Folds of similar size that keep groups whole; a ninth of the other folds' groups are for validation."""
    sizes = Counter(groups[item.listing.id] for item in items)
    load = [0] * N_FOLDS
    fold_of: dict[str, int] = {}
    for group in sorted(sizes, key=lambda group: (-sizes[group], order_key(group))):
        fold_of[group] = min(range(N_FOLDS), key=lambda fold: (load[fold], fold))
        load[fold_of[group]] += sizes[group]
    folds = []
    for number in range(N_FOLDS):
        # Each fold has its own validation groups; otherwise all would be calibrated on the same few.
        order = {group: order_key(f"held {number} {group}") for group in sizes if fold_of[group] != number}
        others = sorted(order, key=order.__getitem__)
        validation = set(others[: -(-len(others) // 9)])
        parts: tuple[list[Item], list[Item], list[Item]] = ([], [], [])
        for item in items:
            group = groups[item.listing.id]
            parts[0 if fold_of[group] == number else 2 if group in validation else 1].append(item)
        folds.append(Fold(*parts))
    return [fold for fold in folds if fold.items]


def eval_items(catalog: Catalog, plan: EvalPlan, index: Index | None) -> list[EvalItem]:
    """Every item of a plan with three comparables from the catalog's train split (with folds, from the other folds).

    If a search returns one listing more, that is the most similar one by words; its similarity is stored. Comparables
    are the same for all pricers, also for a model of another catalog, which was fitted on other rows.
    """
    eval_rows: list[EvalItem] = []
    ages = {} if plan.folded else days_after_training(catalog, str(plan.about["split"]))
    for fold in plan.folds:
        train = fold.train + fold.validation if plan.folded else catalog.items("train")
        # Folds keep groups whole, and so does the split that curate makes; the count stored here shows it.
        train_groups = [] if plan.folded else catalog.columns("train", ("group",))["group"]
        n_in_training = Counter(str(group) for group in train_groups)
        search = index(train) if index else None
        for start in range(0, len(fold.items), BATCH):
            items = fold.items[start : start + BATCH]
            listings = [item.listing for item in items]
            comparables = search(listings, N_COMPARABLES) if search else [[] for _ in items]
            for item, similar in zip(items, comparables, strict=True):
                listing, group = item.listing, plan.groups[item.listing.id]
                highest = max((row.similarity for row in similar), default=0.0) if search else None
                eval_rows.append(
                    EvalItem(
                        id=listing.id,
                        title=listing.title,
                        category=listing.category,
                        truth=item.price,
                        group=group,
                        group_in_training=n_in_training[group],
                        near=build_comparables(similar[:N_COMPARABLES]),
                        highest_similarity=highest,
                        days_after_training=ages.get(listing.id),
                    )
                )
    return eval_rows


def days_after_training(catalog: Catalog, split: str) -> dict[str, int]:
    """The days between the last training day and the date of each item of a split, by id; empty unless the catalog is
    split by time."""
    if "dates" not in catalog.ledger:
        return {}
    last = date.fromisoformat(catalog.ledger["dates"]["train"][1])
    columns = catalog.columns(split, ("id", DATE))
    return {id: (date.fromisoformat(day) - last).days for id, day in zip(columns["id"], columns[DATE], strict=True)}
