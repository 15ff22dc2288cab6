"""The page's parts about the champion: against everybody, what quotes cost, side by side with one rival, elsewhere.

Findings become the plain texts that templates/page.html.j2 lays out; no figure is worked out again here.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from pricesmith.evaluation.beside import BesideBand
from pricesmith.evaluation.cost import Cost
from pricesmith.evaluation.verdict import Verdict, Versus
from pricesmith.report.findings import Findings
from pricesmith.report.references import Reference, ReferenceTable, references
from pricesmith.report.sentences import brackets, outcome_words, who
from pricesmith.text.formatting import about, amount, count, plain, priced_band, quotes_of, seconds, usd

Facts = dict[str, Any]
MARKS = {"better": "good", "worse": "bad", "not told apart": "tie", "too few items": "none", "other items": "none"}
SIDES = {"own": "own box", "hosted": "hosted", "person": "a person", "saved": "saved answers"}
SHORT = 22  # letters of a name in a mark
REACH = 3.0  # a bar ends at so many times the median difference: one hopeless rival does not squeeze the others


def plus(value: float, currency: str) -> str:
    """A difference with its sign: `+$12.30`, `−$2.10`."""
    shown = amount(value, currency)
    return f"+{shown}" if value > 0 and shown.strip("0.,$€£¥₹") else shown


def scale_of(values: Sequence[float], ends: Sequence[float]) -> float:
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
    reach = 1.05 * scale_of([point for point, _, _ in points], ends) or 1.0
    left = min(reach, max([0.05 * reach, *(-1.05 * end for end in ends)]))
    right = min(reach, max([0.05 * reach, *(1.05 * end for end in ends)]))
    return [bar(*triple, left, right) for triple in points]


def champion_table(found: Findings) -> Facts | None:
    """Everybody against the champion, with intervals that hold all together; None where it is alone."""
    verdict = found.verdict
    if not verdict.versus:
        return None
    paired = [one for one in verdict.versus if one.pair is not None]
    drawn = bars([(one.pair.difference, one.pair.low, one.pair.high) for one in paired if one.pair is not None])
    by_name = dict(zip((one.rival for one in paired), drawn, strict=True))
    return {
        "name": who(verdict.champion),
        "intro": champion_intro(verdict),
        "rows": [versus_line(found, one, by_name.get(one.rival)) for one in verdict.versus],
    }


def champion_intro(verdict: Verdict) -> str:
    """What is compared, and what the intervals were corrected for."""
    name = who(verdict.champion)
    what = f"Each rival's error less that of {name}, item by item on the items that both were asked: right of the line "
    if not verdict.comparisons:
        return f"{what}{name} errs less. There are too few common items for an interval, so nobody is told apart."
    many = f", corrected for {count(verdict.comparisons, 'comparison')}" if verdict.comparisons > 1 else ""
    if verdict.chosen != "named" and verdict.among > 1:
        many += (
            f": those of every pricer that could have been chosen, because {name} was chosen on these very items and "
            "luck had a part in it. A champion named before judging is corrected for its own only"
        )
    hold = "The intervals hold all together" if verdict.comparisons > 1 else "The interval holds"
    return f"{what}{name} errs less. {hold} at 95 %{many}. One that holds 0 means that the order could be chance."


def versus_line(found: Findings, one: Versus, drawn: Facts | None) -> Facts:
    """One rival in the champion's table."""
    pair, currency = one.pair, found.currency
    undecided = one.outcome == "not told apart"
    needed = (
        "" if pair is None or not undecided else f"about {about(pair.needed)}" if pair.needed else "no number would"
    )
    return {
        "name": one.rival,
        "hue": found.hues[one.rival],
        "kind": kind_of(one),
        "mark": "",
        "bar": drawn,
        "tone": MARKS[one.outcome],
        "difference": "" if pair is None else plus(pair.difference, currency),
        "interval": "" if pair is None else brackets(pair.low, pair.high, currency).strip() or "too few items",
        "outcome": outcome_words(one.outcome),
        "n": "" if pair is None else f"{pair.n:,}",
        "needed": needed,
    }


def kind_of(one: Versus) -> str:
    return one.kind if one.kind != one.rival else ""


def cost_table(found: Findings) -> Facts:
    """What a quote costs and how long it takes, for everybody; where own compute meets a host."""
    verdict = found.verdict
    meetings = {one.rival: one for one in verdict.versus if one.break_even is not None}
    rows = [cost_line(found, one, meetings.get(name)) for name, one in verdict.costs.items()]
    box = verdict.box_price
    rented = (
        f"Own compute is seconds × {usd(box)} an hour, the box's price as given, for a box that is kept busy; one that "
        "stands idle costs the same and quotes nothing. "
        if box is not None
        else "What own compute costs is unknown: the box has no price here (report --box-price, US dollars an hour). "
    )
    timed = (
        "Own pricers are timed in batches of up to 256 on the box that judged them, the time shared evenly: that is "
        "throughput, not how long one listing alone would wait."
    )
    hosted = any(one.side == "hosted" for one in verdict.costs.values())
    each = " A hosted model is timed answer by answer, from the request to the answer." if hosted else ""
    return {
        "intro": f"{rented}{timed}{each}",
        "rows": rows,
        "meets": bool(meetings),
        "champion": who(verdict.champion),
        "note": meeting_note(verdict) if meetings else "",
    }


