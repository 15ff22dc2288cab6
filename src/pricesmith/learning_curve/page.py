"""Advice as one page that opens offline: the curve as a picture, and every table. It runs no script at all."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from pricesmith.core.atomic import write_atomic
from pricesmith.learning_curve import narrative
from pricesmith.learning_curve.schema import ErrorRange, LearningCurve, SegmentShare
from pricesmith.text.formatting import (
    format_band,
    format_price,
    format_range,
    format_share,
    keep_percent_together,
    to_single_line,
)

TEMPLATE = "advice.html.j2"
MOST = 40
WIDTH, HEIGHT, TOP, BASE = 560, 300, 40, 245


def write_page(found: LearningCurve, to: Path) -> None:
    """Write the page whole."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=keep_percent_together, trim_blocks=True
    )
    template = resources.files("pricesmith.learning_curve").joinpath("templates", TEMPLATE).read_text(encoding="utf-8")
    style = resources.files("pricesmith.reporting").joinpath("templates", "style.css").read_text(encoding="utf-8")
    write_atomic(to, environment.from_string(template).render(page_content(found), css=Markup(style)))


def page_content(found: LearningCurve) -> dict[str, Any]:
    """Everything that the template lays out."""
    first, *method = narrative.method_text(found)
    return {
        "catalog": to_single_line(found.catalog, 60),
        "recipe": found.recipe,
        "headline": narrative.headline(found),
        "lead": [narrative.where_sentence(found), narrative.rows_needed_sentence(found)],
        "picture": curve_chart(found),
        "caption": (
            "Mean error against training rows, doubled at each step, with 95 % intervals. All fits are judged on the "
            "same items, so the steps are surer than the intervals look: see the last column."
        ),
        "curve": curve_section(found),
        "errors": [
            shares_section(found, parts, name, label)
            for parts, name, label in (
                (found.bands, "price", "By price"),
                (found.categories, "category", "By category"),
            )
            if parts
        ],
        "noise": narrative.noise_sentence(found),
        "needs": needs_section(found) if found.needs else None,
        "tail": narrative.tail_sentence(found),
        "rule": method[-1],
        "method": [first, *method[:-1], narrative.forecast_phrase(found)],
    }


def curve_chart(found: LearningCurve) -> dict[str, Any]:
    """The places of the drawing. The height of an error starts at 0."""
    twice = found.doubling
    places = [(point.rows, "all" if point.part == 1 else f"1/{point.part}", point.error) for point in found.points]
    if twice.error is not None:
        places.append((twice.rows, "twice", twice.error))
    top = 1.05 * max(max(error.point, min(error.high or 0.0, 1.5 * error.point)) for _, _, error in places)

    def height(value: float) -> float:
        return round(BASE - (BASE - TOP) * min(value, top) / (top or 1.0), 1)

    step = WIDTH / (len(found.points) + 1)
    marks = []
    for number, (rows, part, error) in enumerate(places):
        low, high = (None if end is None else height(end) for end in (error.low, error.high))
        y = height(error.point)
        marks.append(
            {
                "x": round(step * (number + 0.5), 1),
                "y": y,
                "low": low if high is not None else None,
                "high": high,
                "over": round((y if high is None else high) - 9, 1),
                "value": format_price(error.point, found.currency),
                "rows": f"{rows:,}",
                "part": part,
                "law": number >= len(found.points),
            }
        )
    measured, ahead = marks[: len(found.points)], marks[len(found.points) - 1 :]
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "base": BASE,
        "marks": marks,
        "way": svg_path(measured),
        "ahead": svg_path(ahead) if len(ahead) > 1 else "",
    }


def svg_path(marks: list[dict[str, Any]]) -> str:
    """Points of a line."""
    return " ".join(f"{mark['x']},{mark['y']}" for mark in marks)


def format_range_cell(found: ErrorRange | None, currency: str) -> tuple[str, str]:
    """A value, and its interval as the small line under it."""
    return (
        ("", "")
        if found is None
        else (format_price(found.point, currency), format_range(found.low, found.high, currency))
    )


def curve_section(found: LearningCurve) -> dict[str, Any]:
    """The learning curve as a table."""
    lines = []
    for point in found.points:
        part = "all" if point.part == 1 else f"1/{point.part}"
        error, gain = format_range_cell(point.error, found.currency), format_range_cell(point.gain, found.currency)
        lines.append([(f"{point.rows:,}", part), (f"{point.fits}", ""), (f"{point.seconds:,.1f}", ""), error, gain])
    twice = found.doubling
    if twice.error is not None:
        law = (format_range_cell(twice.error, found.currency), format_range_cell(twice.gain, found.currency))
        lines.append([(f"{twice.rows:,}", "twice, by the law"), ("", ""), ("", ""), *law])
    header = ("Training rows", "Fits", "Seconds a fit", "Mean error", "Less than with half the rows")
    return {"label": "Learning curve", "header": header, "lines": lines}


def shares_section(found: LearningCurve, parts: tuple[SegmentShare, ...], name: str, label: str) -> dict[str, Any]:
    """Items and error by price or category."""
    lines = []
    for part in parts:
        what = format_band(part.label, found.currency) if name == "price" else to_single_line(part.label, 60)
        shown = [
            (text, "")
            for text in (what, f"{part.n:,}", format_share(part.share_of_items), format_share(part.share_of_error))
        ]
        lines.append([*shown, format_range_cell(part.error, found.currency), (f"{part.ratio:.2f}", "")])
    header = (name.capitalize(), "Items", "Of the items", "Of the error", "Mean error", "Typical factor")
    return {"label": label, "header": header, "lines": lines}


def needs_section(found: LearningCurve) -> dict[str, Any]:
    """The categories' own curves."""
    lines = []
    for one in found.needs[:MOST]:
        both = (
            format_share(one.share_of_rows),
            format_share(one.share_of_error),
            format_price(one.error, found.currency),
        )
        shown = [(text, "") for text in (to_single_line(one.category, 60), f"{one.rows:,}", *both)]
        lines.append([*shown, format_range_cell(one.gain, found.currency), ("needs rows" if one.needs else "", "")])
    everything = [(text, "") for text in ("all of them", f"{found.rows:,}", "", "", "")]
    lines.append([*everything, format_range_cell(found.overall_gain, found.currency), ("", "")])
    header = ("Category", "Rows", "Of the rows", "Of the error", "Mean error", "Less than with half", "")
    return {"label": "Rows by category", "header": header, "lines": lines}
