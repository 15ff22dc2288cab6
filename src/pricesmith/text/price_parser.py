"""A price as files write it, read as an amount and a currency; or the name of the reason why it is not one.

One raw value: "1.299,00 €" -> (1299.0, "EUR");  "$10 - $20" -> "price is a range".

    >>> parse_price("$1,299.00")
    (1299.0, 'USD')
    >>> parse_price("ten dollars")
    'price is not a number'

Where separators leave room for two readings, this is the rule. With both `.` and `,` the last one is the
decimal mark. A lone `,` before exactly three digits groups thousands ("1,299" is 1299), unless a zero
stands before it ("0,125"). A lone `.` in a bare number is the decimal mark, as in every programming
language ("1.299" is 1.299); with a currency beside it and exactly three digits after it ("1.299 €") it
could be either: refused as ambiguous. What the other prices of a file say comes first (`marks_of`): where they have
a decimal comma only, "1.299" is 1299; where they have both marks, it is refused.

Standard library only: the process that parses untrusted files imports this module.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

NO_PRICE = "no price"
NOT_A_NUMBER = "price is not a number"
RANGE = "price is a range"
ZERO = "price is zero"
NEGATIVE = "price is negative"
AMBIGUOUS = "price is ambiguous"
TWO_CURRENCIES = "price has two currencies"
OTHER_DIGITS = "price has digits other than 0-9"

LONGEST = 64  # characters; no amount of money is longer


def wordset(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


# ISO 4217, the currencies in circulation.
CODES = wordset(
    """AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD
    CAD CDF CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD
    GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT
    LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR
    NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP
    STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VES VND VUV WST XAF XCD XOF
    XPF YER ZAR ZMW ZWG"""
)
ALSO_WORDS = wordset("ALL BAM CUP GEL MAD MOP PEN SOS TOP TRY")
# A sign and the currencies it may stand for; the first is meant where the catalog's own is not among them.
SIGNS: dict[str, tuple[str, ...]] = {
    "us$": ("USD",),
    "c$": ("CAD",),
    "ca$": ("CAD",),
    "a$": ("AUD",),
    "au$": ("AUD",),
    "nz$": ("NZD",),
    "hk$": ("HKD",),
    "s$": ("SGD",),
    "nt$": ("TWD",),
    "mx$": ("MXN",),
    "r$": ("BRL",),
    "$": (
        "USD",
        "CAD",
        "AUD",
        "NZD",
        "HKD",
        "SGD",
        "TWD",
        "MXN",
        "ARS",
        "CLP",
        "COP",
        "XCD",
        "BBD",
        "JMD",
        "TTD",
    ),
    "€": ("EUR",),
    "£": ("GBP", "EGP", "FKP", "GIP", "SHP", "LBP"),
    "¥": ("JPY", "CNY"),
    "₹": ("INR",),
    "rs.": ("INR", "PKR", "LKR", "NPR", "MUR"),
    "rs": ("INR", "PKR", "LKR", "NPR", "MUR"),
    "₩": ("KRW",),
    "₽": ("RUB",),
    "₺": ("TRY",),
    "₴": ("UAH",),
    "₪": ("ILS",),
    "₫": ("VND",),
    "₱": ("PHP",),
    "₦": ("NGN",),
    "฿": ("THB",),
    "zł": ("PLN",),
    "kč": ("CZK",),
    "ft": ("HUF",),
    "lei": ("RON",),
    "kr.": ("SEK", "NOK", "DKK", "ISK"),
    "kr": ("SEK", "NOK", "DKK", "ISK"),
    "fr.": ("CHF",),
    "sfr": ("CHF",),
}
SPACES = dict.fromkeys(map(ord, "\u00a0\u2007\u2008\u2009\u200a\u202f\t\r\n"), " ")
MINUS = dict.fromkeys(map(ord, "\u2212\u2012\u2013\u2014"), "-")
NOTHING = wordset("- -- none null n/a na #n/a nil tbd tba") | {""}

DOLLAR = re.compile(r"\b(us|ca|c|au|a|nz|hk|s|nt|mx|r)\s\$")  # "US $12.99", as auction houses write it
SIGN = "|".join(re.escape(sign) for sign in sorted(SIGNS, key=len, reverse=True)) + "|[a-z]{3}"
NUMBER = r"(?:[0-9][0-9 .,'’]*|[.,][0-9]+)"
AMOUNT = rf"(?:{SIGN})?\s*{NUMBER}\s*(?:{SIGN})?"
PLAIN = re.compile(r"[0-9]+(?:\.[0-9]+)?", re.ASCII)
SCIENTIFIC = re.compile(r"[0-9]+(?:\.[0-9]*)?e[+-]?[0-9]{1,3}", re.ASCII)
ONE = re.compile(
    rf"(?P<m1>[-+]?)\s*(?:(?P<code>[a-z]{{3}})\s*(?=\D))?(?P<before>{SIGN})?\s*(?P<m2>[-+]?)\s*(?P<number>{NUMBER})"
    rf"\s*(?P<after>{SIGN})?(?P<m3>-?)"
)
CENTS = re.compile(r"\d([.,])\d\d?(?!\d|[.,]\d)")
WHOLE = re.compile(r"[.,]\s?-{1,2}(?!\d)")  # "15,-" is fifteen and no cents
TWO = re.compile(rf"{AMOUNT}\s*(?:-|\.\.+|~|\bto\b|\bbis\b|\band\b|\bor\b)\s*{AMOUNT}")
OPEN = re.compile(rf"(?:from|starting at|as low as|ab|up to|over|under|[<>~≥≤]=?)\s*{AMOUNT}|{AMOUNT}\s*(?:\+|and up)")
BRACKETED = re.compile(r"\((.*)\)")

# The words by which a column's name says that it holds money (a rule of fair measurement: see `columns`).
MONEY_WORDS = wordset("price prices priced pricing cost costs msrp rrp list discount sale wholesale")
# Names without a break between their words; a costume is none of them.
RUN_TOGETHER = re.compile(
    r"price|msrp|rrp|cost(?!um|a)|per(?:unit|item|piece|pack|kg|lb|oz|g|gb|tb|mb|sqm|sqft|litre|liter)$"
)
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_a-zA-Z]+")


def words(name: str) -> list[str]:
    """The word parts of a column's name in lower case: `listPrice`, `list_price`, `List Price` are alike."""
    return [part.lower() for part in WORD.findall(name)]


