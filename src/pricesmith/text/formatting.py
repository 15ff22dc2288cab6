r"""Format figures for people: amounts in the catalog's currency, shares, factors, names.

>>> format_share(0.8973), format_price(1299, "USD"), format_seconds(0.0421)
('89.7 %', '$1,299.00', '0.042')
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence
from typing import Protocol

from pricesmith.text.currency import display_sign, minor_digits

MINUS = "−"
# Control characters draw as nothing or move text about; bidirectional overrides turn the text after them round.
INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff]")


class Estimate(Protocol):
    """A point and its interval; `low` and `high` are None where there is none."""

    @property
    def point(self) -> float: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


class Bounds(Protocol):
    """An interval; `low` and `high` are None where there is none."""

    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


def decimal_places(value: float, currency: str) -> int:
    """Digits after the decimal point: the currency's minor digits, and more below 1 so that two significant digits
    show: `$12.99`, `¥1,299`, `KWD 1.250`, `$0.0042`."""
    digits = minor_digits(currency)
    size = abs(value)
    if not 0 < size < 1 or size == round(size, digits):
        return digits
    return max(digits, min(12, 1 - math.floor(math.log10(size))))


def format_number(value: float, currency: str) -> str:
    """An amount without its sign: `1,299.00`, `1,299` in yen."""
    return f"{value:,.{decimal_places(value, currency)}f}"


def round_money(value: float, currency: str) -> float:
    """An amount rounded to the digits that are shown of it."""
    return round(value, decimal_places(value, currency))


def format_money(value: float, currency: str, places: int | None = None) -> str:
    """`$1,299.00`, `¥1,299`; a currency without a sign of its own goes by its code."""
    shown = decimal_places(value, currency) if places is None else places
    return f"{display_sign(currency)}{value:,.{shown}f}"


def format_price(value: float, currency: str) -> str:
    """Money with as many places as mean something: `$38.21`, `$12,400`, `¥1,200`, `$0.0042`."""
    shown = format_money(abs(value), currency, 0 if abs(value) >= 10_000 else None)
    return f"{MINUS}{shown}" if value < 0 and shown.strip(f"0.,{display_sign(currency)}") else shown


def format_range(low: float | None, high: float | None, currency: str) -> str:
    """`$36.10 to $41.80`; empty without an interval."""
    return "" if low is None or high is None else f"{format_price(low, currency)} to {format_price(high, currency)}"


def format_interval(bounds: Bounds, currency: str) -> str:
    """An interval of money in words; it says so where there are too few groups for one."""
    return format_range(bounds.low, bounds.high, currency) or "too few items for an interval"


def format_share(value: float) -> str:
    """A share of one in per cent."""
    return f"{value:.1%}".replace("%", " %")


def format_share_interval(bounds: Bounds) -> str:
    """An interval of a share, in per cent; a share is never under 0 or over 1."""
    if bounds.low is None or bounds.high is None:
        return "too few items"
    return f"{max(0.0, bounds.low) * 100:.1f} to {min(1.0, bounds.high) * 100:.1f} %"


def format_factors(below: float, above: float) -> str:
    """How far an interval reaches on each side of the price: `÷ 1.90 to × 2.31`."""
    return f"÷\u00a0{below:.2f}\u00a0to\u00a0×\u00a0{above:.2f}"  # no line ends inside


def format_seconds(value: float) -> str:
    """Seconds with two or three digits that mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2g}"


def format_usd(value: float | None) -> str:
    """A cost: always US dollars, whatever the catalog's currency; one that is not known says so."""
    if value is None:
        return "unknown"
    if value == 0:
        return "US$0"
    if value < 0.0001:
        return "under US$0.0001"
    if value >= 10_000:
        return f"US${value:,.0f}"
    return f"US${value:,.2f}" if value >= 0.095 else f"US${value:.2g}"


def format_count(value: int, noun: str) -> str:
    """`1 item`, `1,500 items`."""
    several = noun[:-1] + "ies" if noun.endswith("y") else f"{noun}s"
    return f"{value:,} {noun if value == 1 else several}"


def format_estimate(number: int) -> str:
    """A number with the two digits that an estimate deserves: 5961 reads `6,000`."""
    unit = 10 ** max(0, len(str(number)) - 2)
    return f"{-(-number // unit) * unit:,}"


def format_quotes(number: int) -> str:
    """`1 quote`, `about 6,000 quotes`."""
    return "1 quote" if number == 1 else f"about {format_estimate(number)} quotes"


def join_names(names: Sequence[str], most: int = 3) -> str:
    """`a`, `a and b`, `a, b and 4 more`."""
    shown = [*names[:most], f"{len(names) - most} more"] if len(names) > most else list(names)
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def format_band(label: str, currency: str) -> str:
    """A price band with its sign: `$10 to $20`, `under $10`."""
    return re.sub(r"\d[\d,.e+-]*", lambda match: f"{display_sign(currency)}{match[0]}", label)


def format_band_short(label: str, currency: str) -> str:
    """A price band for a tick of a chart, escaped: `<$10`, `$10–20`, `$400+`."""
    low, _, high = label.partition(" to ")
    if high:
        return html.escape(f"{display_sign(currency)}{low}–{high}")
    if label.startswith("under "):
        return html.escape(f"<{display_sign(currency)}{label.removeprefix('under ')}")
    return html.escape(f"{display_sign(currency)}{low.split()[0]}+" if label.endswith("over") else label)


def keep_percent_together(value: object) -> object:
    """A template's value, with no line end between a number and its per cent sign."""
    return value.replace(" %", "\u00a0%") if type(value) is str else value


def to_single_line(text: str, most: int = 160) -> str:
    """Text from data as one line: no control characters, cut at `most` characters."""
    line = " ".join(INVISIBLE.sub(" ", text).split())
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}…"


def format_chart_label(text: str, most: int = 90, width: int = 46) -> str:
    """Text from data for a chart's labels, in lines. Plotly reads tags and entities there, so they are escaped."""
    import textwrap

    lines = textwrap.wrap(to_single_line(text, most), width) or ["(no title)"]
    return "<br>".join(html.escape(line, quote=False) for line in lines)


def format_amount_interval(estimate: Estimate, currency: str) -> str:
    """`$38.90 [36.10, 41.80]`; without an interval if there are too few near-duplicate groups."""
    return f"{format_money(estimate.point, currency)} {format_brackets(estimate, currency)}".rstrip()


def format_brackets(bounds: Bounds, currency: str) -> str:
    """`[36.10, 41.80]`; empty if there are too few near-duplicate groups."""
    if bounds.low is None or bounds.high is None:
        return ""
    return f"[{format_number(bounds.low, currency)}, {format_number(bounds.high, currency)}]"


def format_bounds(low: float | None, high: float | None, currency: str) -> str:
    """An interval after its number: ` [28.90, 32.60]`; empty without one."""
    return "" if low is None or high is None else f" [{format_signed(low, currency)}, {format_signed(high, currency)}]"


def format_signed(value: float, currency: str) -> str:
    """An amount without the currency's sign, with its digits and a typographic minus."""
    text = format_number(abs(value), currency)
    return f"−{text}" if value < 0 and text.strip("0.,") else text
