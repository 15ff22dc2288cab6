"""The five lines of Python: load, price, fit, evaluate, compare, on paths or on opened things alike."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pricesmith.catalog.store import Catalog, open_catalog
from pricesmith.types import Evaluation, Pricer, Recipe

if TYPE_CHECKING:
    from pricesmith.advice.found import Advice
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
    from pricesmith.bases.tuning import planned_for_box
    from pricesmith.pricers.recipes import read_recipe
    from pricesmith.pricers.runs import fit as run_fit

    chosen = read_recipe(recipe, settings or {}) if isinstance(recipe, str) else recipe
    run_fit(planned_for_box(chosen), opened(catalog), Path(to), fresh=fresh)
    return load(to)


def evaluate(
    pricer: Pricer, catalog: Path | str | Catalog, split: str = "test", *, other_catalog: bool = False
) -> Evaluation:
    """A pricer's quotes on a split (validation or test) of a catalog, with what is needed to judge and compare them.

    The checks are those of `pricesmith eval`. A run of another catalog is refused, unless `other_catalog`: then what it
    was trained on is left out and counted in the note. Under 2,000 rows a run of this catalog is fitted again in 5
    folds by family, every row is judged, and the note says so; any other pricer may have learnt from the other splits,
    so it is judged on this one alone. Raises UsageError where it cannot be judged fairly.
    """
    from pricesmith.contest import candidate_of
    from pricesmith.evaluation.judge import Candidate, judge_alone
    from pricesmith.pricers.runs import Run

    shop = opened(catalog)
    one = candidate_of(pricer, pricer.name, shop) if isinstance(pricer, Run) else Candidate(pricer.name, "", pricer)
    return judge_alone(one, shop, split=split, other_catalog=other_catalog)


def compare(a: Evaluation, b: Evaluation, metric: str = "mean error") -> Difference:
    """How much worse `a` is than `b` on their common items, with an interval over families."""
    from pricesmith.evaluation.compare import compare as run_compare

    return run_compare(a, b, metric)


def advise(
    catalog: Path | str | Catalog,
    to: Path | str,
    *,
    recipe: str | Recipe = "sparse_mlp",
    draws: int = 4,
    fresh: bool = False,
) -> Advice:
    """What twice the rows would buy, where the error sits and which categories need rows, kept in the folder `to`."""
    from pricesmith.advice import advise as run_advise
    from pricesmith.pricers.recipes import read_recipe

    chosen = read_recipe(recipe) if isinstance(recipe, str) else recipe
    return run_advise(opened(catalog), Path(to), chosen, draws=draws, fresh=fresh)


def opened(catalog: Path | str | Catalog) -> Catalog:
    """The catalog itself, opened where it was named by its folder."""
    return catalog if isinstance(catalog, Catalog) else open_catalog(catalog)
