"""HTTP for batch jobs: small JSON calls, an upload, and a download that is read line by line.

Calls that can be repeated without harm are repeated after a lost connection, a 429 or a 5xx, with a growing pause.
The call that creates a job is not: if its outcome is unknown, OutcomeUnknown is raised, and the job is looked for. A
key is sent to its own endpoint only; no redirect is followed.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from pricesmith.core.errors import PricesmithError, UsageError
from pricesmith.pricers.api.errors import clean_message, error_message, read_retry_after
from pricesmith.pricers.api.providers import Endpoint, is_local
from pricesmith.pricers.api.redaction import KeyFilter

if TYPE_CHECKING:
    import httpx2

MAX_TRIES = 6
BACK_OFF, MAX_BACK_OFF = 1.0, 60.0  # seconds; doubled each time, with jitter
MAX_RETRY_AFTER = 600.0  # seconds
RETRY_STATUSES = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
NOT_ACCEPTED = frozenset({429, 503, 529})  # the provider says that it has not taken the request
MAX_JSON_BYTES = 64_000_000  # of a reply that is read into memory
MAX_DOWNLOAD_BYTES = 2_000_000_000
MAX_DOWNLOAD_SECONDS = 7200.0
CHUNK_BYTES = 65_536


@dataclass
class Clock:
    """The time, and how to wait; tests put their own in its place."""

    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


class OutcomeUnknown(PricesmithError):
    """The request that creates a job was sent, and it is unknown whether it arrived."""


class CallFailed(PricesmithError):
    """The provider refused a call. `status` is its HTTP status, 0 if nothing came back; `message` is its own."""

    def __init__(self, what: str, *, status: int, message: str, hint: str) -> None:
        super().__init__(what, got=f"HTTP {status}: {message}" if status else message, hint=hint)
        self.status, self.message = status, message
        self.is_temporary = status <= 0 or status in RETRY_STATUSES


class BatchHttp:
    """Calls to one endpoint, with the headers of its questions. `timeout` in seconds is for each read and write."""

    def __init__(self, endpoint: Endpoint, *, timeout: float = 300.0, clock: Clock | None = None) -> None:
        self.endpoint, self.headers, self.timeout = endpoint, endpoint.headers(), timeout
        self.clock = clock or Clock()
        self.key_filter = KeyFilter(endpoint.secrets)
        self._client: httpx2.Client | None = None

    def client(self) -> httpx2.Client:
        """Return the HTTP client. Raises UsageError if the proxy in the environment cannot be used."""
        if self._client is None:
            import httpx2

            try:
                self._client = httpx2.Client(
                    timeout=httpx2.Timeout(self.timeout, connect=min(self.timeout, 30.0)),
                    limits=httpx2.Limits(max_keepalive_connections=0),
                    follow_redirects=False,
                    trust_env=not is_local(self.endpoint.url),
                    headers={"User-Agent": "pricesmith", "Accept-Encoding": "identity"},
                )
            except (ValueError, ImportError, httpx2.InvalidURL):  # their messages contain the proxy's password
                raise UsageError(
                    "The proxy in the environment cannot be used",
                    got="HTTP_PROXY, HTTPS_PROXY or ALL_PROXY (not shown: it may contain a password)",
                    allowed="http://HOST:PORT or https://HOST:PORT",
                    hint="Correct the variable, or unset it.",
                ) from None
            self.key_filter.add()
        return self._client

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()
            self.key_filter.remove()
            self._client = None

    def call(self, method: str, url: str, *, body: Any = None, creates: bool = False, **options: Any) -> dict[str, Any]:
        """Return the JSON object of a reply. `creates`: the call creates a job, and is not repeated blindly.

        Raises CallFailed if the provider refuses it or cannot be reached, OutcomeUnknown if a job may exist.
        """
        if body is not None:
            options["content"] = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if "content" in options else {}
        for attempt in range(1, MAX_TRIES + 1):
            status, text, wait = self.send(method, url, headers=headers, **options)
            if 200 <= status < 300:
                return self.read_object(text, creates=creates)
            may_exist = creates and (status == -1 or status >= 500 or status == 408) and status not in NOT_ACCEPTED
            if may_exist:
                message = clean_message(error_message(text), self.endpoint.secrets)
                raise OutcomeUnknown("The provider did not say whether it has taken the batch job", got=message)
            retried = status in RETRY_STATUSES or status <= 0
            if not retried or attempt == MAX_TRIES or wait > MAX_RETRY_AFTER:
                raise self.failure(status, text)
            self.pause(attempt, wait)
        raise AssertionError  # the last try raises

    def cancel(self, url: str, body: Any = None) -> None:
        """Ask for the cancellation of a job; that of a job that has ended already is no error."""
        try:
            self.call("POST", url, body=body)
        except CallFailed as error:
            if error.status not in (400, 409):
                raise

    def send(self, method: str, url: str, **options: Any) -> tuple[int, str, float]:
        """Send once; return the status (0: nothing was sent, -1: it may have arrived), the text, and the wait."""
        import httpx2

        try:
            with self.client().stream(
                method, url, **{**options, "headers": {**self.headers, **options.get("headers", {})}}
            ) as response:
                body = read_body(response, MAX_JSON_BYTES, self.clock.now() + 2 * self.timeout, self.clock)
                text = body.decode("utf-8", "replace")
                wait = 0.0 if response.is_success else read_retry_after(response.headers, text) or 0.0
                return response.status_code, text, wait
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.UnsupportedProtocol, httpx2.ProxyError) as error:
            return 0, clean_message(error, self.endpoint.secrets), 0.0
        except (httpx2.HTTPError, httpx2.DecodingError, TimeoutError, OverflowError) as error:
            return -1, clean_message(f"{type(error).__name__}: {error}", self.endpoint.secrets), 0.0

    def read_object(self, text: str, *, creates: bool) -> dict[str, Any]:
        """Return a reply as an object. Raises OutcomeUnknown or CallFailed if it is none."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            return value
        if creates:
            raise OutcomeUnknown("The provider's reply cannot be read", got="invalid JSON")
        raise CallFailed(
            f"{self.endpoint.host} sent a reply that cannot be read",
            status=200,
            message="invalid JSON",
            hint="Run the same command again; batch jobs that were submitted are kept.",
        )

    @contextmanager
    def download(self, url: str) -> Iterator[IO[bytes]]:
        """Download to a temporary file and open it. Raises CallFailed if it cannot be read whole."""
        with tempfile.TemporaryFile() as file:
            for attempt in range(1, MAX_TRIES + 1):
                file.seek(0)
                file.truncate()
                status, text, wait = self.download_once(url, file)
                if 200 <= status < 300:
                    break
                if (status not in RETRY_STATUSES and status > 0) or attempt == MAX_TRIES or wait > MAX_RETRY_AFTER:
                    raise self.failure(status, text)
                self.pause(attempt, wait)
            file.seek(0)
            yield file

    def download_once(self, url: str, file: IO[bytes]) -> tuple[int, str, float]:
        """Write the body of a reply to a file; return the status, the text of an error, and the wait."""
        import httpx2

        try:
            with self.client().stream("GET", url, headers=self.headers) as response:
                deadline = self.clock.now() + MAX_DOWNLOAD_SECONDS
                if not response.is_success:
                    text = read_body(response, MAX_JSON_BYTES, deadline, self.clock).decode("utf-8", "replace")
                    return response.status_code, text, read_retry_after(response.headers, text) or 0.0
                for chunk in bounded(response, MAX_DOWNLOAD_BYTES, deadline, self.clock):
                    file.write(chunk)
                return response.status_code, "", 0.0
        except (httpx2.HTTPError, httpx2.DecodingError, TimeoutError, OverflowError) as error:
            return -1, clean_message(f"{type(error).__name__}: {error}", self.endpoint.secrets), 0.0

    def pause(self, attempt: int, wait: float) -> None:
        """Wait before the next try: as long as the provider asks for, plus a random back-off."""
        self.clock.sleep(wait + random.uniform(0, min(MAX_BACK_OFF, BACK_OFF * 2**attempt)))

    def failure(self, status: int, text: str) -> CallFailed:
        """The error for a call that the provider refuses."""
        message = clean_message(error_message(text), self.endpoint.secrets)
        hint = "Batch jobs that were submitted are kept: fix this and run the same command again."
        if status in (401, 403) and self.endpoint.key_name:
            hint = f"Check the key in {self.endpoint.key_name}. {hint}"
        elif status <= 0 or status in RETRY_STATUSES:
            hint = "Batch jobs that were submitted are kept: run the same command again later."
        verb = "refuses a call about batch jobs" if status > 0 else "does not answer"
        return CallFailed(f"{self.endpoint.host} {verb}", status=max(0, status), message=message, hint=hint)


def read_body(response: httpx2.Response, limit: int, deadline: float, clock: Clock) -> bytes:
    """Return a body. Raises OverflowError above `limit` bytes, TimeoutError after the deadline."""
    return b"".join(bounded(response, limit, deadline, clock))


def bounded(response: httpx2.Response, limit: int, deadline: float, clock: Clock) -> Iterator[bytes]:
    """Yield a body in chunks, within a limit of bytes and a deadline."""
    import httpx2

    if response.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise httpx2.DecodingError("it is compressed, which was not requested", request=response.request)
    size = 0
    for chunk in response.iter_raw(CHUNK_BYTES):
        size += len(chunk)
        if size > limit:
            raise OverflowError(f"over {limit:,} bytes")
        if clock.now() > deadline:
            raise TimeoutError("the body did not arrive in time")
        yield chunk
