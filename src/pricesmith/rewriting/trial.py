"""The trial: does a cheap recipe price rewritten listings better than the same listings as they were written?

    sample = draw_sample(catalog, 2_000)
    trial = measure_trial(sample, rewritten, catalog, recipe, progress)
    trial.improves, trial.describe("EUR")

The listings are whole near-duplicate groups of the training and validation splits; the test split is not touched. The
recipe is fitted in 5 folds by group on each of the two texts, and every listing is priced by a fit that has not seen
its group. The errors are compared in pairs, with an interval that resamples groups.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pricesmith.catalog.catalog import Catalog
from pricesmith.core.atomic import write_json
from pricesmith.core.errors import UsageError
from pricesmith.core.folders import scratch_build
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.types import Evaluation, Item, Recipe, render
from pricesmith.evaluation.compare import compare
from pricesmith.evaluation.evaluate import evaluate
from pricesmith.evaluation.folds import Fold, assign_folds
from pricesmith.pricers.fitting import CompositeRecipe, FitData, catalog_info, fit_recipe
from pricesmith.pricers.model import CATALOG
from pricesmith.pricers.rewriting.form import RewrittenListing
from pricesmith.text.formatting import format_price, format_range

MIN_ROWS = 50
SPLITS = ("train", "validation")
AS_WRITTEN, REWRITTEN = "as written", "rewritten"


@dataclass(frozen=True)
class TrialSample:
    """Items of a catalog with their near-duplicate groups by id."""

    items: list[Item]
    groups: Mapping[str, str]


@dataclass(frozen=True)
class RewritingTrial:
    """What a trial has measured, in the catalog's currency. `change` is the MAE rewritten minus the MAE as written,
    `low` and `high` bound its 95 % confidence interval (None below 5 groups).

    `unchanged` counts the listings whose answer was not usable, by reason; `n_needed` is the number of listings that
    would show this change with 80 % power, None if there is no change.
    """

    recipe: str
    rows: int
    groups: int
    mae_as_written: float
    mae_rewritten: float
    change: float
    low: float | None
    high: float | None
    improves: bool
    n_needed: int | None
    chars_as_written: float
    chars_rewritten: float
    unchanged: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """The trial for a ledger and --json."""
        return asdict(self)

    def describe(self, currency: str) -> list[str]:
        """The trial as sentences."""
        before, after = (format_price(value, currency) for value in (self.mae_as_written, self.mae_rewritten))
        lines = [
            f"Trial: {self.recipe} out of fold on {self.rows:,} listings in {self.groups:,} near-duplicate groups of "
            f"the training and validation splits: MAE {before} as written, {after} rewritten: "
            f"{describe_change(self, currency)}.",
            f"A listing has {self.chars_as_written:,.0f} characters as written, {self.chars_rewritten:,.0f} rewritten.",
        ]
        if self.unchanged:
            lines.append(f"{describe_unchanged(self.unchanged)} of the {self.rows:,}.")
        if not self.improves and self.change < 0 and self.n_needed is not None:
            lines.append(f"About {self.n_needed:,} listings would be needed to show a change of this size.")
        return lines


def describe_change(trial: RewritingTrial, currency: str) -> str:
    """The change of the error in words, with its confidence interval."""
    if trial.change == 0 and trial.low == trial.high:
        return "no change"
    direction = "lower" if trial.change < 0 else "higher"
    text = f"{format_price(abs(trial.change), currency)} {direction}"
    if trial.low is None or trial.high is None:
        return f"{text} (too few groups for an interval)"
    return f"{text} (95 % CI of the change: {format_range(trial.low, trial.high, currency)})"


def describe_unchanged(unchanged: Mapping[str, int]) -> str:
    """How many listings keep their original text, and why."""
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(unchanged.items()))
    total = sum(unchanged.values())
    return f"{total:,} {'listing keeps its' if total == 1 else 'listings keep their'} original text ({reasons})"


def check_trial(recipe: Recipe, rows: int) -> None:
    """Raise UsageError for too few rows, and for a recipe that is made of other models or asks an API model."""
    if rows < MIN_ROWS:
        raise UsageError(
            "A trial needs more listings", got=f"--rows {rows}", allowed=f"{MIN_ROWS} or more", hint="Use --rows 2000."
        )
    if isinstance(recipe, CompositeRecipe) or getattr(recipe, "asks_api", False):
        raise UsageError(
            f"A trial cannot fit a {recipe.kind}",
            got=f"--recipe {recipe.kind}",
            allowed="a recipe that is fitted on rows by itself, such as ridge or sparse_mlp",
            hint="Use --recipe ridge.",
        )


def draw_sample(catalog: Catalog, rows: int) -> TrialSample:
    """Draw whole groups of the training and validation splits in a fixed pseudo-random order: up to `rows` items, and
    at least one group."""
    items: list[Item] = []
    groups: dict[str, str] = {}
    for split in SPLITS:
        split_items, split_groups = catalog.items_and_groups(split)
        items += split_items
        groups.update((item.listing.id, group) for item, group in zip(split_items, split_groups, strict=True))
    sizes = Counter(groups.values())
    chosen: set[str] = set()
    room = rows
    for group in sorted(sizes, key=lambda group: hashlib.sha256(f"rewriting trial {group}".encode()).digest()):
        if chosen and sizes[group] > room:
            break
        chosen.add(group)
        room -= sizes[group]
    sample = [item for item in items if groups[item.listing.id] in chosen]
    return TrialSample(sample, {item.listing.id: groups[item.listing.id] for item in sample})


def measure_trial(
    sample: TrialSample,
    rewritten: Sequence[RewrittenListing],
    catalog: Catalog,
    recipe: Recipe,
    progress: Progress = SILENT,
) -> RewritingTrial:
    """Measure by how much rewriting changes the error of a recipe. `rewritten` are the sample's listings, in order."""
    changed = [replace(item, listing=answer.listing) for item, answer in zip(sample.items, rewritten, strict=True)]
    folds = assign_folds(sample.items, sample.groups)
    by_id = {item.listing.id: item for item in changed}
    progress.start(f"fitting {recipe.kind} on both texts", 2 * len(folds))
    evaluations = []
    for name, texts in ((AS_WRITTEN, None), (REWRITTEN, by_id)):
        parts = [with_texts(fold, texts) for fold in folds]
        evaluations.append(evaluate_folds(name, parts, sample, catalog, recipe, progress))
    difference = compare(evaluations[0], evaluations[1], "MAE")
    low, high = (None if end is None else -end for end in (difference.high, difference.low))
    return RewritingTrial(
        recipe.kind,
        difference.n,
        difference.groups,
        difference.a_value,
        difference.b_value,
        -difference.difference,
        low,
        high,
        difference.is_significant and difference.better == REWRITTEN,
        difference.n_needed,
        float(np.mean([len(render(item.listing)) for item in sample.items])),
        float(np.mean([len(render(item.listing)) for item in changed])),
        dict(sorted(Counter(answer.reason for answer in rewritten if answer.reason).items())),
    )


