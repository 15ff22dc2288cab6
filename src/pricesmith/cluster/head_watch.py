"""Notice that the first node of a Ray cluster is gone, and end the command with an error that says so.

    with watch_head("10.0.0.1:6379"):
        ...

Without its first node a cluster cannot work, and after 60 seconds Ray ends this process with no message at all. So a
thread connects to that node's port every few seconds; if it cannot for `LOST_SECONDS`, an exception is raised in the
main thread, which becomes the error. A main thread that waits inside Ray does not see it (measured: a driver whose
first node was killed): then the watching thread writes the error to standard error and ends the process with exit
code 1.
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pricesmith.core.errors import PricesmithError

PERIOD = 2.0  # seconds between two connections
TIMEOUT = 5.0  # seconds for one of them
LOST_SECONDS = 40.0  # longer than a short failure of the network, and well before Ray's 60 seconds
GRACE = 5.0  # seconds for the main thread to see the exception


class HeadLost(BaseException):
    """Raised in the main thread. Not an interruption: the command line would say that the user has interrupted it."""


class HeadWatch:
    """A thread that connects to HOST:PORT until it is stopped; `lost` once it could not for `LOST_SECONDS`."""

    def __init__(
        self,
        address: str,
        interrupt: Callable[[], object] = lambda: raise_in_main(HeadLost),
        end: Callable[[int], object] = os._exit,
    ) -> None:
        self.address, self.interrupt, self.end, self.lost = address, interrupt, end, False
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run, name="head watch", daemon=True)

    def run(self) -> None:
        """Connect again and again."""
        last = time.monotonic()
        while not self.stopped.wait(PERIOD):
            if answers(self.address):
                last = time.monotonic()
            elif time.monotonic() - last > LOST_SECONDS:
                self.lost = True
                self.interrupt()
                if not self.stopped.wait(GRACE):
                    # Not through sys.stderr, whose lock the main thread may hold.
                    os.write(2, f"\n{self.error()}\n".encode())
                    self.end(1)
                return

    def error(self) -> PricesmithError:
        """What to say when it is lost."""
        return PricesmithError(
            "The first node of the cluster is gone",
            got=f"no answer from {self.address} for {LOST_SECONDS:.0f} seconds",
            allowed="a first node that runs until the end",
            hint="Start Ray again on all nodes, then run the same command again: it resumes.",
        )


def raise_in_main(error: type[BaseException]) -> None:
    """Raise an exception in the main thread, at its next step in Python."""
    main = threading.main_thread().ident
    assert main is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(main), ctypes.py_object(error))


def answers(address: str) -> bool:
    """Whether something accepts connections at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=TIMEOUT).close()
    except OSError:
        return False
    return True


@contextmanager
def watch_head(address: str) -> Iterator[HeadWatch | None]:
    """Raises PricesmithError if the first node at HOST:PORT is lost while the block runs.

    Only a block of the main thread is watched; elsewhere there is no watch.
    """
    if threading.current_thread() is not threading.main_thread():
        yield None
        return
    watch = HeadWatch(address)
    watch.thread.start()
    try:
        yield watch
    except BaseException as error:
        if watch.lost:
            raise watch.error() from error
        raise
    finally:
        watch.stopped.set()
