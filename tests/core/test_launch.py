"""What a launcher tells a process by the environment, and what is refused under one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricesmith.cli import run
from pricesmith.core.console import silent_followers
from pricesmith.core.errors import UsageError
from pricesmith.core.launch import Launch, read_launch, refuse_launch

LAUNCH = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


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


def test_only_rank_0_prints(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, LAUNCH)
    with silent_followers():
        print("step 1")
    set_environment(monkeypatch, {**LAUNCH, "RANK": "0"})
    with silent_followers():
        print("step 1")
    assert capsys.readouterr().out == "step 1\n"


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
