"""The mode in which a base is tuned on this machine, chosen by memory before any weights are loaded.

    recipe with `auto` -> config of the base -> memory planner -> the same recipe with a mode, and the reason

bf16 without gradient checkpointing and 4 bits if memory allows; else the first of the planner's modes that fits.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from pricesmith.base_models.feasibility import TuningMode, best_mode, plan_modes
from pricesmith.base_models.hardware import Hardware, detect_hardware, format_size
from pricesmith.base_models.memory import TOKENS_PER_LISTING, Workload
from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.types import Recipe
from pricesmith.pricers.llm.registry import Architecture, architecture_from_folder

AUTO = "auto"


def plan_for_hardware(recipe: Recipe, progress: Progress = SILENT) -> Recipe:
    """The recipe with the mode in which it is tuned on this machine; a recipe of another kind unchanged.

    A note names the mode, its memory and the reason. Raises InputError if the base cannot be found, UsageError if a
    revision is set and the base has none.
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
    hardware = detect_hardware()
    if settings.dtype != AUTO:
        hardware = Hardware(hardware.memory, hardware.gpu, 4 if settings.dtype == "float32" else 2)
    try:
        shape = architecture_from_folder(base.path)
    except InputError as error:  # an architecture that the planner does not know may still be tuned
        progress.note(f"Memory is not planned for {settings.base}: {error}")
        return recipe
    mode, reason = choose_mode(settings, shape, hardware)
    progress.note(reason)
    changed: Recipe = settings.model_copy(
        update={"quantization": mode.quantization, "gradient_checkpointing": mode.gradient_checkpointing}
    )
    return changed


def choose_mode(settings: Any, shape: Architecture, hardware: Hardware) -> tuple[TuningMode, str]:
    """The mode for a recipe's settings, and a sentence with the reason: the first mode that the settings allow and that
    fits, else the one that needs the least memory. Raises UsageError if 4 bits are set and there is no GPU."""
    if settings.quantization == "nf4" and not hardware.gpu:
        raise UsageError(
            "4-bit weights need a CUDA device", got="nf4", allowed="none", hint="Use --set quantization=none here."
        )
    work = Workload(
        settings.tokens_per_batch,
        listing=min(TOKENS_PER_LISTING, settings.max_length, settings.tokens_per_batch),
        answer=1 if hasattr(settings, "bins") else 4,
        rank=settings.lora_r,
        dropout=settings.lora_dropout,
        gpu=hardware.gpu,
        packed=hardware.gpu,
        dtype_bytes=hardware.dtype_bytes,
    )
    modes = [mode for mode in plan_modes(shape, hardware.memory, "train", work) if is_allowed(mode, settings)]
    modes = [mode for mode in modes if mode.quantization == "none" or settings.quantization == "nf4" or has_nf4()]
    chosen = best_mode(modes)
    available = f"the {format_size(hardware.memory)} of this {'GPU' if hardware.gpu else 'machine'}"
    batch = f"with batches of {work.tokens:,} tokens"
    if chosen is None:
        nearest = min(modes, key=lambda mode: mode.peak.total)
        smaller = f"Try --set tokens_per_batch={nearest.tokens}" if nearest.tokens else "Choose a smaller base"
        return nearest, (
            f"Memory: {nearest.name} {batch} takes about {format_size(nearest.peak.total)}, more than {available}: it "
            f"will probably run out of memory. {smaller}; `pricesmith bases --for train` lists what fits."
        )
    rejected = modes[: modes.index(chosen)]
    reason = f", because {rejected[0].name} would take {format_size(rejected[0].peak.total)}" if rejected else ""
    return chosen, f"Memory: {chosen.name} {batch} takes about {format_size(chosen.peak.total)} of {available}{reason}."


def is_allowed(mode: TuningMode, settings: Any) -> bool:
    """Whether the settings allow a mode."""
    quantizations, checkpointing = (AUTO, mode.quantization), (AUTO, mode.gradient_checkpointing)
    return settings.quantization in quantizations and settings.gradient_checkpointing in checkpointing


def has_nf4() -> bool:
    """Whether the library for 4-bit weights is installed."""
    return importlib.util.find_spec("bitsandbytes") is not None
