"""Gemini's batch API: the requests are sent with the call that creates the job, whose display name carries our id.

Requests have Gemini's own form (generateContent), not that of the OpenAI chat API.
Source: ai.google.dev/api/batch-api, and the package google-genai 3.6 (batches.py).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from pricesmith.pricers.api.batch_jobs.http import BatchHttp, OutcomeUnknown
from pricesmith.pricers.api.batch_jobs.protocol import (
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

STATES: dict[str, RemoteState] = {
    "UNSPECIFIED": "running",
    "QUEUED": "waiting",
    "PENDING": "waiting",
    "RUNNING": "running",
    "SUCCEEDED": "completed",
    "PARTIALLY_SUCCEEDED": "completed",
    "FAILED": "rejected",
    "CANCELLING": "cancelling",
    "CANCELLED": "cancelled",
    "EXPIRED": "expired",
}
# google.rpc.Code as an HTTP status
RPC_STATUSES = {1: 499, 3: 400, 4: 504, 5: 404, 7: 403, 8: 429, 9: 400, 11: 400, 13: 500, 14: 503, 16: 401}


class GeminiBatches:
    """Batch jobs of the Gemini API."""

    name = "gemini"
    is_exact = True
    limits = BatchLimits(requests=50_000, bytes=15_000_000)  # requests inside the call may have 20 MB

    def __init__(self, http: BatchHttp) -> None:
        self.http = http
        self.url = http.endpoint.url

    def line(self, key: str, body: Mapping[str, Any]) -> bytes:
        return encode_line({"request": body, "metadata": {"key": key}})

    def upload(self, job: str, lines: Sequence[bytes]) -> str:
        return ""

    def create(self, job: str, file: str, lines: Sequence[bytes]) -> str:
        name = json.dumps(display_name(job)).encode()
        requests = b",".join(lines)
        content = b'{"batch":{"displayName":' + name + b',"inputConfig":{"requests":{"requests":[' + requests + b"]}}}}"
        model = quote(self.http.endpoint.model.removeprefix("models/"), safe="")
        value = self.http.call("POST", f"{self.url}/models/{model}:batchGenerateContent", content=content, creates=True)
        return check_id(short_name(value))

    def find(self, job: str, since: float, count: int, known: Collection[str]) -> list[str]:
        token = ""
        for _ in range(MAX_PAGES):
            params = {"pageSize": "100"} | ({"pageToken": token} if token else {})
            page = self.http.call("GET", f"{self.url}/batches", params=params)
            for entry in map(as_dict, page.get("operations") or []):
                named = as_dict(entry.get("metadata")).get("displayName") == display_name(job)
                if named and is_id(short_name(entry)):
                    return [str(short_name(entry))]
            token = str(page.get("nextPageToken") or "")
            if not token:
                break
        return []

    def status(self, remote: str) -> RemoteJob:
        return read_job(self.http.call("GET", f"{self.url}/batches/{remote}"), remote)

    def results(self, job: RemoteJob) -> Iterator[LineResult]:
        for entry in job.content if isinstance(job.content, list) else []:
            yield read_result(entry if isinstance(entry, dict) else None)
        base, _, version = self.url.rpartition("/")
        for file in job.results:
            with self.http.download(f"{base}/download/{version}/files/{file}:download?alt=media") as lines:
                for line in read_lines(lines):
                    yield read_result(line)

    def cancel(self, remote: str) -> None:
        with contextlib.suppress(OutcomeUnknown):
            self.http.cancel(f"{self.url}/batches/{remote}:cancel", body={})

    def close(self) -> None:
        self.http.close()


def display_name(job: str) -> str:
    """Return the name of a job at Gemini."""
    return f"pricesmith-{job}"


def short_name(value: Mapping[str, Any]) -> object:
    """Return the id in `batches/ID`."""
    name = value.get("name")
    return name.removeprefix("batches/") if isinstance(name, str) else name


def read_job(value: Mapping[str, Any], remote: str) -> RemoteJob:
    """Return Gemini's description of a job. An unknown state counts as running: it is asked for again."""
    metadata = as_dict(value.get("metadata"))
    output = as_dict(metadata.get("output")) or as_dict(value.get("response"))
    stats, error = as_dict(metadata.get("batchStats")), as_dict(value.get("error"))
    name = str(metadata.get("state")).removeprefix("BATCH_STATE_").removeprefix("JOB_STATE_")
    state = STATES.get(name, "running")
    content = as_dict(output.get("inlinedResponses")).get("inlinedResponses")
    file = str(output.get("responsesFile") or "").removeprefix("files/")
    if state == "rejected" and (content or file):  # some requests were answered
        state = "completed"
    if error and state not in ("completed", "cancelled", "expired"):
        state = "rejected"
    return RemoteJob(
        remote,
        state,
        read_count(stats.get("requestCount")),
        read_count(stats.get("successfulRequestCount")),
        read_count(stats.get("failedRequestCount")),
        read_time(metadata.get("createTime")),
        (file,) if is_id(file) else (),
        (LineError(str(error.get("code") or ""), str(error.get("message") or "")),) if state == "rejected" else (),
        content,
    )


def read_result(line: Mapping[str, Any] | None) -> LineResult:
    """Return one inlined response, or one line of a results file."""
    line = as_dict(line)
    key = line.get("key", as_dict(line.get("metadata")).get("key"))
    if not isinstance(key, str):
        return LineResult("", "unreadable")
    if isinstance(line.get("response"), dict):
        return LineResult(key, "done", 200, line["response"])
    error = as_dict(line.get("error"))
    code = read_count(error.get("code")) or 13
    if code == 1 or "CANCEL" in str(error.get("status")).upper():
        return LineResult(key, "cancelled")
    return LineResult(key, "done", code if code >= 100 else RPC_STATUSES.get(code, 500), {"error": error})
