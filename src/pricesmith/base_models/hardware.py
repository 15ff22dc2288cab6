"""The memory and speed of this machine or of its GPU, and amounts of memory as people write them.

>>> detect_hardware().memory > 10**8
True
>>> parse_size("24GB"), parse_size("24 GiB")
(24000000000, 25769803776)
>>> format_size(25769803776)
'25.8 GB'
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from pydantic import ByteSize, TypeAdapter, ValidationError

from pricesmith.core.cores_and_memory import memory_bytes
from pricesmith.core.errors import UsageError
from pricesmith.pricers.llm.device_memory import USABLE, free_gpu_memory

SMALLEST, LARGEST = 10**6, 10**15  # bytes of memory that a machine may have
MATMUL_SECONDS = 1.0  # for measuring the speed of matrix products


@dataclass(frozen=True)
class Hardware:
    """`memory` in bytes, of the GPU if there is one; `dtype_bytes`: bytes of a weight, 2 in bf16 and 4 in fp32."""

    memory: int
    gpu: bool
    dtype_bytes: int = 2

    @property
    def usable(self) -> int:
        """The bytes that a plan may use: of a GPU a part, since other programs and unusable blocks take some."""
        return int(USABLE * self.memory) if self.gpu else self.memory


def detect_hardware() -> Hardware:
    """The current GPU with its free memory, or the machine with the memory that this process may use; bf16 if it
    computes in bf16."""
    import torch

    from pricesmith.pricers.llm.base_model import best_dtype

    dtype_bytes = best_dtype().itemsize
    if torch.cuda.is_available():
        return Hardware(free_gpu_memory(), True, dtype_bytes)
    return Hardware(memory_bytes() or 0, False, dtype_bytes)


def measure_matmul_flops(seconds: float = MATMUL_SECONDS) -> float:
    """Floating-point operations a second of matrix products on this machine, in the dtype of its bases.

    The best of many short runs, so that other work on the machine disturbs it little; takes about `seconds`.
    """
    import torch

    from pricesmith.pricers.llm.base_model import best_dtype

    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows, size = (8192, 4096) if device == "cuda" else (128, 1024)
    with torch.inference_mode():
        states = torch.ones(rows, size, dtype=best_dtype(), device=device)
        weights = torch.ones(size, size, dtype=best_dtype(), device=device)
        best, start = float("inf"), time.perf_counter()
        while best == float("inf") or time.perf_counter() - start < seconds:
            began = time.perf_counter()
            states @ weights
            if device == "cuda":
                torch.cuda.synchronize()
            best = min(best, max(time.perf_counter() - began, 1e-9))
    return 2 * rows * size * size / best


def parse_size(text: str) -> int:
    """An amount of memory in bytes: GB is 10^9 and GiB is 2^30. Raises UsageError if the text is not such an amount."""
    number = ByteSize.byte_string_re.fullmatch(text.strip())
    try:
        size = int(TypeAdapter(ByteSize).validate_python(text)) if number and number[2] else None
    except ValidationError:
        size = None
    if size is None:
        raise UsageError(
            "An amount of memory needs its unit" if number and not number[2] else "This is not an amount of memory",
            got=repr(text)[:80],
            allowed="a number and GB or GiB (also MB, MiB, TB, TiB)",
            hint="For example --memory 24GB",
        )
    if not SMALLEST <= size <= LARGEST:
        raise UsageError(
            "No machine has this amount of memory",
            got=repr(text)[:80],
            allowed="1 MB to 1,000 TB",
            hint="Check the unit.",
        )
    return size


def format_size(size: float) -> str:
    """Bytes as gigabytes of 10^9 with one decimal, or as megabytes if it is less than one."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.0f} MB"
