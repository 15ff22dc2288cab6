"""The report's figures as plain Plotly JSON: dictionaries that templates/draw.js paints in the reader's colors.

A color is the name of a CSS variable after an @, with an optional opacity: "@c0", "@ink:0.2". plotly.graph_objects
rejects such names, so figures are plain dictionaries; a test checks them with it, painted. Text from data is escaped
here (`format_chart_label`), because Plotly interprets tags and entities in labels.
"""

from __future__ import annotations

import html
import json
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from pricesmith.evaluation.leaderboard import CoverageCheck, RunningError
from pricesmith.metrics.bands import ErrorBand
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
MIN_RUNNING_ITEMS = 20  # the mean of fewer items varies too much to be drawn
MAX_POINTS = 1_500  # phones draw more points slowly
MAX_COVERAGE_PRICERS = 3  # points with intervals side by side
MAX_RUNNING_BANDS = 2  # more bands hide each other
TICK_STEPS = (1.0, 2.0, 5.0)


def quote_scatter(data: ReportData, max_points: int = MAX_POINTS) -> Figure:
    """Return quotes against true prices on log axes, one pricer at a time, for the same sample of items."""
    evaluations = list(data.evaluations.values())
    ids = sorted(row.id for row in evaluations[0].rows)
    sample = set(ids if len(ids) <= max_points else random.Random(0).sample(ids, max_points))
    sampled = [row for row in evaluations[0].rows if row.id in sample]
    order, truths = [row.id for row in sampled], [row.truth for row in sampled]
    sign = html.escape(display_sign(data.currency))
    digits = f",.{minor_digits(data.currency)}f" if min(truths) >= 1 else ",.3~g"  # below 1, significant digits
    hover = f"%{{text}}<br>price {sign}%{{x:{digits}}}<br>quote {sign}%{{y:{digits}}}<extra></extra>"
    traces: list[Figure] = []
    prices = list(truths)
    for index, evaluation in enumerate(evaluations):
        rows = {row.id: row for row in evaluation.rows}
        quotes = [rows[id].price for id in order]
        prices += [quote for quote in quotes if quote is not None]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "shared": True,
                "tab": index,
                "y": [None if quote is None else round_money(quote, data.currency) for quote in quotes],
                "marker": {"size": 5, "color": f"@{data.colors[evaluation.pricer]}:0.5"},
                "hovertemplate": hover,
                "showlegend": False,
            }
        )
    low, high = min(prices) / 1.25, max(prices) * 1.25
    axis = {"type": "log", "range": [math.log10(low), math.log10(high)], **log_ticks(low, high, data.currency)}
    return {
        "data": [*reference_lines(low, high), *traces],
        "layout": {
            "xaxis": {**axis, "title": {"text": "true price"}},
            "yaxis": {**axis, "title": {"text": "quote"}},
            "hovermode": "closest",
        },
        "shared": {
            "x": [round_money(truth, data.currency) for truth in truths],
            "text": [format_chart_label(data.evals.items[id].title or id) for id in order],
        },
        "tabs": True,
    }


def reference_lines(low: float, high: float) -> list[Figure]:
    """Return the line of equal quote and price, and the band within 20 % of the price."""
    ends = [low, high]
    base = {"type": "scatter", "mode": "lines", "hoverinfo": "skip"}
    upper = {**base, "x": ends, "y": [1.2 * end for end in ends], "line": {"width": 0}, "showlegend": False}
    band = {**base, "x": ends, "y": [0.8 * end for end in ends], "line": {"width": 0}, "fill": "tonexty"}
    line = {**base, "x": ends, "y": ends, "line": {"color": "@ink:0.55", "width": 1.5}}
    band |= {"fillcolor": "@ink:0.1", "name": "within 20 % of the price"}
    return [upper, band, {**line, "name": "quote = price"}]


def log_ticks(low: float, high: float, currency: str) -> Figure:
    """Return at most about eight ticks with the currency's sign: 1, 10, 100 over many decades; 1, 2, 5 over few."""
    steps = TICK_STEPS if math.log10(high / low) <= 2.4 else TICK_STEPS[:1]
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [round(10.0**power * step, 6) for power in powers for step in steps if low <= 10.0**power * step <= high]
    return {
        "tickvals": values,
        "ticktext": [html.escape(f"{display_sign(currency)}{value:,.10g}") for value in values],
    }


