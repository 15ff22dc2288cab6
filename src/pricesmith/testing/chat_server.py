"""A small OpenAI-compatible server on this machine: /v1/chat/completions for a language model in a folder.

    with ChatServer(make_model(Path("tiny"), chat=True)) as server:
        server.url

For a request with a JSON schema it writes the object and lets the model choose the digits of the number, as servers
with grammars do; otherwise it decodes greedily. For tests: one request at a time, no key.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import Any

from pricesmith.testing.endpoint import QuietServer
from pricesmith.text.prompts import apply_chat_template, encode_text

MAX_DIGITS = 6
MAX_TOKENS = 48  # of a text answer, whatever the request allows: it runs on a CPU


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
        self.server = QuietServer(("127.0.0.1", 0), build_handler(self))
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
        prompt = self.encode_chat(messages)
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

    def encode_chat(self, messages: list[dict[str, str]]) -> list[int]:
        """Return the chat as token ids; for a base model without a template, as paragraphs."""
        if getattr(self.tokenizer, "chat_template", None):
            text = apply_chat_template(self.tokenizer, messages)
            if text is not None:
                return encode_text(self.tokenizer, text)
        text = "\n\n".join(message["content"] for message in messages)
        return encode_text(self.tokenizer, f"{text}\n\n", special=True)

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


def build_handler(chat: ChatServer) -> type[BaseHTTPRequestHandler]:
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
