"""Quotes in words, for the web page: amounts with two or three significant figures, and what a quote rests on.

    format_rounded(107.61, "USD"), describe_level(0.9)      ("$108", "9 of 10 things")

The REST API gives exact amounts; a page that showed them would look more certain than an estimate is.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from datetime import date
from fractions import Fraction

from pricesmith.core.types import NOT_ASKED
from pricesmith.pricers.model import PriceModel
from pricesmith.serve.feedback_source import ID_PREFIX
from pricesmith.serve.schemas import PriceOutput
from pricesmith.text.currency import currency_name, minor_digits
from pricesmith.text.formatting import format_count, format_money, format_price

WIDE = 4.0  # an interval whose top is this many times its bottom is called wide
PRICED_BY = ": priced by "  # in the note of a quote of a hybrid, before the member that gave its price
SOLD_ID = re.compile(rf"{ID_PREFIX}[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}")
UNLIKE = "nothing similar in the training data: the price is a guess"


def format_rounded(value: float, currency: str) -> str:
    """An amount with three significant figures from 100 on and two below: `$1,230`, `$71`, `$4.20`, `KWD 4.200`."""
    if not value > 0:
        return join_amount(format_money(value, currency))
    places = (2 if value >= 100 else 1) - math.floor(math.log10(value))
    if value >= 1:
        places = min(places, minor_digits(currency))
    rounded = round(value, places)
    if rounded >= 10:
        return join_amount(format_money(rounded, currency, 0))
    return join_amount(format_money(rounded, currency, max(minor_digits(currency), 0 if value >= 1 else places)))


def join_amount(text: str) -> str:
    """An amount that no line ends in: `KWD 4.200`."""
    return text.replace(" ", "\u00a0")


def format_rounded_range(low: float, high: float, currency: str) -> str:
    """`$71 to $164`."""
    return f"{format_rounded(low, currency)} to {format_rounded(high, currency)}"


def describe_level(level: float) -> str:
    """A share as a count that is easy to picture: `9 of 10 things`, `19 of 20 things`, `93 % of things`."""
    for count in (10, 20):
        share = Fraction(level).limit_denominator(1_000) * count
        if share.denominator == 1:
            return f"{share.numerator} of {count} things"
    return f"{level:.0%} of things".replace("%", "\u00a0%")


def format_day(text: str) -> str:
    """A date such as 2026-11-03 as `3 November 2026`; empty for anything else."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return ""
    return f"{day.day} {day:%B} {day.year}"


def describe_training(model: PriceModel) -> str:
    """What a model learned from, and when: `54,701 listings on 3 November 2026`; without the day if it is not known."""
    day, sold = format_day(str(model.manifest.get("date", ""))), count_sold(model)
    rows = int(model.manifest["rows"]["train"])
    kind = "" if not sold else " that were sold" if sold == rows else f", {sold:,} of them sold,"
    return f"{count_training(model)}{kind}{f' on {day}' if day else ''}".rstrip(",")


def is_sold(id: str) -> bool:
    """Whether a training listing is a sold one, from the feedback of a log."""
    return SOLD_ID.fullmatch(id) is not None


def count_sold(model: PriceModel) -> int:
    """How many training listings are sold ones; the others are listed for a price."""
    ids = model.index.ids if model.index is not None else []  # in order
    return sum(map(is_sold, ids[bisect_left(ids, ID_PREFIX) : bisect_left(ids, f"{ID_PREFIX}~")]))


def count_training(model: PriceModel) -> str:
    """`54,701 listings`."""
    return format_count(int(model.manifest["rows"]["train"]), "listing")


def format_asking_price(value: float, currency: str) -> str:
    """The price of a training listing, exactly: `$5,946`, `$12.50`."""
    return format_money(value, currency, 0) if value == round(value) else format_price(value, currency)


def describe_price(model: PriceModel, *, has_range: bool) -> str:
    """What the price and its range mean, for the model that gave them."""
    sold, rows = count_sold(model), int(model.manifest["rows"]["train"])
    happened = "listed" if not sold else "sold" if sold == rows else "listed or sold"
    kind = "an asking price" if not sold else "a selling price" if sold == rows else "a price"
    range_sentence = ""
    if has_range and model.level:
        range_sentence = f"{describe_level(model.level)} like this were {happened} inside that range. "
    return (
        f"{range_sentence}It is {kind} in {currency_name(str(model.info['currency']))}, learned from "
        f"{describe_training(model)}; not an offer or an appraisal."
    )


def describe_width(quote: PriceOutput, price_range: tuple[float, float]) -> str:
    """A sentence about a wide interval; empty for one that is not."""
    if quote.low is None or quote.high is None or quote.low <= 0:
        return ""
    if quote.low <= price_range[0] and quote.high >= price_range[1]:
        return "The range is that of all prices the model has seen: too few listings had a price near this one."
    ratio = quote.high / quote.low
    if ratio < WIDE:
        return ""
    return (
        f"This is a wide range: its top is {ratio:.0f} times its bottom. A fuller description may narrow it: make, "
        "model, size, condition."
    )


def describe_note(note: str) -> str:
    """The note of a quote as sentences: which model was asked, or why not; empty if it says nothing more than that
    nothing is similar."""
    sentences = []
    for part in note.split("; "):
        if not part or part == UNLIKE:
            continue
        reason, mark, name = part.rpartition(PRICED_BY)
        if mark:
            part = f"{reason}. The price is that of {name}"
        elif part.startswith(f"{NOT_ASKED}: "):
            part = f"The API model was {part}"
        sentences.append(part.rstrip(".") + ".")
    return " ".join(sentences)
