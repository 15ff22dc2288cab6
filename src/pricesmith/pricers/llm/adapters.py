"""LoRA adapters on a frozen model, and the start of a head of price bins: what is set up before training.

    modules = find_target_modules(model, "attention")
    model = add_adapter(model, LoraConfig(task_type=TaskType.CAUSAL_LM, target_modules=modules))

Adapters have fp32 weights and are computed in the dtype of the base. A head is initialized as a linear probe of the
frozen base, instead of at random: with a random head the first steps find the scale of prices and distort the adapters.
Fitting the head to states of the frozen base first, and tuning everything then, is LP-FT (Kumar et al. 2022,
"Fine-tuning can distort pretrained features"). LOG.md has measurements.
"""

from __future__ import annotations

import contextlib
import re
import resource
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, get_peft_model
from peft.helpers import disable_input_dtype_casting
from torch import Tensor, nn

from pricesmith.core.errors import UsageError
from pricesmith.core.progress import Progress
from pricesmith.pricers.llm.batching import Example, collate
from pricesmith.pricers.llm.readout import PriceBins, check_finite, hidden_states_at, inner_model

ATTENTION = ("attn", "attention")


@contextlib.contextmanager
def mixed_precision(model: nn.Module) -> Iterator[None]:
    """In the block, the states of a bf16 model are not cast to fp32 for its fp32 adapters: autocast casts the weights.

    Measured on a CPU: a fifth faster. An fp32 model is not changed.
    """
    with disable_input_dtype_casting(model, active=is_bf16(model)):
        yield


@contextlib.contextmanager
def unmerged_precision(model: nn.Module) -> Iterator[None]:
    """In the block, a bf16 or 4-bit model computes in bf16 with an fp32 adapter that is not merged, as it was tuned.

    PEFT would cast the states of every layer to fp32 for the adapter. A model without an adapter is not changed.
    """
    if not isinstance(model, PeftModel) or not is_bf16(model):
        yield
        return
    device = next(model.parameters()).device.type
    with mixed_precision(model), torch.autocast(device, torch.bfloat16):
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
    """The modules that get adapters, as PEFT's `target_modules`; never those of an encoder of images or sound."""
    decoder = text_decoder_name(model)
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if targets == "attention":
        named = {name.rpartition(".")[2] for name in linear if any(word in name for word in ATTENTION)}
    elif targets == "all-linear":
        if not decoder:
            return targets
        named = {name.rpartition(".")[2] for name in linear if name.startswith(f"{decoder}.")}
    else:
        named = {targets} if isinstance(targets, str) else set(targets)
    if not decoder:
        return sorted(named) if targets == "attention" or isinstance(targets, str) else list(targets)
    leaves = "|".join(map(re.escape, sorted(named)))
    return rf"{re.escape(decoder)}\.(.*\.)?({leaves})"


def text_decoder_name(model: nn.Module) -> str:
    """The name of the language model inside a model that has encoders of images or sound too; empty for a language
    model."""
    config = getattr(model, "config", None)
    if config is None or config.get_text_config() is config:
        return ""
    decoder = model.get_decoder()  # type: ignore[operator]
    return next((name for name, module in model.named_modules() if module is decoder), "")


PENALTIES = (0.003, 0.01, 0.03, 0.1)  # of squared weights on standardized states; chosen on held-out rows
HELD_OUT = 5  # every fifth row is held out
MAX_ITERATIONS = 60


def init_head_from_probe(
    model: nn.Module,
    examples: Sequence[Example],
    bins: PriceBins,
    sigma: float,
    pad: int,
    tokens: int,
    progress: Progress,
) -> None:
    """Set the head's weights [bins, hidden] by the examples, whose states are computed in batches of `tokens` tokens.

    Only the frozen base runs in bf16 (if its weights are bf16); the head is fitted in fp32 even if the caller has
    enabled autocast. Autocast caches the bf16 copy of an fp32 tensor, and L-BFGS changes the tensor in place: the loss
    would be computed from the stale copy.
    """
    device = next(model.parameters()).device.type
    with torch.autocast(device, torch.bfloat16, enabled=is_bf16(model)):
        states = frozen_states(model, examples, pad, tokens, progress)
    with torch.autocast(device, enabled=False):
        fit_head(model, states, examples, bins, sigma, progress)


