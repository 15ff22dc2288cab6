"""The learning curve as one page that opens offline, with a chart and every table. It runs no script."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pricesmith.core.atomic import write_atomic
from pricesmith.learning_curve import narrative
from pricesmith.learning_curve.curve import ErrorRange, LearningCurve, SegmentShare
from pricesmith.text.formatting import (
    format_band,
    format_price,
    format_range,
    format_share,
    keep_percent_together,
    to_single_line,
)

TEMPLATE = "learning_curve.html.j2"
MAX_CATEGORIES = 40
WIDTH, HEIGHT, TOP, BASE = 560, 300, 40, 245

Cell = tuple[str, str]  # a text, and the small note under it


def write_page(curve: LearningCurve, to: Path) -> None:
    """Write the page to a file in one step."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=keep_percent_together, trim_blocks=True
    )
    template = resources.files("pricesmith.learning_curve").joinpath("templates", TEMPLATE).read_text(encoding="utf-8")
    style = resources.files("pricesmith.reporting").joinpath("templates", "style.css").read_text(encoding="utf-8")
    write_atomic(to, environment.from_string(template).render(page_content(curve), css=Markup(style)))


def page_content(curve: LearningCurve) -> dict[str, Any]:
    """Return everything that the template lays out."""
    first, *method = narrative.method_lines(curve)
    segments = ((curve.price_bands, "price", "By price"), (curve.categories, "category", "By category"))
    return {
        "catalog": to_single_line(curve.catalog, 60),
        "recipe": curve.recipe,
        "headline": narrative.headline(curve),
        "lead": [narrative.concentration_sentence(curve), narrative.needs_rows_sentence(curve)],
        "chart": curve_chart(curve),
        "caption": (
            "MAE against the number of training rows, which doubles at each step, with 95 % confidence intervals. "
            "All fits are evaluated on the same items, so the paired gains in the table are more precise than these "
            "intervals suggest."
        ),
        "curve": curve_table(curve),
        "shares": [shares_table(curve, parts, by, title) for parts, by, title in segments if parts],
        "label_noise": narrative.label_noise_sentence(curve),
        "category_gains": category_gain_table(curve) if curve.category_gains else None,
        "small_categories": narrative.small_categories_sentence(curve),
        "rule": method[-1],
        "method": [first, *method[:-1], narrative.forecast_check(curve)],
    }


def curve_chart(curve: LearningCurve) -> dict[str, Any]:
    """Return the coordinates of the chart. Its vertical axis starts at 0."""
    doubling = curve.doubling
    points = [(point.rows, "all" if point.part == 1 else f"1/{point.part}", point.mae) for point in curve.points]
    if doubling.mae is not None:
        points.append((doubling.rows, "forecast", doubling.mae))
    top = 1.05 * max(max(mae.point, min(mae.high or 0.0, 1.5 * mae.point)) for _, _, mae in points)

    def height(value: float) -> float:
        return round(BASE - (BASE - TOP) * min(value, top) / (top or 1.0), 1)

    step = WIDTH / (len(curve.points) + 1)
    marks = []
    for index, (rows, part, mae) in enumerate(points):
        low, high = (None if bound is None else height(bound) for bound in (mae.low, mae.high))
        y = height(mae.point)
        marks.append(
            {
                "x": round(step * (index + 0.5), 1),
                "y": y,
                "low": low if high is not None else None,
                "high": high,
                "label_y": round((y if high is None else high) - 9, 1),
                "value": format_price(mae.point, curve.currency),
                "rows": f"{rows:,}",
                "part": part,
                "is_forecast": index >= len(curve.points),
            }
        )
    measured, forecast = marks[: len(curve.points)], marks[len(curve.points) - 1 :]
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "base": BASE,
        "marks": marks,
        "line": svg_points(measured),
        "forecast_line": svg_points(forecast) if len(forecast) > 1 else "",
    }


def svg_points(marks: Sequence[dict[str, Any]]) -> str:
    """Return marks as the points of an SVG polyline."""
    return " ".join(f"{mark['x']},{mark['y']}" for mark in marks)


def range_cell(value: ErrorRange | None, currency: str) -> Cell:
    """Return a value, and its interval as the note under it."""
    if value is None:
        return "", ""
    return format_price(value.point, currency), format_range(value.low, value.high, currency)


def curve_table(curve: LearningCurve) -> dict[str, Any]:
    """Return the learning curve as a table."""
    currency, doubling = curve.currency, curve.doubling
    lines: list[list[Cell]] = [
        [
            (f"{point.rows:,}", "all" if point.part == 1 else f"1/{point.part}"),
            (f"{point.fits}", ""),
            (f"{point.fit_seconds:,.1f}", ""),
            range_cell(point.mae, currency),
            range_cell(point.gain, currency),
        ]
        for point in curve.points
    ]
    if doubling.mae is not None:
        forecast = (range_cell(doubling.mae, currency), range_cell(doubling.gain, currency))
        lines.append([(f"{doubling.rows:,}", "forecast of the fitted curve"), ("", ""), ("", ""), *forecast])
    header = ("Training rows", "Fits", "Seconds per fit", "MAE", "Gain from half the rows")
    return {"label": "Learning curve", "header": header, "lines": lines}


def shares_table(curve: LearningCurve, segments: Sequence[SegmentShare], by: str, label: str) -> dict[str, Any]:
    """Return the share of items and of the error by price or category as a table."""
    lines: list[list[Cell]] = [
        [
            (format_band(segment.label, curve.currency) if by == "price" else to_single_line(segment.label, 60), ""),
            (f"{segment.n:,}", ""),
            (format_share(segment.share_of_items), ""),
            (format_share(segment.share_of_error), ""),
            range_cell(segment.mae, curve.currency),
            (f"{segment.ratio:.2f}", ""),
        ]
        for segment in segments
    ]
    header = (by.capitalize(), "Items", "Share of items", "Share of total error", "MAE", "Typical factor")
    return {"label": label, "header": header, "lines": lines}


def category_gain_table(curve: LearningCurve) -> dict[str, Any]:
    """Return the categories' own learning curves as a table."""
    lines: list[list[Cell]] = [
        [
            (to_single_line(gain.category, 60), ""),
            (f"{gain.rows:,}", ""),
            (format_share(gain.share_of_rows), ""),
            (format_share(gain.share_of_error), ""),
            (format_price(gain.mae, curve.currency), ""),
            range_cell(gain.gain, curve.currency),
            ("needs rows" if gain.needs_rows else "", ""),
        ]
        for gain in curve.category_gains[:MAX_CATEGORIES]
    ]
    overall = range_cell(curve.overall_gain, curve.currency)
    lines.append([("all rows", ""), (f"{curve.rows:,}", ""), ("", ""), ("", ""), ("", ""), overall, ("", "")])
    header = ("Category", "Rows", "Share of rows", "Share of total error", "MAE", "Gain, 1/4 to 1/2 of the rows", "")
    return {"label": "Gain by category", "header": header, "lines": lines}
