"""What this box can hold and compute in: its memory, or that of its GPU, and the bytes of a number there.

>>> this_box().memory > 10**8
True
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

SYSTEM = Path("/")


@dataclass(frozen=True)
class Hardware:
    """`memory` in bytes, of the GPU where there is one; `width`: bytes of a number of a base, 2 in bf16, 4 in fp32."""

    memory: int
    gpu: bool
    width: int = 2


def detect_hardware() -> Hardware:
    """The first GPU, or the machine as far as this process may fill it; in bf16 where that is computed."""
    import torch

    from pricesmith.pricers.llm.base_model import best_dtype

    width = best_dtype().itemsize
    if torch.cuda.is_available():
        return Hardware(int(torch.cuda.get_device_properties(0).total_memory), True, width)
    return Hardware(memory_bytes() or 0, False, width)


def memory_bytes(system: Path = SYSTEM) -> int | None:
    """The memory that this process may fill, where the system tells: the machine's, or less where a container or a
    batch system sets a limit (Linux control groups, both versions)."""
    try:
        installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
    return min([installed, *limits(system)])


def limits(system: Path) -> list[int]:
    """The limits of this process's control groups and of all above them."""
    found: list[int] = []
    for root, name, group in groups(system):
        for place in (group, *group.parents):  # a limit above holds below
            try:
                found.append(int((root / place / name).read_text()))
            except (OSError, ValueError):  # none is set ("max"), or it cannot be read
                continue
    return found


def groups(system: Path) -> list[tuple[Path, str, Path]]:
    """Where the limits of this process lie: the root, the file's name, and the group below the root."""
    try:
        lines = (system / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, group = [*line.split(":", 2), "", ""][:3]
        place = Path(group.lstrip("/"))
        if not controllers:
            found.append((system / "sys/fs/cgroup", "memory.max", place))
        elif "memory" in controllers.split(","):
            found.append((system / "sys/fs/cgroup/memory", "memory.limit_in_bytes", place))
    return found
