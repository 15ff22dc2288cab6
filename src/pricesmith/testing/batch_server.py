"""The batch APIs of OpenAI, Anthropic and Gemini on this machine, with the faults of real ones.

    with FakeBatchServer("openai", faults={"create lost": 1}) as server:
        server.url, server.key
    server.n_answers(key), server.billed_usd(1.0, 2.0)

A job ends when it has been asked about `polls` times. Faults are names with how often they happen, or with how many
lines they are about:

* `create lost`, `create 500`: a job is created, and the reply is lost, or is a status 500; `create 429`: none is
* `reject`: a job is refused as a whole; `reject line`: because of this line; `token limit`: if it has more lines
* `expire`: so many lines of each job are answered, the others expire; `absent`: so many results are missing
* `error`, `bad request`: so many lines end with status 500 or 400
* `results cut`: the results are truncated; `gone`: they are no longer there; `status 500`: the state cannot be read
* `repeated`, `unknown`, `garbage`, `huge`: such a line is among the results; `reversed`: they come in reverse order
* `cancel finished`: so many lines are answered before a job is cancelled

It bills characters / 4 as tokens, for lines that were answered, at half the price, and for single requests.
"""

from __future__ import annotations

import email
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pricesmith.pricers.api.batch_jobs.http import Clock
from pricesmith.pricers.api.prices import PriceList
from pricesmith.pricers.api.providers import Endpoint
from pricesmith.testing.batch_replies import (
    ApiName,
    FakeJob,
    FakeLine,
    count_tokens,
    error_body,
    job_body,
    question_of,
    read_requests,
    reply_body,
    result_lines,
)
from pricesmith.testing.endpoint import KEY, QuietServer

BATCH_DISCOUNT = 0.5
LOST = -1  # in place of a status: the connection is closed without a reply


class StepClock(Clock):
    """A clock that only moves when somebody waits."""

    def __init__(self, start: float = 1_000_000.0) -> None:
        self.seconds = start
        super().__init__(lambda: self.seconds, self.wait)

    def wait(self, seconds: float) -> None:
        """Let time pass at once."""
        self.seconds += seconds


