"""Interprets what an endpoint returned: a completion, or an error with its effect on the request, budget and command.

The kinds of an error: `retry` the request, `parameter` (the endpoint does not support one), `skip` this listing, or
`stop` the command.
"""

from __future__ import annotations

import email.utils
import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from pricesmith.core.console import CONTROL
from pricesmith.pricers.api.providers import TokenPrice
from pricesmith.pricers.api.redaction import mask_key
from pricesmith.pricers.api.response_cache import Completion
from pricesmith.pricers.api.usage import read_tier, read_usage
from pricesmith.text.prompts import repair_unicode

MAX_TEXT_CHARS = 20_000  # of a reply that are stored; a price has fewer
MAX_MESSAGE_CHARS = 300  # of an endpoint's error message
MAX_NAME_CHARS = 100  # of the model that a reply names
RETRY_STATUSES = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
LISTING_WORDS = ("content_filter", "content_policy", "moderation", "flagged")
CONTEXT_WORDS = ("context_length", "context length", "context window", "too long")
OUTPUT_WORDS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "completion", "output tokens")
ACCOUNT_WORDS = (
    *("insufficient_quota", "credit balance", "insufficient credits", "api key", "api_key"),
    *("billing_hard_limit", "billing hard limit", "billing_not_active"),
)
# Finish reasons of a reply that the endpoint itself interrupted: another try may bring it whole.
INTERRUPTED = frozenset({"error", "abort", "aborted", "cancelled", "canceled", "insufficient_system_resource"})
# The gateway gave up waiting: the server behind it may have answered, and charged.
GATEWAY_STATUSES = frozenset({408, 502, 504, 520, 522, 524})
RETRY_WORDS = re.compile(
    r"\b(?:retry|try again) (?:in|after) (?:(\d+) ?h(?:ours?|rs?)?(?![a-z]) ?)?(?:(\d+) ?m(?:in\w*)?(?![a-z]) ?)?"
    r"(?:(\d+(?:\.\d+)?) ?(ms|milli|s))?",
    re.IGNORECASE,
)
REASONING_TYPE = re.compile("think|thought|reason", re.IGNORECASE)  # the type of a message part
STATUS_REJECTED = "rejected"
CONTEXT_LENGTH = "longer than the model's context"
TIMED_OUT, NO_CONNECTION, UNEXPECTED = "timeout", "no connection", "an unexpected error"


@dataclass(frozen=True)
class ApiError:
    """Why there is no completion. `retry_after` in seconds is the endpoint's; `billed`: the endpoint may charge for it.

    `no_response`: nothing came back, not even a status.
    """

    kind: Literal["retry", "parameter", "skip", "stop"]
    cause: str
    message: str = ""
    retry_after: float | None = None
    billed: bool = False
    no_response: bool = False


def parse_completion(
    body: bytes, price: TokenPrice | None, max_tokens: float = math.inf, key: str = ""
) -> Completion | ApiError:
    """Return the completion in the body of a status 200, without its seconds; or an error, which may be charged for.

    `max_tokens` output tokens were allowed: a reply without a finish reason that uses all of them counts as truncated.
    `key` is masked in all that is stored or shown.
    """
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return ApiError("retry", "invalid JSON", billed=True)
    if isinstance(value, dict) and isinstance(error := value.get("error"), dict) and not value.get("choices"):
        code = error.get("code")
        stop = code in (401, 402, 403, 404)
        cause = f"HTTP {code}" if isinstance(code, int) else "an error with status 200"
        message = clean_message(error.get("message", ""), key)
        return ApiError("stop" if stop else "retry", cause, message, billed=not stop)
    try:
        choice = value["choices"][0]
        finish = str(choice.get("finish_reason") or "")
        error = choice.get("error") or value.get("error")
        if error or finish.casefold() in INTERRUPTED:
            return ApiError("retry", "an error in a reply", clean_message(error or finish, key), billed=True)
        message = choice["message"]
        refusal = message.get("refusal")
        text = message_text(message.get("content"))
        has_tool_calls = bool(message.get("tool_calls"))
    except (TypeError, KeyError, IndexError, AttributeError):
        return ApiError("retry", "a reply without a message", billed=True)
    if isinstance(refusal, str) and refusal and not text:
        text, finish = refusal, "refusal"
    usage = read_usage(value.get("usage"))
    if text and not usage.tokens_out:
        usage = replace(usage, tokens_out=None)
    if not finish:  # some local servers never give a reason
        finish = "tool_calls" if has_tool_calls else "length" if (usage.tokens_out or 0) >= max_tokens else "stop"
    reported = usage.reported_usd
    return Completion(
        repair_unicode(mask_and_cut(text, key, MAX_TEXT_CHARS)),
        mask_and_cut(finish, key, MAX_MESSAGE_CHARS),
        cost_usd=completion_cost(price, usage.tokens_in, usage.tokens_out, reported) if price else reported,
        seconds=0.0,
        tier=read_tier(value.get("service_tier")),
        response_model=read_model_name(value.get("model"), key),
        **asdict(usage),
    )


