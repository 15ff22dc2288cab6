"""What fits in memory and how long it takes: the modes in which a model can be tuned or served.

>>> from pricesmith.pricers.llm.registry import registry
>>> modes = plan_modes(registry()["llama-3.1-8b"].shape, 24 * 10**9, "train")
>>> [mode.name for mode in modes if mode.fits]
['bf16, checkpointing', 'nf4, checkpointing']
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pricesmith.base_models.hardware import format_size
from pricesmith.base_models.memory import FP32, PeakMemory, Purpose, Quantization, Workload, peak_memory_estimate
from pricesmith.pricers.llm.registry import Architecture

LARGEST_BATCH = 131_072  # tokens; a larger batch gains nothing
# In order of preference: 4 bits cost a little accuracy and speed, gradient checkpointing a third of the speed.
MODES: tuple[tuple[str, Quantization, bool], ...] = (
    ("bf16", "none", False),
    ("bf16, checkpointing", "none", True),
    ("nf4", "nf4", False),
    ("nf4, checkpointing", "nf4", True),
)
# Share of the speed of plain matrix products that tuning and scoring reach: benchmarks/README.md, Gemma 3 270M with a
# head of price bins on two CPU threads (33 % and 41 %). Larger models and GPUs were not measured.
EFFICIENCY: dict[Purpose, float] = {"train": 0.33, "serve": 0.41}
# Floating-point operations for each weight and token. The base is frozen: tuning needs no gradient of its weights.
FORWARD, BACKWARD = 2, 2


@dataclass(frozen=True)
class TuningMode:
    """One way to run a model in `memory` bytes: `tokens` is the largest batch, 0 if not one listing fits; `wanted` is
    the batch, in tokens, that `peak` is computed for."""

    name: str
    quantization: Quantization
    gradient_checkpointing: bool
    tokens: int
    peak: PeakMemory
    wanted: int
    memory: int

    @property
    def fits(self) -> bool:
        """Whether the wanted batch fits."""
        return self.peak.total <= self.memory


def plan_modes(shape: Architecture, memory: int, purpose: Purpose, work: Workload | None = None) -> list[TuningMode]:
    """Every mode of a model in `memory` bytes, in order of preference, for the batch in `work`.

    Serving has no gradients to checkpoint, and 4-bit weights need a GPU.
    """
    base_work = work or Workload(tokens=2048)
    modes = []
    for name, quantization, gradient_checkpointing in MODES:
        if (purpose == "serve" and gradient_checkpointing) or (quantization == "nf4" and not base_work.gpu):
            continue
        if base_work.dtype_bytes == FP32:
            name = name.replace("bf16", "fp32")
        mode_work = replace(base_work, quantization=quantization, gradient_checkpointing=gradient_checkpointing)
        modes.append(
            TuningMode(
                name,
                quantization,
                gradient_checkpointing,
                largest_batch(shape, memory, purpose, mode_work),
                peak_memory_estimate(shape, purpose, mode_work),
                base_work.tokens,
                memory,
            )
        )
    return modes


def largest_batch(shape: Architecture, memory: int, purpose: Purpose, work: Workload) -> int:
    """The largest batch, in tokens of whole listings, that fits in `memory`; 0 if one listing does not."""
    low, high = 0, max(1, LARGEST_BATCH // work.listing)
    while low < high:
        middle = (low + high + 1) // 2
        if peak_memory_estimate(shape, purpose, replace(work, tokens=middle * work.listing)).total <= memory:
            low = middle
        else:
            high = middle - 1
    return low * work.listing


def infeasible_reason(modes: list[TuningMode]) -> str:
    """Why a model does not fit: the mode that needs the least memory, how much, and for what."""
    nearest = min(modes, key=lambda mode: mode.peak.total)
    terms = sorted(vars(nearest.peak).items(), key=lambda term: -term[1])[:2]
    largest = " and ".join(f"{format_size(size)} of {name}" for name, size in terms)
    return (
        f"{nearest.name} takes {format_size(nearest.peak.total)} for a batch of {nearest.wanted:,} tokens, {largest}: "
        f"{format_size(nearest.peak.total - nearest.memory)} too much"
        + (f"; a batch of {nearest.tokens:,} tokens would fit" if nearest.tokens else "")
    )


def best_mode(modes: list[TuningMode]) -> TuningMode | None:
    """The first mode, in order of preference, in which the wanted batch fits; None if it fits in none."""
    return next((mode for mode in modes if mode.fits), None)


def estimate_tokens_per_second(
    shape: Architecture, purpose: Purpose, matmul_flops: float, *, gradient_checkpointing: bool = False
) -> float:
    """Tokens a second of tuning (one forward and one backward pass) or of scoring: an estimate from the machine's
    `matmul_flops` (operations a second of matrix products) and the weights of the layers.

    Gradient checkpointing computes the forward pass a second time.
    """
    operations = FORWARD
    if purpose == "train":
        operations += BACKWARD + (FORWARD if gradient_checkpointing else 0)
    return EFFICIENCY[purpose] * matmul_flops / (operations * shape.blocks)
