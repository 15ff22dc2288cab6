"""`sweep`: search the settings of recipes on a catalog."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pricesmith.cli.app import ClusterAddress, Json, Quiet, Rebuild, app, open_console
from pricesmith.core.errors import UsageError

USAGE = """pricesmith sweep CATALOG --to OUT tries settings of several recipes and fits the best one into OUT/model.
The space that it searches is below. Save it to a file, change it, and add --space FILE.toml.
"""


@app.command()
def sweep(
    catalog: Annotated[
        Path | None, typer.Argument(help="A catalog folder; without it, the shipped space is shown.")
    ] = None,
    to: Annotated[Path | None, typer.Option("--to", help="Folder to write; it can be used as a model folder.")] = None,
    space: Annotated[
        Path | None, typer.Option("--space", help="TOML file of recipes and values (default: four fast recipes).")
    ] = None,
    trials: Annotated[
        int | None, typer.Option("--trials", help="Number of trials (default: 24, or a whole small grid).")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="Time for all fits; none is started that would not end in time.")
    ] = None,
    method: Annotated[
        str,
        typer.Option("--method", help="grid, tpe (needs Optuna), or auto: a grid if all values are lists and few."),
    ] = "auto",
    seed: Annotated[int, typer.Option("--seed", help="Another seed tries other values.")] = 0,
    cluster: ClusterAddress = None,
    overwrite: Rebuild = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Search recipes and settings by successive halving, and keep the best model."""
    from pricesmith.sweeping.space import DEFAULT_SPACE, read_space

    console = open_console(json=json, quiet=quiet)
    if catalog is None:
        if to is not None or space is not None:
            option = f"--to {to}" if to is not None else f"--space {space}"
            raise UsageError(
                "sweep needs a catalog", got=f"{option} and no catalog", hint="pricesmith sweep CATALOG --to OUT"
            )
        text = DEFAULT_SPACE.read_text(encoding="utf-8")
        console.say(f"{USAGE}\n{text}")
        console.result({"space": text})
        return
    if to is None:
        raise UsageError("sweep needs --to", hint=f"pricesmith sweep {catalog} --to out/sweep")
    from pricesmith.catalog import open as open_catalog
    from pricesmith.sweeping.result import format_sweep
    from pricesmith.sweeping.run import run_sweep

    chosen, opened = read_space(space), open_catalog(catalog)
    with console.progress() as progress:
        result = run_sweep(
            opened, to, chosen, trials=trials, minutes=minutes, method=method, seed=seed, cluster=cluster,
            overwrite=overwrite, progress=progress,
        )  # fmt: skip
    for part in format_sweep(result):
        console.say(part)
    console.say(f"Evaluate it: pricesmith eval {to} --catalog {catalog} --to {to.with_name(f'{to.name}-evals')}")
    console.say(f'Price something: pricesmith price {to} "a text"')
    console.result({"folder": str(to), "model": str(to / "model"), **result.model_dump(mode="json")})
