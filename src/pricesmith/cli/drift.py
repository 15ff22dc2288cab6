"""`drift`: whether a served model still prices as it did when it was fitted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pricesmith.cli.app import Json, Quiet, app, open_console


@app.command()
def drift(
    model: Annotated[Path, typer.Argument(help="The model folder that was served, or a folder that build made.")],
    log: Annotated[
        Path | None, typer.Option("--log", help="The log of the server (default: NAME.requests.db beside the model).")
    ] = None,
    since: Annotated[str | None, typer.Option(help="The first day, as YYYY-MM-DD (default: all days).")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare a served model's quotes and sold prices with those at training time."""
    from pricesmith.pricers.model import load_model
    from pricesmith.serve.drift import drift_report, format_days
    from pricesmith.serve.log_file import default_log_path
    from pricesmith.serve.log_reader import LogReader

    console = open_console(json=json, quiet=quiet)
    loaded = load_model(model)
    report = drift_report(LogReader(log or default_log_path(model)), loaded, since)
    for sentence in report.sentences:
        console.say(sentence)
    if (table := format_days(report)) is not None:
        console.say(table)
    console.result(report.to_dict())
