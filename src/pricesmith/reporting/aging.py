"""The part of the report on how the error grows with the age of the training data: sentences, chart and table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pricesmith.evaluation.aging import MONTH, NOT_LATER, AgeTrend, age_dict
from pricesmith.evaluation.conclusion import MEDIAN
from pricesmith.metrics.bands import ErrorBand
from pricesmith.reporting import tables
from pricesmith.reporting.charts import Figure, axis_top, bar_trace, money_ticks
from pricesmith.text.formatting import format_bounds, format_price, join_names, to_single_line

if TYPE_CHECKING:
    from pricesmith.reporting.data import ReportData

MAX_NAME = 40


def age_sentence(name: str, trend: AgeTrend, currency: str) -> str:
    """State whether the MAE of a pricer changes significantly with age, and by how much."""
    label = to_single_line(name, MAX_NAME)
    if trend.adjusted_p is None or trend.low is None or trend.high is None:
        return f"{label}: too few near-duplicate groups or days to say whether the MAE changes with age."
    sign = -1 if trend.is_significant and trend.slope < 0 else 1
    low, high = sorted((sign * trend.low, sign * trend.high))
    size = f"{format_price(sign * trend.slope, currency)}{format_bounds(low, high, currency)}"
    p = "p < 0.001" if trend.adjusted_p < 0.001 else f"p = {trend.adjusted_p:.2g}"
    if not trend.is_significant:
        return f"{label}: no significant change of the MAE with age, {size} for every {MONTH} days ({p})."
    verb = "falls" if trend.slope < 0 else "grows"
    ratio = trend.last_to_first
    times = f"; on the latest items it is {ratio:.2f} times that on the earliest" if ratio is not None else ""
    return f"{label}: the MAE {verb} by {size} for every {MONTH} days after the last training day ({p}){times}."


def age_sentences(trends: Mapping[str, AgeTrend], kinds: Mapping[str, str], currency: str) -> list[str]:
    """One sentence for each pricer; the median pricer comes last."""
    names = sorted(trends, key=lambda name: kinds.get(name) == MEDIAN)
    return [age_sentence(name, trends[name], currency) for name in names]


def age_values(data: ReportData) -> dict[str, Any] | None:
    """The part of report.json; None unless the catalog is split by time and has enough items."""
    if not data.age_bands:
        return None
    return {
        "sentences": sentences_of(data),
        "pricers": [{"name": name, **age_dict(bands, data.age_trends[name])} for name, bands in data.age_bands.items()],
    }


def sentences_of(data: ReportData) -> list[str]:
    """The sentences of a report."""
    return age_sentences(data.age_trends, {row.name: row.kind for row in data.main_rows}, data.currency)


def age_chart(data: ReportData) -> Figure:
    """Return the MAE by days after the last training day: grouped bars with intervals."""
    names = data.chart_names()
    shown = {name: later_bands(data.age_bands[name]) for name in names}
    traces = []
    for name, bands in shown.items():
        trace = bar_trace(data, name, bands)
        trace["x"] = [short_label(band.label) for band in bands]
        traces.append(trace)
    return {
        "data": traces,
        "layout": {
            "barmode": "group",
            "bargap": 0.25,
            "xaxis": {"type": "category", "title": {"text": "days after the last training day"}},
            "yaxis": {
                "title": {"text": "MAE"},
                "range": [0, axis_top([band.mae for bands in shown.values() for band in bands])],
                **money_ticks(data),
            },
        },
    }


def later_bands(bands: Sequence[ErrorBand]) -> list[ErrorBand]:
    """The bands of items that are later than the training data."""
    return [band for band in bands if band.label != NOT_LATER]


def short_label(label: str) -> str:
    """A band for a tick of a chart: `1–14`."""
    return label.removeprefix("day ").removesuffix(" days").replace(" to ", "–")


def age_table(data: ReportData) -> dict[str, Any]:
    """Return the MAE of all pricers by age: a line for each band, with its ratio to the youngest one."""
    header = [("Days after training", ""), ("Items", "")]
    header += [(to_single_line(name, MAX_NAME), "MAE, times the first band’s, 95 % CI") for name in data.age_bands]
    lines = []
    for number, band in enumerate(next(iter(data.age_bands.values()))):
        cells = []
        for bands in data.age_bands.values():
            own = bands[number]
            first = later_bands(bands)[0].mae.point
            ratio = f"× {own.mae.point / first:.2f}, " if first > 0 and own.label != NOT_LATER else ""
            interval = tables.short_interval(own.mae.low, own.mae.high, data.currency)
            cells.append((format_price(own.mae.point, data.currency), f"{ratio}{interval}"))
        lines.append([(band.label, ""), (f"{band.n:,}", ""), *cells])
    return {"label": "MAE by age", "header": header, "lines": lines}


def age_content(data: ReportData) -> dict[str, Any] | None:
    """Return the text around the error by age; None unless it is known."""
    if not data.age_bands:
        return None
    names = join_names([to_single_line(name, MAX_NAME) for name in data.chart_names()], 4)
    return {
        "id": "chart-age",
        "intro": (
            "Test items by the days between them and the last training day, in bands of about equal size. Tests are of "
            "the slope of the absolute error over all later items, two-sided, corrected for all pricers (Holm). An MAE "
            f"also grows if prices do.{data.other_catalog_note}"
        ),
        "sentences": sentences_of(data),
        "alt": "MAE by days after the last training day; the numbers are in the table",
        "caption": f"MAE with 95 % confidence intervals by days after the last training day. Shown: {names}.",
        "table": age_table(data),
    }