def with_texts(fold: Fold, texts: Mapping[str, Item] | None) -> Fold:
    """A fold with other texts of its items, by id; the same fold if there are none."""
    if texts is None:
        return fold
    return Fold(*([texts[item.listing.id] for item in items] for items in (fold.items, fold.train, fold.validation)))


def evaluate_folds(
    name: str, folds: Sequence[Fold], sample: TrialSample, catalog: Catalog, recipe: Recipe, progress: Progress
) -> Evaluation:
    """The quotes of a recipe for every item, each by the fit that has not seen its fold."""
    parts = []
    median = float(np.median([item.price for item in sample.items]))
    for fold in folds:
        with tempfile.TemporaryDirectory(prefix="pricesmith-") as place:
            folder = Path(place)
            write_json(folder / CATALOG, catalog_info(catalog, fold.train))
            fit_recipe(recipe, FitData(fold.train, fold.validation, []), scratch_build(folder), time.time(), SILENT)
            parts.append(
                evaluate(
                    recipe.load(folder),
                    fold.items,
                    catalog=catalog.fingerprint,
                    median=median,
                    currency=catalog.currency,
                    price_range=catalog.price_range,
                    groups=sample.groups,
                )
            )
        progress.advance()
    rows = tuple(row for part in parts for row in part.rows)
    return replace(parts[0], pricer=name, rows=rows, groups=dict(sample.groups))
