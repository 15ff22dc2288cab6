"""Verbs that ask and advise: a person's place among the pricers, and what more rows would buy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pricesmith.cli.app import Json, Quiet, Rebuild, app
from pricesmith.core.console import Console


@app.command()
def ask(
    catalog: Annotated[Path, typer.Argument(help="A catalog folder.")],
    to: Annotated[Path, typer.Option("--to", help="The .csv file of answers; eval reads it as human:FILE.csv.")],
    n: Annotated[int, typer.Option("--n", help="How many listings: those of eval --limit N.")] = 100,
    against: Annotated[Path | None, typer.Option(help="An evals folder, to be set beside its pricers.")] = None,
    seed: Annotated[int, typer.Option(help="Another seed asks for other listings.")] = 0,
    end: Annotated[bool, typer.Option("--end", help="Ask no more, and show the result so far.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """A quiz: price listings of the test split yourself, and see where you stand."""
    from pricesmith.catalog import open as open_catalog
    from pricesmith.human import quiz

    console = Console(json=json, quiet=quiet)
    shop = open_catalog(catalog)
    asked = quiz.run_quiz(shop, to, n=n, seed=seed, against=against, end=end, console=console)
    console.say()
    for part in quiz.format_listing(asked, shop):
        console.say(part)
    console.result(quiz.quiz_dict(asked, shop))


@app.command()
def measure_learning_curve(
    catalog: Annotated[Path, typer.Argument(help="A catalog folder.")],
    to: Annotated[Path | None, typer.Option("--to", help="The folder to write; none: CATALOG-advice.")] = None,
    recipe: Annotated[str, typer.Option(help="Whose learning curve: a shipped name or a TOML file.")] = "sparse_mlp",
    set: Annotated[list[str] | None, typer.Option("--set", help="key=value, over the recipe's settings.")] = None,
    draws: Annotated[int, typer.Option(help="Fits of each part of the rows; more tell the luck of the draw.")] = 4,
    left_out: Annotated[
        int | None, typer.Option(help="Training rows judged by fits that left them out, for the categories.")
    ] = None,
    overwrite: Rebuild = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """What twice the rows would buy, where the error sits, and which categories need rows."""
    from pricesmith.catalog import open as open_catalog
    from pricesmith.core.settings import read_pairs, read_value
    from pricesmith.learning_curve.measure import PAGE_NAME, default_folder
    from pricesmith.learning_curve.measure import measure_learning_curve as run
    from pricesmith.learning_curve.terminal import format_learning_curve
    from pricesmith.pricers.recipes import read_recipe

    console = Console(json=json, quiet=quiet)
    overrides = {key: read_value(value) for key, value in read_pairs(set or [], "--set").items()}
    chosen, shop = read_recipe(recipe, overrides), open_catalog(catalog)
    folder = to or default_folder(catalog)
    with console.progress() as progress:
        found = run(shop, folder, chosen, draws=draws, left_out=left_out, overwrite=overwrite, progress=progress)
    for part in format_learning_curve(found):
        console.say(part)
    console.say(f"With a picture: {folder / PAGE_NAME}")
    console.result({"folder": str(folder), **found.model_dump(mode="json")})