def meeting_note(verdict: Verdict) -> str:
    return (
        f"Cheaper from: the number of quotes from which {who(verdict.champion)} on one's own box, its fitting "
        "included, has cost less than the hosted model: fitting / (the host's quote − one's own)."
    )


def cost_line(found: Findings, cost: Cost, meeting: Versus | None) -> Facts:
    """One pricer's costs in words; what is not known says so."""
    hosted, counted = cost.side == "hosted", cost.side in ("own", "hosted")
    unknown = "no price per token" if hosted else "no price of the box" if counted else "not counted"
    known = cost.quote is not None
    line = {
        "name": cost.pricer,
        "hue": found.hues[cost.pricer],
        "kind": SIDES[cost.side],
        "mark": "champion" if cost.pricer == found.verdict.champion else "",
        "mark_kind": "best",
        "thousand": usd(1_000 * cost.quote) if cost.quote is not None else "unknown" if counted else "–",
        "million": usd(1_000_000 * cost.quote) if cost.quote is not None else "unknown" if counted else "–",
        "why": unknown
        if not known
        else f"{usd(1_000 * cost.lost)} more, if lost replies are charged"
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
        slow = f"95 % within {clock(cost.latency.high)}"
        line |= {"takes": clock(cost.latency.median), "how": f"median of {cost.latency.n:,}; {slow}"}
    elif cost.seconds is not None:
        line |= {"takes": clock(cost.seconds), "how": "in batches"}
    if cost.side == "own" and cost.fit_seconds is not None:
        paid = usd(cost.fit) if cost.fit is not None and cost.fit_seconds else ""
        line |= {"fitting": clock(cost.fit_seconds) if cost.fit_seconds else "none", "fitting_cost": paid}
    if meeting is not None and meeting.break_even is not None:
        line |= dict(zip(("meets", "meets_note"), met(meeting, found.verdict), strict=True))
    return line


def met(one: Versus, verdict: Verdict) -> tuple[str, str]:
    """From how many quotes the champion is cheaper than this host, and the box's price at which both cost the same."""
    meeting = one.break_even
    assert meeting is not None
    level = f"while the box costs under {usd(meeting.box_price)} an hour" if meeting.box_price else ""
    if meeting.quotes is not None:
        return quotes_of(meeting.quotes).removeprefix("about "), ""
    if meeting.why == "never":
        return "never", f"only {level}" if level else "its quotes are free"
    return "unknown", f"cheaper a quote {level}" if level and verdict.box_price is None else ""


def clock(value: float) -> str:
    """Seconds, minutes or hours, or thousandths of a second."""
    if value < 0.1:
        return f"{1000 * value:.2g} ms"
    if value < 100:
        return f"{seconds(value)} s"
    return f"{value / 60:.0f} min" if value < 5_400 else f"{value / 3_600:.1f} h"


def beside_tables(found: Findings) -> Facts | None:
    """The champion and one rival by band of the price and by category; None where there is nobody to stand beside."""
    if found.beside is None:
        return None
    one = found.beside
    champion, rival = who(found.verdict.champion), who(one.rival)
    tables = [("By price", one.prices, True), ("By category", one.categories, False)]
    return {
        "champion": champion,
        "rival": rival,
        "intro": (
            f"Mean errors on the {count(one.n, 'item')} that both were asked, and the rival's less the champion's. The "
            "intervals of one table hold all together at 95 %; a band is marked where its interval leaves out 0."
        ),
        "tables": [
            {"title": title, "rows": beside_rows(found, bands, priced=priced)}
            for title, bands, priced in tables
            if bands
        ],
    }


def beside_rows(found: Findings, bands: Sequence[BesideBand], *, priced: bool) -> list[Facts]:
    """A line for each band."""
    drawn = bars([(band.difference.point, band.difference.low, band.difference.high) for band in bands])
    rival = found.beside.rival if found.beside else ""
    names = {"champion": plain(found.verdict.champion, SHORT), "rival": plain(rival, SHORT), "": ""}
    tones = {"champion": "good", "rival": "bad", "": "tie"}
    return [
        {
            "label": priced_band(band.label, found.currency) if priced else plain(band.label, 60),
            "n": f"{band.n:,}",
            "champion": amount(band.champion, found.currency),
            "rival": amount(band.rival, found.currency),
            "difference": plus(band.difference.point, found.currency),
            "interval": brackets(band.difference.low, band.difference.high, found.currency).strip() or "too few items",
            "better": names[band.better],
            "tone": tones[band.better],
            "bar": place,
        }
        for band, place in zip(bands, drawn, strict=True)
    ]


def reference_tables() -> list[Facts]:
    """Published figures on other items, each with its source."""
    return [
        {
            "name": table.name,
            "what": table.what,
            "metric": table.metric,
            "source": table.source,
            "date": table.date,
            "note": table.note,
            "rows": [reference_line(table, row) for row in table.row],
        }
        for table in references()
    ]


def reference_line(table: ReferenceTable, row: Reference) -> Facts:
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
