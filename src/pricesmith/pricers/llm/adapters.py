"""LoRA adapters on a frozen model: fp32 weights, computed in the dtype of the base.

modules = find_target_modules(model, "attention")
model = add_adapter(model, LoraConfig(task_type=TaskType.CAUSAL_LM, target_modules=modules))
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
    """In the block, the states of a bf16 model are not cast to fp32 for its fp32 adapters: autocast casts the weights.

    Measured on a CPU: a fifth faster. An fp32 model is not changed.
    """
    with disable_input_dtype_casting(model, active=is_bf16(model)):
        yield


def is_bf16(model: nn.Module) -> bool:
    """Whether the frozen weights are bf16, or 4-bit weights that are computed in bf16."""
    return any(parameter.dtype == torch.bfloat16 for parameter in model.parameters())


def peak_memory() -> float:
    """The peak memory of this process in GB: of the GPU if there is one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def add_adapter(model: Any, config: LoraConfig, *, gradient_checkpointing: bool = False, base: str = "") -> nn.Module:
    """A frozen model with a LoRA adapter whose weights are fp32.

    `base` is the name of the base in `adapter_config.json`; by default the folder that the model was loaded from.
    Raises UsageError if the model has no such modules.
    """
    try:
        with warnings.catch_warnings():  # peft uses a name that transformers deprecates
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
            adapted: nn.Module = get_peft_model(model, config)
    except ValueError as error:
        raise UsageError(
            "This base has no such modules for adapters",
            got=str(error)[:200],
            allowed='"all-linear", "attention", or names of its linear modules',
            hint="Change target_modules.",
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
    """The modules that get adapters, as PEFT's `target_modules`."""
    if targets == "attention":
        linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        return sorted({name.rpartition(".")[2] for name in linear if any(word in name for word in ATTENTION)})
    return targets if targets == "all-linear" else [targets] if isinstance(targets, str) else list(targets)
