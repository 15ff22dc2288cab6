"""Of several processes of a launcher, rank 0 decides and prints, and the others end with its exit code."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricesmith.cli import run
from pricesmith.core import processes
from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.processes import ALONE, Launch, LaunchedProcesses, following, read_launch, refuse_launch

LAUNCH = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


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


def set_environment(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    for name in (*LAUNCH, "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in values.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("size", ["", "1", "0", "two", "²"])
def test_one_process_needs_no_launcher(size: str) -> None:
    assert read_launch({"WORLD_SIZE": size, "RANK": "0"}) is None


@pytest.mark.parametrize("missing", ["RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"])
def test_a_world_size_without_a_launcher_is_refused(missing: str) -> None:
    """A batch system may set WORLD_SIZE alone; the processes could not find each other."""
    with pytest.raises(UsageError, match=f"{missing} is not set") as error:
        read_launch({name: value for name, value in LAUNCH.items() if name != missing})
    assert "torchrun" in error.value.hint
    assert "env -u WORLD_SIZE" in error.value.hint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"RANK": "first"}, "RANK is not a number"),
        ({"LOCAL_RANK": "-1"}, "LOCAL_RANK is not a number"),
        ({"MASTER_PORT": "http"}, "MASTER_PORT is not a number"),
        ({"RANK": "2"}, "of one machine"),
        ({"LOCAL_WORLD_SIZE": "1"}, "of one machine"),
    ],
)
def test_a_launch_that_cannot_work_is_refused(changes: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_launch({**LAUNCH, **changes})


@given(rank=st.integers(0, 7), size=st.integers(2, 8))
def test_every_rank_below_the_size_is_accepted(rank: int, size: int) -> None:
    values = {**LAUNCH, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    if rank < size:
        assert read_launch(values) == Launch(rank, size, rank)
    else:
        with pytest.raises(UsageError):
            read_launch(values)


def test_what_runs_in_one_process_is_refused_under_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, LAUNCH)
    with pytest.raises(UsageError, match="`pricesmith build` runs in one process") as error:
        refuse_launch("`pricesmith build`")
    assert "2 processes" in error.value.got
    set_environment(monkeypatch, {"WORLD_SIZE": "2"})  # of a batch system
    refuse_launch("`pricesmith build`")
    set_environment(monkeypatch, {**LAUNCH, "WORLD_SIZE": "1", "RANK": "0"})
    refuse_launch("`pricesmith build`")


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


def test_only_rank_0_prints(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, LAUNCH)
    with processes.silent_followers():
        print("step 1")
    set_environment(monkeypatch, {**LAUNCH, "RANK": "0"})
    with processes.silent_followers():
        print("step 1")
    assert capsys.readouterr().out == "step 1\n"


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


@pytest.mark.parametrize("words", [["fit", "ridge"], ["eval", "median"], ["build", "shop.csv"], ["price", "model"]])
def test_other_commands_and_kinds_are_refused_once(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All processes end with the exit code of a wrong command; rank 0 says why."""
    folders = ["--catalog", "catalog", "--to", "to"] if words[0] == "fit" else []
    for rank, lines in (("0", 1), ("1", 0)):
        set_environment(monkeypatch, {**LAUNCH, "RANK": rank})
        assert run([*words, *folders]) == 2
        assert capsys.readouterr().err.count("runs in one process") == lines
