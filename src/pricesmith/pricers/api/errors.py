"""Interprets what an endpoint returned: a completion, or an error and what it means for the request and the command."""

from __future__ import annotations

import email.utils
import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from pricesmith.core.console import CONTROL
from pricesmith.pricers.api.costs import answer_cost
from pricesmith.pricers.api.formats import FormatName, get_format
from pricesmith.pricers.api.formats.base import ApiError, ModelReply
from pricesmith.pricers.api.parse_response import JSON_FAILED
from pricesmith.pricers.api.prices import PriceList
from pricesmith.pricers.api.redaction import Secrets, mask_key
from pricesmith.pricers.api.response_cache import Completion
from pricesmith.text.prompts import repair_unicode

MAX_TEXT_CHARS = 20_000  # of a reply that are stored; a price has fewer
MAX_MESSAGE_CHARS = 300  # of an endpoint's error message
MAX_NAME_CHARS = 100  # of the model that a reply names
MAX_ERROR_CHARS = 20_000  # of an error's body that are searched for a wait
# 498: the flex capacity of Groq is used up. 529: Anthropic is overloaded.
RETRY_STATUSES = frozenset({408, 409, 425, 429, 498, 500, 502, 503, 504, 520, 522, 524, 529})
LISTING_WORDS = (
    *("content_filter", "content_policy", "content policy", "content management policy", "moderation", "flagged"),
    *("violates usage guidelines", "safety_check"),
)
CONTEXT_WORDS = (
    *("context_length", "context length", "context window", "context size", "too long", "maximum prompt length"),
    *("input token count", "max_new_tokens", "maxoutputtokens value", "supports at most"),
    "maximum allowed number of output tokens",
)
OUTPUT_WORDS = (
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "maxoutputtokens",
    "completion",
    "output tokens",
)
WORKSPACE_HEADER = "anthropic-workspace-id"  # that a key without a workspace needs
ACCOUNT_WORDS = (
    *("insufficient_quota", "credit balance", "insufficient credits", "api key", "api_key"),
    *("billing_hard_limit", "billing hard limit", "billing_not_active", "spend limit", "api usage limits"),
    WORKSPACE_HEADER,
)
# The gateway gave up waiting: the server behind it may have answered, and charged.
GATEWAY_STATUSES = frozenset({408, 502, 504, 520, 522, 524})
RETRY_WORDS = re.compile(
    r"\b(?:retry|try again) (?:in|after) (?:(\d+) ?h(?:ours?|rs?)?(?![a-z]) ?)?(?:(\d+) ?m(?:in\w*)?(?![a-z]) ?)?"
    r"(?:(\d+(?:\.\d+)?) ?(ms|milli|s))?",
    re.IGNORECASE,
)
RETRY_DELAY = re.compile(r'"retryDelay"\s*:\s*"(\d+(?:\.\d+)?)s"')  # Google's RetryInfo
STATUS_REJECTED = "rejected"
CONTEXT_LENGTH = "longer than the model's context"
TIMED_OUT, NO_CONNECTION, UNEXPECTED = "timeout", "no connection", "an unexpected error"


def parse_completion(
    body: bytes,
    price: PriceList | None,
    max_tokens: float = math.inf,
    key: Secrets = "",
    api_format: FormatName = "openai",
    *,
    tier: str = "",
) -> Completion | ApiError:
    """Return the completion in the body of a status 200, without its seconds; or an error, which may be charged for.

    Its cost is the one for reports (`answer_cost`); `tier` is the service tier that was asked for. `max_tokens` output
    tokens were allowed: a reply without a finish reason that uses all of them counts as truncated.
    `key` is masked in all that is stored or shown.
    """
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return ApiError("retry", "invalid JSON", billed=True)
    return parse_value(value, price, max_tokens, key, api_format, tier=tier)


def parse_value(
    value: Any, price: PriceList | None, max_tokens: float, key: Secrets, api_format: FormatName, *, tier: str = ""
) -> Completion | ApiError:
    """Return the completion in a decoded body of status 200, as `parse_completion` does."""
    if isinstance(value, dict) and isinstance(error := value.get("error"), dict) and not value.get("choices"):
        code = error.get("code")
        stop = code in (401, 402, 403, 404)
        cause = f"HTTP {code}" if isinstance(code, int) else "an error with status 200"
        message = clean_message(error.get("message", ""), key)
        return ApiError("stop" if stop else "retry", cause, message, billed=not stop)
    try:
        reply = get_format(api_format).parse_reply(value, max_tokens)
    except (TypeError, KeyError, IndexError, AttributeError):
        return ApiError("retry", "a reply without a message", billed=True)
    if isinstance(reply, ApiError):
        return replace(reply, message=clean_message(reply.message, key))
    return to_completion(reply, price, key, tier=tier)


def to_completion(reply: ModelReply, price: PriceList | None, key: Secrets, *, tier: str = "") -> Completion:
    """Return a reply as a completion with its cost, without its seconds; the key is masked."""
    usage = reply.usage
    if reply.text and not usage.tokens_out:
        usage = replace(usage, tokens_out=None)
    completion = Completion(
        repair_unicode(mask_and_cut(reply.text, key, MAX_TEXT_CHARS)),
        mask_and_cut(reply.finish, key, MAX_MESSAGE_CHARS),
        cost_usd=None,
        seconds=0.0,
        tier=reply.tier or tier,
        response_model=clean_message(reply.model, key)[:MAX_NAME_CHARS],
        **asdict(usage),
    )
    return replace(completion, cost_usd=answer_cost(price, completion, moment=datetime.now(UTC)).report)


