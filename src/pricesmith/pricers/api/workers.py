"""Work that waits for others is done by several threads at once, and can be interrupted.

    together(ask, requests, 8)

Threads of our own and not an executor's: those would be waited for when the program ends, however long they hang.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
GRACE = 10.0  # seconds in which what is in flight may still land after an interruption


def run_concurrently(
    work: Callable[[T, threading.Event], None], tasks: Sequence[T], workers: int, *, grace: float = GRACE
) -> None:
    """Call `work(task, stop)` for each task, on at most `workers` threads; returns when all are done.

    The first exception, or an interruption, sets `stop`: no task is begun any more, what is in flight may land for
    `grace` seconds, and the exception is raised here.
    """
    waiting: queue.SimpleQueue[T] = queue.SimpleQueue()
    for task in tasks:
        waiting.put(task)
    stop = threading.Event()
    errors: list[BaseException] = []
    crew = min(workers, len(tasks))
    finished = [threading.Event() for _ in range(crew)]  # a join that is interrupted takes its thread for ended (3.11)

    def labour(place: int) -> None:
        try:
            while not stop.is_set():
                work(waiting.get_nowait(), stop)
        except queue.Empty:
            pass
        except BaseException as error:
            errors.append(error)
            stop.set()
        finally:
            finished[place].set()

    begun = 0
    try:
        for place in range(crew):
            threading.Thread(target=labour, args=(place,), daemon=True).start()
            begun += 1
        for one in finished:
            while not one.wait(0.1) and not stop.is_set():
                pass
    finally:
        stop.set()
        until = time.monotonic() + grace
        for one in finished[:begun]:
            one.wait(max(0.0, until - time.monotonic()))
    if errors:
        raise errors[0]
