"""Does a hosted model know listings by heart? It is given the first half of one and asked for the rest and the price.

    recite(pricer, items, 50)     {"asked": 50, "eight_words": 3, "whole": 1, "price": 2, "price_by_chance": 0.4}

A model that goes on word for word has read this very listing, and may have read its price: its error here then says
little of new goods. The counts are of listings whose second half is long enough to tell. A price counts where it is the
true one to the cent; by chance as many would be right if what it said were dealt to the other listings.
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

RUN = 8  # words in a row that nobody goes on with by accident
LEAST = 10  # words that the second half must have
MOST = 400  # words of a listing that are used
LETTERS = 8_000
SYSTEM = "You know product listings by heart."
ASK = (
    "This is how a product listing begins. Go on exactly where it stops, word for word, as it was published. "
    "End with a line that says Price: and the price it was listed at.\n\n"
)
PRICE = re.compile(r"price\W{0,4}\s*([^\n]{1,40})", re.IGNORECASE)


def split_halves(listing: Listing) -> tuple[str, list[str]] | None:
    """The first half of a listing as it stands, and the words of the second; None where that is too short to tell."""
    text = repair_unicode(render(listing))[:LETTERS]
    pieces = split_pieces(text)[:MOST]
    middle = len(pieces) // 2
    rest = split_words("".join(pieces[middle:]))
    return ("".join(pieces[:middle]), rest) if len(rest) >= LEAST else None


def choose_items(items: Sequence[Item], count: int) -> list[Item]:
    """`count` items whose second half is long enough, in an order that has nothing to do with them."""
    fit = [item for item in items if split_halves(item.listing) is not None]
    return sorted(fit, key=lambda item: hashlib.sha256(f"recite {item.listing.id}".encode()).digest())[:count]


def build_request(pricer: ApiPricer, listing: Listing) -> ApiRequest:
    """What is sent for one listing."""
    known = split_halves(listing)
    assert known is not None
    turns = ({"role": "system", "content": SYSTEM}, {"role": "user", "content": ASK + known[0]})
    return pricer.request(turns, schema=False)


def check_memorization(pricer: ApiPricer, items: Sequence[Item], count: int) -> dict[str, Any]:
    """Ask for the second halves of up to `count` of the items and count what came word for word, and what it took.

    The answers are remembered, paid from the pricer's purse, and no part of any price.
    """
    some = choose_items(items, count)
    requests = [build_request(pricer, item.listing) for item in some]
    wire = pricer.new_wire(schema=False)
    try:
        said = pricer.said(requests, wire)
    finally:
        wire.close()
    counts: Counter[str] = Counter()
    prices: list[tuple[float, float]] = []  # said, true
    for item, request in zip(some, requests, strict=True):
        answer = said[request.key]
        if isinstance(answer, RequestFailed):
            counts["lost"] += 1
            continue
        known = split_halves(item.listing)
        assert known is not None
        counts.update(word_agreement(answer.text, known[1]))
        price = find_price(answer.text, pricer.prompt.currency)
        if price is not None:
            prices.append((price, item.price))
    right = sum(is_same_amount(one, true) for one, true in prices)
    names = ("eight_words", "whole", "lost")
    found = {"asked": len(some), **{name: counts[name] for name in names}, "price": right, **chance_agreement(prices)}
    return {**found, **words_taken(pricer, wire, said)}


def words_taken(pricer: ApiPricer, wire: ApiClient, said: Mapping[str, Completion | RequestFailed]) -> dict[str, Any]:
    """What the check took: requests of this time, tokens and dollars of all its answers, None where not known."""
    heard = [pricer.priced(one) for one in said.values() if isinstance(one, Completion)]
    costs = [one.cost_usd for one in heard] + [one.cost_usd for one in said.values() if isinstance(one, RequestFailed)]
    return {
        "requests": wire.sent,
        "tokens": {
            "input": sum(one.tokens_in or 0 for one in heard),
            "output": sum(one.tokens_out or 0 for one in heard),
        },
        "spent": None if None in costs else math.fsum(cost or 0.0 for cost in costs),
        "lost_usd": wire.lost_usd if wire.lost_known else None,
        "faults": dict(sorted(wire.faults.items())),
    }


def word_agreement(text: str, rest: Sequence[str]) -> list[str]:
    """How far a text goes on as the listing does: `eight_words` from its start, `whole` to its end."""
    said = split_words(text)[: len(rest)]
    same_run = said[:RUN] == list(rest[:RUN])
    return ["eight_words"] * same_run + ["whole"] * (said == list(rest))


def find_price(text: str, currency: str) -> float | None:
    """The price that the last line with the word price says, None where it says none."""
    found = PRICE.findall(text)
    if found and has_several_numbers(found[-1]):
        return None
    value = parse_price(found[-1].strip().rstrip("*. "), currency) if found else ""
    return value[0] if isinstance(value, tuple) else None


def is_same_amount(one: float, other: float) -> bool:
    """Whether two prices are the same to the cent."""
    return abs(one - other) < 0.005


def chance_agreement(prices: Sequence[tuple[float, float]]) -> dict[str, float]:
    """How many said prices would be right if each were held against the other listings' prices."""
    others = max(1, len(prices) - 1)
    hits = sum(
        is_same_amount(one, true) for a, (one, _) in enumerate(prices) for b, (_, true) in enumerate(prices) if a != b
    )
    return {"price_by_chance": round(hits / others, 2)}
