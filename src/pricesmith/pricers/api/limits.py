"""The limits of requests to an API model: dollars, seconds, bytes, and how many run at once.

    budget = Budget(5.0)
    budget.reserve(0.04)          waits while requests in flight may still free enough; raises BudgetExceeded if not
    budget.commit(0.04, 0.002)

    allowances = Allowances(budget)
    allowances.plan_rows(20_000)
    allowances.take(5_000)        a quarter of the budget; then a third of what is left, ...

    reply = Exchange().run(send, 3.0)       raises DeadlineExceeded after 3 s, in whatever phase `send` hangs
    run_concurrently(ask, requests, 8)

Each request reserves its worst-case cost before it is sent, so the budget is never exceeded. A request whose reply
never arrived counts at its worst case, because the endpoint may charge for it.

The timeouts of httpx apply to each read, so a header or body that arrives byte by byte never times out, and a name
lookup has no timeout at all. The request therefore runs in its own thread. At the deadline its connection is shut
down, and a request that has not been sent yet is never sent. `start_clock` and `limit_response` are the event hooks
that bound the body.

Threads are plain daemon threads: the program would wait at exit for the threads of an executor, however long they hang.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, TypeVar

import httpx2

from pricesmith.core.errors import PricesmithError

ROUNDING = 1e-9
MAX_FAILED_SHARE = 0.02  # of a batch (of at least 100) without a reply; above it the endpoint counts as down


def max_failed(n_requests: int) -> int:
    """Return how many of so many requests may have no reply before the endpoint counts as down."""
    return int(MAX_FAILED_SHARE * max(100, n_requests))


class BudgetExceeded(PricesmithError):
    """The rest of the budget does not cover the worst-case cost of the next request."""


class Budget:
    """A spending limit in US dollars shared by all requests of a command. Without a limit it only counts.

    `earlier` is what finished batch jobs of the same command cost when it ran before: it counts as spent as soon as the
    command asks anything more.
    `failed_tries_usd` is the part of `spent` for requests whose reply never arrived. `record` is called with `spent`
    and `reserved` before a request is sent and after its reply.
    """

    def __init__(self, limit: float | None = None) -> None:
        self.limit = limit
        self.spent = self.reserved = self.failed_tries_usd = self.earlier = 0.0
        self.overrun = False
        self.record: Callable[[float, float], None] = lambda spent, reserved: None
        self.change = threading.Condition()

    def reserve(self, worst: float, stop: threading.Event | None = None) -> bool:
        """Reserve the worst-case cost of a request, waiting for requests in flight if needed; False if `stop` is set.

        Raises BudgetExceeded if nothing is in flight and the request does not fit.
        """
        with self.change:
            self.check_overrun()
            self.spent, self.earlier = self.spent + self.earlier, 0.0
            while self.limit is not None and self.spent + self.reserved + worst > self.limit:
                if stop is not None and stop.is_set():
                    return False
                if self.reserved <= 0:
                    raise self.exceeded_error(worst)
                self.change.wait(0.1)
                self.check_overrun()
            self.record(self.spent, self.reserved + worst)
            self.reserved += worst
            return True

    def commit(self, worst: float, cost: float, *, failed: bool = False) -> None:
        """Replace a reservation by the actual cost of its request. `failed`: its reply never arrived.

        A cost above the worst case means that the endpoint ignores the token limit, so no further request is allowed.
        """
        with self.change:
            self.reserved = self.reserved - worst if self.reserved - worst > 1e-12 else 0.0
            self.spent += cost
            self.failed_tries_usd += cost if failed else 0.0
            self.overrun = self.overrun or (self.limit is not None and cost > worst * (1 + ROUNDING))
            self.change.notify_all()
            self.record(self.spent, self.reserved)

    def check_overrun(self) -> None:
        """Raise BudgetExceeded if a reply has cost more than its worst case."""
        if self.overrun:
            raise BudgetExceeded(
                "The endpoint ignores the limit of output tokens, so --budget cannot be guaranteed",
                got=f"${self.spent:.4f} spent",
                hint="All answers so far are cached. Ask this endpoint without --budget, or use another one.",
            )

    def exceeded_error(self, worst: float) -> BudgetExceeded:
        """The error if the budget does not cover another request."""
        assert self.limit is not None
        hint = "All answers so far are cached and free: run the command again with a higher --budget, or --limit."
        if not self.spent:  # --limit would not help, and no answer of this command is left behind
            hint = (
                "Use a higher --budget (answers so far are cached and free), or a smaller max_output_tokens= after "
                "the @, which makes the worst case of a request smaller."
            )
        return BudgetExceeded(
            "The budget does not cover another request",
            got=f"${self.spent:.4f} of ${self.limit:g} spent; the next request costs up to ${worst:.4f}",
            hint=hint,
        )


class Allowances:
    """Spreads what is left of a budget over rows that are priced in batches.

    A thread's allowance ends when it takes the next one. What it did not spend is then spread over the rows that are
    left. While several threads hold allowances, all of them count as spent, so that together they never exceed the
    budget; what they leave comes back when no other thread holds one.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.rows_left: int | None = None
        self.spent_before = self.granted = 0.0  # since no thread held an allowance
        self.holders: weakref.WeakSet[threading.Thread] = weakref.WeakSet()

    def plan_rows(self, count: int) -> None:
        """Set the number of rows that are still to be priced."""
        with self.budget.change:
            self.rows_left = count

    def take(self, count: int) -> float | None:
        """Return the US dollars that the next `count` rows may cost; None without a budget or a planned number."""
        budget = self.budget
        with budget.change:
            if budget.limit is None or self.rows_left is None:
                return None
            self.holders.discard(threading.current_thread())
            if not any(thread.is_alive() for thread in self.holders):
                self.holders.clear()
                self.spent_before, self.granted = budget.spent, 0.0
            used = max(budget.spent + budget.reserved, self.spent_before + self.granted)
            allowance = max(0.0, budget.limit - used) * (count / max(count, self.rows_left, 1))
            self.rows_left = max(0, self.rows_left - count)
            self.granted += allowance
            self.holders.add(threading.current_thread())
            return allowance


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


