"""Runs work that waits for a network on several threads at once, with a prompt answer to Ctrl-C.

    run_concurrently(ask, requests, 8)

These are plain daemon threads: the program would wait at exit for the threads of an executor, however long they hang.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
GRACE = 10.0  # seconds for requests in flight after an error, so that paid answers still arrive
INTERRUPT_GRACE = 1.0  # seconds for them after Ctrl-C, which must end the command within 2 s


def run_concurrently(
    work: Callable[[T, threading.Event], None],
    tasks: Sequence[T],
    workers: int,
    *,
    grace: float = GRACE,
    interrupt_grace: float = INTERRUPT_GRACE,
) -> None:
    """Call `work(task, stop)` for each task, on at most `workers` threads; returns when all are done.

    The first exception, or Ctrl-C, sets `stop`: no further task starts, tasks in flight have `grace` seconds
    (`interrupt_grace` after Ctrl-C) to finish, and the exception is raised here.
    """
    pending: queue.SimpleQueue[T] = queue.SimpleQueue()
    for task in tasks:
        pending.put(task)
    stop = threading.Event()
    errors: list[BaseException] = []
    n_threads = min(workers, len(tasks))
    # Events, not joins: in Python 3.11 an interrupted join treats its thread as ended.
    finished = [threading.Event() for _ in range(n_threads)]

    def run_tasks(worker: int) -> None:
        try:
            while not stop.is_set():
                work(pending.get_nowait(), stop)
        except queue.Empty:
            pass
        except BaseException as error:
            errors.append(error)
            stop.set()
        finally:
            finished[worker].set()

    started = 0
    try:
        for worker in range(n_threads):
            threading.Thread(target=run_tasks, args=(worker,), daemon=True).start()
            started += 1
        for event in finished:
            while not event.wait(0.1) and not stop.is_set():
                pass
    except BaseException:
        grace = interrupt_grace
        raise
    finally:
        stop.set()
        deadline = time.monotonic() + grace
        for event in finished[:started]:
            event.wait(max(0.0, deadline - time.monotonic()))
    if errors:
        raise errors[0]
