"""Limits of connections: long bodies are refused; slow headers, bodies and readers that hold a connection open are cut.

A body may take `body_timeout` seconds, and one more for every 10 kB that arrived. Only the time counts in which the
application waits for the client.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import h11
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from pricesmith.serve.schemas import error_body

MIN_RATE = 10_000  # bytes a second
CLOSE = {"Connection": "close"}


@dataclass
class BodyLimit:
    """The bytes that the body of one request may have. A route that keeps no body in memory removes the limit."""

    size: int | None


def remove_limit(scope: Scope) -> None:
    """Let the body of a request have any length; the route has a limit of its own."""
    scope["pricesmith.body_limit"].size = None


class BodyLayer:
    """Answers 413 to a request whose body is too long, declared or not, and 408 to one whose body does not arrive in
    time."""

    def __init__(self, app: ASGIApp, seconds: float, max_body: int) -> None:
        self.app, self.seconds, self.max_body = app, seconds, max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = scope["pricesmith.body_limit"] = BodyLimit(self.max_body)
        waited, size, complete = 0.0, 0, False
        clock = asyncio.get_running_loop().time

        async def receive_in_time() -> Message:
            nonlocal waited, size, complete
            if complete:  # what is left to receive is that the client has gone
                return await receive()
            if limit.size is not None and declared_length(scope) > limit.size:
                raise HTTPException(413, headers=CLOSE)
            start = clock()
            try:
                async with asyncio.timeout(max(0.0, self.seconds + size / MIN_RATE - waited)):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, headers=CLOSE) from None
            waited += clock() - start
            size += len(message.get("body", b""))
            if limit.size is not None and size > limit.size:
                raise HTTPException(413, headers=CLOSE)
            complete = message["type"] != "http.request" or not message.get("more_body", False)
            return message

        with suppress(ClientDisconnect):  # nobody is left to answer
            await self.app(scope, receive_in_time, send)


def declared_length(scope: Scope) -> int:
    """The length that a request declares; 0 if it declares none."""
    values = [value for name, value in scope["headers"] if name == b"content-length"]
    return int(values[0]) if values and values[0].isdigit() else 0


def build_protocol(seconds: float) -> type[TimedProtocol]:
    """The protocol with a time limit."""
    return type("Protocol", (TimedProtocol,), {"seconds": seconds})


class TimedProtocol(H11Protocol):
    """The protocol of uvicorn, which closes a connection whose next request does not begin in time, and one that does
    not take its answer in time, and which answers what is no HTTP in the one shape of errors.

    `seconds` are the time from a connection, or the last response, to the whole headers of the next request, and the
    time in which a client that has stopped reading must go on.
    """

    seconds = 30.0
    write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.header_timer = self.loop.call_later(self.seconds, self.close_if_idle)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.header_timer.cancel()
        self.header_timer = self.loop.call_later(self.seconds, self.close_if_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        self.header_timer.cancel()
        self.stop_write_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.stop_write_timer()
        self.write_timer = self.loop.call_later(self.seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.stop_write_timer()

    def stop_write_timer(self) -> None:
        """The client reads again, or has gone."""
        if self.write_timer is not None:
            self.write_timer.cancel()
            self.write_timer = None

    def close_if_idle(self) -> None:
        """Close the connection unless a request is in work. Bytes of half a request do not count."""
        if (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing():
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP request."""
        body: dict[str, Any] = error_body(
            "The request is not valid HTTP, or its headers are too large", next="See RFC 9112."
        )
        content = json.dumps(body).encode()
        headers = [("content-type", "application/json"), ("content-length", str(len(content))), ("connection", "close")]
        try:
            for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=content), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event))
        except h11.LocalProtocolError:  # a response has begun already
            pass
        self.transport.close()
