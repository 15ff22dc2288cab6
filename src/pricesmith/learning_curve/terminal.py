"""Advice on a terminal: the curve with its bars, the error by price and category, the categories that need rows."""

from __future__ import annotations

from typing import Any

from pricesmith.learning_curve import narrative
from pricesmith.learning_curve.schema import ErrorRange, LearningCurve, SegmentShare
from pricesmith.text.formatting import format_band, format_bounds, format_price, format_share, to_single_line

BAR = 16
EIGHTHS = " ▏▎▍▌▋▊▉"
MOST_NEEDS = 8


def format_learning_curve(found: LearningCurve) -> list[Any]:
    """All of it, as text and tables."""
    lines = [
        narrative.headline(found),
        narrative.where_sentence(found),
        narrative.rows_needed_sentence(found),
        "",
        curve_table(found),
        narrative.forecast_phrase(found),
    ]
    lines += [
        shares_table(found, found.bands, "price"),
        *([shares_table(found, found.categories, "category")] * bool(found.categories)),
    ]
    lines += [needs_table(found)] * bool(found.needs)
    rest = [narrative.tail_sentence(found), narrative.noise_sentence(found), narrative.method_text(found)[0]]
    return [*lines, *(text for text in rest if text), "The rules are on the page and in docs/learning-curve.md."]


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


def format_range_cell(found: ErrorRange | None, currency: str) -> str:
    """`$38.90 [36.10, 41.80]`."""
    if found is None:
        return ""
    point = format_price(found.point, currency)
    return f"{point}{format_bounds(found.low, found.high, currency)}"


def curve_table(found: LearningCurve) -> Any:
    """The learning curve, and the place that the law gives for twice the rows."""
    title = f"{found.recipe} on parts of {found.rows:,} training rows"
    made = table(title, 0, "rows", "part", "mean error [95 %]", "less than with half", "")
    made.columns[-1].justify = "left"
    twice = found.doubling
    most = max(point.error.point for point in found.points)
    for point in found.points:
        part = "all" if point.part == 1 else f"1/{point.part}"
        error, gain = format_range_cell(point.error, found.currency), format_range_cell(point.gain, found.currency)
        made.add_row(f"{point.rows:,}", part, error, gain, bar(point.error.point, most))
    if twice.error is not None:
        drawn = bar(twice.error.point, most).replace("█", "░")
        error, gain = format_range_cell(twice.error, found.currency), format_range_cell(twice.gain, found.currency)
        made.add_row(f"{twice.rows:,}", "twice", error, gain, drawn)
    return made


def shares_table(found: LearningCurve, parts: tuple[SegmentShare, ...], what: str) -> Any:
    """Items and error by price or category. A name is a Text: rich reads markup in strings."""
    from rich.text import Text

    made = table(f"Where the error is, by {what}", 1, what, "items", "of items", "of error", "mean error [95 %]", "×/÷")
    for part in parts:
        name = format_band(part.label, found.currency) if what == "price" else to_single_line(part.label, 24)
        both = (format_share(part.share_of_items), format_share(part.share_of_error))
        made.add_row(
            Text(name), f"{part.n:,}", *both, format_range_cell(part.error, found.currency), f"{part.ratio:.2f}"
        )
    return made


def needs_table(found: LearningCurve) -> Any:
    """The categories' own curves, those that need rows first."""
    from rich.text import Text

    title = "Rows by category: what going from a quarter to half of the rows took off its error"
    made = table(title, 1, "category", "rows", "of rows", "of error", "less than with half", "")
    for one in found.needs[:MOST_NEEDS]:
        both = (format_share(one.share_of_rows), format_share(one.share_of_error))
        gain, word = format_range_cell(one.gain, found.currency), "needs rows" if one.needs else ""
        made.add_row(Text(to_single_line(one.category, 24)), f"{one.rows:,}", *both, gain, word)
    rest = len(found.needs) - MOST_NEEDS
    if rest > 0:
        made.add_row(f"{rest:,} others", "", "", "", "", "")
    made.add_row("all of them", f"{found.rows:,}", "", "", format_range_cell(found.overall_gain, found.currency), "")
    return made
