"""Anthropic's messages: effort, schema and caching, the inclusive output count, and its reasons to stop."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pricesmith.pricers.api.errors import parse_completion
from pricesmith.pricers.api.formats.base import PRICE_OBJECT, Capabilities, ChatQuestion
from pricesmith.pricers.api.formats.messages import AnthropicMessages
from pricesmith.pricers.api.parse_response import REFUSAL, TRUNCATED, parse_response
from pricesmith.pricers.api.prices import PriceList
from pricesmith.pricers.api.response_cache import Completion
from pricesmith.pricers.api.usage import Usage

FORMAT = AnthropicMessages()
SYSTEM = {"role": "system", "content": "You estimate."}
SHOWN = ({"role": "user", "content": "A hose."}, {"role": "assistant", "content": '{"price": 24}'})
ASKED = {"role": "user", "content": "A lamp."}


def reply(**more: Any) -> dict[str, Any]:
    """A reply of the messages API."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-5-5",
        "content": [{"type": "thinking", "thinking": "30?"}, {"type": "text", "text": '{"price": 24}'}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 10, "output_tokens": 838},
        **more,
    }


def test_a_question_has_effort_and_schema_and_its_system_message_apart() -> None:
    """The messages API knows no system role and no temperature."""
    question = ChatQuestion("claude-haiku-5-5", [SYSTEM, ASKED], 64, reasoning_effort="max")
    assert FORMAT.request_body(question, Capabilities()) == {
        "model": "claude-haiku-5-5",
        "max_tokens": 64,
        "system": "You estimate.",
        "messages": [ASKED],
        "output_config": {"effort": "max", "format": {"type": "json_schema", "schema": PRICE_OBJECT}},
    }


def test_what_a_model_does_not_support_is_left_out() -> None:
    """It has no `none` or `minimal`: the lowest effort that it has is asked for."""
    question = ChatQuestion("m", [ASKED], 64, reasoning_effort="none")
    refused = Capabilities(json=False, temperature=False)
    assert FORMAT.request_body(question, refused) == {
        "model": "m",
        "max_tokens": 64,
        "messages": [ASKED],
        "output_config": {"effort": "low"},
    }


def test_shared_examples_are_cached_to_their_end() -> None:
    """Without any, nothing is written to the cache."""
    question = ChatQuestion("m", [SYSTEM, *SHOWN, ASKED], 64, n_shared=3)
    part = {"type": "text", "text": SHOWN[1]["content"], "cache_control": {"type": "ephemeral"}}
    messages = [SHOWN[0], {"role": "assistant", "content": [part]}, ASKED]
    assert FORMAT.request_body(question, Capabilities())["messages"] == messages
    for other in (ChatQuestion("m", [SYSTEM, *SHOWN, ASKED], 64, n_shared=1), ChatQuestion("m", [ASKED], 64)):
        assert "cache_control" not in str(FORMAT.request_body(other, Capabilities()))
    assert "cache_control" not in str(FORMAT.request_body(question, Capabilities(prompt_cache=False)))


def test_the_output_count_includes_the_thinking_and_the_input_is_a_sum() -> None:
    """Tokens written to and read from the cache are input beside the plain ones."""
    usage = {
        "input_tokens": 20,
        "cache_creation_input_tokens": 300,
        "cache_read_input_tokens": 4_000,
        "output_tokens": 838,
        "output_tokens_details": {"thinking_tokens": 832},
        "service_tier": "batch",
    }
    parsed = FORMAT.parse_reply(reply(usage=usage), 4096)
    assert parsed.usage == Usage(4_320, 838, 4_000, 300, 832)  # type: ignore[union-attr]
    assert (parsed.text, parsed.tier) == ('{"price": 24}', "batch")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("reason", "content", "result"),
    [
        ("end_turn", [{"type": "text", "text": '{"price": 24}'}], 24.0),
        ("max_tokens", [{"type": "text", "text": '{"price": 2'}], TRUNCATED),
        ("model_context_window_exceeded", [{"type": "text", "text": '{"price": 2'}], TRUNCATED),
        ("refusal", [], REFUSAL),
        ("refusal", [{"type": "text", "text": "24"}], REFUSAL),
    ],
)
def test_why_a_reply_ended_decides_whether_it_is_an_answer(reason: str, content: list[Any], result: object) -> None:
    """A truncated or refused one is unanswered, whatever it says."""
    body = json.dumps(reply(stop_reason=reason, content=content)).encode()
    completion = parse_completion(body, PriceList.flat(1, 2), api_format="anthropic")
    assert isinstance(completion, Completion)
    assert parse_response(completion.text, completion.finish, "USD") == result


@pytest.mark.parametrize(
    "value",
    [
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        {"type": "message", "content": None, "stop_reason": "end_turn"},
        {"type": "message", "content": [], "stop_reason": None},
        {"content": []},
        [],
        None,
    ],
)
def test_a_body_that_is_no_reply_is_requested_again(value: Any) -> None:
    """It may be charged for, and is never an answer."""
    error = parse_completion(json.dumps(value).encode(), None, api_format="anthropic")
    assert (getattr(error, "kind", ""), getattr(error, "billed", "")) == ("retry", True)
