"""Amounts of money in a listing's words are masked, always: a description that names its price would give it away.

    >>> mask_money("Was $1,299.00, now usd 999 - 5 pounds of steel")
    ('Was [amount], now [amount] - 5 pounds of steel', [1299.0, 999.0])

An amount is a number beside a currency sign, code or word, or a number that the word price, cost, msrp or rrp
introduces. "5 pounds" is a weight here, and a bare number stays: sizes and counts are what things are priced by.
"""

from __future__ import annotations

import re

TOKEN = "[amount]"

SIGNS = "$¢£¤¥֏؋৲৳૱௹฿៛₠-⃀﷼﹩＄￠￡￥￦"
MAJOR = "usd|eur|gbp"
CODES = (
    "usd|eur|gbp|jpy|cny|rmb|inr|aud|nzd|chf|sek|nok|dkk|pln|czk|huf|rub|brl|mxn|krw|hkd|sgd|twd|zar|ils|thb|aed|sar"
)
WORDS = "dollars?|euros?|bucks|cents|rupees|yen|yuan|pence|eurocents|pesos|zloty|kronor|kroner"
# Also words and model numbers of goods (drawing software, 240 RS): beside these only an amount with cents is money.
DOUBTFUL = "cad|try|kr|rs"

NUMBER = (
    r"(?:\d{1,3}(?:[\u00a0\u202f ]\d{3})++(?![\d])(?:[.,]\d++)?|\d++(?:[.,'’]\d++)*+|[.,]\d++)"
    r"(?:\s?(?:thousand|million|billion|mn|bn|k)\b)?"
)
CENTS = r"\d++(?:[.,']\d{3})*+[.,]\d\d(?!\d)"
SIGN = rf"(?:\b[a-z]{{1,3}})?[{SIGNS}]"
BEFORE = rf"(?:{SIGN}\s?|\b(?:{CODES})\b\.?\s?|\b(?:{MAJOR})(?=\d)|\brs\.\s?)"
AFTER = rf"(?:\s?[{SIGNS}]|\s?(?:{MAJOR}|{WORDS})\b|\s(?:{CODES}|kr)\b)"
DASH = r"(?:[.,][-–—]{1,2}(?!\w))?"
AMOUNT = re.compile(
    rf"{BEFORE}(?P<a>{NUMBER})(?:\s?[-–—]\s?(?:{SIGN}\s?)?{NUMBER})?{DASH}{AFTER}?"
    rf"|\b(?:{DOUBTFUL}|{CODES})\b\.?\s?(?P<b>{CENTS})"
    rf"|\b(?:{CODES})(?P<c>{CENTS})"
    rf"|(?<![\d.,])(?P<d>{NUMBER})(?:[-–—]{NUMBER})?{DASH}{AFTER}"
    rf"|(?<![\d.,])(?P<e>{CENTS})\s?(?:{DOUBTFUL}|{CODES})\b"
    rf"|(?<![-\w])(?P<word>(?:price|cost|msrp|rrp)s?(?:\s?(?:[:=]|\b(?:is|was|of|now|only)\b)\s?|\s(?=\d++[.,]\d\d\b)))"
    rf"(?P<f>{NUMBER})(?!\s?%)",
    re.IGNORECASE,
)
HINT = re.compile(
    rf"[{SIGNS}]|(?<![a-z])(?:{CODES}|{DOUBTFUL})(?=[\d\s.])|\d(?:\s|[.,]-)?\s?(?:{CODES}|{DOUBTFUL}|{WORDS})(?![a-z])"
    r"|(?:price|cost|msrp|rrp)s?\s?(?:[:=\d]|is|was|of|now|only)"
)


def mask_money(text: str) -> tuple[str, list[float]]:
    """The text with every amount of money as one neutral token, and the amounts, in order."""
    if HINT.search(text.lower()) is None:
        return text, []
    found: list[float] = []

    def mask(match: re.Match[str]) -> str:
        number = next(match[name] for name in "abcdef" if match[name])
        found.append(value_of(number))
        return f"{match['word'] or ''}{TOKEN}"

    return AMOUNT.sub(mask, text), found


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