class FakeBatchServer:
    """One provider's batch API and its API for single requests. A context manager.

    `answer` returns the reply to a question. `refuses` names fields of a request's body that get a status 400.
    `on_event` is called with `create`, `created`, `status`, `results` and so on, before the reply is sent.
    """

    def __init__(
        self,
        api: ApiName = "openai",
        answer: Callable[[str], str] = lambda _: '{"price": 24}',
        *,
        faults: Mapping[str, int] | None = None,
        polls: int = 1,
        refuses: tuple[str, ...] = (),
        page_size: int = 100,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.api, self.answer, self.faults, self.polls = api, answer, Counter(faults or {}), polls
        self.refuses, self.page_size, self.clock, self.key = refuses, page_size, clock, KEY
        self.jobs: dict[str, FakeJob] = {}
        self.files: dict[str, bytes] = {}
        self.single: list[Mapping[str, Any]] = []
        self.events: list[str] = []
        self.headers: list[Mapping[str, str]] = []
        self.on_event: Callable[[str], None] = lambda event: None
        self.lock = threading.RLock()
        self.server = QuietServer(("127.0.0.1", 0), build_handler(self))

    @property
    def url(self) -> str:
        """The base URL, as providers.toml has it."""
        version = {"openai": "v1", "anthropic": "v1", "gemini": "v1beta/openai"}[self.api]
        return f"http://127.0.0.1:{self.server.server_address[1]}/{version}"

    def __enter__(self) -> FakeBatchServer:
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)

    def endpoint(self, price: tuple[float, float] | None = (1.0, 2.0)) -> Endpoint:
        """Return this endpoint for a pricer, at a standard price in dollars per million tokens."""
        prices = replace(PriceList.flat(*price, "2026-11-22", "made"), tiers={"batch": 0.5}) if price else None
        api_format: ApiName = "anthropic" if self.api == "anthropic" else "openai"
        return Endpoint("made", self.url, "made-model", prices, "MADE_KEY", self.key, format=api_format, batch=self.api)

    def providers_toml(self) -> str:
        """Return the provider table that makes the command line use this server: the model is `made/made-model`."""
        api_format = "anthropic" if self.api == "anthropic" else "openai"
        lines = ["[made]", f'url = "{self.url}"', f'format = "{api_format}"', f'batch = "{self.api}"']
        return "\n".join([*lines, 'key = "MADE_KEY"', "tiers = { batch = 0.5 }", ""])

    # What was bought

    def answered(self) -> list[FakeLine]:
        """Return the lines that were answered, and are charged."""
        return [line for job in self.jobs.values() for line in job.lines if line.state == "done"]

    def n_answers(self, key: str) -> int:
        """Return how often a line was answered."""
        return sum(line.key == key for line in self.answered())

    def billed_usd(self, price_in: float, price_out: float) -> float:
        """Return the cost of all answers, at standard prices in US dollars per million tokens."""
        total = 0.0
        for body, text, factor in [
            *((line.body, line.text, BATCH_DISCOUNT) for line in self.answered()),
            *((body, self.answer(question_of(self.single_api(body), body)), 1.0) for body in self.single),
        ]:
            tokens_in, tokens_out = count_tokens(body, text)
            total += factor * (tokens_in * price_in + tokens_out * price_out) / 1e6
        return total

    def single_api(self, body: Mapping[str, Any]) -> ApiName:
        """Return the form of a single request: Gemini also has the OpenAI chat API."""
        return "gemini" if "contents" in body else "openai" if self.api == "gemini" else self.api

    # What happens

    def event(self, name: str) -> None:
        """Record an event, and tell it to the test."""
        self.events.append(name)
        self.on_event(name)

    def take(self, fault: str) -> bool:
        """Return whether a fault happens now, and count it."""
        happens = self.faults[fault] > 0
        self.faults[fault] -= happens
        return happens

    def create(self, model: str, name: str, lines: list[FakeLine]) -> tuple[int, Any]:
        """Create a job; return the status and the body of the reply."""
        self.event("create")
        if self.take("create 429"):
            return 429, error_body(self.api, 429, "Too many requests, retry in 1s")
        if self.api == "anthropic" and self.faults["reject"]:
            return 400, error_body(self.api, 400, f"requests: invalid ({self.key})")
        job = FakeJob(
            f"job_{len(self.jobs) + 1}", self.api, model, name, lines, self.clock(), self.polls, extra_results=[]
        )
        self.jobs[job.id] = job
        limit = self.faults["token limit"]
        if self.faults["reject"]:
            job.state, job.errors = "rejected", [{"code": "invalid", "message": f"no such model ({self.key})"}]
        elif limit and len(lines) > limit:
            message = f"Enqueued token limit reached for {model}. Please try again once some batches have ended."
            job.state, job.errors = "rejected", [{"code": "token_limit_exceeded", "message": message}]
        elif (number := self.faults["reject line"]) and number <= len(lines):
            self.faults["reject line"] = 0
            job.state, job.errors = "rejected", [{"code": "invalid", "message": "bad line", "line": number}]
        self.event("created")
        if self.take("create lost"):
            return LOST, None
        if self.take("create 500"):
            return 500, error_body(self.api, 500, "internal error")
        return 200, job_body(job)

    def status(self, job: FakeJob) -> tuple[int, Any]:
        """Return the state of a job, which ends after it was asked about often enough."""
        self.event("status")
        if self.take("status 500"):
            return 500, error_body(self.api, 500, "internal error")
        if job.state in ("running", "cancelling"):
            if job.polls <= 0 or job.state == "cancelling":
                self.finish(job)
            job.polls -= 1
        return 200, job_body(job)

    def refused(self, body: Mapping[str, Any]) -> str:
        """Return a field of a request that is refused; empty if there is none."""
        text = json.dumps(body)
        return next((name for name in self.refuses if f'"{name}":' in text), "")

    def finish(self, job: FakeJob) -> None:
        """Answer the lines of a job, as far as the faults allow."""
        cancelled = job.state == "cancelling"
        expires = "expire" in self.faults and self.faults["expire"] >= 0 and not cancelled
        stop = self.faults["cancel finished"] if cancelled else self.faults["expire"] if expires else len(job.lines)
        for number, line in enumerate(job.lines):
            if number >= stop:
                line.state = "cancelled" if cancelled else "expired"
            elif self.refused(line.body) or self.take("bad request"):
                line.state, line.status, line.text = "error", 400, f"Unsupported parameter ({self.key})"
            elif self.take("error"):
                line.state, line.status, line.text = "error", 500, "internal error"
            elif self.take("absent"):
                line.state = "absent"
            else:
                line.state, line.text = "done", self.answer(question_of(self.api, line.body))
        if expires:
            self.faults["expire"] = -1  # once
        job.state = "cancelled" if cancelled else "expired" if expires and stop < len(job.lines) else "completed"
        self.add_odd_results(job)

    def add_odd_results(self, job: FakeJob) -> None:
        """Add lines to the results that no honest provider sends."""
        first = next((line for line in job.lines if line.state == "done"), None)
        if first is not None and self.take("repeated"):
            other = FakeJob(job.id, job.api, job.model, "", [FakeLine(first.key, first.body, "done", 200, "999")], 0, 0)
            job.extra_results += result_lines(other, "out")
        if first is not None and self.take("unknown"):
            other = FakeJob(job.id, job.api, job.model, "", [FakeLine("f" * 64, first.body, "done", 200, "1")], 0, 0)
            job.extra_results += result_lines(other, "out")
        if self.take("garbage"):
            job.extra_results.append(b'{"custom_id": ' if self.api != "gemini" else b"{}")
        if self.take("huge"):
            job.extra_results.append(b'{"custom_id": "' + b"x" * 5_000_000 + b'"}')

    def results(self, job: FakeJob, part: str) -> tuple[int, bytes]:
        """Return the results of a job, or a part of them."""
        self.event("results")
        if self.faults["gone"]:
            return 404, json.dumps(error_body(self.api, 404, "no such file")).encode()
        parts = ("out", "err") if part == "all" else (part,)
        lines = [line for name in parts for line in result_lines(job, name)]  # type: ignore[arg-type]
        if self.faults["reversed"]:
            lines.reverse()
        return 200, b"".join(line + b"\n" for line in lines)


