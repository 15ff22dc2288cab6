"""This machine's memory and speed, or those of its GPU, and amounts of memory as people write them.

>>> detect_hardware().memory > 10**8
True
>>> parse_size("24GB"), parse_size("24 GiB")
(24000000000, 25769803776)
>>> format_size(25769803776)
'25.8 GB'
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ByteSize, TypeAdapter, ValidationError

from pricesmith.core.errors import UsageError

SYSTEM = Path("/")
SMALLEST, LARGEST = 10**6, 10**15  # bytes of memory that a machine may have
MATMUL_SECONDS = 1.0  # for measuring the speed of matrix products


@dataclass(frozen=True)
class Hardware:
    """`memory` in bytes, of the GPU if there is one; `dtype_bytes`: bytes of a weight, 2 in bf16 and 4 in fp32."""

    memory: int
    gpu: bool
    dtype_bytes: int = 2


def detect_hardware() -> Hardware:
    """The first GPU, or the machine with the memory that this process may use; bf16 if it computes in bf16."""
    import torch

    from pricesmith.pricers.llm.base_model import best_dtype

    dtype_bytes = best_dtype().itemsize
    if torch.cuda.is_available():
        return Hardware(int(torch.cuda.get_device_properties(0).total_memory), True, dtype_bytes)
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


def memory_bytes(system: Path = SYSTEM) -> int | None:
    """The memory that this process may use, or None if the system does not report it: the machine's memory, or less if
    a container or a batch system sets a limit (Linux control groups, both versions)."""
    try:
        installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
    return min([installed, *memory_limits(system)])


def memory_limits(system: Path) -> list[int]:
    """The memory limits, in bytes, of this process's control groups and of all groups above them."""
    names = {1: "memory.limit_in_bytes", 2: "memory.max"}
    limits: list[int] = []
    for version, folder in control_groups(system, "memory"):
        try:
            limits.append(int((folder / names[version]).read_text()))
        except (OSError, ValueError):  # no limit is set ("max"), or the file cannot be read
            continue
    return limits


def available_cores(system: Path = SYSTEM) -> int:
    """The cores that this process may use: those that it is bound to, or fewer if a container or a batch system sets a
    limit (Linux control groups, both versions); a part of a core counts as one."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS binds no process to cores
        cores = os.cpu_count() or 1
    return max(1, min([cores, *(math.ceil(limit) for limit in core_limits(system))]))


def core_limits(system: Path) -> list[float]:
    """The limits on cores of this process's control groups and of all groups above them."""
    limits: list[float] = []
    for version, folder in control_groups(system, "cpu"):
        names = ("cpu.max",) if version == 2 else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        try:
            quota, period = [int(word) for name in names for word in (folder / name).read_text().split()]
        except (OSError, ValueError):  # no limit is set ("max 100000"), or a file cannot be read
            continue
        if quota > 0 and period > 0:
            limits.append(quota / period)
    return limits


def control_groups(system: Path, controller: str) -> Iterator[tuple[int, Path]]:
    """The version and the folder of this process's control groups, and of the groups above them, whose limits hold
    too."""
    try:
        lines = (system / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = [*line.split(":", 2), "", ""][:3]
        group = Path(name.lstrip("/"))
        if not controllers:
            root, version = system / "sys/fs/cgroup", 2
        elif controller in controllers.split(","):
            root, version = system / "sys/fs/cgroup" / controller, 1
        else:
            continue
        for folder in (group, *group.parents):
            yield version, root / folder
