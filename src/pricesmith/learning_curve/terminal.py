"""The learning curve for a terminal: the curve with bars, the MAE by price and category, the gain by category."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pricesmith.core.tables import Column, FittedTable
from pricesmith.learning_curve import narrative
from pricesmith.learning_curve.schema import ErrorRange, LearningCurve, SegmentShare
from pricesmith.text.formatting import format_band, format_bounds, format_price, format_share, to_single_line

BAR_WIDTH = 16
EIGHTHS = " ▏▎▍▌▋▊▉"
MAX_CATEGORIES = 8
MAX_NAME_LENGTH = 40


def format_learning_curve(curve: LearningCurve) -> list[Any]:
    """Return all of it, as text and tables that rich can print."""
    notes = [
        narrative.small_categories_sentence(curve),
        narrative.label_noise_sentence(curve),
        narrative.method_lines(curve)[0],
        "The rules are on the page and in docs/learning-curve.md.",
    ]
    return [
        narrative.headline(curve),
        narrative.concentration_sentence(curve),
        narrative.needs_rows_sentence(curve),
        "",
        curve_table(curve),
        narrative.forecast_check(curve),
        shares_table(curve, curve.price_bands, "price"),
        *([shares_table(curve, curve.categories, "category")] if curve.categories else []),
        *([category_gain_table(curve)] if curve.category_gains else []),
        *(note for note in notes if note),
    ]


def bar(value: float, most: float) -> str:
    """Return a bar proportional to a value, in eighths of a character."""
    whole, eighths = divmod(round(8 * BAR_WIDTH * value / most), 8) if most else (0, 0)
    return ("█" * whole + EIGHTHS[eighths]).rstrip()


def format_cell(value: ErrorRange | None, currency: str) -> str:
    """Format a value with its interval, `$38.90 [36.10, 41.80]`; empty without a value."""
    if value is None:
        return ""
    return f"{format_price(value.point, currency)}{format_bounds(value.low, value.high, currency)}"


def curve_table(curve: LearningCurve) -> FittedTable:
    """Return the points of the learning curve, and the forecast for twice the rows."""
    columns = (
        Column("rows", right=True),
        Column("part", right=True),
        Column("MAE [95 % CI]", right=True, drop=1),
        Column("MAE", right=True, instead_of="MAE [95 % CI]"),
        Column("gain from half the rows [95 % CI]", right=True, drop=2),
        Column("", drop=3),
    )
    most = max(point.mae.point for point in curve.points)
    rows = [
        [
            f"{point.rows:,}",
            "all" if point.part == 1 else f"1/{point.part}",
            *mae_cells(point.mae, curve.currency),
            format_cell(point.gain, curve.currency),
            bar(point.mae.point, most),
        ]
        for point in curve.points
    ]
    doubling = curve.doubling
    if doubling.mae is not None:
        forecast_bar = bar(doubling.mae.point, most).replace("█", "░")
        gain = format_cell(doubling.gain, curve.currency)
        rows.append([f"{doubling.rows:,}", "forecast", *mae_cells(doubling.mae, curve.currency), gain, forecast_bar])
    return FittedTable(f"{curve.recipe} on parts of {curve.rows:,} training rows", columns, rows)


def mae_cells(mae: ErrorRange, currency: str) -> list[str]:
    """Return the cells of an MAE with and without its interval."""
    return [format_cell(mae, currency), format_price(mae.point, currency)]


def shares_table(curve: LearningCurve, segments: Sequence[SegmentShare], by: str) -> FittedTable:
    """Return the share of items and of the error by price or category."""
    columns = (
        Column(by, wraps=True),
        Column("items", right=True),
        Column("% of items", right=True, drop=2),
        Column("% of error", right=True),
        Column("MAE [95 % CI]", right=True, drop=1),
        Column("MAE", right=True, instead_of="MAE [95 % CI]"),
        Column("typical factor", right=True, drop=3),
    )
    rows = [
        [
            format_band(segment.label, curve.currency)
            if by == "price"
            else to_single_line(segment.label, MAX_NAME_LENGTH),
            f"{segment.n:,}",
            format_share(segment.share_of_items),
            format_share(segment.share_of_error),
            *mae_cells(segment.mae, curve.currency),
            f"{segment.ratio:.2f}",
        ]
        for segment in segments
    ]
    return FittedTable(f"Error by {by}", columns, rows)


def category_gain_table(curve: LearningCurve) -> FittedTable:
    """Return the categories' own learning curves, those that need rows first."""
    columns = (
        Column("category", wraps=True),
        Column("rows", right=True),
        Column("% of rows", right=True, drop=3),
        Column("% of error", right=True, drop=2),
        Column("gain [95 % CI]", right=True, drop=1),
        Column("gain", right=True, instead_of="gain [95 % CI]"),
        Column(""),
    )
    rows = [
        [
            to_single_line(gain.category, MAX_NAME_LENGTH),
            f"{gain.rows:,}",
            format_share(gain.share_of_rows),
            format_share(gain.share_of_error),
            *mae_cells(gain.gain, curve.currency),
            "needs rows" if gain.needs_rows else "",
        ]
        for gain in curve.category_gains[:MAX_CATEGORIES]
    ]
    others = len(curve.category_gains) - MAX_CATEGORIES
    if others > 0:
        rows.append([f"{others:,} others", *[""] * (len(columns) - 1)])
    if curve.overall_gain is not None:
        rows.append(["all rows", f"{curve.rows:,}", "", "", *mae_cells(curve.overall_gain, curve.currency), ""])
    return FittedTable("Gain by category: reduction of its MAE from a quarter to half of the rows", columns, rows)
