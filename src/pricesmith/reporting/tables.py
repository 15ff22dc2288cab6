"""The report's words and tables: findings as the plain texts that templates/page.html.j2 lays out.

Every figure of the leaderboard is the one `evaluation.summary.leaderboard` gives; nothing is worked out again here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pricesmith.evaluation.cost import get_pricer_type
from pricesmith.evaluation.leaderboard import LeaderboardRow, WorstItem
from pricesmith.metrics.bands import ErrorBand
from pricesmith.reporting.data import ReportData
from pricesmith.text.formatting import (
    format_band,
    format_count,
    format_factors,
    format_interval,
    format_number,
    format_price,
    format_range,
    format_seconds,
    format_share,
    format_share_interval,
    format_usd,
    join_names,
    to_single_line,
)

Facts = dict[str, Any]
MOST_COLUMNS = 8
PLACES = (
    " A place such as 2–3 is what the pairs' own 95 % tests leave open; the marks are as cautious as the conclusion, "
    "which is corrected for many comparisons."
)


def leaderboard_tables(found: ReportData) -> list[Facts]:
    """One table for each set of items; the first is the report's own."""
    groups = sorted({row.group for row in found.rows})
    return [leaderboard_table(found, [row for row in found.rows if row.group == group]) for group in groups]


def leaderboard_table(found: ReportData, rows: Sequence[LeaderboardRow]) -> Facts:
    """The rows of one group, best first, with bars on one scale."""
    scale = axis_scale(rows)
    first = rows[0]
    items = format_count(first.n, "item")
    return {
        "label": f"Leaderboard on {items}",
        "title": f"Judged on other items: {items}",
        "intro": (
            f"These are for other items ({found.evals.meta[first.name].get('note') or 'another choice of them'}), "
            "so they have no place in the ranking above; the next section compares them on the items in common."
            if first.group
            else "Best first. The bar is the mean error, its strong part the 95 % interval: where it would lie on "
            f"other items of the same kind.{PLACES if len(rows) > 1 else ''}"
        ),
        "rows": [leaderboard_line(found, row, scale, alone=len(rows) == 1) for row in rows],
        "course": any(row.course_hit is not None for row in rows),
        "paid": any(row.dollars_per_1000 != 0 for row in rows),
        "bounded": any(row.coverage is not None for row in rows),
    }


def axis_scale(rows: Sequence[LeaderboardRow]) -> float:
    """The error at the right end of the bars; one hopeless pricer does not squeeze the others."""
    ends = [row.mae.high or row.mae.point for row in rows]
    return 1.03 * min(max(ends), 4 * ends[0]) or 1.0


def leaderboard_line(found: ReportData, row: LeaderboardRow, scale: float, *, alone: bool) -> Facts:
    """One row of the leaderboard in words, and where its bar ends, in per cent of the scale."""
    error, currency, side = row.mae, found.currency, get_pricer_type(row.kind)
    at = min(100.0, 100 * error.point / scale)
    low = None if error.low is None else min(100.0, max(0.0, 100 * error.low / scale))
    high = None if error.high is None else min(100.0, 100 * error.high / scale)
    line = {
        "rank": "" if row.group and alone else row.rank_range,
        "at": f"{at:.2f}",
        "low": None if low is None else f"{low:.2f}",
        "span": None if low is None or high is None else f"{high - low:.2f}",
        "cut": error.point > scale,
        "aria": f"{to_single_line(row.name)}: {format_price(error.point, currency)}, {format_interval(error, currency)}",
        "error": format_price(error.point, currency),
        "interval": short_amount(error.low, error.high, found.currency),
        "median": format_price(row.median_error, currency),
        "within": format_share(row.within_20),
        "rmsle": f"{row.rmsle:.3f}",
        "course": "" if row.course_hit is None else format_share(row.course_hit),
        "coverage": "none" if row.coverage is None else format_share(row.coverage.point),
        "width": ""
        if row.lower_factor is None or row.upper_factor is None
        else format_factors(row.lower_factor, row.upper_factor),
        "n_unanswered": f"{row.n_unanswered:,}",
        "seconds": "–" if side in ("person", "saved") else f"{format_seconds(row.seconds_per_1000)} s",
        "dollars": fees(row.dollars_per_1000, one_by_one=side == "hosted") if side in ("own", "hosted") else "",
        "best": row.best and not alone,
    }
    return line | named_cell(found, row, alone=alone)


