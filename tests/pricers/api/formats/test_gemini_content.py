"""Gemini's generateContent: schema and thinking level, and thinking tokens that are counted apart."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pricesmith.pricers.api.errors import parse_completion
from pricesmith.pricers.api.formats.base import PRICE_OBJECT, Capabilities, ChatQuestion
from pricesmith.pricers.api.formats.gemini_content import GeminiContent
from pricesmith.pricers.api.parse_response import REFUSAL, TRUNCATED, parse_response
from pricesmith.pricers.api.response_cache import Completion
from pricesmith.pricers.api.usage import Usage

FORMAT = GeminiContent()
MESSAGES = (
    {"role": "system", "content": "You estimate."},
    {"role": "user", "content": "A hose."},
    {"role": "assistant", "content": '{"price": 24}'},
    {"role": "user", "content": "A lamp."},
)


def reply(finish: str = "STOP", text: str = '{"price": 24}', **more: Any) -> dict[str, Any]:
    """A reply of generateContent."""
    parts = [{"text": "30?", "thought": True}, {"text": text}]
    candidate = {"content": {"parts": parts, "role": "model"}, "finishReason": finish}
    counts = {"promptTokenCount": 10, "candidatesTokenCount": 6, "thoughtsTokenCount": 832, "totalTokenCount": 848}
    return {"candidates": [candidate], "usageMetadata": counts, "modelVersion": "gemini-4-argon", **more}


def test_a_question_has_schema_and_thinking_level() -> None:
    """The model's turns have the role `model`, the system message stands apart; `none` is the lowest level there is."""
    question = ChatQuestion("gemini-4-argon", MESSAGES, 64, reasoning_effort="none")
    assert FORMAT.path(question.model) == "/models/gemini-4-argon:generateContent"
    assert FORMAT.request_body(question, Capabilities()) == {
        "contents": [
            {"role": "user", "parts": [{"text": "A hose."}]},
            {"role": "model", "parts": [{"text": '{"price": 24}'}]},
            {"role": "user", "parts": [{"text": "A lamp."}]},
        ],
        "systemInstruction": {"parts": [{"text": "You estimate."}]},
        "generationConfig": {
            "maxOutputTokens": 64,
            "responseMimeType": "application/json",
            "responseJsonSchema": PRICE_OBJECT,
            "temperature": 0,
            "thinkingConfig": {"thinkingLevel": "MINIMAL"},
        },
    }


def test_what_a_model_does_not_support_is_left_out() -> None:
    """The limit of tokens stays."""
    body = FORMAT.request_body(ChatQuestion("m", MESSAGES[1:], 64), Capabilities(json=False, temperature=False))
    assert body["generationConfig"] == {"maxOutputTokens": 64}
    assert "systemInstruction" not in body


def test_thinking_is_output_and_no_part_of_the_answer() -> None:
    """It is counted apart, and inside the total."""
    parsed = FORMAT.parse_reply(reply(), 4096)
    assert parsed.text == '{"price": 24}'  # type: ignore[union-attr]
    assert parsed.usage == Usage(10, 838, tokens_reasoning=832)  # type: ignore[union-attr]
    only_total = {"promptTokenCount": 10, "totalTokenCount": 848, "cachedContentTokenCount": 4}
    parsed = FORMAT.parse_reply(reply(usageMetadata=only_total), 4096)
    assert parsed.usage == Usage(10, 838, tokens_cached=4)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("finish", "result"),
    [("STOP", 24.0), ("MAX_TOKENS", TRUNCATED), ("SAFETY", REFUSAL), ("PROHIBITED_CONTENT", REFUSAL)],
)
def test_why_a_reply_ended_decides_whether_it_is_an_answer(finish: str, result: object) -> None:
    """A truncated or blocked one is unanswered."""
    completion = parse_completion(json.dumps(reply(finish)).encode(), None, api_format="gemini")
    assert isinstance(completion, Completion)
    assert parse_response(completion.text, completion.finish, "USD") == result


def test_a_blocked_question_is_unanswered() -> None:
    """There is no candidate, only the reason."""
    value = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 10}}
    completion = parse_completion(json.dumps(value).encode(), None, api_format="gemini")
    assert isinstance(completion, Completion)
    assert parse_response(completion.text, completion.finish, "USD") == REFUSAL


def test_a_limited_account_stops_the_command() -> None:
    """Every further listing would get the same."""
    error = parse_completion(json.dumps(reply("PUP_LIMITED_DISABLED")).encode(), None, api_format="gemini")
    assert getattr(error, "kind", "") == "stop"


@pytest.mark.parametrize("value", [{}, {"candidates": []}, {"candidates": [{}]}, [], None, {"candidates": [3]}])
def test_a_body_that_is_no_reply_is_requested_again(value: Any) -> None:
    """It may be charged for, and is never an answer."""
    error = parse_completion(json.dumps(value).encode(), None, api_format="gemini")
    assert (getattr(error, "kind", ""), getattr(error, "billed", "")) == ("retry", True)
