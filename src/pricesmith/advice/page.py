"""Advice as one page that opens offline: the curve as a picture, and every table. It runs no script at all."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from pricesmith.advice import words
from pricesmith.advice.found import Advice, Range, Share
from pricesmith.text.formatting import amount, between, plain, priced_band, share, unbroken
from pricesmith.workspace import write_atomic

TEMPLATE = "advice.html.j2"
MOST = 40
WIDTH, HEIGHT, TOP, BASE = 560, 300, 40, 245


def write_page(found: Advice, to: Path) -> None:
    """Write the page whole."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, finalize=unbroken, trim_blocks=True)
    template = resources.files("pricesmith.advice").joinpath("templates", TEMPLATE).read_text(encoding="utf-8")
    style = resources.files("pricesmith.report").joinpath("templates", "style.css").read_text(encoding="utf-8")
    write_atomic(to, environment.from_string(template).render(content(found), css=Markup(style)))


def content(found: Advice) -> dict[str, Any]:
    """Everything that the template lays out."""
    first, *method = words.method(found)
    return {
        "catalog": plain(found.catalog, 60),
        "recipe": found.recipe,
        "headline": words.headline(found),
        "lead": [words.where(found), words.rows_wanted(found)],
        "picture": picture(found),
        "caption": (
            "Mean error against training rows, doubled at each step, with 95 % intervals. All fits are judged on the "
            "same items, so the steps are surer than the intervals look: see the last column."
        ),
        "curve": curve(found),
        "errors": [
            shares(found, parts, name, label)
            for parts, name, label in (
                (found.bands, "price", "By price"),
                (found.categories, "category", "By category"),
            )
            if parts
        ],
        "noise": words.noise(found),
        "needs": needs(found) if found.needs else None,
        "tail": words.tail(found),
        "rule": method[-1],
        "method": [first, *method[:-1], words.foretold(found)],
    }


def picture(found: Advice) -> dict[str, Any]:
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
                "value": amount(error.point, found.currency),
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
        "way": path(measured),
        "ahead": path(ahead) if len(ahead) > 1 else "",
    }


def path(marks: list[dict[str, Any]]) -> str:
    """Points of a line."""
    return " ".join(f"{mark['x']},{mark['y']}" for mark in marks)


def ranged(found: Range | None, currency: str) -> tuple[str, str]:
    """A value, and its interval as the small line under it."""
    return ("", "") if found is None else (amount(found.point, currency), between(found.low, found.high, currency))


def curve(found: Advice) -> dict[str, Any]:
    """The learning curve as a table."""
    lines = []
    for point in found.points:
        part = "all" if point.part == 1 else f"1/{point.part}"
        error, gain = ranged(point.error, found.currency), ranged(point.gain, found.currency)
        lines.append([(f"{point.rows:,}", part), (f"{point.fits}", ""), (f"{point.seconds:,.1f}", ""), error, gain])
    twice = found.doubling
    if twice.error is not None:
        law = (ranged(twice.error, found.currency), ranged(twice.gain, found.currency))
        lines.append([(f"{twice.rows:,}", "twice, by the law"), ("", ""), ("", ""), *law])
    header = ("Training rows", "Fits", "Seconds a fit", "Mean error", "Less than with half the rows")
    return {"label": "Learning curve", "header": header, "lines": lines}


def shares(found: Advice, parts: tuple[Share, ...], name: str, label: str) -> dict[str, Any]:
    """Items and error by price or category."""
    lines = []
    for part in parts:
        what = priced_band(part.label, found.currency) if name == "price" else plain(part.label, 60)
        shown = [(text, "") for text in (what, f"{part.n:,}", share(part.share_of_items), share(part.share_of_error))]
        lines.append([*shown, ranged(part.error, found.currency), (f"{part.ratio:.2f}", "")])
    header = (name.capitalize(), "Items", "Of the items", "Of the error", "Mean error", "Typical factor")
    return {"label": label, "header": header, "lines": lines}


def needs(found: Advice) -> dict[str, Any]:
    """The categories' own curves."""
    lines = []
    for one in found.needs[:MOST]:
        both = (share(one.share_of_rows), share(one.share_of_error), amount(one.error, found.currency))
        shown = [(text, "") for text in (plain(one.category, 60), f"{one.rows:,}", *both)]
        lines.append([*shown, ranged(one.gain, found.currency), ("needs rows" if one.needs else "", "")])
    everything = [(text, "") for text in ("all of them", f"{found.rows:,}", "", "", "")]
    lines.append([*everything, ranged(found.overall_gain, found.currency), ("", "")])
    header = ("Category", "Rows", "Of the rows", "Of the error", "Mean error", "Less than with half", "")
    return {"label": "Rows by category", "header": header, "lines": lines}
