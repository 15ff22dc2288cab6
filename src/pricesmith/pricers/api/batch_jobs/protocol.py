"""What a provider's batch API does, in the same terms for all of them.

A provider is asked to create a job once. `create` raises OutcomeUnknown if the job may exist; then `find` looks for it:
exactly, by the id of the job where the provider stores one, or else by its time and size (`is_exact` is False).
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Literal, Protocol

from pricesmith.pricers.api.batch_jobs.http import OutcomeUnknown
from pricesmith.pricers.api.batch_jobs.sharding import BatchLimits

RemoteState = Literal["waiting", "running", "cancelling", "completed", "expired", "cancelled", "rejected"]
ENDED = frozenset({"completed", "expired", "cancelled", "rejected"})
MAX_LINE_BYTES = 2_000_000  # of one line of a results file
MAX_PAGES = 200  # of a listing of jobs
CLOCK_SKEW = 3600.0  # seconds by which the provider's clock may differ from this machine's
REMOTE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,199}")


@dataclass(frozen=True)
class LineError:
    """Why a provider rejected a job: a code and a message, about one line of its file (from 1) or all (None)."""

    code: str
    message: str
    line: int | None = None


@dataclass(frozen=True)
class RemoteJob:
    """A job as its provider describes it. Counts are None if they are unknown; `created` is a Unix time.

    `results` are where the results are: ids of files, or nothing if they are in `content`.
    """

    id: str
    state: RemoteState
    total: int | None = None
    finished: int | None = None
    failed: int | None = None
    created: float | None = None
    results: tuple[str, ...] = ()
    errors: tuple[LineError, ...] = ()
    content: Any = None


@dataclass(frozen=True)
class LineResult:
    """The result of one line. `status` is the HTTP status of the request; `body` its reply or error.

    `state` is `done`, `expired` or `cancelled` (never processed, not charged), or `unreadable` (its key is unknown).
    """

    key: str
    state: Literal["done", "expired", "cancelled", "unreadable"]
    status: int = 0
    body: Any = None


class BatchProvider(Protocol):
    """One provider's batch API."""

    name: str
    limits: BatchLimits
    is_exact: bool

    def line(self, key: str, body: Mapping[str, Any]) -> bytes:
        """Return one request as a line of JSON, without a line break."""

    def upload(self, job: str, lines: Sequence[bytes]) -> str:
        """Upload the requests of a job; return the id of the file, empty if they are sent with `create`."""

    def create(self, job: str, file: str, lines: Sequence[bytes]) -> str:
        """Create a job and return its id. Raises OutcomeUnknown if it may exist, CallFailed if it does not."""

    def find(self, job: str, since: float, count: int, known: Collection[str]) -> list[str]:
        """Return the ids of jobs created since `since` that are this one, or may be; never one of `known`."""

    def status(self, remote: str) -> RemoteJob:
        """Return the state of a job."""

    def results(self, job: RemoteJob) -> Iterator[LineResult]:
        """Yield the results of an ended job, in any order."""

    def cancel(self, remote: str) -> None:
        """Ask the provider to cancel a job. What was finished before is charged and delivered."""

    def close(self) -> None:
        """Close the connections."""


def check_id(value: object) -> str:
    """Return a provider's id of a job or file. Raises OutcomeUnknown if it is not one that can be part of a URL."""
    if isinstance(value, str) and REMOTE_ID.fullmatch(value):
        return value
    raise OutcomeUnknown("The provider's reply has no usable id", got=f"{type(value).__name__} instead of an id")


def is_id(value: object) -> bool:
    """Return whether a value is an id that can be part of a URL."""
    return isinstance(value, str) and REMOTE_ID.fullmatch(value) is not None


def encode_line(value: Mapping[str, Any]) -> bytes:
    """Return a value as one line of JSON in ASCII."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode("ascii")


def read_lines(file: IO[bytes]) -> Iterator[dict[str, Any] | None]:
    """Yield the JSON objects of a file, one a line; None for a line that is too long or no object."""
    while line := file.readline(MAX_LINE_BYTES):
        too_long = not line.endswith(b"\n") and len(line) >= MAX_LINE_BYTES
        while too_long and (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
            pass
        if not line.strip():
            continue
        try:
            value = None if too_long else json.loads(line)
        except (ValueError, RecursionError):
            value = None
        yield value if isinstance(value, dict) else None


def read_time(value: object) -> float | None:
    """Return a time as a Unix time: a number, or a text such as 2026-11-29T15:01:23Z; None if it is neither."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    try:
        return datetime.datetime.fromisoformat(str(value)).timestamp()
    except (ValueError, OverflowError):
        return None


def read_count(value: object) -> int | None:
    """Return a count, which some providers send as text; None if it is none."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 12:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def as_dict(value: object) -> dict[str, Any]:
    """Return a value if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}
