"""Parse prices as files write them: an amount and a currency, or the name of the reason why there is none.

One raw value: "1.299,00 €" -> (1299.0, "EUR");  "$10 - $20" -> "price is a range".

    >>> parse_price("$1,299.00")
    (1299.0, 'USD')
    >>> parse_price("ten dollars")
    'price is not a number'

Some numbers can be read in two ways; these are the rules. With both `.` and `,` the last one is the decimal mark; of
several equal marks all group thousands. One mark with any other count of digits after it than three is the decimal
mark, and so is one after a single zero ("0,125"). One mark with exactly three digits after it:

* The currency has three minor digits (Kuwaiti dinar): `.` is the decimal mark, unless the file's prices have decimal
  commas only; so is `,` where the currency is written with a decimal comma (Tunisian dinar) or the file's prices are.
* `,` groups thousands, unless the file's prices have decimal commas only: then it is ambiguous, and refused.
* `.` groups thousands in a file whose prices have decimal commas only, and beside the sign of a currency without minor
  digits ("Rp 450.000"), or of one that is written with a decimal comma everywhere ("R$ 1.299") unless the file's
  prices have decimal points. Beside the sign of another currency ("1.299 €") it is ambiguous.
* `.` in a bare number is the decimal mark, as in every programming language, if the file's prices have decimal points;
  if they show no decimal mark at all, or both, it is ambiguous; for a catalog whose currency has no minor digits and a
  file that shows no decimal mark, it groups thousands.

`marks_of` finds the decimal marks of a file. Standard library only: the process that parses untrusted files imports
this module.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable
from functools import cache, lru_cache
from html import unescape

from pricesmith.text.currency import ALSO_WORDS, BEFORE_NUMBER, BEHIND_NUMBER, CODES, find_currencies, groups_by_dot
from pricesmith.text.currency import minor_digits as minor_digits_of

NO_PRICE = "no price"
NOT_A_NUMBER = "price is not a number"
RANGE = "price is a range"
TWO_NUMBERS = "price is more than one number"
ZERO = "price is zero"
NEGATIVE = "price is negative"
AMBIGUOUS = "price is ambiguous"
TWO_CURRENCIES = "price has two currencies"
OTHER_DIGITS = "price has digits other than 0-9"

LONGEST = 64  # characters; no amount of money is longer
RARE = 0.05  # of the prices with a decimal mark: a mark seen less often is a slip, not the file's


def word_set(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


NOTHING = word_set("none null n/a na #n/a nan nil tbd tba") | {""}
# Whole cells that hold nothing: what pandas reads as missing, in the same letter case, so that the brand NAN and the
# symbol Na stay words; dashes; the errors of spreadsheets; what other languages print for nothing.
MISSING = word_set(
    """
    #N/A #NA -NaN -nan <NA> N/A NA NULL NaN None n/a nan null none NONE Null NaT n.a. N.A. undefined
    - -- --- – —
    #VALUE! #REF! #DIV/0! #NAME? #NUM! #NULL! #SPILL! #CALC! #ERROR!
    """
)
LONGEST_MISSING = 12  # characters with spaces around
LABELS = word_set("mrp m.r.p. m.r.p uvp rrp msrp pvp srp")  # words for "recommended price" before an amount
PLAIN = re.compile(r"[0-9]+(?:\.[0-9]+)?", re.ASCII)
USUAL = re.compile(r"([$€£])([0-9]{1,3}(?:,[0-9]{3})*|[0-9]+)\.([0-9]{2})", re.ASCII)
SCIENTIFIC = re.compile(r"[0-9]+(?:\.[0-9]*)?e[+-]?[0-9]{1,3}", re.ASCII)
ONE = re.compile(r"([^0-9]*)([0-9][0-9 .,']*)([^0-9]*)")
WHOLE = re.compile(r"(?:[.,]\s?|\s?[:/]\s?)[-=]{1,2}(?!\d)")  # "15,-", "129:-" and "599/-" have no cents
DANGLING = re.compile(r"(?<![.,:/])\s*[\u2013\u2014]$|\s-$")  # what is left of a range: "£147.59 –"
BREAKS = re.compile("[\t\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+")
BRACKETED = re.compile(r"\((.*)\)")
TOKENS = re.compile(r"[\s;|]+")
PIECES = re.compile(r"[\[\]{}\";|]+|,\s+|\s/\s|\s{2,}")
DIGIT = re.compile("[0-9]")
NUMBERS = re.compile(r"[0-9](?:[0-9.,']|[\s\u00a0\u202f](?=[0-9]{3}))*")
CURRENCY_SYMBOL = re.compile(r"([^\w\s.,'/:-]+)")

# The words by which a column's name says that it holds money (a rule of fair measurement: see `columns`).
MONEY_WORDS = word_set(
    """price prices priced pricing cost costs msrp rrp list discount sale wholesale
    preço preços preco precos precio precios prix preis preise prezzo prezzi prijs cena ceny fiyat fiyatı fiyatlar pvp
    uvp custo costo coste rabat rabatt desconto descuento"""
)
CJK_MONEY = re.compile("価格|定価|値段|价格|售价|原价|가격")
# What a "list" is of where it is no list price.
LISTED = word_set("ingredient ingredients part parts feature features packing content contents track check")
# Names without a break between their words; a costume is none of them.
RUN_TOGETHER = re.compile(
    r"price|msrp|rrp|cost(?!um|a)|per(?:unit|item|piece|pack|kg|lb|oz|g|gb|tb|mb|sqm|sqft|litre|liter)$"
)
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_a-zA-Z]+")

CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
ANY_WORD = re.compile("[a-z\u00c0-\u024f]+|[0-9]+|[^\\W\\d_a-z\u00c0-\u024f]+")  # Latin letters apart from others


def name_words(name: str) -> list[str]:
    """The word parts of a column's name in lower case: `listPrice`, `list_price`, `List Price` are alike."""
    if name.isascii():
        return [part.lower() for part in WORD.findall(name)]
    spaced = CAMEL.sub(" ", unicodedata.normalize("NFC", name)).replace("İ", "i")  # casefold makes two characters of it
    return ANY_WORD.findall(spaced.casefold())


