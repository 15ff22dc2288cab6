"""What a server has done, for Prometheus: requests, times, batches, queues, listings, files, the log and API fees.

Each application has its own registry. No label comes from a request: routes are named by their templates.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pricesmith import __version__
from pricesmith.serve.engine import Engine
from pricesmith.serve.service import Service

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
METHODS = frozenset(("GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH"))
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # seconds
MAX_DIGITS = 15  # binary digits of the longest batch with a bucket of its own
COUNT_SECONDS = 30.0  # the rows of the log are counted at most so often


class Metrics:
    """The metrics of one application."""

    def __init__(self, service: Service) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self.requests = Counter(
            "pricesmith_requests", "Requests answered", ("route", "method", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "pricesmith_request_seconds", "Time of a request", ("route",), buckets=BUCKETS, registry=self.registry
        )
        self.registry.register(ServiceCollector(service))
        self.children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def observe(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        route = getattr(scope.get("route"), "path", "other") if status != 404 or "route" in scope else "other"
        method = scope["method"] if scope["method"] in METHODS else "other"
        pair = self.children.get((route, method, status))
        if pair is None:  # at most as many as there are routes, methods and statuses
            pair = self.requests.labels(route, method, str(status)), self.seconds.labels(route)
            self.children[route, method, status] = pair
        pair[0].inc()
        pair[1].observe(seconds)

    def write(self) -> tuple[bytes, str]:
        """All metrics as text, and its media type."""
        return generate_latest(self.registry), MEDIA_TYPE


class MetricsLayer:
    """Counts and times all requests, those that are refused too."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, start = 499, time.perf_counter()  # the client has gone, unless a response begins

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_and_note)
        except Exception:
            status = 500
            raise
        finally:
            self.metrics.observe(scope, status, time.perf_counter() - start)


class ServiceCollector(Collector):
    """Reads what the service itself counts, when it is asked."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.log_rows: dict[str, int] = {}
        self.counted_at = -COUNT_SECONDS

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        engines = list(self.service.engines.values())
        yield count("pricesmith_listings", "Listings that were priced or refused", engines, "priced")
        yield count("pricesmith_listings_without_price", "Listings without a price", engines, "unanswered")
        yield count("pricesmith_failed_requests", "Requests that a model failed to price", engines, "failed")
        waiting = GaugeMetricFamily("pricesmith_waiting_listings", "Listings that wait to be priced", labels=["model"])
        sizes = HistogramMetricFamily("pricesmith_batch_listings", "Listings priced together", labels=["model"])
        processes = GaugeMetricFamily(
            "pricesmith_batch_processes", "Processes that can price parts of large batches", labels=["model"]
        )
        info = InfoMetricFamily("pricesmith_model", "Served models", labels=["model"])
        for engine in engines:
            waiting.add_metric([engine.name], engine.waiting)
            sizes.add_metric([engine.name], size_buckets(engine), sum_value=engine.priced)
            processes.add_metric([engine.name], engine.loaded.processes)
            info.add_metric([engine.name], describe_engine(engine))
        yield from (waiting, sizes, processes, info)
        yield GaugeMetricFamily("pricesmith_ready", "Whether all models are loaded", value=int(self.service.ready))
        yield from self.collect_files()
        yield from self.collect_log()
        yield from self.collect_spending()

    def collect_files(self) -> Iterator[Metric]:
        """Uploaded files by their state."""
        states = [job.record.state for job in list(self.service.jobs.jobs.values())]
        files = GaugeMetricFamily("pricesmith_files", "Uploaded files", labels=["state"])
        for state in ("waiting", "counting", "pricing", "done", "failed"):
            files.add_metric([state], states.count(state))
        yield files

    def collect_log(self) -> Iterator[Metric]:
        """Rows of the log; none without a log, and while it cannot be read."""
        if self.service.log is None:
            return
        if time.monotonic() - self.counted_at > COUNT_SECONDS:
            try:
                self.log_rows = self.service.log.count_rows()
            except Exception:  # a log that is damaged or gone: requests say so, metrics must not fail
                self.log_rows = {}
            self.counted_at = time.monotonic()
        rows = GaugeMetricFamily("pricesmith_log_rows", "Rows of the log", labels=["table"])
        for table, number in self.log_rows.items():
            rows.add_metric([table], number)
        yield rows

    def collect_spending(self) -> Iterator[Metric]:
        """What API models cost today, and may cost."""
        budget = self.service.spending.budget
        if not any(engine.model.asks_api for engine in self.service.engines.values()):
            return
        yield GaugeMetricFamily("pricesmith_api_usd_today", "US dollars spent today (UTC)", value=budget.spent)
        if budget.limit is not None:
            yield GaugeMetricFamily("pricesmith_api_usd_per_day", "US dollars allowed in a day", value=budget.limit)


def count(name: str, text: str, engines: list[Engine], attribute: str) -> Metric:
    """A counter of each model."""
    family = CounterMetricFamily(name, text, labels=["model"])
    for engine in engines:
        family.add_metric([engine.name], getattr(engine, attribute))
    return family


def size_buckets(engine: Engine) -> list[Any]:
    """The numbers of batches of up to 1, 3, 7, ... listings, and of all."""
    total, buckets = 0, []
    for digits in range(1, MAX_DIGITS + 1):
        total += engine.sizes[digits]
        buckets.append((str(float(2**digits - 1)), total))
    return [*buckets, ("+Inf", engine.batches)]


def describe_engine(engine: Engine) -> dict[str, str]:
    """The facts of a served model."""
    model = engine.model
    return {
        "kind": str(model.manifest["kind"]),
        "identity": model.identity,
        "currency": str(model.info["currency"]),
        "version": __version__,
    }
