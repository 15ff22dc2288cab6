"""Which currency the prices of a catalog are in: what its files say, or US dollars as an assumption.

A file says it in a column of currency codes, in the name of its price column (`Price (INR)`), or beside its numbers
(`24.50 EUR`). A sign that several currencies share (`$`) stands for the one that the other prices name, if they do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache

from pricesmith.catalog.staging import Feed
from pricesmith.core.errors import UsageError
from pricesmith.text.currency import CODES, find_currencies, normalize_sign
from pricesmith.text.price_parser import currency_in_name, parse_price

ASSUMED = "assumed"
DEFAULT = "USD"
RARE = 0.05  # of the prices: a currency named less often is an exception, whose rows are refused by name


def choose_currency(feeds: Sequence[Feed], given: str) -> tuple[str, str]:
    """The currency of all prices, and where it comes from: empty if `given`, `assumed` if no price names one.

    Raises UsageError if several currencies have at least 5 % of the prices each, or if a column's name contradicts
    `given`.
    """
    if given:
        check_currency(feeds, given)
        return given, ""
    firm, loose, origins, silent = Counter[str](), Counter[str](), dict[str, str](), 0
    for feed in feeds:
        silent += count_feed(feed, firm, loose, origins)
    for sign, count in loose.items():
        codes = sign_currencies(sign)
        code = next((code for code, _ in firm.most_common() if code in codes), codes[0])
        firm[code] += count
        shared = ", a sign that other currencies share" if len(codes) > 1 else ""
        origins.setdefault(code, f"from {without_number(sign)} in the prices{shared}")
    total = firm.total()
    if total <= RARE * silent:
        return DEFAULT, ASSUMED
    code, count = firm.most_common(1)[0]
    if total - count > RARE * total:
        parts = ", ".join(f"{rows:,} {name}" for name, rows in firm.most_common(5))
        raise UsageError(
            "The prices are in several currencies",
            got=parts,
            allowed="one currency for each catalog; prices are not converted",
            hint=f"Choose the prices to keep: --currency {code}.",
        )
    return code, origins[code]


def count_feed(feed: Feed, firm: Counter[str], loose: Counter[str], origins: dict[str, str]) -> int:
    """Count the currencies that one feed names: `firm` ones by code, others by sign. The number of silent prices."""
    scan, columns = feed.prices, feed.columns
    named = 0
    for text, count in scan.codes.items():
        code = text.strip().upper()
        if code not in CODES:
            codes = find_currencies(normalize_sign(text.strip()))
            code = codes[0] if codes else ""
        if code:
            firm[code] += count
            named += count
            origins.setdefault(code, f"from the column {columns.currency!r}")
    if named:
        return max(0, scan.filled - named)
    in_name = currency_in_name(columns.price)
    for sign, count in scan.signs.items():
        codes = sign_currencies(sign)
        if not codes or in_name in codes:
            continue
        named += count
        if len(codes) == 1:
            firm[codes[0]] += count
            origins.setdefault(codes[0], f"from {without_number(sign)} in the prices")
        else:
            loose[sign] += count
    if in_name:
        firm[in_name] += max(1, scan.filled - named)
        origins.setdefault(in_name, f"from the name of the column {columns.price!r}")
        return 0
    return max(0, scan.filled - named)


def without_number(sign: str) -> str:
    """What stands beside the number of a price: `€` of `9 €`."""
    return " ".join(sign.replace("9", " ").split())


@cache
def sign_currencies(sign: str) -> tuple[str, ...]:
    """The currencies that a price with its number written as 9 may be in, the usual one first; empty for none."""
    usual = parse_price(sign, DEFAULT)
    if isinstance(usual, str) or usual[1] is None:
        return ()
    fitting = [code for code in sorted(CODES) if parse_price(sign, code) == (usual[0], code)]
    return (usual[1], *(code for code in fitting if code != usual[1]))


def check_currency(feeds: Sequence[Feed], currency: str) -> None:
    """Raise UsageError if a column of prices names another currency."""
    for feed in feeds:
        other = currency_in_name(feed.columns.price)
        if other and other != currency and not feed.columns.currency:
            raise UsageError(
                f"{feed.name}: the column {feed.columns.price!r} is in {other} by its name",
                got=f"--currency {currency}",
                hint=f"Use --currency {other}, name another column with --map price=COLUMN, or rename it.",
            )
