"""Commands that make things: a catalog and a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from pricesmith.cli.app import (
    ColumnNames,
    Currency,
    Delimiter,
    Drop,
    DropPartNumbers,
    Json,
    Keep,
    MaxPrice,
    MinPrice,
    Preview,
    Quiet,
    Rebuild,
    TrainRows,
    app,
    open_console,
)
from pricesmith.core.console import Console
from pricesmith.core.errors import UsageError


@app.command()
def curate(
    sources: Annotated[list[str], typer.Argument(help="Files, folders or globs, or demo:goods.")],
    to: Annotated[Path | None, typer.Option("--to", help="The catalog folder to write.")] = None,
    map: ColumnNames = None,
    drop: Drop = None,
    keep: Keep = None,
    delimiter: Delimiter = None,
    currency: Currency = None,
    preview: Preview = False,
    min_price: MinPrice = None,
    max_price: MaxPrice = None,
    split: Annotated[str, typer.Option(help="auto, or shares such as 90/5/5.")] = "auto",
    split_seed: Annotated[int, typer.Option(help="Another seed gives another split.")] = 0,
    train_rows: TrainRows = None,
    drop_part_numbers: DropPartNumbers = False,
    overwrite: Rebuild = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Build a catalog: clean, without leaks, near-duplicates in one split."""
    from pricesmith.catalog.curation import curate as build
    from pricesmith.catalog.summary import catalog_summary
    from pricesmith.core.settings import read_pairs

    console = open_console(json=json, quiet=quiet)
    reading: dict[str, Any] = {
        "mapping": read_pairs(map or [], "--map"),
        "currency": currency,
        "keep": keep or [],
        "drop": drop or [],
        "delimiter": delimiter or "",
    }
    if preview:
        show_preview(sources, reading, console)
        return
    if to is None:
        raise UsageError("curate needs --to", hint=f"pricesmith curate {sources[0]} --to out/catalog")
    with console.progress() as progress:
        catalog = build(
            sources,
            to,
            **reading,
            min_price=min_price,
            max_price=max_price,
            split=split,
            split_seed=split_seed,
            train_rows=train_rows,
            drop_part_numbers=drop_part_numbers,
            overwrite=overwrite,
            progress=progress,
        )
    console.say(catalog_summary(catalog))
    console.result(catalog.ledger)


def show_preview(sources: Sequence[str], reading: Mapping[str, Any], console: Console) -> None:
    """Print what `curate` would read with these options, and write nothing."""
    from pricesmith.catalog.curation import preview

    with console.progress() as progress:
        shown = preview(sources, **reading, progress=progress)
    console.say(shown.render())
    console.result(shown.to_dict())


@app.command()
def show(
    catalog: Annotated[Path, typer.Argument(metavar="FOLDER", help="A catalog, model, build or evals folder.")],
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show a catalog, a model or an evals folder."""
    from pricesmith.catalog import open as open_catalog
    from pricesmith.catalog.summary import catalog_page, to_dict
    from pricesmith.cli import show_model

    console = open_console(json=json, quiet=quiet)
    if show_model.is_model(catalog):
        show_model.show_model(catalog, console)
        return
    if show_model.is_evals(catalog):
        show_model.show_evals(catalog, console)
        return
    opened = open_catalog(catalog)
    console.say(catalog_page(opened))
    console.result(to_dict(opened))


@app.command()
def fit(
    recipe: Annotated[
        str | None, typer.Argument(help="A shipped recipe or a TOML file; without it, the recipes are listed.")
    ] = None,
    catalog: Annotated[Path | None, typer.Option("--catalog", help="A catalog folder.")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="The model folder to write.")] = None,
    set: Annotated[list[str] | None, typer.Option("--set", help="key=value, replaces a setting of the recipe.")] = None,
    overwrite: Rebuild = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fit a recipe on a catalog into a model folder."""
    from pricesmith.core.settings import read_pairs, read_value

    console = open_console(json=json, quiet=quiet)
    if recipe is None:
        from pricesmith.cli.look import list_recipes

        list_recipes(json=json, quiet=quiet)
        return
    if catalog is None or to is None:
        missing = "--catalog" if catalog is None else "--to"
        raise UsageError(
            f"fit needs {missing}", hint=f"pricesmith fit {recipe} --catalog out/catalog --to out/{Path(recipe).stem}"
        )
    from pricesmith.base_models.memory import plan_for_hardware
    from pricesmith.catalog import open as open_catalog
    from pricesmith.pricers import fitting, model
    from pricesmith.pricers.recipes import read_recipe

    overrides = {key: read_value(value) for key, value in read_pairs(set or [], "--set").items()}
    chosen = read_recipe(recipe, overrides)
    with console.progress() as progress:
        opened = open_catalog(catalog)
        fitting.fit_model(plan_for_hardware(chosen, progress), opened, to, overwrite=overwrite, progress=progress)
    fitted = model.load_model(to)
    console.say(model.format_model(fitted))
    console.result(model.to_dict(fitted))
