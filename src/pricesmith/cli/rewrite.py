"""`rewrite`: a language model rewrites the listings of a catalog, if that lowers the error."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pricesmith.cli.app import (
    ApiBatch,
    ApiBudget,
    ApiCancelBatch,
    ApiConcurrency,
    ApiNoWait,
    ApiTimeout,
    Json,
    Quiet,
    Rebuild,
    app,
    open_console,
)


@app.command()
def rewrite(
    catalog: Annotated[Path, typer.Argument(help="A catalog folder; it stays as it is.")],
    to: Annotated[Path, typer.Option("--to", help="The folder of the rewritten catalog.")],
    model: Annotated[str, typer.Option("--model", help="api:MODEL, or a base model that runs on this machine.")],
    rows: Annotated[int, typer.Option("--rows", help="Listings of the trial, in whole near-duplicate groups.")] = 2_000,
    recipe: Annotated[str, typer.Option(help="Recipe whose error the trial measures on both texts.")] = "ridge",
    yes: Annotated[bool, typer.Option("--yes", help="After the trial, rewrite the other listings too.")] = False,
    keep_anyway: Annotated[
        bool, typer.Option("--keep-anyway", help="Write the catalog also if the error does not fall.")
    ] = False,
    budget: ApiBudget = None,
    batch: ApiBatch = False,
    no_wait: ApiNoWait = False,
    cancel_batch: ApiCancelBatch = False,
    concurrency: ApiConcurrency = 8,
    timeout: ApiTimeout = None,
    overwrite: Rebuild = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Let a language model rewrite all listings into one clean form, if that lowers the error in a trial."""
    from pricesmith.catalog import open as open_catalog
    from pricesmith.catalog.summary import describe_rewriting
    from pricesmith.cli.evaluate import check_batch, show_cancelled
    from pricesmith.pricers.api.model_spec import ApiSettings
    from pricesmith.pricers.recipes import read_recipe
    from pricesmith.rewriting.run import NotKept, NotRewritten, RewriteOptions, rewrite_catalog

    console = open_console(json=json, quiet=quiet)
    check_batch([model], batch=batch, no_wait=no_wait, cancel=cancel_batch, suggest=False)
    mode: Any = "" if not (batch or cancel_batch) else "submit" if no_wait else "wait"
    settings = ApiSettings(budget, concurrency, timeout, batch=mode)
    if cancel_batch:
        show_cancelled(console, [model], catalog, settings)
        return
    options = RewriteOptions(rows, trial_only=not yes, keep_anyway=keep_anyway, overwrite=overwrite)
    try:
        with settings, console.progress() as progress:
            made = rewrite_catalog(
                open_catalog(catalog), model, to, read_recipe(recipe), settings, options, progress=progress
            )
    except (NotKept, NotRewritten) as error:
        if not json:
            raise
        missing = {"missing": error.missing} if isinstance(error, NotRewritten) else {}
        console.result({"catalog": None, "kept": False, **missing, "trial": error.trial.to_dict()})
        raise typer.Exit(error.exit_code) from None
    for line in describe_rewriting(made.ledger):
        console.say(line)
    console.say(f"The catalog is {to}: fit and evaluate models on it as on any other.")
    console.result({"catalog": str(to), "kept": True, "rewriting": made.ledger["rewriting"]})
