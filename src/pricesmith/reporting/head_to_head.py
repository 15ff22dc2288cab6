"""The page's parts about the reference model: comparisons, cost and time, breakdown, published figures.

Results become the plain text that templates/page.html.j2 lays out; no figure is computed again here. The published
figures, in published.toml, are measured on other items: shown for scale, never ranked with the report's own, and
rejected without a source and a date.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from statistics import median
from typing import Annotated, Any

from pydantic import Field, StringConstraints, model_validator

from pricesmith.core.settings import Settings, parse_settings
from pricesmith.evaluation.compare import BreakdownBand
from pricesmith.evaluation.conclusion import Comparison, Conclusion
from pricesmith.evaluation.cost import Cost
from pricesmith.reporting.data import ReportData
from pricesmith.reporting.hybrids import member_label
from pricesmith.reporting.narrative import OUTCOMES, SAME, pricer_label
from pricesmith.text.formatting import (
    format_band,
    format_bounds,
    format_count,
    format_estimate,
    format_price,
    format_quotes,
    format_seconds,
    format_usd,
    to_single_line,
)

TemplateValues = dict[str, Any]
TONES = {"better": "good", "worse": "bad", SAME: "tie", "too few items": "none", "other items": "none"}
PRICER_TYPES = {"own": "this machine", "hosted": "hosted", "person": "a person", "saved": "precomputed answers"}
MAX_PILL = 22  # characters of a name inside a pill
MAX_SCALE = 3.0  # bars end at this many median differences, so one outlier does not squeeze the others
PUBLISHED_FILE = "published.toml"
NonEmpty = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


def format_difference(value: float, currency: str) -> str:
    """Format a difference with its sign: `+$12.30`, `−$2.10`."""
    text = format_price(value, currency)
    return f"+{text}" if value > 0 and any(digit in text for digit in "123456789") else text


def axis_limit(values: Sequence[float], ends: Sequence[float]) -> float:
    """Return how far bars extend to each side of 0 at most."""
    typical = median(abs(value) for value in values) if values else 0.0
    most = max((abs(end) for end in ends), default=0.0)
    return min(most, MAX_SCALE * typical) if typical else most or 1.0


def interval_bar(point: float, low: float | None, high: float | None, left: float, right: float) -> TemplateValues:
    """Return the position of a difference and its interval between `-left` and `right`, in percent of the width."""

    def position(value: float) -> float:
        return 100 * (min(max(value, -left), right) + left) / (left + right)

    span = None if low is None or high is None else (min(99.4, position(low)), max(0.6, position(high) - position(low)))
    return {
        "zero": f"{position(0):.2f}",
        "at": f"{position(point):.2f}",
        "low": None if span is None else f"{span[0]:.2f}",
        "span": None if span is None else f"{span[1]:.2f}",
        "cut": "left" if point < -left else "right" if point > right else "",
    }


def interval_bars(points: Sequence[tuple[float, float | None, float | None]]) -> list[TemplateValues]:
    """Return bars of differences (point, low, high) on one scale, no wider to either side than needed."""
    ends = [end for triple in points for end in triple if end is not None]
    limit = 1.05 * axis_limit([point for point, _, _ in points], ends) or 1.0
    left = min(limit, max([0.05 * limit, *(-1.05 * end for end in ends)]))
    right = min(limit, max([0.05 * limit, *(1.05 * end for end in ends)]))
    return [interval_bar(*triple, left, right) for triple in points]


def comparison_table(data: ReportData) -> TemplateValues | None:
    """Return all competitors against the reference with simultaneous intervals; None without competitors."""
    conclusion = data.conclusion
    if not conclusion.comparisons:
        return None
    paired = [comparison for comparison in conclusion.comparisons if comparison.pair is not None]
    pairs = [comparison.pair for comparison in paired if comparison.pair is not None]
    bars = interval_bars([(pair.difference, pair.low, pair.high) for pair in pairs])
    by_name = dict(zip((comparison.competitor for comparison in paired), bars, strict=True))
    rows = [
        comparison_line(data, comparison, by_name.get(comparison.competitor)) for comparison in conclusion.comparisons
    ]
    return {
        "name": pricer_label(conclusion.reference),
        "intro": comparison_intro(conclusion),
        "rows": rows,
        "has_needed": any(row["needed"] for row in rows),
    }


def comparison_intro(conclusion: Conclusion) -> str:
    """Return what is compared and how the intervals are corrected."""
    name = pricer_label(conclusion.reference)
    intro = (
        f"MAE of each competitor minus the MAE of {name}, paired on the common items: to the right of the line, {name} "
        "has the lower MAE."
    )
    if not conclusion.n_comparisons:
        return f"{intro} There are too few common items for a confidence interval, so nothing is tested."
    if conclusion.n_comparisons == 1:
        return f"{intro} The interval has 95 % confidence; one that contains 0 means {SAME}."
    correction = f"simultaneous 95 % confidence intervals over {format_count(conclusion.n_comparisons, 'comparison')}"
    if conclusion.chosen != "named" and conclusion.n_candidates > 1:
        correction += (
            f". They cover the comparisons of every model that could have been the reference, because {name} was "
            "chosen on these items; a reference named before the evaluation is corrected for its own comparisons only"
        )
    return f"{intro} Intervals are {correction}. One that contains 0 means {SAME}."


def comparison_line(data: ReportData, comparison: Comparison, bar: TemplateValues | None) -> TemplateValues:
    """Return one competitor's row of the comparison table."""
    pair, currency = comparison.pair, data.currency
    needed = ""
    if pair is not None and comparison.outcome == SAME:
        needed = f"about {format_estimate(pair.n_needed)}" if pair.n_needed else "no difference"
    return {
        "name": comparison.competitor,
        "color": data.colors[comparison.competitor],
        "kind": comparison.kind if comparison.kind != comparison.competitor else "",
        "mark": "",
        "bar": bar,
        "tone": TONES[comparison.outcome],
        "difference": "" if pair is None else format_difference(pair.difference, currency),
        "interval": "" if pair is None else format_bounds(pair.low, pair.high, currency).strip() or "too few items",
        "outcome": OUTCOMES[comparison.outcome],
        "n": "" if pair is None else f"{pair.n:,}",
        "needed": needed,
    }


