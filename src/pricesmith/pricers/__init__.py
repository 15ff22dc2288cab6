"""Every kind of pricer, one line each, imported when it is first used, and the kinds of installed packages.

recipe_class("ridge")(alpha=2.0)

A package adds kinds through entry points of the group `pricesmith.pricers`: the name is the kind, the object is a
recipe class (a `Settings` model with `kind`, `fit` and `load`).
"""

from __future__ import annotations

import difflib
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pricesmith.core.errors import UsageError

ENTRY_POINTS = "pricesmith.pricers"
KINDS = {
    "median": "pricesmith.pricers.median:MedianRecipe",
    "ridge": "pricesmith.pricers.ridge:RidgeRecipe",
    "boosting": "pricesmith.pricers.boosting:BoostingRecipe",
    "sparse_mlp": "pricesmith.pricers.sparse_mlp:SparseMlpRecipe",
    "knn": "pricesmith.pricers.knn:KnnRecipe",
    "best": "pricesmith.pricers.ensemble.stacking:StackingRecipe",
    "precomputed": "pricesmith.pricers.precomputed:PrecomputedRecipe",
    "lora_tokens": "pricesmith.pricers.llm.lora:LoraTokens",
    "lora_bins": "pricesmith.pricers.llm.lora:LoraBins",
    "encoder": "pricesmith.pricers.llm.encoder:EncoderRecipe",
    "blend": "pricesmith.pricers.blend:BlendRecipe",
    "cascade": "pricesmith.pricers.cascade:CascadeRecipe",
}


def plugin_kinds() -> dict[str, EntryPoint]:
    """The kinds of installed packages by name; a package cannot replace a kind of Pricesmith."""
    points = sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name)
    return {point.name: point for point in points if point.name not in KINDS}


def plugin_package(kind: str) -> dict[str, str]:
    """The name and version of the package that provides a kind; empty for the kinds of Pricesmith."""
    point = plugin_kinds().get(kind) if kind not in KINDS else None
    return {"name": point.dist.name, "version": point.dist.version} if point and point.dist else {}


def recipe_class(kind: str) -> Any:
    """The recipe class of a kind. Raises UsageError with all kinds, or if the package of the kind cannot be used."""
    if kind in KINDS:
        module, _, name = KINDS[kind].partition(":")
        return getattr(import_module(module), name)
    plugins = plugin_kinds()
    if kind in plugins:
        return load_plugin(plugins[kind])
    names = [*KINDS, *plugins]
    near = difflib.get_close_matches(kind, names, n=1)
    raise UsageError(
        f"There is no kind of pricer {kind!r}",
        got=kind,
        allowed=", ".join(names),
        hint=f"Did you mean {near[0]!r}?" if near else "Choose one of these, or install the package that provides it.",
    )


def load_plugin(point: EntryPoint) -> Any:
    """The recipe class of an entry point. Raises UsageError if it cannot be imported or is not a recipe class."""
    from pricesmith.core.settings import Settings

    package = point.dist.name if point.dist else point.value
    try:
        recipe = point.load()
    except Exception as error:  # a package may raise anything when it is imported
        raise UsageError(
            f"The package {package} provides the pricer {point.name!r}, but it cannot be imported",
            got=f"{type(error).__name__}: {error}"[:300],
            hint=f"Upgrade or reinstall {package}, or remove it.",
        ) from error
    valid = isinstance(recipe, type) and issubclass(recipe, Settings)
    if not (valid and getattr(recipe, "kind", "") == point.name and hasattr(recipe, "fit") and hasattr(recipe, "load")):
        raise UsageError(
            f"The package {package} provides the pricer {point.name!r}, but its entry point is not a recipe class",
            got=point.value,
            allowed=f"a subclass of pricesmith.core.settings.Settings with kind = {point.name!r}, fit and load",
            hint=f"Report it to the authors of {package}.",
        )
    return recipe
