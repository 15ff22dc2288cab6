"""Audits from Python: which asked prices of a catalog, a file or a DataFrame are wrong."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pricesmith.api.pipeline import open_or_same
from pricesmith.catalog.catalog import LEDGER, Catalog
from pricesmith.core.console import Console
from pricesmith.core.errors import UsageError
from pricesmith.core.types import Recipe

if TYPE_CHECKING:
    from narwhals.typing import IntoDataFrame

    from pricesmith.auditing.result import AuditResult
    from pricesmith.pricers.model import PriceModel

    Audited: TypeAlias = str | Path | Catalog | IntoDataFrame


def audit(
    source: Audited,
    *,
    model: PriceModel | Path | str | None = None,
    recipe: str | Recipe = "sparse_mlp",
    folds: int = 5,
    split: str | None = None,
    fdr: float = 0.1,
    p_values: str = "tail",
    max_wrong_share: float = 0.02,
    mapping: Mapping[str, str] | None = None,
    to: Path | str | None = None,
    html: Path | str | None = None,
    overwrite: bool = False,
    verbose: bool = False,
) -> AuditResult:
    """Assess every asked price of a catalog, a file or a DataFrame as over, under or plausible.

    A catalog is judged by `recipe`, fitted `folds` times without one part of the listings, or by a `model` that was not
    fitted on them (of its own catalog it judges the test split). A file or a DataFrame needs a `model`; `mapping` is
    field -> column, for columns with unusual names. `to` and `html` are a CSV file and a page to write.

    Args:
        fdr: false discovery rate, the share of right prices among those found.
        p_values: `tail`, read from a fitted tail, or `conformal`, guaranteed for right held-out prices but coarser.
        max_wrong_share: share of prices that may be wrong; the farthest do not shape the tail.
        overwrite: replace files at `to` and `html` that an audit did not write.

    Raises UsageError for a file without prices, a model that was fitted on the audited listings, or a wrong option.

    Examples:
        >>> result = audit(catalog, recipe="ridge")
        >>> len(result.rows) == sum(result.counts().values())
        True
        >>> result.to_frame("polars").columns[:5]
        ['id', 'title', 'category', 'asked_price', 'assessment']
    """
    from pricesmith.auditing import AuditOptions, write_audit
    from pricesmith.auditing.files import check_outputs

    options: dict[str, Any] = {"options": AuditOptions(fdr, p_values, max_wrong_share)}
    if to is None and html is not None:
        raise UsageError("html needs to", got="no `to`", hint="Name the CSV file too: to='audit.csv'.")
    page = None if html is None else Path(html)
    if to is not None:
        check_outputs(Path(to), page, overwrite=overwrite)
    with Console(quiet=not verbose).progress() as progress:
        options["progress"] = progress
        catalog: Any = source
        if is_catalog(source):
            result = audit_listings(open_or_same(catalog), model, recipe, folds, split, options)
        else:
            result = audit_rows(source, model, mapping, options)
    if to is not None:
        write_audit(result, Path(to), page)
    return result


def is_catalog(source: Any) -> bool:
    """Whether something to audit is a catalog or its folder."""
    return isinstance(source, Catalog) or (isinstance(source, str | Path) and (Path(source) / LEDGER).is_file())


def audit_listings(
    catalog: Catalog,
    model: PriceModel | Path | str | None,
    recipe: str | Recipe,
    folds: int,
    split: str | None,
    options: dict[str, Any],
) -> AuditResult:
    """Audit a catalog, with a model or by fitting a recipe in folds."""
    from pricesmith.auditing import audit_catalog, audit_catalog_with_model
    from pricesmith.pricers.model import load_model
    from pricesmith.pricers.recipes import read_recipe

    if model is None:
        chosen = read_recipe(recipe) if isinstance(recipe, str) else recipe
        return audit_catalog(catalog, chosen, n_folds=folds, split=split or "all", **options)
    loaded = load_model(model) if isinstance(model, str | Path) else model
    return audit_catalog_with_model(catalog, loaded, split=split or "", **options)


def audit_rows(
    source: Any, model: PriceModel | Path | str | None, mapping: Mapping[str, str] | None, options: dict[str, Any]
) -> AuditResult:
    """Audit a file or a DataFrame with a model."""
    from pricesmith.auditing import audit_file
    from pricesmith.catalog.dataframes import is_dataframe, write_parquet
    from pricesmith.pricers.model import load_model

    if model is None:
        raise UsageError(
            "An audit of a file or a DataFrame needs a model",
            got=f"{type(source).__name__} without a model",
            allowed="a catalog, or rows and model=",
            hint="Name a model folder: model='out/mlp'.",
        )
    loaded = load_model(model) if isinstance(model, str | Path) else model
    if not is_dataframe(source):
        return audit_file(loaded, source, mapping=mapping, **options)
    with tempfile.TemporaryDirectory(prefix="pricesmith-") as folder:
        path = Path(folder) / "dataframe.parquet"
        write_parquet(source, path)
        return audit_file(loaded, path, mapping=mapping, **options)