def error_bars(intervals: Sequence[Interval]) -> Figure:
    """Return Plotly's error bars: the lengths of each interval up and down from its point; None without interval."""
    up = [None if interval.high is None else interval.high - interval.point for interval in intervals]
    down = [None if interval.low is None else interval.point - interval.low for interval in intervals]
    style = {"color": "@ink:0.75", "thickness": 1.2, "width": 3}
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, **style}


def axis_top(intervals: Sequence[Interval]) -> float:
    """Return the end of an axis of errors: above every point, but not above a very wide interval of a few items."""
    points = max(interval.point for interval in intervals)
    highs = [interval.high for interval in intervals if interval.high is not None]
    return 1.08 * min(max([points, *highs]), 1.5 * points) or 1.0


def price_chart(data: ReportData) -> Figure:
    """Return the MAE by band of the true price: grouped bars with intervals."""
    names = data.chart_names()
    intervals = [band.mae for name in names for band in data.price_bands[name]]
    return {
        "data": [bar_trace(data, name, data.price_bands[name]) for name in names],
        "layout": {
            "barmode": "group",
            "bargap": 0.25,
            "xaxis": {"type": "category", "title": {"text": "true price"}},
            "yaxis": {"title": {"text": "MAE"}, "range": [0, axis_top(intervals)], **money_ticks(data)},
        },
    }


def bar_trace(data: ReportData, name: str, bands: Sequence[ErrorBand]) -> Figure:
    """Return one pricer's bars."""
    return {
        "type": "bar",
        "name": format_chart_label(name, 40),
        "x": [format_band_short(band.label, data.currency) for band in bands],
        "y": [band.mae.point for band in bands],
        "error_y": error_bars([band.mae for band in bands]),
        "marker": {"color": f"@{data.colors[name]}:0.8"},
        "customdata": [
            f"MAE {format_chart_label(format_price(band.mae.point, data.currency))} on {band.n:,} items"
            for band in bands
        ],
        "hovertemplate": "%{customdata}<extra>%{fullData.name}</extra>",
    }


def money_ticks(data: ReportData) -> Figure:
    """Return the tick format of an axis in the catalog's currency."""
    return {"tickprefix": html.escape(display_sign(data.currency)), "tickformat": ",.6~g"}


def category_chart(data: ReportData) -> Figure:
    """Return the MAE by category: horizontal bars with intervals, the most common category on top."""
    names = data.chart_names(2)
    labels = [f"{format_chart_label(band.label, 26)} ({band.n:,})" for band in data.categories[names[0]]]
    intervals = [band.mae for name in names for band in data.categories[name]]
    traces = []
    for name in names:
        bands = data.categories[name]
        trace = bar_trace(data, name, bands)
        trace |= {"orientation": "h", "x": trace["y"], "y": list(range(len(bands)))}
        trace["error_x"] = trace.pop("error_y")
        traces.append(trace)
    return {
        "data": traces,
        "layout": {
            "barmode": "group",
            "bargap": 0.3,
            "yaxis": {"autorange": "reversed", "tickvals": list(range(len(labels))), "ticktext": labels},
            "xaxis": {"title": {"text": "MAE"}, "range": [0, axis_top(intervals)], **money_ticks(data)},
            "legend": {"orientation": "h", "x": 0, "y": 1.01, "yanchor": "bottom", "traceorder": "normal"},
        },
    }


def coverage_chart(data: ReportData) -> Figure:
    """Return the coverage of intervals by band of the quote, with the nominal level as a dashed line."""
    names = [name for name in data.chart_names(len(data.evaluations)) if name in data.coverage][:MAX_COVERAGE_PRICERS]
    bands = {name: quote_bands(data.coverage[name]) for name in names}
    labels = sorted({check.label for checks in bands.values() for check in checks}, key=band_start)
    traces = [coverage_trace(data, name, bands[name], labels, index, len(names)) for index, name in enumerate(names)]
    lowest = min(check.coverage.point for checks in bands.values() for check in checks)
    levels = {check.level for checks in bands.values() for check in checks}
    lines = [
        {
            "type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": level, "y1": level,
            "line": {"color": "@ink:0.7", "width": 1.5, "dash": "dash"},
        }
        for level in sorted(levels)
    ]  # fmt: skip
    return {
        "data": traces,
        "layout": {
            "shapes": lines,
            "xaxis": {
                "tickvals": list(range(len(labels))),
                "ticktext": [format_band_short(label, data.currency) for label in labels],
                "title": {"text": "quote"},
                "range": [-0.5, len(labels) - 0.5],
            },
            "yaxis": {
                "title": {"text": "coverage"},
                "tickformat": ".0%",
                "range": [min(0.7, lowest - 0.1), 1.01],
            },
        },
    }