def cost_table(data: ReportData) -> TemplateValues:
    """Return the cost and time per quote of every pricer, and the break-even with hosted models."""
    conclusion = data.conclusion
    comparisons = {comparison.competitor: comparison for comparison in conclusion.comparisons}
    has_break_even = any(comparison.break_even is not None for comparison in conclusion.comparisons)
    machine_cost = conclusion.machine_cost
    compute = "The cost of compute is unknown: this report was made without --machine-cost (US dollars an hour). "
    if machine_cost is not None:
        compute = (
            f"Compute costs seconds × {format_usd(machine_cost)} an hour (--machine-cost), for a machine that is kept "
            "busy; idle time costs the same and is not included. "
        )
    timing = (
        "Your own models are timed in batches of up to 256 on the machine that evaluated them, with the time divided "
        "evenly: this is throughput, not the latency of a single listing."
    )
    hosted = any(cost.pricer_type == "hosted" for cost in conclusion.costs.values())
    paid = " A model that asks an API model costs fees and compute." if has_paid_member(conclusion) else ""
    name = pricer_label(conclusion.reference)
    return {
        "intro": f"{compute}{timing}{' A hosted model is timed per request.' if hosted else ''}{paid}",
        "rows": [cost_line(data, cost, comparisons.get(pricer)) for pricer, cost in conclusion.costs.items()],
        "has_break_even": has_break_even,
        "reference": name,
        "note": (
            f"Break-even: the number of quotes from which {name} on this machine, fitting included, has cost less "
            "than the hosted model: fitting cost / (hosted cost per quote − own cost per quote)."
            if has_break_even
            else ""
        ),
    }


def has_paid_member(conclusion: Conclusion) -> bool:
    """Return whether an own model asks an API model."""
    return any(hybrid.is_paid for hybrid in conclusion.hybrids.values())


