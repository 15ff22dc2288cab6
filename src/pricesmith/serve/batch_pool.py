"""Processes that price the parts of a large batch together with the server's own thread.

    pool = BatchPool(folder, identity, size=3)
    pool.start()
    results = pool.map(answer_requests, parts, price_here)      from one thread at a time
    pool.close()

Threads do not help: most of the work holds Python's lock. Each process loads the model folder itself and is used once
it has loaded a model of the same identity. Parts are taken one after another by whoever is free, so that cores of
different speed end together. A part whose process dies, hangs or fails is priced here, and the process is replaced,
after a delay that doubles each time.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

PartFunction = Callable[[Any, Any], Any]  # of a LoadedModel and a part; sent to a process by its name
DONE, FAILED = "done", "failed"

log = logging.getLogger("pricesmith.serve")
COMMAND = (sys.executable, "-P", "-m", "pricesmith.serve.batch_worker")  # -P: no module of the current folder
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # one core for each
PATIENCE = 10.0  # seconds that a part may take at least, and ...
SLOWER = 20  # ... how many times as long as the slowest part that was priced here


@dataclass(frozen=True)
class Delays:
    """Seconds before a process that ended is replaced: `first`, then twice as long each time, at most `longest`. After
    one that ran for `steady` seconds it is `first` again."""

    first: float = 1.0
    longest: float = 600.0
    steady: float = 60.0


class PartQueue:
    """The parts of one batch, taken one after another, and their results."""

    def __init__(self, parts: Sequence[Any]) -> None:
        self.parts = parts
        self.results: list[Any] = [None] * len(parts)  # None: not priced
        self.lock = threading.Lock()
        self.next = 0

    def take(self) -> int | None:
        """The number of the next part; None if there is none left."""
        with self.lock:
            number = self.next
            self.next += 1
        return number if number < len(self.parts) else None

    def stop(self) -> None:
        """Let no part be taken any more."""
        with self.lock:
            self.next = len(self.parts)


class BatchProcess:
    """One process, started again when it has ended. `command` is that of a worker without its folder."""

    def __init__(self, folder: Path, identity: str, delays: Delays, command: Sequence[str] = COMMAND) -> None:
        self.folder, self.identity, self.delays, self.command = folder, identity, delays, command
        self.child: subprocess.Popen[bytes] | None = None
        self.connection: Connection | None = None  # once the process has loaded the model
        self.in_use = threading.Lock()  # of the connection
        self.closing = threading.Event()
        self.thread = threading.Thread(target=self.supervise, name="batch-process", daemon=True)

    def supervise(self) -> None:
        """Start the process and wait for its end, again and again until `close`."""
        delay = self.delays.first
        while not self.closing.is_set():
            begun = time.monotonic()
            try:
                self.run()
            except Exception as error:  # it could not be started, or has ended while it was written to
                log.info("a process for large batches of %s: %r", self.folder.name, error)
            if self.closing.is_set():
                return
            if time.monotonic() - begun >= self.delays.steady:
                delay = self.delays.first
            log.warning("a process for large batches of %s ended; the next starts in %g s", self.folder.name, delay)
            self.closing.wait(delay)
            delay = min(2 * delay, self.delays.longest)

    def run(self) -> None:
        """Start a process, check what it has loaded, and wait for its end."""
        connection, other_end = Pipe()
        try:
            with other_end:  # closed here, so that the connection ends when the process does
                child = self.child = subprocess.Popen(
                    [*self.command, str(self.folder), str(other_end.fileno())],
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, **ONE_THREAD},
                    pass_fds=[other_end.fileno()],
                    start_new_session=True,  # Ctrl-C is for the server
                )
            try:
                self.watch(child, connection)
            finally:
                self.connection = None
                child.kill()
                child.wait()
        finally:
            with self.in_use:  # nobody may read from a file descriptor that is closed, and perhaps used again
                connection.close()

    def watch(self, child: subprocess.Popen[bytes], connection: Connection) -> None:
        """Let the process be used once it has loaded the right model, and wait for its end."""
        if self.closing.is_set():
            return
        if connection.recv() != self.identity:
            log.warning("%s no longer holds the model that is served", self.folder)
            return
        self.connection = connection
        child.wait()

    @property
    def ready(self) -> bool:
        """Whether the process can be used."""
        return self.connection is not None

    def serve(self, function: PartFunction, queue: PartQueue) -> None:
        """Let the process price parts until none is left; one that does not answer as it should is ended."""
        with self.in_use:
            child, connection = self.child, self.connection
            if child is None or connection is None:
                return
            try:
                while (number := queue.take()) is not None:
                    connection.send((function, queue.parts[number]))
                    state, result = connection.recv()
                    if state == DONE:
                        queue.results[number] = result
            except Exception as error:  # it has ended, or was killed while it wrote
                child.kill()
                if not self.closing.is_set():
                    log.warning("a process for large batches of %s did not answer: %r", self.folder.name, error)

    def kill(self) -> None:
        """End the process at once; it is replaced."""
        if self.child is not None:
            self.child.kill()

    def close(self) -> None:
        """End the process for good."""
        self.closing.set()
        self.kill()
        if self.thread.is_alive():
            self.thread.join()


@dataclass
class BatchPool:
    """`size` processes with the model of a folder, which must have this identity."""

    folder: Path
    identity: str
    size: int
    delays: Delays = field(default_factory=Delays)
    command: Sequence[str] = COMMAND
    patience: float = PATIENCE

    def __post_init__(self) -> None:
        self.processes = [BatchProcess(self.folder, self.identity, self.delays, self.command) for _ in range(self.size)]

    def start(self) -> None:
        """Start the processes; they are used when they are ready."""
        for process in self.processes:
            process.thread.start()

    @property
    def ready(self) -> int:
        """The number of processes that can be used."""
        return sum(process.ready for process in self.processes)

    def map(self, function: PartFunction, parts: Sequence[Any], price_here: Callable[[Any], Any]) -> list[Any]:
        """The result of each part, in order, priced by the processes and by `price_here`, whose errors are raised."""
        queue = PartQueue(parts)
        working = {
            process: threading.Thread(target=process.serve, args=(function, queue), name="batch-part", daemon=True)
            for process in self.processes
            if process.ready
        }
        for thread in working.values():
            thread.start()
        slowest = 0.0
        try:
            while (number := queue.take()) is not None:
                begun = time.monotonic()
                queue.results[number] = price_here(parts[number])
                slowest = max(slowest, time.monotonic() - begun)
        finally:
            queue.stop()
            finish(working, max(self.patience, SLOWER * slowest))
        return [
            price_here(part) if result is None else result for part, result in zip(parts, queue.results, strict=True)
        ]

    def close(self) -> None:
        """End all processes."""
        for process in self.processes:
            process.closing.set()
        for process in self.processes:
            process.close()


def finish(working: Mapping[BatchProcess, threading.Thread], patience: float) -> None:
    """Wait for the parts in work; a process that takes longer than `patience` seconds is ended."""
    end = time.monotonic() + patience
    for process, thread in working.items():
        thread.join(max(0.0, end - time.monotonic()))
        if thread.is_alive():
            log.warning("a process for large batches of %s takes too long and is replaced", process.folder.name)
            process.kill()
            thread.join()
