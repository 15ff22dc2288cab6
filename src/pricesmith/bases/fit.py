"""What fits a box: the modes a model can be tuned or served in, the largest batch of each, and what is missing.

>>> from pricesmith.bases.registry import registry
>>> [mode.name for mode in plan(registry()["llama-3.1-8b"].shape, 24 * 10**9, "train") if mode.fits]
['bf16, recomputed', 'nf4, recomputed']
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pricesmith.bases.memory import FP32, Peak, Purpose, Quantisation, Work, peak
from pricesmith.bases.shapes import Shape
from pricesmith.bases.sizes import told

MOST = 131_072  # tokens; a larger batch gains nothing
# In the order of preference: 4 bits cost a little accuracy and speed, recomputing a third of the speed.
MODES: tuple[tuple[str, Quantisation, bool], ...] = (
    ("bf16", "none", False),
    ("bf16, recomputed", "none", True),
    ("nf4", "nf4", False),
    ("nf4, recomputed", "nf4", True),
)


@dataclass(frozen=True)
class Mode:
    """One way to run a model in an amount of memory: `tokens` is the largest batch, 0 where not one listing fits."""

    name: str
    quantisation: Quantisation
    checkpointing: bool
    tokens: int
    peak: Peak
    wanted: int
    memory: int

    @property
    def fits(self) -> bool:
        """Whether the batch that is wanted fits."""
        return self.peak.total <= self.memory


def plan(shape: Shape, memory: int, purpose: Purpose, work: Work | None = None) -> list[Mode]:
    """Every mode of a model in `memory` bytes, in the order of preference; `peak` is that of the batch in `work`.

    Serving recomputes nothing, and 4-bit weights need a GPU.
    """
    asked = work or Work(tokens=2048)
    modes = []
    for name, quantisation, checkpointing in MODES:
        if (purpose == "serve" and checkpointing) or (quantisation == "nf4" and not asked.gpu):
            continue
        if asked.width == FP32:
            name = name.replace("bf16", "fp32")
        one = replace(asked, quantisation=quantisation, checkpointing=checkpointing)
        modes.append(
            Mode(
                name,
                quantisation,
                checkpointing,
                largest_batch(shape, memory, purpose, one),
                peak(shape, purpose, one),
                asked.tokens,
                memory,
            )
        )
    return modes


def largest_batch(shape: Shape, memory: int, purpose: Purpose, work: Work) -> int:
    """The most tokens in whole listings whose peak is within `memory`; 0 where one listing is too much."""
    low, high = 0, max(1, MOST // work.listing)
    while low < high:
        middle = (low + high + 1) // 2
        if peak(shape, purpose, replace(work, tokens=middle * work.listing)).total <= memory:
            low = middle
        else:
            high = middle - 1
    return low * work.listing


def why_not(modes: list[Mode]) -> str:
    """Why a model does not fit: the mode that comes nearest, what it would take, and its largest terms."""
    nearest = min(modes, key=lambda mode: mode.peak.total)
    terms = sorted(vars(nearest.peak).items(), key=lambda term: -term[1])[:2]
    largest = " and ".join(f"{told(size)} of {name}" for name, size in terms)
    return (
        f"{nearest.name} takes {told(nearest.peak.total)} for a batch of {nearest.wanted:,} tokens, {largest}: "
        f"{told(nearest.peak.total - nearest.memory)} too much"
        + (f"; a batch of {nearest.tokens:,} tokens would fit" if nearest.tokens else "")
    )


def best(modes: list[Mode]) -> Mode | None:
    """The first mode, by preference, in which the wanted batch fits."""
    return next((mode for mode in modes if mode.fits), None)
