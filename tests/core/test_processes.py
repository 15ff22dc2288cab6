"""Of several processes, rank 0 decides, and the others end with its exit code."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any

import pytest

from pricesmith.core import processes
from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.launch import Launch
from pricesmith.core.processes import ALONE, LaunchedProcesses, following


class Store:
    """The launcher's store, for processes of one test; it waits for nothing."""

    def __init__(self) -> None:
        self.values = dict[str, str]()

    def set(self, key: str, value: str) -> None:
        self.values[key] = value

    def get(self, key: str) -> str:
        self.wait([key])
        return self.values[key]

    def wait(self, keys: list[str], timeout: timedelta | None = None) -> None:
        if missing := [key for key in keys if key not in self.values]:
            raise RuntimeError(f"Connection was closed before {missing[0]} was set")


def pair() -> tuple[LaunchedProcesses, LaunchedProcesses]:
    store = Store()
    return LaunchedProcesses(Launch(0, 2, 0), store), LaunchedProcesses(Launch(1, 2, 1), store)


def test_values_reach_the_others_in_order() -> None:
    leader, follower = pair()
    for value in (True, None, {"steps": 3}, False):
        assert leader.share(value) == value
    assert [follower.share() for _ in range(4)] == [True, None, {"steps": 3}, False]
    assert ALONE.share("itself") == "itself"


def test_the_others_end_with_the_exit_code_of_rank_0() -> None:
    """Also where it failed between two values, and where the connection was lost."""
    leader, follower = pair()
    leader.share(1)
    leader.end(3)
    assert follower.share() == 1
    with pytest.raises(SystemExit) as ended:
        follower.share()
    assert ended.value.code == 3
    with pytest.raises(SystemExit) as ended, following(follower):
        raise RuntimeError("gloo: Connection closed by peer")
    assert ended.value.code == 3


def test_a_killed_rank_0_is_a_failure_of_the_others() -> None:
    _, follower = pair()
    with pytest.raises(SystemExit) as ended:
        follower.share()
    assert ended.value.code == 1


def test_an_error_of_another_process_alone_is_printed_with_its_number(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that rank 0 has too is printed by rank 0."""
    monkeypatch.setattr(sys, "__stderr__", sys.stderr)
    leader, follower = pair()
    with pytest.raises(SystemExit) as ended, following(follower):
        raise InputError("The GPU is broken")
    assert ended.value.code == 1
    assert capsys.readouterr().err == "Process 1: Error: The GPU is broken\n"
    leader.end(2)
    with pytest.raises(SystemExit) as ended, following(follower):
        raise InputError("There is no catalog")
    assert ended.value.code == 2
    assert capsys.readouterr().err == ""


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match="fewer GPUs than processes"):
        processes.connect(Launch(1, 2, 1))


def test_each_process_gets_the_gpu_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from torch import distributed

    chosen = list[Any]()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(distributed, "rendezvous", lambda url: iter([(distributed.HashStore(), 1, 2)]))
    monkeypatch.setattr(distributed, "init_process_group", lambda backend, **more: chosen.append(backend))
    assert processes.connect(Launch(1, 2, 1)).rank == 1
    assert chosen == [1, "nccl"]
