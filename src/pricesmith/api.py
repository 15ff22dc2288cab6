"""The five lines of Python: load, price, fit, evaluate, compare, on paths or on opened things alike."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pricesmith.catalog.catalog import Catalog, open_catalog
from pricesmith.core.types import Evaluation, Pricer, Recipe

if TYPE_CHECKING:
    from pricesmith.evaluation.compare import Difference
    from pricesmith.learning_curve.schema import LearningCurve
    from pricesmith.pricers.model import PriceModel


def load(run: Path | str) -> PriceModel:
    """A pricer from a run folder: what is judged is what is served. Raises InputError where it was changed."""
    from pricesmith.pricers.model import load_model as run_load

    return run_load(run)


def fit(
    recipe: str | Recipe,
    catalog: Path | str | Catalog,
    to: Path | str,
    *,
    settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> PriceModel:
    """Fit a recipe, by its shipped name, its TOML file or itself, on a catalog; the run folder `to` as a pricer."""
    from pricesmith.base_models.precision import plan_for_hardware
    from pricesmith.pricers.fitting import fit_model as run_fit
    from pricesmith.pricers.recipes import read_recipe

    chosen = read_recipe(recipe, settings or {}) if isinstance(recipe, str) else recipe
    run_fit(plan_for_hardware(chosen), opened(catalog), Path(to), overwrite=overwrite)
    return load(to)


def evaluate(
    pricer: Pricer, catalog: Path | str | Catalog, split: str = "test", *, other_catalog: bool = False
) -> Evaluation:
    """A pricer's quotes on a split (validation or test) of a catalog, with what is needed to judge and compare them.

    The checks are those of `pricesmith eval`. A run of another catalog is refused, unless `other_catalog`: then what it
    was trained on is left out and counted in the note. Under 2,000 rows a run of this catalog is fitted again in 5
    folds by group, every row is judged, and the note says so; any other pricer may have learnt from the other splits,
    so it is judged on this one alone. Raises UsageError where it cannot be judged fairly.
    """
    from pricesmith.candidates import candidate_from_model
    from pricesmith.evaluation.run_eval import Candidate, evaluate_one
    from pricesmith.pricers.model import PriceModel

    shop = opened(catalog)
    one = (
        candidate_from_model(pricer, pricer.name, shop)
        if isinstance(pricer, PriceModel)
        else Candidate(pricer.name, "", pricer)
    )
    return evaluate_one(one, shop, split=split, other_catalog=other_catalog)


def compare(a: Evaluation, b: Evaluation, metric: str = "MAE") -> Difference:
    """How much worse `a` is than `b` on their common items, with an interval over groups."""
    from pricesmith.evaluation.compare import compare as run_compare

    return run_compare(a, b, metric)


def measure_learning_curve(
    catalog: Path | str | Catalog,
    to: Path | str,
    *,
    recipe: str | Recipe = "sparse_mlp",
    repeats: int = 4,
    overwrite: bool = False,
) -> LearningCurve:
    """What twice the rows would buy, where the error sits and which categories need rows, kept in the folder `to`."""
    from pricesmith.learning_curve import measure_learning_curve as run_advise
    from pricesmith.pricers.recipes import read_recipe

    chosen = read_recipe(recipe) if isinstance(recipe, str) else recipe
    return run_advise(opened(catalog), Path(to), chosen, repeats=repeats, overwrite=overwrite)


def opened(catalog: Path | str | Catalog) -> Catalog:
    """The catalog itself, opened where it was named by its folder."""
    return catalog if isinstance(catalog, Catalog) else open_catalog(catalog)
