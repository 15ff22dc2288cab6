"""Price one thing in words, with its interval and what similar things cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pricesmith.batch.price import price_row
from pricesmith.catalog.clean import CleanSettings, build_listing, is_too_short
from pricesmith.catalog.columns import ColumnMap
from pricesmith.core.errors import UsageError
from pricesmith.core.settings import parse_settings
from pricesmith.core.types import Listing
from pricesmith.text.formatting import format_money

if TYPE_CHECKING:
    from pricesmith.pricers.model import PriceModel


def listing_from_text(text: str, run: PriceModel) -> Listing:
    """A person's words as the listing that curate would have made of them: the first line is the title.

    Raises UsageError where curate would refuse them as too short.
    """
    cleaning = parse_settings(CleanSettings, run.info["cleaning"], where="catalog.json")
    title, _, rest = text.strip().partition("\n")
    columns = ColumnMap(title="title", text="text", price="price")
    listing = build_listing({"title": title, "text": rest}, columns, cleaning, id="1")
    if not (listing.title or listing.text):
        raise UsageError(
            "There is nothing to price", got=repr(text[:60]), hint="Describe the thing: what it is, make, size."
        )
    if is_too_short(listing, cleaning):
        raise UsageError(
            "There is too little to price",
            got=repr(text[:60]),
            allowed=f"at least {cleaning.min_chars} letters and digits",
            hint="Describe the thing: what it is, make, size.",
        )
    return listing


def price_text(
    run: PriceModel, text: str, max_interval_ratio: float | None = None, comparables: int = 3
) -> dict[str, Any]:
    """Price, interval and comparables of one text, ready for JSON."""
    listing = listing_from_text(text, run)
    (quote,) = run.price([listing], check_similarity=True)
    said = price_row(listing.id, quote, str(run.info["currency"]), max_interval_ratio)
    (near,) = run.comparables([listing], comparables, quotes=[quote])
    return {
        "price": said.price,
        "low": said.low,
        "high": said.high,
        "level": run.level,
        "currency": said.currency,
        "note": said.note,
        "nothing_similar": said.nothing_similar,
        "pricer": run.name,
        "comparables": [
            {"id": one.id, "title": one.title, "price": one.price, "similarity": round(one.similarity, 3)}
            for one in near
        ],
    }


def format_quote(result: dict[str, Any]) -> str:
    """The result as a person reads it."""
    currency = result["currency"]
    lines = [format_money(result["price"], currency) if result["price"] is not None else f"No price: {result['note']}"]
    if result["low"] is not None and result["high"] is not None:
        level = f"{result['level']:.0%} interval" if result["level"] else "interval"
        lines.append(f"{level}: {format_money(result['low'], currency)} to {format_money(result['high'], currency)}")
    if result["nothing_similar"]:
        lines.append("Nothing similar in the training data: the price is a guess.")
    elif result["comparables"]:
        lines.append("Similar things it has seen:")
        lines += [
            f"  {format_money(one['price'], currency):>12}  {one['title'][:90]}  ({one['similarity']:.0%} alike)"
            for one in result["comparables"]
        ]
    return "\n".join(lines)
