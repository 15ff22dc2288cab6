"""`recipe`, `doctor` and `bases`: which recipes and base models there are, and what this machine can hold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pricesmith.cli.app import Json, Quiet, app, open_console

recipe_verbs = typer.Typer(help="List the shipped recipes, or copy one.", no_args_is_help=True)
app.add_typer(recipe_verbs, name="recipe")


@recipe_verbs.command("ls")
def list_recipes(json: Json = False, quiet: Quiet = False) -> None:
    """List the shipped recipes with their measured fit time and error."""
    from pricesmith.pricers import recipes

    console = open_console(json=json, quiet=quiet)
    rows = recipes.list_recipes()
    console.say(recipes.format_recipes(rows))
    console.result(rows)


@recipe_verbs.command("cp")
def copy_recipe(
    name: Annotated[str, typer.Argument(help="A shipped recipe.")],
    to: Annotated[Path, typer.Argument(help="The file to write.")],
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Copy a recipe to a file of your own, to change it."""
    from pricesmith.pricers.recipes import copy_recipe as copy

    console = open_console(json=json, quiet=quiet)
    copy(name, to)
    console.say(f"Copied to {to}. Fit it with: pricesmith fit {to} --catalog CATALOG --to MODEL")
    console.result({"recipe": name, "to": str(to)})


@app.command()
def doctor(json: Json = False, quiet: Quiet = False) -> None:
    """Show what is installed and what this machine can hold."""
    from pricesmith.doctor import format_report, inspect_installation

    console = open_console(json=json, quiet=quiet)
    report = inspect_installation()
    console.say(format_report(report))
    console.result(report)


@app.command()
def bases(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[BASE]...", help="More base models: a Hub id, a folder or a .gguf file."),
    ] = None,
    memory: Annotated[str | None, typer.Option(help="Memory, such as 24GB (default: this machine's).")] = None,
    purpose: Annotated[str, typer.Option("--for", help="train or serve.")] = "train",
    catalog: Annotated[
        Path | None, typer.Option("--catalog", help="Count its tokens; with --measure, evaluate the base models on it.")
    ] = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="Measure the untuned error of the named base models, or of those on this machine."
        ),
    ] = False,
    minutes: Annotated[float, typer.Option(help="Minutes that --measure may take.")] = 10.0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List open base models: which fit this machine, how they write prices, how accurate they are untuned."""
    from pricesmith.base_models import choose

    console = open_console(json=json, quiet=quiet)
    with console.progress() as progress:
        choice = choose.choose_base(
            memory, purpose, catalog, names=names or (), measure=measure, minutes=minutes, progress=progress
        )
    console.say(choose.format_choice(choice))
    console.result(choice)
