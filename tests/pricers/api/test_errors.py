"""What came back from an endpoint is read as what it is: an answer, one more try, a listing left out, or the end."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from pricesmith.pricers.api.errors import (
    CONTEXT_LENGTH,
    STATUS_REJECTED,
    classify_exception,
    classify_status,
    error_message,
    parse_completion,
    read_retry_after,
)
from pricesmith.pricers.api.formats.base import ApiError
from pricesmith.pricers.api.prices import PriceList
from pricesmith.pricers.api.response_cache import Completion


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"retry-after": "2"}, 2.0), ({"retry-after-ms": "250"}, 0.25), ({"retry-after": "soon"}, None), ({}, None)],
)
def test_retry_after_is_read(headers: dict[str, str], seconds: float | None) -> None:
    """As seconds, as milliseconds, or not at all."""
    assert read_retry_after(headers) == seconds


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("Please try again in 6m30s.", 390.0),
        ("Please try again in 1h2m3.5s.", 3723.5),
        ("try again in 20ms", 0.02),
        ("Retry after 23 seconds", 23.0),
        ("Retry in 2 minutes", 120.0),
        ("retry in ...s", None),
        ("retry in 1.2.3s", None),
        ("try again in a moment", None),
        ("try again in 3 more days", None),
    ],
)
def test_a_wait_in_words_is_read(words: str, seconds: float | None) -> None:
    """In the formats of the endpoints; a value that is not a time is ignored."""
    assert read_retry_after({}, words) == seconds


def status(code: int, message: str, headers: dict[str, str], *, proven: bool = True) -> Any:
    """What a status of the endpoint means."""
    body = json.dumps({"error": {"message": message}}).encode()
    return classify_status(code, headers, body, "", proven=proven)


@pytest.mark.parametrize(
    ("message", "headers", "wait"),
    [
        (
            "You exceeded your current quota, please check your plan and billing details. Please retry in 23.5s.",
            {},
            23.5,
        ),
        ("Too many requests for your billing tier", {"retry-after": "7"}, 7.0),
        ("insufficient_quota for this minute", {"retry-after": "7"}, 7.0),
    ],
)
def test_a_rate_limit_that_speaks_of_billing_is_waited_for(message: str, headers: dict[str, str], wait: float) -> None:
    """A 429 with Retry-After is a rate limit, not an empty account."""
    error = status(429, message, headers)
    assert (error.kind, error.retry_after) == ("retry", wait)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (429, "insufficient_quota: you have no credit left"),
        (429, "billing_not_active: Your account is not active"),
        (400, "Billing hard limit has been reached"),
    ],
)
def test_an_empty_account_stops(code: int, message: str) -> None:
    """There is no Retry-After."""
    assert status(code, message, {}).kind == "stop"


@pytest.mark.parametrize(
    ("message", "proven", "kind"),
    [
        ("This model's maximum context length is 2048 tokens", False, "skip"),
        ("'max_tokens' is too large: 4096. The maximum context length is 2048", True, "skip"),
        ("This model's maximum context length is 2048 tokens, your messages have 9000", True, STATUS_REJECTED),
        ("flagged by moderation", False, STATUS_REJECTED),
    ],
)
def test_an_answer_longer_than_the_context_is_no_fault_of_the_listing(message: str, proven: bool, kind: str) -> None:
    """output= may ask for more than there is: then nothing is remembered of the listing."""
    error = status(400, message, {}, proven=proven)
    assert (error.finish if kind == STATUS_REJECTED else error.kind) == kind
    assert kind == STATUS_REJECTED or error.cause.endswith(CONTEXT_LENGTH)


@pytest.mark.parametrize(
    "message",
    [
        "max_tokens: 64000 > 32000, which is the maximum allowed number of output tokens for claude-x",
        "max_tokens is too large: 100000. This model supports at most 16384 completion tokens.",
        "it has a maxOutputTokens value of 100000 but the supported range is from 1 to 65537 (exclusive).",
    ],
)
@pytest.mark.parametrize("proven", [True, False])
def test_a_limit_of_tokens_that_a_model_does_not_have_is_no_fault_of_the_listing(message: str, proven: bool) -> None:
    """In the words of Anthropic, OpenAI and Google; no other parameter is left out for it."""
    error = status(400, message, {}, proven=proven)
    assert (error.kind, error.cause) == ("skip", f"HTTP 400, {CONTEXT_LENGTH}")


@pytest.mark.parametrize(
    ("code", "billed"), [(504, True), (524, True), (502, True), (408, True), (429, False), (503, False)]
)
def test_a_gateway_that_gave_up_may_have_been_charged_for(code: int, billed: bool) -> None:
    """Who was asked behind it may have answered; one that was not let in has not."""
    assert status(code, "later", {}).billed == billed


def test_the_endpoints_own_cost_counts_where_it_is_higher() -> None:
    """Web searches and tools are charged beside the tokens."""
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "cost": 5.0}
    body = {"choices": [{"message": {"content": "$1"}, "finish_reason": "stop"}], "usage": usage}
    assert parse_completion(json.dumps(body).encode(), PriceList.flat(1, 2)).cost_usd == 5.0  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        ({"cost": 0.01}, 0.01),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, None),
        ({"prompt_tokens": 10, "completion_tokens": 0}, None),
        ({"prompt_tokens": 0, "completion_tokens": 0, "cost": 0}, None),
        ({}, None),
    ],
)
def test_an_answer_without_counts_has_the_reported_cost_or_none(usage: dict[str, float], cost: float) -> None:
    """A server that does not count tokens reports 0; that does not mean that the request was free."""
    body = {"choices": [{"message": {"content": "$1"}, "finish_reason": "stop"}], "usage": usage}
    assert parse_completion(json.dumps(body).encode(), PriceList.flat(1, 2)).cost_usd == cost  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "more",
    [
        {"finish_reason": "error"},
        {"finish_reason": "ERROR"},
        {"finish_reason": "abort"},
        {"finish_reason": "stop", "error": {"message": "upstream died"}},
    ],
)
def test_an_error_inside_an_answer_is_no_answer(more: dict[str, Any]) -> None:
    """The text before the error is neither parsed nor cached."""
    choice = {"message": {"content": "$1"}, **more}
    completion = parse_completion(json.dumps({"choices": [choice]}).encode(), PriceList.flat(1, 2))
    assert (completion.kind, completion.billed) == ("retry", True)  # type: ignore[union-attr]


def test_an_error_beside_an_answer_is_no_answer() -> None:
    """A server whose upstream failed during the reply has an error at the top level."""
    body = {"error": {"message": "died"}, "choices": [{"message": {"content": "$1"}, "finish_reason": "stop"}]}
    assert parse_completion(json.dumps(body).encode(), None).billed is True  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("message", "tokens", "finish"),
    [
        ({"content": "$19"}, 3, "stop"),
        ({"content": "$1"}, 64, "length"),
        ({"content": "$1", "tool_calls": [{"id": "1"}]}, 3, "tool_calls"),
    ],
)
def test_a_server_that_does_not_say_why_it_ended_is_read_with_care(
    message: dict[str, Any], tokens: int, finish: str
) -> None:
    """Some local ones never do: whole, unless it took all its tokens or calls a tool."""
    usage = {"prompt_tokens": 9, "completion_tokens": tokens}
    body = {"choices": [{"message": message, "finish_reason": None}], "usage": usage}
    assert parse_completion(json.dumps(body).encode(), None, 64).finish == finish  # type: ignore[union-attr]


def test_retry_after_may_be_a_date() -> None:
    """One in the past asks for no wait."""
    assert read_retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"choices": []}', b'{"choices": [{"message": null}]}', b"\xff\xfe", b"[" * 100_000],
)
def test_a_body_that_is_no_answer_is_a_fault(body: bytes) -> None:
    """Charged for, perhaps; tried again; never an answer."""
    completion = parse_completion(body, PriceList.flat(1, 2))
    assert getattr(completion, "kind", None) == "retry"


def test_the_model_and_the_tier_that_a_reply_names_are_read() -> None:
    """Without the key and bounded in length; a reply that names none, or something else, has none."""
    choice = {"message": {"content": "$1"}, "finish_reason": "stop"}
    body = {"choices": [choice], "model": "made-2 sk-made-0123456789", "service_tier": "flex"}
    reply = parse_completion(json.dumps(body).encode(), None, key="sk-made-0123456789")
    assert isinstance(reply, Completion)
    assert (reply.response_model, reply.tier) == ("made-2 [key]", "flex")
    body = {"choices": [choice], "model": ["x" * 1000], "service_tier": 3}
    reply = parse_completion(json.dumps(body).encode(), None)
    assert isinstance(reply, Completion)
    assert (reply.response_model, reply.tier) == ("", "")


@pytest.mark.parametrize(
    ("message", "finish"),
    [
        ({"content": "Bearer sk-secret-01"}, "stop"),
        ({"content": None, "refusal": "Not for SK-SECRET-01"}, "refusal"),
        ({"content": [{"type": "text", "text": "sk-secret"}, {"type": "text", "text": "-01"}]}, "stop"),
        ({"content": "x" * 39_995 + "sk-secret-01"}, "stop"),
        ({"content": "24"}, "sk-secret-01"),
    ],
)
def test_an_answer_is_kept_without_the_key(message: dict[str, Any], finish: str) -> None:
    """Wherever in it the endpoint puts it, and wherever it is cut."""
    body = {"choices": [{"message": message, "finish_reason": finish}]}
    completion = parse_completion(json.dumps(body).encode(), None, key="sk-secret-01")
    assert isinstance(completion, Completion)
    assert not any(part in (completion.text + completion.finish).lower() for part in ("sk-", "secret", "-01"))


def test_the_message_of_a_client_that_breaks_is_shown_without_the_key() -> None:
    """Its exceptions may hold the headers of the request; none of them is a traceback."""
    failure = classify_exception(RuntimeError("bad header b'Bearer sk-secret-01'"), "sk-secret-01")
    assert isinstance(failure, ApiError)
    assert (failure.kind, failure.message) == ("stop", "RuntimeError: bad header b'Bearer [key]'")
    request = httpx2.Request("POST", "http://127.0.0.1/v1/chat/completions")
    error = httpx2.DecodingError("it is packed (sk-secret-01)", request=request)
    failure = classify_exception(error, "sk-secret-01")
    assert isinstance(failure, ApiError)
    assert failure.message == "it is packed ([key])"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            {"error": {"message": "Rate limit reached", "type": "requests", "code": "rate_limit"}},
            "rate_limit: Rate limit reached",
        ),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "Overloaded"),
        ([{"error": {"code": 429, "message": "Quota", "status": "RESOURCE_EXHAUSTED"}}], "429: Quota"),
        (
            {"code": "Content violates usage guidelines", "error": "Blocked"},
            "Content violates usage guidelines: Blocked",
        ),
        ({"error": "model not found"}, "model not found"),
        ({"object": "error", "message": "No such model", "code": 404}, "404: No such model"),
        ({"detail": "Not Found"}, '{"detail": "Not Found"}'),
        ([], "[]"),
        ({"error": None}, '{"error": null}'),
    ],
)
def test_the_message_of_an_error_is_read_in_the_form_of_each_provider(body: Any, message: str) -> None:
    """OpenAI, Anthropic, Google, xAI, Ollama and vLLM; a body of another form is shown as it is."""
    assert error_message(json.dumps(body)) == message


def test_an_error_that_is_no_json_is_shown_as_it_is() -> None:
    """A gateway sends a page."""
    assert error_message("<html>Bad gateway") == "<html>Bad gateway"


def test_a_wait_after_the_part_of_an_error_that_is_shown_is_read() -> None:
    """Google names it after a long list of quotas."""
    error = status(429, f"You exceeded your current quota. {'* Quota exceeded. ' * 40} Please retry in 34s.", {})
    assert (error.kind, error.retry_after) == ("retry", 34.0)
    assert len(error.message) == 300


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"code": 401, "message": "Incorrect key: Bearer sk-secret \x1b[31m"}},
        {"choices": [{"error": {"message": "sk-secret\x07"}, "message": {}}]},
    ],
)
def test_an_error_in_a_200_shows_no_key_and_moves_no_terminal(body: dict[str, object]) -> None:
    """As words of other statuses do not."""
    completion = parse_completion(json.dumps(body).encode(), None, key="sk-secret")
    assert isinstance(completion, ApiError)
    assert "sk-secret" not in completion.message
    assert completion.message.isprintable()
