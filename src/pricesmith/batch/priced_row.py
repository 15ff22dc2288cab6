"""A quote as an output row: rounded to the digits of its currency, with a note."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pricesmith.core.types import Quote
from pricesmith.text.formatting import round_money

NOTHING = "no title and no text"
UNLIKE = "nothing similar in the training data: the price is a guess"


@dataclass(frozen=True)
class PricedRow:
    """What is shown of a quote. `cost_usd` and `quote_note` are the quote's own."""

    id: str
    price: float | None
    low: float | None
    high: float | None
    currency: str
    note: str = ""
    nothing_similar: bool | None = None
    cost_usd: float | None = 0.0
    quote_note: str = ""


def price_row(listing_id: str, quote: Quote, currency: str, max_interval_ratio: float | None) -> PricedRow:
    """A quote as an output row.

    It has no price if a side of its interval is further from the price than `max_interval_ratio`. Both sides count: an
    interval that ends at the catalog's highest price looks narrow on that side only.
    """
    price, low, high, note = round_quote(quote, quote.nothing_similar, currency, max_interval_ratio)
    unlike = None if quote.price is None else quote.nothing_similar
    return PricedRow(listing_id, price, low, high, currency, note, unlike, quote.cost_usd, quote.note)


def round_quote(
    quote: Quote, nothing_similar: bool | None, currency: str, max_interval_ratio: float | None
) -> tuple[float | None, float | None, float | None, str]:
    """Price, low, high and note of a quote's row (see `price_row`)."""
    if quote.price is None:
        return None, None, None, join_notes(f"unanswered: {quote.raw[:200]}".rstrip(": "), quote.note)
    low = None if quote.low is None else round_money(quote.low, currency)
    high = None if quote.high is None else round_money(quote.high, currency)
    if max_interval_ratio is not None and quote.low and quote.high:
        below, above = quote.price / quote.low, quote.high / quote.price
        if max(below, above) > max_interval_ratio:
            # Rounded up, so that a ratio just over the limit does not look like one within it.
            sides = [math.ceil(100 * side) / 100 for side in (below, above)]
            note = join_notes(f"interval too wide: price ÷ {sides[0]:.2f} to × {sides[1]:.2f}", quote.note)
            return None, low, high, note
    note = join_notes(UNLIKE, quote.note) if nothing_similar else quote.note
    return round_money(quote.price, currency), low, high, note


def join_notes(*notes: str) -> str:
    """The notes that are not empty, as one."""
    return "; ".join(note for note in notes if note)
