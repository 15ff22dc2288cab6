"""Recipes as files: the shipped ones, a user's own, and what was measured of them.

`measured.toml` beside this file has a table for each shipped recipe: seconds and error ratio measured by benchmarks/.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pricesmith.core.atomic import write_atomic
from pricesmith.core.errors import UsageError
from pricesmith.core.settings import Settings, parse_settings, read_toml
from pricesmith.core.types import Recipe
from pricesmith.pricers import plugin_kinds, plugin_package, recipe_class

if TYPE_CHECKING:
    from rich.console import RenderableType

MEASURED = Path(__file__).with_name("measured.toml")


def split_commas(value: Any) -> Any:
    """A list from `a,b`, as a setting is written on the command line; other values unchanged."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def shipped_recipes() -> dict[str, Path]:
    """The TOML files of the recipes that come with Pricesmith, by name."""
    folder = Path(str(resources.files("pricesmith") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def read_recipe(name: str, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe by the name of a shipped one or of an installed kind, or from a TOML file, with overridden settings.

    Raises UsageError with the available recipes if there is none of this name, or with the first wrong setting.
    """
    shipped = shipped_recipes()
    path = shipped.get(name, Path(name))
    plugins = plugin_kinds() if path.suffix != ".toml" else {}  # looking through the installed packages takes time
    if name in plugins:
        values = {"kind": name, **(overrides or {})}
    elif path.suffix != ".toml":
        raise UsageError(
            f"There is no recipe {name!r}",
            got=name,
            allowed=f"{', '.join([*shipped, *plugins])}, or a .toml file",
            hint="List them with `pricesmith recipe ls`.",
        )
    else:
        values = {**read_toml(path), **(overrides or {})}
    if "kind" not in values:
        raise UsageError(f"{path} has no kind", hint='Add a first line such as kind = "ridge".')
    kind = str(values.pop("kind"))
    return cast(Recipe, parse_settings(recipe_class(kind), values, where=f"the recipe {name}"))


def get_settings(recipe: Recipe) -> dict[str, Any]:
    """The kind and the settings of a recipe, as in its TOML file."""
    return {"kind": recipe.kind, **cast(Settings, recipe).model_dump(mode="json")}


def measured_figures(kind: str, rows: float) -> tuple[float, float] | None:
    """Seconds and peak GB of a fit on `rows` rows; None if the kind was not measured.

    Both are linear between a measurement on many rows and one on few: libraries and rounds cost time for any number.
    """
    measured = read_toml(MEASURED)
    figures, small_rows = measured.get(kind, {}), measured["small_rows"]
    if "seconds" not in figures:
        return None
    share = (rows - small_rows) / (measured["rows"] - small_rows)
    small = (figures.get("small_seconds", 0.0), figures.get("small_gb", 0.3))
    large = (figures["seconds"], figures["gb"])
    seconds, gb = (low + (high - low) * share for low, high in zip(small, large, strict=True))
    return max(0.0, seconds), gb


def format_estimate(kind: str, rows: int) -> str:
    """The expected time and memory of a fit; empty if the kind was not measured."""
    figures = measured_figures(kind, rows)
    if figures is None:
        return ""
    seconds, gb = figures
    if seconds > 120:
        time = f"about {seconds / 60:.0f} minutes"
    else:
        time = f"about {seconds:.0f} seconds" if seconds >= 5 else "a few seconds"
    return f"{kind} on {rows:,} listings: {time} on two cores, about {gb:.1f} GB of memory."


def list_recipes() -> list[dict[str, Any]]:
    """The available recipes: name, description, package (of a plug-in), and the measured seconds and error ratio."""
    measured, recipes = read_toml(MEASURED), []
    for name, path in shipped_recipes().items():
        lines = path.read_text(encoding="utf-8").splitlines()
        comments = [line.lstrip("# ") for line in lines if line.startswith("# ")]
        recipes.append({"recipe": name, "about": " ".join(comments[1:]), **measured.get(name, {})})
    for name in plugin_kinds():
        try:
            about = (inspect.getdoc(recipe_class(name)) or "").partition("\n")[0]
        except UsageError as error:
            about = f"{error.what}: {error.got}"
        recipes.append({"recipe": name, "about": about, "package": plugin_package(name).get("name", "")})
    return recipes


def format_recipes(recipes: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The recipes as a table, with its legend."""
    from rich.console import Group
    from rich.text import Text

    from pricesmith.core.tables import Column, FittedTable

    rows = [
        [
            recipe["recipe"],
            f"{recipe['seconds']:,.1f}" if "seconds" in recipe else "not measured",
            f"{recipe['ratio']:.2f}" if "ratio" in recipe else "",
            recipe["about"] + (f" (package {recipe['package']})" if recipe.get("package") else ""),
        ]
        for recipe in recipes
    ]
    columns = [
        Column("recipe"),
        Column("fit seconds", right=True, drop=2),
        Column("MAE / ridge", right=True, drop=1),
        Column("description", wraps=True),
    ]
    legend = (
        f"Fit seconds, and the MAE relative to the reference ridge, were measured on {read_toml(MEASURED)['where']}.\n"
        "Fit a recipe: pricesmith fit RECIPE --catalog CATALOG --to MODEL\n"
        "Make your own: pricesmith recipe cp RECIPE mine.toml"
    )
    return Group(FittedTable("Recipes", columns, rows), Text(legend))


def copy_recipe(name: str, to: Path) -> None:
    """Copy a shipped recipe to a new file. Raises UsageError if it is unknown or the file exists."""
    if name not in shipped_recipes():
        raise UsageError(
            f"There is no recipe {name!r}",
            got=name,
            allowed=", ".join(shipped_recipes()),
            hint="List them with `pricesmith recipe ls`.",
        )
    if os.path.lexists(to):
        raise UsageError(f"{to} exists", allowed="a path that does not exist yet", hint="Choose another path.")
    if to.suffix != ".toml":
        raise UsageError("A recipe is a .toml file", got=str(to), hint=f"Use {to.with_suffix('.toml')}.")
    write_atomic(to, shipped_recipes()[name].read_bytes())
