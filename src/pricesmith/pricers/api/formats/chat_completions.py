"""OpenAI's chat completions API, which most providers and local servers have too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pricesmith.pricers.api.formats.base import (
    EFFORTS,
    INTERRUPTED,
    PRICE_OBJECT,
    ApiError,
    Capabilities,
    ChatQuestion,
    ModelReply,
    find_cache_end,
    message_text,
    to_text,
)
from pricesmith.pricers.api.usage import read_tier, read_usage

PRICE_SCHEMA = {"type": "json_schema", "json_schema": {"name": "price", "strict": True, "schema": PRICE_OBJECT}}
VERSION = re.compile(r"gpt-(\d+)(?:\.(\d+))?")
FIRST_WITH_PAID_CACHE = (5, 6)  # GPT version from which a write to the prompt cache costs more than plain input
MIN_CACHED_CHARS = 1_024  # a shorter prompt has fewer than the 1,024 tokens that are cached


class ChatCompletions:
    """The format `openai`."""

    name = "openai"
    efforts = EFFORTS

    def path(self, model: str) -> str:
        """Return the path of a question below the base URL."""
        return "/chat/completions"

    def headers(self, key: str) -> dict[str, str]:
        """Return the headers that carry the key."""
        return {"Authorization": f"Bearer {key}"} if key else {}

    def request_body(self, question: ChatQuestion, capabilities: Capabilities) -> dict[str, Any]:
        """Return the body of a question, with the parameters that the endpoint supports."""
        parameters: dict[str, Any] = {capabilities.limit: question.max_output_tokens}
        if capabilities.json and question.schema:
            parameters["response_format"] = PRICE_SCHEMA
        if capabilities.temperature:
            parameters["temperature"] = 0
        if effort := capabilities.choose_effort(question.reasoning_effort, self.efforts):
            parameters["reasoning_effort"] = effort
        messages: list[Mapping[str, Any]] = list(question.messages)
        if capabilities.prompt_cache and pays_cache_writes(question):
            parameters["prompt_cache_options"] = {"mode": "explicit"}
            if (end := find_cache_end(question, ("user",))) is not None:
                part = {"type": "text", "text": messages[end]["content"]}
                part["prompt_cache_breakpoint"] = {"mode": "explicit"}
                messages[end] = {"role": "user", "content": [part]}
        return {"model": question.model, "messages": messages, **parameters, **question.extra_body}

    def parse_reply(self, value: Any, max_tokens: float) -> ModelReply | ApiError:
        """Return the reply in a decoded body of status 200, or an error, which may be charged for."""
        choice = value["choices"][0]
        finish = str(choice.get("finish_reason") or "")
        error = choice.get("error") or value.get("error")
        if error or finish.casefold() in INTERRUPTED:
            return ApiError("retry", "an error in a reply", str(error or finish), billed=True)
        message = choice["message"]
        refusal = message.get("refusal")
        text = message_text(message.get("content"))
        if isinstance(refusal, str) and refusal and not text:
            text, finish = refusal, "refusal"
        usage = read_usage(value.get("usage"))
        if not finish:  # some local servers never give a reason
            whole = "length" if (usage.tokens_out or 0) >= max_tokens else "stop"
            finish = "tool_calls" if message.get("tool_calls") else whole
        return ModelReply(text, finish, usage, to_text(value.get("model")), read_tier(value.get("service_tier")))


def pays_cache_writes(question: ChatQuestion) -> bool:
    """Return whether the model charges for writes to its prompt cache, and the prompt may be long enough for one."""
    version = VERSION.match(question.model)
    return (
        version is not None
        and (int(version[1]), int(version[2] or 0)) >= FIRST_WITH_PAID_CACHE
        and sum(len(message["content"].encode()) for message in question.messages) >= MIN_CACHED_CHARS
    )
