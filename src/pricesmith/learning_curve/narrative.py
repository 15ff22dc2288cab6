"""The learning curve in words, generated from its numbers by rule, for the terminal and the page; and as tables for a
terminal: the curve with bars, the MAE by price and category, the gain by category.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pricesmith.core.tables import Column, FittedTable
from pricesmith.learning_curve.categories import NEEDS_ROWS_RULE, NO_CATEGORY
from pricesmith.learning_curve.curve import SMALL_GAIN, ErrorRange, LearningCurve, SegmentShare
from pricesmith.text.formatting import (
    format_band,
    format_bounds,
    format_price,
    format_range,
    format_share,
    join_names,
    to_single_line,
)

MAX_NAMES = 6
HALF = 0.5
BAR_WIDTH = 16
EIGHTHS = " ▏▎▍▌▋▊▉"
MAX_CATEGORIES = 8
MAX_NAME_LENGTH = 40


def headline(curve: LearningCurve) -> str:
    """Return what twice the rows would gain, or that the curve gives no answer."""
    doubling, currency = curve.doubling, curve.currency
    mae = format_price(curve.points[-1].mae.point, currency)
    gain = doubling.gain
    if gain is None or gain.low is None or gain.high is None:
        return f"The curve gives no forecast for more rows: {no_forecast_reason(curve)}."
    low, high = format_price(gain.low, currency), format_price(gain.high, currency)
    if doubling.answer == "small gain":
        return f"Twice the rows would gain little: at most {high} of an MAE of {mae}."
    if doubling.answer == "unclear":
        effect = f"twice the rows would reduce the MAE of {mae} by {low} to {high}"
        return f"The forecast for more rows is too uncertain: {effect}."
    estimate = f"{format_price(gain.point, currency)} [{format_range(gain.low, gain.high, currency)}]"
    return f"Twice the rows would reduce the MAE, now {mae}, by about {estimate}."


def no_forecast_reason(curve: LearningCurve) -> str:
    """Return why there is no forecast."""
    if curve.doubling.answer == "worse":
        worse = (point for point in curve.points if point.gain and point.gain.high is not None and point.gain.high < 0)
        return f"with {next(worse).rows:,} rows the MAE is significantly larger than with half as many"
    if curve.doubling.answer == "no power law":
        return "the curve fitted to the smaller parts does not predict the MAE on all rows"
    return "the evaluated items are in too few near-duplicate groups"


def format_error_range(value: ErrorRange, currency: str) -> str:
    """Format a value with its interval, `$38.90 [$36.10 to $41.80]`; without one if there are too few groups."""
    bounds = format_range(value.low, value.high, currency)
    return format_price(value.point, currency) + (f" [{bounds}]" if bounds else "")


def forecast_check(curve: LearningCurve) -> str:
    """Compare the MAE on all rows with its prediction from the smaller parts."""
    predicted, error, currency = curve.doubling.predicted, curve.doubling.prediction_error, curve.currency
    if predicted is None or error is None:
        return "The evaluated items are in too few near-duplicate groups to fit a curve."
    measured = format_price(curve.points[-1].mae.point, currency)
    prediction = format_price(predicted, currency)
    return (
        f"Check: from the smaller parts alone, the fitted curve predicts an MAE of {prediction} on all "
        f"rows; the measured one is {measured}, a difference of {format_error_range(error, currency)}."
    )


def merge_labels(labels: list[str]) -> str:
    """Merge adjacent price bands: `200 to 500` and `500 and over` become `200 and over`."""
    first, last = labels[0], labels[-1]
    if len(labels) == 1:
        return first
    if first.startswith("under "):
        return f"under {last.rpartition(' ')[2]}"
    low = first.split()[0]
    return f"{low} and over" if last.endswith("over") else f"{low} to {last.rpartition(' ')[2]}"


def concentration_sentence(curve: LearningCurve) -> str:
    """Return which price bands hold half of the total absolute error."""
    bands = sorted(curve.price_bands, key=lambda band: -band.share_of_error / band.share_of_items)
    chosen: list[SegmentShare] = []
    for band in bands:
        if sum(other.share_of_error for other in chosen) >= HALF:
            break
        chosen.append(band)
    if not chosen or len(chosen) == len(curve.price_bands):
        return "The error is spread evenly over all prices."
    chosen.sort(key=curve.price_bands.index)
    share_of_error = sum(band.share_of_error for band in chosen)
    share_of_items = sum(band.share_of_items for band in chosen)
    positions = [curve.price_bands.index(band) for band in chosen]
    labels = [band.label for band in chosen]
    adjacent = positions[-1] - positions[0] == len(positions) - 1
    names = [format_band(label, curve.currency) for label in ([merge_labels(labels)] if adjacent else labels)]
    items = f"the {format_share(share_of_items)} of items priced {join_names(names, 4)}"
    return f"{format_share(share_of_error)} of the total absolute error is on {items}."


def needs_rows_sentence(curve: LearningCurve) -> str:
    """Return which categories need rows."""
    if not curve.category_gains and not curve.categories:
        return "The catalog has no categories, so which ones need rows is unknown."
    if not curve.category_gains:
        return "No category has enough rows for a learning curve of its own."
    needed = [gain for gain in curve.category_gains if gain.needs_rows]
    names = [
        f"{to_single_line(gain.category, 40)} ({gain.rows:,} rows)" for gain in needed if gain.category != NO_CATEGORY
    ]
    names += [f"rows without a category ({gain.rows:,})" for gain in needed if gain.category == NO_CATEGORY]
    if not names:
        return "No category needs rows significantly more than the others."
    return f"More rows would help most in {join_names(names, MAX_NAMES)}."


def small_categories_sentence(curve: LearningCurve) -> str:
    """Return the share of the categories that are too small to be measured; empty without any."""
    small = curve.small_categories
    if small is None:
        return ""
    verb = "have" if small.label != "1 category" else "has"
    return (
        f"{small.label} {verb} too few rows for a learning curve of their own: {format_share(small.share_of_items)} "
        f"of the rows and {format_share(small.share_of_error)} of the total absolute error together."
    )


def label_noise_sentence(curve: LearningCurve) -> str:
    """Return what the catalog shows about its label noise."""
    noise = curve.label_noise
    if noise is None:
        return "Label noise is unknown: no two rows have the same text and different prices."
    return (
        f"Label noise: {noise.rows:,} rows of the catalog have the same text as another row at a different price "
        f"(median difference {format_share(noise.median_relative_difference)}); on these, no pricer can have an MAE "
        f"below {format_price(noise.mae_floor, curve.currency)}. For the other rows it is unknown."
    )


def method_lines(curve: LearningCurve) -> list[str]:
    """Return how the figures were computed."""
    fits = f"{curve.repeats} fits" if curve.repeats > 1 else "one fit"
    variance = (
        "The confidence intervals include the sampling variance between fits on equally many rows."
        if curve.repeats > 1
        else "With one repeat, the sampling variance between fits is unknown and not in the confidence intervals."
    )
    return [
        f"Every fit is evaluated on the same {curve.n:,} items ({curve.evaluated_on}); the test split is not read. The "
        f"parts are nested and consist of whole near-duplicate groups, with {fits} of each part. {variance}",
        "Twice the rows: the curve error = floor + b × rows⁻ᶜ (floor and b ≥ 0, 0 < c ≤ 1) is fitted to the measured "
        "points and to 2,000 bootstrap resamples by group, with the floor and without; the interval is the outer of "
        "both central 95 % intervals. It applies to more rows like these and to one doubling only. A gain is called "
        f"little if it is at most {format_share(SMALL_GAIN)} of the MAE.",
        NEEDS_ROWS_RULE,
    ]


# Tables for a terminal


def format_learning_curve(curve: LearningCurve) -> list[Any]:
    """Return all of it, as text and tables that rich can print."""
    notes = [
        small_categories_sentence(curve),
        label_noise_sentence(curve),
        method_lines(curve)[0],
        "The rules are on the page and in docs/learning-curve.md.",
    ]
    return [
        headline(curve),
        concentration_sentence(curve),
        needs_rows_sentence(curve),
        "",
        curve_table(curve),
        forecast_check(curve),
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
