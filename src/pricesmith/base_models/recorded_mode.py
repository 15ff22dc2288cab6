"""The mode that an earlier command planned for a model folder: the same command again keeps it.

Free memory changes from one moment to the next, and the mode is among the settings of a folder. Without this, a fit
that was killed could not be resumed, and a finished one would be refused, if the planner chose another mode now.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pricesmith.core.folders import SETTINGS
from pricesmith.core.types import Recipe
from pricesmith.pricers.model import MANIFEST
from pricesmith.pricers.recipes import get_settings

AUTO = "auto"
LEAST_TOKENS = 2048  # to which a batch is made smaller, by halves, before 4 bits are chosen


def smaller_batches(tokens_per_batch: int) -> list[int]:
    """The halves, quarters and so on of a batch that the planner may choose instead, in tokens."""
    sizes = []
    while (tokens_per_batch := tokens_per_batch // 2) >= LEAST_TOKENS:
        sizes.append(tokens_per_batch)
    return sizes


def find_recorded_mode(recipe: Recipe, to: Path) -> dict[str, Any] | None:
    """The planned settings of the finished or unfinished model folder `to`, if its other settings are the recipe's;
    None if there is no such folder, or the recipe leaves nothing to the planner."""
    wanted = get_settings(recipe)
    allowed: dict[str, list[Any]] = {"quantization": ["none", "nf4"], "gradient_checkpointing": [False, True]}
    allowed = {name: values for name, values in allowed.items() if wanted.get(name) == AUTO}
    if "quantization" in allowed:
        size = wanted["tokens_per_batch"]
        allowed["tokens_per_batch"] = [size, *smaller_batches(size)]
    target = Path(os.path.realpath(to))
    for path in (target / MANIFEST, target.with_name(f".{target.name}.building") / SETTINGS):
        recorded = read_recorded(path)
        if recorded is not None:
            same = all(recorded.get(name) == value for name, value in wanted.items() if name not in allowed)
            known = all(recorded.get(name) in values for name, values in allowed.items())
            return {name: recorded[name] for name in allowed} if allowed and same and known else None
    return None


def read_recorded(path: Path) -> dict[str, Any] | None:
    """The settings in a folder's marker; None if there is none. A damaged one is refused by what writes the folder."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    settings = values.get("settings") if isinstance(values, dict) else None
    return settings if isinstance(settings, dict) else None
