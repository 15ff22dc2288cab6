"""The five lines of Python: load, price, fit, evaluate, compare, on paths or on opened things alike."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pricesmith.catalog.store import Catalog, open_catalog
from pricesmith.types import Evaluation, Pricer, Recipe

if TYPE_CHECKING:
    from pricesmith.evaluation.compare import Difference
    from pricesmith.pricers.runs import Run


def load(run: Path | str) -> Run:
    """A pricer from a run folder: what is judged is what is served. Raises InputError where it was changed."""
    from pricesmith.pricers.runs import load as run_load

    return run_load(run)


def fit(
    recipe: str | Recipe,
    catalog: Path | str | Catalog,
    to: Path | str,
    *,
    settings: Mapping[str, Any] | None = None,
    fresh: bool = False,
) -> Run:
    """Fit a recipe, by its shipped name, its TOML file or itself, on a catalog; the run folder `to` as a pricer."""
    from pricesmith.pricers.recipes import read_recipe
    from pricesmith.pricers.runs import fit as run_fit

    chosen = read_recipe(recipe, settings or {}) if isinstance(recipe, str) else recipe
    run_fit(chosen, opened(catalog), Path(to), fresh=fresh)
    return load(to)


def evaluate(pricer: Pricer, catalog: Path | str | Catalog, split: str = "test") -> Evaluation:
    """A pricer's quotes on a split of a catalog, with what is needed to judge and compare them."""
    import numpy as np

    from pricesmith.evaluation.evaluate import evaluate as run_evaluate

    shop = opened(catalog)
    items, families = shop.items_and_families(split)
    ids = [item.listing.id for item in items]
    return run_evaluate(
        pricer,
        items,
        catalog=shop.fingerprint,
        constant=float(np.median(shop.columns("train", ("price",))["price"])),
        currency=shop.currency,
        price_range=shop.price_range,
        families=dict(zip(ids, families, strict=True)),
    )


def compare(a: Evaluation, b: Evaluation, metric: str = "mean error") -> Difference:
    """How much worse `a` is than `b` on their common items, with an interval over families."""
    from pricesmith.evaluation.compare import compare as run_compare

    return run_compare(a, b, metric)


def opened(catalog: Path | str | Catalog) -> Catalog:
    """The catalog itself, opened where it was named by its folder."""
    return catalog if isinstance(catalog, Catalog) else open_catalog(catalog)
