"""Verbs that use what is made: prices, and what is handed on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pricesmith.cli.app import Json, Overwrite, Quiet, app, open_console
from pricesmith.core.errors import UsageError


@app.command()
def price(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    text: Annotated[str | None, typer.Argument(help="What to price, in words.")] = None,
    file: Annotated[Path | None, typer.Option("--file", help=".jsonl .csv .parquet .xlsx, any length.")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="The file to write: id, price, low, high, currency.")] = None,
    max_interval_ratio: Annotated[
        float | None, typer.Option(help="No answer where the interval is wider than price x/÷ this.")
    ] = None,
    comparables: Annotated[
        int | None, typer.Option(help="Similar training listings shown with each price: 3 for a text, 0 in a file.")
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Price one thing in words, or every row of a file."""
    from pricesmith.batch import price, price_one
    from pricesmith.pricers.model import load_model

    console = open_console(json=json, quiet=quiet)
    if (text is None) == (file is None):
        raise UsageError("price takes a text, or --file and --to", hint='pricesmith price RUN "a text"')
    if file is not None and to is None:
        raise UsageError("--file needs --to", hint=f"pricesmith price {run} --file {file} --to prices.csv")
    loaded = load_model(run)
    price.check_max_ratio(max_interval_ratio, loaded.calibrated)
    if comparables is not None:
        price.check_comparables(comparables, loaded)
    result: dict[str, Any] = {}
    if text is not None:
        result = price_one.price_text(loaded, text, max_interval_ratio, 3 if comparables is None else comparables)
        console.say(price_one.format_quote(result))
    elif file is not None and to is not None:
        facts: dict[str, Any] = {
            "identity": loaded.identity,
            "decline": max_interval_ratio,
            "comparables": comparables or 0,
        }
        facts["overwrite"] = overwrite
        with console.progress() as progress:
            result = price.price_file(loaded, loaded.info, file, to, progress=progress, **facts)
        left = "{not_priced:,} not, each with the reason" if result["not_priced"] else "none left out"
        console.say(f"{{rows:,}} rows: {{priced:,}} priced, {left}: {{to}}".format(**result))
        if result["nothing_similar"]:
            console.say("Nothing similar in the training data for {nothing_similar:,} rows: see note.".format(**result))
    console.result(result)


@app.command()
def export(
    source: Annotated[Path, typer.Argument(help="A run folder, or a catalog.")],
    to: Annotated[Path, typer.Option("--to", help="The folder to write; for sft a .jsonl file.")],
    form: Annotated[str, typer.Option("--format", help="Of a run: merged, adapter or hub. Of a catalog: sft.")],
    evals: Annotated[
        Path | None, typer.Option(help="An evals folder, whose leaderboard goes into the model card.")
    ] = None,
    style: Annotated[str, typer.Option(help="Of sft: plain, or chat for an instruct model.")] = "plain",
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Hand on a run as stock tools load it, or a catalog as rows to tune a model on elsewhere."""
    from pricesmith.exporting import export_model as run
    from pricesmith.exporting import format_export

    console = open_console(json=json, quiet=quiet)
    with console.progress() as progress:
        result = run(source, to, form, evals=evals, style=style, overwrite=overwrite, progress=progress)
    console.say(format_export(result))
    console.result(result)
