"""What fits a box: the modes a model can be tuned or served in, the largest batch of each, and what is missing.

>>> from pricesmith.pricers.llm.registry import registry
>>> [mode.name for mode in plan(registry()["llama-3.1-8b"].shape, 24 * 10**9, "train") if mode.fits]
['bf16, recomputed', 'nf4, recomputed']
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pricesmith.base_models.byte_size import format_size
from pricesmith.base_models.memory import FP32, PeakMemory, Purpose, Quantization, Workload, peak_memory_estimate
from pricesmith.pricers.llm.architectures import Architecture

MOST = 131_072  # tokens; a larger batch gains nothing
# In the order of preference: 4 bits cost a little accuracy and speed, recomputing a third of the speed.
MODES: tuple[tuple[str, Quantization, bool], ...] = (
    ("bf16", "none", False),
    ("bf16, recomputed", "none", True),
    ("nf4", "nf4", False),
    ("nf4, recomputed", "nf4", True),
)


@dataclass(frozen=True)
class TuningMode:
    """One way to run a model in an amount of memory: `tokens` is the largest batch, 0 where not one listing fits."""

    name: str
    quantization: Quantization
    gradient_checkpointing: bool
    tokens: int
    peak: PeakMemory
    wanted: int
    memory: int

    @property
    def fits(self) -> bool:
        """Whether the batch that is wanted fits."""
        return self.peak.total <= self.memory


def plan_modes(shape: Architecture, memory: int, purpose: Purpose, work: Workload | None = None) -> list[TuningMode]:
    """Every mode of a model in `memory` bytes, in the order of preference; `peak` is that of the batch in `work`.

    Serving recomputes nothing, and 4-bit weights need a GPU.
    """
    asked = work or Workload(tokens=2048)
    modes = []
    for name, quantization, gradient_checkpointing in MODES:
        if (purpose == "serve" and gradient_checkpointing) or (quantization == "nf4" and not asked.gpu):
            continue
        if asked.width == FP32:
            name = name.replace("bf16", "fp32")
        one = replace(asked, quantization=quantization, gradient_checkpointing=gradient_checkpointing)
        modes.append(
            TuningMode(
                name,
                quantization,
                gradient_checkpointing,
                largest_batch(shape, memory, purpose, one),
                peak_memory_estimate(shape, purpose, one),
                asked.tokens,
                memory,
            )
        )
    return modes


def largest_batch(shape: Architecture, memory: int, purpose: Purpose, work: Workload) -> int:
    """The most tokens in whole listings whose peak is within `memory`; 0 where one listing is too much."""
    low, high = 0, max(1, MOST // work.listing)
    while low < high:
        middle = (low + high + 1) // 2
        if peak_memory_estimate(shape, purpose, replace(work, tokens=middle * work.listing)).total <= memory:
            low = middle
        else:
            high = middle - 1
    return low * work.listing


def infeasible_reason(modes: list[TuningMode]) -> str:
    """Why a model does not fit: the mode that comes nearest, what it would take, and its largest terms."""
    nearest = min(modes, key=lambda mode: mode.peak.total)
    terms = sorted(vars(nearest.peak).items(), key=lambda term: -term[1])[:2]
    largest = " and ".join(f"{format_size(size)} of {name}" for name, size in terms)
    return (
        f"{nearest.name} takes {format_size(nearest.peak.total)} for a batch of {nearest.wanted:,} tokens, {largest}: "
        f"{format_size(nearest.peak.total - nearest.memory)} too much"
        + (f"; a batch of {nearest.tokens:,} tokens would fit" if nearest.tokens else "")
    )


def best_mode(modes: list[TuningMode]) -> TuningMode | None:
    """The first mode, by preference, in which the wanted batch fits."""
    return next((mode for mode in modes if mode.fits), None)
