"""Prices from a running `pricesmith serve`, over HTTP; this import loads no numerical library.

    client = ps.Client("http://127.0.0.1:8000")
    client.price("Logitech wireless gaming mouse, 25,600 dpi").price

`Client` waits for each answer, `AsyncClient` has the same methods to await. A request is repeated if that can help: the
server is busy or not ready, or the connection failed before anything was sent. Requests that are safe to repeat, and
those with an idempotency key (batches and sold prices have one), are also repeated after a connection that broke later.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload
from urllib.parse import quote, urlsplit

import httpx2
from tenacity import AsyncRetrying, RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

from pricesmith.client.steps import (
    ClientSteps,
    Described,
    HttpCall,
    PriceAnswer,
    RetryLater,
    Steps,
    Wait,
    many_steps,
    to_error,
)
from pricesmith.core.errors import PricesmithError, UsageError
from pricesmith.core.progress import SILENT, Progress

if TYPE_CHECKING:
    from pricesmith.catalog.dataframes import FrameT

T = TypeVar("T")
MAX_WAIT = 120.0  # seconds that a server may ask to wait before a request is given up
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Connection:
    """The settings of a client, and how it reads responses."""

    def __init__(self, url: str, key: str | None, timeout: float, retries: int) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise UsageError(
                "This is not the URL of a server", got=url if "@" not in url else "", allowed="http://HOST:PORT"
            )
        if key and parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise UsageError(
                "A key is not sent to another machine without encryption", got=url, hint="Use https://, behind a proxy."
            )
        self.url, self.timeout, self.retries, self.steps = url.rstrip("/"), timeout, retries, ClientSteps()
        self.options: dict[str, Any] = {
            "base_url": self.url,
            "timeout": timeout,
            "headers": {"Authorization": f"Bearer {key}"} if key else {},
            "follow_redirects": False,  # a key is for one host
            "trust_env": parts.hostname not in LOOPBACK,  # no proxy between a machine and itself
        }
        self.policy: dict[str, Any] = {
            "stop": stop_after_attempt(retries + 1),
            "wait": pause_before_retry,
            "retry": retry_if_exception_type(RetryLater),
            "reraise": True,
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def read(self, response: httpx2.Response, content: bytes) -> Any:
        """The JSON of a response; None if it is empty. Raises PricesmithError, or RetryLater for a busy server."""
        try:
            value = json.loads(content) if content else None
        except ValueError:
            value = None
        if response.is_success and (value is not None or not content):
            return value
        error = to_error(response.status_code, value.get("error") if isinstance(value, Mapping) else None)
        if response.status_code in (429, 503):
            after = response.headers.get("retry-after", "")
            seconds = float(after) if after.isascii() and after.isdigit() else 0.0
            if seconds <= MAX_WAIT:
                raise RetryLater(error, seconds)
        raise error

    def to_failure(self, call: HttpCall, error: httpx2.TransportError) -> Exception:
        """The exception for a connection that failed: RetryLater if the request may be sent again."""
        failed = PricesmithError(
            f"The server at {self.url} does not answer",
            got=type(error).__name__,
            hint="Check the URL, and that `pricesmith serve` is running.",
        )
        not_sent = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)
        return RetryLater(failed) if not_sent or call.repeatable else failed

    def arguments(self, call: HttpCall, stack: ExitStack) -> dict[str, Any]:
        """The keywords of a request of the HTTP library; an uploaded file is opened in `stack`."""
        arguments: dict[str, Any] = {"params": dict(call.params), "headers": dict(call.headers)}
        if call.json is not None:
            arguments["json"] = call.json
        if call.upload is not None:
            handle = stack.enter_context(call.upload.open("rb"))
            arguments |= {"files": {"file": (call.upload.name, handle)}, "data": dict(call.form)}
        return arguments


def pause_before_retry(state: RetryCallState) -> float:
    """What the server asks for, and a random time that doubles with each try, at most 30 seconds."""
    assert state.outcome is not None
    error = state.outcome.exception()
    asked = error.seconds if isinstance(error, RetryLater) else 0.0
    return asked + random.uniform(0, min(30.0, 0.25 * 2.0**state.attempt_number))


class Client(Connection):
    """A client of `pricesmith serve`, for one thread or several. It is a context manager.

    `key` is needed if the server has keys; `timeout` is in seconds for each request, which is repeated up to `retries`
    times. Errors of the server are UsageError if the request is wrong, else PricesmithError, with its words.

    >>> with Client(url) as client:
    ...     answer = client.price("Cobalt drill, size 12 kg")
    >>> answer.low < answer.price < answer.high
    True
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout: float = 60.0,
        retries: int = 5,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(url, key, timeout, retries)
        self.http, self.sleep = httpx2.Client(**self.options), sleep

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self.http.close()

    def price(self, listing: Described, *, model: str = "", comparables: int = 0, explain: bool = False) -> PriceAnswer:
        """The price of one listing: a text, a dict with title, text, category, brand and columns, or a Listing.

        Raises UsageError if it cannot be priced.
        """
        return self.run(self.steps.price(listing, model, comparables, explain))

    @overload
    def price_many(
        self, listings: Sequence[Described], *, model: str = "", comparables: int = 0
    ) -> list[PriceAnswer]: ...
    @overload
    def price_many(self, listings: FrameT, *, model: str = "", comparables: int = 0) -> FrameT: ...
    def price_many(self, listings: Any, *, model: str = "", comparables: int = 0) -> Any:
        """The prices of many listings, in order; one that cannot be priced has none, and `note` says why.

        A DataFrame of pandas, polars or pyarrow comes back with the columns `price`, `low`, `high` and `note`.
        """
        return self.run(many_steps(self.steps, listings, model, comparables))

    def price_file(
        self,
        file: Path | str,
        to: Path | str,
        *,
        model: str = "",
        comparables: int = 0,
        mapping: Mapping[str, str] | None = None,
        overwrite: bool = False,
        progress: Progress = SILENT,
        poll: float = 0.5,
    ) -> dict[str, Any]:
        """Upload a file, wait until its rows are priced, and write them to `to` (.csv, .xlsx, .parquet, .jsonl), whole
        or not at all; returns the counts. `poll` are the seconds between questions how far it is."""
        args = (Path(file), Path(to), model, comparables, mapping or {}, overwrite, progress, poll)
        return self.run(self.steps.price_file(*args))

    def feedback(
        self,
        sold_price: float,
        listing: Described | None = None,
        *,
        quote_id: str = "",
        currency: str = "",
        sold_on: date | str | None = None,
    ) -> str:
        """Record what a listing was sold for; the id of the record. Its text is stored."""
        return self.run(self.steps.feedback(sold_price, listing, quote_id, currency, sold_on))

    def delete_feedback(self, feedback_id: str) -> None:
        """Delete a sold price."""
        self.run(self.steps.call("DELETE", f"/v1/feedback/{quote(feedback_id, safe='')}"))

    def models(self) -> list[dict[str, Any]]:
        """The served models, the default one first."""
        return list(self.run(self.steps.call("GET", "/v1/models"))["models"])

    def reload(self, model: str = "", *, force: bool = False) -> dict[str, Any]:
        """Load a model again from its folder. Raises UsageError if it is significantly worse, unless `force`."""
        return dict(self.run(self.steps.call("POST", "/v1/models/reload", {"model": model, "force": force})))

    def run(self, steps: Steps[T]) -> T:
        """Do the steps one after another."""
        value, failure = None, None
        while True:
            try:
                step = steps.throw(failure) if failure is not None else steps.send(value)
            except StopIteration as end:
                result: T = end.value
                return result
            value, failure = None, None
            try:
                value = self.do(step)
            except BaseException as error:
                failure = error

    def do(self, step: HttpCall | Wait) -> Any:
        """The result of one step."""
        if isinstance(step, Wait):
            self.sleep(step.seconds)
            return None
        try:
            return Retrying(**self.policy, sleep=self.sleep)(self.send, step)
        except RetryLater as error:
            raise error.error from None

    def send(self, call: HttpCall) -> Any:
        """Send a request once."""
        with ExitStack() as stack:
            arguments = self.arguments(call, stack)
            try:
                response = stack.enter_context(self.http.stream(call.method, call.path, **arguments))
                if call.save_to is not None and response.is_success:
                    with call.save_to.open("wb") as out:
                        for part in response.iter_bytes():
                            out.write(part)
                    return None
                return self.read(response, response.read())
            except httpx2.TransportError as error:
                raise self.to_failure(call, error) from None


