"""How OpenAI, Anthropic and Gemini write replies, batch jobs and their results, for the fake batch server."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

ApiName = Literal["openai", "anthropic", "gemini"]
LineState = Literal["waiting", "done", "error", "expired", "cancelled", "absent"]
JobState = Literal["running", "cancelling", "completed", "expired", "cancelled", "rejected"]
OPENAI_STATES = {"running": "in_progress", "rejected": "failed"}
GEMINI_STATES = {"completed": "SUCCEEDED", "rejected": "FAILED", "cancelling": "RUNNING"}
ERROR_TYPES = {400: "invalid_request_error", 429: "rate_limit_error", 500: "api_error", 529: "overloaded_error"}
RPC_CODES = {400: 3, 429: 8, 500: 13, 529: 14}


@dataclass
class FakeLine:
    """One request of a job. `status` is that of its reply; `text` its answer."""

    key: str
    body: Mapping[str, Any]
    state: LineState = "waiting"
    status: int = 200
    text: str = ""


@dataclass
class FakeJob:
    """One job: its requests in order, its state, and how often it is still asked about before it ends."""

    id: str
    api: ApiName
    model: str
    name: str
    lines: list[FakeLine]
    created: float
    polls: int
    state: JobState = "running"
    errors: list[dict[str, Any]] = field(default_factory=list)
    extra_results: list[bytes] = field(default_factory=list)

    def count(self, *states: LineState) -> int:
        """Return how many lines are in one of these states."""
        return sum(line.state in states for line in self.lines)


def question_of(api: ApiName, body: Mapping[str, Any]) -> str:
    """Return the text of the last message of a request."""
    if api == "gemini":
        return str(body["contents"][-1]["parts"][0]["text"])
    content = body["messages"][-1]["content"]
    return str(content if isinstance(content, str) else content[0]["text"])


def count_tokens(body: Mapping[str, Any], text: str) -> tuple[int, int]:
    """Return the input and output tokens that are billed: characters / 4, rounded up."""
    asked = body.get("messages") or body.get("contents")
    return math.ceil(len(json.dumps(asked)) / 4), math.ceil(len(text) / 4)


def reply_body(api: ApiName, model: str, body: Mapping[str, Any], text: str) -> dict[str, Any]:
    """Return a reply in the form of an API."""
    tokens_in, tokens_out = count_tokens(body, text)
    if api == "anthropic":
        usage = {"input_tokens": tokens_in, "output_tokens": tokens_out}
        content = [{"type": "text", "text": text}]
        return {"type": "message", "model": model, "content": content, "stop_reason": "end_turn", "usage": usage}
    if api == "gemini":
        counts = {"promptTokenCount": tokens_in, "candidatesTokenCount": tokens_out}
        usage = {**counts, "totalTokenCount": tokens_in + tokens_out}
        candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP"}
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": model}
    usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    return {"id": "made", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage}


def error_body(api: ApiName, status: int, message: str) -> Any:
    """Return an error in the form of an API."""
    if api == "anthropic":
        return {"type": "error", "error": {"type": ERROR_TYPES.get(status, "api_error"), "message": message}}
    if api == "gemini":
        return {"error": {"code": status, "message": message, "status": "MADE"}}
    return {"error": {"message": message, "type": "made", "code": None}}


def job_body(job: FakeJob) -> dict[str, Any]:
    """Return a job in the form of its API."""
    return {"openai": openai_job, "anthropic": anthropic_job, "gemini": gemini_job}[job.api](job)


def openai_job(job: FakeJob) -> dict[str, Any]:
    """Return a job as OpenAI describes it."""
    ended = job.state in ("completed", "expired", "cancelled")
    has_output, has_errors = job.count("done"), job.count("error", "expired", "cancelled")
    return {
        "id": job.id,
        "object": "batch",
        "status": OPENAI_STATES.get(job.state, job.state),
        "created_at": int(job.created),
        "metadata": {"pricesmith_job": job.name},
        "request_counts": {"total": len(job.lines), "completed": job.count("done"), "failed": job.count("error")},
        "output_file_id": f"out-{job.id}" if ended and (has_output or job.extra_results) else None,
        "error_file_id": f"err-{job.id}" if ended and has_errors else None,
        "errors": {"object": "list", "data": job.errors} if job.errors else None,
    }


def anthropic_job(job: FakeJob) -> dict[str, Any]:
    """Return a job as Anthropic describes it; its counts are zero until it ends."""
    running = job.state in ("running", "cancelling")
    counts = {"processing": len(job.lines), "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    if not running:
        done = {"succeeded": "done", "errored": "error", "canceled": "cancelled", "expired": "expired"}
        counts = {"processing": 0} | {name: job.count(state) for name, state in done.items()}  # type: ignore[arg-type]
    return {
        "id": job.id,
        "type": "message_batch",
        "processing_status": {"running": "in_progress", "cancelling": "canceling"}.get(job.state, "ended"),
        "cancel_initiated_at": format_time(job.created) if job.state in ("cancelled", "cancelling") else None,
        "created_at": format_time(job.created),
        "request_counts": counts,
        "results_url": None if running else f"https://elsewhere.example/{job.id}/results",
    }


def gemini_job(job: FakeJob) -> dict[str, Any]:
    """Return a job as Gemini describes it; ended ones contain their results."""
    done, failed = job.count("done"), job.count("error")
    metadata: dict[str, Any] = {
        "displayName": f"pricesmith-{job.name}",
        "model": f"models/{job.model}",
        "state": f"BATCH_STATE_{GEMINI_STATES.get(job.state, job.state.upper())}",
        "createTime": format_time(job.created),
        "batchStats": {
            "requestCount": str(len(job.lines)),
            "successfulRequestCount": str(done),
            "failedRequestCount": str(failed),
        },
    }
    value: dict[str, Any] = {"name": f"batches/{job.id}", "metadata": metadata}
    if job.state == "completed" and failed:
        metadata["state"] = "BATCH_STATE_PARTIALLY_SUCCEEDED"
    if job.state == "rejected":
        return {**value, "done": True, "error": {"code": 3, "message": str(job.errors[0]["message"])}}
    if job.state in ("completed", "expired", "cancelled"):
        lines = [json.loads(line) for line in result_lines(job, "out") + result_lines(job, "err")]
        return {**value, "done": True, "response": {"inlinedResponses": {"inlinedResponses": lines}}}
    return value


def result_lines(job: FakeJob, part: Literal["out", "err"]) -> list[bytes]:
    """Return the lines of a job's results: those that were answered, or all others."""
    wanted = ("done",) if part == "out" else ("error", "expired", "cancelled")
    lines = [json.dumps(result_line(job, line)).encode() for line in job.lines if line.state in wanted]
    return lines + (job.extra_results if part == "out" else [])


