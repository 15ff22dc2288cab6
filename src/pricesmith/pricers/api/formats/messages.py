"""Anthropic's messages API: effort, JSON schema and prompt caching, which its OpenAI-compatible layer ignores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pricesmith.pricers.api.formats.base import (
    INTERRUPTED,
    PRICE_OBJECT,
    ApiError,
    Capabilities,
    ChatQuestion,
    ModelReply,
    find_cache_end,
    message_text,
    split_system,
    to_text,
)
from pricesmith.pricers.api.usage import Usage, get_detail, limit_part, read_tier, to_count

ANTHROPIC_VERSION = "2023-06-01"


class AnthropicMessages:
    """The format `anthropic`."""

    name = "anthropic"
    efforts = ("low", "medium", "high", "xhigh", "max")

    def path(self, model: str) -> str:
        """Return the path of a question below the base URL."""
        return "/messages"

    def headers(self, key: str) -> dict[str, str]:
        """Return the headers that carry the key and the version of the API."""
        return {"anthropic-version": ANTHROPIC_VERSION} | ({"x-api-key": key} if key else {})

    def request_body(self, question: ChatQuestion, capabilities: Capabilities) -> dict[str, Any]:
        """Return the body of a question, with the parameters that the endpoint supports.

        A temperature is not one of them: current models refuse it.
        """
        parameters: dict[str, Any] = {}
        output: dict[str, Any] = {}
        if effort := capabilities.choose_effort(question.reasoning_effort, self.efforts):
            output["effort"] = effort
        if capabilities.json and question.schema:
            output["format"] = {"type": "json_schema", "schema": PRICE_OBJECT}
        if output:
            parameters["output_config"] = output
        end = find_cache_end(question, ("user", "assistant")) if capabilities.prompt_cache else None
        messages: list[Mapping[str, Any]] = list(question.messages)
        if end is not None:
            part = {"type": "text", "text": messages[end]["content"], "cache_control": {"type": "ephemeral"}}
            messages[end] = {"role": messages[end]["role"], "content": [part]}
        system, chat = split_system(messages)
        return {
            "model": question.model,
            "max_tokens": question.max_output_tokens,
            **({"system": system} if system else {}),
            "messages": chat,
            **parameters,
            **question.extra_body,
        }

    def parse_reply(self, value: Any, max_tokens: float) -> ModelReply | ApiError:
        """Return the reply in a decoded body of status 200, or an error, which may be charged for."""
        content, finish = value["content"], value["stop_reason"]
        if not isinstance(content, list) or not isinstance(finish, str) or finish.casefold() in INTERRUPTED:
            return ApiError("retry", "an error in a reply", str(finish), billed=True)
        tier = read_tier(get_detail(value, "usage", "service_tier"))
        usage = read_anthropic_usage(value.get("usage"))
        return ModelReply(message_text(content), finish, usage, to_text(value.get("model")), tier)


def read_anthropic_usage(usage: Any) -> Usage:
    """Return the usage of a reply. `output_tokens` includes the thinking; input is the sum of three counts."""
    if not isinstance(usage, Mapping):
        return Usage()
    plain, written, read, tokens_out = (
        to_count(usage.get(f"{name}_tokens"))
        for name in ("input", "cache_creation_input", "cache_read_input", "output")
    )
    thinking = to_count(get_detail(usage, "output_tokens_details", "thinking_tokens"))
    if plain is None:
        return Usage()
    return Usage(plain + (written or 0) + (read or 0), tokens_out, read, written, limit_part(thinking, tokens_out))
