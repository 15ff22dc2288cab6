"""What this machine can hold: the machine's memory, or less where a limit is set."""

from __future__ import annotations

from pathlib import Path

import pytest

from pricesmith.base_models.hardware import available_cores, detect_hardware, format_size, memory_bytes, parse_size
from pricesmith.core.errors import UsageError


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


def test_without_bf16_a_weight_has_four_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planner reads what the weights will be loaded as."""
    import torch

    for dtype, dtype_bytes in ((torch.bfloat16, 2), (torch.float32, 4)):
        monkeypatch.setattr("pricesmith.pricers.llm.base_model.best_dtype", lambda dtype=dtype: dtype)
        assert detect_hardware().dtype_bytes == dtype_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("24GB", 24 * 10**9),
        ("24 GiB", 24 * 2**30),
        (" 80 gb ", 80 * 10**9),
        ("0.5TB", 5 * 10**11),
        ("512MiB", 2**29),
        ("24G", 24 * 10**9),
    ],
)
def test_an_amount_of_memory_is_read_as_written(text: str, size: int) -> None:
    """GB is 10^9 bytes and GiB is 2^30."""
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["24", "", "GB", "24 gigs", "-3GB", "nan GB", "1e3GB", "0GB", "9999999TB", "24GB GB", "24 GB, 8 GB"]
)
def test_what_is_no_amount_of_memory_is_refused(text: str) -> None:
    """With what was got, what is allowed and an example."""
    with pytest.raises(UsageError) as error:
        parse_size(text)
    assert error.value.got
    assert error.value.hint


def test_sizes_are_shown_in_gigabytes() -> None:
    """Of 10^9 bytes, as cards are sold."""
    assert (format_size(24e9), format_size(1.25e8)) == ("24.0 GB", "125 MB")
