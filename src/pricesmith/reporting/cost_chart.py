"""The chart of a cascade's cost curve: the MAE against the cost of 1,000 listings, with its points labelled directly.

Labels are laid out here, for a chart as narrow as a phone's, so that none hides another or a point of the curve.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pricesmith.evaluation.cost_curve import CostCurve, CostPoint
from pricesmith.reporting.hybrids import asked_cell, format_cost
from pricesmith.text.currency import display_sign
from pricesmith.text.formatting import format_bounds, format_chart_label, format_price, format_usd, to_single_line

Figure = dict[str, Any]
WIDTH, HEIGHT = 280.0, 250.0  # pixels of the plot on a phone
CHARACTER, LINE = 6.4, 15.0  # pixels of a label's character and line
DISTANCES = (9.0, 24.0, 42.0, 60.0, 80.0, 100.0)  # pixels between a point and its label, upwards or downwards
SHIFTS = (0.0, -60.0, 60.0, -110.0, 110.0, -160.0, 160.0)  # and to the side, in a crowded corner
MAX_LABEL = 20  # characters of a name
MAX_TICKS = 5
TOP, BOTTOM = 0.06, 0.16  # free space above and below the curve, as shares of its height


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    left: float
    right: float
    low: float
    high: float

    def overlap(self, other: Box) -> float:
        """The area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.high, other.high) - max(self.low, other.low)
        return max(0.0, width) * max(0.0, height)


@dataclass(frozen=True)
class Offset:
    """The pixels from a point to its label, upwards and to the right, and the side of the label that is there."""

    up: float
    right: float
    anchor: str

    @property
    def length(self) -> float:
        """The distance in pixels."""
        return math.hypot(self.up, self.right)


OFFSETS = sorted(
    (
        Offset(sign * distance, shift, anchor)
        for distance in DISTANCES
        for sign in (1, -1)
        for shift in SHIFTS
        for anchor in ("center", "left", "right")
    ),
    key=lambda offset: offset.length,
)


@dataclass(frozen=True)
class Axes:
    """The axes of the chart: the cost, the seconds or the share asked from 0 to `right`, the MAE from `low` to
    `high`."""

    by_cost: bool
    right: float
    low: float
    high: float

    def x(self, point: CostPoint) -> float:
        """The horizontal position of a point, in units of its axis."""
        return float(point.cost_per_1000 or 0.0) if self.by_cost else point.share

    def pixels(self, point: CostPoint) -> tuple[float, float]:
        """The position of a point on a phone, from the lower left."""
        return WIDTH * self.x(point) / self.right, HEIGHT * (point.mae - self.low) / (self.high - self.low)


def cost_curve_chart(curve: CostCurve, currency: str, color: str, second_color: str) -> Figure:
    """Return the curve with its interval band, and the chosen point and the ends labelled; colors are CSS variables."""
    axes = build_axes(curve)
    points = list(curve.points)
    x = [axes.x(point) for point in points]
    base = {"type": "scatter", "showlegend": False, "cliponaxis": False, "hoverinfo": "skip"}
    edge = {**base, "mode": "lines", "line": {"width": 0}, "x": x}
    band: list[Figure] = []
    if all(point.low is not None for point in points):
        band = [
            {**edge, "y": [point.low for point in points]},
            {**edge, "y": [point.high for point in points], "fill": "tonexty", "fillcolor": f"@{color}:0.15"},
        ]
    line = {
        **base, "mode": "lines+markers", "x": x, "y": [point.mae for point in points],
        "line": {"color": f"@{color}", "width": 2},
        "marker": {
            "size": [8 if point.share in (0, 1) else 4 for point in points],
            "color": f"@{color}", "opacity": 1, "line": {"width": 0},
        },
        **hover_texts(points, curve, currency),
    }  # fmt: skip
    marks = [
        {
            **base, "mode": "markers", "x": [axes.x(point)], "y": [point.mae],
            "marker": {"size": 12, "symbol": symbol, "color": f"@{mark}", "line": {"color": "@card", "width": 1.5}},
            **hover_texts([point], curve, currency),
        }
        for point, symbol, mark in ((curve.second_alone, "square", second_color), (curve.chosen, "diamond", color))
    ]  # fmt: skip
    return {
        "data": [*band, line, *marks],
        "layout": {
            "hovermode": "closest",
            "annotations": place_labels(curve, axes, currency),
            "xaxis": {"title": {"text": axis_title(curve, axes)}, "range": [0, axes.right], **ticks(curve, axes)},
            "yaxis": {
                "title": {"text": "MAE"},
                "range": [axes.low, axes.high],
                "tickprefix": html.escape(display_sign(currency)),
                "tickformat": ",.6~g",
            },
        },
    }


def build_axes(curve: CostCurve) -> Axes:
    """Return axes that hold every point and interval, with space below for labels."""
    all_points = [*curve.points, curve.chosen, curve.second_alone]
    costs = [point.cost_per_1000 for point in all_points if point.cost_per_1000 is not None]
    by_cost = bool(costs) and max(costs) > 0
    ends = [point.mae for point in all_points]
    ends += [end for point in curve.points for end in (point.low, point.high) if end is not None]
    low, high = min(ends), max(ends)
    height = high - low or high or 1.0
    right = 1.04 * (max(costs) if by_cost else 1.0)
    return Axes(by_cost, right, max(0.0, low - BOTTOM * height), high + TOP * height)


