"""Parts of a batch are priced in other processes and here, in order, whatever happens to a process."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pricesmith.serve.batch_pool import BatchPool, BatchProcess, Delays, PartQueue

# A process that applies functions without a model, and misbehaves for some parts.
CHILD = """
import os, sys, time
from multiprocessing.connection import Connection
connection = Connection(int(sys.argv[2]))
connection.send("model-1")
while True:
    try:
        function, part = connection.recv()
    except EOFError:
        break
    if part == "die":
        os._exit(9)
    if part == "cut":
        os.write(connection.fileno(), bytes([0, 0, 1, 0, 128, 5])); os._exit(9)
    if part == "noise":
        connection.send_bytes(b"warning: something")
        continue
    if part == "hang":
        time.sleep(600)
    connection.send(("failed" if part == "fail" else "done", (os.getpid(), function(part))))
"""
COMMAND = (sys.executable, "-c", CHILD)


def here(part: Any) -> tuple[int, str]:
    """A part that is priced in this process."""
    return 0, str(part)


@pytest.fixture
def open_pool() -> Iterator[Callable[..., BatchPool]]:
    """Opens pools of such processes, which are replaced at once."""
    pools: list[BatchPool] = []

    def opened(size: int = 1, identity: str = "model-1", **options: Any) -> BatchPool:
        options = {"command": COMMAND, "delays": Delays(0.0, 0.0), **options}
        pools.append(BatchPool(Path("out/ridge"), identity, size, **options))
        pools[-1].start()
        return pools[-1]

    yield opened
    for pool in pools:
        pool.close()


def wait_for(condition: Callable[[], bool], seconds: float = 240.0) -> None:
    """Wait until a condition holds; fails after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def map_after_taken(
    pool: BatchPool, parts: list[Any], monkeypatch: pytest.MonkeyPatch, price_here: Callable[[Any], Any] = here
) -> list[Any]:
    """The results of parts, the first of which a process takes for certain."""
    taken, take = threading.Event(), PartQueue.take

    def take_in_turn(queue: PartQueue) -> int | None:
        if threading.current_thread() is threading.main_thread():
            assert taken.wait(240)
            return take(queue)
        number = take(queue)
        taken.set()
        return number

    with monkeypatch.context() as patch:
        patch.setattr(PartQueue, "take", take_in_turn)
        return pool.map(str, parts, price_here)  # type: ignore[arg-type]


def test_results_are_in_order_and_all_processes_work(open_pool: Callable[..., BatchPool]) -> None:
    pool = open_pool(2)
    wait_for(lambda: pool.ready == 2)

    def slowly(part: Any) -> tuple[int, str]:
        time.sleep(0.002)
        return here(part)

    results = pool.map(str, list(range(300)), slowly)  # type: ignore[arg-type]
    assert [text for _, text in results] == [str(number) for number in range(300)]
    assert len({process for process, _ in results}) == 3


def test_without_a_ready_process_everything_is_priced_here(open_pool: Callable[..., BatchPool]) -> None:
    pool = open_pool(command=(sys.executable, "-c", "import time; time.sleep(600)"))
    assert pool.ready == 0
    assert pool.map(str, [1, 2, 3], here) == [(0, "1"), (0, "2"), (0, "3")]  # type: ignore[arg-type]
    pool.close()
    assert pool.map(str, [1, 2], here) == [(0, "1"), (0, "2")]  # type: ignore[arg-type]


