"""The page's parts about the reference: against everybody, what quotes cost, side by side with one competitor, elsewhere.

Findings become the plain texts that templates/page.html.j2 lays out; no figure is worked out again here.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from pricesmith.evaluation.breakdown import BreakdownBand
from pricesmith.evaluation.conclusion import Comparison, Conclusion
from pricesmith.evaluation.cost import Cost
from pricesmith.reporting.data import ReportData
from pricesmith.reporting.narrative import outcome_text, pricer_label
from pricesmith.reporting.published import PublishedFigure, PublishedTable, published_figures
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

Facts = dict[str, Any]
MARKS = {
    "better": "good",
    "worse": "bad",
    "no significant difference": "tie",
    "too few items": "none",
    "other items": "none",
}
SIDES = {"own": "own box", "hosted": "hosted", "person": "a person", "saved": "saved answers"}
SHORT = 22  # letters of a name in a mark
REACH = 3.0  # a bar ends at so many times the median difference: one hopeless competitor does not squeeze the others


def plus_line(value: float, currency: str) -> str:
    """A difference with its sign: `+$12.30`, `−$2.10`."""
    shown = format_price(value, currency)
    return f"+{shown}" if value > 0 and shown.strip("0.,$€£¥₹") else shown


def axis_scale(values: Sequence[float], ends: Sequence[float]) -> float:
    """How far bars reach to each side of 0."""
    typical = median(abs(value) for value in values) if values else 0.0
    most = max((abs(end) for end in ends), default=0.0)
    return min(most, REACH * typical) if typical else most or 1.0


def bar(point: float, low: float | None, high: float | None, left: float, right: float) -> Facts:
    """Where an interval of a difference and its point lie between `-left` and `right`, in per cent of the width."""

    def at(value: float) -> float:
        return 100 * (min(max(value, -left), right) + left) / (left + right)

    span = None if low is None or high is None else (min(99.4, at(low)), max(0.6, at(high) - at(low)))
    return {
        "zero": f"{at(0):.2f}",
        "at": f"{at(point):.2f}",
        "low": None if span is None else f"{span[0]:.2f}",
        "span": None if span is None else f"{span[1]:.2f}",
        "cut": "left" if point < -left else "right" if point > right else "",
    }


def bars(points: Sequence[tuple[float, float | None, float | None]]) -> list[Facts]:
    """Bars of differences on one scale: no wider to a side than that side needs."""
    ends = [end for triple in points for end in triple if end is not None]
    reach = 1.05 * axis_scale([point for point, _, _ in points], ends) or 1.0
    left = min(reach, max([0.05 * reach, *(-1.05 * end for end in ends)]))
    right = min(reach, max([0.05 * reach, *(1.05 * end for end in ends)]))
    return [bar(*triple, left, right) for triple in points]


def comparison_table(found: ReportData) -> Facts | None:
    """Everybody against the reference, with intervals that hold all together; None where it is alone."""
    conclusion = found.conclusion
    if not conclusion.comparisons:
        return None
    paired = [one for one in conclusion.comparisons if one.pair is not None]
    drawn = bars([(one.pair.difference, one.pair.low, one.pair.high) for one in paired if one.pair is not None])
    by_name = dict(zip((one.competitor for one in paired), drawn, strict=True))
    return {
        "name": pricer_label(conclusion.reference),
        "intro": comparison_intro(conclusion),
        "rows": [comparison_line(found, one, by_name.get(one.competitor)) for one in conclusion.comparisons],
    }


def comparison_intro(conclusion: Conclusion) -> str:
    """What is compared, and what the intervals were corrected for."""
    name = pricer_label(conclusion.reference)
    what = f"Each competitor's error less that of {name}, item by item on the items that both were asked: right of the line "
    if not conclusion.n_comparisons:
        return f"{what}{name} errs less. There are too few common items for an interval, so nobody is told apart."
    many = (
        f", corrected for {format_count(conclusion.n_comparisons, 'comparison')}"
        if conclusion.n_comparisons > 1
        else ""
    )
    if conclusion.chosen != "named" and conclusion.n_candidates > 1:
        many += (
            f": those of every pricer that could have been chosen, because {name} was chosen on these very items and "
            "luck had a part in it. A reference named before judging is corrected for its own only"
        )
    hold = "The intervals hold all together" if conclusion.n_comparisons > 1 else "The interval holds"
    return f"{what}{name} errs less. {hold} at 95 %{many}. One that holds 0 means that the order could be chance."


def comparison_line(found: ReportData, one: Comparison, drawn: Facts | None) -> Facts:
    """One competitor in the reference's table."""
    pair, currency = one.pair, found.currency
    undecided = one.outcome == "no significant difference"
    needed = (
        ""
        if pair is None or not undecided
        else f"about {format_estimate(pair.n_needed)}"
        if pair.n_needed
        else "no number would"
    )
    return {
        "name": one.competitor,
        "hue": found.hues[one.competitor],
        "kind": pricer_type(one),
        "mark": "",
        "bar": drawn,
        "tone": MARKS[one.outcome],
        "difference": "" if pair is None else plus_line(pair.difference, currency),
        "interval": "" if pair is None else format_bounds(pair.low, pair.high, currency).strip() or "too few items",
        "outcome": outcome_text(one.outcome),
        "n": "" if pair is None else f"{pair.n:,}",
        "needed": needed,
    }


