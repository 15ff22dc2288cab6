"""What came back from an endpoint: an answer, or a fault with what it means for the request, the budget and the work.

A fault is tried `again`, is a way of `speech` that the endpoint does not take, a reason to `skip` this listing, or to
`stop`.
"""

from __future__ import annotations

import email.utils
import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pricesmith.core.console import CONTROL
from pricesmith.pricers.api.deadline import DeadlineExceeded
from pricesmith.pricers.api.providers import TokenPrice
from pricesmith.pricers.api.redaction import mask_key
from pricesmith.pricers.api.response_cache import Completion
from pricesmith.text.prompts import repair_unicode

LONGEST = 20_000  # characters of an answer that are kept; a price has fewer
WORDS = 300
MOST_USD = 1e6  # of an answer; more was never meant
AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
OF_THE_LISTING = ("content_filter", "content_policy", "moderation", "flagged")
OF_THE_CONTEXT = ("context_length", "context length", "context window", "too long")
OF_THE_OUTPUT = ("max_tokens", "max_completion_tokens", "max_output_tokens", "completion", "output tokens")
OF_THE_ACCOUNT = (
    *("insufficient_quota", "credit balance", "insufficient credits", "api key", "api_key"),
    *("billing_hard_limit", "billing hard limit", "billing_not_active"),
)
# What an endpoint says of an answer that it broke off itself: another try may bring it whole.
INTERRUPTED = frozenset({"error", "abort", "aborted", "cancelled", "canceled", "insufficient_system_resource"})
# A gateway gave up waiting: who was asked behind it may have answered, and charged.
BEHIND_A_GATEWAY = frozenset({408, 502, 504, 520, 522, 524})
LATER = re.compile(
    r"\b(?:retry|try again) (?:in|after) (?:(\d+) ?h(?:ours?|rs?)?(?![a-z]) ?)?(?:(\d+) ?m(?:in\w*)?(?![a-z]) ?)?"
    r"(?:(\d+(?:\.\d+)?) ?(ms|milli|s))?",
    re.IGNORECASE,
)
OF_REASONING = re.compile("think|thought|reason", re.IGNORECASE)  # in the type of a part of a message
STATUS_REJECTED = "rejected"
CONTEXT_LENGTH = "more than its context holds"
TIMED_OUT, NO_CONNECTION = "time-out", "no connection"


@dataclass(frozen=True)
class ApiError:
    """Why there is no answer. `wait` is what the endpoint asks for, in seconds; `billed` where it may charge for it.

    `silent`: nothing came back, not even a status.
    """

    kind: Literal["again", "speech", "skip", "stop"]
    cause: str
    words: str = ""
    wait: float | None = None
    billed: bool = False
    silent: bool = False


def parse_completion(
    body: bytes, price: TokenPrice | None, most: float = math.inf, key: str = ""
) -> Completion | ApiError:
    """The answer in the body of a 200, its seconds left open; or a fault, which may have been charged for.

    `most` output tokens were allowed: where the endpoint does not say why an answer ended, one that takes all is cut.
    `key` is masked in all that is kept or shown.
    """
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return ApiError("again", "broken JSON", billed=True)
    if isinstance(value, dict) and isinstance(error := value.get("error"), dict) and not value.get("choices"):
        code = error.get("code")
        stop = code in (401, 402, 403, 404)
        cause = f"HTTP {code}" if isinstance(code, int) else "an error in a 200"
        return ApiError("stop" if stop else "again", cause, mask_keys(error.get("message", ""), key), billed=not stop)
    try:
        choice = value["choices"][0]
        finish = str(choice.get("finish_reason") or "")
        error = choice.get("error") or value.get("error")
        if error or finish.casefold() in INTERRUPTED:
            return ApiError("again", "an error in an answer", mask_keys(error or finish, key), billed=True)
        message = choice["message"]
        refusal = message.get("refusal")
        text = completion_text(message.get("content"))
        called = bool(message.get("tool_calls"))
    except (TypeError, KeyError, IndexError, AttributeError):
        return ApiError("again", "an answer without a message", billed=True)
    if isinstance(refusal, str) and refusal and not text:
        text, finish = refusal, "refusal"
    tokens_in, tokens_out, told = token_usage(value.get("usage"))
    if text and not tokens_out:
        tokens_out = None
    if not finish:  # some local servers never say why
        finish = "tool_calls" if called else "length" if (tokens_out or 0) >= most else "stop"
    cost = reported_cost(price, tokens_in, tokens_out, told) if price else told
    text, finish = repair_unicode(masked(text, key, LONGEST)), masked(finish, key, WORDS)
    return Completion(text, finish, tokens_in, tokens_out, cost, 0.0, told_usd=told)


def masked(text: str, key: str, longest: int) -> str:
    """The first `longest` characters of a text, the key masked before a cut can leave a part of it."""
    return mask_key(text[: 2 * longest], key)[:longest]


def reported_cost(price: TokenPrice, tokens_in: int | None, tokens_out: int | None, told: float | None) -> float | None:
    """Dollars of an answer: those of its tokens, or those that the endpoint told, if more; None without either."""
    if tokens_in is None or tokens_out is None:
        return told or None  # no dollars and no tokens is nothing told
    return max(price.of(tokens_in, tokens_out), told or 0.0)


