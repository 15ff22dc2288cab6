"""Recognizes a prompt of which a server has read only a part without saying so, from the tokens that it counted.

Ollama drops the start of a prompt that is longer than its context (4,096 tokens on many machines, whatever the model
can do), answers the rest, and reports a normal end. Its count of prompt tokens is then far below what the text takes.

A count that is low for another reason must not stop a command: a text of few letters, or a server that does not count
the tokens that it still had in its cache. Those are the start of the prompt, so it has counted about the last message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pricesmith.pricers.api.formats.base import ApiError

LETTERS_PER_TOKEN = 4.0  # in prose; other scripts, digits and punctuation have fewer
MIN_SHARE = 0.75  # of the expected tokens, below which a part of the prompt is missing
MIN_TOKENS = 1_000  # that a truncated prompt has at least: no context is smaller
BYTES_PER_TOKEN = 3.0  # at least, in texts of several scripts
PROMPT_TRUNCATED = "a prompt that was truncated"
MAX_TOKENS_PER_BYTE = 0.5  # of the last message
REPEATED = re.compile(r"(.)\1{3,}", re.DOTALL)  # may be one token, however long


def is_truncated(messages: Sequence[Mapping[str, str]], tokens_in: int | None) -> bool:
    """Return whether a server that counted `tokens_in` prompt tokens has read only a part of the messages."""
    if tokens_in is None or tokens_in < MIN_TOKENS:
        return False
    expected = sum(count_letters(message["content"]) for message in messages) / LETTERS_PER_TOKEN
    of_last = len(messages[-1]["content"].encode()) * MAX_TOKENS_PER_BYTE
    return tokens_in < MIN_SHARE * expected and tokens_in > of_last


def count_letters(text: str) -> int:
    """Return the number of letters and digits, with long repetitions counted once."""
    return sum(char.isalnum() for char in REPEATED.sub(r"\1", text))


def truncation_error(messages: Sequence[Mapping[str, str]], tokens_in: int, max_output_tokens: int) -> ApiError:
    """Return the error that stops the command, with the context that the messages and the answer need."""
    needed = sum(len(message["content"].encode()) for message in messages) / BYTES_PER_TOKEN + max_output_tokens
    context = 2 ** max(12, (int(needed) - 1).bit_length())
    return ApiError(
        "stop",
        PROMPT_TRUNCATED,
        f"{tokens_in:,} tokens of a prompt and an answer that need a context of about {needed:,.0f}",
        billed=True,
        hint=f"Start Ollama with a larger context, OLLAMA_CONTEXT_LENGTH={context} ollama serve, or use fewer shots or "
        "comparables.",
    )
