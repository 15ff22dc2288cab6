"""The cores and the memory that this process may use: the machine's, or less in a container or a batch system.

>>> available_cores() >= 1
True
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

SYSTEM = Path("/")


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
