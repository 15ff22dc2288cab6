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

TOKEN = "[amount]"
PASSES = 8  # a masked amount can uncover another one, rarely; made texts would go on for long

SIGNS = "$¢£¤¥֏؋৲৳૱௹฿៛₠-⃀﷼﹩＄￠￡￥￦"
MAJOR = "usd|eur|gbp"
CODES = (
    "usd|eur|gbp|jpy|cny|rmb|inr|aud|nzd|chf|sek|nok|dkk|pln|czk|huf|rub|brl|mxn|krw|hkd|sgd|twd|zar|ils|thb|aed|sar"
)
WORDS = "dollars?|euros?|bucks|cents|rupees|yen|yuan|pence|quid|eurocents|pesos|zloty|kronor|kroner"
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
SIGN = rf"(?:{FROM}[a-z]{{1,3}})?[{SIGNS}]"
BEFORE = rf"(?:{SIGN}\s?[-−]?|{FROM}(?:{CODES}){TO}(?:\.\s?|\s)|{FROM}(?:{MAJOR})(?=\d)|{FROM}rs\.\s?)"
AFTER = rf"(?:\s?[{SIGNS}]|\s?(?:{MAJOR}|{WORDS}){TO}|\s(?:{CODES}|kr){TO})"
DASH = r"(?:[.,][-–—]{1,2}(?!\w))?"
AMOUNT = re.compile(
    rf"{BEFORE}(?P<a>{NUMBER})(?:\s?[-–—]\s?(?:{SIGN}\s?)?{NUMBER})?{DASH}{AFTER}?"
    rf"|{FROM}(?:{DOUBTFUL}|{CODES})\.?\s?(?P<b>{CENTS})"
    rf"|(?<![\d.,])(?P<c>{NUMBER})(?:[-–—]{NUMBER})?{DASH}{AFTER}"
    rf"|(?<![\d.,])(?P<d>{CENTS})\s?(?:{DOUBTFUL}|{CODES}){TO}"
    r"|(?<![-\w])(?P<word>(?:price|cost|msrp|rrp)s?(?:\s?(?:[:=]|\b(?:is|was|now|only)\b)\s?|\s(?=\d+[.,]\d\d\b)))"
    rf"(?P<e>{NUMBER})(?!\s?%)"
    rf"|\b(?:{SPELT})(?:(?:\s|-|\sand\s)(?:{SPELT}))*\s(?:{SPELT_MONEY})\b",
    re.IGNORECASE,
)
HINT = re.compile(
    rf"[{SIGNS}]|{FROM}(?:{CODES}|{DOUBTFUL})(?=[\d\s.,])"
    rf"|(?:{SPELT})\s(?:{SPELT_MONEY})"
    rf"|[\dknd](?:[.,][-–—]{{1,2}})?\s?(?:{CODES}|{DOUBTFUL}|{WORDS}){TO}"
    r"|(?:price|cost|msrp|rrp)s?\s?(?:[:=\d]|is|was|now|only)"
)


# Plain searches are several times as fast as the pattern above, and most texts hold none of these.
SIGN_HINT = re.compile(f"[{SIGNS}]")
HINTS = (*CODES.split("|"), "cad", "try", "kr", "rs", "price", "cost", "msrp", "rrp")
HINTS += (
    "dollar",
    "euro",
    "bucks",
    "cents",
    "rupees",
    "yen",
    "yuan",
    "pence",
    "quid",
    "pesos",
    "zloty",
    "kronor",
    "kroner",
)


def hinted(text: str) -> bool:
    """Whether a text may hold an amount of money: a quick look that never misses one."""
    if SIGN_HINT.search(text) is not None:
        return True
    lower = text.lower()
    for hint in HINTS:
        if hint in lower:
            return HINT.search(lower) is not None
    return False


def mask_money(text: str) -> tuple[str, list[float]]:
    """The text with every amount of money as one neutral token, and the amounts, in order."""
    if not hinted(text):
        return text, []
    found: list[float] = []

    def mask(match: re.Match[str]) -> str:
        number = next((match[name] for name in "abcde" if match[name]), None)
        found.append(value_of(number) if number else math.nan)  # written out: masked, and not read
        return f"{match['word'] or ''}{TOKEN}"

    for _ in range(PASSES):
        before = len(found)
        text = AMOUNT.sub(mask, text)
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
