"""The memory planner: peak bytes of tuning and of serving, the modes that fit, and the one for this machine.

>>> from pricesmith.pricers.llm.registry import registry
>>> modes = plan_modes(registry()["llama-3.1-8b"].shape, 24 * 10**9, "train")
>>> [mode.name for mode in modes if mode.fits]
['bf16, checkpointing', 'nf4, checkpointing']

A recipe with `auto` is planned before any weights are loaded: bf16 without gradient checkpointing if memory allows,
else the first mode that fits. The terms of a plan:

Weights. bf16 is 2 bytes a parameter; fp32, for machines that do not compute in bf16, 4, as are its states. NF4 is half
a byte for the matrices of the layers and, in blocks of 64 with double quantization, 1/64 byte for each block's 8-bit
constant and 4/(64 x 256) bytes for the constants' own: 0.5159 bytes a parameter; embeddings, norms and the head stay as
they are, and one matrix at a time is dequantized. Source: Dettmers et al. 2023, "QLoRA", section 3.

Adapters. LoRA on every linear layer: 4 bytes for a weight, 4 for its gradient, 8 for Adam's two moments, 2 for the
bf16 copy that a step computes with.

Activations. What autograd keeps of a layer for each token when the base is frozen, h hidden, q queries, k keys, i
intermediate, r rank, in bytes: each norm keeps an fp32 copy (4 h + 4); attention keeps rotated queries, keys, values,
its output (4 q + 4 k) and a number a head; the gate, its activation, and the other half (6 i); each LoRA layer its
input and the r numbers between its two matrices. Inputs that two layers share are kept once, unless a cast or dropout
makes copies of them. Eager attention, of Gemma 2 and others that torch's fused attention cannot compute, keeps keys and
values repeated for each head, and for each head and each token of a listing a score (2) and its softmax in fp32 and
bf16 (4 + 2). `tests/base_models/test_memory.py` counts all of it to the byte with torch's saved-tensor hooks.

With gradient checkpointing a layer keeps its input (2 h), and one layer at a time the rest. Head logits exist at price
positions only. Nothing here allocates: a plan for 14 billion parameters is arithmetic.

Runtime. On a GPU: the CUDA context with its libraries, and blocks that the caching allocator cannot reuse. On a CPU the
C library's heap does not reuse an aligned block of the same size, so that temporary tensors between kept ones stay
allocated: measured with glibc 2.36, 0.36 to 0.85 of the kept bytes again for tensors under 32 MiB (larger ones are
mapped and returned); 0.58 is within 15 % of all measurements.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pricesmith.base_models.hardware import Hardware, detect_hardware, format_size
from pricesmith.base_models.recorded_mode import AUTO, find_recorded_mode, smaller_batches
from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.launch import COMMAND, count_processes
from pricesmith.core.processes import ALONE, current_processes
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.types import Recipe
from pricesmith.pricers.llm.device_memory import USABLE, evaluation_tokens
from pricesmith.pricers.llm.registry import Architecture, architecture_from_folder

Purpose = Literal["train", "serve"]
Quantization = Literal["none", "nf4"]
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)  # bytes a parameter
BF16, FP32 = 2, 4
ADAM = FP32 + FP32 + 2 * FP32  # weight, gradient, two moments
CONTEXT = 600_000_000  # a CUDA context with cuBLAS, before the first tensor
CUDA_SLACK = 0.05  # of temporary tensors: blocks that the caching allocator cannot reuse
HEAP, RECOMPUTED_HEAP, SCORING_HEAP = 0.58, 0.36, 0.3  # of kept bytes, and of a layer's states; see above
MAPPED = 32 * 2**20  # glibc maps larger blocks, and returns them
LOGITS = 1 << 25  # that pricers/llm/readout.py holds at once
TOKENS_PER_LISTING = 180  # of a listing with its question, if no catalog is given
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
NF4_ON_CPU = (
    "Warning: without a GPU, 4-bit weights (nf4) save memory, not time: with Gemma 3 270M on a CPU, a training step "
    "took as long as in fp32, and pricing up to a quarter longer. Use --set quantization=none if memory allows."
)


@dataclass(frozen=True)
class Workload:
    """How much a model reads at once, and how it is trained.

    `tokens` is the size of a batch, in listings of `listing` tokens. `answer` is the number of tokens of an answer that
    are trained, `branches` the number of nodes of the tree that an answer is read from: 99 are all numbers of two
    digits; 0 if a number is one token. `packed`: one row of many listings on a GPU, with a mask of tokens x tokens;
    `fit` pads instead.
    `dtype_bytes`: bytes of a weight and of a state, 2 in bf16, 4 in fp32.
    """

    tokens: int
    listing: int = TOKENS_PER_LISTING
    answer: int = 4
    rank: int = 16
    dropout: float = 0.05
    dtype_bytes: int = BF16
    gradient_checkpointing: bool = False
    quantization: Quantization = "none"
    branches: int = 99
    gpu: bool = True
    packed: bool = False

    @property
    def listings(self) -> int:
        return max(1, self.tokens // self.listing)


@dataclass(frozen=True)
class PeakMemory:
    """Bytes at the peak, term by term. `runtime` is memory outside of tensors."""

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


def weight_bytes(shape: Architecture, quantization: Quantization, dtype_bytes: int = BF16) -> int:
    """Bytes of the base. Encoders of images and sound are loaded with it and not quantized in this estimate."""
    whole = shape.parameters + shape.encoders
    if quantization == "none":
        return dtype_bytes * whole
    return round(NF4 * shape.blocks) + dtype_bytes * (whole - shape.blocks)


def dequantized_bytes(shape: Architecture, quantization: Quantization, dtype_bytes: int = BF16) -> int:
    """Bytes of the largest matrix while it is used, if weights are stored in 4 bits; else 0."""
    return 0 if quantization == "none" else dtype_bytes * max(layer.inputs * layer.outputs for layer in shape.linears)


def layer_activation_bytes(shape: Architecture, work: Workload) -> list[int]:
    """Bytes for one token of each tensor that autograd keeps of one layer."""
    h, i, q, k, dtype_bytes = shape.hidden, shape.intermediate, shape.queries, shape.keys, work.dtype_bytes
    sizes = [FP32 * h, FP32] * shape.norms
    if shape.qk_norm:
        sizes += [
            FP32 * q,
            FP32 * k,
            *([FP32 * shape.heads, FP32 * shape.kv_heads] if shape.qk_norm == "head" else [FP32] * 2),
        ]
    sizes += attention_bytes(shape, work)
    if shape.fused:
        sizes += [dtype_bytes * 2 * i, dtype_bytes * i]
    else:
        sizes += [dtype_bytes * i] * 3
    return sizes + adapter_activation_bytes(shape, work)


def attention_bytes(shape: Architecture, work: Workload) -> list[int]:
    """Bytes for one token of each tensor that autograd keeps of the attention of one layer."""
    q, k, dtype_bytes = shape.queries, shape.keys, work.dtype_bytes
    if shape.eager:  # queries, keys and values repeated for each head, capped scores, and the softmax's result
        copies = [dtype_bytes] if dtype_bytes == BF16 else []  # of the softmax, which is computed in fp32
        scores = [size * shape.heads * row_tokens(work) for size in (dtype_bytes, FP32, *copies)]
        return [dtype_bytes * q] * (3 if work.dropout else 4) + scores  # the output, if no copy of it is kept instead
    sizes = [dtype_bytes * q, dtype_bytes * q, FP32 * shape.heads]  # queries, output, a number a head
    if has_mask(work):  # keys and values are repeated for each head, and the mask is a number for each pair of tokens
        return [*sizes, dtype_bytes * q, dtype_bytes * q, dtype_bytes * work.tokens]
    # A view of a fused projection keeps all of it.
    return [*sizes, dtype_bytes * k, dtype_bytes * (q + 2 * k if shape.fused else k)]


def row_tokens(work: Workload) -> int:
    """The tokens of a row, each of which attends to the others: of a listing, or of a whole packed batch."""
    return work.tokens if work.packed else work.listing


def has_mask(work: Workload) -> bool:
    """Whether attention gets a mask: listings of a packed row must not attend to each other; padding on the right needs
    none."""
    return work.packed and work.gpu


def adapter_activation_bytes(shape: Architecture, work: Workload) -> list[int]:
    """Bytes for one token kept by the LoRA layers of one layer: their inputs, dropout's masks, `rank` numbers each."""
    dtype_bytes = work.dtype_bytes
    sizes = [dtype_bytes * work.rank] * len(shape.linears)
    if work.dropout:
        mask_bytes = 1 if work.gpu else dtype_bytes  # the CPU keeps dropout's factors, not bits
        return sizes + [size * layer.inputs for layer in shape.linears for size in (dtype_bytes, mask_bytes)]
    inputs = {layer.reads: layer.inputs for layer in shape.linears}
    if not shape.fused:
        inputs.pop("attention out")  # attention keeps its output anyway; if fused, it is copied for the next matrix
    return sizes + [dtype_bytes * size for size in inputs.values()]


