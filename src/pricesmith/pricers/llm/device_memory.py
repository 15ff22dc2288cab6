"""Memory of the GPU: how much is free, how large a batch may be, and one error when memory runs out.

>>> class Config:
...     hidden_size, intermediate_size, num_hidden_layers = 4096, 14336, 32
...     num_attention_heads, num_key_value_heads = 32, 8
>>> pricing_tokens(Config, 24 * 10**9 - 16 * 10**9)
8192
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pricesmith.core.errors import PricesmithError

USABLE = 0.92  # of the free memory of a GPU: the rest is for other programs and for blocks that cannot be reused
PRICING_SHARE = 0.5  # of the free memory, for the states and the key-value cache of a batch that is priced
CPU_TOKENS, LEAST_TOKENS, MOST_TOKENS = 2048, 1024, 32_768  # of a batch that is priced
MAX_EVAL_TOKENS = 4096  # of a batch of validation items, unless a training step is larger
NODES = 99  # of the tree of a price that is written digit by digit, for each listing of TOKENS
TOKENS = 180
CPU_MESSAGES = ("can't allocate memory", "not enough memory")  # of torch's allocator, which raises RuntimeError
GPU_MESSAGES = ("CUBLAS_STATUS_ALLOC_FAILED", "CUDA error: out of memory")  # of libraries, as RuntimeError
FRAGMENTATION = "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True"


def free_gpu_memory() -> int:
    """Bytes of the current GPU that this process can still allocate: free ones, and those that torch holds unused."""
    import torch

    free, _ = torch.cuda.mem_get_info()
    return int(free) + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()


def evaluation_tokens(tokens_per_batch: int) -> int:
    """The tokens of a batch of validation items during training: four training batches, but no more than
    MAX_EVAL_TOKENS, unless a training batch is larger."""
    return max(tokens_per_batch, min(4 * tokens_per_batch, MAX_EVAL_TOKENS))


def pricing_tokens(config: Any, free: int, dtype_bytes: int = 2) -> int:
    """The tokens of a batch that is priced on a GPU with `free` bytes left beside the weights.

    `config` is that of the language model. A token takes its widest states, and keys and values of all layers for
    itself and its share of the tree of digits; with eager attention also its scores with a listing's tokens.
    """
    heads = config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    keys = head * (getattr(config, "num_key_value_heads", None) or heads)
    wide = max(getattr(config, "intermediate_size", None) or 4 * config.hidden_size, head * heads)
    states = 6 * dtype_bytes * wide + 8 * config.hidden_size
    if getattr(config, "_attn_implementation", None) == "eager":
        states += (dtype_bytes + 8) * heads * TOKENS
    cache = 2 * dtype_bytes * keys * config.num_hidden_layers * (1 + NODES / TOKENS)
    tokens = int(PRICING_SHARE * USABLE * free / (states + cache))
    return max(LEAST_TOKENS, min(MOST_TOKENS, tokens // 1024 * 1024))


def default_pricing_tokens(model: Any) -> int:
    """The tokens of a batch that a loaded model prices on this machine."""
    import torch

    if not torch.cuda.is_available():
        return CPU_TOKENS
    dtype_bytes = 4 if model.dtype == torch.float32 else 2
    return pricing_tokens(model.config.get_text_config(), free_gpu_memory(), dtype_bytes)


class OutOfMemory(PricesmithError):
    """Memory ran out, on the GPU (`gpu`) or on this machine."""

    gpu = False


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: of the GPU, or of the machine."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in CPU_MESSAGES + GPU_MESSAGES)


def out_of_memory(what: str, error: BaseException, hint: str) -> OutOfMemory:
    """The error for memory that ran out while doing `what`."""
    import torch

    gpu = isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in GPU_MESSAGES)
    lines = str(error).strip().splitlines()
    failure = OutOfMemory(
        f"There is not enough memory {'on the GPU' if gpu else 'on this machine'} to {what}",
        got=lines[0][:200] if lines else type(error).__name__,
        hint=f"{hint} Other programs on the GPU take memory too; {FRAGMENTATION} in the environment helps if memory is "
        "fragmented."
        if gpu
        else hint,
    )
    failure.gpu = gpu
    return failure


@contextmanager
def catch_out_of_memory(what: str, hint: str) -> Iterator[None]:
    """Turn memory that runs out in the block into an error that says so."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(what, error, hint) from None


def release_gpu_memory() -> None:
    """Give back what torch holds unused, before a smaller batch is tried."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
