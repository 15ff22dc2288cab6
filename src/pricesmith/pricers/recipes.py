"""Recipes as files: the shipped ones, a user's own, and what was measured of them.

`measured.toml` beside this file has a table for each shipped recipe: seconds and error ratio as benchmarks/ saw them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, cast

from pricesmith.core.atomic import write_atomic
from pricesmith.core.errors import UsageError
from pricesmith.core.settings import Settings, parse_settings, read_toml
from pricesmith.core.types import Recipe
from pricesmith.pricers import recipe_class

MEASURED = Path(__file__).with_name("measured.toml")


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with Pricesmith, by name."""
    folder = Path(str(resources.files("pricesmith") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def read_recipe(name: str, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """A shipped recipe by name, or a TOML file, with settings put over it. Raises UsageError with what there is."""
    path = shipped_recipes().get(name, Path(name))
    if name not in shipped_recipes() and path.suffix != ".toml":
        raise UsageError(
            f"There is no recipe {name!r}",
            got=name,
            allowed=f"{', '.join(shipped_recipes())}, or a .toml file",
            hint="`pricesmith recipe ls` shows them.",
        )
    values = {**read_toml(path), **(overrides or {})}
    if "kind" not in values:
        raise UsageError(f"{path} does not say its kind", hint='Begin it with kind = "ridge" or another kind.')
    kind = str(values.pop("kind"))
    return cast(Recipe, parse_settings(recipe_class(kind), values, where=f"the recipe {name}"))


def get_settings(recipe: Recipe) -> dict[str, Any]:
    """A recipe's kind and settings, as they stand in its TOML file."""
    return {"kind": recipe.kind, **cast(Settings, recipe).model_dump(mode="json")}


def measured_figures(kind: str, rows: float) -> tuple[float, float] | None:
    """Seconds and peak GB of a fit, on the lines through what was measured on many rows and on few, for libraries and
    rounds are there however few the rows; None where nothing was measured."""
    measured = read_toml(MEASURED)
    known, few = measured.get(kind, {}), measured["small_rows"]
    if "seconds" not in known:
        return None
    share = (rows - few) / (measured["rows"] - few)
    small = (known.get("small_seconds", 0.0), known.get("small_gb", 0.3))
    seconds, gb = (low + (high - low) * share for low, high in zip(small, (known["seconds"], known["gb"]), strict=True))
    return max(0.0, seconds), gb


def format_estimate(kind: str, rows: int) -> str:
    """How long a fit will take and the memory it needs, from what was measured; empty where nothing was."""
    known = measured_figures(kind, rows)
    if known is None:
        return ""
    seconds, memory = known
    told = f"about {seconds / 60:.0f} minutes" if seconds > 120 else f"about {max(2, seconds):.0f} seconds"
    return f"{kind} on {rows:,} listings: {told} on two cores, about {memory:.1f} GB of memory."


def list_recipes() -> list[dict[str, Any]]:
    """The shipped recipes: name, what it is, and what was measured (seconds to fit, error as a ratio to ridge)."""
    measured = read_toml(MEASURED)
    found = []
    for name, path in shipped_recipes().items():
        comments = [
            line.lstrip("# ") for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# ")
        ]
        found.append({"recipe": name, "about": " ".join(comments[1:]), **measured.get(name, {})})
    return found


def format_recipes(found: list[dict[str, Any]]) -> str:
    """The recipes as a person reads them."""
    measured = read_toml(MEASURED)
    lines = []
    for one in found:
        seconds = f"{one['seconds']:,.0f} s" if "seconds" in one else "not measured"
        ratio = f"{one['ratio']:.2f} x ridge" if "ratio" in one else ""
        lines.append(f"{one['recipe']:<12} {seconds:>12}  {ratio:<13} {one['about']}")
    lines.append(f"\nSeconds to fit and mean error as a ratio to ridge, measured on {measured['where']}.")
    lines.append(
        "Fit one: pricesmith fit RECIPE --catalog CATALOG --to RUN. Own one: pricesmith recipe cp RECIPE mine.toml"
    )
    return "\n".join(lines)


def copy_recipe(name: str, to: Path) -> None:
    """Copy a shipped recipe to a file of the user's. Raises UsageError where it is unknown or the file exists."""
    if name not in shipped_recipes():
        raise UsageError(
            f"There is no recipe {name!r}", got=name, allowed=", ".join(shipped_recipes()), hint="Choose one."
        )
    if os.path.lexists(to):
        raise UsageError(f"{to} exists", allowed="a path that does not exist yet", hint="Choose another path.")
    if to.suffix != ".toml":
        raise UsageError("A recipe is a .toml file", got=str(to), hint=f"Use {to.with_suffix('.toml')}.")
    write_atomic(to, shipped_recipes()[name].read_bytes())