def quote_bands(checks: Sequence[CoverageCheck]) -> list[CoverageCheck]:
    """Return the checks by band of the quote; the one on all items if there is a single band."""
    return [check for check in checks if check.scope == "quote band"] or [checks[0]]


def band_start(label: str) -> float:
    """Return the lower end of a price band, to order the bands of several pricers."""
    if label == "all" or label.startswith("under"):
        return 0.0
    return float(label.split()[0].replace(",", ""))


def coverage_trace(
    data: ReportData, name: str, checks: Sequence[CoverageCheck], labels: Sequence[str], index: int, total: int
) -> Figure:
    """Return one pricer's points, offset a little from those of the others."""
    offset = (index - (total - 1) / 2) * 0.2
    return {
        "type": "scatter",
        "mode": "markers",
        "name": format_chart_label(name, 40),
        "x": [labels.index(check.label) + offset for check in checks],
        "y": [check.coverage.point for check in checks],
        "error_y": error_bars([check.coverage for check in checks]),
        "marker": {
            "size": 10,
            "symbol": ("circle", "diamond", "square")[index % 3],
            "color": f"@{data.colors[name]}",
        },
        "customdata": [
            f"{check.coverage.point:.1%} of {check.n:,}, price "
            f"{format_factors(check.band.lower_factor, check.band.upper_factor)}"
            for check in checks
        ],
        "hovertemplate": "%{customdata}<extra>%{fullData.name}</extra>",
    }


def running_chart(data: ReportData) -> Figure:
    """Return the MAE against the number of items, with a confidence band for the best two pricers."""
    names = data.chart_names(3)
    traces: list[Figure] = []
    visible: list[float] = []
    total = data.best.n
    for index, name in enumerate(names):
        n, mean, low, high = running_points(data.running_errors[name], total)
        late = [k for k, items in enumerate(n) if items >= max(30, total // 25)] or list(range(len(n)))
        visible += [mean[k] for k in late]
        if index < MAX_RUNNING_BANDS:
            visible += [bound[k] for bound in (low, high) for k in late]
            edge = {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "showlegend": False, "x": n}
            edge |= {"line": {"width": 0}, "legendgroup": name}
            traces += [
                {**edge, "y": low},
                {**edge, "y": high, "fill": "tonexty", "fillcolor": f"@{data.colors[name]}:0.15"},
            ]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": format_chart_label(name, 40),
                "legendgroup": name,
                "x": n,
                "y": mean,
                "line": {"color": f"@{data.colors[name]}", "width": 2, "dash": ("solid", "dash", "dot")[index]},
                "customdata": [format_chart_label(format_price(value, data.currency)) for value in mean],
                "hovertemplate": "%{customdata} after %{x:,} items<extra>%{fullData.name}</extra>",
            }
        )
    span = [0.95 * min(visible), 1.05 * max(visible)] if visible else [0, 1]
    return {
        "data": traces,
        "layout": {
            "xaxis": {"title": {"text": "items"}, "rangemode": "tozero", "tickformat": ","},
            "yaxis": {"title": {"text": "MAE so far"}, "range": span, **money_ticks(data)},
        },
    }


def running_points(curve: RunningError, total: int) -> tuple[list[float], list[float], list[float], list[float]]:
    """Return the numbers of items to draw, with the MAE and its band at each of them."""
    points = [
        (n, mean, low, high)
        for n, mean, low, high in zip(curve.n, curve.mean, curve.low, curve.high, strict=True)
        if low is not None and high is not None and n >= min(MIN_RUNNING_ITEMS, total // 4)
    ]
    n, mean, low, high = ([round(point[column], 4) for point in points] for column in range(4))
    return n, mean, low, high


def to_json(figures: Mapping[str, Figure]) -> str:
    """Return figures as JSON in which no text can close the script element around it."""
    text = json.dumps(figures, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
