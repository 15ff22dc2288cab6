"""The report's pictures as plain Plotly figures: dictionaries that templates/draw.js paints in the reader's colors.

A color is a name of style.css after an @, with an opacity where it has one: "@c0", "@ink:0.2".
Text from data is escaped here (`words.in_chart`), because Plotly reads tags and entities in labels.
"""

from __future__ import annotations

import html
import json
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from pricesmith.metrics.bands import CoverageBand, ErrorBand
from pricesmith.metrics.bootstrap import Interval
from pricesmith.reporting.data import ReportData
from pricesmith.text.currency import display_sign, minor_digits
from pricesmith.text.formatting import (
    format_band_short,
    format_chart_label,
    format_factors,
    format_price,
    round_money,
)

Figure = dict[str, Any]
FIRST = 20  # a mean of fewer items jumps too far to be drawn
POINTS = 1_500  # more than this and a phone draws slowly
DRAWN_INTERVALS = 3  # points with intervals side by side
BANDED = 2  # running errors with a band; more of them hide each other
STEPS = (1.0, 2.0, 5.0)


def scatter(found: ReportData, points: int = POINTS) -> Figure:
    """Quote against truth on log axes, one pricer at a time; a sample, the same for all, where there are many items."""
    evaluations = list(found.pricers.values())
    ids = sorted(row.id for row in evaluations[0].rows)
    chosen = set(ids if len(ids) <= points else random.Random(0).sample(ids, points))
    kept = [row for row in evaluations[0].rows if row.id in chosen]
    order = [row.id for row in kept]
    mark = html.escape(display_sign(found.currency))
    digits = (
        f",.{minor_digits(found.currency)}f" if min(row.truth for row in kept) >= 1 else ",.3~g"
    )  # below 1, significant digits
    hover = f"%{{text}}<br>price {mark}%{{x:{digits}}}<br>quote {mark}%{{y:{digits}}}<extra></extra>"
    traces: list[Figure] = []
    quoted = []
    for number, evaluation in enumerate(evaluations):
        rows = {row.id: row for row in evaluation.rows}
        quotes = [rows[id].price for id in order]
        quoted += [quote for quote in quotes if quote is not None]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "shared": True,
                "tab": number,
                "y": [None if quote is None else round_money(quote, found.currency) for quote in quotes],
                "marker": {"size": 5, "color": f"@{found.hues[evaluation.pricer]}:0.5"},
                "hovertemplate": hover,
                "showlegend": False,
            }
        )
    truths = [row.truth for row in kept]
    low, high = min([*truths, *quoted]) / 1.25, max([*truths, *quoted]) * 1.25
    axis = {
        "type": "log",
        "range": [math.log10(low), math.log10(high)],
        **log_ticks(low, high, found.currency),
    }
    return {
        "data": [*guides(low, high), *traces],
        "layout": {
            "xaxis": {**axis, "title": {"text": "true price"}},
            "yaxis": {**axis, "title": {"text": "quote"}},
            "hovermode": "closest",
        },
        "shared": {
            "x": [round_money(truth, found.currency) for truth in truths],
            "text": [format_chart_label(found.evals.items[id].title or id) for id in order],
        },
        "tabs": True,
    }


def guides(low: float, high: float) -> list[Figure]:
    """The line of perfect quotes and the room within 20 % of the truth."""
    ends = [low, high]
    plain = {"type": "scatter", "mode": "lines", "hoverinfo": "skip"}
    upper = {**plain, "x": ends, "y": [1.2 * end for end in ends], "line": {"width": 0}, "showlegend": False}
    room = {**plain, "x": ends, "y": [0.8 * end for end in ends], "line": {"width": 0}, "fill": "tonexty"}
    line = {**plain, "x": ends, "y": ends, "line": {"color": "@ink:0.55", "width": 1.5}}
    room |= {"fillcolor": "@ink:0.1", "name": "within 20 % of the price"}
    return [upper, room, {**line, "name": "quote = price"}]


