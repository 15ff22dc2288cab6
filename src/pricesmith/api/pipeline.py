"""Catalogs, models and prices: the functions that make and use them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pricesmith.catalog.catalog import Catalog, open_catalog
from pricesmith.core.console import Console
from pricesmith.core.errors import UsageError
from pricesmith.core.settings import parse_settings
from pricesmith.core.types import Recipe

if TYPE_CHECKING:
    from narwhals.typing import IntoDataFrame

    from pricesmith.learning_curve.curve import LearningCurve
    from pricesmith.pricers.model import PriceModel

    Source: TypeAlias = str | Path | IntoDataFrame

CatalogLike: TypeAlias = str | Path | Catalog


def curate(
    source: Source | Sequence[Source],
    to: Path | str,
    *,
    mapping: Mapping[str, str] | None = None,
    currency: str | None = None,
    min_price: float | None = None,
    max_price: float | None = None,
    split: str = "auto",
    split_seed: int = 0,
    train_rows: int | None = None,
    drop_part_numbers: bool = False,
    keep: Sequence[str] = (),
    drop: Sequence[str] = (),
    delimiter: str = "",
    add: Path | str | None = None,
    kind: str = "",
    sheet: str = "",
    cluster: str | None = None,
    overwrite: bool = False,
    verbose: bool = False,
) -> Catalog:
    """Make a catalog in the folder `to` from files, folders, globs or DataFrames, or from several of them.

    A DataFrame of pandas, polars or pyarrow is treated as a file is. The same call again opens the finished catalog.

    Args:
        mapping: field to column, for columns with unusual names, such as `{"price": "amount"}`.
        currency, min_price, max_price: ISO code of the prices (default: what files name, else USD), and their range.
        split: `auto`, `time`, or shares such as `90/5/5`; another `split_seed` gives another.
        train_rows, drop_part_numbers: keep so many training rows, balanced; take part numbers out of the text.
        keep, drop: columns to keep although they give the price away, and columns to ignore.
        add: the folder of an earlier catalog, whose items are added and keep their split.
        delimiter, sheet, kind: of a CSV file, of a workbook, and of any file such as `shopify` (default: recognized).
        cluster: address of a Ray cluster that cleans the rows, HOST:PORT or "auto" (docs/scale.md).
        overwrite, verbose: replace a catalog that was made with other settings; show progress.

    Raises UsageError for a wrong option, a table without a price column, or a folder `to` that holds something else,
    and InputError for a file that cannot be read or fewer than 100 usable rows.

    Examples:
        >>> import pyarrow as pa
        >>> rows = [{"name": f"Garden hose {n} m", "price": 10.0 + n} for n in range(200)]
        >>> catalog = curate(pa.Table.from_pylist(rows), folder / "shop", currency="EUR")
        >>> catalog.currency, len(catalog.items("train"))
        ('EUR', 120)
    """
    from pricesmith.cluster.curate import curate as curate_files

    with (
        tempfile.TemporaryDirectory(prefix="pricesmith-") as folder,
        Console(quiet=not verbose).progress() as progress,
    ):
        paths = write_sources(source, Path(folder))
        return curate_files(
            paths, Path(to), mapping=mapping, currency=currency, min_price=min_price, max_price=max_price, split=split,
            split_seed=split_seed, train_rows=train_rows, drop_part_numbers=drop_part_numbers, keep=keep, drop=drop,
            delimiter=delimiter, kind=kind, sheet=sheet, add=add, overwrite=overwrite, progress=progress,
            cluster=cluster,
        )  # fmt: skip


def write_sources(source: Source | Sequence[Source], folder: Path) -> list[str]:
    """The paths of all sources; DataFrames are written to `folder`. Raises UsageError for anything else."""
    from pricesmith.catalog.dataframes import is_dataframe, write_parquet

    several = isinstance(source, Iterable) and not isinstance(source, str | Path) and not is_dataframe(source)
    parts: Any = source if several else [source]
    sources = list(parts)
    paths = []
    for number, part in enumerate(sources, start=1):
        if isinstance(part, str | Path):
            paths.append(str(part))
        elif is_dataframe(part):
            path = folder / ("dataframe.parquet" if len(sources) == 1 else f"dataframe-{number}.parquet")
            write_parquet(part, path)
            paths.append(str(path))
        else:
            raise UsageError(
                "A catalog is made from files and DataFrames",
                got=type(part).__name__,
                allowed="a path, a glob, a DataFrame of pandas, polars or pyarrow, or a list of these",
                hint="Put the rows into a DataFrame.",
            )
    return paths


def fit(
    recipe: str | Recipe,
    catalog: CatalogLike,
    to: Path | str,
    *,
    budget: float | None = None,
    concurrency: int = 8,
    timeout: float | None = None,
    weight_by: str = "",
    overwrite: bool = False,
    verbose: bool = False,
    **settings: Any,
) -> PriceModel:
    """Fit a recipe on a catalog into the model folder `to`, and return the model.

    `recipe` is the name of a shipped recipe (`pricesmith recipe ls` lists them), a TOML file or a recipe object;
    further keywords are its settings, such as `epochs=6`. The same call again loads the finished model; a call with
    other settings raises UsageError, unless `overwrite`. A recipe that asks an API model spends at most `budget` US
    dollars, with `concurrency` requests at the same time and `timeout` seconds for each. `weight_by` is `source`, so
    that all sources of the catalog have the same total weight, or `source-sqrt`.

    Examples:
        >>> model = fit("median", catalog, folder / "median", min_rows=50)
        >>> model.manifest["settings"]["min_rows"]
        50
    """
    from pricesmith.base_models.memory import plan_for_hardware
    from pricesmith.pricers.api.open_settings import open_settings
    from pricesmith.pricers.fitting import fit_model

    chosen = build_recipe(recipe, settings)
    limits: dict[str, Any] = {"budget": budget, "concurrency": concurrency, "timeout": timeout}
    api_settings = open_settings(chosen, f"the recipe {chosen.kind}", **limits)
    with api_settings, Console(quiet=not verbose).progress() as progress:
        planned = plan_for_hardware(chosen, progress, to=None if overwrite else Path(to))
        options: dict[str, Any] = {"weight_by": weight_by, "overwrite": overwrite, "progress": progress}
        fit_model(planned, open_or_same(catalog), Path(to), **options)
        return load(to)


def build_recipe(recipe: str | Recipe, settings: dict[str, Any]) -> Recipe:
    """A recipe by its name, its TOML file or itself, with these settings. Raises UsageError for an unknown setting."""
    from pricesmith.pricers.recipes import get_settings, read_recipe

    if isinstance(recipe, str | Path):
        return read_recipe(str(recipe), settings)
    if not settings:
        return recipe
    values = {name: value for name, value in get_settings(recipe).items() if name != "kind"}
    cls: Any = type(recipe)
    changed: Recipe = parse_settings(cls, {**values, **settings}, where=f"the recipe {recipe.kind}")
    return changed


def load(model: Path | str) -> PriceModel:
    """Load a model from its folder, or the chosen model of a folder that `pricesmith build` made.

    Raises InputError if the model is unfinished, damaged or of a newer version.

    Examples:
        >>> load(model.path).name
        'ridge'
    """
    from pricesmith.pricers.model import load_model

    return load_model(model)


def price_file(
    model: PriceModel | Path | str,
    file: Path | str,
    to: Path | str,
    *,
    max_interval_ratio: float | None = None,
    comparables: int = 0,
    audit: bool = False,
    mapping: Mapping[str, str] | None = None,
    budget: float | None = None,
    concurrency: int = 8,
    timeout: float | None = None,
    cluster: str | None = None,
    overwrite: bool = False,
    verbose: bool = False,
) -> dict[str, Any]:
    """Price every row of a file (.csv, .jsonl, .parquet, .xlsx) or a table (`sqlite:`, `postgresql://`, `hf://`) of any
    length into the file `to`, or each file of a folder into the folder `to`; returns the counts.

    A row whose interval reaches further than price ÷ or × `max_interval_ratio` gets no price. `comparables` similar
    training listings are added to each row. `audit` adds `asked_price`, `assessment` and `p_value` for the prices in
    the file. `mapping` is field -> column, for columns with unusual names. Raises UsageError if the model knows no
    column of the file, or if `to` is a file that Pricesmith did not write, unless `overwrite`.

    A model that asks an API model spends at most `budget` US dollars, spread over all rows, with `concurrency` requests
    at the same time and `timeout` seconds for each; `api` in the result has what was spent, and how many listings were
    asked, or could not be asked and why. The same call after an interruption counts what was spent before it.

    `cluster` is the address of a Ray cluster that prices the rows, HOST:PORT or "auto" (docs/scale.md).

    Examples:
        >>> from pricesmith.testing import make_csv
        >>> new = make_csv(folder / "new.csv", 30, seed=1)
        >>> price_file(model, new, new.with_name("prices.csv"))["priced"]
        30
    """
    from pricesmith.batch import price
    from pricesmith.cluster.price_folder import price_files
    from pricesmith.pricers.api.open_settings import open_settings

    loaded = load(model) if isinstance(model, str | Path) else model
    price.check_max_ratio(max_interval_ratio, loaded.calibrated)
    price.check_comparables(comparables, loaded)
    limits: dict[str, Any] = {"budget": budget, "concurrency": concurrency, "timeout": timeout}
    api_settings = open_settings(loaded, str(loaded.path), **limits, fallback=True)
    with api_settings, Console(quiet=not verbose).progress() as progress:
        return price_files(
            loaded,
            file,
            Path(to),
            cluster=cluster,
            max_interval_ratio=max_interval_ratio,
            comparables=comparables,
            audit=audit,
            mapping=mapping,
            overwrite=overwrite,
            progress=progress,
        )


def export(
    source: PriceModel | Catalog | Path | str,
    to: Path | str,
    format: str,
    *,
    evals: Path | str | None = None,
    style: str = "plain",
    overwrite: bool = False,
    verbose: bool = False,
) -> dict[str, Any]:
    """Write a model as `merged`, `adapter` or `hub`, or a catalog as `sft`, for other tools; returns what was written.

    `evals` is a folder of evaluations whose leaderboard goes into the model card; `style` is plain or chat, for `sft`.

    Examples:
        >>> written = export(catalog, folder / "rows.jsonl", "sft")
        >>> written["rows"]["train"] > 100
        True
    """
    from pricesmith.exporting import export_model

    folder = Path(source) if isinstance(source, str | Path) else source.path
    with Console(quiet=not verbose).progress() as progress:
        return export_model(
            folder,
            Path(to),
            format,
            evals=None if evals is None else Path(evals),
            style=style,
            overwrite=overwrite,
            progress=progress,
        )


def bases(
    memory: str | None = None,
    purpose: str = "train",
    *,
    catalog: CatalogLike | None = None,
    names: Sequence[str] = (),
    measure: bool = False,
    minutes: float = 10.0,
    gpu: str | None = None,
    sort: str = "size",
    verbose: bool = False,
) -> dict[str, Any]:
    """The open base models that fit this machine, or a GPU with `memory` such as "24GB", as plain values.

    `gpu` is a kind of GPU, such as h200, with its memory and published speed; `sort` is size, mmlu, mmlu-pro or time.
    `purpose` is train or serve. With a `catalog` its tokens are counted; with `measure` the bases at hand (or `names`)
    price some of its rows untuned, for at most `minutes`.

    Examples:
        >>> facts = bases("24GB")
        >>> len(facts["models"]) > 3
        True
    """
    from pricesmith.base_models.choose import choose_base

    folder = catalog.path if isinstance(catalog, Catalog) else None if catalog is None else Path(catalog)
    with Console(quiet=not verbose).progress() as progress:
        return choose_base(
            memory,
            purpose,
            folder,
            names=names,
            measure=measure,
            minutes=minutes,
            gpu=gpu,
            sort=sort,
            progress=progress,
        )


def measure_learning_curve(
    catalog: CatalogLike,
    to: Path | str,
    *,
    recipe: str | Recipe = "sparse_mlp",
    repeats: int = 4,
    left_out: int | None = None,
    overwrite: bool = False,
    verbose: bool = False,
    **settings: Any,
) -> LearningCurve:
    """Measure how the error falls with more training rows, and which categories need them, into the folder `to`.

    The recipe is fitted on an eighth, a quarter, half (`repeats` times each) and all of the training rows. At most
    `left_out` training rows are priced by fits without them, for the categories (default: 50,000, or 2,000 for language
    models). Further keywords are settings of the recipe. The same call again reads the finished result.

    Raises UsageError for a recipe made of other models, InputError with fewer than 400 training rows.

    Examples:
        >>> curve = measure_learning_curve(catalog, folder / "curve", recipe="median", repeats=2)
        >>> [point.part for point in curve.points]
        [8, 4, 2, 1]
        >>> curve.points[-1].rows == curve.rows
        True
    """
    from pricesmith.learning_curve import measure_learning_curve as measure

    chosen, opened = build_recipe(recipe, settings), open_or_same(catalog)
    with Console(quiet=not verbose).progress() as progress:
        return measure(
            opened, Path(to), chosen, repeats=repeats, left_out=left_out, overwrite=overwrite, progress=progress
        )


def open_or_same(catalog: CatalogLike) -> Catalog:
    """The catalog itself, or the catalog in a folder. Raises InputError if the folder holds no finished catalog."""
    return catalog if isinstance(catalog, Catalog) else open_catalog(catalog)