def named_cell(found: ReportData, row: LeaderboardRow, *, alone: bool = False) -> Facts:
    """A pricer's name, color, kind and its mark beside the best of its items."""
    ties = [other.name for other in found.rows if other.group == row.group and tie_note(found, other)]
    beaten = found.conclusion.reference == row.name and any(
        one.outcome == "worse" for one in found.conclusion.comparisons
    )
    first = "leads" if ties or beaten else "best"
    mark = "" if alone else "no significant difference" if row.name in ties else first if row.best else ""
    return {
        "name": row.name,
        "hue": found.hues[row.name],
        "kind": row.kind if row.kind != row.name else "",
        "mark": mark,
        "mark_kind": "tie" if row.name in ties else "best",
    }


def fees(value: float | None, *, one_by_one: bool) -> str:
    """What was paid to a host for 1,000 answers; its seconds are those of each answer, added up."""
    paid = "no fee" if value == 0 else f"{format_usd(value)} fees" if value is not None else "fees unknown"
    return f"one by one, {paid}" if one_by_one else paid


def tie_note(found: ReportData, row: LeaderboardRow) -> bool:
    """Whether a row is not told apart from the best of its items, as the page says it."""
    return row.tied if row.group else row.name in found.ties


def headline(found: ReportData) -> str:
    """Who is best, in one sentence, and no more than the items can tell."""
    best, error = found.best, format_price(found.best.mae.point, found.currency)
    name = to_single_line(best.name, 40)
    ties = [to_single_line(row.name, 40) for row in found.main if tie_note(found, row)]
    ahead = [to_single_line(one.competitor, 40) for one in found.conclusion.comparisons if one.outcome == "worse"]
    if found.conclusion.reference == best.name and ahead:
        return f"{name} misses the price by {error} on average, and does not yet beat {join_names(ahead, 2)}"
    if len(found.main) == 1:
        return f"{name} misses the price by {error} on average"
    if ties:
        return f"{name} misses the price by {error} on average, the least, but is not told apart from {join_names(ties, 2)}"
    whole = f"the {len(found.main)}" if len(found.rows) == len(found.main) else f"the {len(found.main)} on all items"
    return f"{name} is the best of {whole}: it misses the price by {error} on average"


def lead_sentence(found: ReportData) -> str:
    """What the headline rests on."""
    best, currency = found.best, found.currency
    error = best.mae
    groups = f" in {format_count(error.groups, 'group')}" if error.groups != best.n else ""
    split = "5 folds by group" if found.meta.get("folds") else f"the {found.evals.about.get('split', 'test')} split"
    held = (
        f"Measured on {format_count(best.n, 'item')}{groups} of {catalog_name(found)} ({split}), prices in {currency}."
    )
    if best.name == found.conclusion.reference:
        return held
    return f"{held} The error of {to_single_line(best.name, 40)} has a 95 % interval of {format_interval(error, currency)}."


def catalog_name(found: ReportData) -> str:
    return to_single_line(str(found.meta.get("catalog_name") or "this catalog"), 60)


def tiles(found: ReportData) -> list[Facts]:
    """Four figures of the best pricer that a reader can use."""
    best, currency = found.best, found.currency
    median = found.pricers[best.name].median
    less = 1 - best.mae.point / found.constant_error if found.constant_error else 0.0
    than = "less error" if less >= 0 else "more error"
    told = [
        ("Typical miss", format_price(best.median_error, currency), "half of its quotes are closer than this"),
        ("Close quotes", format_share(best.within_20), "are within 20 % of the price"),
        (
            "Against no model",
            f"{abs(less):.0%}".replace("%", " %"),
            f"{than} than always quoting {format_price(median, currency)}",
        ),
    ]
    if best.coverage is not None and best.lower_factor is not None and best.upper_factor is not None:
        aim = f"of prices lie in its {found.nominal:.0%} intervals, ".replace("%", " %")
        aim += f"price {format_factors(best.lower_factor, best.upper_factor)}"
        told.append(("Knows its limits", format_share(best.coverage.point), aim))
    return [{"label": label, "value": value, "note": note} for label, value, note in told]