def read_model_name(value: Any, key: str) -> str:
    """Return the model that a reply names, without the key; empty if it names none."""
    return clean_message(value, key)[:MAX_NAME_CHARS] if isinstance(value, str) else ""


def mask_and_cut(text: str, key: str, max_chars: int) -> str:
    """Return the first `max_chars` characters, the key masked before the cut can leave a part of it."""
    return mask_key(text[: 2 * max_chars], key)[:max_chars]


def completion_cost(
    price: TokenPrice | None, tokens_in: int | None, tokens_out: int | None, reported: float | None
) -> float | None:
    """Return US dollars: the cost of the tokens or the cost that the endpoint reported, whichever is higher.

    None if neither is known.
    """
    if price is None or tokens_in is None or tokens_out is None:
        return reported or None  # 0 dollars without tokens means that nothing was reported
    return max(price.cost(tokens_in, tokens_out), reported or 0.0)


def message_text(content: Any) -> str:
    """Return the text of a message, one line for each part that is not reasoning.

    Parts are not joined directly: 120 and 150 would become 120150.
    """
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict)]
        texts = [part.get("text") for part in parts if not REASONING_TYPE.search(str(part.get("type")))]
        return "\n".join(text for text in texts if isinstance(text, str) and text)
    return content if isinstance(content, str) else ""


def classify_exception(error: Exception, key: str, *, proven: bool) -> ApiError | Completion:
    """Interpret an exception of the openai client. `proven`: the endpoint has answered requests like this one.

    A request that the endpoint rejects because of the listing's content is a completion without a price.
    """
    import httpx2
    import openai

    from pricesmith.pricers.api.limits import DeadlineExceeded

    if isinstance(error, openai.APIStatusError):
        return classify_status(error, key, proven=proven)
    if isinstance(error, DeadlineExceeded):
        return ApiError("retry", TIMED_OUT, billed=error.sent, no_response=True)
    if isinstance(error, openai.APITimeoutError):
        sent = not isinstance(error.__cause__, httpx2.ConnectTimeout | httpx2.PoolTimeout)
        return ApiError("retry", TIMED_OUT, billed=sent, no_response=True)
    if isinstance(error, openai.APIConnectionError) and isinstance(error.__cause__, httpx2.DecodingError):
        return ApiError("retry", "an unreadable reply", clean_message(error.__cause__, key), billed=True)
    if isinstance(error, openai.APIConnectionError):
        if isinstance(error.__cause__, httpx2.ConnectError | httpx2.UnsupportedProtocol):
            return ApiError("retry", NO_CONNECTION, clean_message(error.__cause__, key), no_response=True)
        return ApiError("retry", "a lost connection", billed=True, no_response=True)
    if isinstance(error, openai.APIError | httpx2.HTTPError | httpx2.DecodingError):
        return ApiError("retry", "an unreadable reply", billed=True)
    return ApiError("stop", UNEXPECTED, clean_message(f"{type(error).__name__}: {error}", key), billed=True)


def classify_status(error: Any, key: str, *, proven: bool) -> ApiError | Completion:
    """Interpret an HTTP status of 300 or more."""
    status, message = int(error.status_code), status_message(error, key)
    cause, lower = f"HTTP {status}", message.lower()
    retry_after = read_retry_after(error.response.headers, message)
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


def status_message(error: Any, key: str) -> str:
    """Return the endpoint's error message on one line, without the key."""
    body = error.body if isinstance(error.body, dict) else {}
    parts = [str(body[name]) for name in ("code", "message") if body.get(name)]
    return clean_message(": ".join(parts) or str(error.response.text), key)


def clean_message(message: object, key: str) -> str:
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
    match = RETRY_WORDS.search(message)
    if match is None or not any(match.groups()):
        return None
    hours, minutes, rest = (float(part or 0) for part in match.groups()[:3])
    return hours * 3600 + minutes * 60 + rest / (1000 if (match[4] or "").lower().startswith("m") else 1)
