"""Verbs that look: what base models and recipes there are, and what this box can do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pricesmith.cli.app import Json, Quiet, app, open_console

recipe_verbs = typer.Typer(help="The shipped recipes: list them, or copy one to own it.", no_args_is_help=True)
app.add_typer(recipe_verbs, name="recipe")


@recipe_verbs.command("ls")
def list_recipes(json: Json = False, quiet: Quiet = False) -> None:
    """The shipped recipes with minutes and error as measured."""
    from pricesmith.pricers import recipes

    console = open_console(json=json, quiet=quiet)
    found = recipes.list_recipes()
    console.say(recipes.format_recipes(found))
    console.result(found)


@recipe_verbs.command("cp")
def copy_recipe(
    name: Annotated[str, typer.Argument(help="A shipped recipe.")],
    to: Annotated[Path, typer.Argument(help="The file to write.")],
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Copy a recipe, to change it and own it."""
    from pricesmith.pricers.recipes import copy_recipe as copy

    console = open_console(json=json, quiet=quiet)
    copy(name, to)
    console.say(f"{to} is yours; run it with: pricesmith fit {to} --catalog CATALOG --to RUN")
    console.result({"recipe": name, "to": str(to)})


@app.command()
def doctor(json: Json = False, quiet: Quiet = False) -> None:
    """What is installed here, and what this box can hold."""
    from pricesmith.doctor import format_report, inspect_installation

    console = open_console(json=json, quiet=quiet)
    found = inspect_installation()
    console.say(format_report(found))
    console.result(found)


@app.command()
def bases(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[BASE]...", help="Further bases: a Hub id, a folder, a .gguf file.")
    ] = None,
    memory: Annotated[str | None, typer.Option(help="What the box has, such as 24GB; none: this box.")] = None,
    purpose: Annotated[str, typer.Option("--for", help="train or serve.")] = "train",
    catalog: Annotated[
        Path | None, typer.Option("--catalog", help="Count its tokens; with --measure, try the bases.")
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Untuned error of the bases named, or of those at hand.")
    ] = False,
    minutes: Annotated[float, typer.Option(help="How long --measure may take.")] = 10.0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Open base models: what fits the box, how they write prices, what they know untuned."""
    from pricesmith.base_models import choose

    console = open_console(json=json, quiet=quiet)
    with console.progress() as progress:
        found = choose.choose_base(
            memory, purpose, catalog, names=names or (), measure=measure, minutes=minutes, progress=progress
        )
    console.say(choose.format_choice(found))
    console.result(found)