def build_handler(fake: FakeBatchServer) -> type[BaseHTTPRequestHandler]:
    """Return the request handler of a server."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Write nothing to the terminal."""

        def do_GET(self) -> None:
            self.answer("GET", b"")

        def do_POST(self) -> None:
            self.answer("POST", self.rfile.read(int(self.headers.get("Content-Length", 0))))

        def answer(self, method: str, body: bytes) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            with fake.lock:
                fake.headers.append(headers)
                status, value = handle(fake, method, self.path, headers, body)
            self.close_connection = True
            if status == LOST:
                return
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            is_cut = isinstance(value, bytes) and status == 200 and fake.take("results cut")
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if is_cut else data)

    return Handler


def handle(fake: FakeBatchServer, method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Any]:
    """Return the status and the body of a reply."""
    keyed = fake.key in (headers.get("x-api-key"), headers.get("x-goog-api-key"))
    if not keyed and headers.get("authorization") != f"Bearer {fake.key}":
        return 401, error_body(fake.api, 401, "Incorrect API key provided")
    parts = urlsplit(path)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    for pattern, verb, route in ROUTES[fake.api]:
        if verb == method and (match := re.fullmatch(pattern, parts.path)):
            return route(fake, match, query, headers, body)
    return 404, error_body(fake.api, 404, f"no {method} {parts.path}")


def ask_single(fake: FakeBatchServer, _: Any, __: Any, ___: Any, body: bytes) -> tuple[int, Any]:
    """Answer a single request."""
    value = json.loads(body)
    fake.event("single")
    api = fake.single_api(value)
    if name := fake.refused(value):
        return 400, error_body(api, 400, f"Unsupported parameter: '{name}' is not supported with this model.")
    fake.single.append(value)
    text = fake.answer(question_of(api, value))
    return 200, reply_body(api, str(value.get("model") or "made-model"), value, text)


def upload_file(fake: FakeBatchServer, _: Any, __: Any, headers: Any, body: bytes) -> tuple[int, Any]:
    """Store an uploaded file."""
    fake.event("upload")
    message = email.message_from_bytes(b"Content-Type: " + headers["content-type"].encode() + b"\r\n\r\n" + body)
    part = next(part for part in message.get_payload() if part.get_filename())  # type: ignore[union-attr]
    id = f"file-{len(fake.files) + 1}"
    fake.files[id] = part.get_payload(decode=True)  # type: ignore[union-attr, assignment]
    return 200, {"id": id, "filename": part.get_filename(), "purpose": "batch"}  # type: ignore[union-attr]


