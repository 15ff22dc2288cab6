"""A fake hosted model on this machine, with the faults that real endpoints have; every request is written down.

    with FakeEndpoint(lambda question: '{"price": 24}', faults={0: "429", 1: "500"}) as fake:
        fake.url, fake.key
    fake.times(question), fake.billed_usd(1.0, 2.0)

Faults: 429, 429-wait (with Retry-After), 500, 529, 504 (a gateway gave up), hang, trickle (the headers come letter by
letter, without end), drip (a byte of the body now and then, without end), cut (the body breaks off), broken (JSON that
is none), refusal, words, duplicate (the whole reply is delivered twice), 401, 400. It bills letters / 4 as tokens,
rounded up, also for 504, hang, trickle, drip, cut and broken: answers that are lost on the way.
"""

from __future__ import annotations

import json
import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from pricesmith.pricers.api.providers import Endpoint, TokenPrice

KEY = "sk-made-0123456789"
STATUS = {"429": 429, "429-wait": 429, "500": 500, "529": 529, "504": 504, "401": 401, "400": 400}
LOST = ("504", "hang", "trickle", "drip", "cut", "broken")  # answered and billed, and never seen whole
NEVER = 3600.0
DRIP = 0.05  # seconds between bytes
Faults = Mapping[int, str] | Callable[[int, int], str | None]


@dataclass(frozen=True)
class ReceivedRequest:
    """One request as it came, and what was done about it: a status (0: none was sent), a fault, tokens billed."""

    question: str
    body: Mapping[str, Any]
    headers: Mapping[str, str]
    status: int
    fault: str
    tokens_in: int = 0
    tokens_out: int = 0


class FakeEndpoint:
    """An OpenAI-compatible endpoint on a free port of this machine, for the length of a `with`.

    `answer` gives the words for a question (the last message). `faults` names the fault of the n-th request, from 0, or
    is called with its number and how often this question was asked before. `refuses` names parameters of a request that
    are answered with a 400, `rejects` a text in a question that always is; `message` is what errors say. `think` is
    how many reasoning tokens each answer takes; `delay` seconds are waited before each. `usage`: whether answers say
    their tokens; `cost`: the dollars that they say they cost; `keeps_limit`: whether the limit of tokens is kept.
    """

    def __init__(
        self,
        answer: Callable[[str], str] = lambda _: '{"price": 24}',
        *,
        faults: Faults | None = None,
        refuses: tuple[str, ...] = (),
        revoked_after: int | None = None,
        wait: str = "0.2",
        think: int = 0,
        delay: float = 0.0,
        keeps_limit: bool = True,
        usage: bool = True,
        cost: float | None = None,
        message: str = "",
        rejects: str = "",
    ) -> None:
        self.answer, self.faults, self.refuses = answer, faults or {}, refuses
        self.revoked_after, self.wait, self.think, self.delay = revoked_after, wait, think, delay
        self.keeps_limit, self.usage, self.cost, self.key = keeps_limit, usage, cost, KEY
        self.message, self.rejects = message, rejects
        self.reason = "Made"  # the words of the status line
        self.seen: list[ReceivedRequest] = []
        self.asked: Counter[str] = Counter()
        self.flying = self.most_flying = 0
        self.lock, self.over = threading.Lock(), threading.Event()
        self.server = QuietServer(("127.0.0.1", 0), build_handler(self))

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def endpoint(self, price: tuple[float, float] | None = (1.0, 2.0)) -> Endpoint:
        """This as a pricer's endpoint, at a price in dollars per million tokens."""
        known = TokenPrice(*price, "2026-11-22", "made") if price else None
        return Endpoint("made", self.url, "made-model", known, "MADE_KEY", self.key)

    def __enter__(self) -> FakeEndpoint:
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.over.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)

    def billed(self) -> list[ReceivedRequest]:
        """The requests that were billed, whether their answers arrived or not."""
        return [one for one in self.seen if one.tokens_out]

    def answered(self) -> list[ReceivedRequest]:
        """The requests whose answers went out whole."""
        return [one for one in self.billed() if one.fault not in LOST]

    def billed_usd(self, price_in: float, price_out: float) -> float:
        """What they come to, at prices for a million tokens."""
        return sum(one.tokens_in * price_in + one.tokens_out * price_out for one in self.billed()) / 1e6

    def times(self, question: str) -> int:
        """How often a question was answered whole."""
        return sum(one.question == question for one in self.answered())

    def fault_of(self, number: int, before: int, keyed: bool, body: Mapping[str, Any]) -> str:
        """What goes wrong with a request; empty where nothing does."""
        if not keyed or (self.revoked_after is not None and number >= self.revoked_after):
            return "401"
        rejected = bool(self.rejects) and self.rejects in str(body["messages"][-1]["content"])
        if rejected or any(name in body for name in self.refuses):
            return "400"
        found = self.faults(number, before) if callable(self.faults) else self.faults.get(number)
        return found or ""

    def reply(self, question: str, body: Mapping[str, Any], fault: str) -> tuple[dict[str, Any], int, int]:
        """The body of an answer, and the tokens it is billed at."""
        words = {"refusal": "I'm sorry, but I can't help with that.", "words": "About twenty dollars, I would say."}
        text = words.get(fault) or self.answer(question)
        most = int(body.get("max_completion_tokens") or body.get("max_tokens") or 4096)
        tokens_in = math.ceil(sum(len(str(turn["content"])) for turn in body["messages"]) / 4)
        wanted = math.ceil(len(text) / 4) + self.think
        finish = "stop"
        if wanted > most and self.keeps_limit:
            text, wanted, finish = text[: 4 * max(0, most - self.think)], most, "length"
        usage: dict[str, Any] = {"prompt_tokens": tokens_in, "completion_tokens": wanted}
        usage |= {"total_tokens": tokens_in + wanted} | ({"cost": self.cost} if self.cost is not None else {})
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "finish_reason": finish, "message": message}
        value = {
            "id": f"made-{len(self.seen)}",
            "object": "chat.completion",
            "model": body["model"],
            "choices": [choice],
        }
        return value | ({"usage": usage} if self.usage else {}), tokens_in, wanted