def quote_cost(cost: Cost, *, is_paid: bool) -> tuple[float | None, str]:
    """Return the cost of a quote, and what it consists of or why it is unknown; fees alone without a machine cost."""
    word = "estimated fees" if cost.estimated_fees else "fees"
    if is_paid and cost.fees is None:
        return None, "fees unknown"
    if is_paid and cost.fees and cost.quote is None:
        return cost.fees, f"{word} only; no machine cost given"
    if cost.quote is None:
        reasons = {"hosted": "no price per token given", "own": "no machine cost given"}
        return None, reasons.get(cost.pricer_type, "not counted")
    notes = []
    if is_paid and cost.fees and cost.compute is not None:
        fees, compute = format_usd(1_000 * cost.fees), format_usd(1_000 * cost.compute)
        notes.append(f"{word} {fees} + compute {compute}")
    if cost.lost:
        notes.append(f"up to {format_usd(1_000 * cost.lost)} more if lost replies are charged")
    return cost.quote, "; ".join(notes)


def cost_line(data: ReportData, cost: Cost, comparison: Comparison | None) -> TemplateValues:
    """Return one pricer's row of the cost table; unknown values are called unknown."""
    counted = cost.pricer_type in ("own", "hosted")
    unknown = "unknown" if counted else "–"
    hybrid = data.conclusion.hybrids.get(cost.pricer)
    is_paid = hybrid is not None and hybrid.is_paid
    quote, note = quote_cost(cost, is_paid=is_paid)
    asks = f", asks {member_label(hybrid.member)}" if hybrid is not None and is_paid else ""
    line = {
        "name": cost.pricer,
        "color": data.colors[cost.pricer],
        "kind": f"{PRICER_TYPES[cost.pricer_type]}{asks}",
        "mark": "reference" if cost.pricer == data.conclusion.reference else "",
        "mark_kind": "best",
        "thousand": unknown if quote is None else format_usd(1_000 * quote),
        "million": unknown if quote is None else format_usd(1_000_000 * quote),
        "cost_note": note,
        "time": "–",
        "time_note": "not measured",
        "fit_time": "–",
        "fit_cost": "",
        "break_even": "",
        "break_even_note": "",
    }
    if cost.latency is not None:
        high = format_duration(cost.latency.high)
        line["time"] = format_duration(cost.latency.median)
        line["time_note"] = f"median of {cost.latency.n:,}; 95th percentile {high}"
    elif cost.seconds is not None:
        line |= {"time": format_duration(cost.seconds), "time_note": "in batches"}
    if cost.pricer_type == "own" and cost.fit_seconds is not None:
        line["fit_time"] = format_duration(cost.fit_seconds) if cost.fit_seconds else "not fitted"
        line["fit_cost"] = format_usd(cost.fit) if cost.fit is not None and cost.fit_seconds else ""
    if comparison is not None:
        line["break_even"], line["break_even_note"] = break_even_text(comparison, data.conclusion)
    return line


def break_even_text(comparison: Comparison, conclusion: Conclusion) -> tuple[str, str]:
    """Return the break-even number of quotes, and the machine cost at which both cost the same."""
    break_even = comparison.break_even
    if break_even is None:
        return "", ""
    limit = break_even.machine_cost
    condition = f"if the machine costs under {format_usd(limit)} an hour" if limit else ""
    if break_even.quotes is not None:
        return format_quotes(break_even.quotes).removeprefix("about "), ""
    if break_even.why == "never":
        return "never", f"only {condition}" if condition else "the hosted model is free"
    return "unknown", f"cheaper per quote {condition}" if condition and conclusion.machine_cost is None else ""


def format_duration(seconds: float) -> str:
    """Format seconds with a fitting unit: `0.06 ms`, `2 s`, `10 min`, `2.5 h`."""
    if seconds < 0.1:
        return f"{1000 * seconds:.2g} ms"
    if seconds < 100:
        return f"{format_seconds(seconds)} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"


def breakdown_tables(data: ReportData) -> TemplateValues | None:
    """Return the reference and one competitor by price band and by category; None without a competitor."""
    breakdown = data.breakdown
    if breakdown is None:
        return None
    tables = [("By price", breakdown.price_bands, True), ("By category", breakdown.categories, False)]
    return {
        "reference": pricer_label(data.conclusion.reference),
        "competitor": pricer_label(breakdown.competitor),
        "intro": (
            f"MAE on the {format_count(breakdown.n, 'common item')}, and the competitor's minus the reference model's. "
            "The intervals of one table are simultaneous 95 % confidence intervals."
        ),
        "tables": [
            {"title": title, "rows": breakdown_rows(data, breakdown.competitor, bands, priced=priced)}
            for title, bands, priced in tables
            if bands
        ],
    }