def axis_title(curve: CostCurve, axes: Axes) -> str:
    """Return what the horizontal axis shows."""
    if not axes.by_cost:
        return "share of listings asked about"
    if curve.cost_unit == "seconds":
        return "seconds for 1,000 listings"
    return f"{'estimated ' if curve.estimated_fees else ''}fees for 1,000 listings"


def ticks(curve: CostCurve, axes: Axes) -> Figure:
    """Return at most five ticks from 0, formatted like the costs in the text."""
    if not axes.by_cost:
        return {"tickvals": [0, 0.25, 0.5, 0.75, 1], "ticktext": ["0 %", "25 %", "50 %", "75 %", "100 %"]}
    power = 10.0 ** math.floor(math.log10(axes.right))
    steps = [step * scale for scale in (power / 10, power) for step in (1.0, 2.0, 5.0)]
    step = next(step for step in steps if axes.right / step < MAX_TICKS)
    values = [round(number * step, 12) for number in range(MAX_TICKS) if number * step <= axes.right]
    texts = [f"{value:,g} s" if curve.cost_unit == "seconds" else format_usd(value) for value in values]
    return {"tickvals": values, "ticktext": texts}


def hover_texts(points: Sequence[CostPoint], curve: CostCurve, currency: str) -> Figure:
    """Return what is shown of points under the pointer."""
    texts = []
    for point in points:
        cost = "" if point.cost_per_1000 is None else f", {format_cost(point.cost_per_1000, curve.cost_unit)} for 1,000"
        mae = f"{format_price(point.mae, currency)}{format_bounds(point.low, point.high, currency)}"
        texts.append(f"{asked_cell(point)} asked about{html.escape(cost)}<br>MAE {html.escape(mae)}")
    return {
        "hoverinfo": "text",
        "customdata": texts,
        "hovertemplate": "%{customdata}<extra></extra>",
    }


# Labels


def label_texts(curve: CostCurve, currency: str) -> list[tuple[CostPoint, list[str]]]:
    """Return each labelled point with the lines of its label; the most important one first."""
    points = [(curve.chosen, f"chosen: {asked_cell(curve.chosen)} asked")]
    if curve.chosen.share > 0:
        points.append((curve.first_alone, f"{to_single_line(curve.first, MAX_LABEL)} alone"))
    if curve.chosen.share < 1:
        points.append((curve.always, "always asked"))
    points.append((curve.second_alone, f"{to_single_line(curve.second, MAX_LABEL)} alone"))
    return [(point, [name, format_price(point.mae, currency)]) for point, name in points]


def place_labels(curve: CostCurve, axes: Axes, currency: str) -> list[Figure]:
    """Return the labels as annotations, each at the free place nearest to its point."""
    points = [marker_box(*axes.pixels(point)) for point in curve.points]
    taken = [marker_box(*axes.pixels(point)) for point in (curve.chosen, curve.second_alone)]
    annotations = []
    for point, lines in label_texts(curve, currency):
        places = {offset: label_box(*axes.pixels(point), lines, offset) for offset in OFFSETS}
        offset = min(OFFSETS, key=lambda offset: label_penalty(places[offset], points, taken))
        taken.append(places[offset])
        annotations.append(annotation(axes.x(point), point.mae, lines, offset))
    return annotations


def marker_box(x: float, y: float) -> Box:
    """Return the space of a point."""
    return Box(x - 5, x + 5, y - 5, y + 5)


def label_box(x: float, y: float, lines: Sequence[str], offset: Offset) -> Box:
    """Return the space of the label of a point."""
    width, height = CHARACTER * max(map(len, lines)), LINE * len(lines)
    left = x + offset.right - {"left": 0.0, "center": width / 2, "right": width}[offset.anchor]
    low = y + offset.up if offset.up > 0 else y + offset.up - height
    return Box(left, left + width, low, low + height)


def label_penalty(box: Box, points: Sequence[Box], taken: Sequence[Box]) -> float:
    """Return the area of a label that is outside of the plot or hides something; a point of the line counts least."""
    outside = (box.right - box.left) * (box.high - box.low) - box.overlap(Box(-4, WIDTH + 8, 0, HEIGHT))
    hidden = sum(box.overlap(other) for other in taken)
    return round(10 * (outside + hidden) + sum(box.overlap(point) for point in points), 6)


def annotation(x: float, y: float, lines: Sequence[str], offset: Offset) -> Figure:
    """Return one label; a far one gets a line to its point."""
    figure: Figure = {
        "x": x,
        "y": y,
        "text": "<br>".join(format_chart_label(line) for line in lines),
        "font": {"color": "@ink"},
        "xanchor": offset.anchor,
        "yanchor": "bottom" if offset.up > 0 else "top",
        "align": offset.anchor,
    }
    if offset.length == DISTANCES[0]:
        return figure | {"showarrow": False, "yshift": offset.up}
    line = {"showarrow": True, "arrowhead": 0, "arrowwidth": 1, "arrowcolor": "@soft", "standoff": 6}
    return figure | line | {"ax": offset.right, "ay": -offset.up}
