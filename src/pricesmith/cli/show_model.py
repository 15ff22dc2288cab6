"""What `pricesmith show` prints of a model folder and of an evals folder."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pricesmith.core.build_file import BUILD_FILE, resolve_model_folder
from pricesmith.core.console import Console

if TYPE_CHECKING:
    from pricesmith.pricers.conformal import CalibrationTable

MODEL_MARKER = "manifest.json"


def is_model(folder: Path) -> bool:
    """Whether a folder is a model folder, or a build folder, which stands for its chosen model."""
    return (folder / MODEL_MARKER).is_file() or (folder / BUILD_FILE).is_file()


def is_evals(folder: Path) -> bool:
    """Whether a folder holds evaluations."""
    return any(folder.glob("*.meta.json"))


def show_model(folder: Path, console: Console) -> None:
    """Print a model's kind, settings, rows, fit time, interval widths and training curve."""
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
    facts = {
        "Catalog": f"{info['name']}, {info['currency']}, {low} to {high}",
        "Rows": f"{rows['train']:,} to train, {rows['tune']:,} to tune, {rows['calibrate']:,} to calibrate intervals",
        "Fit time": f"{manifest['fit_seconds']:,.1f} s",
        "Settings": ", ".join(f"{name} = {value}" for name, value in settings.items() if name != "kind") or "none",
    }
    for name, fact in facts.items():
        console.say(f"  {name + ':':<10} {fact}")
    if isinstance(model.pricer, ConformalPricer):
        console.say(interval_table(model.pricer.table, str(info["currency"])))
    if curve:
        console.say("Training curve")
        console.say(draw_curve(curve))
    points = [point.model_dump(mode="json") for point in curve]
    console.result({**to_dict(model), "settings": settings, "training_curve": points})


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