def fit_head(
    model: nn.Module, states: Tensor, examples: Sequence[Example], bins: PriceBins, sigma: float, progress: Progress
) -> None:
    """Fit a softmax regression of the soft labels on the examples' states [n, hidden], fp32, and copy it into the head.

    The penalty is the one of PENALTIES with the lowest MAE on every HELD_OUT-th row.
    """
    progress.start("initializing the head", len(PENALTIES) + 1)
    prices = torch.tensor([example.price for example in examples], dtype=torch.float64, device=states.device)
    targets = bins.targets(prices, sigma).float()
    center, spread = states.mean(0), states.std(0) + 1e-6
    scaled = (states - center) / spread
    held_out = torch.arange(len(examples), device=states.device) % HELD_OUT == HELD_OUT - 1
    maes = {}
    for penalty in PENALTIES:
        weights, offsets = softmax_regression(scaled[~held_out], targets[~held_out], penalty)
        quotes = [distribution.median() for distribution in bins.read(scaled[held_out] @ weights + offsets)]
        maes[penalty] = float((torch.tensor(quotes) - prices[held_out].cpu()).abs().mean())
        progress.advance(1)
    weights, offsets = softmax_regression(scaled, targets, min(maes, key=lambda penalty: maes[penalty]))
    progress.advance(1)
    weights = weights / spread[:, None]
    offsets = offsets - center @ weights
    # The head has no bias: a direction in which all states are 1 carries the offsets.
    score = inner_model(model).score
    weight = score.modules_to_save.default.weight if hasattr(score, "modules_to_save") else score.weight
    with torch.no_grad():
        weight.copy_((weights + uniform_direction(states)[:, None] * offsets).T)


def frozen_states(model: nn.Module, examples: Sequence[Example], pad: int, tokens: int, progress: Progress) -> Tensor:
    """The base's last-token states of the prompts, without the adapter: fp32 [examples, hidden], in order.

    Raises InputError if they are not finite.
    """
    order = sorted(range(len(examples)), key=lambda index: len(examples[index].prompt))
    batches: list[list[int]] = [[]]
    for index in order:
        if batches[-1] and (len(batches[-1]) + 1) * len(examples[index].prompt) > tokens:
            batches.append([])
        batches[-1].append(index)
    progress.start("reading states of the untuned base", len(examples))
    assert isinstance(model, PeftModel)
    model.eval()
    parts: list[Tensor] = []
    with torch.no_grad(), model.disable_adapter():
        for indexes in batches:
            batch = collate([examples[index] for index in indexes], pad)
            parts.append(hidden_states_at(model, batch["ids"], batch["predict_at"]).float())
            progress.advance(len(indexes))
    states = check_finite(torch.cat(parts))
    return states[torch.argsort(torch.tensor(order, device=states.device))]


def softmax_regression(states: Tensor, targets: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Weights [hidden, bins] and offsets [bins] that minimize the cross-entropy with soft labels plus the penalty."""
    weights = torch.zeros(states.shape[1], targets.shape[1], device=states.device, requires_grad=True)
    offsets = torch.zeros(targets.shape[1], device=states.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, offsets], max_iter=MAX_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(states @ weights + offsets, targets) + penalty / 2 * weights.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return weights.detach(), offsets.detach()


def uniform_direction(states: Tensor) -> Tensor:
    """The shortest vector v [hidden] with states @ v about 1 for all states."""
    gram = states.T @ states
    ridge = 1e-3 * gram.diagonal().mean() * torch.eye(len(gram), device=states.device)
    direction: Tensor = torch.linalg.solve(gram + ridge, states.sum(0))
    return direction
