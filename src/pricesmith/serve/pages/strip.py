"""A quote as a drawing: its interval, its price and the prices of similar listings, on a logarithmic scale.

All positions are in per cent of the width, so that the drawing is as wide as the page and its text keeps its size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pricesmith.serve.pages.wording import format_rounded, format_rounded_range

MARGIN = 5.0  # per cent at each side, so that the amounts at the ends have room
FARTHEST = 3.0  # similar listings further outside the interval than this factor are drawn at the edge
APART = 40.0  # per cent; nearer ends share one label, so that their amounts do not overlap on a phone


@dataclass(frozen=True)
class Label:
    """An amount under the drawing; `anchor` is the SVG text-anchor."""

    x: str
    anchor: str
    text: str


@dataclass(frozen=True)
class Strip:
    """The drawing of a quote. Numbers are percentages as text."""

    price: str
    low: str
    width: str
    price_label: Label
    ends: tuple[Label, ...]
    dots: tuple[str, ...]
    words: str


def build_strip(
    price: float, low: float | None, high: float | None, near: Sequence[float], currency: str
) -> Strip | None:
    """The drawing; None without an interval, or if the interval has no width."""
    if low is None or high is None or not 0 < low < high:
        return None
    near = [value for value in near if value > 0]
    left = max(min([low, *near]), low / FARTHEST)
    right = min(max([high, *near]), high * FARTHEST)
    start, length = math.log(left), math.log(right) - math.log(left)

    def place(value: float) -> float:
        share = (math.log(min(max(value, left), right)) - start) / length
        return MARGIN + share * (100 - 2 * MARGIN)

    at_low, at_high = place(low), place(high)
    if at_high - at_low >= APART:
        ends = [
            Label(percent(at_low), "start", format_rounded(low, currency)),
            Label(percent(at_high), "end", format_rounded(high, currency)),
        ]
    else:
        middle = min(max((at_low + at_high) / 2, APART / 2), 100 - APART / 2)
        ends = [Label(percent(middle), "middle", format_rounded_range(low, high, currency))]
    at = place(price)
    anchor = "start" if at < 12 else "end" if at > 88 else "middle"
    return Strip(
        price=percent(at),
        low=percent(at_low),
        width=percent(at_high - at_low),
        price_label=Label(percent(at), anchor, format_rounded(price, currency)),
        ends=tuple(ends),
        dots=tuple(percent(place(value)) for value in near),
        words=describe_strip(price, low, high, near, currency),
    )


def percent(value: float) -> str:
    """A position as SVG takes it: `37.5%`."""
    return f"{value:.2f}%"


def describe_strip(price: float, low: float, high: float, near: Sequence[float], currency: str) -> str:
    """The drawing in words."""
    words = f"Price {format_rounded(price, currency)}, range {format_rounded_range(low, high, currency)}"
    if not near:
        return f"{words}."
    if len(near) == 1:
        return f"{words}; a similar listing costs {format_rounded(near[0], currency)}."
    inside = sum(low <= value <= high for value in near)
    span = format_rounded_range(min(near), max(near), currency)
    return f"{words}; {len(near)} similar listings cost {span}, {inside} of them inside the range."
