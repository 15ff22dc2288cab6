"""The memory planner: peak bytes of scoring and of tuning, term by term, and what fits a box.

Weights. bf16 is 2 bytes a parameter; fp32, for boxes that do not compute in bf16, 4, as are its states. NF4 is half a
byte for the matrices of the layers and, in blocks of 64 with double quantization, 1/64 byte for each block's 8-bit
constant and 4/(64 x 256) bytes for the constants' own: 0.5159 bytes a parameter; embeddings, norms and the head stay as
they are, and one matrix at a time is unpacked. Source: Dettmers et al. 2023, "QLoRA", section 3.

Adapters. LoRA on every linear layer: 4 bytes for a weight, 4 for its gradient, 8 for Adam's two moments, 2 for the copy
that a step computes with.

Activations. What autograd keeps of a layer for each token when the base is frozen, h hidden, q queries, k keys, i
intermediate, r rank, in bytes: each norm keeps an fp32 copy (4 h + 4); attention keeps rotated queries, keys, values,
its output (4 q + 4 k) and a number a head; the gate, its activation, and the other half (6 i); each LoRA layer its
input and the r numbers between its two matrices. Inputs that two layers share are kept once, unless a cast or dropout
makes copies of them. Counted to the byte by `tests/bases/test_memory.py`, with torch's saved-tensor hooks.

With checkpointing a layer keeps its input (2 h), and one layer at a time the rest. Head logits exist at price positions
only. Nothing here allocates: a plan for 14 billion parameters is arithmetic.

The runtime's own. On a GPU: the CUDA context with its libraries, and what the caching allocator cannot reuse. On a CPU
the C library's heap does not give an aligned block of the same size a second time, so that what comes and goes between
kept tensors stays: measured with glibc 2.36, 0.36 to 0.85
of the kept bytes again for tensors under 32 MiB (larger ones are mapped and returned); 0.58 is within 15 % of all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pricesmith.pricers.llm.architectures import Architecture

Purpose = Literal["train", "serve"]
Quantization = Literal["none", "nf4"]
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)  # bytes a parameter
BF16, FP32 = 2, 4
ADAM = FP32 + FP32 + 2 * FP32  # weight, gradient, two moments
CONTEXT = 600_000_000  # a CUDA context with cuBLAS, before the first tensor
CUDA_SLACK = 0.05  # of all that comes and goes: blocks that the caching allocator cannot reuse
HEAP, RECOMPUTED_HEAP, SCORING_HEAP = 0.58, 0.36, 0.3  # of kept bytes, and of a layer's states; see above
MAPPED = 32 * 2**20  # glibc maps larger blocks, and returns them
LOGITS = 1 << 25  # that pricers/language/readout.py holds at once
TOKENS_PER_LISTING = 180  # tokens of a listing with its question, where no catalog says


@dataclass(frozen=True)
class Workload:
    """What is asked of a model: how much it reads at once, and how it is trained.

    `tokens` are the positions of one batch, in listings of `listing` tokens. `answer` counts the tokens of an answer
    that are trained, `branches` the nodes of the tree by which one is read: 99 are all numbers of two digits, and 0
    where a number is one token. `packed`: one row of many listings on a GPU, with a mask of tokens x tokens. `width`:
    bytes of a weight and of a state, 2 in bf16, 4 in fp32.
    """

    tokens: int
    listing: int = TOKENS_PER_LISTING
    answer: int = 4
    rank: int = 16
    dropout: float = 0.05
    width: int = BF16
    gradient_checkpointing: bool = False
    quantization: Quantization = "none"
    branches: int = 99
    gpu: bool = True
    packed: bool = True

    @property
    def listings(self) -> int:
        return max(1, self.tokens // self.listing)


@dataclass(frozen=True)
class PeakMemory:
    """Bytes at the peak, term by term. `runtime` is what no tensor of ours holds."""

    weights: int
    adapters: int
    activations: int
    head: int
    cache: int
    unpacked: int
    runtime: int

    @property
    def total(self) -> int:
        return sum(vars(self).values())


def weight_bytes(shape: Architecture, quantization: Quantization, width: int = BF16) -> int:
    """Bytes of the base."""
    if quantization == "none":
        return width * shape.parameters
    return round(NF4 * shape.blocks) + width * (shape.parameters - shape.blocks)


def dequantized_bytes(shape: Architecture, quantization: Quantization, width: int = BF16) -> int:
    """Bytes of the largest matrix while it is used, where weights are kept in 4 bits."""
    return 0 if quantization == "none" else width * max(one.inputs * one.outputs for one in shape.linears)


def layer_activation_bytes(shape: Architecture, work: Workload) -> list[int]:
    """The tensors that autograd keeps of one layer, each as its bytes for one token."""
    h, i, q, k, width = shape.hidden, shape.intermediate, shape.queries, shape.keys, work.width
    kept = [FP32 * h, FP32] * shape.norms
    if shape.qk_norm:
        kept += [
            FP32 * q,
            FP32 * k,
            *([FP32 * shape.heads, FP32 * shape.kv_heads] if shape.qk_norm == "head" else [FP32] * 2),
        ]
    kept += [width * q, width * q, FP32 * shape.heads]  # queries, output, a number a head
    if mask_bytes(work):  # keys and values are repeated for each head, and the mask is a number for each pair of tokens
        kept += [width * q, width * q, width * work.tokens]
    else:
        kept += [width * k, width * (q + 2 * k if shape.fused else k)]  # a view of a fused projection keeps all of it
    if shape.fused:
        kept += [width * 2 * i, width * i]
    else:
        kept += [width * i] * 3
    return kept + adapter_activation_bytes(shape, work)


def mask_bytes(work: Workload) -> bool:
    """Whether attention gets a mask: listings of a packed row must not see each other; pads on the right need none."""
    return work.packed and work.gpu


def adapter_activation_bytes(shape: Architecture, work: Workload) -> list[int]:
    """What the LoRA layers of one layer keep: their inputs, dropout's marks, and `rank` numbers each."""
    width = work.width
    kept = [width * work.rank] * len(shape.linears)
    if work.dropout:
        marks = 1 if work.gpu else width  # the CPU keeps dropout's factors, not bits
        return kept + [size * one.inputs for one in shape.linears for size in (width, marks)]
    inputs = {one.reads: one.inputs for one in shape.linears}
    if not shape.fused:
        inputs.pop("attention out")  # attention keeps its output anyway; a fused one's is copied for the next matrix
    return kept + [width * size for size in inputs.values()]


