"""Verbs that judge: evals and the report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pricesmith.cli.app import CatalogFolder, Json, Overwrite, Quiet, Rebuild, app, open_console


@app.command("eval")
def evaluate(
    who: Annotated[list[str], typer.Argument(help="Run folders, human:FILE.csv, zero-shot:BASE or api:MODEL.")],
    catalog: CatalogFolder,
    to: Annotated[Path, typer.Option("--to", help="The evals folder to write to.")],
    split: Annotated[str, typer.Option(help="validation or test.")] = "test",
    limit: Annotated[int | None, typer.Option(help="Judge on the first N items, in an order drawn by group.")] = None,
    other_catalog: Annotated[
        bool, typer.Option("--other-catalog", help="Allow runs of another catalog; their training rows are left out.")
    ] = False,
    budget: Annotated[float | None, typer.Option(help="Dollars that hosted models may cost, never passed.")] = None,
    concurrency: Annotated[int, typer.Option(help="Requests to a hosted model at once.")] = 8,
    timeout: Annotated[float, typer.Option(help="Seconds that a hosted model may take to answer.")] = 300.0,
    overwrite: Rebuild = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Judge pricers on the same items; ends with the leaderboard."""
    from pricesmith.candidates import ApiSettings, run_candidates
    from pricesmith.catalog import open as open_catalog
    from pricesmith.evaluation.leaderboard import build_leaderboard
    from pricesmith.reporting.terminal import leaderboard_dict, leaderboard_table

    console = open_console(json=json, quiet=quiet)
    options: dict[str, Any] = {"split": split, "limit": limit, "other_catalog": other_catalog, "overwrite": overwrite}
    options["api_settings"] = ApiSettings(budget, concurrency, timeout)
    with console.progress() as progress:
        evals = run_candidates(who, open_catalog(catalog), to, progress=progress, **options)
    rows = build_leaderboard(evals)
    console.say(leaderboard_table(evals, rows))
    console.result(leaderboard_dict(evals, rows))


@app.command()
def report(
    evals: Annotated[Path, typer.Argument(help="A folder that eval wrote.")],
    to: Annotated[Path, typer.Option("--to", help="The HTML file to write, with a .json file beside it.")] = Path(
        "report.html"
    ),
    reference: Annotated[
        str | None, typer.Option(help="Who is set against everybody; none: the best of your own pricers.")
    ] = None,
    competitor: Annotated[
        str | None, typer.Option(help="Who stands beside the reference by band and category; none: the best other.")
    ] = None,
    machine_cost: Annotated[
        float | None, typer.Option(help="What your own box costs, US dollars an hour; none: said to be unknown.")
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """The conclusion, and one self-contained page with the leaderboard, costs, pictures and the worst items."""
    from pricesmith.reporting import write_report as run
    from pricesmith.reporting.terminal import format_conclusion

    console = open_console(json=json, quiet=quiet)
    conclusion = run(
        evals, to, reference=reference, competitor=competitor, machine_cost=machine_cost, overwrite=overwrite
    )
    console.say(format_conclusion(conclusion["conclusion"]))
    console.say(f"\n{to} is written ({to.stat().st_size / 1e6:.1f} MB); it opens in any browser, offline.")
    console.result({"report": str(to), "bytes": to.stat().st_size, "conclusion": conclusion})