def shares(found: ReportData) -> Facts:
    """The share of items and of all error in each band of price, for the best pricer."""
    bands = found.bands[found.best.name]
    most = max(max(band.share_of_items, band.share_of_error) for band in bands)
    heavy = max(bands, key=lambda band: band.share_of_error - band.share_of_items)
    label = format_band(heavy.label, found.currency)
    name = to_single_line(found.best.name, 40)
    intro = f"Which prices make up the items, and which the error of {name}."
    if heavy.share_of_error >= 1.2 * heavy.share_of_items:
        parts = (
            f"{format_share(heavy.share_of_items)} of the items and {format_share(heavy.share_of_error)} of the error"
        )
        intro = f"Few items carry much of the error: prices {label} are {parts} of {name}."
    rows = [
        {
            "label": format_band(band.label, found.currency),
            "items": format_share(band.share_of_items),
            "error": format_share(band.share_of_error),
            "items_at": f"{100 * band.share_of_items / most:.2f}",
            "error_at": f"{100 * band.share_of_error / most:.2f}",
        }
        for band in bands
    ]
    return {
        "intro": intro,
        "rows": rows,
        "hue": found.hues[found.best.name],
    }


def error_grid(found: ReportData, bands: Mapping[str, Sequence[ErrorBand]], label: str, *, priced: bool) -> Facts:
    """Mean errors with intervals, a line for each pricer; where there are many bands, a line for each of them."""
    first = next(iter(bands.values()))
    shown = [format_band(band.label, found.currency) if priced else to_single_line(band.label, 60) for band in first]
    header = [(text, format_count(band.n, "item")) for text, band in zip(shown, first, strict=True)]
    rows = [
        [(to_single_line(name, 40), ""), *(error_cell(found, band) for band in some)] for name, some in bands.items()
    ]
    table = [[("", ""), *header], *rows]
    if len(header) > MOST_COLUMNS:
        table = [list(line) for line in zip(*table, strict=True)]
    return {"label": label, "header": table[0], "lines": table[1:]}


def error_cell(found: ReportData, band: ErrorBand) -> tuple[str, str]:
    """A mean error, and its interval as a note under it."""
    error = band.mae
    return format_price(error.point, found.currency), short_amount(error.low, error.high, found.currency)


def short_amount(low: float | None, high: float | None, currency: str) -> str:
    """An interval without its sign, for a narrow cell."""
    return (
        "no interval"
        if low is None or high is None
        else f"{format_number(low, currency)} – {format_number(high, currency)}"
    )


def close_grid(found: ReportData) -> Facts:
    """The error on items with and without a near-repeat in training."""
    table = error_grid(found, found.close, "Error with and without a close training listing", priced=False)
    table["intro"] = (
        "A score that rests on near-repeats of what was trained on does not carry over to new goods. Close: a listing "
        f"of this catalog's train split is at least 0.8 similar in its words.{found.elsewhere}"
    )
    return table


def coverage_grid(found: ReportData) -> Facts:
    """Coverage and width by band of the quote, a line for each pricer and band."""
    lines = []
    for name, bands in found.coverage.items():
        for band in bands:
            label = format_band(band.label, found.currency)
            held = format_share(band.coverage.point), format_share_interval(band.coverage)
            texts = [
                to_single_line(name, 40),
                label,
                f"{band.n:,}",
                *held,
                format_factors(band.lower_factor, band.upper_factor),
            ]
            lines.append([(text, "") for text in texts])
    header = ["Pricer", "Quote", "Intervals", "Hold the price", "95 % interval", "Width"]
    return {"label": "Coverage by band of the quote", "header": [(text, "") for text in header], "lines": lines}


def worst_item(found: ReportData, one: WorstItem) -> Facts:
    """One of the worst quotes, with the training listings of the catalog that are like it."""
    currency, row = found.currency, one.row
    charged = found.pricers[found.best.name].median
    said = (
        f"no answer, charged {format_price(charged, currency)}"
        if row.price is None
        else f"quote {format_price(row.price, currency)}"
    )
    off = "too high" if (charged if row.price is None else row.price) > row.truth else "too low"
    return {
        "title": to_single_line(one.item.title) or one.item.id,
        "category": to_single_line(one.item.category, 60),
        "truth": format_price(row.truth, currency),
        "said": said,
        "interval": format_range(row.low, row.high, currency),
        "miss": f"{format_price(one.error, currency)} {off}",
        "near": [
            {"title": to_single_line(near.title, 90) or near.id, "price": format_price(near.price, currency)}
            for near in one.item.near
        ],
    }
