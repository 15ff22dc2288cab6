"""What every pricer must do, whatever it is made of, and the odd texts that it must bear."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from pricesmith.core.types import Listing, Pricer, Quote
from pricesmith.testing.goods import make_items

ODD_TEXTS = {
    "empty": "",
    "one megabyte": "brass hose 25 kg " * 61_700,
    "one word of a megabyte": "x" * 1_048_576,
    "a megabyte of digits": "7" * 1_048_576,
    "emoji": "\U0001f9f5\U0001f525 \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "right to left": "\u0645\u0635\u0628\u0627\u062d \u0662\u0665 \u202e\u05e0\u05d5\u05e8\u05d4",
    "NUL": "hose\x00lamp\x00",
    "half a surrogate pair": "hose \ud83d 25 kg",
    "only digits": "1234567890 42 0 007",
    "only spaces": " \t\n\u00a0 ",
    "no key": ":::\n: 5\n5:\n",
}


def odd_listings() -> list[Listing]:
    """Listings with unusual texts; the id names what is unusual."""
    texts = [Listing(name, "", text) for name, text in ODD_TEXTS.items()]
    return [*texts, Listing("odd everywhere", "\x00", "\u202e", "\U0001f9f5", "9" * 5000)]


def check_pricer(
    pricer: Pricer,
    listings: Sequence[Listing] | None = None,
    *,
    price_range: tuple[float, float] = (0.0, math.inf),
    tolerance: float = 1e-6,
) -> None:
    """Every property that each pricer must have. Raises AssertionError that names the one that does not hold.

    Quotes are one for each listing and in order, the same in any batch (to `tolerance`, relative) and at any time,
    finite and inside `price_range` or None, with low <= price <= high; odd text is priced or declined, never a failure.
    """
    batch = list(listings) if listings is not None else [item.listing for item in make_items(40, seed=7)[0]]
    require(bool(pricer.name), "a pricer has a name")
    require(list(pricer.price([])) == [], "an empty batch has no quotes")
    quotes = pricer.price(batch)
    require(len(quotes) == len(batch), "there is one quote for each listing")
    check_quote(quotes, batch, price_range)
    require(
        list(map(check_bounds, pricer.price(batch))) == list(map(check_bounds, quotes)),
        "the same batch has the same quotes",
    )
    near = assert_close(tolerance)
    require(near(pricer.price(batch[::-1])[::-1], quotes), "quotes are in the order of the listings")
    require(near([pricer.price([listing])[0] for listing in batch], quotes), "a batch of one is as a batch of many")
    half = len(batch) // 3
    require(near([*pricer.price(batch[:half]), *pricer.price(batch[half:])], quotes), "batches may be cut anywhere")
    require(near(pricer.price([*batch, *batch])[len(batch) :], quotes), "the same listing twice has the same quote")
    odd = odd_listings()
    odd_quotes = pricer.price(odd)
    require(len(odd_quotes) == len(odd), "odd text has one quote for each listing")
    check_quote(odd_quotes, odd, price_range)
    mixed = pricer.price([*batch[:3], *odd, *batch[:3]])
    require(
        near([*mixed[:3], *mixed[-3:]], [*quotes[:3], *quotes[:3]]), "odd text does not change its neighbors' quotes"
    )


def require(holds: bool, what: str) -> None:
    """An assertion that stays when Python runs with -O."""
    if not holds:
        raise AssertionError(f"This does not hold: {what}")


def check_bounds(quote: Quote) -> tuple[float | None, float | None, float | None]:
    """The numbers of a quote."""
    return quote.low, quote.price, quote.high


def check_quote(quotes: Sequence[Quote], listings: Sequence[Listing], price_range: tuple[float, float]) -> None:
    """Raises AssertionError where a quote is not a price in range, or its interval does not hold it."""
    bottom, top = price_range
    for quote, listing in zip(quotes, listings, strict=True):
        require(isinstance(quote, Quote), f"{listing.id}: an answer is a Quote")
        numbers = [number for number in check_bounds(quote) if number is not None]
        require(all(type(number) is float for number in numbers), f"{listing.id}: numbers are plain floats")
        require(
            all(math.isfinite(n) and bottom <= n <= top for n in numbers), f"{listing.id}: {numbers} in {price_range}"
        )
        require(quote.price is not None or not numbers, f"{listing.id}: without a price there is no interval")
        require(numbers == sorted(numbers), f"{listing.id}: low <= price <= high, not {numbers}")
        require(quote.price is None or quote.price > 0, f"{listing.id}: a price is above 0")
        require(quote.cost_usd is None or 0 <= quote.cost_usd < math.inf, f"{listing.id}: a cost is not negative")


def assert_close(tolerance: float) -> Callable[[Sequence[Quote], Sequence[Quote]], bool]:
    """Whether two lists of quotes are the same to a relative tolerance."""

    def same(first: Sequence[Quote], second: Sequence[Quote]) -> bool:
        pairs = [
            (a, b)
            for x, y in zip(first, second, strict=True)
            for a, b in zip(check_bounds(x), check_bounds(y), strict=True)
        ]
        return all(
            a is b is None or (a is not None and b is not None and math.isclose(a, b, rel_tol=tolerance))
            for a, b in pairs
        )

    return same