def breakdown_rows(
    data: ReportData, competitor: str, bands: Sequence[BreakdownBand], *, priced: bool
) -> list[TemplateValues]:
    """Return one row for each band."""
    currency = data.currency
    bars = interval_bars([(band.difference.point, band.difference.low, band.difference.high) for band in bands])
    names = {
        "reference": to_single_line(data.conclusion.reference, MAX_PILL),
        "competitor": to_single_line(competitor, MAX_PILL),
        "": "",
    }
    tones = {"reference": "good", "competitor": "bad", "": "tie"}
    return [
        {
            "label": format_band(band.label, currency) if priced else to_single_line(band.label, 60),
            "n": f"{band.n:,}",
            "reference": format_price(band.reference, currency),
            "competitor": format_price(band.competitor, currency),
            "difference": format_difference(band.difference.point, currency),
            "interval": format_bounds(band.difference.low, band.difference.high, currency).strip() or "too few items",
            "better": names[band.better],
            "tone": tones[band.better],
            "bar": bar,
        }
        for band, bar in zip(bands, bars, strict=True)
    ]


def published_tables() -> list[TemplateValues]:
    """Return published figures on other items, each with its source."""
    return [
        {
            "name": table.name,
            "sample": table.sample,
            "metric": table.metric,
            "source": table.source,
            "date": table.date,
            "note": table.note,
            "rows": [published_line(table, figure) for figure in table.figures],
        }
        for table in published_figures()
    ]


def published_line(table: PublishedTable, figure: PublishedFigure) -> TemplateValues:
    """Return one published figure with the digits of its metric."""
    value = f"{figure.value:.4f}" if table.metric == "RMSLE" else f"{figure.value:.2f}"
    return {
        "pricer": figure.pricer,
        "value": value,
        "interval": "" if figure.low is None or figure.high is None else f"[{figure.low:g}, {figure.high:g}]",
        "n": f"{figure.n:,}" if figure.n else "",
        "note": figure.note,
        "source": figure.source or "",
    }


class PublishedFigure(Settings):
    """One published figure in the metric of its table, with its interval and number of items if they are known."""

    pricer: NonEmpty
    value: float = Field(gt=0)
    low: float | None = None
    high: float | None = None
    n: int | None = Field(None, ge=1)
    source: NonEmpty | None = None
    note: str = ""

    @model_validator(mode="after")
    def check_interval(self) -> PublishedFigure:
        """Reject an interval with one bound, or one that does not contain the figure."""
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval has two bounds")
        if self.low is not None and self.high is not None and not self.low <= self.value <= self.high:
            raise ValueError("the figure is outside its interval")
        return self


class PublishedTable(Settings):
    """Figures of one publication on its own items, which `sample` describes."""

    name: NonEmpty
    sample: NonEmpty
    metric: NonEmpty
    source: NonEmpty
    date: Annotated[str, StringConstraints(pattern=r"^\d{4}(-\d{2}-\d{2})?$")]
    note: str = ""
    figures: tuple[PublishedFigure, ...] = Field(min_length=1)

    def source_of(self, figure: PublishedFigure) -> str:
        """Return the figure's own source, or its table's."""
        return figure.source or self.source


class PublishedFigures(Settings):
    """The whole file."""

    table: tuple[PublishedTable, ...]


def published_figures() -> tuple[PublishedTable, ...]:
    """Return the published tables that ship with Pricesmith."""
    text = resources.files("pricesmith.reporting").joinpath(PUBLISHED_FILE).read_text(encoding="utf-8")
    return check_published(tomllib.loads(text))


def check_published(values: Mapping[str, Any]) -> tuple[PublishedTable, ...]:
    """Return validated tables. Raises UsageError for a figure without source or date or outside its interval."""
    return parse_settings(PublishedFigures, values, where=PUBLISHED_FILE).table
