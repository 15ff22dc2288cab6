"""What this process may use: the machine's memory and cores, or less where a limit is set."""

from __future__ import annotations

from pathlib import Path

import pytest

from pricesmith.core.cores_and_memory import available_cores, memory_bytes


def make_root(root: Path, lines: str, files: dict[str, str]) -> Path:
    """A system with a process in control groups."""
    for name, text in {"proc/self/cgroup": lines, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_without_control_groups_the_machine_s_memory_counts(tmp_path: Path) -> None:
    """What the system has installed."""
    assert memory_bytes(tmp_path) == memory_bytes(make_root(tmp_path, "", {}))
    assert (memory_bytes(tmp_path) or 0) > 10**8


@pytest.mark.parametrize(
    ("lines", "files"),
    [
        ("0::/\n", {"sys/fs/cgroup/memory.max": "50000000\n"}),
        ("0::/a/b\n", {"sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/memory.max": "50000000\n"}),
        ("4:cpu:/\n2:memory:/job\n", {"sys/fs/cgroup/memory/job/memory.limit_in_bytes": "50000000\n"}),
        ("2:memory:/outside\n", {"sys/fs/cgroup/memory/memory.limit_in_bytes": "50000000\n"}),
    ],
)
def test_the_lowest_limit_of_a_process_is_its_memory(tmp_path: Path, lines: str, files: dict[str, str]) -> None:
    """Both versions; a container sees its own group as the root whatever its path is called outside."""
    assert memory_bytes(make_root(tmp_path, lines, files)) == 50_000_000


@pytest.mark.parametrize("text", ["max\n", "9223372036854771712\n", "", "junk"])
def test_no_limit_is_none(tmp_path: Path, text: str) -> None:
    """`max`, a number beyond the machine, and what cannot be read bound nothing."""
    whole = memory_bytes(tmp_path)
    assert memory_bytes(make_root(tmp_path, "0::/\nbroken", {"sys/fs/cgroup/memory.max": text})) == whole


@pytest.mark.parametrize(
    ("lines", "files", "cores"),
    [
        ("", {}, 8),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "250000 100000\n"}, 3),
        ("0::/a/b\n", {"sys/fs/cgroup/a/b/cpu.max": "max 100000\n", "sys/fs/cgroup/a/cpu.max": "20000 100000\n"}, 1),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "9900000 100000\n"}, 8),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "junk\n"}, 8),
        (
            "4:cpu,cpuacct:/job\n2:memory:/\n",
            {"sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "200000\n", "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000"},
            2,
        ),
        (
            "4:cpu:/\n",
            {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
            8,
        ),
    ],
)
def test_cores_are_those_of_the_process_and_of_its_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: str, files: dict[str, str], cores: int
) -> None:
    """A part of a core counts as one, and at least one is left."""
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert available_cores(make_root(tmp_path, lines, files)) == cores


def test_a_system_that_binds_no_process_has_all_its_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 10)
    assert available_cores(tmp_path) == 10
