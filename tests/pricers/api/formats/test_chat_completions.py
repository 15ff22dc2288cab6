"""OpenAI's chat completions: what is asked for, and what a reply says it used."""

from __future__ import annotations

import pytest

from pricesmith.pricers.api.formats.base import Capabilities, ChatQuestion
from pricesmith.pricers.api.formats.chat_completions import PRICE_SCHEMA, ChatCompletions
from pricesmith.pricers.api.usage import Usage

FORMAT = ChatCompletions()
SYSTEM = {"role": "system", "content": "You estimate."}
SHOWN = ({"role": "user", "content": "A hose. " * 100}, {"role": "assistant", "content": '{"price": 24}'})
ASKED = {"role": "user", "content": "A lamp. " * 100}


def test_a_question_asks_for_a_number_at_temperature_0() -> None:
    """With the name of the token limit that the endpoint uses."""
    question = ChatQuestion("m", [SYSTEM, ASKED], 64, reasoning_effort="low")
    assert FORMAT.request_body(question, Capabilities(limit="max_completion_tokens")) == {
        "model": "m",
        "messages": [SYSTEM, ASKED],
        "max_completion_tokens": 64,
        "response_format": PRICE_SCHEMA,
        "temperature": 0,
        "reasoning_effort": "low",
    }


def test_what_an_endpoint_does_not_support_is_left_out() -> None:
    """A refused effort is replaced by the nearest one."""
    refused = Capabilities(json=False, temperature=False, refused_efforts=("none", "minimal"))
    question = ChatQuestion("m", [ASKED], 64, reasoning_effort="none", extra_body={"provider": {"only": ["a"]}})
    assert FORMAT.request_body(question, refused) == {
        "model": "m",
        "messages": [ASKED],
        "max_tokens": 64,
        "reasoning_effort": "low",
        "provider": {"only": ["a"]},
    }


@pytest.mark.parametrize(
    ("model", "charged"),
    [
        ("gpt-6-luna", True),
        ("gpt-6.2-sol", True),
        ("gpt-5.6", True),
        ("gpt-5.1", False),
        ("gpt-4o", False),
        ("m", False),
    ],
)
def test_no_cache_write_is_paid_for_that_nobody_reads(model: str, charged: bool) -> None:
    """GPT from 5.6 on charges for writes to its prompt cache: without examples nothing is to be cached."""
    long, short = ChatQuestion(model, [SYSTEM, SHOWN[0], ASKED], 64, n_shared=1), ChatQuestion(model, [SYSTEM], 64)
    body = FORMAT.request_body(long, Capabilities())
    assert body.get("prompt_cache_options") == ({"mode": "explicit"} if charged else None)
    assert "prompt_cache_breakpoint" not in str(body)
    assert "prompt_cache_options" not in FORMAT.request_body(short, Capabilities())
    assert "prompt_cache_options" not in FORMAT.request_body(long, Capabilities(prompt_cache=False))


def test_examples_that_all_questions_share_are_cached_up_to_the_last_one_of_the_user() -> None:
    """A breakpoint cannot stand in an answer of the model."""
    question = ChatQuestion("gpt-6-luna", [SYSTEM, *SHOWN, *SHOWN, ASKED], 64, n_shared=5)
    messages = FORMAT.request_body(question, Capabilities())["messages"]
    part = {"type": "text", "text": SHOWN[0]["content"], "prompt_cache_breakpoint": {"mode": "explicit"}}
    assert messages == [SYSTEM, *SHOWN, {"role": "user", "content": [part]}, SHOWN[1], ASKED]
    assert question.messages[3] == SHOWN[0]


def test_the_details_of_a_usage_are_read() -> None:
    """Tokens read from the cache, written to it, and of reasoning; the model and the tier that were used."""
    usage = {
        "prompt_tokens": 2_000,
        "completion_tokens": 838,
        "total_tokens": 2_838,
        "prompt_tokens_details": {"cached_tokens": 1_500, "cache_write_tokens": 100},
        "completion_tokens_details": {"reasoning_tokens": 832},
    }
    choice = {"message": {"content": "24"}, "finish_reason": "stop"}
    value = {"choices": [choice], "usage": usage, "model": "gpt-6-luna-2026-11-01", "service_tier": "flex"}
    reply = FORMAT.parse_reply(value, 4096)
    assert reply.usage == Usage(2_000, 838, 1_500, 100, 832)  # type: ignore[union-attr]
    assert (reply.model, reply.tier) == ("gpt-6-luna-2026-11-01", "flex")  # type: ignore[union-attr]