def log_ticks(low: float, high: float, currency: str) -> Figure:
    """At most about eight ticks with their sign: 1, 10, 100 over many decades; 1, 2, 5 over few."""
    steps = STEPS if math.log10(high / low) <= 2.4 else STEPS[:1]
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [round(10.0**power * step, 6) for power in powers for step in steps if low <= 10.0**power * step <= high]
    return {
        "tickvals": values,
        "ticktext": [html.escape(f"{display_sign(currency)}{value:,.10g}") for value in values],
    }


def error_bars(intervals: Sequence[Interval]) -> Figure:
    """Plotly's lengths of an interval up and down from its point; none where there is no interval."""
    up = [None if one.high is None else one.high - one.point for one in intervals]
    down = [None if one.low is None else one.point - one.low for one in intervals]
    style = {"color": "@ink:0.75", "thickness": 1.2, "width": 3}
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, **style}


def axis_top(intervals: Sequence[Interval]) -> float:
    """Where an axis of errors ends: over every point, but not over an interval that a handful of items blew up."""
    points = max(one.point for one in intervals)
    return 1.08 * min(max([points, *(one.high for one in intervals if one.high is not None)]), 1.5 * points) or 1.0


def price_bands(found: ReportData) -> Figure:
    """Mean error by band of the true price, grouped bars with intervals."""
    names = found.drawn()
    every = [band.mae for name in names for band in found.bands[name]]
    return {
        "data": [bar_trace(found, name, found.bands[name]) for name in names],
        "layout": {
            "barmode": "group",
            "bargap": 0.25,
            "xaxis": {"type": "category", "title": {"text": "true price"}},
            "yaxis": {"title": {"text": "mean error"}, "range": [0, axis_top(every)], **money_ticks(found)},
        },
    }


def bar_trace(found: ReportData, name: str, bands: Sequence[ErrorBand]) -> Figure:
    """One pricer's bars."""
    return {
        "type": "bar",
        "name": format_chart_label(name, 40),
        "x": [format_band_short(band.label, found.currency) for band in bands],
        "y": [band.mae.point for band in bands],
        "error_y": error_bars([band.mae for band in bands]),
        "marker": {"color": f"@{found.hues[name]}:0.8"},
        "customdata": hover_text(bands, found.currency),
        "hovertemplate": "%{customdata}<extra>%{fullData.name}</extra>",
    }


def hover_text(bands: Sequence[ErrorBand], currency: str) -> list[str]:
    """What a reader sees over a bar."""
    return [f"{format_chart_label(format_price(band.mae.point, currency))} on {band.n:,} items" for band in bands]


def money_ticks(found: ReportData) -> Figure:
    """The sign before an axis of money."""
    return {"tickprefix": html.escape(display_sign(found.currency)), "tickformat": ",.6~g"}


def category_bands(found: ReportData) -> Figure:
    """Mean error by category, lying bars with intervals, the commonest category on top."""
    names = found.drawn(2)
    labels = [f"{format_chart_label(band.label, 26)} ({band.n:,})" for band in found.categories[names[0]]]
    every = [band.mae for name in names for band in found.categories[name]]
    traces = []
    for name in names:
        bands = found.categories[name]
        trace = bar_trace(found, name, bands)
        trace |= {"orientation": "h", "x": trace["y"], "y": list(range(len(bands)))}
        trace["error_x"] = trace.pop("error_y")
        traces.append(trace)
    return {
        "data": traces,
        "layout": {
            "barmode": "group",
            "bargap": 0.3,
            "yaxis": {"autorange": "reversed", "tickvals": list(range(len(labels))), "ticktext": labels},
            "xaxis": {"title": {"text": "mean error"}, "range": [0, axis_top(every)], **money_ticks(found)},
            "legend": {"orientation": "h", "x": 0, "y": 1.01, "yanchor": "bottom", "traceorder": "normal"},
        },
    }