def pricer_type(one: Comparison) -> str:
    return one.kind if one.kind != one.competitor else ""


def cost_table(found: ReportData) -> Facts:
    """What a quote costs and how long it takes, for everybody; where own compute meets a host."""
    conclusion = found.conclusion
    meetings = {one.competitor: one for one in conclusion.comparisons if one.break_even is not None}
    rows = [cost_line(found, one, meetings.get(name)) for name, one in conclusion.costs.items()]
    box = conclusion.machine_cost
    rented = (
        f"Own compute is seconds × {format_usd(box)} an hour, the box's price as given, for a box that is kept busy; one that "
        "stands idle costs the same and quotes nothing. "
        if box is not None
        else "What own compute costs is unknown: the box has no price here (report --machine-cost, US dollars an hour). "
    )
    timed = (
        "Own pricers are timed in batches of up to 256 on the box that judged them, the time shared evenly: that is "
        "throughput, not how long one listing alone would wait."
    )
    hosted = any(one.pricer_type == "hosted" for one in conclusion.costs.values())
    each = " A hosted model is timed answer by answer, from the request to the answer." if hosted else ""
    return {
        "intro": f"{rented}{timed}{each}",
        "rows": rows,
        "meets": bool(meetings),
        "reference": pricer_label(conclusion.reference),
        "note": break_even_note(conclusion) if meetings else "",
    }


def break_even_note(conclusion: Conclusion) -> str:
    return (
        f"Cheaper from: the number of quotes from which {pricer_label(conclusion.reference)} on one's own box, its fitting "
        "included, has cost less than the hosted model: fitting / (the host's quote − one's own)."
    )


def cost_line(found: ReportData, cost: Cost, meeting: Comparison | None) -> Facts:
    """One pricer's costs in words; what is not known says so."""
    hosted, counted = cost.pricer_type == "hosted", cost.pricer_type in ("own", "hosted")
    unknown = "no price per token" if hosted else "no price of the box" if counted else "not counted"
    known = cost.quote is not None
    line = {
        "name": cost.pricer,
        "hue": found.hues[cost.pricer],
        "kind": SIDES[cost.pricer_type],
        "mark": "reference" if cost.pricer == found.conclusion.reference else "",
        "mark_kind": "best",
        "thousand": format_usd(1_000 * cost.quote) if cost.quote is not None else "unknown" if counted else "–",
        "million": format_usd(1_000_000 * cost.quote) if cost.quote is not None else "unknown" if counted else "–",
        "why": unknown
        if not known
        else f"{format_usd(1_000 * cost.lost)} more, if lost replies are charged"
        if cost.lost
        else "",
        "takes": "–",
        "how": "not measured",
        "fitting": "–",
        "fitting_cost": "",
        "meets": "",
        "meets_note": "",
    }
    if cost.latency is not None:
        slow = f"95 % within {format_clock(cost.latency.high)}"
        line |= {"takes": format_clock(cost.latency.median), "how": f"median of {cost.latency.n:,}; {slow}"}
    elif cost.seconds is not None:
        line |= {"takes": format_clock(cost.seconds), "how": "in batches"}
    if cost.pricer_type == "own" and cost.fit_seconds is not None:
        paid = format_usd(cost.fit) if cost.fit is not None and cost.fit_seconds else ""
        line |= {"fitting": format_clock(cost.fit_seconds) if cost.fit_seconds else "none", "fitting_cost": paid}
    if meeting is not None and meeting.break_even is not None:
        line |= dict(zip(("meets", "meets_note"), break_even_text(meeting, found.conclusion), strict=True))
    return line