def says_price(name: str) -> str:
    """The word by which a column's name says that it holds a price, or an empty text."""
    parts = words(name)
    for place, part in enumerate(parts):
        if (
            part in MONEY_WORDS
            or part.endswith(("price", "cost", "msrp"))
            or part.startswith("discount")
            or RUN_TOGETHER.match(part)
        ):
            return part
        if part == "per" and place + 1 < len(parts):
            return "per_"
    return ""


def named_currency(name: str) -> str:
    """The currency that the name of a column of prices says (`price_usd`, `PriceEUR`), or an empty text."""
    parts = [part.upper() for part in words(name)]
    ends = re.search(r"(?:PRICE|AMOUNT|VALUE)([A-Z]{3})$", "".join(parts))
    said = [*parts[:1], *parts[-1:], *([ends[1]] if ends else [])]
    return next((code for code in said if code in CODES and code not in ALSO_WORDS), "")


def marks_of(values: Iterable[object]) -> str:
    """The decimal marks that prices of a file show where they leave no doubt: `.`, `,`, both or none."""
    ends = {found[1] for value in values if isinstance(value, str) and (found := CENTS.search(value))}
    return "".join(sorted(ends))


def parse_price(value: object, currency: str = "USD", marks: str = ".") -> tuple[float, str | None] | str:
    """The amount and the currency found beside it (None where there is none), or the reason it is refused.

    `currency` is the catalog's: it decides what a sign that several currencies share stands for (`$`, `kr`). `marks`
    are the decimal marks of the file's prices: `.`, `,` or both.
    """
    if value is None:
        return NO_PRICE
    if isinstance(value, bool):
        return NOT_A_NUMBER
    if isinstance(value, int | float):
        return checked(value, "", None)
    if not isinstance(value, str):
        return NOT_A_NUMBER
    if "," not in marks and PLAIN.fullmatch(value) and len(value) <= LONGEST:
        return checked(float(value), "", None)
    text = DOLLAR.sub(r"\1$", value.translate(SPACES).strip().lower())
    if text in NOTHING:
        return NO_PRICE
    if len(text) > LONGEST:
        return NOT_A_NUMBER
    if any(letter.isdigit() and not letter.isascii() for letter in text):
        return OTHER_DIGITS
    return parse_text(text.translate(MINUS), currency, marks)


