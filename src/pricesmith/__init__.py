"""Pricesmith: build your own small model that prices things from their description, and prove how it stands.

    import pricesmith as ps
    pricer = ps.load("out/mlp")
    print(pricer.price([ps.Listing("1", "Logitech wireless gaming mouse", "RGB, 25,600 dpi")]))

Everything else is loaded when it is first used: this import brings in no numerical library.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pricesmith.core.types import Evaluation, Item, Listing, Pricer, Quote, Recipe, render

if TYPE_CHECKING:
    from pricesmith import catalog as catalog
    from pricesmith.api import compare as compare
    from pricesmith.api import evaluate as evaluate
    from pricesmith.api import fit as fit
    from pricesmith.api import load as load
    from pricesmith.api import measure_learning_curve as measure_learning_curve

# Libraries send no usage statistics, unless the user decides otherwise.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")

__version__ = "0.1.0"
__all__ = [
    "Evaluation",
    "Item",
    "Listing",
    "Pricer",
    "Quote",
    "Recipe",
    "catalog",
    "compare",
    "evaluate",
    "fit",
    "load",
    "measure_learning_curve",
    "render",
]


def __getattr__(name: str) -> Any:
    if name == "catalog":
        return import_module("pricesmith.catalog")
    if name in __all__:
        return getattr(import_module("pricesmith.api"), name)
    raise AttributeError(f"module 'pricesmith' has no attribute {name!r}")