def result_line(job: FakeJob, line: FakeLine) -> dict[str, Any]:
    """Return the result of one request in the form of its API."""
    error = error_body(job.api, line.status, line.text)
    body = reply_body(job.api, job.model, line.body, line.text) if line.state == "done" else error
    if job.api == "openai":
        if line.state in ("expired", "cancelled"):
            code = {"code": f"batch_{line.state}", "message": "This request could not be executed."}
            return {"id": "made", "custom_id": line.key, "response": None, "error": code}
        response = {"status_code": line.status, "request_id": "made", "body": body}
        return {"id": "made", "custom_id": line.key, "response": response, "error": None}
    if job.api == "anthropic":
        kinds = {"done": "succeeded", "error": "errored", "cancelled": "canceled"}
        result: dict[str, Any] = {"type": kinds.get(line.state, line.state)}
        result |= {"message": body} if line.state == "done" else {"error": body} if line.state == "error" else {}
        return {"custom_id": line.key, "result": result}
    if line.state == "done":
        return {"metadata": {"key": line.key}, "response": body}
    codes = {"cancelled": 1, "expired": 4}
    status = {"code": codes.get(line.state) or RPC_CODES.get(line.status, 13), "message": line.text}
    return {"metadata": {"key": line.key}, "error": status}


def read_requests(api: ApiName, value: Any) -> Sequence[FakeLine]:
    """Return the requests of a job from the body that creates it, or from the lines of an uploaded file."""
    if api == "openai":
        return [FakeLine(line["custom_id"], line["body"]) for line in map(json.loads, value.splitlines())]
    if api == "anthropic":
        return [FakeLine(request["custom_id"], request["params"]) for request in value["requests"]]
    requests = value["batch"]["inputConfig"]["requests"]["requests"]
    return [FakeLine(request["metadata"]["key"], request["request"]) for request in requests]


def format_time(seconds: float) -> str:
    """Return a Unix time as text in UTC."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat().replace("+00:00", "Z")