def parse_text(text: str, currency: str, marks: str) -> tuple[float, str | None] | str:
    """`parse_price` for a short text in lower case."""
    if bracketed := BRACKETED.fullmatch(text):
        inner = parse_text(bracketed[1].strip(), currency, marks)
        return inner if isinstance(inner, str) else NEGATIVE
    if SCIENTIFIC.fullmatch(text):
        return checked(float(text), "", None)
    text = WHOLE.sub("", text)
    found = ONE.fullmatch(text)
    if not found:
        return RANGE if TWO.fullmatch(text) or OPEN.fullmatch(text) else NOT_A_NUMBER
    said = [meanings(found[place]) for place in ("code", "before", "after") if found[place]]
    meant = [code for code in (said[0] if said else ()) if all(code in others for others in said)]
    if not all(said):
        return NOT_A_NUMBER
    if said and not meant:
        return TWO_CURRENCIES
    amount = read_number(found["number"].strip(), marked=bool(meant), marks=marks)
    if isinstance(amount, str):
        return amount
    sign = "-" if "-" in found["m1"] + found["m2"] + found["m3"] else ""
    return checked(amount, sign, (currency if currency in meant else meant[0]) if meant else None)


def meanings(sign: str) -> tuple[str, ...]:
    """The currencies that a sign or code may stand for; none where it is not money."""
    return SIGNS.get(sign) or ((sign.upper(),) if sign.upper() in CODES else ())


def checked(amount: float, sign: str, currency: str | None) -> tuple[float, str | None] | str:
    """An amount that is a price: finite and above zero; or the reason."""
    try:
        amount = float(amount)
    except OverflowError:
        return NOT_A_NUMBER
    if not math.isfinite(amount):
        return NOT_A_NUMBER
    if amount == 0:
        return ZERO
    if sign or amount < 0:
        return NEGATIVE
    return amount, currency


def read_number(text: str, *, marked: bool, marks: str) -> float | str:
    """Digits with separators as a number, or the reason. `marked`: a currency stands beside it."""
    dots, commas = text.count("."), text.count(",")
    whole, decimals = text, ""
    if dots and commas:
        mark = max(".", ",", key=text.rfind)
        if text.count(mark) > 1:
            return NOT_A_NUMBER
        whole, _, decimals = text.rpartition(mark)
    elif dots + commas == 1:
        mark = "." if dots else ","
        left, _, right = text.partition(mark)
        three = len(right) == 3 and 1 <= len(left) <= 3 and not left.startswith("0")
        if mark == "." and three and marks == ",":
            return float(left + right)
        if mark == "." and three and (marked or marks == ",."):
            return AMBIGUOUS
        if mark == "." or not three:
            whole, decimals = left, right
            if mark == "," and len(right) > 2 and left != "0":
                return NOT_A_NUMBER
    if decimals and not decimals.isdigit():
        return NOT_A_NUMBER
    if not (digits := ungrouped(whole)) and not decimals:
        return NOT_A_NUMBER
    if whole and not digits:
        return NOT_A_NUMBER
    return float(f"{digits or '0'}.{decimals or '0'}")


def ungrouped(whole: str) -> str:
    """The digits of a whole number whose thousands may be grouped, or an empty text where they are wrong.

    Groups are of three; before the last one they may be of two, as in India ("1,00,000").
    """
    if whole.isdigit():
        return whole
    separators = {letter for letter in whole if not letter.isdigit()}
    if len(separators) != 1:
        return ""
    first, *rest = whole.split(separators.pop())
    sizes = {len(group) for group in rest[:-1]}
    if not 1 <= len(first) <= 3 or len(rest[-1]) != 3 or not sizes <= {2, 3} or len(sizes) > 1:
        return ""
    return first + "".join(rest)
