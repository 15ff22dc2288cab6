"""Reads the price out of what a hosted model said, strictly: one amount and nothing else, or the reason why not.

    >>> read_reply('{"price": 24.5}', "stop", "USD")
    24.5
    >>> read_reply("$20 to $30", "stop", "USD")
    'a range'
    >>> read_reply("2 for $30", "stop", "USD")
    'more than one number'

Guessing which number in a sentence is meant would score a model by our luck; an answer that was cut off may have lost
digits. Both are no answer, counted and shown.
"""

from __future__ import annotations

import json
import re
from typing import Any

from pricesmith.pricers.api.reasoning import strip_reasoning
from pricesmith.text.price_parser import AMBIGUOUS, NEGATIVE, RANGE, TWO_CURRENCIES, ZERO, parse_price
from pricesmith.text.prompts import OUTPUT_FORMATS

TRUNCATED = "cut off at the limit of output tokens"
REFUSED = "a refusal"
REJECTED = "a request that the endpoint rejected"
BROKEN = "broken JSON"
UNENDED = "reasoning that never ended"
BROKEN_OFF = "an answer that did not end by itself"
NOTHING = "nothing was said"
A_RANGE = "a range"
MANY = "more than one number"
PROSE = "prose round a number"
NO_NUMBER = "words without a number"
OTHER_MONEY = "another currency"
OTHER = "no price"

# Endpoints' words for an answer that is whole; whatever else ended it may have taken digits with it.
WHOLE = frozenset({"stop", "end_turn", "stop_sequence", "eos", "eos_token", "complete", "completed", "finish", "done"})
FILTERED = ("refus", "filter", "safety", "moderat", "recitation", "blocklist", "prohibited", "spii", "flagged")

REASONS = {
    RANGE: A_RANGE,
    ZERO: "a price of zero",
    NEGATIVE: "a negative price",
    AMBIGUOUS: "an ambiguous number",
    TWO_CURRENCIES: OTHER_MONEY,
}
FENCE = re.compile(r"```[a-z]*\s*(.*?)\s*```", re.DOTALL)
LEAD = re.compile(r"(?:the |estimated )?(?:price|cost|answer)(?:\s*(?:is\b|:|=))*\s+", re.IGNORECASE)
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
# Nobody writes one amount over several lines, columns or places of a list: these stand between two numbers.
BREAKS = re.compile(r"[\t\n\r\v\f\x1c-\x1f\x85\u2028\u2029;|]")
# Groups of three digits with plain spaces, each of which may be a price by itself: 120 150
GROUPS = re.compile(r"(?<![\d.,])[1-9]\d\d(?: [1-9]\d\d)+(?:[.,]\d{1,2})?(?!\d)")
BETWEEN = re.compile(r"\d[^\d]{0,12}(?:-|–|—|\bto\b|\band\b|\bor\b)[^\d]{0,6}\d", re.IGNORECASE)
REFUSAL = re.compile(
    r"\b(?:can(?:no|['’])?t|unable|not able|won['’]t|will not|do not have|don['’]t have|sorry|as an ai)\b",
    re.IGNORECASE,
)


def parse_response(text: str, finish: str, currency: str) -> float | str:
    """The price that an answer says, above 0 and finite, or the reason why it says none.

    `finish` is the endpoint's word for why it ended; `currency` the catalog's.
    """
    ended = finish.casefold()
    if ended == "rejected":
        return REJECTED
    if "length" in ended or "max" in ended:
        return TRUNCATED
    if ended not in WHOLE:
        return REFUSED if any(mark in ended for mark in FILTERED) else BROKEN_OFF
    said = strip_reasoning(text)
    if said is None:
        return UNENDED
    if fenced := FENCE.fullmatch(said):
        said = fenced[1]
    if not said:
        return NOTHING
    if said[0] in "{[":
        return read_object(said, currency)
    said = said.strip("*_` ").removesuffix(".") if not said.endswith("..") else said
    lead = LEAD.match(said)
    said = (said[lead.end() :] if lead else said).strip("*_` ")
    word = OUTPUT_FORMATS.get(currency)
    return read_amount(re.sub(rf"\s*\b{word}s?$", "", said, flags=re.IGNORECASE) if word else said, currency)


def read_object(text: str, currency: str) -> float | str:
    """The `price` of one JSON object, which it has once; `currency` beside it, where there is one, is the catalog's."""
    try:
        value: Any = json.loads(text, object_pairs_hook=refuse_duplicate_keys)
    except (ValueError, RecursionError):
        return BROKEN
    if isinstance(value, list) and len(value) > 1:
        return MANY
    if not isinstance(value, dict) or "price" not in value:
        return BROKEN
    price, said = value["price"], value.get("currency")
    if said and str(said).upper() != currency.upper() and read_amount(f"{said} 1", currency) != 1:
        return OTHER_MONEY
    if isinstance(price, list | dict):
        return OTHER if len(price) < 2 else MANY if isinstance(price, list) else A_RANGE
    return read_amount(price, currency)


def refuse_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are there once. Raises ValueError where one is there twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def read_amount(value: object, currency: str) -> float | str:
    """One amount in the catalog's currency, or the reason."""
    if isinstance(value, str):
        if has_several_numbers(value):
            return format_reason(value)
        if GROUPS.search(value):
            return REASONS[AMBIGUOUS]
    found = parse_price(value, currency, ",.")  # nobody knows the writer's marks: 1.299 may be either
    if isinstance(found, tuple):
        amount, said = found
        return amount if said in (None, currency) else OTHER_MONEY
    if found in REASONS:
        return REASONS[found]
    return format_reason(value) if isinstance(value, str) else OTHER


def has_several_numbers(text: str) -> bool:
    """Whether numbers stand on both sides of a line break, a tab or a sign that parts a list."""
    return sum(any(letter.isdigit() for letter in part) for part in BREAKS.split(text)) > 1


def format_reason(text: str) -> str:
    """Why a text that is no amount is none."""
    numbers = NUMBER.findall(text)
    if REFUSAL.search(text) and not numbers:
        return REFUSED
    if len(numbers) == 2 and BETWEEN.search(text):
        return A_RANGE
    if REFUSAL.search(text):
        return REFUSED
    return MANY if len(numbers) > 1 else PROSE if numbers else NO_NUMBER
