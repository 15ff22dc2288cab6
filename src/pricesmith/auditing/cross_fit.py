"""Quotes of a catalog's listings by models that never saw them: K fits, each without one fold of near-duplicate groups.

    quotes = cross_fit_quotes(read_recipe("ridge"), items, groups, price_range)

The interval of a quote takes its width from the errors on similar listings: ridge regression of |log price - log quote|
on the words of a listing, out of fold, calibrated by band of the quote as the intervals of a model are.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricesmith.core.errors import UsageError
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.types import Item, Listing, Quote, Recipe
from pricesmith.metrics.metrics import Array
from pricesmith.pricers.conformal import ClippedPricer, ConformalPricer, calibrate
from pricesmith.pricers.fitting import CompositeRecipe, cross_fit
from pricesmith.pricers.recipes import measured_figures

BATCH = 1_000
MIN_ERROR, MAX_ERROR = 0.2, 2.0  # added to |log price - log quote| before its log is taken, and its limit before that
TUNE_SHARE = 9  # one in so many groups is for early stopping, with recipes that need it
WITHOUT_VALIDATION = frozenset({"median", "ridge", "knn", "sparse_mlp"})
MIN_ROWS = 100


def check_recipe(recipe: Recipe, n_folds: int, n_rows: int) -> None:
    """Raise UsageError for a recipe made of other models, for too few or too many folds, and for too few rows."""
    if isinstance(recipe, CompositeRecipe):
        raise UsageError(
            "An audit fits a recipe that is not made of other models",
            got=recipe.kind,
            allowed="a recipe such as ridge, sparse_mlp or boosting",
            hint="Use --recipe sparse_mlp.",
        )
    if n_rows < MIN_ROWS:
        raise UsageError(
            "There are too few listings for an audit by cross-fitting",
            got=f"{n_rows:,}",
            allowed=f"{MIN_ROWS} or more",
            hint="Add rows to the catalog.",
        )
    if not 2 <= n_folds <= 20:
        raise UsageError("--folds is not a number of folds", got=str(n_folds), allowed="2 to 20", hint="Use --folds 5.")


def assign_folds(groups: Sequence[str], n_folds: int) -> NDArray[np.int64]:
    """The fold of each row [n], by the hash of its near-duplicate group: the order of rows does not matter."""
    return np.array([hash_group(group, "fold") % n_folds for group in groups], dtype=np.int64)


def hash_group(group: str, purpose: str) -> int:
    """A pseudo-random number of a group, the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"audit {purpose} {group}".encode()).digest()[:8])


def format_plan(recipe: Recipe, n_folds: int, n_rows: int) -> str:
    """What is fitted, and how long it takes if that was measured for this kind of recipe."""
    rows = n_rows * (n_folds - 1) // n_folds
    plan = (
        f"Every price is judged by a model that was fitted without it: {n_folds} fits of {recipe.kind} on {rows:,} rows"
    )
    figures = measured_figures(recipe.kind, rows)
    if figures is None:
        return f"{plan}."
    seconds = max(5.0, n_folds * figures[0])
    duration = f"{seconds / 60:.0f} minutes" if seconds > 120 else f"{seconds:.0f} seconds"
    return f"{plan}: about {duration} of fitting on two cores, about {figures[1]:.1f} GB of memory."


def cross_fit_quotes(
    recipe: Recipe,
    items: Sequence[Item],
    groups: Sequence[str],
    price_range: tuple[float, float],
    *,
    n_folds: int = 5,
    progress: Progress = SILENT,
) -> list[Quote]:
    """The quote of each item [n] with its interval, by fits that saw neither the item nor its near-duplicates.

    Intervals are not clipped to the price range. An unanswered item has a quote without a price.
    """
    check_recipe(recipe, n_folds, len(items))
    fold = assign_folds(groups, n_folds)
    quotes: list[Quote] = [Quote(None)] * len(items)
    for number in range(n_folds):
        progress.start(f"fold {number + 1} of {n_folds}: fitting {recipe.kind}")
        held_out = np.flatnonzero(fold == number)
        others = [place for place in range(len(items)) if fold[place] != number]
        with tempfile.TemporaryDirectory(prefix="pricesmith-") as folder:
            fit_fold(recipe, [items[place] for place in others], [groups[place] for place in others], Path(folder))
            pricer = ClippedPricer(recipe.load(Path(folder)), price_range)
            progress.start(f"fold {number + 1} of {n_folds}: pricing", len(held_out))
            for start in range(0, len(held_out), BATCH):
                places = held_out[start : start + BATCH].tolist()
                answers = pricer.price([items[place].listing for place in places])
                for place, quote in zip(places, answers, strict=True):
                    quotes[place] = quote
                progress.advance(len(places))
    progress.start("estimating how precise each quote is")
    return add_intervals(quotes, items, groups)


def fit_fold(recipe: Recipe, items: Sequence[Item], groups: Sequence[str], folder: Path) -> None:
    """Fit a recipe on the items of the other folds; some groups are for early stopping if the recipe needs them."""
    if recipe.kind in WITHOUT_VALIDATION:
        recipe.fit(items, [], folder, SILENT)
        return
    tune = [hash_group(group, "tune") % TUNE_SHARE == 0 for group in groups]
    pairs = list(zip(items, tune, strict=True))
    recipe.fit([item for item, held in pairs if not held], [item for item, held in pairs if held], folder, SILENT)


def add_intervals(quotes: Sequence[Quote], items: Sequence[Item], groups: Sequence[str]) -> list[Quote]:
    """The quotes with 90 % intervals whose widths follow the errors on similar listings."""
    answered = [place for place, quote in enumerate(quotes) if quote.price is not None]
    if not answered:
        return list(quotes)
    prices = [items[place].price for place in answered]
    bare = np.array([quotes[place].price for place in answered], dtype=np.float64)
    errors = np.minimum(np.abs(np.log(prices) - np.log(bare)), MAX_ERROR) + MIN_ERROR
    listings, answered_groups = [items[place].listing for place in answered], [groups[place] for place in answered]
    widths = np.exp(estimate_errors(listings, errors, answered_groups))
    rough = [
        replace(quotes[place], low=float(price / factor), high=float(price * factor))
        for place, price, factor in zip(answered, bare, np.exp(widths), strict=True)
    ]
    pricer: Any = None
    bounded = ConformalPricer(pricer, calibrate(rough, prices, scaled=True), (1e-12, 1e15))
    result = list(quotes)
    for place, quote in zip(answered, rough, strict=True):
        result[place] = bounded.add_interval(quote)
    return result


def estimate_errors(listings: Sequence[Listing], errors: Array, groups: Sequence[str]) -> Array:
    """The out-of-fold log error of each listing [n]: three folds by near-duplicate group."""
    rows = [Item(listing, float(error)) for listing, error in zip(listings, errors, strict=True)]
    estimates, _ = cross_fit(rows, groups)
    return estimates
