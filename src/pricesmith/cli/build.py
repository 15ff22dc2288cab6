"""`build` and `demo`: from a table to an evaluated, reported model in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    TrainRows,
    app,
    open_console,
)


@app.command()
def build(
    sources: Annotated[list[str], typer.Argument(help="Files, folders or globs of priced things, or demo:goods.")],
    to: Annotated[
        Path | None, typer.Option("--to", help="Folder for everything (default: out/NAME of the file).")
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option("--recipe", help="Fit this recipe too; repeatable (default: median, ridge, sparse_mlp)."),
    ] = None,
    refit: Annotated[
        bool, typer.Option("--refit", help="Update the folder with a newer table; known items keep their split.")
    ] = False,
    preview: Preview = False,
    map: ColumnNames = None,
    currency: Currency = None,
    min_price: MinPrice = None,
    max_price: MaxPrice = None,
    split: Annotated[str | None, typer.Option(help="auto, or shares such as 90/5/5.")] = None,
    split_seed: Annotated[int | None, typer.Option(help="Another seed gives another split.")] = None,
    train_rows: TrainRows = None,
    keep: Keep = None,
    drop: Drop = None,
    delimiter: Delimiter = None,
    drop_part_numbers: DropPartNumbers = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """From a table to an evaluated, reported model: curate, fit, eval and report in one command."""
    from pricesmith.build import build as run_build
    from pricesmith.build import show_build
    from pricesmith.core.settings import read_pairs

    console = open_console(json=json, quiet=quiet)
    options = {
        "mapping": read_pairs(map or [], "--map"),
        "currency": currency,
        "min_price": min_price,
        "max_price": max_price,
        "split": split,
        "split_seed": split_seed,
        "train_rows": train_rows,
        "keep": keep or [],
        "drop": drop or [],
        "delimiter": delimiter,
        "drop_part_numbers": drop_part_numbers,
    }
    if preview:
        from pricesmith.cli.make import show_preview

        names = ("mapping", "currency", "keep", "drop")
        show_preview(sources, {**{name: options[name] for name in names}, "delimiter": delimiter or ""}, console)
        return
    with console.progress() as progress:
        result = run_build(sources, to, recipes=recipe or (), options=options, refit=refit, progress=progress)
    show_build(result, console)
    console.result(result)


@app.command()
def demo(
    to: Annotated[Path, typer.Option("--to", help="Folder for everything.")] = Path("out/demo"),
    llm: Annotated[bool, typer.Option("--llm", help="Tune a small language model too: about 20 minutes more.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """build, on 61,003 real goods that a Python package carries."""
    from pricesmith.demo import demo as run_demo
    from pricesmith.demo import show_result

    console = open_console(json=json, quiet=quiet)
    with console.progress() as progress:
        result = run_demo(to, llm=llm, progress=progress)
    show_result(result, console)