def create_openai(fake: FakeBatchServer, _: Any, __: Any, ___: Any, body: bytes) -> tuple[int, Any]:
    """Create a job of an uploaded file."""
    value = json.loads(body)
    lines = list(read_requests("openai", fake.files[value["input_file_id"]]))
    return fake.create(lines[0].body["model"], value["metadata"]["pricesmith_job"], lines)


def create_anthropic(fake: FakeBatchServer, _: Any, __: Any, ___: Any, body: bytes) -> tuple[int, Any]:
    """Create a job of the requests in the call."""
    lines = list(read_requests("anthropic", json.loads(body)))
    return fake.create(lines[0].body["model"], "", lines)


def create_gemini(fake: FakeBatchServer, match: re.Match[str], _: Any, __: Any, body: bytes) -> tuple[int, Any]:
    """Create a job of the requests in the call."""
    value = json.loads(body)
    name = value["batch"]["displayName"].removeprefix("pricesmith-")
    return fake.create(match[1], name, list(read_requests("gemini", value)))


def list_jobs(fake: FakeBatchServer, _: Any, query: Mapping[str, str], __: Any, ___: Any) -> tuple[int, Any]:
    """List the jobs, the newest first."""
    fake.event("list")
    jobs = list(fake.jobs.values())[::-1]
    after = query.get("after") or query.get("after_id") or query.get("pageToken") or ""
    start = next((number + 1 for number, job in enumerate(jobs) if job.id == after), 0)
    page = jobs[start : start + fake.page_size]
    more = start + fake.page_size < len(jobs)
    bodies = [job_body(job) for job in page]
    if fake.api == "gemini":
        return 200, {"operations": bodies} | ({"nextPageToken": page[-1].id} if more else {})
    return 200, {"data": bodies, "has_more": more}


def get_status(fake: FakeBatchServer, match: re.Match[str], _: Any, __: Any, ___: Any) -> tuple[int, Any]:
    """Return the state of a job."""
    job = fake.jobs.get(match[1])
    return fake.status(job) if job else (404, error_body(fake.api, 404, "no such batch"))


def get_results(fake: FakeBatchServer, match: re.Match[str], _: Any, __: Any, ___: Any) -> tuple[int, Any]:
    """Return the results of a job."""
    part = {"out": "out", "err": "err"}.get(match[1].partition("-")[0], "all")
    return fake.results(fake.jobs[match[1].removeprefix("out-").removeprefix("err-")], part)


def cancel_job(fake: FakeBatchServer, match: re.Match[str], _: Any, __: Any, ___: Any) -> tuple[int, Any]:
    """Start to cancel a job."""
    fake.event("cancel")
    job = fake.jobs[match[1]]
    if job.state not in ("running", "cancelling"):
        return 409, error_body(fake.api, 409, "it has ended")
    job.state = "cancelling"
    return 200, job_body(job)


ROUTES: dict[str, list[tuple[str, str, Callable[..., tuple[int, Any]]]]] = {
    "openai": [
        ("/v1/chat/completions", "POST", ask_single),
        ("/v1/files", "POST", upload_file),
        ("/v1/files/([^/]+)/content", "GET", get_results),
        ("/v1/batches", "POST", create_openai),
        ("/v1/batches", "GET", list_jobs),
        ("/v1/batches/([^/]+)", "GET", get_status),
        ("/v1/batches/([^/]+)/cancel", "POST", cancel_job),
    ],
    "anthropic": [
        ("/v1/messages", "POST", ask_single),
        ("/v1/messages/batches", "POST", create_anthropic),
        ("/v1/messages/batches", "GET", list_jobs),
        ("/v1/messages/batches/([^/]+)", "GET", get_status),
        ("/v1/messages/batches/([^/]+)/results", "GET", get_results),
        ("/v1/messages/batches/([^/]+)/cancel", "POST", cancel_job),
    ],
    "gemini": [
        ("/v1beta/openai/chat/completions", "POST", ask_single),
        ("/v1beta/models/([^/:]+):generateContent", "POST", ask_single),
        ("/v1beta/models/([^/:]+):batchGenerateContent", "POST", create_gemini),
        ("/v1beta/batches", "GET", list_jobs),
        ("/v1beta/batches/([^/:]+)", "GET", get_status),
        ("/v1beta/batches/([^/:]+):cancel", "POST", cancel_job),
    ],
}
