"""`audit`: which asked prices are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pricesmith.cli.app import Json, Quiet, app, open_console
from pricesmith.core.errors import UsageError

if TYPE_CHECKING:
    from pricesmith.auditing import AuditOptions, AuditResult
    from pricesmith.core.console import Console
    from pricesmith.core.progress import Progress


@app.command()
def audit(
    to: Annotated[Path, typer.Option("--to", help="CSV file of all listings with their assessment.")],
    catalog: Annotated[Path | None, typer.Argument(help="A catalog folder.")] = None,
    file: Annotated[
        str | None, typer.Option("--file", help="Audit a file or table with --model instead of a catalog.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", help="A model folder that was not fitted on these listings.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Fit this recipe without each price that it judges (default: sparse_mlp).")
    ] = None,
    folds: Annotated[int, typer.Option(help="Fits of --recipe, each without one part of the listings.")] = 5,
    html: Annotated[Path | None, typer.Option("--html", help="Page of the prices to check.")] = None,
    fdr: Annotated[
        float, typer.Option(help="False discovery rate: the share of right prices among those found.")
    ] = 0.1,
    split: Annotated[
        str | None, typer.Option(help="all, train, validation or test (default: all; test for a model of the catalog).")
    ] = None,
    map: Annotated[
        list[str] | None, typer.Option("--map", help="field=column, for a column of --file with an unusual name.")
    ] = None,
    p_values: Annotated[
        str, typer.Option(help="tail: read from a fitted tail; conformal: without one, guaranteed but coarser.")
    ] = "tail",
    max_wrong_share: Annotated[
        float, typer.Option(help="Share of prices that may be wrong: the farthest do not shape the tail.")
    ] = 0.02,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace --to and --html even if another program wrote them.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find asked prices that are probably wrong: too high or too low for what is offered."""
    from pricesmith.auditing import AuditOptions, write_audit
    from pricesmith.auditing.files import check_outputs
    from pricesmith.catalog.readers.sources import local_files

    check_arguments(catalog, file, model, recipe, split, map)
    options = AuditOptions(fdr, p_values, max_wrong_share)
    check_outputs(to, html, inputs=local_files(file) if file else (), overwrite=overwrite)
    console = open_console(json=json, quiet=quiet)
    with console.progress() as progress:
        if file is not None and model is not None:
            result = run_file(file, model, map, options, progress)
        else:
            assert catalog is not None
            result = run_catalog(catalog, model, recipe or "sparse_mlp", folds, split, options, progress)
        write_audit(result, to, html)
    show_result(result, to, html, console)


def check_arguments(
    catalog: Path | None,
    file: str | None,
    model: Path | None,
    recipe: str | None,
    split: str | None,
    mapping: list[str] | None,
) -> None:
    """Raise UsageError unless the command names a catalog, or a file and a model, with the options that go with it."""
    usage = "audit CATALOG [--recipe NAME | --model MODEL], or audit --file F --model MODEL"
    if (catalog is None) == (file is None):
        raise UsageError(
            "An audit is of a catalog or of a file",
            got="neither" if catalog is None else "both",
            allowed=usage,
            hint="Name a catalog folder: pricesmith audit CATALOG --to audit.csv",
        )
    if file is not None and model is None:
        raise UsageError(
            "An audit of a file needs a model",
            got="no --model",
            allowed=usage,
            hint="Add --model MODEL, a model folder.",
        )
    if recipe is not None and model is not None:
        raise UsageError("An audit is by a model or by a recipe", got="both", allowed=usage, hint="Leave out --recipe.")
    if file is not None and split is not None:
        raise UsageError("--split is for a catalog", got=f"--split {split}", hint="Leave out --split.")
    if catalog is not None and mapping:
        raise UsageError("--map is for --file", got=f"--map {mapping[0]}", hint="Leave out --map.")


def run_file(
    file: str, model: Path, mapping: list[str] | None, options: AuditOptions, progress: Progress
) -> AuditResult:
    """Audit the prices of a file with a model."""
    from pricesmith.auditing import audit_file
    from pricesmith.core.settings import read_pairs
    from pricesmith.pricers.model import load_model

    loaded = load_model(model)
    return audit_file(loaded, file, mapping=read_pairs(mapping or [], "--map"), options=options, progress=progress)


def run_catalog(
    catalog: Path,
    model: Path | None,
    recipe: str,
    folds: int,
    split: str | None,
    options: AuditOptions,
    progress: Progress,
) -> AuditResult:
    """Audit the prices of a catalog, with a model or by fitting a recipe in folds."""
    from pricesmith.auditing import audit_catalog, audit_catalog_with_model
    from pricesmith.catalog import open as open_catalog
    from pricesmith.pricers.model import load_model
    from pricesmith.pricers.recipes import read_recipe

    opened = open_catalog(catalog)
    if model is not None:
        loaded = load_model(model)
        return audit_catalog_with_model(opened, loaded, split=split or "", options=options, progress=progress)
    chosen = read_recipe(recipe)
    return audit_catalog(opened, chosen, n_folds=folds, split=split or "all", options=options, progress=progress)


def show_result(result: AuditResult, to: Path, html: Path | None, console: Console) -> None:
    """Print the prices to check with the most money at stake, the notes, and where the files are."""
    from pricesmith.auditing.result import HEADER, SHOWN
    from pricesmith.core.tables import Column, FittedTable

    console.say(result.headline())
    if rows := result.table_rows():
        right, drop = {"asked", "expected", "p-value"}, {"90 % interval": 1, "possible error": 2, "p-value": 3}
        columns = [
            Column(name, right=name in right, drop=drop.get(name, 0), wraps=name in ("listing", "possible error"))
            for name in HEADER
        ]
        console.say(FittedTable("Prices to check, the most money at stake first", columns, rows))
        if len(result.flagged) > SHOWN:
            console.say(f"{len(result.flagged) - SHOWN:,} more are in {to}.")
    for note in result.notes:
        console.say(note)
    console.say(f"All listings: {to}" + (f"; the page: {html}" if html else ""))
    console.result({"to": str(to), "html": str(html) if html else None, **result.to_dict()})