def activation_bytes(shape: Architecture, work: Workload) -> int:
    """Bytes for one token that come and go inside one layer: its widest states, their gradients, and casts of them."""
    wide = max(shape.intermediate, shape.queries)
    return 5 * work.width * wide + 2 * FP32 * shape.hidden


def training_peak(shape: Architecture, work: Workload) -> PeakMemory:
    """The peak of a tuning step, in the backward pass of the second step, when Adam has its moments."""
    kept = layer_activation_bytes(shape, work)
    layer = sum(kept) * work.tokens
    heap = sum(size for size in kept if size * work.tokens < MAPPED) * work.tokens * shape.layers
    activations = layer * shape.layers
    if work.gradient_checkpointing:
        activations = layer + work.width * shape.hidden * work.tokens * shape.layers
    activations += activation_bytes(shape, work) * work.tokens
    # Logits as the base computes and in fp32, their log-softmax and its gradient, at each token of an answer.
    head = work.listings * work.answer * shape.vocabulary * (work.width + 3 * FP32)
    unpack = dequantized_bytes(shape, work.quantization, work.width)
    slack = round((RECOMPUTED_HEAP if work.gradient_checkpointing else HEAP) * heap)
    runtime = CONTEXT + round(CUDA_SLACK * (activations + head + unpack)) if work.gpu else slack
    return PeakMemory(
        weights=weight_bytes(shape, work.quantization, work.width),
        adapters=(ADAM + (BF16 if work.width == BF16 else 0)) * shape.adapters(work.rank),
        activations=activations,
        head=head,
        cache=0,
        unpacked=unpack,
        runtime=runtime,
    )


def scoring_peak(shape: Architecture, work: Workload) -> PeakMemory:
    """The peak of a scoring pass with its key-value cache, the adapter merged; the head is asked at last positions."""
    wide = max(shape.intermediate, shape.queries)  # the adapter's part of what passes is not there
    states = (activation_bytes(shape, work) - work.width * wide + 2 * work.width * shape.queries) * work.tokens
    nodes = work.listings * work.branches
    rows = min(max(work.listings, nodes), max(1, LOGITS // shape.vocabulary))
    head = rows * shape.vocabulary * (work.width + 2 * FP32)
    cache = 2 * work.width * shape.keys * shape.layers * (work.tokens + nodes) if nodes else 0
    unpack = dequantized_bytes(shape, work.quantization, work.width)
    runtime = (
        CONTEXT + round(CUDA_SLACK * (states + head + cache + unpack)) if work.gpu else round(SCORING_HEAP * states)
    )
    return PeakMemory(
        weights=weight_bytes(shape, work.quantization, work.width),
        adapters=0,
        activations=states,
        head=head,
        cache=cache,
        unpacked=unpack,
        runtime=runtime,
    )


def peak_memory_estimate(shape: Architecture, purpose: Purpose, work: Workload) -> PeakMemory:
    """The peak of tuning or of scoring."""
    return training_peak(shape, work) if purpose == "train" else scoring_peak(shape, work)