def activation_bytes(shape: Architecture, work: Workload) -> int:
    """Bytes for one token of temporary tensors in one layer: its widest states, their gradients, and casts of them."""
    wide = max(shape.intermediate, shape.queries)
    return 5 * work.dtype_bytes * wide + 2 * FP32 * shape.hidden + score_bytes(shape, work, row_tokens(work))


def score_bytes(shape: Architecture, work: Workload, keys: int) -> int:
    """Bytes of one token's temporary scores with `keys` others in eager attention, before and after the softmax in
    fp32; 0 for fused attention, which computes them block by block."""
    return shape.heads * keys * (work.dtype_bytes + 2 * FP32) if shape.eager else 0


def training_peak(shape: Architecture, work: Workload) -> PeakMemory:
    """The peak of tuning: in the backward pass of the second step, when Adam's moments are allocated."""
    sizes = layer_activation_bytes(shape, work)
    layer = sum(sizes) * work.tokens
    heap = sum(size for size in sizes if size * work.tokens < MAPPED) * work.tokens * shape.layers
    activations = layer * shape.layers
    if work.gradient_checkpointing:
        activations = layer + work.dtype_bytes * shape.hidden * work.tokens * shape.layers
    activations += activation_bytes(shape, work) * work.tokens
    # Logits as the base computes and in fp32, their log-softmax and its gradient, at each token of an answer.
    head = work.listings * work.answer * shape.vocabulary * (work.dtype_bytes + 3 * FP32)
    unpack = dequantized_bytes(shape, work.quantization, work.dtype_bytes)
    slack = round((RECOMPUTED_HEAP if work.gradient_checkpointing else HEAP) * heap)
    runtime = CONTEXT + round(CUDA_SLACK * (activations + head + unpack)) if work.gpu else slack
    return PeakMemory(
        weights=weight_bytes(shape, work.quantization, work.dtype_bytes),
        adapters=adapter_bytes(shape, work),
        activations=activations,
        head=head,
        cache=0,
        unpacked=unpack,
        runtime=runtime,
    )


