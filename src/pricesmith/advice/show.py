"""Advice on a terminal: the curve with its bars, the error by price and category, the categories that need rows."""

from __future__ import annotations

from typing import Any

from pricesmith.advice import words
from pricesmith.advice.found import Advice, Range, Share
from pricesmith.report.sentences import brackets
from pricesmith.text.formatting import amount, plain, priced_band, share

BAR = 16
EIGHTHS = " ▏▎▍▌▋▊▉"
MOST_NEEDS = 8


def told(found: Advice) -> list[Any]:
    """All of it, as text and tables."""
    lines = [
        words.headline(found),
        words.where(found),
        words.rows_wanted(found),
        "",
        curve(found),
        words.foretold(found),
    ]
    lines += [
        shares(found, found.bands, "price"),
        *([shares(found, found.categories, "category")] * bool(found.categories)),
    ]
    lines += [needs(found)] * bool(found.needs)
    rest = [words.tail(found), words.noise(found), words.method(found)[0]]
    return [*lines, *(text for text in rest if text), "The rules are on the page and in docs/advice.md."]


def bar(value: float, most: float) -> str:
    """A bar that grows with a value, in eighths of a letter."""
    whole, rest = divmod(round(8 * BAR * value / most), 8) if most else (0, 0)
    return ("█" * whole + EIGHTHS[rest]).rstrip()


def table(title: str, left: int, *names: str) -> Any:
    """An empty table whose first `left` columns are text."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False, collapse_padding=True)
    for number, name in enumerate(names):
        made.add_column(name, justify="left" if number < left else "right", no_wrap=bool(name))
    return made


def ranged(found: Range | None, currency: str) -> str:
    """`$38.90 [36.10, 41.80]`."""
    if found is None:
        return ""
    point = amount(found.point, currency)
    return f"{point}{brackets(found.low, found.high, currency)}"


def curve(found: Advice) -> Any:
    """The learning curve, and the place that the law gives for twice the rows."""
    title = f"{found.recipe} on parts of {found.rows:,} training rows"
    made = table(title, 0, "rows", "part", "mean error [95 %]", "less than with half", "")
    made.columns[-1].justify = "left"
    twice = found.doubling
    most = max(point.error.point for point in found.points)
    for point in found.points:
        part = "all" if point.part == 1 else f"1/{point.part}"
        error, gain = ranged(point.error, found.currency), ranged(point.gain, found.currency)
        made.add_row(f"{point.rows:,}", part, error, gain, bar(point.error.point, most))
    if twice.error is not None:
        drawn = bar(twice.error.point, most).replace("█", "░")
        error, gain = ranged(twice.error, found.currency), ranged(twice.gain, found.currency)
        made.add_row(f"{twice.rows:,}", "twice", error, gain, drawn)
    return made


def shares(found: Advice, parts: tuple[Share, ...], what: str) -> Any:
    """Items and error by price or category. A name is a Text: rich reads markup in strings."""
    from rich.text import Text

    made = table(f"Where the error is, by {what}", 1, what, "items", "of items", "of error", "mean error [95 %]", "×/÷")
    for part in parts:
        name = priced_band(part.label, found.currency) if what == "price" else plain(part.label, 24)
        both = (share(part.share_of_items), share(part.share_of_error))
        made.add_row(Text(name), f"{part.n:,}", *both, ranged(part.error, found.currency), f"{part.ratio:.2f}")
    return made


def needs(found: Advice) -> Any:
    """The categories' own curves, those that need rows first."""
    from rich.text import Text

    title = "Rows by category: what going from a quarter to half of the rows took off its error"
    made = table(title, 1, "category", "rows", "of rows", "of error", "less than with half", "")
    for one in found.needs[:MOST_NEEDS]:
        both = (share(one.share_of_rows), share(one.share_of_error))
        gain, word = ranged(one.gain, found.currency), "needs rows" if one.needs else ""
        made.add_row(Text(plain(one.category, 24)), f"{one.rows:,}", *both, gain, word)
    rest = len(found.needs) - MOST_NEEDS
    if rest > 0:
        made.add_row(f"{rest:,} others", "", "", "", "", "")
    made.add_row("all of them", f"{found.rows:,}", "", "", ranged(found.overall_gain, found.currency), "")
    return made