def find_price_word(name: str) -> str:
    """The word by which a column's name says that it holds a price, or an empty text."""
    if money := CJK_MONEY.search(name):
        return money[0]
    parts = name_words(name)
    for place, part in enumerate(parts):
        if part == "list" and place and parts[place - 1] in LISTED:
            continue
        if (
            part in MONEY_WORDS
            or part.endswith(("price", "cost", "msrp", "preis"))
            or part.startswith("discount")
            or RUN_TOGETHER.match(part)
        ):
            return part
        if part == "per" and place + 1 < len(parts):
            return "per_"
    return ""


def currency_in_name(name: str) -> str:
    """The currency that the name of a column of prices says (`price_usd`, `PriceEUR`), or an empty text."""
    parts = [part.upper() for part in name_words(name)]
    ends = re.search(r"(?:PRICE|AMOUNT|VALUE)([A-Z]{3})$", "".join(parts))
    candidates = [*parts[:1], *parts[-1:], *([ends[1]] if ends else [])]
    return next((code for code in candidates if code in CODES and code not in ALSO_WORDS), "")


# One way to write each character: spaces, dashes, apostrophes, full-width forms, Arabic marks; direction marks go.
CHARACTERS: dict[int, str] = {
    **dict.fromkeys(map(ord, "\u00a0\u2002\u2003\u2007\u2008\u2009\u200a\u202f\u3000"), " "),
    **dict.fromkeys(map(ord, "\u2212\u2010\u2011\u2012\u2013\u2014\ufe63"), "-"),
    **dict.fromkeys(map(ord, "’‘ʼ′´`"), "'"),
    **{code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},
    0xFFE0: "¢",
    0xFFE1: "£",
    0xFFE5: "¥",
    0xFFE6: "₩",
    0xFF04: "$",
    0xFE69: "$",
    ord("٫"): ".",
    ord("٬"): ",",
    ord("،"): ",",
    **dict.fromkeys(map(ord, "\u00ad\u061c\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"), ""),
    **dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)], ""),
}


@cache
def range_patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What two amounts with a dash or a word between them look like, and an amount with an open end."""
    signs = sorted({*BEFORE_NUMBER, *BEHIND_NUMBER}, key=len, reverse=True)
    sign = "|".join(map(re.escape, signs)) + "|[a-z]{3}"
    number = r"(?:[0-9][0-9 .,']*|[.,][0-9]+)"
    amount = rf"(?:{sign})?\s*{number}\s*(?:{sign})?"
    between = r"(?:-|\.\.+|~|\bto\b|\bbis\b|\band\b|\bor\b)"
    opening = r"(?:from|starting at|as low as|ab|up to|over|under|[<>~≥≤]=?)"
    return (
        re.compile(rf"{amount}\s*{between}\s*{amount}"),
        re.compile(rf"{opening}\s*{amount}|{amount}\s*(?:\+|and up)"),
    )


def find_decimal_mark(text: str) -> str:
    """The decimal mark that a price shows beyond doubt, or an empty text.

    `12,50`, `0,125` and `1.299,00` show a comma, and so does `1.299.000`: its dots group thousands. `1.299` shows none.
    """
    if text.isascii() and text.isdigit():
        return ""
    if not text.isascii():
        text = to_ascii_digits(text.translate(CHARACTERS))
    match = NUMBERS.search(text[:LONGEST])
    if not match:
        return ""
    number = match[0].rstrip(".,'")
    dots, commas = number.count("."), number.count(",")
    if not dots and not commas:
        return ""
    if dots and commas:
        mark = max(".", ",", key=number.rfind)
        return mark if number.count(mark) == 1 else ""
    if dots + commas > 1:
        if remove_grouping(number) == "":
            return ""
        return "," if dots else "."
    whole, mark, decimals = number.partition("." if dots else ",")
    if len(decimals) == 3 and whole.strip("0") and len(whole) <= 3:
        return ""
    if mark == "," and len(decimals) > 3 and whole.strip("0"):
        return ""
    return mark


def find_decimal_marks(values: Iterable[object]) -> str:
    """The decimal marks that the prices of a whole file show where they leave no doubt: `.`, `,`, both or none.

    A mark that fewer than 5 in 100 of these prices show is a slip, and does not count.
    """
    return choose_marks(*count_marks(values))


def count_marks(values: Iterable[object]) -> tuple[int, int]:
    """How many prices show a decimal point, and how many a decimal comma, beyond doubt."""
    counts = {".": 0, ",": 0}
    for value in values:
        if isinstance(value, str) and (mark := find_decimal_mark(value)):
            counts[mark] += 1
    return counts["."], counts[","]


def choose_marks(dots: int, commas: int) -> str:
    """The decimal marks of a file of which so many prices show each mark."""
    fewest = RARE * (dots + commas)
    return "".join(mark for mark, count in ((",", commas), (".", dots)) if count and count >= fewest)


def to_ascii_digits(text: str) -> str:
    """The decimal digits of every script as 0 to 9."""
    return "".join(
        char if char.isascii() or (digit := unicodedata.decimal(char, None)) is None else str(digit) for char in text
    )


def is_missing(text: str) -> bool:
    """Whether a whole cell says that there is nothing in it."""
    return len(text) <= LONGEST_MISSING and text.strip() in MISSING


def parse_price(value: object, currency: str = "USD", marks: str = ".") -> tuple[float, str | None] | str:
    """The amount and the currency found beside it (None if there is none), or the reason why it is refused.

    `currency` is the catalog's: it decides what a sign that several currencies share stands for (`$`, `kr`). `marks`
    are the decimal marks of the file's prices (`marks_of`): `.`, `,`, both, or none if nothing is known about them.
    """
    if value is None:
        return NO_PRICE
    if isinstance(value, bool):
        return NOT_A_NUMBER
    if isinstance(value, int | float):
        return NO_PRICE if value != value else check_amount(value, "", None)
    if not isinstance(value, str):
        return NOT_A_NUMBER
    if len(value) <= LONGEST and (PLAIN.fullmatch(value) if marks == "." else value.isascii() and value.isdigit()):
        return check_amount(float(value), "", None)
    if len(value) <= LONGEST and (usual := USUAL.fullmatch(value)):  # most prices in text, and never ambiguous
        meant = BEFORE_NUMBER[usual[1]]
        amount = float(f"{usual[2].replace(',', '')}.{usual[3]}")
        return check_amount(amount, "", currency if currency in meant else meant[0])
    if "&" in value and len(value) <= 4 * LONGEST:
        value = unescape(value)
    text = value.strip().lower()
    if text in NOTHING or is_missing(value):
        return NO_PRICE
    if len(text) > LONGEST:
        return NOT_A_NUMBER
    if text[-1] in "-–—":
        text = DANGLING.sub("", text)
    if not text.isascii():
        text = to_ascii_digits(text.translate(CHARACTERS))
        if any(char.isdigit() and not char.isascii() for char in text):
            return OTHER_DIGITS
    if not text.isprintable():
        lines = [line for line in BREAKS.split(text) if line.strip()]
        if sum(DIGIT.search(line) is not None for line in lines) > 1:
            return TWO_NUMBERS
        text = " ".join(lines)
    text = text.strip()
    result = parse_text(text, currency, marks)
    return TWO_NUMBERS if result == NOT_A_NUMBER and has_two_prices(text, currency) else result


def has_two_prices(text: str, currency: str) -> bool:
    """Whether a text in lower case is a list of prices: `12.99 15.99`, `[100, 200]`, `12 / 15`."""
    for separators in (PIECES, TOKENS):
        pieces = [piece.strip(" ,\"'") for piece in separators.split(text)]
        pieces = [piece for piece in pieces if piece]
        if len(pieces) > 1 and all(
            not isinstance(result := parse_text(piece, currency, ",."), str) or result in (AMBIGUOUS, ZERO, NEGATIVE)
            for piece in pieces
        ):
            return True
    return False


def parse_text(text: str, currency: str, marks: str) -> tuple[float, str | None] | str:
    """`parse_price` for a short text in lower case with plain characters."""
    if text.startswith("(") and (bracketed := BRACKETED.fullmatch(text)):
        inner = parse_text(bracketed[1].strip(), currency, marks)
        return inner if isinstance(inner, str) else NEGATIVE
    if "e" in text and SCIENTIFIC.fullmatch(text):
        return check_amount(float(text), "", None)
    short = WHOLE.sub("", text) if "-" in text or "=" in text else text
    match = ONE.fullmatch(short)
    if not match:
        return explain_no_number(short)
    before, number, after = match[1].strip(), match[2].strip(), match[3].strip()
    minus = ""
    if before and before[0] in "-+":
        minus, before = before[0], before[1:].lstrip()
    if before and before[-1] in "-+":
        minus, before = minus + before[-1], before[:-1].rstrip()
    if after and after[-1] == "-":
        minus, after = f"{minus}-", after[:-1].rstrip()
    if before and before[-1] in ".," and not find_currencies(before) and not before[:-1].endswith(before[-1]):
        before, number = before[:-1].rstrip(), before[-1] + number  # "$.99"
        if not number[1:].isdigit():
            return NOT_A_NUMBER
    beside = currencies_beside(before, False) if before else ()
    if after:
        beside += currencies_beside(after, True)
    if not all(beside):
        return explain_no_number(short)
    meant = [code for code in (beside[0] if beside else ()) if all(code in others for others in beside)]
    if beside and not meant:
        return TWO_CURRENCIES
    own = (currency if currency in meant else meant[0]) if meant else None
    amount = read_number(number, currency=own or currency, marked=bool(meant), marks=marks)
    return amount if isinstance(amount, str) else check_amount(amount, "-" if "-" in minus else "", own)


def explain_no_number(text: str) -> str:
    """The reason for a text in which there is not one number."""
    two, opening = range_patterns()
    return RANGE if two.fullmatch(text) or opening.fullmatch(text) else NOT_A_NUMBER


@lru_cache(maxsize=4_096)
def currencies_beside(text: str, behind: bool) -> tuple[tuple[str, ...], ...]:
    """What each sign or code of the text on one side of a number may stand for: an empty tuple for what is not money.

    "cad $" is two that agree; "us $" is one sign with a space in it.
    """
    if not text:
        return ()
    if codes := find_currencies(text, behind=behind):
        return (codes,)
    if len(text) > 24:
        return ((),)
    words = [word for word in text.split() if word.rstrip(":") not in LABELS]
    if not words:
        return ()
    joined = "".join(words)
    for sign in (joined, joined.rstrip(":"), joined.strip("[]()")):
        if codes := find_currencies(sign, behind=behind):
            return (codes,)
    parts = [part for word in words for part in CURRENCY_SYMBOL.split(word) if part]
    return tuple(find_currencies(part, behind=behind) for part in parts)


def check_amount(amount: float, sign: str, currency: str | None) -> tuple[float, str | None] | str:
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


def read_number(text: str, *, currency: str, marked: bool, marks: str) -> float | str:
    """Digits with separators as a number, or the reason. `marked`: the currency stands beside it."""
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
        if len(right) == 3 and right.isdigit() and 1 <= len(left) <= 3 and left.isdigit() and not left.startswith("0"):
            role = classify_mark(mark, currency, marked, marks)
            if role == AMBIGUOUS:
                return AMBIGUOUS
            return float(left + right) if role == "thousands" else float(f"{left}.{right}")
        whole, decimals = left, right
        three = minor_digits_of(currency) == 3 and len(right) == 3
        if mark == "," and len(right) > 2 and left != "0" and not three:
            if len(left) > 3 or len(right) != 3 or not right.isdigit():
                return NOT_A_NUMBER
            whole, decimals = text, ""
    if decimals and not decimals.isdigit():
        return NOT_A_NUMBER
    if not (digits := remove_grouping(whole)) and not decimals:
        return NOT_A_NUMBER
    if whole and not digits:
        return NOT_A_NUMBER
    return float(f"{digits or '0'}.{decimals or '0'}")


def classify_mark(mark: str, currency: str, marked: bool, marks: str) -> str:
    """Whether one mark before exactly three digits is `decimal`, groups `thousands`, or is ambiguous.

    The rules stand at the head of this module.
    """
    digits = minor_digits_of(currency)
    if mark == ",":
        if digits == 3:
            return (
                "thousands" if marks == "." else "decimal" if marks == "," or groups_by_dot(currency) else "thousands"
            )
        return AMBIGUOUS if marks == "," and digits else "thousands"
    if marks == ",":
        return "thousands"
    if digits == 3:
        return "decimal"
    if marked:
        by_dot = digits == 0 or (groups_by_dot(currency) and "." not in marks)
        return "thousands" if by_dot else AMBIGUOUS
    if marks == ".":
        return "decimal"
    return "thousands" if digits == 0 and not marks else AMBIGUOUS


def remove_grouping(whole: str) -> str:
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
