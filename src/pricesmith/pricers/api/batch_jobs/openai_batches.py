"""OpenAI's batch API: a JSONL file is uploaded, and a job names it. The job's metadata carries our id.

Source: developers.openai.com/api/docs/guides/batch, and the types of the openai package 3.51.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from pricesmith.pricers.api.batch_jobs.http import BatchHttp
from pricesmith.pricers.api.batch_jobs.protocol import (
    CLOCK_SKEW,
    MAX_PAGES,
    LineError,
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

CHAT_PATH = "/v1/chat/completions"
METADATA_NAME = "pricesmith_job"
STATES: dict[str, RemoteState] = {
    "validating": "waiting",
    "in_progress": "running",
    "finalizing": "running",
    "completed": "completed",
    "failed": "rejected",
    "expired": "expired",
    "cancelling": "cancelling",
    "cancelled": "cancelled",
}


class OpenAIBatches:
    """Batch jobs of OpenAI, and of servers with the same API."""

    name = "openai"
    is_exact = True
    # Half of the 200 MB that are allowed: the file is in memory while it is uploaded.
    limits = BatchLimits(requests=50_000, bytes=100_000_000)

    def __init__(self, http: BatchHttp) -> None:
        self.http, self.url = http, http.endpoint.url

    def line(self, key: str, body: Mapping[str, Any]) -> bytes:
        return encode_line({"custom_id": key, "method": "POST", "url": CHAT_PATH, "body": body})

    def upload(self, job: str, lines: Sequence[bytes]) -> str:
        name = f"pricesmith-{job}.jsonl"
        files = {"file": (name, b"\n".join(lines) + b"\n", "application/jsonl")}
        value = self.http.call("POST", f"{self.url}/files", files=files, data={"purpose": "batch"})
        return check_id(value.get("id"))

    def create(self, job: str, file: str, lines: Sequence[bytes]) -> str:
        body = {
            "input_file_id": file,
            "endpoint": CHAT_PATH,
            "completion_window": "24h",
            "metadata": {METADATA_NAME: job},
        }
        return check_id(self.http.call("POST", f"{self.url}/batches", body=body, creates=True).get("id"))

    def find(self, job: str, since: float, count: int, known: Collection[str]) -> list[str]:
        after = ""
        for _ in range(MAX_PAGES):
            params = {"limit": "100"} | ({"after": after} if after else {})
            page = self.http.call("GET", f"{self.url}/batches", params=params)
            entries = [as_dict(entry) for entry in page.get("data") or [] if is_id(as_dict(entry).get("id"))]
            matches = [entry["id"] for entry in entries if as_dict(entry.get("metadata")).get(METADATA_NAME) == job]
            times = [read_time(entry.get("created_at")) for entry in entries]
            is_past = any(time is not None and time < since - CLOCK_SKEW for time in times)
            if matches or is_past or not entries or not page.get("has_more"):
                return matches
            after = entries[-1]["id"]
        return []

    def status(self, remote: str) -> RemoteJob:
        return read_job(self.http.call("GET", f"{self.url}/batches/{remote}"), remote)

    def results(self, job: RemoteJob) -> Iterator[LineResult]:
        for file in job.results:
            with self.http.download(f"{self.url}/files/{file}/content") as lines:
                for line in read_lines(lines):
                    yield read_result(line)

    def cancel(self, remote: str) -> None:
        self.http.cancel(f"{self.url}/batches/{remote}/cancel")

    def close(self) -> None:
        self.http.close()


def read_job(value: Mapping[str, Any], remote: str) -> RemoteJob:
    """Return OpenAI's description of a job. An unknown state counts as running: it is asked for again."""
    counts, errors = as_dict(value.get("request_counts")), as_dict(value.get("errors")).get("data")
    files = [value.get(name) for name in ("output_file_id", "error_file_id")]
    return RemoteJob(
        remote,
        STATES.get(str(value.get("status")), "running"),
        read_count(counts.get("total")),
        read_count(counts.get("completed")),
        read_count(counts.get("failed")),
        read_time(value.get("created_at")),
        tuple(str(file) for file in files if is_id(file)),
        tuple(
            LineError(str(entry.get("code") or ""), str(entry.get("message") or ""), read_count(entry.get("line")))
            for entry in map(as_dict, errors if isinstance(errors, list) else [])
        ),
    )


def read_result(line: Mapping[str, Any] | None) -> LineResult:
    """Return one line of an output or error file."""
    if line is None or not isinstance(line.get("custom_id"), str):
        return LineResult("", "unreadable")
    key, response, error = line["custom_id"], as_dict(line.get("response")), as_dict(line.get("error"))
    status = read_count(response.get("status_code"))
    if status:
        return LineResult(key, "done", status, response.get("body"))
    code = str(error.get("code") or "").lower()
    if "expire" in code:
        return LineResult(key, "expired")
    if "cancel" in code:
        return LineResult(key, "cancelled")
    return LineResult(key, "done", 500, {"error": error})