def coverage_bands(found: ReportData) -> Figure:
    """Coverage of intervals by band of the quote, beside what they promise."""
    names = [name for name in found.drawn(len(found.pricers)) if name in found.coverage][:DRAWN_INTERVALS]
    labels: dict[str, None] = {}
    for name in names:
        labels |= dict.fromkeys(band.label for band in found.coverage[name])
    places = sorted(labels, key=first_number)
    traces = [
        coverage_trace(found, name, found.coverage[name], places, number, len(names))
        for number, name in enumerate(names)
    ]
    lowest = min(band.coverage.point for name in names for band in found.coverage[name])
    promise = {
        "type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": found.nominal, "y1": found.nominal,
        "line": {"color": "@ink:0.7", "width": 1.5, "dash": "dash"},
    }  # fmt: skip
    return {
        "data": traces,
        "layout": {
            "shapes": [promise],
            "xaxis": {
                "tickvals": list(range(len(places))),
                "ticktext": [format_band_short(label, found.currency) for label in places],
                "title": {"text": "quote"},
                "range": [-0.5, len(places) - 0.5],
            },
            "yaxis": {
                "title": {"text": "prices inside"},
                "tickformat": ".0%",
                "range": [min(0.7, lowest - 0.1), 1.01],
            },
        },
    }


def first_number(label: str) -> float:
    """Where a band of prices begins, to order bands that not every pricer has."""
    if label in ("all",) or label.startswith("under"):
        return 0.0
    return float(label.split()[0].replace(",", ""))


def coverage_trace(
    found: ReportData, name: str, bands: Sequence[CoverageBand], places: Sequence[str], number: int, of: int
) -> Figure:
    """One pricer's points, set a little aside from the others'."""
    aside = (number - (of - 1) / 2) * 0.2
    return {
        "type": "scatter",
        "mode": "markers",
        "name": format_chart_label(name, 40),
        "x": [places.index(band.label) + aside for band in bands],
        "y": [band.coverage.point for band in bands],
        "error_y": error_bars([band.coverage for band in bands]),
        "marker": {
            "size": 10,
            "symbol": ("circle", "diamond", "square")[number % 3],
            "color": f"@{found.hues[name]}",
        },
        "customdata": [
            f"{band.coverage.point:.1%} of {band.n:,}, price {format_factors(band.lower_factor, band.upper_factor)}"
            for band in bands
        ],
        "hovertemplate": "%{customdata}<extra>%{fullData.name}</extra>",
    }


def running(found: ReportData) -> Figure:
    """The mean error against the number of items, with its band for the best two."""
    names = found.drawn(3)
    traces: list[Figure] = []
    shown: list[float] = []
    total = found.best.n
    for number, name in enumerate(names):
        line, hue = found.running[name], found.hues[name]
        points = [
            (n, mean, low, high)
            for n, mean, low, high in zip(line.n, line.mean, line.low, line.high, strict=True)
            if low is not None and high is not None and n >= min(FIRST, total // 4)
        ]
        n, mean, low, high = ([round(point[k], 4) for point in points] for k in range(4))
        late = [k for k, items in enumerate(n) if items >= max(30, total // 25)] or list(range(len(n)))
        shown += [mean[k] for k in late]
        if number < BANDED:
            shown += [value[k] for value in (low, high) for k in late]
            edge = {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "showlegend": False, "x": n}
            edge |= {"line": {"width": 0}, "legendgroup": name}
            traces += [
                {**edge, "y": low},
                {**edge, "y": high, "fill": "tonexty", "fillcolor": f"@{hue}:0.15"},
            ]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": format_chart_label(name, 40),
                "legendgroup": name,
                "x": n,
                "y": mean,
                "line": {"color": f"@{hue}", "width": 2, "dash": ("solid", "dash", "dot")[number]},
                "customdata": [format_chart_label(format_price(value, found.currency)) for value in mean],
                "hovertemplate": "%{customdata} after %{x:,} items<extra>%{fullData.name}</extra>",
            }
        )
    span = [0.95 * min(shown), 1.05 * max(shown)] if shown else [0, 1]
    axis = {"title": {"text": "mean error so far"}, "range": span, **money_ticks(found)}
    return {
        "data": traces,
        "layout": {
            "xaxis": {"title": {"text": "items"}, "rangemode": "tozero", "tickformat": ","},
            "yaxis": axis,
        },
    }


def to_json(figures: Mapping[str, Figure]) -> str:
    """Figures as JSON that no text of theirs can end the script element of."""
    text = json.dumps(figures, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
