"""Amounts of money in a listing's words are masked, always: a description that names its price would give it away.

    >>> mask_money("Was $1,299.00, now usd 999, for 5 pounds of steel")
    ('Was [amount], now [amount], for 5 pounds of steel', [1299.0, 999.0])

An amount is a number beside a currency sign, code or word, one written out before such a word, or a number that the
word price, cost, msrp or rrp introduces. "5 pounds" is a weight here, and a bare number stays: sizes and counts are
what things are priced by.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache

from pricesmith.text.price_parser import SIGNS as SIGNS_OF

TOKEN = "[amount]"
PASSES = 8  # a masked amount can uncover another one, rarely; made texts would go on for long

SIGNS = "$¢£¤¥֏؋৲৳૱௹฿៛₠-⃀﷼﹩＄￠￡￥￦"
MAJOR = "usd|eur|gbp"
CODES = (
    "usd|eur|gbp|jpy|cny|rmb|inr|aud|nzd|chf|sek|nok|dkk|pln|czk|huf|rub|brl|mxn|krw|hkd|sgd|twd|zar|ils|thb|aed|sar"
)
WORDS = (
    "dollars?|euros?|bucks|cents|rupees|yen|yuan|pence|quid|eurocents|pesos|zloty|kronor|kroner|zł|kč|руб|грн|円|元|원"
)
PRICE = "price|cost|msrp|rrp"
DOLLARS = "us|ca?|au?|nz|hk|nt|mx|s|r"  # before their sign: 24 US$
# Amounts written out. Money in the plural only: a million dollar baby is a film.
ONES = "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen"
SPELT = f"{ONES}|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand|million"
SPELT_MONEY = "dollars|euros|bucks|cents|rupees|yen|yuan|pence|quid|eurocents|pesos|zloty|kronor|kroner"
# Also words and model numbers of goods (drawing software, 240 RS): beside these only an amount with cents is money.
DOUBTFUL = "cad|try|kr|rs"

# A number is taken whole or not at all. Lookaheads say so and not possessive quantifiers, which Python 3.11.0 to 3.11.4
# match wrongly.
NUMBER = (
    r"(?:\d{1,3}(?:[\u00a0\u202f ]\d{3})+(?!\d|[\u00a0\u202f ]\d{3})(?:[.,]\d+)?(?![.,]?\d)"
    r"|\d+(?:[.,'’]\d+)*(?![.,'’]?\d)|[.,]\d+(?!\d))"
    r"(?:\s?(?:thousand|million|billion|mn|bn|k)\b)?"
)
CENTS = r"\d+(?:[.,']\d{3})*[.,]\d\d(?!\d)"
# Letters only: a word boundary would not part 5usd5usd, and masking one amount would uncover the next.
FROM, TO = r"(?<![a-z])", r"(?![a-z])"
SIGN = rf"(?:{FROM}(?:[a-z]{{1,3}}|us\s))?[{SIGNS}]"
DASH = r"(?:[.,][-–—]{1,2}(?!\w))?"
# What says money by itself; elsewhere the pattern of hints has to agree.
SAID = re.compile("dollar|euro|bucks|cents|rupees|yuan| yen|pence|quid|pesos|zloty|kron|zł|kč|руб|грн|円|元|원")


@dataclass(frozen=True)
class Patterns:
    """What finds amounts of money, and what says quickly that there may be one."""

    amount: re.Pattern[str]
    hint: re.Pattern[str]
    hints: tuple[str, ...]


@cache
def patterns_of(currency: str) -> Patterns:
    """The patterns for a catalog of a currency: its own code and signs are money wherever a number stands beside them,
    also those that are doubtful elsewhere (`Ft`, `kr`, `CAD`)."""
    marks = sorted({currency.lower(), *(sign.rstrip(".") for sign, meant in SIGNS_OF.items() if currency in meant)})
    marks = [mark for mark in marks if mark.isalpha()]
    own = "|".join(marks) or "(?!)"
    before = (
        rf"(?:{SIGN}\s?[-−]?|{FROM}(?:{CODES}){TO}(?:\.\s?|\s)|{FROM}(?:{MAJOR})(?=\d)|{FROM}rs\.\s?"
        rf"|{FROM}(?:{own}){TO}\.?\s?)"
    )
    after = (
        rf"(?:\s?(?:{DOLLARS})?[{SIGNS}]|\s?(?:{MAJOR}|{WORDS}|{own}){TO}|\s(?:{CODES}|kr){TO}"
        rf"|\s?\((?:{CODES}|{own}|[{SIGNS}])\))"
    )
    amount = (
        rf"{before}(?P<a>{NUMBER})(?:\s?[-–—]\s?(?:{SIGN}\s?)?{NUMBER})?{DASH}{after}?"
        rf"|{FROM}(?:{DOUBTFUL}|{CODES})\.?\s?(?P<b>{CENTS})"
        rf"|(?<![\d.,])(?P<c>{NUMBER})(?:[-–—]{NUMBER})?{DASH}{after}"
        rf"|(?<![\d.,])(?P<d>{CENTS})\s?(?:{DOUBTFUL}|{CODES}){TO}"
        rf"|(?<![-\w])(?P<word>(?:{PRICE})s?(?:\s?\((?:{CODES}|{own}|[{SIGNS}])\))?(?:\s?(?:[:=]|\b(?:is|was|now|only)\b)\s?"
        rf"|\s(?:[-–—]\s)?(?=\d+[.,]\d\d\b))|(?:msrp|rrp)\s)(?P<e>{NUMBER})(?!\s?%)"
        rf"|\b(?:{SPELT})(?:(?:\s|-|\sand\s)(?:{SPELT}))*\s(?:{SPELT_MONEY})\b"
    )
    hint = (
        rf"[{SIGNS}]|{FROM}(?:{CODES}|{DOUBTFUL}|{own})(?=[\d\s.,])"
        rf"|[\dknd](?:[.,][-–—]{{1,2}})?\s?\(?(?:{CODES}|{DOUBTFUL}|yen|{own}){TO}"
        rf"|(?:{PRICE})s?\s?(?:[:=\d(–—-]|is|was|now|only)"
    )
    hints = (*CODES.split("|"), *DOUBTFUL.split("|"), *PRICE.split("|"), *marks)
    return Patterns(re.compile(amount, re.IGNORECASE), re.compile(hint), tuple(dict.fromkeys(hints)))


# Plain searches are several times as fast as the pattern above, and most texts hold none of these.
SIGN_HINT = re.compile(f"[{SIGNS}]")


def hinted(text: str, patterns: Patterns) -> bool:
    """Whether a text may hold an amount of money: a quick look that never misses one."""
    if SIGN_HINT.search(text) is not None:
        return True
    lower = text.lower()
    if SAID.search(lower) is not None:
        return True
    return any(hint in lower for hint in patterns.hints) and patterns.hint.search(lower) is not None


def mask_money(text: str, currency: str = "") -> tuple[str, list[float]]:
    """The text with every amount of money as one neutral token, and the amounts, in order.

    `currency` is the catalog's code.
    """
    patterns = patterns_of(currency)
    if not hinted(text, patterns):
        return text, []
    found: list[float] = []

    def mask(match: re.Match[str]) -> str:
        number = next((match[name] for name in "abcde" if match[name]), None)
        found.append(value_of(number) if number else math.nan)  # written out: masked, and not read
        return f"{match['word'] or ''}{TOKEN}"

    for _ in range(PASSES):
        before = len(found)
        text = patterns.amount.sub(mask, text)
        if len(found) == before:
            break
    return text, found


def value_of(number: str) -> float:
    """What a written number says: the last mark is the decimal one unless exactly three digits follow it."""
    digits = re.match(r"[\d.,'’\s]*", number)
    assert digits is not None
    plain = re.sub(r"[\s'’]", "", digits[0])[:40].rstrip(".,")
    scale = {"k": 1e3, "t": 1e3, "m": 1e6, "b": 1e9}.get(number[digits.end() :].strip().lower()[:1], 1.0)
    whole, mark, rest = plain.rpartition(max(".,", key=plain.rfind))
    if mark and (len(rest) != 3 or not whole.strip(".,")):
        text = f"{re.sub('[.,]', '', whole) or '0'}.{rest}"
    else:
        text = re.sub("[.,]", "", plain)
    return float(text or 0) * scale