def mask_and_cut(text: str, key: Secrets, max_chars: int) -> str:
    """Return the first `max_chars` characters, the key masked before the cut can leave a part of it."""
    return mask_key(text[: 2 * max_chars], key)[:max_chars]


def classify_exception(error: Exception, key: Secrets) -> ApiError:
    """Interpret an exception of the HTTP client: no reply came, or none that can be read."""
    import httpx2

    from pricesmith.pricers.api.limits import DeadlineExceeded

    if isinstance(error, DeadlineExceeded):
        return ApiError("retry", TIMED_OUT, billed=error.sent, no_response=True)
    if isinstance(error, httpx2.TimeoutException):
        sent = not isinstance(error, httpx2.ConnectTimeout | httpx2.PoolTimeout)
        return ApiError("retry", TIMED_OUT, billed=sent, no_response=True)
    if isinstance(error, httpx2.DecodingError):
        return ApiError("retry", "an unreadable reply", clean_message(error, key), billed=True)
    if isinstance(error, httpx2.ConnectError | httpx2.UnsupportedProtocol):
        return ApiError("retry", NO_CONNECTION, clean_message(error, key), no_response=True)
    if isinstance(error, httpx2.TransportError):
        return ApiError("retry", "a lost connection", billed=True, no_response=True)
    if isinstance(error, httpx2.HTTPError):
        return ApiError("retry", "an unreadable reply", billed=True)
    return ApiError("stop", UNEXPECTED, clean_message(f"{type(error).__name__}: {error}", key), billed=True)


def classify_status(
    status: int, headers: Mapping[str, str], body: bytes, key: Secrets, *, proven: bool
) -> ApiError | Completion:
    """Interpret an HTTP status of 300 or more. `proven`: the endpoint has answered requests like this one.

    A request that the endpoint rejects because of the listing's content is a completion without a price, and so is an
    answer that is not the JSON that was asked for; its tokens and its cost are unknown.
    """
    text = body.decode("utf-8", "replace")
    message = clean_message(error_message(text), key)
    cause, lower = f"HTTP {status}", message.lower()
    if status == 400 and JSON_FAILED in lower:
        return Completion(clean_message(find_failed_answer(text), key), JSON_FAILED, None, None, None, 0.0)
    retry_after = read_retry_after(headers, text[:MAX_ERROR_CHARS])
    if status in (400, 429) and retry_after is None and any(mark in lower for mark in ACCOUNT_WORDS):
        return ApiError("stop", cause, message)
    if status in (400, 403, 413, 422) and any(mark in lower for mark in (*CONTEXT_WORDS, *LISTING_WORDS)):
        # If nothing was answered yet, or the message is about the output, max_output_tokens asks for too much.
        ours = not proven or any(mark in lower for mark in OUTPUT_WORDS)
        if ours and any(mark in lower for mark in CONTEXT_WORDS):
            return ApiError("skip", f"{cause}, {CONTEXT_LENGTH}", message)
        return Completion(message, STATUS_REJECTED, 0, 0, 0.0, 0.0)
    if status in RETRY_STATUSES or status >= 500:
        return ApiError("retry", cause, message, retry_after, billed=status in GATEWAY_STATUSES)
    if status in (400, 422):
        return ApiError("skip" if proven else "parameter", cause, message)
    return ApiError("stop", cause, message)


def error_message(text: str) -> str:
    """Return the code and the message in the body of an error, or the body itself if it has neither.

    The error is an object below `error` (OpenAI, Anthropic), the same in a list (Google), a text below `error` (xAI,
    Ollama), or the body itself (vLLM).
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    value = value[0] if isinstance(value, list) and value else value
    outer = value if isinstance(value, dict) else {}
    error = outer.get("error", outer)
    inner = error if isinstance(error, dict) else {"code": outer.get("code"), "message": error}
    parts = [str(inner[name]) for name in ("code", "message") if inner.get(name)]
    return ": ".join(parts) or text


def find_failed_answer(text: str) -> str:
    """Return the answer in Groq's error about an answer that is not the JSON that was asked for; empty without one."""
    try:
        return str(json.loads(text)["error"]["failed_generation"])
    except (ValueError, RecursionError, TypeError, KeyError):
        return ""


def clean_message(message: object, key: Secrets) -> str:
    """Return an endpoint's message as one line of bounded length, without the key and terminal control codes."""
    text = " ".join(mask_and_cut(str(message), key, 10 * MAX_MESSAGE_CHARS).split())
    return repair_unicode(text[:MAX_MESSAGE_CHARS]).translate(CONTROL)


def read_retry_after(headers: Mapping[str, str], message: str = "") -> float | None:
    """Return the seconds of a Retry-After header (a number or a date) or else of the message; None without either."""
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        try:
            seconds = float(value) / scale
        except ValueError:
            try:
                seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
            except (ValueError, TypeError, IndexError, OverflowError):
                continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    if delay := RETRY_DELAY.search(message):
        return float(delay[1])
    match = RETRY_WORDS.search(message)
    if match is None or not any(match.groups()):
        return None
    hours, minutes, rest = (float(part or 0) for part in match.groups()[:3])
    return hours * 3600 + minutes * 60 + rest / (1000 if (match[4] or "").lower().startswith("m") else 1)
