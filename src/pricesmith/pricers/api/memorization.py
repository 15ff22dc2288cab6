"""Tests whether an API model has memorized listings: it gets the first half of one and continues it with the price.

    check_memorization(pricer, items, 50)
    {"asked": 50, "eight_words": 3, "whole": 1, "price": 2, "price_by_chance": 0.4, ...}

A model that continues word for word has read this very listing, and perhaps its price: its error here then says little
about new products. Only listings with a long enough second half count. A price counts if it is right to the cent;
`price_by_chance` is how many would be right if the answers were dealt to the other listings.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pricesmith.core.types import Item, Listing, render
from pricesmith.pricers.api.client import ApiClient, RequestFailed
from pricesmith.pricers.api.parse_response import has_several_numbers
from pricesmith.pricers.api.pricer import ApiPricer, ApiRequest
from pricesmith.pricers.api.response_cache import Completion
from pricesmith.text.price_parser import parse_price
from pricesmith.text.prompts import repair_unicode
from pricesmith.text.words import split_pieces, split_words

N_MATCHING_WORDS = 8  # consecutive words that nobody continues by accident
MIN_REST_WORDS = 10  # of the second half
MAX_WORDS = 400  # of a listing
MAX_CHARS = 8_000
SYSTEM = "You know product listings by heart."
QUESTION = (
    "This is how a product listing begins. Go on exactly where it stops, word for word, as it was published. "
    "End with a line that says Price: and the price it was listed at.\n\n"
)
PRICE = re.compile(r"price\W{0,4}\s*([^\n]{1,40})", re.IGNORECASE)


def split_halves(listing: Listing) -> tuple[str, list[str]] | None:
    """Return the text of a listing's first half and the words of its second; None if that is too short."""
    text = repair_unicode(render(listing))[:MAX_CHARS]
    pieces = split_pieces(text)[:MAX_WORDS]
    middle = len(pieces) // 2
    rest = split_words("".join(pieces[middle:]))
    return ("".join(pieces[:middle]), rest) if len(rest) >= MIN_REST_WORDS else None


def choose_items(items: Sequence[Item], count: int) -> list[Item]:
    """Return `count` items whose second half is long enough, in a fixed pseudo-random order."""
    suitable = [item for item in items if split_halves(item.listing) is not None]
    return sorted(suitable, key=lambda item: hashlib.sha256(f"recite {item.listing.id}".encode()).digest())[:count]


def build_request(pricer: ApiPricer, listing: Listing) -> ApiRequest:
    """Return the request that asks for a listing's second half."""
    halves = split_halves(listing)
    assert halves is not None
    messages = ({"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION + halves[0]})
    return pricer.request(messages, schema=False)


def check_memorization(pricer: ApiPricer, items: Sequence[Item], count: int) -> dict[str, Any]:
    """Ask for the second halves of up to `count` items; return how many came word for word, with usage and cost.

    The replies are cached and paid from the pricer's budget, and are no part of any quote.
    """
    chosen = choose_items(items, count)
    requests = [build_request(pricer, item.listing) for item in chosen]
    client = pricer.new_client(schema=False)
    try:
        results = pricer.complete(requests, client)
    finally:
        client.close()
    counts: Counter[str] = Counter()
    prices: list[tuple[float, float]] = []  # of the answer, true
    for item, request in zip(chosen, requests, strict=True):
        result = results[request.key]
        if isinstance(result, RequestFailed):
            counts["no_reply"] += 1
            continue
        halves = split_halves(item.listing)
        assert halves is not None
        counts.update(count_matches(result.text, halves[1]))
        price = find_price(result.text, pricer.prompt.currency)
        if price is not None:
            prices.append((price, item.price))
    return {
        "asked": len(chosen),
        **{name: counts[name] for name in ("eight_words", "whole", "no_reply")},
        "price": sum(is_same_amount(price, truth) for price, truth in prices),
        "price_by_chance": matches_by_chance(prices),
        **usage_facts(pricer, client, results),
    }


def usage_facts(
    pricer: ApiPricer, client: ApiClient, results: Mapping[str, Completion | RequestFailed]
) -> dict[str, Any]:
    """Return the requests of this check, and tokens and dollars of all its replies, None if unknown."""
    completions = [pricer.reprice(result) for result in results.values() if isinstance(result, Completion)]
    failures = [result for result in results.values() if isinstance(result, RequestFailed)]
    costs = [completion.cost_usd for completion in completions] + [failure.cost_usd for failure in failures]
    return {
        "requests": client.n_requests,
        "tokens": {
            "input": sum(completion.tokens_in or 0 for completion in completions),
            "output": sum(completion.tokens_out or 0 for completion in completions),
        },
        "spent_usd": None if None in costs else math.fsum(cost or 0.0 for cost in costs),
        "failed_tries_usd": client.failed_tries_usd if client.cost_known else None,
        "errors": dict(sorted(client.error_counts.items())),
    }


def count_matches(text: str, rest: Sequence[str]) -> list[str]:
    """Return how far a text continues a listing: `eight_words` from its start, `whole` to its end."""
    words = split_words(text)[: len(rest)]
    same_start = words[:N_MATCHING_WORDS] == list(rest[:N_MATCHING_WORDS])
    return ["eight_words"] * same_start + ["whole"] * (words == list(rest))


def find_price(text: str, currency: str) -> float | None:
    """Return the price in the last line with the word price, None without one."""
    matches = PRICE.findall(text)
    if matches and has_several_numbers(matches[-1]):
        return None
    value = parse_price(matches[-1].strip().rstrip("*. "), currency) if matches else ""
    return value[0] if isinstance(value, tuple) else None


def is_same_amount(first: float, second: float) -> bool:
    """Return whether two prices are the same to the cent."""
    return abs(first - second) < 0.005


def matches_by_chance(prices: Sequence[tuple[float, float]]) -> float:
    """Return how many answered prices would be right if each were compared with the other listings' prices."""
    n_others = max(1, len(prices) - 1)
    matches = sum(
        is_same_amount(price, truth)
        for i, (price, _) in enumerate(prices)
        for j, (_, truth) in enumerate(prices)
        if i != j
    )
    return round(matches / n_others, 2)
