"""A deadline for a whole request: name lookup, connection, handshake, headers and body together.

    exchange = Exchange()
    reply = exchange.run(send, 3.0)     raises DeadlineExceeded after 3 s, wherever `send` is stuck

The time-outs of httpx are for each read, so that a header that comes letter by letter would never be late, and there is
none for a name lookup. The request therefore runs in a thread of its own. At the deadline its connection is shut down,
and one that was not sent yet will not be.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")
CURRENT: ContextVar[Exchange | None] = ContextVar("CURRENT", default=None)


class DeadlineExceeded(Exception):
    """A request took too long. `sent`: it may have reached the endpoint."""

    def __init__(self, sent: bool) -> None:
        super().__init__("the deadline has passed")
        self.sent = sent


class Exchange:
    """One request and its connection. `trace` is httpx's `trace` extension of the request."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.sent = self.expired = False
        self.connection: socket.socket | None = None

    def run(self, work: Callable[[], T], seconds: float) -> T:
        """What `work` returns or raises. Raises DeadlineExceeded after `seconds`."""
        results: list[T] = []
        errors: list[BaseException] = []
        finished = threading.Event()

        def target() -> None:
            CURRENT.set(self)
            try:
                results.append(work())
            except BaseException as error:
                errors.append(error)
            finally:
                self.close()
                finished.set()

        threading.Thread(target=target, daemon=True).start()
        if not finished.wait(seconds):
            with self.lock:
                self.expired = True
                sent = self.sent
            self.shut_down()
            raise DeadlineExceeded(sent)
        if errors:
            raise errors[0]
        return results[0]

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Follow a request: keep its connection, and stop it before it is sent where the deadline has passed."""
        if event.endswith("connect_tcp.complete"):
            own = info["return_value"].get_extra_info("socket")
            with self.lock:
                if self.connection is None and isinstance(own, socket.socket):
                    self.connection = own.dup()  # TLS replaces the socket by another one for the same connection
        elif event.endswith("send_request_headers.started"):
            with self.lock:
                if self.expired:
                    raise DeadlineExceeded(False)
                self.sent = True

    def shut_down(self) -> None:
        """End the connection, so that the thread that reads from it ends."""
        with self.lock:
            if self.connection is not None:
                with contextlib.suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the connection."""
        with self.lock:
            if self.connection is not None:
                self.connection.close()
                self.connection = None
