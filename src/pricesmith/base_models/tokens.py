"""The tokenizer audit: how a base writes prices, and how many tokens the listings of a catalog take.

A number that is one token is read in one forward pass; digit by digit, a price takes a small tree of passes. The audit
shows why two bases of one size differ in speed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pricesmith.core.types import Listing, render
from pricesmith.text.prompts import Prompt, encode_text, repair_unicode

NumberStyle = Literal["one token", "digits", "mixed"]
HIGHEST = 999  # the whole prices whose tokens are counted end here
MAX_CHARACTERS = 20_000  # of a listing; a longer one says no more about the catalog
MAX_LISTINGS = 2_000  # whose tokens are counted


@dataclass(frozen=True)
class TokenAudit:
    """How a tokenizer writes prices and listings.

    `numbers`: how it writes whole prices up to 999. `sign_apart`: whether the number's tokens are separate from the
    currency sign's. `longest`: tokens of the highest price of the range. Tokens of a listing: `mean`, `p95`, `cut` (the
    share of listings longer than `max_length`) and `prompt_tokens` (the mean of the whole prompt); None without
    listings.
    """

    base: str
    vocabulary: int
    numbers: NumberStyle
    sign_apart: bool
    longest: int
    listings: int = 0
    mean: float | None = None
    p95: float | None = None
    cut: float | None = None
    prompt_tokens: float | None = None


def audit_tokens(
    base: str, tokenizer: Any, prompt: Prompt, listings: Sequence[Listing] = (), top_price: float = HIGHEST
) -> TokenAudit:
    """The audit of one base's tokenizer. `top_price` is the highest of the catalog's range."""
    counts = [len(encode_text(tokenizer, str(number))) for number in range(HIGHEST + 1)]
    digits = [len(str(number)) for number in range(HIGHEST + 1)]
    numbers: NumberStyle = "mixed"
    if counts == digits:
        numbers = "digits"
    elif all(count == 1 for count in counts):
        numbers = "one token"
    sign = encode_text(tokenizer, prompt.ending)
    sign_apart = all(
        encode_text(tokenizer, f"{prompt.ending}{number}") == [*sign, *encode_text(tokenizer, str(number))]
        for number in (1, 7, 12, 45, 99, 128, 500, 750, 999)
    )
    longest = len(encode_text(tokenizer, str(int(min(top_price, 10**12)))))
    sample = listings[:: max(1, len(listings) // MAX_LISTINGS)][:MAX_LISTINGS]
    if not sample:
        return TokenAudit(base, len(tokenizer), numbers, sign_apart, longest)
    texts = [repair_unicode(render(listing)[:MAX_CHARACTERS]) for listing in sample]
    ids = tokenizer(texts, add_special_tokens=False, split_special_tokens=False, verbose=False)["input_ids"]
    lengths = sorted(map(len, ids))
    prompt_lengths = [len(prompt_ids) for prompt_ids in prompt.encode(tokenizer, sample)]
    return TokenAudit(
        base,
        len(tokenizer),
        numbers,
        sign_apart,
        longest,
        len(sample),
        sum(lengths) / len(lengths),
        float(lengths[min(len(lengths) - 1, int(0.95 * len(lengths)))]),
        sum(length > prompt.max_length for length in lengths) / len(lengths),
        sum(prompt_lengths) / len(prompt_lengths),
    )
