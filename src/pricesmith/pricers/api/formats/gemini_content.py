"""Google's generateContent, the format of Gemini's own API and of its batch jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pricesmith.pricers.api.formats.base import (
    PRICE_OBJECT,
    ApiError,
    Capabilities,
    ChatQuestion,
    ModelReply,
    split_system,
    to_text,
)
from pricesmith.pricers.api.usage import Usage, limit_part, read_tier, to_count

ROLES = {"user": "user", "assistant": "model"}
ACCOUNT_LIMITED = "PUP_LIMITED_DISABLED"  # the finish reason if the account is limited or disabled


class GeminiContent:
    """The format `gemini`."""

    name = "gemini"
    efforts = ("minimal", "low", "medium", "high", "xhigh")

    def path(self, model: str) -> str:
        """Return the path of a question below the base URL."""
        return f"/models/{model}:generateContent"

    def headers(self, key: str) -> dict[str, str]:
        """Return the headers that carry the key."""
        return {"x-goog-api-key": key} if key else {}

    def request_body(self, question: ChatQuestion, capabilities: Capabilities) -> dict[str, Any]:
        """Return the body of a question, with the parameters that the endpoint supports."""
        config: dict[str, Any] = {"maxOutputTokens": question.max_output_tokens}
        if capabilities.json and question.schema:
            config |= {"responseMimeType": "application/json", "responseJsonSchema": PRICE_OBJECT}
        if capabilities.temperature:
            config["temperature"] = 0
        if effort := capabilities.choose_effort(question.reasoning_effort, self.efforts):
            config["thinkingConfig"] = {"thinkingLevel": effort.upper()}
        system, chat = split_system(question.messages)
        contents = [{"role": ROLES[turn["role"]], "parts": [{"text": turn["content"]}]} for turn in chat]
        instruction = {"systemInstruction": {"parts": [{"text": system}]}} if system else {}
        return {"contents": contents, **instruction, "generationConfig": config, **question.extra_body}

    def parse_reply(self, value: Any, max_tokens: float) -> ModelReply | ApiError:
        """Return the reply in a decoded body of status 200, or an error, which may be charged for."""
        usage, model = read_gemini_usage(value.get("usageMetadata")), to_text(value.get("modelVersion"))
        feedback = value.get("promptFeedback")
        if not value.get("candidates") and isinstance(feedback, Mapping) and feedback.get("blockReason"):
            return ModelReply(f"blocked: {feedback['blockReason']}", "content_filter", usage, model)
        candidate = value["candidates"][0]
        finish = candidate["finishReason"]
        if finish == ACCOUNT_LIMITED:
            return ApiError("stop", "an account that is limited or disabled", str(candidate.get("finishMessage") or ""))
        content = candidate.get("content") or {}
        parts = [part for part in content.get("parts") or [] if isinstance(part, Mapping) and not part.get("thought")]
        text = "\n".join(part["text"] for part in parts if isinstance(part.get("text"), str) and part["text"])
        return ModelReply(text, str(finish).lower(), usage, model, read_tier(value.get("serviceTier")))


def read_gemini_usage(usage: Any) -> Usage:
    """Return the usage of a reply. Thinking tokens are output beside those of the candidates, and inside the total."""
    if not isinstance(usage, Mapping):
        return Usage()
    tokens_in, candidates, thoughts, total, cached = (
        to_count(usage.get(f"{name}TokenCount"))
        for name in ("prompt", "candidates", "thoughts", "total", "cachedContent")
    )
    if not tokens_in or (candidates is None and total is None):
        return Usage(tokens_in or None)
    tokens_out = max((candidates or 0) + (thoughts or 0), (total or 0) - tokens_in)
    return Usage(tokens_in, tokens_out, limit_part(cached, tokens_in), None, limit_part(thoughts, tokens_out))