def break_even_text(one: Comparison, conclusion: Conclusion) -> tuple[str, str]:
    """From how many quotes the reference is cheaper than this host, and the box's price at which both cost the same."""
    meeting = one.break_even
    assert meeting is not None
    level = f"while the box costs under {format_usd(meeting.machine_cost)} an hour" if meeting.machine_cost else ""
    if meeting.quotes is not None:
        return format_quotes(meeting.quotes).removeprefix("about "), ""
    if meeting.why == "never":
        return "never", f"only {level}" if level else "its quotes are free"
    return "unknown", f"cheaper a quote {level}" if level and conclusion.machine_cost is None else ""


def format_clock(value: float) -> str:
    """Seconds, minutes or hours, or thousandths of a second."""
    if value < 0.1:
        return f"{1000 * value:.2g} ms"
    if value < 100:
        return f"{format_seconds(value)} s"
    return f"{value / 60:.0f} min" if value < 5_400 else f"{value / 3_600:.1f} h"


def breakdown_tables(found: ReportData) -> Facts | None:
    """The reference and one competitor by band of the price and by category; None where there is nobody to stand beside."""
    if found.beside is None:
        return None
    one = found.beside
    reference, competitor = pricer_label(found.conclusion.reference), pricer_label(one.competitor)
    tables = [("By price", one.prices, True), ("By category", one.categories, False)]
    return {
        "reference": reference,
        "competitor": competitor,
        "intro": (
            f"Mean errors on the {format_count(one.n, 'item')} that both were asked, and the competitor's less the reference's. The "
            "intervals of one table hold all together at 95 %; a band is marked where its interval leaves out 0."
        ),
        "tables": [
            {"title": title, "rows": breakdown_rows(found, bands, priced=priced)}
            for title, bands, priced in tables
            if bands
        ],
    }


def breakdown_rows(found: ReportData, bands: Sequence[BreakdownBand], *, priced: bool) -> list[Facts]:
    """A line for each band."""
    drawn = bars([(band.difference.point, band.difference.low, band.difference.high) for band in bands])
    competitor = found.beside.competitor if found.beside else ""
    names = {
        "reference": to_single_line(found.conclusion.reference, SHORT),
        "competitor": to_single_line(competitor, SHORT),
        "": "",
    }
    tones = {"reference": "good", "competitor": "bad", "": "tie"}
    return [
        {
            "label": format_band(band.label, found.currency) if priced else to_single_line(band.label, 60),
            "n": f"{band.n:,}",
            "reference": format_price(band.reference, found.currency),
            "competitor": format_price(band.competitor, found.currency),
            "difference": plus_line(band.difference.point, found.currency),
            "interval": format_bounds(band.difference.low, band.difference.high, found.currency).strip()
            or "too few items",
            "better": names[band.better],
            "tone": tones[band.better],
            "bar": place,
        }
        for band, place in zip(bands, drawn, strict=True)
    ]


def published_tables() -> list[Facts]:
    """Published figures on other items, each with its source."""
    return [
        {
            "name": table.name,
            "what": table.what,
            "metric": table.metric,
            "source": table.source,
            "date": table.date,
            "note": table.note,
            "rows": [published_line(table, row) for row in table.row],
        }
        for table in published_figures()
    ]


def published_line(table: PublishedTable, row: PublishedFigure) -> Facts:
    """One published figure, as it was published."""
    value = f"{row.value:.4f}" if table.metric == "RMSLE" else f"{row.value:.2f}"
    return {
        "who": row.who,
        "value": value,
        "interval": "" if row.low is None or row.high is None else f"[{row.low:g}, {row.high:g}]",
        "items": f"{row.items:,}" if row.items else "",
        "note": row.note,
        "source": row.source or "",
    }
