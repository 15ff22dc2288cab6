"""An answer takes no longer than it may and is no larger: a body that drips is timed out as a whole.

    begin(request)                the clock starts
    bounded(response, 300.0)      its body raises ReadTimeout after 300 s from there, DecodingError above 8 MB

The time-outs of httpx are for each read, so that one byte every minute would never be late. What comes before the body
is bounded by `deadline`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx2

from pricesmith.pricers.api.deadline import CURRENT

MOST_BYTES = 8_000_000  # of a body; the longest reasoning that is told is below one
LEAST = 0.01  # seconds of a read; 0 would be no waiting at all
BEGAN = "pricesmith.began"


def start_clock(request: httpx2.Request) -> None:
    """Start the clock, and ask for a body that is not packed: a small one can be unpacked to any size."""
    request.extensions[BEGAN] = time.monotonic()
    if (exchange := CURRENT.get()) is not None:
        request.extensions["trace"] = exchange.trace
    request.headers["Accept-Encoding"] = "identity"


def limit_response(response: httpx2.Response, seconds: float) -> None:
    """Bind the body of a response, `seconds` from its request on. Raises DecodingError where it is packed anyway."""
    request = response.request
    packing = response.headers.get("content-encoding", "").strip().lower()
    if packing not in ("", "identity"):
        raise httpx2.DecodingError(f"it is packed ({packing[:20]}), which was not asked for", request=request)
    until = request.extensions.get(BEGAN, time.monotonic()) + seconds
    timeouts = request.extensions.get("timeout")
    if isinstance(timeouts, dict):  # read by httpcore when the body is begun
        timeouts["read"] = max(LEAST, until - time.monotonic())
    assert isinstance(response.stream, httpx2.SyncByteStream)
    response.stream = LimitedStream(response.stream, request, until)


class LimitedStream(httpx2.SyncByteStream):
    """The parts of a body, counted and timed."""

    def __init__(self, stream: httpx2.SyncByteStream, request: httpx2.Request, until: float) -> None:
        self.stream, self.request, self.until = stream, request, until

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for part in self.stream:
            size += len(part)
            if size > MOST_BYTES:
                raise httpx2.DecodingError(f"it is over {MOST_BYTES:,} bytes", request=self.request)
            if time.monotonic() > self.until:
                raise httpx2.ReadTimeout("it was not whole in time", request=self.request)
            yield part

    def close(self) -> None:
        self.stream.close()
