"""`eval` and `report`: compare pricers on the same items."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pricesmith.cli.app import CatalogFolder, Json, Overwrite, Quiet, Rebuild, app, open_console


@app.command("eval")
def evaluate(
    who: Annotated[list[str], typer.Argument(help="Model folders, human:FILE.csv, zero-shot:BASE or api:MODEL.")],
    catalog: CatalogFolder,
    to: Annotated[Path, typer.Option("--to", help="The evals folder to write.")],
    split: Annotated[str, typer.Option(help="validation or test.")] = "test",
    limit: Annotated[int | None, typer.Option(help="Evaluate on N items only, drawn by near-duplicate group.")] = None,
    other_catalog: Annotated[
        bool, typer.Option("--other-catalog", help="Allow models of another catalog; their training rows are left out.")
    ] = False,
    budget: Annotated[float | None, typer.Option(help="US dollars that API models may cost at most.")] = None,
    concurrency: Annotated[int, typer.Option(help="Requests to an API model at the same time.")] = 8,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for an answer of an API model.")] = 300.0,
    overwrite: Rebuild = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Evaluate pricers on the same items, and print the leaderboard."""
    from pricesmith.candidates import run_candidates
    from pricesmith.catalog import open as open_catalog
    from pricesmith.evaluation.leaderboard import build_leaderboard
    from pricesmith.reporting.tables import leaderboard_dict, leaderboard_table

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
    console.say(f"\n{to} is written ({to.stat().st_size / 1e6:.1f} MB); it opens in any browser, offline.")
    console.result({"report": str(to), "bytes": to.stat().st_size, "conclusion": conclusion})
