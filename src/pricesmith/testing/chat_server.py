"""A small OpenAI-compatible server: /v1/chat/completions in front of a language model in a folder, on this machine.

    with ChatServer(made_model(Path("tiny"), chat=True)) as server:
        server.url

Asked for a JSON schema, it writes the object and lets the model choose the digits of its number, as servers with a
grammar do; else the model's likeliest words are what is said. For tests: one request at a time, no key.
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

MOST_DIGITS = 6
MOST_WORDS = 48  # tokens of an answer in words, whatever is asked for: it runs on a CPU


class ChatServer:
    """A model behind HTTP for the length of a `with`. `folder` is one that stock transformers loads."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.requests = folder, 0
        self.lock = threading.Lock()

    def __enter__(self) -> ChatServer:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(self.folder)
        model: Any = AutoModelForCausalLM.from_pretrained(self.folder)
        self.model: Any = model.eval()
        texts = self.tokenizer.batch_decode([[token] for token in range(len(self.tokenizer))])
        self.digits = {token: text for token, text in enumerate(texts) if text.isascii() and text.isdecimal()}
        (self.close,) = encode_text(self.tokenizer, "}")[-1:]
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
        """The reply to one request, in the shape of the chat API."""
        import torch

        turns = [{"role": str(turn["role"]), "content": str(turn["content"])} for turn in body["messages"]]
        most = min(MOST_WORDS, int(body.get("max_completion_tokens") or body.get("max_tokens") or MOST_WORDS))
        prompt = self.prompt(turns)
        with self.lock, torch.inference_mode():
            self.requests += 1
            if (body.get("response_format") or {}).get("type") == "json_schema":
                text, count = self.number(prompt)
                finish = "stop"
            else:
                text, count, finish = self.words(prompt, most)
        usage = {"prompt_tokens": len(prompt), "completion_tokens": count, "total_tokens": len(prompt) + count}
        choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}
        facts = {"id": f"chat-{self.requests}", "object": "chat.completion", "created": int(time.time())}
        return {**facts, "model": str(body["model"]), "choices": [choice], "usage": usage}

    def prompt(self, turns: list[dict[str, str]]) -> list[int]:
        """The chat as token ids; a base model without a template reads it as paragraphs."""
        if getattr(self.tokenizer, "chat_template", None):
            text = apply_chat_template(self.tokenizer, turns)
            if text is not None:
                return encode_text(self.tokenizer, text)
        text = "\n\n".join(turn["content"] for turn in turns)
        return encode_text(self.tokenizer, f"{text}\n\n", special=True)

    def number(self, prompt: Sequence[int]) -> tuple[str, int]:
        """The object with the number whose digits the model finds likeliest, and how many tokens it took."""
        ids = [*prompt, *encode_text(self.tokenizer, '{"price": ')]
        start, written = len(ids), ""
        while len(written) < MOST_DIGITS:
            logits = self.model(next_token_row(ids)).logits[0, -1]
            first = not written
            allowed = [token for token, text in self.digits.items() if not (first and text[0] == "0")]
            allowed += [] if first else [self.close]
            best = max(allowed, key=lambda token: float(logits[token]))
            if best == self.close:
                break
            ids.append(best)
            written += self.digits[best]
        return f'{{"price": {written}}}', len(ids) - start + 2

    def words(self, prompt: Sequence[int], most: int) -> tuple[str, int, str]:
        """The likeliest words, how many tokens they are, and why they end."""
        row = next_token_row(prompt)
        with_pad = {"pad_token_id": self.tokenizer.pad_token_id or 0, "attention_mask": row.new_ones(row.shape)}
        out = self.model.generate(row, max_new_tokens=most, do_sample=False, **with_pad)[0, len(prompt) :]
        finish = "length" if len(out) >= most else "stop"
        return self.tokenizer.decode(out, skip_special_tokens=True), len(out), finish


def next_token_row(ids: Sequence[int]) -> Any:
    """Token ids as a batch of one."""
    import torch

    return torch.tensor([list(ids)])


def build_handler(chat: ChatServer) -> type[BaseHTTPRequestHandler]:
    """The handler of one server's requests."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Nothing on the terminal."""

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
