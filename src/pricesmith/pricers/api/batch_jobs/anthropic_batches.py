"""Anthropic's message batches: the requests are sent with the call that creates the job.

A job has neither a name nor metadata, so after a lost reply it is looked for by its time and number of requests, and
its results decide whether it is the one.
Source: platform.claude.com/docs/en/build-with-claude/batch-processing, and the types of the anthropic package 2.14.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from pricesmith.pricers.api.batch_jobs.http import BatchHttp
from pricesmith.pricers.api.batch_jobs.protocol import (
    CLOCK_SKEW,
    MAX_PAGES,
    LineResult,
    RemoteJob,
    RemoteState,
    as_dict,
    check_id,
    encode_line,
    is_id,
    read_count,
    read_lines,
    read_time,
)
from pricesmith.pricers.api.batch_jobs.sharding import BatchLimits

STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}
COUNTS = ("processing", "succeeded", "errored", "canceled", "expired")


class AnthropicBatches:
    """Batch jobs of Anthropic."""

    name = "anthropic"
    is_exact = False
    # Under half of the 256 MB that are allowed: the requests are in memory while they are sent.
    limits = BatchLimits(requests=100_000, bytes=100_000_000)

    def __init__(self, http: BatchHttp) -> None:
        self.http = http
        self.url = f"{http.endpoint.url}/messages/batches"

    def line(self, key: str, body: Mapping[str, Any]) -> bytes:
        return encode_line({"custom_id": key, "params": body})

    def upload(self, job: str, lines: Sequence[bytes]) -> str:
        return ""

    def create(self, job: str, file: str, lines: Sequence[bytes]) -> str:
        content = b'{"requests":[' + b",".join(lines) + b"]}"
        return check_id(self.http.call("POST", self.url, content=content, creates=True).get("id"))

    def find(self, job: str, since: float, count: int, known: Collection[str]) -> list[str]:
        matches: list[tuple[float, str]] = []
        after = ""
        for _ in range(MAX_PAGES):
            params = {"limit": "100"} | ({"after_id": after} if after else {})
            page = self.http.call("GET", self.url, params=params)
            entries = [as_dict(entry) for entry in page.get("data") or [] if is_id(as_dict(entry).get("id"))]
            is_past = False
            for entry in entries:
                created = read_time(entry.get("created_at"))
                is_past = is_past or (created is not None and created < since - CLOCK_SKEW)
                near = created is not None and created >= since - CLOCK_SKEW
                if near and entry["id"] not in known and read_total(entry) == count:
                    matches.append((created or 0.0, entry["id"]))
            if is_past or not entries or not page.get("has_more"):
                break
            after = entries[-1]["id"]
        return [remote for _, remote in sorted(matches)]

    def status(self, remote: str) -> RemoteJob:
        value = self.http.call("GET", f"{self.url}/{remote}")
        counts = as_dict(value.get("request_counts"))
        status = str(value.get("processing_status"))
        state: RemoteState = "cancelling" if status == "canceling" else "running"
        if status == "ended":
            state = "cancelled" if value.get("cancel_initiated_at") else "completed"
            state = "expired" if read_count(counts.get("expired")) else state
        succeeded, errored = (read_count(counts.get(name)) for name in ("succeeded", "errored"))
        return RemoteJob(remote, state, read_total(value), succeeded, errored, read_time(value.get("created_at")))

    def results(self, job: RemoteJob) -> Iterator[LineResult]:
        # Not from `results_url`: the key is sent to no address that a reply names.
        with self.http.download(f"{self.url}/{job.id}/results") as lines:
            for line in read_lines(lines):
                yield read_result(line)

    def cancel(self, remote: str) -> None:
        self.http.cancel(f"{self.url}/{remote}/cancel")

    def close(self) -> None:
        self.http.close()


def read_total(value: Mapping[str, Any]) -> int | None:
    """Return the number of requests of a job; None if it is unknown."""
    counts = as_dict(value.get("request_counts"))
    numbers = [read_count(counts.get(name)) for name in COUNTS]
    return sum(number or 0 for number in numbers) if any(number is not None for number in numbers) else None


def read_result(line: Mapping[str, Any] | None) -> LineResult:
    """Return one line of the results."""
    if line is None or not isinstance(line.get("custom_id"), str):
        return LineResult("", "unreadable")
    key, result = line["custom_id"], as_dict(line.get("result"))
    kind = result.get("type")
    if kind == "succeeded":
        return LineResult(key, "done", 200, result.get("message"))
    if kind == "expired":
        return LineResult(key, "expired")
    if kind == "canceled":
        return LineResult(key, "cancelled")
    error = as_dict(as_dict(result.get("error")).get("error")) or as_dict(result.get("error"))
    return LineResult(key, "done", STATUSES.get(str(error.get("type")), 500), {"error": error})
