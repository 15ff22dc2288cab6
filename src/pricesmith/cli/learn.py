"""`quiz` and `learning-curve`: a person's accuracy beside the models', and what more rows would bring."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pricesmith.cli.app import Json, Quiet, Rebuild, app, open_console


@app.command("quiz")
def quiz(
    catalog: Annotated[Path, typer.Argument(help="A catalog folder.")],
    to: Annotated[Path, typer.Option("--to", help="The .csv file of answers; eval reads it as human:FILE.csv.")],
    n: Annotated[int, typer.Option("--n", help="Number of listings: those of eval --limit N.")] = 100,
    against: Annotated[Path | None, typer.Option(help="An evals folder, to compare yourself with its models.")] = None,
    seed: Annotated[int, typer.Option(help="Another seed asks for other listings.")] = 0,
    end: Annotated[bool, typer.Option("--end", help="Ask no more questions, and show the result so far.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Price listings of the test split yourself, and compare your error with the models'."""
    from pricesmith.catalog import open as open_catalog
    from pricesmith.human import quiz as human_quiz

    console = open_console(json=json, quiet=quiet)
    opened = open_catalog(catalog)
    answers = human_quiz.run_quiz(opened, to, n=n, seed=seed, against=against, end=end, console=console)
    console.say()
    for part in human_quiz.format_quiz(answers, opened):
        console.say(part)
    console.result(human_quiz.quiz_dict(answers, opened))


@app.command("learning-curve")
def learning_curve(
    catalog: Annotated[Path, typer.Argument(help="A catalog folder.")],
    to: Annotated[
        Path | None, typer.Option("--to", help="Folder to write (default: the catalog's with -learning-curve).")
    ] = None,
    recipe: Annotated[str, typer.Option(help="Recipe to fit: a shipped name or a TOML file.")] = "sparse_mlp",
    set: Annotated[list[str] | None, typer.Option("--set", help="key=value, replaces a setting of the recipe.")] = None,
    repeats: Annotated[
        int, typer.Option(help="Fits for each number of rows; more measure the sampling variance better.")
    ] = 4,
    left_out: Annotated[
        int | None, typer.Option(help="Training rows that are quoted by fits without them, for the categories.")
    ] = None,
    overwrite: Rebuild = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Predict the error with twice the rows, and show which categories need more rows."""
    from pricesmith.catalog import open as open_catalog
    from pricesmith.core.settings import read_pairs, read_value
    from pricesmith.learning_curve.measure import PAGE_NAME, default_folder, measure_learning_curve
    from pricesmith.learning_curve.narrative import format_learning_curve
    from pricesmith.pricers.recipes import read_recipe

    console = open_console(json=json, quiet=quiet)
    overrides = {key: read_value(value) for key, value in read_pairs(set or [], "--set").items()}
    chosen, opened = read_recipe(recipe, overrides), open_catalog(catalog)
    folder = to or default_folder(catalog)
    with console.progress() as progress:
        curve = measure_learning_curve(
            opened, folder, chosen, repeats=repeats, left_out=left_out, overwrite=overwrite, progress=progress
        )
    for part in format_learning_curve(curve):
        console.say(part)
    console.say(f"The page with charts: {folder / PAGE_NAME}")
    console.result({"folder": str(folder), **curve.model_dump(mode="json")})
