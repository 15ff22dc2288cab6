"""A catalog whose listings a language model has rewritten into one clean form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pricesmith.api.pipeline import CatalogLike, build_recipe, open_or_same
from pricesmith.catalog.catalog import Catalog
from pricesmith.core.console import Console
from pricesmith.core.types import Recipe


def rewrite(
    catalog: CatalogLike,
    model: str,
    to: Path | str,
    *,
    recipe: str | Recipe = "ridge",
    rows: int = 2_000,
    trial_only: bool = False,
    keep_anyway: bool = False,
    budget: float | None = None,
    batch: bool = False,
    concurrency: int = 8,
    timeout: float | None = None,
    overwrite: bool = False,
    verbose: bool = False,
    **settings: Any,
) -> Catalog:
    """Let a language model rewrite all listings of a catalog into one clean form, if that lowers the error.

    `model` is `api:MODEL` or the name of a base that runs on this machine; it is shown no prices. First it rewrites
    `rows` listings of the training and validation splits, and the error of a `recipe` (further keywords are its
    settings) is measured out of fold on both texts. If the error falls significantly, or with `keep_anyway`, all
    listings are rewritten into the catalog `to`, with the same ids, prices, groups and splits. API models spend at
    most `budget` US dollars, with `batch` in batch jobs at half the price; answers are cached, so the same call again
    resumes and pays for nothing twice.

    Raises `pricesmith.rewriting.run.NotKept`, with the measured `trial`, if the error does not fall; UsageError if
    `trial_only` and listings outside the trial are not rewritten yet, and if the catalog was rewritten before.

    Examples:
        >>> clean = rewrite(catalog, "api:gpt-6-luna", folder / "clean", budget=20)  # doctest: +SKIP
        >>> clean.ledger["rewriting"]["trial"]["improves"]  # doctest: +SKIP
        True
    """
    from pricesmith.pricers.api.model_spec import ApiSettings
    from pricesmith.rewriting.run import RewriteOptions, rewrite_catalog

    options = RewriteOptions(rows, trial_only=trial_only, keep_anyway=keep_anyway, overwrite=overwrite)
    chosen, opened = build_recipe(recipe, settings), open_or_same(catalog)
    api_settings = ApiSettings(budget, concurrency, timeout, batch="wait" if batch else "")
    with api_settings, Console(quiet=not verbose).progress() as progress:
        return rewrite_catalog(opened, model, Path(to), chosen, api_settings, options, progress=progress)
