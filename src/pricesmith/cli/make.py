"""Commands that make things: a catalog and a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pricesmith.cli.app import Json, Quiet, Rebuild, app, open_console
from pricesmith.core.errors import UsageError


@app.command()
def curate(
    sources: Annotated[list[str], typer.Argument(help="Files, folders or globs, or demo:goods.")],
    to: Annotated[Path | None, typer.Option("--to", help="The catalog folder to write.")] = None,
    map: Annotated[
        list[str] | None, typer.Option("--map", help="field=column, for a column with an unusual name.")
    ] = None,
    drop: Annotated[list[str] | None, typer.Option("--drop", help="A column to ignore.")] = None,
    keep: Annotated[
        list[str] | None, typer.Option("--keep", help="A column to keep although it gives the price away.")
    ] = None,
    delimiter: Annotated[
        str, typer.Option(help="What separates the columns of a CSV file, such as ';' or tab (default: found).")
    ] = "",
    currency: Annotated[
        str | None, typer.Option(help="The currency of the prices (default: the one that the files name, else USD).")
    ] = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="Show the columns and the first five rows; write nothing.")
    ] = False,
    min_price: Annotated[float | None, typer.Option(help="The lowest price to keep (default: all prices).")] = None,
    max_price: Annotated[float | None, typer.Option(help="The highest price to keep (default: all prices).")] = None,
    split: Annotated[str, typer.Option(help="auto, or shares such as 90/5/5.")] = "auto",
    split_seed: Annotated[int, typer.Option(help="Another seed gives another split.")] = 0,
    train_rows: Annotated[
        int | None, typer.Option(help="Keep this many training rows, fewer of the commonest prices.")
    ] = None,
    drop_part_numbers: Annotated[
        bool, typer.Option("--drop-part-numbers", help="Take part numbers out of the text.")
    ] = False,
    overwrite: Rebuild = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Build a catalog: clean, without leaks, near-duplicates in one split."""
    from pricesmith.catalog.curation import curate as build
    from pricesmith.catalog.preview import preview as read_preview
    from pricesmith.catalog.summary import catalog_summary
    from pricesmith.core.settings import read_pairs

    console = open_console(json=json, quiet=quiet)
    mapping, keep, drop = read_pairs(map or [], "--map"), keep or [], drop or []
    if preview:
        with console.progress() as progress:
            found = read_preview(
                sources,
                mapping=mapping,
                currency=currency,
                keep=keep,
                drop=drop,
                delimiter=delimiter,
                progress=progress,
            )
        console.say(found.render())
        console.result(found.to_dict())
        return
    if to is None:
        raise UsageError("curate needs --to", hint=f"pricesmith curate {sources[0]} --to out/catalog")
    with console.progress() as progress:
        catalog = build(
            sources,
            to,
            mapping=mapping,
            keep=keep,
            drop=drop,
            currency=currency,
            delimiter=delimiter,
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
    from pricesmith.base_models.precision import plan_for_hardware
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
