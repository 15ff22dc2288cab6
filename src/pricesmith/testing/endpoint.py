"""API models on this machine: a fake one with the faults of real endpoints, and a server for a real language model.

    with FakeEndpoint(lambda question: '{"price": 24}', faults={0: "429", 1: "500"}) as fake:
        fake.url, fake.key
    fake.count_answers(question), fake.billed_usd(1.0, 2.0)

Faults: 429, 429-wait (with Retry-After), 500, 529, 504 (a gateway gave up), hang, trickle (the headers arrive byte by
byte, without end), drip (the body arrives byte by byte, very slowly), cut (the body is truncated), broken (invalid
JSON), refusal, words, duplicate (the whole reply is delivered twice), 400, 401, 403, 498, 503. It bills characters / 4
as tokens, rounded up, also for replies that never arrive whole: 504, hang, trickle, drip, cut and broken. Every request
is recorded. `style` is the provider whose requests, replies and errors it speaks (`provider_styles.py`).

    with ChatServer(make_model(Path("tiny"), chat=True)) as server:
        server.url

For a request with a JSON schema ChatServer writes the object and lets the model choose the digits of the number, as
servers with grammars do; otherwise it decodes greedily. One request at a time, no key.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

from pricesmith.pricers.api.prices import PriceList
from pricesmith.pricers.api.providers import Endpoint
from pricesmith.testing.provider_styles import STYLES, FakeReply
from pricesmith.text.prompts import apply_chat_template, encode_text

KEY = "sk-made-0123456789"
STATUS = {
    name: int(name[:3]) for name in ("400", "401", "403", "404", "429", "429-wait", "498", "500", "503", "504", "529")
}
NOT_DELIVERED = ("504", "hang", "trickle", "drip", "cut", "broken")  # answered and billed, never received whole
HANG_SECONDS = 3600.0
BYTE_SECONDS = 0.05  # between the bytes of a slow reply
Faults = Mapping[int, str] | Callable[[int, int], str | None]
MAX_DIGITS = 6  # of a price that a language model writes
MAX_TOKENS = 48  # of a text answer, whatever the request allows: it runs on a CPU


@dataclass(frozen=True)
class ReceivedRequest:
    """One request with the status of its reply (0: none was sent), its fault, and the tokens billed."""

    question: str
    body: Mapping[str, Any]
    headers: Mapping[str, str]
    status: int
    fault: str
    tokens_in: int = 0
    tokens_out: int = 0
    path: str = ""


class FakeEndpoint:
    """An endpoint on a free port of this machine that speaks as a provider does. A context manager.

    `answer` returns the reply to a question (the last message). `faults` maps the number of a request, from 0, to its
    fault, or is called with that number and how often this question was asked before. `refuses` names parameters that
    get a status 400, `rejects` is a text in a question that always gets one; `message` is the error message.
    `reasoning_tokens` are added to each reply, which comes after `delay` seconds. `usage`: replies report their tokens;
    `cost`: the dollars they report; `respects_limit`: replies are cut at the limit of output tokens. Prompts are cut at
    `context` tokens without a word, as Ollama does; `models` are listed at `/models`. `fields` and `usage_fields` are
    added to each reply and its usage.
    """

    def __init__(
        self,
        answer: Callable[[str], str] = lambda _: '{"price": 24}',
        *,
        faults: Faults | None = None,
        refuses: tuple[str, ...] = (),
        revoked_after: int | None = None,
        wait: str = "0.2",
        reasoning_tokens: int = 0,
        delay: float = 0.0,
        respects_limit: bool = True,
        usage: bool = True,
        cost: float | None = None,
        message: str = "",
        rejects: str = "",
        style: str = "openai",
        context: int | None = None,
        models: Sequence[Mapping[str, Any]] = (),
        fields: Mapping[str, Any] | None = None,
        usage_fields: Mapping[str, Any] | None = None,
    ) -> None:
        self.answer, self.faults, self.refuses = answer, faults or {}, refuses
        self.revoked_after, self.wait, self.reasoning_tokens, self.delay = revoked_after, wait, reasoning_tokens, delay
        self.respects_limit, self.usage, self.cost, self.key = respects_limit, usage, cost, KEY
        self.message, self.rejects = message, rejects
        self.style, self.context, self.models = STYLES[style], context, models
        self.fields, self.usage_fields = fields or {}, usage_fields or {}
        self.reason = "Made"  # the reason phrase of the status line
        self.requests: list[ReceivedRequest] = []
        self.question_counts: Counter[str] = Counter()
        self.in_flight = self.max_in_flight = 0
        self.lock, self.closing = threading.Lock(), threading.Event()
        self.server = QuietServer(("127.0.0.1", 0), build_handler(self))

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self.server.server_address[1]}{self.style.base}"

    def endpoint(self, price: tuple[float, float] | None = (1.0, 2.0)) -> Endpoint:
        """Return this endpoint for a pricer, at a price in dollars per million tokens."""
        prices = PriceList.flat(*price, "2026-11-22", "made") if price else None
        endpoint = Endpoint("made", self.url, "made-model", prices, "MADE_KEY", self.key)
        _, _, query = self.style.path.partition("?")
        return replace(endpoint, format=self.style.format, query=query, reasoning=self.reasoning_tokens > 0)

    def __enter__(self) -> FakeEndpoint:
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)

    def billed(self) -> list[ReceivedRequest]:
        """Return the billed requests, whether their replies arrived or not."""
        return [request for request in self.requests if request.tokens_out]

    def answered(self) -> list[ReceivedRequest]:
        """Return the requests whose replies were sent whole."""
        return [request for request in self.billed() if request.fault not in NOT_DELIVERED]

    def billed_usd(self, price_in: float, price_out: float) -> float:
        """Return the cost of the billed requests, at prices per million tokens."""
        return sum(request.tokens_in * price_in + request.tokens_out * price_out for request in self.billed()) / 1e6

    def count_answers(self, question: str) -> int:
        """Return how often a question was answered whole."""
        return sum(request.question == question for request in self.answered())

    def choose_fault(self, number: int, before: int, keyed: bool, body: Mapping[str, Any]) -> str:
        """Return the fault of a request, empty for none."""
        if not keyed or (self.revoked_after is not None and number >= self.revoked_after):
            return "401"
        rejected = bool(self.rejects) and self.rejects in self.style.turns(body)[-1]
        if rejected or any(has_parameter(body, name) for name in self.refuses):
            return "400"
        fault = self.faults(number, before) if callable(self.faults) else self.faults.get(number)
        return fault or ""

    def reply(self, question: str, body: Mapping[str, Any], fault: str) -> tuple[dict[str, Any], int, int]:
        """Return the body of a reply and the tokens billed for it."""
        texts = {"refusal": "I'm sorry, but I can't help with that.", "words": "About twenty dollars, I would say."}
        text = texts.get(fault) or self.answer(question)
        limit = self.style.token_limit(body)
        tokens_in = math.ceil(sum(map(len, self.style.turns(body))) / 4)
        tokens_in = tokens_in if self.context is None else min(tokens_in, self.context)
        tokens_out = math.ceil(len(text) / 4) + self.reasoning_tokens
        cut = tokens_out > limit and self.respects_limit
        if cut:
            text, tokens_out = text[: 4 * max(0, limit - self.reasoning_tokens)], limit
        reasoning = min(self.reasoning_tokens, tokens_out)
        made = FakeReply(len(self.requests), str(body.get("model", "")), text, cut, tokens_in, tokens_out, reasoning)
        usage = (
            self.style.usage(made) | ({"cost": self.cost} if self.cost is not None else {}) | dict(self.usage_fields)
        )
        return {**self.style.reply(made, usage if self.usage else None), **self.fields}, tokens_in, tokens_out


def has_parameter(body: Any, name: str) -> bool:
    """Return whether a request has a parameter, at any depth, or a value such as `reasoning_effort=minimal`."""
    wanted, _, value = name.partition("=")
    return any(
        (key == wanted and value in ("", str(content)))
        or any(has_parameter(part, name) for part in (content if isinstance(content, list) else [content]))
        for key, content in (body.items() if isinstance(body, Mapping) else ())
    )


class QuietServer(ThreadingHTTPServer):
    """A server that ignores clients closing their connection."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def handle_error(self, *_: Any) -> None:
        """A closed connection is part of the test."""


