"""LoRA adapters on a frozen model, as training wants them: fp32 weights, the base's arithmetic.

model = with_adapter(model, LoraConfig(task_type=TaskType.CAUSAL_LM, target_modules=targets_of(model, "attention")))
"""

from __future__ import annotations

import contextlib
import resource
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.helpers import disable_input_dtype_casting
from torch import nn

from pricesmith.core.errors import UsageError

ATTENTION = ("attn", "attention")


@contextlib.contextmanager
def mixed_precision(model: nn.Module) -> Iterator[None]:
    """While the block runs, fp32 adapters of a bf16 model do not turn its states to fp32: autocast turns their weights.

    Measured on a CPU: a fifth faster. Nothing changes where the model is fp32.
    """
    with disable_input_dtype_casting(model, active=is_bf16(model)):
        yield


def is_bf16(model: nn.Module) -> bool:
    """Whether the frozen weights are bf16, or 4-bit ones that are computed in it."""
    return any(one.dtype == torch.bfloat16 for one in model.parameters())


def peak_memory() -> float:
    """The most memory that this process has had, in GB: on the device where there is one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def add_adapter(model: Any, config: LoraConfig, *, gradient_checkpointing: bool = False, base: str = "") -> nn.Module:
    """A frozen model with a LoRA adapter, whose weights are fp32 whatever those of the base are. `base` is the name
    that the adapter's own file gives for it; else it is the folder that the model was read from.

    Raises UsageError where the model has no such modules.
    """
    try:
        with warnings.catch_warnings():  # peft asks transformers by a name that it is about to drop
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
            adapted: nn.Module = get_peft_model(model, config)
    except ValueError as error:
        raise UsageError(
            "This base cannot get adapters at these modules",
            got=str(error)[:200],
            allowed='"all-linear", "attention", or names of its linear modules',
            hint="Change targets.",
        ) from None
    if base:
        adapted.peft_config["default"].base_model_name_or_path = base  # type: ignore[union-attr,index]
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    if gradient_checkpointing:
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    return adapted


def find_target_modules(model: nn.Module, targets: str | tuple[str, ...]) -> str | list[str]:
    """The modules that get adapters, as PEFT wants them named."""
    if targets == "attention":
        linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        return sorted({name.rpartition(".")[2] for name in linear if any(word in name for word in ATTENTION)})
    return targets if targets == "all-linear" else [targets] if isinstance(targets, str) else list(targets)
