"""Estimates of the tokens that an API model will take, for the cost that is shown before anything is sent.

    output = estimate_output_tokens(pricer)
    output.tokens, output.basis              840.0, "it may reason; corrected after the first answers"

A reasoning model takes hundreds of output tokens for a short answer, such as 832 of reasoning for 6 of answer. The
estimate starts there, and is the mean of the model's replies as soon as there are a few of them, in the cache or from
the first requests of the run. It limits nothing: the budget reserves the worst case.
"""

from __future__ import annotations

from dataclasses import dataclass

from pricesmith.pricers.api.pricer import JSON_ANSWER_TOKENS, ApiPricer
from pricesmith.pricers.api.providers import Endpoint

REASONING_TOKENS = 832.0  # of one price, documented in docs/api-models.md
MIN_ANSWERS = 5  # of which a mean is taken
WITHOUT_REASONING = ("none",)  # values of reasoning_effort
# Characters per token by script: rules of thumb; models differ by a factor of up to about 1.5.
CHARS_PER_TOKEN = 4.0  # ASCII
CHARS_PER_TOKEN_ALPHABETIC = 2.0  # other letters below U+0800: Latin with accents, Greek, Cyrillic, Hebrew, Arabic
CHARS_PER_TOKEN_OTHER = 1.0  # Chinese, Japanese, Korean, Devanagari, Thai, emoji, ...


@dataclass(frozen=True)
class OutputEstimate:
    """The expected output tokens of a reply, and what the number is based on, in words."""

    tokens: float
    basis: str
    measured: bool = False


def estimate_output_tokens(pricer: ApiPricer) -> OutputEstimate:
    """Return the expected number of output tokens of a reply: as in the cached ones, or before there are any."""
    endpoint, options = pricer.endpoint, pricer.options
    mean = pricer.cache.mean_output_tokens(endpoint.url, endpoint.model, options.reasoning_effort, pricer.purpose)
    if mean is not None:
        return OutputEstimate(mean, "as in its cached replies", measured=True)
    return first_estimate(endpoint, options.reasoning_effort, options.max_output_tokens, pricer.answer_tokens)


def first_estimate(
    endpoint: Endpoint, reasoning_effort: str, max_output_tokens: int, answer_tokens: float = JSON_ANSWER_TOKENS
) -> OutputEstimate:
    """Return the expected number of output tokens of a model without any reply, at most the limit of the request.
    `answer_tokens` are those of the answer without reasoning."""
    if not endpoint.reasoning or reasoning_effort in WITHOUT_REASONING:
        return OutputEstimate(answer_tokens, "without reasoning")
    tokens = min(answer_tokens + REASONING_TOKENS, float(max_output_tokens))
    return OutputEstimate(tokens, "it may reason; corrected after the first answers")


def estimate_tokens(text: str) -> float:
    """Return the approximate number of tokens of a text, from its characters by script."""
    ascii_chars = len(text) if text.isascii() else sum(char < "\x80" for char in text)
    alphabetic = 0 if ascii_chars == len(text) else sum("\x80" <= char < "\u0800" for char in text)
    other = len(text) - ascii_chars - alphabetic
    return ascii_chars / CHARS_PER_TOKEN + alphabetic / CHARS_PER_TOKEN_ALPHABETIC + other / CHARS_PER_TOKEN_OTHER