@pytest.mark.parametrize("part", ["die", "cut", "noise"])
def test_a_process_that_dies_in_a_part_loses_nothing_and_is_replaced(
    open_pool: Callable[..., BatchPool], part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = open_pool()
    wait_for(lambda: pool.ready == 1)
    first = pool.processes[0].child
    assert first is not None
    assert [text for _, text in map_after_taken(pool, [part, "last"], monkeypatch)] == [part, "last"]
    wait_for(lambda: pool.processes[0].child is not first and pool.ready == 1)
    assert first.poll() is not None
    results = map_after_taken(pool, ["second", "last"], monkeypatch)
    assert [text for _, text in results] == ["second", "last"]
    assert any(process for process, _ in results)


def test_a_process_that_is_killed_while_it_waits_is_replaced(open_pool: Callable[..., BatchPool]) -> None:
    pool = open_pool()
    wait_for(lambda: pool.ready == 1)
    first = pool.processes[0].child
    assert first is not None
    first.kill()
    wait_for(lambda: pool.processes[0].child is not first and pool.ready == 1)


def test_a_process_that_hangs_is_ended(open_pool: Callable[..., BatchPool], monkeypatch: pytest.MonkeyPatch) -> None:
    pool = open_pool(patience=0.05)
    wait_for(lambda: pool.ready == 1)
    first = pool.processes[0].child
    assert [text for _, text in map_after_taken(pool, ["hang", "last"], monkeypatch)] == ["hang", "last"]
    wait_for(lambda: pool.processes[0].child is not first and pool.ready == 1)


def test_what_fails_in_a_process_is_priced_here_with_its_own_error(
    open_pool: Callable[..., BatchPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = open_pool()
    wait_for(lambda: pool.ready == 1)

    def fail(part: Any) -> Any:
        if part == "fail":
            raise ValueError("this listing cannot be priced")
        return here(part)

    with pytest.raises(ValueError, match="cannot be priced"):
        map_after_taken(pool, ["fail", "last"], monkeypatch, fail)
    assert pool.ready == 1  # the process is not to blame
    assert [text for _, text in map_after_taken(pool, ["later", "last"], monkeypatch)] == ["later", "last"]


def test_an_error_here_waits_for_the_part_in_work(open_pool: Callable[..., BatchPool]) -> None:
    """Else the next batch would get the result of this one. The other process may be done before this one begins."""
    pool = open_pool()
    wait_for(lambda: pool.ready == 1)

    def fail(part: Any) -> Any:
        raise ValueError(part)

    errors = 0
    for number in range(20):
        try:
            pool.map(str, [f"part {number}"] * 500, fail)  # type: ignore[arg-type]
        except ValueError:
            errors += 1
        assert {text for _, text in pool.map(str, ["new"] * 5, here)} == {"new"}  # type: ignore[arg-type]
    assert errors


def test_a_process_with_another_model_is_never_used(
    open_pool: Callable[..., BatchPool], caplog: pytest.LogCaptureFixture
) -> None:
    pool = open_pool(identity="model-2", delays=Delays(0.0, 0.0))
    wait_for(lambda: caplog.text.count("no longer holds the model that is served") >= 2)
    assert pool.ready == 0


class RecordedWaits(threading.Event):
    """Records for how long it is waited, and is set after the last of `count` waits."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.seconds: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout)
        if len(self.seconds) == self.count:
            self.set()
        return self.is_set()


@pytest.mark.parametrize(
    ("command", "steady", "seconds"),
    [
        ((sys.executable, "-c", "pass"), 60.0, [1.0, 2.0, 4.0, 5.0, 5.0]),
        (("/no/such/program",), 60.0, [1.0, 2.0, 4.0, 5.0, 5.0]),
        ((sys.executable, "-c", "pass"), 0.0, [1.0, 1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_a_process_that_ends_again_and_again_is_started_less_and_less_often(
    command: tuple[str, ...], steady: float, seconds: list[float]
) -> None:
    process = BatchProcess(Path("out/ridge"), "model-1", Delays(1.0, 5.0, steady), command)
    process.closing = waits = RecordedWaits(len(seconds))
    process.supervise()
    assert waits.seconds == seconds


def test_closing_ends_the_processes(open_pool: Callable[..., BatchPool]) -> None:
    pool = open_pool(2)
    wait_for(lambda: pool.ready == 2)
    children = [process.child for process in pool.processes]
    pool.close()
    assert all(child is not None and child.poll() is not None for child in children)
    assert pool.ready == 0


def test_a_pool_that_was_never_started_can_be_closed() -> None:
    BatchPool(Path("out/ridge"), "model-1", 2, command=COMMAND).close()


def test_each_part_is_taken_once() -> None:
    queue = PartQueue(list(range(3)))
    assert [queue.take() for _ in range(5)] == [0, 1, 2, None, None]
    queue = PartQueue(list(range(3)))
    queue.stop()
    assert queue.take() is None
