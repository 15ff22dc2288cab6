"""Verbs that judge: evals and the report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pricesmith.cli.app import CatalogFolder, Fresh, Json, Overwrite, Quiet, app
from pricesmith.console import Console


@app.command("eval")
def evaluate(
    who: Annotated[list[str], typer.Argument(help="Run folders, human:FILE.csv, zero-shot:BASE or frontier:MODEL.")],
    catalog: CatalogFolder,
    to: Annotated[Path, typer.Option("--to", help="The evals folder to write to.")],
    split: Annotated[str, typer.Option(help="validation or test.")] = "test",
    limit: Annotated[int | None, typer.Option(help="Judge on the first N items, in an order drawn by family.")] = None,
    other_catalog: Annotated[
        bool, typer.Option("--other-catalog", help="Allow runs of another catalog; their training rows are left out.")
    ] = False,
    budget: Annotated[float | None, typer.Option(help="Dollars that hosted models may cost, never passed.")] = None,
    concurrency: Annotated[int, typer.Option(help="Requests to a hosted model at once.")] = 8,
    timeout: Annotated[float, typer.Option(help="Seconds that a hosted model may take to answer.")] = 300.0,
    fresh: Fresh = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Judge pricers on the same items; ends with the league table."""
    from pricesmith.catalog import open as open_catalog
    from pricesmith.contest import contest
    from pricesmith.evaluation.summary import league
    from pricesmith.report.terminal import league_facts, league_table
    from pricesmith.rivals import Hosting

    console = Console(json=json, quiet=quiet)
    options: dict[str, Any] = {"split": split, "limit": limit, "other_catalog": other_catalog, "fresh": fresh}
    options["hosting"] = Hosting(budget, concurrency, timeout)
    with console.progress() as progress:
        evals = contest(who, open_catalog(catalog), to, progress=progress, **options)
    rows = league(evals)
    console.say(league_table(evals, rows))
    console.result(league_facts(evals, rows))


@app.command()
def report(
    evals: Annotated[Path, typer.Argument(help="A folder that eval wrote.")],
    to: Annotated[Path, typer.Option("--to", help="The HTML file to write, with a .json file beside it.")] = Path(
        "report.html"
    ),
    champion: Annotated[
        str | None, typer.Option(help="Who is set against everybody; none: the best of your own pricers.")
    ] = None,
    rival: Annotated[
        str | None, typer.Option(help="Who stands beside the champion by band and category; none: the best other.")
    ] = None,
    box_price: Annotated[
        float | None, typer.Option(help="What your own box costs, US dollars an hour; none: said to be unknown.")
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """The verdict, and one self-contained page with the league, costs, pictures and the worst items."""
    from pricesmith.report import report as run
    from pricesmith.report.terminal import verdict_told

    console = Console(json=json, quiet=quiet)
    verdict = run(evals, to, champion=champion, rival=rival, box_price=box_price, overwrite=overwrite)
    console.say(verdict_told(verdict["words"]))
    console.say(f"\n{to} is written ({to.stat().st_size / 1e6:.1f} MB); it opens in any browser, offline.")
    console.result({"report": str(to), "bytes": to.stat().st_size, "verdict": verdict})
