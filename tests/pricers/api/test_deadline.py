"""A request ends at its deadline, wherever it is stuck, and is not sent after it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pricesmith.pricers.api.budget import Budget
from pricesmith.pricers.api.capabilities import Capabilities
from pricesmith.pricers.api.client import ApiClient, CompletionCall, RequestFailed
from pricesmith.pricers.api.deadline import DeadlineExceeded, Exchange
from pricesmith.testing import FakeEndpoint

TIMEOUT = 0.5


def lost(fake: FakeEndpoint, **more: Any) -> tuple[RequestFailed, ApiClient, float]:
    """What asking an endpoint that never answers comes to, in how many seconds."""
    wire = ApiClient(
        fake.endpoint(), Budget(), Capabilities(), most_output=16, timeout=TIMEOUT, tries=1, back_off=0.0, **more
    )
    began = time.monotonic()
    with pytest.raises(RequestFailed) as caught:
        wire.ask(CompletionCall([{"role": "user", "content": "a hose"}], 0.5, threading.Event()))
    took = time.monotonic() - began
    wire.close()
    return caught.value, wire, took


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that listens and accepts nobody."""
    server = socket.create_server(("127.0.0.1", 0), backlog=0)
    yield server
    server.close()


@pytest.mark.parametrize("fault", ["hang", "trickle", "drip"])
def test_a_reply_that_never_ends_is_left_at_its_deadline(fault: str) -> None:
    """Before the headers, within them, within the body; it may be charged for, and its connection is closed."""
    threads = threading.active_count()
    with FakeEndpoint(faults=lambda number, before: fault) as fake:
        error, wire, took = lost(fake)
    assert (error.got, error.tries) == ("time-out", 1)
    assert TIMEOUT <= took < TIMEOUT + 3
    assert wire.lost_usd == 0.5
    until = time.monotonic() + 10
    while threading.active_count() > threads and time.monotonic() < until:
        time.sleep(0.01)
    assert threading.active_count() <= threads


def test_a_name_that_is_never_found_is_left_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lookup has no time-out of its own. Nothing was sent, so nothing is charged; nor is it sent afterwards."""
    found, look_up = threading.Event(), socket.getaddrinfo

    def slow(*arguments: Any, **named: Any) -> Any:
        found.wait(10)
        return look_up(*arguments, **named)

    with FakeEndpoint() as fake:
        monkeypatch.setattr(socket, "getaddrinfo", slow)
        error, wire, took = lost(fake)
        found.set()
        time.sleep(0.3)
        assert fake.seen == []
    assert error.got == "time-out"
    assert took < TIMEOUT + 3
    assert wire.lost_usd == 0


def test_a_server_that_accepts_nobody_is_left_at_its_deadline(silent: socket.socket) -> None:
    """Whether the system takes the connection for it or not."""
    with FakeEndpoint() as fake:
        fake.server.server_address = silent.getsockname()
        error, _, took = lost(fake)
    assert error.got == "time-out"
    assert took < TIMEOUT + 3


def test_what_is_done_in_time_comes_back() -> None:
    """A value or an exception, from the other thread."""
    assert Exchange().run(lambda: 7, 5.0) == 7
    with pytest.raises(ZeroDivisionError):
        Exchange().run(lambda: 1 // 0, 5.0)


def test_a_request_is_not_sent_after_its_deadline() -> None:
    """It would be charged for, and nobody waits for its answer."""
    exchange, go, sent = Exchange(), threading.Event(), threading.Event()

    def work() -> None:
        go.wait(10)
        exchange.trace("http11.send_request_headers.started", {})
        sent.set()

    with pytest.raises(DeadlineExceeded) as caught:
        exchange.run(work, 0.05)
    go.set()
    assert not caught.value.sent
    assert not sent.wait(0.2)
