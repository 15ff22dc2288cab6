"""Every way to price, one line each, loaded when it is first used.

recipe_class("ridge")(alpha=2.0)
"""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import Any

from pricesmith.core.errors import UsageError

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
    "blend": "pricesmith.pricers.blend:Blend",
}


def recipe_class(kind: str) -> Any:
    """The recipe class of a kind. Raises UsageError with the kinds there are."""
    if kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, n=1)
        raise UsageError(
            f"There is no kind of pricer {kind!r}",
            got=kind,
            allowed=", ".join(KINDS),
            hint=f"Did you mean {near[0]!r}?" if near else "Choose one of these.",
        )
    module, _, name = KINDS[kind].partition(":")
    return getattr(import_module(module), name)