def build_handler(fake: FakeEndpoint) -> type[BaseHTTPRequestHandler]:
    """Return the request handler of a fake endpoint."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Write nothing to the terminal."""

        def do_GET(self) -> None:
            is_list = self.path == f"{fake.style.base}/models"
            self.send(200 if is_list else 404, json.dumps({"object": "list", "data": list(fake.models)}).encode(), "")

        def do_POST(self) -> None:
            with fake.lock:
                fake.in_flight += 1
                fake.max_in_flight = max(fake.max_in_flight, fake.in_flight)
            try:
                self.serve()
            finally:
                with fake.lock:
                    fake.in_flight -= 1

        def serve(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            value, status, fault = record_request(fake, body, dict(self.headers), self.path)
            fake.closing.wait(fake.delay)
            if fault == "hang":
                fake.closing.wait(HANG_SECONDS)
                self.close_connection = True
                return
            if status != 200:
                value = fake.style.error(status, error_message(fault, fake, body))
            self.send(status, json.dumps(value).encode(), fault)

        def send(self, status: int, data: bytes, fault: str) -> None:
            must_close = send_reply(self.wfile.write, fake, status, data, fault)
            self.close_connection = must_close or self.close_connection
            self.wfile.flush()

    return Handler


def record_request(
    fake: FakeEndpoint, body: dict[str, Any], headers: dict[str, str], path: str
) -> tuple[Any, int, str]:
    """Record a request; return the body of its reply, its status (0: none is sent) and its fault."""
    question = fake.style.turns(body)[-1]
    lower = {name.lower(): value for name, value in headers.items()}
    keyed = fake.style.is_keyed(lower, fake.key)
    with fake.lock:
        fault = fake.choose_fault(len(fake.requests), fake.question_counts[question], keyed, body)
        fault = fault if path.startswith(fake.style.base) and path.endswith(fake.style.path) else "404"
        fake.question_counts[question] += 1
        value, tokens_in, tokens_out = fake.reply(question, body, fault)
        status = 0 if fault == "hang" else STATUS.get(fault, 200)
        billed = status == 200 or fault in NOT_DELIVERED
        tokens = (tokens_in, tokens_out) if billed else (0, 0)
        fake.requests.append(ReceivedRequest(question, body, headers, status, fault, *tokens, path))
    return value, status, fault


def send_reply(write: Callable[[bytes], Any], fake: FakeEndpoint, status: int, data: bytes, fault: str) -> bool:
    """Send a reply with its fault; return whether the connection must be closed afterwards."""
    if fault == "broken":
        data = data[: len(data) // 2]
    lines = [f"HTTP/1.1 {status} {fake.reason}", "Content-Type: application/json", f"Content-Length: {len(data)}"]
    lines += [f"Retry-After: {fake.wait}"] if fault == "429-wait" else []
    whole = "\r\n".join([*lines, "", ""]).encode() + data
    if fault == "trickle":
        send_slowly(write, whole[:20] + b"X-Made: " + b"a" * 90_000, 20, fake.closing)
    elif fault == "drip":
        send_slowly(write, whole, len(whole) - len(data), fake.closing)
    elif fault == "cut":
        write(whole[: -len(data) // 2])
    else:
        write(whole * (2 if fault == "duplicate" else 1))
        return False
    return True


def send_slowly(write: Callable[[bytes], Any], whole: bytes, head: int, closing: threading.Event) -> None:
    """Send the first `head` bytes of a reply at once and the rest byte by byte."""
    write(whole[:head])
    for position in range(head, len(whole)):
        closing.wait(BYTE_SECONDS)
        write(whole[position : position + 1])


def error_message(fault: str, fake: FakeEndpoint, body: Mapping[str, Any]) -> str:
    """Return the message of an error."""
    if fake.message:
        return fake.message
    if fault == "400":
        name = next((name for name in fake.refuses if has_parameter(body, name)), "")
        parameter, _, value = name.partition("=")
        if value:
            return f"Unsupported value: '{parameter}' does not support '{value}' with this model."
        return f"Unsupported parameter: '{name}' is not supported with this model." if name else "Bad request"
    return {"401": f"Incorrect API key provided: {fake.key}", "529": "Overloaded"}.get(fault, "Rate limit or error")


class ChatServer:
    """A model behind HTTP. A context manager. `folder` is one that transformers can load."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.n_requests = folder, 0
        self.lock = threading.Lock()

    def __enter__(self) -> ChatServer:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(self.folder)
        model: Any = AutoModelForCausalLM.from_pretrained(self.folder)
        self.model: Any = model.eval()
        texts = self.tokenizer.batch_decode([[token] for token in range(len(self.tokenizer))])
        self.digits = {token: text for token, text in enumerate(texts) if text.isascii() and text.isdecimal()}
        (self.end_token,) = encode_text(self.tokenizer, "}")[-1:]
        self.server = QuietServer(("127.0.0.1", 0), build_chat_handler(self))
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the reply to one request in the format of the chat API."""
        import torch

        messages = [{"role": str(message["role"]), "content": str(message["content"])} for message in body["messages"]]
        limit = min(MAX_TOKENS, int(body.get("max_completion_tokens") or body.get("max_tokens") or MAX_TOKENS))
        prompt = self.encode_chat(messages, bool(body.get("continue_final_message")))
        with self.lock, torch.inference_mode():
            self.n_requests += 1
            if (body.get("response_format") or {}).get("type") == "json_schema":
                text, count = self.write_price(prompt)
                finish = "stop"
            else:
                text, count, finish = self.write_text(prompt, limit)
        usage = {"prompt_tokens": len(prompt), "completion_tokens": count, "total_tokens": len(prompt) + count}
        choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}
        facts = {"id": f"chat-{self.n_requests}", "object": "chat.completion", "created": int(time.time())}
        return {**facts, "model": str(body["model"]), "choices": [choice], "usage": usage}

    def encode_chat(self, messages: list[dict[str, str]], continues: bool = False) -> list[int]:
        """Return the chat as token ids; for a base model without a template, as paragraphs.

        `continues`: the last message is the beginning of the answer, as vLLM's `continue_final_message` has it.
        """
        begun = messages.pop()["content"] if continues else ""
        if getattr(self.tokenizer, "chat_template", None):
            text = apply_chat_template(self.tokenizer, messages)
            if text is not None:
                return encode_text(self.tokenizer, text + begun)
        text = "\n\n".join(message["content"] for message in messages)
        return encode_text(self.tokenizer, f"{text}\n\n{begun}", special=True)

    def write_price(self, prompt: Sequence[int]) -> tuple[str, int]:
        """Return a JSON object with the number of the most likely digits, and its number of tokens."""
        ids = [*prompt, *encode_text(self.tokenizer, '{"price": ')]
        start, digits = len(ids), ""
        while len(digits) < MAX_DIGITS:
            logits = self.model(next_token_row(ids)).logits[0, -1]
            first = not digits
            allowed = [token for token, text in self.digits.items() if not (first and text[0] == "0")]
            allowed += [] if first else [self.end_token]
            best = max(allowed, key=lambda token: float(logits[token]))
            if best == self.end_token:
                break
            ids.append(best)
            digits += self.digits[best]
        return f'{{"price": {digits}}}', len(ids) - start + 2

    def write_text(self, prompt: Sequence[int], limit: int) -> tuple[str, int, str]:
        """Return the greedily decoded text, its number of tokens, and the finish reason."""
        row = next_token_row(prompt)
        options = {"pad_token_id": self.tokenizer.pad_token_id or 0, "attention_mask": row.new_ones(row.shape)}
        out = self.model.generate(row, max_new_tokens=limit, do_sample=False, **options)[0, len(prompt) :]
        finish = "length" if len(out) >= limit else "stop"
        return self.tokenizer.decode(out, skip_special_tokens=True), len(out), finish


def next_token_row(ids: Sequence[int]) -> Any:
    """Return token ids as a batch of one."""
    import torch

    return torch.tensor([list(ids)])


def build_chat_handler(chat: ChatServer) -> type[BaseHTTPRequestHandler]:
    """Return the request handler of a server."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Write nothing to the terminal."""

        def do_POST(self) -> None:
            try:
                status, value = 200, chat.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                if self.path != "/v1/chat/completions":
                    status, value = 404, {"error": {"message": f"no {self.path}"}}
            except (ValueError, KeyError, TypeError) as error:
                status, value = 400, {"error": {"message": str(error)}}
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler
