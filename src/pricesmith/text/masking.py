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
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from pricesmith.text.currency import (
    DOUBTFUL_SIGNS,
    MAJOR_CODES,
    MONEY_NAMES,
    OWN_NAMES,
    PRICE_WORDS,
    SLASH_DASH,
    SYMBOLS,
    TEXT_CODES,
    get_signs,
    minor_digits,
)

TOKEN = "[amount]"
PASSES = 8  # a masked amount can uncover another one, rarely; made texts would go on for long

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
    r"|\d+(?:[.,'’٫٬]\d+)*(?![.,'’٫٬]?\d)|[.,]\d+(?!\d))"
    r"(?:\s?(?:thousand|million|billion|mn|bn|k)\b)?"
)
CENTS = r"\d+(?:[.,']\d{3})*[.,]\d\d(?!\d)"
# Cents or grouped thousands: R 1,299 is money, R134 and R 15 are a refrigerant and a size of tires.
PRICED = rf"(?:\d{{1,3}}(?:[\u00a0\u202f ,.'’]\d{{3}})+(?:[.,]\d\d)?(?![.,]?\d)|{CENTS})"
# Letters only: a word boundary would not part 5usd5usd, and masking one amount would uncover the next.
FROM, TO = r"(?<![a-z])", r"(?![a-z])"
# The same for letters of any script.
FROM_ANY, TO_ANY = r"(?<![^\W\d_])", r"(?![^\W\d_])"
SPACELESS = "\u0e00"  # signs of scripts from here on stand in words without spaces: 1299円です
SIGN = rf"(?:{FROM}(?:[a-z]{{1,3}}|us\s))?[{SYMBOLS}]"
DASH = r"(?:[.,][-–—]{1,2}(?!\w))?"
NEVER = "(?!)"
# What says money by itself; elsewhere the pattern of hints has to agree.
UNAMBIGUOUS = re.compile(
    "dollar|euro(?!p)|bucks|(?<![a-z])(?:cents|quid)|rupees|yuan| yen|pence|pesos|zloty|kron|zł|kč|руб|грн|円|元|원"
)


@dataclass(frozen=True)
class Patterns:
    """What finds amounts of money, and what says quickly that there may be one, in one text and (`re2`) in many."""

    amount: re.Pattern[str]
    hint: re.Pattern[str]
    hints: tuple[str, ...]
    re2: str


@dataclass(frozen=True)
class OwnSigns:
    """Alternatives of a regular expression for the signs of a catalog's own currency.

    `sure` are money beside any number (with boundaries), `bare` are the same without boundaries, `behind` stand only
    behind a number. `exact` and `letters` are doubtful: units in another letter case, and single letters. `words` mean
    "price". `hints` are substrings of which a text with such an amount holds one.
    """

    sure: str
    bare: str
    behind: str
    exact: str
    letters: str
    words: str
    hints: tuple[str, ...]


def bounded(sign: str) -> str:
    """A sign that is no part of a longer word."""
    pattern = re.escape(sign)
    if sign.isascii():
        return f"{FROM}{pattern}{TO}"
    if sign[0] >= SPACELESS:
        return pattern
    return f"{FROM_ANY}{pattern}{TO_ANY}"


def build_own_signs(currency: str) -> OwnSigns:
    """The signs of a catalog's currency, without those that hold a symbol of money: these are money in any catalog."""
    exact = DOUBTFUL_SIGNS.get(currency, "")
    known = {re.sub(r"\W", "", sign).lower() for sign in exact.split("|")} - {""}
    texts = {sign.text.rstrip(".") for sign in get_signs(currency)} | {currency.lower()}
    texts = {text for text in texts if text and not re.search(f"[{SYMBOLS}]", text)}
    texts = {text for text in texts if re.sub(r"\W", "", text) not in known}
    letters = {text for text in texts if len(text) == 1 and text < SPACELESS}
    names = OWN_NAMES.get(currency, "")
    behind = [f"(?:{names}){TO_ANY}"] if names else []
    behind += [rf"{re.escape(text)}(?!\w)" for text in sorted(texts) if not text[-1].isalpha()]
    behind += [rf"{text}{TO_ANY}" for text in sorted(letters) if not text.isascii()]
    if currency in SLASH_DASH:
        behind.append(r"/[-=](?!\w)")
    sure = sorted(text for text in texts - letters if text[-1].isalpha())
    words = PRICE_WORDS.get(currency, "")
    bare_names = [name.partition("[")[0].rstrip("s?") for name in names.split("|")]
    hints = [*sure, *letters, *known, *(text for text in texts if not text[-1].isalpha()), *bare_names]
    hints += [word.replace("\\", "").rstrip("?.") for word in words.split("|")]
    hints += ["/-", "/="] if currency in SLASH_DASH else []
    return OwnSigns(
        "|".join(map(bounded, sure)) or NEVER,
        "|".join(map(re.escape, sure)) or NEVER,
        "|".join(behind) or NEVER,
        exact or NEVER,
        "|".join(sorted(text for text in letters if text.isascii())) or NEVER,
        words,
        tuple(dict.fromkeys(hint for hint in hints if hint)),
    )


@cache
def build_patterns(currency: str) -> Patterns:
    """The patterns for a catalog of a currency: its own code and signs are money wherever a number stands beside them,
    also those that are doubtful elsewhere (`Ft`, `kr`, `CAD`)."""
    own = build_own_signs(currency)
    price = f"{PRICE}|{own.words}" if own.words else PRICE
    alone = f"msrp|rrp|{own.words}" if own.words else "msrp|rrp"  # these need no colon
    before = (
        rf"(?:{SIGN}\s?[-−]?|{FROM}(?:{TEXT_CODES}){TO}(?:\.\s?|\s)|{FROM}(?:{MAJOR_CODES})(?=\d)|{FROM}rs\.\s?"
        rf"|(?:{own.sure})\.?\s?)"
    )
    names = rf"\s?(?:{MAJOR_CODES}|{MONEY_NAMES}){TO}|\s?(?:{own.behind})"
    signs = (
        rf"\s?(?:{DOLLARS})?[{SYMBOLS}]|\s?(?:{own.sure})|\s(?:{TEXT_CODES}|kr){TO}|\s?(?-i:{own.exact}){TO_ANY}"
        rf"|\s?\((?:{TEXT_CODES}|{own.bare}|[{SYMBOLS}])\)"
    )
    after = rf"(?:{names}|{signs})"
    # "$5 $10": the second sign belongs to the second amount.
    also_after = rf"(?:(?!\s?(?:{MAJOR_CODES})\s?\d)(?:{names})|(?:{signs})(?!\.?\s?\d))?"
    doubtful = (
        rf"|{FROM_ANY}(?-i:{own.exact})(?:(?:\s|(?<=/)|(?<=/\.))(?P<f>{NUMBER}){TO_ANY}|(?P<g>{PRICED}))"
        rf"|{FROM_ANY}(?:{own.letters})\s?(?P<h>{PRICED})"
        if own.exact != NEVER or own.letters != NEVER
        else "|(?P<f>(?!))(?P<g>)(?P<h>)"
    )
    amount = (
        rf"{before}(?P<a>{NUMBER})(?:\s?[-–—]\s?(?:{SIGN}\s?)?{NUMBER})?{DASH}{also_after}"
        rf"|{FROM}(?:{DOUBTFUL}|{TEXT_CODES})\.?\s?(?P<b>{CENTS})"
        rf"|(?<![\d.,])(?P<c>{NUMBER})(?:[-–—]{NUMBER})?{DASH}{after}"
        rf"|(?<![\d.,])(?P<d>{CENTS})\s?(?:{DOUBTFUL}|{TEXT_CODES}){TO}"
        rf"|(?<![-\w])(?P<word>(?:{price})s?(?:\s?\((?:{TEXT_CODES}|{own.bare}|[{SYMBOLS}])\))?"
        rf"(?:\s?(?:[:=]|\b(?:is|was|now|only)\b)\s?"
        rf"|\s(?:[-–—]\s)?(?=\d+[.,]\d\d\b))|(?:{alone})\s)(?P<e>{NUMBER})(?!\s?%)"
        rf"|\b(?:{SPELT})(?:(?:\s|-|\sand\s)(?:{SPELT}))*\s(?:{SPELT_MONEY})\b{doubtful}"
    )
    hint = (
        rf"[{SYMBOLS}]|{FROM}(?:{TEXT_CODES}|{DOUBTFUL})(?=\.?\s?[\d.,])|(?:{own.sure})(?=\.?\s?[\d.,])"
        rf"|\d(?:\s?(?:thousand|million|billion|mn|bn|k))?(?:[.,][-–—]{{1,2}})?\s?\(?"
        rf"(?:(?:{TEXT_CODES}|{DOUBTFUL}|yen){TO}|{own.sure}|{own.bare}|{own.behind})"
        rf"|(?:{price})s?\s?(?:[:=\d(–—-]|is|was|now|only)"
    )
    if own.exact != NEVER or own.letters != NEVER:
        loose = rf"{own.exact.lower()}|{own.letters}"
        hint += rf"|{FROM_ANY}(?:{loose})\s?\d|\d\s?(?:{loose})"
    hints = (*TEXT_CODES.split("|"), *DOUBTFUL.split("|"), *PRICE.split("|"), "yen", *own.hints)
    return Patterns(re.compile(amount, re.IGNORECASE), re.compile(hint), tuple(dict.fromkeys(hints)), to_re2(hint))


LOOKAROUND = re.compile(r"\(\?<?[!=][^()]*\)")
LOOKAHEAD = re.compile(r"\(\?=([^()]*)\)")
SPACES = r"\s\p{Z}\x00-\x1f\x85"


def to_re2(hint: str) -> str:
    """The pattern of hints, and of what needs no hint, for the RE2 of pyarrow. It has no lookaround, and its digits and
    spaces are those of ASCII. It finds every text in which `may_hold_amount` finds something, and a few more."""
    loose = hint.replace(NEVER, r"[^\x00-\x{10FFFF}]").replace(f"|{FROM}(?:", "|(?:^|[^a-z])(?:")
    loose = LOOKAROUND.sub("", LOOKAHEAD.sub(r"\1", loose))
    loose = loose.replace(r"\d", r"\p{Nd}").replace(r"\s?", f"[{SPACES}]?").replace(r"[\p{Nd}\s", rf"[\p{{Nd}}{SPACES}")
    return f"{LOOKAROUND.sub('', UNAMBIGUOUS.pattern)}|{loose}"


# Plain searches are several times as fast as the pattern above, and most texts hold none of these.
SIGN_HINT = re.compile(f"[{SYMBOLS}]")


def may_hold_amount(text: str, patterns: Patterns) -> bool:
    """Whether a text may hold an amount of money: a quick look that never misses one."""
    if SIGN_HINT.search(text) is not None:
        return True
    lower = text.lower()
    if UNAMBIGUOUS.search(lower) is not None:
        return True
    return any(hint in lower for hint in patterns.hints) and patterns.hint.search(lower) is not None


def mask_money(text: str, currency: str = "") -> tuple[str, list[float]]:
    """The text with every amount of money as one neutral token, and the amounts, in order.

    `currency` is the catalog's code.
    """
    patterns = build_patterns(currency)
    return mask_amounts(text, patterns, currency) if may_hold_amount(text, patterns) else (text, [])


FEWEST_TEXTS = 50  # for fewer texts, one search of all costs more than one of each


def mask_texts(texts: list[str], currency: str = "") -> tuple[list[str], dict[int, list[float]]]:
    """`mask_money` of each text: the texts, and the amounts by the place of their text, if it has any.

    One search finds the few of many texts that may hold an amount at all.
    """
    patterns = build_patterns(currency)
    likely: Iterable[int] = range(len(texts))
    if len(texts) >= FEWEST_TEXTS:
        import pyarrow as pa
        from pyarrow.compute import indices_nonzero, match_substring_regex

        flags = match_substring_regex(pa.array([text.lower() for text in texts], pa.string()), pattern=patterns.re2)
        likely = indices_nonzero(flags).to_pylist()
    masked, amounts = list(texts), dict[int, list[float]]()
    for place in likely:
        if may_hold_amount(texts[place], patterns):
            masked[place], values = mask_amounts(texts[place], patterns, currency)
            if values:
                amounts[place] = values
    return masked, amounts


def mask_amounts(text: str, patterns: Patterns, currency: str) -> tuple[str, list[float]]:
    """`mask_money` of a text that may hold an amount."""
    amounts: list[float] = []

    def mask(match: re.Match[str]) -> str:
        number = next((match[name] for name in "abcdefgh" if match[name]), None)
        amounts.append(parse_amount(number, currency) if number else math.nan)  # written out: masked, and not read
        return f"{match['word'] or ''}{TOKEN}"

    for _ in range(PASSES):
        before = len(amounts)
        text = patterns.amount.sub(mask, text)
        if len(amounts) == before:
            break
    return text, amounts


PLAIN_MARKS = {ord("٫"): ".", ord("٬"): ","}


def parse_amount(number: str, currency: str = "") -> float:
    """The value of a written number: the last mark is the decimal one unless exactly three digits follow it, which are
    the minor digits of a few currencies (`KWD 12.500`)."""
    digits = re.match(r"[\d.,'’٫٬\s]*", number)
    assert digits is not None
    plain = re.sub(r"[\s'’]", "", digits[0])[:40].translate(PLAIN_MARKS).rstrip(".,")
    scale = {"k": 1e3, "t": 1e3, "m": 1e6, "b": 1e9}.get(number[digits.end() :].strip().lower()[:1], 1.0)
    whole, mark, rest = plain.rpartition(max(".,", key=plain.rfind))
    three = len(rest) == 3 and minor_digits(currency) == 3 and whole.count(mark) == 0
    if mark and (len(rest) != 3 or three or not whole.strip(".,")):
        text = f"{re.sub('[.,]', '', whole) or '0'}.{rest}"
    else:
        text = re.sub("[.,]", "", plain)
    return float(text or 0) * scale
