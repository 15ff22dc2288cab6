"""The tokenizer audit: how a base writes prices, and what the listings of a catalog cost it in tokens.

A number that is one token is read in one forward, and its digits cannot be told apart by half; digit by digit a price
takes a small tree. Neither is better on its own: what the audit finds is why two bases of one size differ in speed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pricesmith.core.types import Listing, render
from pricesmith.text.prompts import Prompt, encode_text, repair_unicode

Writes = Literal["one token", "digits", "mixed"]
UPTO = 999
LETTERS = 20_000  # characters of a listing that are counted: a megabyte says no more about the catalog
MOST = 2_000  # listings that are counted


@dataclass(frozen=True)
class TokenAudit:
    """What a tokenizer makes of prices and of listings.

    `numbers`: how whole prices to 999 are written. `sign_apart`: the number's tokens are its own, not the sign's.
    `longest`: tokens of the longest price of the range. Listings in tokens: `mean`, `p95`, the share that is cut at
    `max_length`, and `asked`: the mean of the whole prompt. None where no listings were given.
    """

    base: str
    vocabulary: int
    numbers: Writes
    sign_apart: bool
    longest: int
    listings: int = 0
    mean: float | None = None
    p95: float | None = None
    cut: float | None = None
    asked: float | None = None


def audit_tokens(
    base: str, tokenizer: Any, prompt: Prompt, listings: Sequence[Listing] = (), top_price: float = UPTO
) -> TokenAudit:
    """The audit of one base's tokenizer. `top_price` is the highest of the catalog's range."""
    counts = [len(encode_text(tokenizer, str(number))) for number in range(UPTO + 1)]
    whole, digit = all(count == 1 for count in counts), [len(str(number)) for number in range(UPTO + 1)]
    numbers: Writes = "one token" if whole else "digits" if counts == digit else "mixed"
    sign = encode_text(tokenizer, prompt.ending)
    apart = all(
        encode_text(tokenizer, f"{prompt.ending}{number}") == [*sign, *encode_text(tokenizer, str(number))]
        for number in (1, 7, 12, 45, 99, 128, 500, 750, 999)
    )
    longest = len(encode_text(tokenizer, str(int(min(top_price, 10**12)))))
    found = TokenAudit(base, len(tokenizer), numbers, apart, longest)
    some = listings[:: max(1, len(listings) // MOST)][:MOST]
    if not some:
        return found
    texts = [repair_unicode(render(listing)[:LETTERS]) for listing in some]
    ids = tokenizer(texts, add_special_tokens=False, split_special_tokens=False, verbose=False)["input_ids"]
    lengths = sorted(map(len, ids))
    asked = [len(one) for one in prompt.encode(tokenizer, some)]
    return TokenAudit(
        base,
        found.vocabulary,
        numbers,
        apart,
        longest,
        len(some),
        sum(lengths) / len(lengths),
        float(lengths[min(len(lengths) - 1, int(0.95 * len(lengths)))]),
        sum(length > prompt.max_length for length in lengths) / len(lengths),
        sum(asked) / len(asked),
    )
