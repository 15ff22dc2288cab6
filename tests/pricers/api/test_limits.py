"""A budget is never exceeded, in whatever order requests end; a request ends at its deadline, wherever it hangs."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricesmith.pricers.api import limits
from pricesmith.pricers.api.client import ApiClient, CompletionCall, RequestFailed
from pricesmith.pricers.api.formats.base import Capabilities
from pricesmith.pricers.api.limits import (
    Allowances,
    Budget,
    BudgetExceeded,
    DeadlineExceeded,
    Exchange,
    LimitedStream,
    limit_response,
    start_clock,
)
from pricesmith.pricers.api.pricer import ApiPricer, PromptOptions
from pricesmith.pricers.api.prices import PriceList
from pricesmith.pricers.api.providers import Endpoint
from pricesmith.pricers.api.response_cache import ResponseCache
from pricesmith.testing import FakeEndpoint, make_items


@given(st.lists(st.tuples(st.floats(0.001, 1), st.floats(0, 1)), max_size=40), st.floats(0.5, 5), st.integers(1, 6))
def test_the_budget_holds_for_any_costs(requests: list[tuple[float, float]], limit: float, workers: int) -> None:
    """At every moment what is spent and what is reserved is within the budget, to rounding."""
    budget = Budget(limit)
    pending = list(requests)
    excesses: list[float] = []

    def work() -> None:
        while True:
            with budget.change:
                if not pending:
                    return
                worst, share = pending.pop()
            try:
                budget.reserve(worst)
            except BudgetExceeded:
                return
            with budget.change:
                excesses.append(budget.spent + budget.reserved - limit)
            budget.commit(worst, worst * share)

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert all(excess <= 1e-9 for excess in excesses)
    assert budget.spent <= limit + 1e-9
    assert budget.reserved == 0


@given(st.floats(0.01, 100), st.lists(st.tuples(st.integers(0, 50), st.floats(0, 1)), min_size=1, max_size=30))
def test_allowances_spread_the_whole_budget_and_no_more(limit: float, batches: list[tuple[int, float]]) -> None:
    """What batches spend of their allowances stays within the budget; if they spend all, the budget is all spent."""
    for spends_all in (False, True):
        budget = Budget(limit)
        allowances = Allowances(budget)
        assert allowances.take(1) is None
        allowances.plan_rows(sum(count for count, _ in batches))
        granted = []
        for count, share in batches:
            allowance = allowances.take(count)
            assert allowance is not None
            assert 0 <= allowance <= limit - budget.spent + 1e-9 * limit
            granted.append(allowance)
            budget.commit(0.0, allowance * (1.0 if spends_all else share))
        assert budget.spent <= limit * (1 + 1e-9)
        assert allowances.rows_left == 0
        if spends_all and any(count for count, _ in batches):
            assert sum(granted) == pytest.approx(limit)


def test_what_a_batch_leaves_is_spread_over_the_rows_after_it() -> None:
    """A quarter of the rows has a quarter of the budget; after an empty batch the others have a third each."""
    budget = Budget(12.0)
    allowances = Allowances(budget)
    allowances.plan_rows(400)
    assert allowances.take(100) == pytest.approx(3.0)
    assert allowances.take(100) == pytest.approx(4.0)
    budget.commit(0.0, 4.0)
    allowances.plan_rows(100)
    assert allowances.take(100) == pytest.approx(8.0)
    budget.commit(0.0, 9.0)
    assert allowances.take(5) == 0.0


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_allowances_of_several_threads_stay_within_the_budget(share: float) -> None:
    """At no moment do threads hold more than what is left; each spends a share of its allowance."""
    budget = Budget(7.0)
    allowances = Allowances(budget)
    allowances.plan_rows(400)
    spent: list[float] = []

    def price_batches() -> None:
        for _ in range(10):
            allowance = allowances.take(5)
            assert allowance is not None
            time.sleep(0.001)
            budget.commit(0.0, share * allowance)
            spent.append(share * allowance)

    threads = [threading.Thread(target=price_batches) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(spent) == 80
    assert sum(spent) == pytest.approx(budget.spent)
    assert budget.spent <= 7.0 * (1 + 1e-9)
    assert budget.spent == pytest.approx(7.0) or share < 1


def test_a_thread_that_ended_gives_its_allowance_back() -> None:
    """What it did not spend is left for the others."""
    budget = Budget(4.0)
    allowances = Allowances(budget)
    allowances.plan_rows(20)
    thread = threading.Thread(target=allowances.take, args=(10,))
    thread.start()
    thread.join(PATIENCE)
    assert allowances.take(10) == pytest.approx(4.0)


def test_a_budget_records_what_may_have_been_spent_before_it_is() -> None:
    """The worst case of a request is on record before it is sent, its cost when its reply is there."""
    budget = Budget(1.0)
    records: list[tuple[float, float]] = []
    budget.record = lambda spent, reserved: records.append((spent, reserved))
    budget.reserve(0.25)
    budget.commit(0.25, 0.125)
    with pytest.raises(BudgetExceeded):
        budget.reserve(1.0)
    assert records == [(0.0, 0.25), (0.125, 0.0)]


def test_a_request_waits_for_what_is_in_flight_and_then_fits() -> None:
    """The worst case of a neighbor is reserved only until it is committed."""
    budget = Budget(1.0)
    budget.reserve(0.9)
    later = threading.Timer(0.2, lambda: budget.commit(0.9, 0.1))
    later.start()
    assert budget.reserve(0.9)
    later.join()
    assert (budget.spent, budget.reserved) == (0.1, 0.9)


def test_what_never_fits_is_refused_at_once() -> None:
    """With what is spent and what the next request would cost."""
    budget = Budget(1.0)
    with pytest.raises(BudgetExceeded, match="does not cover") as caught:
        budget.reserve(1.5)
    assert "up to $1.5000" in str(caught.value)


def test_a_stop_ends_the_waiting() -> None:
    """An interrupted worker does not wait for money."""
    budget, stop = Budget(1.0), threading.Event()
    budget.reserve(1.0)
    stop.set()
    assert not budget.reserve(0.5, stop)


def test_without_a_budget_it_only_counts() -> None:
    """And accepts every reservation."""
    budget = Budget()
    for _ in range(3):
        assert budget.reserve(1e6)
        budget.commit(1e6, 2.0, failed=True)
    assert (budget.spent, budget.failed_tries_usd, budget.reserved) == (6.0, 6.0, 0.0)


def test_an_endpoint_that_costs_more_than_its_worst_case_is_asked_no_more() -> None:
    """No budget holds where the limit of tokens is not kept."""
    budget = Budget(10.0)
    budget.reserve(0.1)
    budget.commit(0.1, 0.5)
    with pytest.raises(BudgetExceeded, match="ignores the limit"):
        budget.reserve(0.1)


def test_one_who_waits_is_not_let_through_after_that() -> None:
    """A pending request may show that the endpoint ignores the token limit, or free enough budget for a waiting one."""
    budget = Budget(1.0)
    budget.reserve(0.1)
    budget.reserve(0.8)

    def end() -> None:
        budget.commit(0.1, 0.2)
        budget.commit(0.8, 0.1)

    later = threading.Timer(0.2, end)
    later.start()
    with pytest.raises(BudgetExceeded, match="ignores the limit"):
        budget.reserve(0.15)
    later.join()


TIMEOUT = 0.5
PATIENCE = 120.0  # seconds that a busy machine may need on top; without the deadline it would be an hour


def lost(fake: FakeEndpoint, timeout: float = TIMEOUT) -> tuple[RequestFailed, ApiClient, float]:
    """What asking an endpoint that never answers comes to, in how many seconds."""
    client = ApiClient(
        fake.endpoint(),
        Budget(),
        Capabilities(),
        max_output_tokens=16,
        timeout=timeout,
        max_tries=1,
        back_off=0.0,
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
    for timeout in (TIMEOUT, 10 * TIMEOUT, 100 * TIMEOUT):
        with FakeEndpoint(faults=lambda number, before: fault) as fake:
            error, client, took = lost(fake, timeout)
        if fake.requests:  # else the machine was too busy to send it in time
            break
    assert (error.got, error.tries) == ("timeout", 1)
    assert timeout <= took < timeout + PATIENCE
    assert client.failed_tries_usd == 0.5
    until = time.monotonic() + PATIENCE
    while threading.active_count() > threads and time.monotonic() < until:
        time.sleep(0.01)
    assert threading.active_count() <= threads


def test_a_name_that_is_never_found_is_left_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lookup has no time-out of its own. Nothing was sent, so nothing is charged; nor is it sent afterwards."""
    released, look_up = threading.Event(), socket.getaddrinfo

    def slow(*arguments: Any, **named: Any) -> Any:
        released.wait(2 * PATIENCE)
        return look_up(*arguments, **named)

    with FakeEndpoint() as fake:
        monkeypatch.setattr(socket, "getaddrinfo", slow)
        error, client, took = lost(fake)
        released.set()
        time.sleep(0.3)
        assert fake.requests == []
    assert error.got == "timeout"
    assert took < TIMEOUT + PATIENCE
    assert client.failed_tries_usd == 0


