"""Limits of one request: a deadline for all of it, and a maximum size of the response body.

    exchange = Exchange()
    reply = exchange.run(send, 3.0)     raises DeadlineExceeded after 3 s, in whatever phase `send` hangs

The timeouts of httpx apply to each read, so a header or body that arrives byte by byte never times out, and a name
lookup has no timeout at all. The request therefore runs in its own thread. At the deadline its connection is shut
down, and a request that has not been sent yet is never sent. `start_clock` and `limit_response` are the event hooks
that bound the body.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

import httpx2

T = TypeVar("T")
CURRENT: ContextVar[Exchange | None] = ContextVar("CURRENT", default=None)
MAX_BYTES = 8_000_000  # of a body; the longest known reasoning output is below 1 MB
MIN_READ_TIMEOUT = 0.01  # seconds; httpx treats 0 as no waiting at all
START_TIME = "pricesmith.start_time"


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
        """Return what `work` returns or raise what it raises. Raises DeadlineExceeded after `seconds`."""
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
        """Record the connection of a request, and stop the request before it is sent if the deadline has passed."""
        if event.endswith("connect_tcp.complete"):
            connection = info["return_value"].get_extra_info("socket")
            with self.lock:
                if self.connection is None and isinstance(connection, socket.socket):
                    self.connection = connection.dup()  # TLS replaces the socket by another one for the same connection
        elif event.endswith("send_request_headers.started"):
            with self.lock:
                if self.expired:
                    raise DeadlineExceeded(False)
                self.sent = True

    def shut_down(self) -> None:
        """Shut the connection down, so that the thread reading from it ends."""
        with self.lock:
            if self.connection is not None:
                with contextlib.suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the duplicate of the connection."""
        with self.lock:
            if self.connection is not None:
                self.connection.close()
                self.connection = None


def start_clock(request: httpx2.Request) -> None:
    """Record when a request starts, and ask for an uncompressed body: a small one can expand to any size."""
    request.extensions[START_TIME] = time.monotonic()
    if (exchange := CURRENT.get()) is not None:
        request.extensions["trace"] = exchange.trace
    request.headers["Accept-Encoding"] = "identity"


def limit_response(response: httpx2.Response, seconds: float) -> None:
    """Bound the body of a response in size, and to `seconds` from the start of its request.

    Raises DecodingError if the body is compressed, which was not asked for.
    """
    request = response.request
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        raise httpx2.DecodingError(f"it is compressed ({encoding[:20]}), which was not requested", request=request)
    deadline = request.extensions.get(START_TIME, time.monotonic()) + seconds
    timeouts = request.extensions.get("timeout")
    if isinstance(timeouts, dict):  # httpcore reads it when it starts reading the body
        timeouts["read"] = max(MIN_READ_TIMEOUT, deadline - time.monotonic())
    assert isinstance(response.stream, httpx2.SyncByteStream)
    response.stream = LimitedStream(response.stream, request, deadline)


class LimitedStream(httpx2.SyncByteStream):
    """The chunks of a body, with a maximum total size and a deadline (in `time.monotonic` seconds)."""

    def __init__(self, stream: httpx2.SyncByteStream, request: httpx2.Request, deadline: float) -> None:
        self.stream, self.request, self.deadline = stream, request, deadline

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for chunk in self.stream:
            size += len(chunk)
            if size > MAX_BYTES:
                raise httpx2.DecodingError(f"it is over {MAX_BYTES:,} bytes", request=self.request)
            if time.monotonic() > self.deadline:
                raise httpx2.ReadTimeout("the body did not arrive in time", request=self.request)
            yield chunk

    def close(self) -> None:
        self.stream.close()
