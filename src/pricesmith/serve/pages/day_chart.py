"""A small chart of one value per day, drawn by the server: places across are in per cent, places down in pixels.

Days without a value leave a gap. The chart starts at 0, so that a small change does not look large.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

TOP, BOTTOM = 22.0, 104.0  # pixels
MARGIN = 3.0  # per cent at each side


@dataclass(frozen=True)
class Mark:
    """A value of a day; `height` is that of a bar."""

    x: str
    left: str
    y: str
    height: str
    large: bool


@dataclass(frozen=True)
class Level:
    """A line across the chart."""

    y: str
    text: str


@dataclass(frozen=True)
class DayChart:
    """A chart. `lines` join the values of neighboring days: (x1, y1, x2, y2)."""

    title: str
    words: str
    as_bars: bool
    bar_width: str
    marks: tuple[Mark, ...]
    lines: tuple[tuple[str, str, str, str], ...]
    levels: tuple[Level, ...]
    top: str
    first: str
    last: str


def build_chart(
    title: str,
    days: Sequence[str],
    values: Sequence[float | None],
    show: Callable[[float], str],
    *,
    levels: Sequence[tuple[float, str]] = (),
    as_bars: bool = False,
    large: Sequence[bool] = (),
) -> DayChart | None:
    """The chart of a value per day; None without any value. `large` marks the days whose value is an alarm."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    top = max([*known, *(level for level, _ in levels)]) or 1.0
    moments = [date.fromisoformat(day) for day in days]
    span = max(1, (moments[-1] - moments[0]).days)
    width = min(4.0, 0.7 * (100 - 2 * MARGIN) / (span + 1))

    def across(moment: date) -> float:
        if len(moments) == 1:
            return 50.0
        return MARGIN + (100 - 2 * MARGIN) * (moment - moments[0]).days / span

    def down(value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * max(0.0, value) / top

    neighbors = [(b - a).days == 1 for a, b in pairwise(moments)]
    points = [
        None if value is None else (across(moment), down(value)) for moment, value in zip(moments, values, strict=True)
    ]
    marks = [
        Mark(
            x=f"{point[0]:.2f}%",
            left=f"{point[0] - width / 2:.2f}%",
            y=f"{point[1]:.1f}",
            height=f"{max(1.0, BOTTOM - point[1]):.1f}",
            large=bool(large and large[index]),
        )
        for index, point in enumerate(points)
        if point is not None
    ]
    lines = [
        (f"{a[0]:.2f}%", f"{a[1]:.1f}", f"{b[0]:.2f}%", f"{b[1]:.1f}")
        for (a, b), near in zip(pairwise(points), neighbors, strict=True)
        if near and a is not None and b is not None
    ]
    return DayChart(
        title=title,
        words=describe_values(title, days, values, show),
        as_bars=as_bars,
        bar_width=f"{width:.2f}%",
        marks=tuple(marks),
        lines=() if as_bars else tuple(lines),
        levels=tuple(Level(f"{down(level):.1f}", text) for level, text in levels),
        top=show(top),
        first=days[0],
        last=days[-1] if len(days) > 1 else "",
    )


def describe_values(
    title: str, days: Sequence[str], values: Sequence[float | None], show: Callable[[float], str]
) -> str:
    """A chart in words: its range and its last value."""
    known = [(day, value) for day, value in zip(days, values, strict=True) if value is not None]
    low, high = min(value for _, value in known), max(value for _, value in known)
    day, last = known[-1]
    if len(known) == 1:
        return f"{title}: {show(last)} on {day}."
    return f"{title}, {len(known)} days: {show(low)} to {show(high)}, last {show(last)} on {day}."