def test_a_server_that_accepts_nobody_is_left_at_its_deadline(silent: socket.socket) -> None:
    """Whether the system takes the connection for it or not."""
    with FakeEndpoint() as fake:
        fake.server.server_address = silent.getsockname()
        error, _, took = lost(fake)
    assert error.got == "timeout"
    assert took < TIMEOUT + PATIENCE


def test_what_is_done_in_time_comes_back() -> None:
    """A value or an exception, from the other thread."""
    assert Exchange().run(lambda: 7, 5.0) == 7
    with pytest.raises(ZeroDivisionError):
        Exchange().run(lambda: 1 // 0, 5.0)


def test_a_request_is_not_sent_after_its_deadline() -> None:
    """It would be charged for, and nobody waits for its answer."""
    exchange, go, sent = Exchange(), threading.Event(), threading.Event()

    def work() -> None:
        go.wait(PATIENCE)
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
        pricer = ApiPricer(fake.endpoint(), PromptOptions(), cache, budget, currency="USD", timeout=1.0)
        pricer.client.back_off = 0.001
        quotes = pricer.price(LISTINGS)
        pricer.close()
    assert [quote.price for quote in quotes] == [24, 24, 24]
    assert set(pricer.client.error_counts) == {"timeout"}
    assert budget.failed_tries_usd > 0


def test_a_body_without_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may not fill the memory."""
    monkeypatch.setattr(limits, "MAX_BYTES", 10_000)
    with pytest.raises(httpx2.DecodingError, match="over 10,000 bytes"):
        list(LimitedStream(Endless(), REQUEST, time.monotonic() + 240))


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
    endpoint = Endpoint("made", url, "made-model", PriceList.flat(1.0, 2.0, "2026-11-22", "made"))
    client = ApiClient(
        endpoint, Budget(), Capabilities(), max_output_tokens=16, timeout=TIMEOUT, max_tries=1, back_off=0.0
    )
    start = time.monotonic()
    with pytest.raises(RequestFailed) as caught:
        client.complete(CompletionCall([{"role": "user", "content": "a hose"}], 0.5, threading.Event()))
    took = time.monotonic() - start
    stop.set()
    client.close()
    thread.join(PATIENCE)
    server.close()
    assert caught.value.got in ("timeout", "no connection")
    assert took < TIMEOUT + PATIENCE
    assert client.failed_tries_usd == 0


def test_what_batch_jobs_of_the_command_cost_before_leaves_less_for_single_requests() -> None:
    """A command that ended between its batch and its other questions has one budget for both."""
    budget = Budget(1.0)
    budget.earlier = 0.9
    with pytest.raises(BudgetExceeded):
        budget.reserve(0.2)
    assert budget.reserve(0.1)
    assert budget.spent == pytest.approx(0.9)
