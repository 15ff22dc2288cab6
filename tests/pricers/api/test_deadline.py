"""A request ends at its deadline, wherever it is stuck, and is not sent after it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pricesmith.pricers.api import deadline
from pricesmith.pricers.api.budget import Budget
from pricesmith.pricers.api.client import ApiClient, Capabilities, CompletionCall, RequestFailed
from pricesmith.pricers.api.deadline import DeadlineExceeded, Exchange, LimitedStream, limit_response, start_clock
from pricesmith.pricers.api.pricer import ApiPricer, PromptOptions
from pricesmith.pricers.api.providers import Endpoint, TokenPrice
from pricesmith.pricers.api.response_cache import ResponseCache
from pricesmith.testing import FakeEndpoint, make_items

TIMEOUT = 0.5


def lost(fake: FakeEndpoint, **more: Any) -> tuple[RequestFailed, ApiClient, float]:
    """What asking an endpoint that never answers comes to, in how many seconds."""
    client = ApiClient(
        fake.endpoint(),
        Budget(),
        Capabilities(),
        max_output_tokens=16,
        timeout=TIMEOUT,
        max_tries=1,
        back_off=0.0,
        **more,
    )
    began = time.monotonic()
    with pytest.raises(RequestFailed) as caught:
        client.complete(CompletionCall([{"role": "user", "content": "a hose"}], 0.5, threading.Event()))
    took = time.monotonic() - began
    client.close()
    return caught.value, client, took


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that listens and accepts no connection."""
    server = socket.create_server(("127.0.0.1", 0), backlog=0)
    yield server
    server.close()


@pytest.mark.parametrize("fault", ["hang", "trickle", "drip"])
def test_a_reply_that_never_ends_is_left_at_its_deadline(fault: str) -> None:
    """Before the headers, within them, within the body; it may be charged for, and its connection is closed."""
    threads = threading.active_count()
    with FakeEndpoint(faults=lambda number, before: fault) as fake:
        error, client, took = lost(fake)
    assert (error.got, error.tries) == ("timeout", 1)
    assert TIMEOUT <= took < TIMEOUT + 3
    assert client.failed_tries_usd == 0.5
    until = time.monotonic() + 10
    while threading.active_count() > threads and time.monotonic() < until:
        time.sleep(0.01)
    assert threading.active_count() <= threads


def test_a_name_that_is_never_found_is_left_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lookup has no time-out of its own. Nothing was sent, so nothing is charged; nor is it sent afterwards."""
    released, look_up = threading.Event(), socket.getaddrinfo

    def slow(*arguments: Any, **named: Any) -> Any:
        released.wait(10)
        return look_up(*arguments, **named)

    with FakeEndpoint() as fake:
        monkeypatch.setattr(socket, "getaddrinfo", slow)
        error, client, took = lost(fake)
        released.set()
        time.sleep(0.3)
        assert fake.requests == []
    assert error.got == "timeout"
    assert took < TIMEOUT + 3
    assert client.failed_tries_usd == 0


def test_a_server_that_accepts_nobody_is_left_at_its_deadline(silent: socket.socket) -> None:
    """Whether the system takes the connection for it or not."""
    with FakeEndpoint() as fake:
        fake.server.server_address = silent.getsockname()
        error, _, took = lost(fake)
    assert error.got == "timeout"
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


LISTINGS = [item.listing for item in make_items(3, seed=5)[0]]
REQUEST = httpx2.Request("POST", "http://127.0.0.1/v1/chat/completions")


class Endless(httpx2.SyncByteStream):
    """A body that never ends."""

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield b"x" * 1_000


def test_a_body_that_drips_is_timed_out_as_a_whole(tmp_path: Path) -> None:
    """A byte now and then is no answer: it is tried again, and counted at its worst."""
    with FakeEndpoint(faults={0: "drip"}) as fake, ResponseCache(tmp_path / "a.sqlite") as cache:
        budget = Budget()
        pricer = ApiPricer(fake.endpoint(), PromptOptions(), cache, budget, currency="USD", timeout=0.4)
        pricer.client.back_off = 0.001
        began = time.perf_counter()
        quotes = pricer.price(LISTINGS)
        took = time.perf_counter() - began
        pricer.close()
    assert [quote.price for quote in quotes] == [24, 24, 24]
    assert pricer.client.error_counts == {"timeout": 1}
    assert budget.failed_tries_usd > 0
    assert took < 5


def test_a_body_without_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may not fill the memory."""
    monkeypatch.setattr(deadline, "MAX_BYTES", 10_000)
    with pytest.raises(httpx2.DecodingError, match="over 10,000 bytes"):
        list(LimitedStream(Endless(), REQUEST, time.monotonic() + 60))


def test_a_packed_body_is_not_unpacked(tmp_path: Path) -> None:
    """It was not asked for, and a small one may be of any size."""
    request = httpx2.Request("POST", "http://127.0.0.1/v1", headers={"Accept-Encoding": "gzip"})
    start_clock(request)
    assert request.headers["accept-encoding"] == "identity"
    reply = httpx2.Response(200, headers={"content-encoding": "gzip"}, stream=Endless(), request=request)
    with pytest.raises(httpx2.DecodingError, match="compressed"):
        limit_response(reply, 1.0)


def test_a_tls_handshake_that_never_ends_stops_at_its_deadline() -> None:
    """The server accepts the connection and sends one byte of the handshake at a time; the budget pays nothing."""
    stop = threading.Event()
    server = socket.create_server(("127.0.0.1", 0))

    def handshake() -> None:
        connection, _ = server.accept()
        with connection:
            try:
                while not stop.wait(0.05):
                    connection.sendall(b"\x16")
            except OSError:  # the client has shut the connection down
                pass

    thread = threading.Thread(target=handshake, daemon=True)
    thread.start()
    url = f"https://127.0.0.1:{server.getsockname()[1]}/v1"
    endpoint = Endpoint("made", url, "made-model", TokenPrice(1.0, 2.0, "2026-11-22", "made"))
    client = ApiClient(
        endpoint, Budget(), Capabilities(), max_output_tokens=16, timeout=TIMEOUT, max_tries=1, back_off=0.0
    )
    start = time.monotonic()
    with pytest.raises(RequestFailed) as caught:
        client.complete(CompletionCall([{"role": "user", "content": "a hose"}], 0.5, threading.Event()))
    took = time.monotonic() - start
    stop.set()
    client.close()
    thread.join(10)
    server.close()
    assert caught.value.got in ("timeout", "no connection")
    assert took < TIMEOUT + 10
    assert client.failed_tries_usd == 0