class AsyncClient(Connection):
    """The same as `Client`, with methods to await."""

    def __init__(self, url: str, key: str | None = None, *, timeout: float = 60.0, retries: int = 5) -> None:
        super().__init__(url, key, timeout, retries)
        self.http = httpx2.AsyncClient(**self.options)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self.http.aclose()

    async def price(
        self, listing: Described, *, model: str = "", comparables: int = 0, explain: bool = False
    ) -> PriceAnswer:
        """As `Client.price`."""
        return await self.run(self.steps.price(listing, model, comparables, explain))

    @overload
    async def price_many(
        self, listings: Sequence[Described], *, model: str = "", comparables: int = 0
    ) -> list[PriceAnswer]: ...
    @overload
    async def price_many(self, listings: FrameT, *, model: str = "", comparables: int = 0) -> FrameT: ...
    async def price_many(self, listings: Any, *, model: str = "", comparables: int = 0) -> Any:
        """As `Client.price_many`."""
        return await self.run(many_steps(self.steps, listings, model, comparables))

    async def price_file(
        self,
        file: Path | str,
        to: Path | str,
        *,
        model: str = "",
        comparables: int = 0,
        mapping: Mapping[str, str] | None = None,
        overwrite: bool = False,
        progress: Progress = SILENT,
        poll: float = 0.5,
    ) -> dict[str, Any]:
        """As `Client.price_file`."""
        args = (Path(file), Path(to), model, comparables, mapping or {}, overwrite, progress, poll)
        return await self.run(self.steps.price_file(*args))

    async def feedback(
        self,
        sold_price: float,
        listing: Described | None = None,
        *,
        quote_id: str = "",
        currency: str = "",
        sold_on: date | str | None = None,
    ) -> str:
        """As `Client.feedback`."""
        return await self.run(self.steps.feedback(sold_price, listing, quote_id, currency, sold_on))

    async def delete_feedback(self, feedback_id: str) -> None:
        """As `Client.delete_feedback`."""
        await self.run(self.steps.call("DELETE", f"/v1/feedback/{quote(feedback_id, safe='')}"))

    async def models(self) -> list[dict[str, Any]]:
        """As `Client.models`."""
        return list((await self.run(self.steps.call("GET", "/v1/models")))["models"])

    async def reload(self, model: str = "", *, force: bool = False) -> dict[str, Any]:
        """As `Client.reload`."""
        return dict(await self.run(self.steps.call("POST", "/v1/models/reload", {"model": model, "force": force})))

    async def run(self, steps: Steps[T]) -> T:
        """Do the steps one after another."""
        value, failure = None, None
        while True:
            try:
                step = steps.throw(failure) if failure is not None else steps.send(value)
            except StopIteration as end:
                result: T = end.value
                return result
            value, failure = None, None
            try:
                value = await self.do(step)
            except BaseException as error:
                failure = error

    async def do(self, step: HttpCall | Wait) -> Any:
        """The result of one step."""
        if isinstance(step, Wait):
            await asyncio.sleep(step.seconds)
            return None
        try:
            return await AsyncRetrying(**self.policy)(self.send, step)
        except RetryLater as error:
            raise error.error from None

    async def send(self, call: HttpCall) -> Any:
        """Send a request once."""
        with ExitStack() as stack:
            arguments = self.arguments(call, stack)
            try:
                async with self.http.stream(call.method, call.path, **arguments) as response:
                    if call.save_to is not None and response.is_success:
                        with call.save_to.open("wb") as out:
                            async for part in response.aiter_bytes():
                                out.write(part)
                        return None
                    return self.read(response, await response.aread())
            except httpx2.TransportError as error:
                raise self.to_failure(call, error) from None
