"""Time limits of connections, without a network."""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from pricesmith.serve.timeouts import TimedProtocol, build_protocol


class Transport(asyncio.Transport):
    """A connection that notes how it ends."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return self.ended.done()

    def close(self) -> None:
        self.ended.set_result("closed")

    def abort(self) -> None:
        self.ended.set_result("aborted")


def open_connection() -> tuple[TimedProtocol, Transport]:
    """A connection with a time limit of 0.02 seconds."""
    config = uvicorn.Config(lambda *_: None, log_config=None)
    protocol, transport = build_protocol(0.02)(config, ServerState(), {}), Transport()
    protocol.connection_made(transport)
    return protocol, transport


def test_a_connection_without_a_whole_request_is_closed() -> None:
    async def work() -> str:
        protocol, transport = open_connection()
        protocol.data_received(b"GET / HTTP/1.1\r\nHost: a")
        return await asyncio.wait_for(transport.ended, 240)

    assert asyncio.run(work()) == "closed"


def test_a_client_that_does_not_read_its_answer_is_cut() -> None:
    async def work() -> str:
        protocol, transport = open_connection()
        protocol.header_timer.cancel()
        protocol.pause_writing()
        return await asyncio.wait_for(transport.ended, 240)

    assert asyncio.run(work()) == "aborted"


def test_a_client_that_reads_on_is_not_cut() -> None:
    async def work() -> tuple[bool, bool]:
        protocol, transport = open_connection()
        protocol.header_timer.cancel()
        protocol.pause_writing()
        protocol.resume_writing()
        await asyncio.sleep(0.05)
        ended = transport.is_closing()
        protocol.pause_writing()
        protocol.connection_lost(None)
        return ended, protocol.write_timer is None

    assert asyncio.run(work()) == (False, True)