def scoring_peak(shape: Architecture, work: Workload) -> PeakMemory:
    """The peak of a forward pass with its key-value cache, the adapter merged, the head at last positions only."""
    wide = max(shape.intermediate, shape.queries)  # without the adapter's states
    one_token = activation_bytes(shape, work) - work.dtype_bytes * wide + 2 * work.dtype_bytes * shape.queries
    nodes = work.listings * work.branches
    in_tree = nodes * score_bytes(shape, work, work.listing + work.branches)
    states = max(one_token * work.tokens, in_tree)
    rows = min(max(work.listings, nodes), max(1, LOGITS // shape.vocabulary))
    head = rows * shape.vocabulary * (work.dtype_bytes + 2 * FP32)
    cache = 2 * work.dtype_bytes * shape.keys * shape.layers * (work.tokens + nodes) if nodes else 0
    unpack = dequantized_bytes(shape, work.quantization, work.dtype_bytes)
    runtime = (
        CONTEXT + round(CUDA_SLACK * (states + head + cache + unpack)) if work.gpu else round(SCORING_HEAP * states)
    )
    return PeakMemory(
        weights=weight_bytes(shape, work.quantization, work.dtype_bytes),
        adapters=0,
        activations=states,
        head=head,
        cache=cache,
        unpacked=unpack,
        runtime=runtime,
    )


def evaluation_peak(shape: Architecture, work: Workload) -> PeakMemory:
    """The peak of pricing validation items during training: the adapter is not merged, and its gradients and Adam's
    moments stay."""
    batch = replace(work, tokens=evaluation_tokens(work.tokens))
    unmerged = work.dtype_bytes * max(shape.intermediate, shape.queries) * batch.tokens  # the adapter's own states
    peak = scoring_peak(shape, batch)
    return replace(peak, adapters=adapter_bytes(shape, work), activations=peak.activations + unmerged)


def adapter_bytes(shape: Architecture, work: Workload) -> int:
    """Bytes of the adapters while they are trained."""
    return (ADAM + (BF16 if work.dtype_bytes == BF16 else 0)) * shape.adapters(work.rank)


def peak_memory_estimate(shape: Architecture, purpose: Purpose, work: Workload) -> PeakMemory:
    """The peak of tuning (`train`), of its steps or of its evaluations, whichever is larger; or of serving."""
    if purpose == "serve":
        return scoring_peak(shape, work)
    return max(training_peak(shape, work), evaluation_peak(shape, work), key=lambda peak: peak.total)


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

    Serving has no gradients to checkpoint. Without a GPU, 4-bit weights are planned only if `work` has them: they save
    memory, and take more time.
    """
    base_work = work or Workload(tokens=2048)
    modes = []
    for name, quantization, gradient_checkpointing in MODES:
        unwanted = quantization == "nf4" and not base_work.gpu and base_work.quantization != "nf4"
        if unwanted or (purpose == "serve" and gradient_checkpointing):
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


def plan_for_hardware(recipe: Recipe, progress: Progress = SILENT, *, to: Path | None = None) -> Recipe:
    """The recipe with the mode in which it is tuned on this machine; a recipe of another kind unchanged.

    If the model folder `to` was begun or finished with the same recipe, its mode is kept, whatever memory is free now.
    A note names the mode, its memory and the reason. Raises InputError if the base cannot be found, UsageError if a
    revision is set and the base has none.
    """
    if not hasattr(recipe, "quantization"):
        return recipe
    if current_processes() is ALONE:
        refuse_several_processes()
    from pricesmith.pricers.llm.base_model import check_classifier, find_base

    settings: Any = recipe
    base = find_base(settings.base, settings.revision, progress, weights=False)
    if settings.revision and base.revision is None:
        raise UsageError(
            "Only a base of the Hub has revisions", got=settings.revision, hint="Leave revision out, or name a Hub id."
        )
    if hasattr(settings, "bins"):
        check_classifier(base)
    if to is not None and (recorded := find_recorded_mode(recipe, to)):
        same_mode: Recipe = settings.model_copy(update=recorded)
        return same_mode
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
    if mode.quantization == "nf4" and not hardware.gpu:
        progress.note(NF4_ON_CPU)
    changed: Recipe = settings.model_copy(
        update={
            "quantization": mode.quantization,
            "gradient_checkpointing": mode.gradient_checkpointing,
            "tokens_per_batch": mode.wanted,
        }
    )
    return changed


def refuse_several_processes() -> None:
    """Raises UsageError if this process is one of several that torchrun or `accelerate launch` has started: all of them
    would tune on the first GPU, in one folder. Only the command `fit` joins them."""
    if (count := count_processes()) > 1:
        raise UsageError(
            "Here a language model is tuned by one process on one GPU",
            got=f"{count} processes (WORLD_SIZE={os.environ['WORLD_SIZE']} in the environment)",
            allowed=f"one process; several for the command `fit`, as in `{COMMAND}`",
            hint="Run the same command without torchrun or accelerate launch (with `env -u WORLD_SIZE` before it if a "
            "batch system sets it). CUDA_VISIBLE_DEVICES=1 chooses the second GPU.",
        )


def choose_mode(settings: Any, shape: Architecture, hardware: Hardware) -> tuple[TuningMode, str]:
    """The mode for a recipe's settings, and a sentence with the reason: the first mode that the settings allow and that
    fits, else the one that needs the least memory. Before 4 bits are chosen, batches are made smaller by halves."""
    work = Workload(
        settings.tokens_per_batch,
        listing=min(TOKENS_PER_LISTING, settings.max_length, settings.tokens_per_batch),
        answer=1 if hasattr(settings, "bins") else 4,
        rank=settings.lora_r,
        dropout=settings.lora_dropout,
        branches=0 if hasattr(settings, "bins") else 99,
        gpu=hardware.gpu,
        dtype_bytes=hardware.dtype_bytes,
        quantization="nf4" if settings.quantization == "nf4" else "none",
    )
    modes = [mode for mode in plan_modes(shape, hardware.usable, "train", work) if is_allowed(mode, settings)]
    modes = [mode for mode in modes if mode.quantization == "none" or settings.quantization == "nf4" or has_nf4()]
    chosen = best_mode(modes)
    smaller_mode = None
    if settings.quantization == AUTO and (chosen is None or chosen.quantization == "nf4"):
        plans = (
            plan_modes(shape, hardware.usable, "train", replace(work, tokens=tokens))
            for tokens in smaller_batches(work.tokens)
        )
        unquantized = ([m for m in plan if m.quantization == "none" and is_allowed(m, settings)] for plan in plans)
        smaller_mode = next(filter(None, map(best_mode, unquantized)), None)
    available = (
        f"the {format_size(hardware.usable)} of this GPU that can be planned with ({USABLE:.0%} of what is free)"
        if hardware.gpu
        else f"the {format_size(hardware.memory)} of this machine"
    )
    if smaller_mode is not None:
        return smaller_mode, (
            f"Memory: in {smaller_mode.name.split(',')[0]}, batches of {work.tokens:,} tokens do not fit; "
            f"{smaller_mode.wanted:,} do: {smaller_mode.name} takes about {format_size(smaller_mode.peak.total)} of "
            f"{available}."
        )
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