class QuietServer(ThreadingHTTPServer):
    """A server whose clients may leave without a word."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def handle_error(self, *_: Any) -> None:
        """A client that went away is part of the test."""


def build_handler(fake: FakeEndpoint) -> type[BaseHTTPRequestHandler]:
    """The handler of one fake endpoint's requests."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Nothing on the terminal."""

        def do_POST(self) -> None:
            with fake.lock:
                fake.flying += 1
                fake.most_flying = max(fake.most_flying, fake.flying)
            try:
                self.serve()
            finally:
                with fake.lock:
                    fake.flying -= 1

        def serve(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            value, status, fault = record_request(fake, body, dict(self.headers))
            fake.over.wait(fake.delay)
            if fault == "hang":
                fake.over.wait(NEVER)
                self.close_connection = True
                return
            if status != 200:
                value = {"error": {"message": chat_message(fault, fake, body), "type": "made", "code": None}}
            self.send(status, json.dumps(value).encode(), fault)

        def send(self, status: int, data: bytes, fault: str) -> None:
            broken = send_reply(self.wfile.write, fake, status, data, fault)
            self.close_connection = broken or self.close_connection
            self.wfile.flush()

    return Handler


def record_request(fake: FakeEndpoint, body: dict[str, Any], headers: dict[str, str]) -> tuple[Any, int, str]:
    """Count a request; the reply's value, its status (0: none is sent) and its fault."""
    question = str(body["messages"][-1]["content"])
    keyed = headers.get("Authorization") == f"Bearer {fake.key}"
    with fake.lock:
        fault = fake.fault_of(len(fake.seen), fake.asked[question], keyed, body)
        fake.asked[question] += 1
        value, tokens_in, tokens_out = fake.reply(question, body, fault)
        status = 0 if fault == "hang" else STATUS.get(fault, 200)
        billed = status == 200 or fault in LOST
        tokens = (tokens_in, tokens_out) if billed else (0, 0)
        fake.seen.append(ReceivedRequest(question, body, headers, status, fault, *tokens))
    return value, status, fault


def send_reply(write: Callable[[bytes], Any], fake: FakeEndpoint, status: int, data: bytes, fault: str) -> bool:
    """Send a reply with its fault; whether the connection is of no use afterwards."""
    if fault == "broken":
        data = data[: len(data) // 2]
    lines = [f"HTTP/1.1 {status} {fake.reason}", "Content-Type: application/json", f"Content-Length: {len(data)}"]
    lines += [f"Retry-After: {fake.wait}"] if fault == "429-wait" else []
    whole = "\r\n".join([*lines, "", ""]).encode() + data
    if fault == "trickle":
        send_slowly(write, whole[:20] + b"X-Made: " + b"a" * 90_000, 20, fake.over)
    elif fault == "drip":
        send_slowly(write, whole, len(whole) - len(data), fake.over)
    elif fault == "cut":
        write(whole[: -len(data) // 2])
    else:
        write(whole * (2 if fault == "duplicate" else 1))
        return False
    return True


def send_slowly(write: Callable[[bytes], Any], whole: bytes, head: int, over: threading.Event) -> None:
    """Send the head of a reply at once and then a byte now and then."""
    write(whole[:head])
    for place in range(head, len(whole)):
        over.wait(DRIP)
        write(whole[place : place + 1])


def chat_message(fault: str, fake: FakeEndpoint, body: Mapping[str, Any]) -> str:
    """What an error says."""
    if fake.message:
        return fake.message
    if fault == "400":
        name = next((name for name in fake.refuses if name in body), "")
        return f"Unsupported parameter: '{name}' is not supported with this model." if name else "Bad request"
    return {"401": f"Incorrect API key provided: {fake.key}", "529": "Overloaded"}.get(fault, "Rate limit or error")