GRACE = 10.0  # seconds for requests in flight after an error, so that paid answers still arrive
INTERRUPT_GRACE = 1.0  # seconds for them after Ctrl-C, which must end the command within 2 s


def run_concurrently(
    work: Callable[[T, threading.Event], None],
    tasks: Sequence[T],
    workers: int,
    *,
    grace: float = GRACE,
    interrupt_grace: float = INTERRUPT_GRACE,
) -> None:
    """Call `work(task, stop)` for each task, on at most `workers` threads; returns when all are done.

    The first exception, or Ctrl-C, sets `stop`: no further task starts, tasks in flight have `grace` seconds
    (`interrupt_grace` after Ctrl-C) to finish, and the exception is raised here.
    """
    pending: queue.SimpleQueue[T] = queue.SimpleQueue()
    for task in tasks:
        pending.put(task)
    stop = threading.Event()
    errors: list[BaseException] = []
    n_threads = min(workers, len(tasks))
    # Events, not joins: in Python 3.11 an interrupted join treats its thread as ended.
    finished = [threading.Event() for _ in range(n_threads)]

    def run_tasks(worker: int) -> None:
        try:
            while not stop.is_set():
                work(pending.get_nowait(), stop)
        except queue.Empty:
            pass
        except BaseException as error:
            errors.append(error)
            stop.set()
        finally:
            finished[worker].set()

    started = 0
    try:
        for worker in range(n_threads):
            threading.Thread(target=run_tasks, args=(worker,), daemon=True).start()
            started += 1
        for event in finished:
            while not event.wait(0.1) and not stop.is_set():
                pass
    except BaseException:
        grace = interrupt_grace
        raise
    finally:
        stop.set()
        deadline = time.monotonic() + grace
        for event in finished[:started]:
            event.wait(max(0.0, deadline - time.monotonic()))
    if errors:
        raise errors[0]
