"""`eval`, `report`, `quiz` and `learning-curve`: the commands that measure models, people and what more rows bring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pricesmith.cli.app import (
    ApiBatch,
    ApiBudget,
    ApiCancelBatch,
    ApiConcurrency,
    ApiNoWait,
    ApiTimeout,
    CatalogFolder,
    Json,
    Overwrite,
    Quiet,
    Rebuild,
    app,
    open_console,
)
from pricesmith.core.errors import UsageError

if TYPE_CHECKING:
    from pricesmith.api.suggest import AnswerSuggestion
    from pricesmith.core.console import Console
    from pricesmith.core.tables import FittedTable
    from pricesmith.pricers.api.model_spec import ApiSettings


@app.command("eval")
def evaluate(
    pricers: Annotated[
        list[str], typer.Argument(help="Model folders, human:FILE.csv, zero-shot:BASE, api:MODEL or answers:FILE.csv.")
    ],
    catalog: CatalogFolder,
    to: Annotated[
        Path | None, typer.Option("--to", help="The evals folder to write (with --suggest: a .csv file of listings).")
    ] = None,
    split: Annotated[str, typer.Option(help="validation or test.")] = "test",
    limit: Annotated[int | None, typer.Option(help="Evaluate on N items only, drawn by near-duplicate group.")] = None,
    other_catalog: Annotated[
        bool, typer.Option("--other-catalog", help="Allow models of another catalog; their training rows are left out.")
    ] = False,
    suggest: Annotated[
        bool,
        typer.Option("--suggest", help="Suggest how many answers of api:MODEL to buy for a blend; nothing is sent."),
    ] = False,
    answers: Annotated[int | None, typer.Option(help="With --suggest: another number of answers.")] = None,
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
    """Evaluate pricers on the same items, and print the leaderboard."""
    from pricesmith.candidates import run_candidates
    from pricesmith.catalog import open as open_catalog
    from pricesmith.evaluation.leaderboard import build_leaderboard
    from pricesmith.pricers.api.model_spec import ApiSettings
    from pricesmith.reporting.tables import leaderboard_dict, leaderboard_table

    console = open_console(json=json, quiet=quiet)
    check_batch(pricers, batch=batch, no_wait=no_wait, cancel=cancel_batch, suggest=suggest)
    mode: Any = "" if not (batch or cancel_batch) else "submit" if no_wait else "wait"
    settings = ApiSettings(budget, concurrency, timeout, batch=mode)
    if cancel_batch:
        show_cancelled(console, pricers, catalog, settings)
        return
    options: dict[str, Any] = {"split": split, "limit": limit, "other_catalog": other_catalog}
    if suggest:
        check_suggest(pricers, options)
        show_suggestion(console, pricers, catalog, settings, n_answers=answers, to=to, overwrite=overwrite)
        return
    if to is None or answers is not None:
        raise UsageError(
            "eval needs --to, the evals folder to write" if to is None else "--answers needs --suggest",
            got="no --to" if to is None else f"--answers {answers}",
            hint="Add --to out/evals." if to is None else "Use --limit to evaluate on N items only.",
        )
    options |= {"overwrite": overwrite, "api_settings": settings}
    with console.progress() as progress:
        evals = run_candidates(pricers, open_catalog(catalog), to, progress=progress, **options)
    rows = build_leaderboard(evals)
    console.say(leaderboard_table(evals, rows))
    console.result(leaderboard_dict(evals, rows))


def check_batch(pricers: Sequence[str], *, batch: bool, no_wait: bool, cancel: bool, suggest: bool) -> None:
    """Raise UsageError unless the options about batch jobs fit each other and the pricers."""
    if not (batch or no_wait or cancel):
        return
    if batch and (cancel or suggest):
        other = "--cancel-batch" if cancel else "--suggest"
        raise UsageError(
            f"--batch and {other} exclude each other", got=f"--batch {other}", hint=f"Leave out --batch or {other}."
        )
    if not (batch or cancel):
        raise UsageError("--no-wait needs --batch", got="--no-wait", hint="Add --batch, or leave out --no-wait.")
    if not any(spec.startswith("api:") for spec in pricers):
        raise UsageError(
            "There is no API model to ask in batch jobs",
            got=" ".join(pricers),
            allowed="at least one api:MODEL",
            hint="Name one, or leave out --batch, --no-wait and --cancel-batch.",
        )


def show_cancelled(console: Console, pricers: Sequence[str], catalog: Path, settings: ApiSettings) -> None:
    """Cancel the batch jobs of API models, and print what became of them."""
    from dataclasses import asdict

    from pricesmith.candidates import cancel_batches
    from pricesmith.catalog import open as open_catalog
    from pricesmith.pricers.api.batch_jobs.open_job import count_jobs
    from pricesmith.text.formatting import format_usd

    with console.progress() as progress:
        cancelled = cancel_batches(pricers, open_catalog(catalog), settings, progress)
    for model, jobs in cancelled.items():
        if not jobs.jobs:
            console.say(f"{model} has no unfinished batch jobs.")
            continue
        console.say(
            f"{model}: {count_jobs(jobs.jobs)} with {jobs.requests:,} requests ended; {jobs.answers:,} answers were "
            f"finished before, cost {format_usd(jobs.cost_usd)} and are kept."
        )
    console.result({"cancelled": {model: asdict(jobs) for model, jobs in cancelled.items()}})


def check_suggest(pricers: Sequence[str], options: Mapping[str, Any]) -> None:
    """Raise UsageError unless `eval --suggest` has one API model, at most one own model, and no other option."""
    if len(pricers) > 2:
        raise UsageError(
            "--suggest takes one API model and at most one model of your own",
            got=" ".join(pricers),
            allowed="api:MODEL [OWN_MODEL_FOLDER], or answers:FILE.csv [OWN_MODEL_FOLDER]",
            hint="Name one pair.",
        )
    if options != {"split": "test", "limit": None, "other_catalog": False}:
        raise UsageError(
            "--suggest is about the validation split of this catalog",
            got="--split, --limit or --other-catalog",
            hint="Leave it out; --answers N asks for another number of answers.",
        )


def show_suggestion(
    console: Console,
    pricers: Sequence[str],
    catalog: Path,
    settings: ApiSettings,
    *,
    n_answers: int | None,
    to: Path | None,
    overwrite: bool,
) -> None:
    """Print how many answers of an API model to buy, their costs and their gain."""
    from pricesmith.api.suggest import build_suggestion
    from pricesmith.catalog import open as open_catalog

    with console.progress() as progress, settings:
        suggestion = build_suggestion(
            pricers[0],
            open_catalog(catalog),
            pricers[1] if len(pricers) > 1 else None,
            settings,
            n_answers=n_answers,
            to=to,
            overwrite=overwrite,
            progress=progress,
        )
    for table in suggestion_tables(suggestion):
        console.say(table)
    for line in suggestion.describe():
        console.say(line)
    if to is not None:
        console.say(f"{to} has the first {len(suggestion.listings):,} listings in the order in which fit asks.")
    console.say("Next:")
    for command in suggestion.commands:
        console.say(f"  {command}")
    console.result({**suggestion.to_dict(), "file": str(to) if to is not None else None})


def suggestion_tables(suggestion: AnswerSuggestion) -> list[FittedTable]:
    """The costs by number of answers with the expected MAE, and the measured points of the curve."""
    from pricesmith.core.tables import Column, FittedTable
    from pricesmith.text.formatting import format_price, format_usd

    curve, currency = suggestion.curve, suggestion.currency
    names = ["answers", "saved" if suggestion.saved else "cached", "new requests", "estimated cost", "at worst"]
    rows = [
        [f"{row.answers:,}", f"{row.cached:,}", f"{row.requests:,}", format_usd(row.usd), format_usd(row.worst_usd)]
        for row in suggestion.rows
    ]
    if curve is not None:
        names.append("expected MAE")
        rows = [
            [*cells, format_price(curve.expected_mae(row.answers), currency)]
            for cells, row in zip(rows, suggestion.rows, strict=True)
        ]
    tables = [FittedTable("Cost of answers", [Column(name, right=True) for name in names], rows)]
    if curve is not None:
        columns = [Column(name, right=True) for name in ("answers", "subsets", "MAE", "standard deviation")]
        points = [
            [f"{point.answers:,}", f"{point.subsets:,}", *(format_price(x, currency) for x in (point.mae, point.sd))]
            for point in curve.points
        ]
        tables.append(FittedTable("Hybrids fitted on random subsets of the answers", columns, points))
    return tables


@app.command()
def report(
    evals: Annotated[Path, typer.Argument(help="An evals folder.")],
    to: Annotated[Path, typer.Option("--to", help="The HTML file to write, with a .json file beside it.")] = Path(
        "report.html"
    ),
    reference: Annotated[
        str | None, typer.Option(help="Model to compare all others with (default: your most accurate one).")
    ] = None,
    competitor: Annotated[
        str | None,
        typer.Option(help="Model to compare with the reference by price band and category (default: the best other)."),
    ] = None,
    machine_cost: Annotated[
        float | None, typer.Option(help="Cost of your machine in US dollars an hour (default: unknown).")
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a self-contained page with the conclusion, leaderboard, costs, charts and worst items."""
    from pricesmith.reporting import write_report as run
    from pricesmith.reporting.tables import format_conclusion

    console = open_console(json=json, quiet=quiet)
    conclusion = run(
        evals, to, reference=reference, competitor=competitor, machine_cost=machine_cost, overwrite=overwrite
    )
    console.say(format_conclusion(conclusion["conclusion"]))
    if conclusion["age"]:
        console.say("\nError by age of the training data")
        for sentence in conclusion["age"]["sentences"]:
            console.say(sentence)
    console.say(f"\n{to} is written ({to.stat().st_size / 1e6:.1f} MB); it opens in any browser, offline.")
    console.result({"report": str(to), "bytes": to.stat().st_size, "conclusion": conclusion})


@app.command("quiz")
def quiz(
    catalog: Annotated[Path, typer.Argument(help="A catalog folder.")],
    to: Annotated[Path, typer.Option("--to", help="The .csv file of answers; eval reads it as human:FILE.csv.")],
    n: Annotated[int, typer.Option("--n", help="Number of listings, the same ones as eval --limit N.")] = 100,
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
        int | None,
        typer.Option(help="Training rows to price with models fitted without them, for the curves by category."),
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
