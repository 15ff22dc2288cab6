"""What tuning a base takes on this box, before any weight is loaded, and the mode that is chosen for it.

    recipe with `auto` -> config of the base -> memory planner -> the same recipe with a mode, told with its reason

bf16, nothing recomputed and no 4 bits where memory allows; else the first of the planner's modes that fits.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from pricesmith.base_models.byte_size import format_size
from pricesmith.base_models.feasibility import TuningMode, best_mode, plan_modes
from pricesmith.base_models.hardware import Hardware, detect_hardware
from pricesmith.base_models.memory import TOKENS_PER_LISTING, Workload
from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.types import Recipe
from pricesmith.pricers.llm.architectures import Architecture, architecture_from_folder

AUTO = "auto"


def plan_for_hardware(recipe: Recipe, progress: Progress = SILENT) -> Recipe:
    """The recipe with the mode in which it is tuned here, which is told with its memory; another kind as it is.

    Raises InputError where the base is nowhere to be found, UsageError where it has no revisions and one is named.
    """
    if not hasattr(recipe, "tokens_per_batch"):
        return recipe
    from pricesmith.pricers.llm.base_model import find_base

    settings: Any = recipe
    base = find_base(settings.base, settings.revision, progress, weights=False)
    if settings.revision and base.revision is None:
        raise UsageError(
            "Only a base of the Hub has revisions", got=settings.revision, hint="Leave revision out, or name a Hub id."
        )
    box = detect_hardware()
    if settings.dtype != AUTO:
        box = Hardware(box.memory, box.gpu, 4 if settings.dtype == "float32" else 2)
    try:
        shape = architecture_from_folder(base.path)
    except InputError as error:  # an architecture that the planner does not know may still be tuned
        progress.note(f"Memory is not planned for {settings.base}: {error}")
        return recipe
    chosen, reason = choose_mode(settings, shape, box)
    progress.note(reason)
    mode = {"quantization": chosen.quantization, "gradient_checkpointing": chosen.gradient_checkpointing}
    changed: Recipe = settings.model_copy(update=mode)
    return changed


def choose_mode(settings: Any, shape: Architecture, box: Hardware) -> tuple[TuningMode, str]:
    """The mode for a tuned recipe's settings on a box, and why: the first that they allow and that fits, else the one
    that misses by least. Raises UsageError where 4 bits are set and there is no GPU."""
    if settings.quantization == "nf4" and not box.gpu:
        raise UsageError(
            "4-bit weights need a CUDA device", got="nf4", allowed="none", hint="Use --set quantization=none here."
        )
    work = Workload(
        settings.tokens_per_batch,
        listing=min(TOKENS_PER_LISTING, settings.max_length, settings.tokens_per_batch),
        answer=1 if hasattr(settings, "bins") else 4,
        rank=settings.lora_r,
        dropout=settings.lora_dropout,
        gpu=box.gpu,
        packed=box.gpu,
        width=box.width,
    )
    here = [mode for mode in plan_modes(shape, box.memory, "train", work) if allowed_modes(mode, settings)]
    able = [mode for mode in here if mode.quantization == "none" or settings.quantization == "nf4" or has_nf4()]
    chosen = best_mode(able)
    place = f"the {format_size(box.memory)} of this {'GPU' if box.gpu else 'box'}"
    batch = f"with batches of {work.tokens:,} tokens"
    if chosen is None:
        nearest = min(able, key=lambda mode: mode.peak.total)
        smaller = f"Try --set tokens_per_batch={nearest.tokens}" if nearest.tokens else "Choose a smaller base"
        return nearest, (
            f"Memory: {nearest.name} {batch} takes about {format_size(nearest.peak.total)}, more than {place}: it will "
            f"hardly finish. {smaller}; `pricesmith bases --for train` lists what fits."
        )
    passed = able[: able.index(chosen)]
    instead = f", as {passed[0].name} would take {format_size(passed[0].peak.total)}" if passed else ""
    return chosen, f"Memory: {chosen.name} {batch} takes about {format_size(chosen.peak.total)} of {place}{instead}."


def allowed_modes(mode: TuningMode, settings: Any) -> bool:
    """Whether a mode is one that the settings leave open."""
    return settings.quantization in (AUTO, mode.quantization) and settings.gradient_checkpointing in (
        AUTO,
        mode.gradient_checkpointing,
    )


def has_nf4() -> bool:
    """Whether 4-bit weights could be loaded."""
    return importlib.util.find_spec("bitsandbytes") is not None