def completion_text(content: Any) -> str:
    """The words of a message: a text, or parts that hold texts, a line for each; reasoning is no part of the answer.

    Parts are not joined without a break: 120 and 150 would become 120150.
    """
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict) and not OF_REASONING.search(str(part.get("type")))]
        return "\n".join(text for part in parts if isinstance(text := part.get("text"), str) and text)
    return content if isinstance(content, str) else ""


def token_usage(usage: Any) -> tuple[int | None, int | None, float | None]:
    """Tokens in, tokens out, and dollars where the endpoint says them (OpenRouter does); None for what is not said.

    Some endpoints leave reasoning out of `completion_tokens` and count it in `total_tokens`: it is paid for.
    """
    if not isinstance(usage, Mapping):
        return None, None, None
    tokens_in, tokens_out, total = (
        to_number(usage.get(f"{name}_tokens")) for name in ("prompt", "completion", "total")
    )
    if not tokens_in:  # every question has some: a server that counts nothing says 0
        tokens_in = tokens_out = None
    if tokens_in is not None and tokens_out is not None and total is not None:
        tokens_out = max(tokens_out, total - tokens_in)
    cost = usage.get("cost")
    good = isinstance(cost, int | float) and not isinstance(cost, bool) and 0 <= cost < MOST_USD  # NaN is in no range
    return tokens_in, tokens_out, float(cost) if good and cost is not None else None


def to_number(value: Any) -> int | None:
    """A count, None where it is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**12 else None


def classify_exception(error: Exception, key: str, *, proven: bool) -> ApiError | Completion:
    """What an exception of the openai client means. `proven`: the endpoint has answered requests like this one.

    A request that the endpoint rejects for what the listing says is an answer without a price.
    """
    import httpx2
    import openai

    if isinstance(error, openai.APIStatusError):
        return classify_status(error, key, proven=proven)
    if isinstance(error, DeadlineExceeded):
        return ApiError("again", TIMED_OUT, billed=error.sent, silent=True)
    if isinstance(error, openai.APITimeoutError):
        sent = not isinstance(error.__cause__, httpx2.ConnectTimeout | httpx2.PoolTimeout)
        return ApiError("again", TIMED_OUT, billed=sent, silent=True)
    if isinstance(error, openai.APIConnectionError) and isinstance(error.__cause__, httpx2.DecodingError):
        return ApiError("again", "a reply that cannot be read", mask_keys(error.__cause__, key), billed=True)
    if isinstance(error, openai.APIConnectionError):
        if isinstance(error.__cause__, httpx2.ConnectError | httpx2.UnsupportedProtocol):
            return ApiError("again", NO_CONNECTION, mask_keys(error.__cause__, key), silent=True)
        return ApiError("again", "a cut connection", billed=True, silent=True)
    if isinstance(error, openai.APIError | httpx2.HTTPError | httpx2.DecodingError):
        return ApiError("again", "a reply that cannot be read", billed=True)
    return ApiError("stop", "an unexpected error", mask_keys(f"{type(error).__name__}: {error}", key), billed=True)


def classify_status(error: Any, key: str, *, proven: bool) -> ApiError | Completion:
    """What a status of 300 or more means."""
    status, words = int(error.status_code), error_words(error, key)
    cause, low = f"HTTP {status}", words.lower()
    wait = retry_delay(error.response.headers, words)
    if status in (400, 429) and wait is None and any(mark in low for mark in OF_THE_ACCOUNT):
        return ApiError("stop", cause, words)
    if status in (400, 403, 413, 422) and any(mark in low for mark in (*OF_THE_CONTEXT, *OF_THE_LISTING)):
        # Where nothing was answered yet, or the words speak of the answer, output= asks for more than there is.
        ours = not proven or any(mark in low for mark in OF_THE_OUTPUT)
        if ours and any(mark in low for mark in OF_THE_CONTEXT):
            return ApiError("skip", f"{cause}, {CONTEXT_LENGTH}", words)
        return Completion(words, STATUS_REJECTED, 0, 0, 0.0, 0.0)
    if status in AGAIN or status >= 500:
        return ApiError("again", cause, words, wait, billed=status in BEHIND_A_GATEWAY)
    if status in (400, 422):
        return ApiError("skip" if proven else "speech", cause, words)
    return ApiError("stop", cause, words)


def error_words(error: Any, key: str) -> str:
    """What the endpoint says of an error, on one line, without the key."""
    body = error.body if isinstance(error.body, dict) else {}
    said = [str(body[name]) for name in ("code", "message") if body.get(name)]
    text = ": ".join(said) or str(error.response.text)
    return mask_keys(text, key)


def mask_keys(said: object, key: str) -> str:
    """Words of an endpoint on one line of bounded length, without the key and without what moves a terminal."""
    return repair_unicode(" ".join(masked(str(said), key, 10 * WORDS).split())[:WORDS]).translate(CONTROL)


def retry_delay(headers: Mapping[str, str], words: str = "") -> float | None:
    """The seconds that Retry-After asks for, as a number or as a date, or else the words; None where nothing does."""
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
    said = LATER.search(words)
    if said is None or not any(said.groups()):
        return None
    hours, minutes, rest = (float(part or 0) for part in said.groups()[:3])
    return hours * 3600 + minutes * 60 + rest / (1000 if (said[4] or "").lower().startswith("m") else 1)
