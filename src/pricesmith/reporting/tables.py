"""The leaderboard and the tables beside it: as text for templates/page.html.j2, and as tables for a terminal.

Every figure of the leaderboard is the one that `build_leaderboard` returns; none is computed again here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pricesmith.core.tables import Column, FittedTable
from pricesmith.evaluation.cost import get_pricer_type
from pricesmith.evaluation.leaderboard import CoverageCheck, LeaderboardRow, WorstItem
from pricesmith.evaluation.results import Evals
from pricesmith.metrics.bands import ErrorBand
from pricesmith.reporting.data import ReportData, leaderboard_row_dict
from pricesmith.reporting.hybrids import describe_hybrid
from pricesmith.reporting.narrative import SAME, coverage_result, coverage_sentence, power_clause
from pricesmith.text.formatting import (
    format_amount_interval,
    format_band,
    format_count,
    format_factors,
    format_interval,
    format_money,
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

TemplateValues = dict[str, Any]
MAX_COLUMNS = 8
OWN_TEST = "the pair's own test"
COLUMNS = (  # in a narrow terminal, the column with the highest `drop` goes first
    Column("rank"),
    Column("pricer", wraps=True),
    Column("MAE [95 % CI]", right=True, drop=1),
    Column("MAE", right=True, instead_of="MAE [95 % CI]"),
    Column("median error", right=True, drop=3),
    Column("RMSLE", right=True, drop=7),
    Column("within 20 %", right=True, drop=4),
    Column("unanswered", right=True, drop=6),
    Column("s/1,000", right=True, drop=8),
    Column("coverage", right=True, drop=2),
    Column("typical interval", right=True, drop=5),
)
RANK_NOTE = (
    " A rank such as 2–3 is the range that the pairs' own 95 % tests leave open; the marks use the simultaneous "
    "intervals of the conclusion."
)


def leaderboard_tables(data: ReportData) -> list[TemplateValues]:
    """Return one table for each set of items; the first is the main group's."""
    groups = sorted({row.group for row in data.leaderboard})
    return [leaderboard_section(data, [row for row in data.leaderboard if row.group == group]) for group in groups]


def leaderboard_section(data: ReportData, rows: Sequence[LeaderboardRow]) -> TemplateValues:
    """Return the rows of one group, best first, with bars on one scale."""
    scale = axis_scale(rows)
    first = rows[0]
    items = format_count(first.n, "item")
    if first.group:
        reason = data.evals.meta[first.name].get("note") or "another selection"
        intro = (
            f"These pricers were evaluated on other items ({reason}), so they are not ranked with those above; the "
            "next section compares them on the common items."
        )
    else:
        intro = (
            "Most accurate first. Bar: MAE (mean absolute error); its dark part is the 95 % confidence interval."
            f"{RANK_NOTE if len(rows) > 1 else ''}"
        )
    return {
        "label": f"Leaderboard on {items}",
        "title": f"Evaluated on other items: {items}",
        "intro": intro,
        "rows": [leaderboard_line(data, row, scale, alone=len(rows) == 1) for row in rows],
        "course_hit": any(row.course_hit is not None for row in rows),
        "has_fees": any(row.dollars_per_1000 != 0 for row in rows),
        "has_intervals": any(row.coverage is not None for row in rows),
    }


def axis_scale(rows: Sequence[LeaderboardRow]) -> float:
    """Return the error at the right end of the bars, at most four times the best: outliers are cut off."""
    ends = [row.mae.high or row.mae.point for row in rows]
    return 1.03 * min(max(ends), 4 * ends[0]) or 1.0


def leaderboard_line(data: ReportData, row: LeaderboardRow, scale: float, *, alone: bool) -> TemplateValues:
    """Return one row of the leaderboard as text, with its bar in percent of the scale."""
    mae, currency, pricer_type = row.mae, data.currency, get_pricer_type(row.kind)
    low = None if mae.low is None else min(100.0, max(0.0, 100 * mae.low / scale))
    high = None if mae.high is None else min(100.0, 100 * mae.high / scale)
    line = {
        "rank": "" if row.group and alone else row.rank_range,
        "at": f"{min(100.0, 100 * mae.point / scale):.2f}",
        "low": None if low is None else f"{low:.2f}",
        "span": None if low is None or high is None else f"{high - low:.2f}",
        "cut": mae.point > scale,
        "aria": f"{to_single_line(row.name)}: {format_price(mae.point, currency)}, {format_interval(mae, currency)}",
        "mae": format_price(mae.point, currency),
        "interval": short_interval(mae.low, mae.high, data.currency),
        "median_error": format_price(row.median_error, currency),
        "within_20": format_share(row.within_20),
        "rmsle": f"{row.rmsle:.3f}",
        "course_hit": "" if row.course_hit is None else format_share(row.course_hit),
        "coverage": "no intervals" if row.coverage is None else format_share(row.coverage.point),
        "coverage_note": coverage_note(row),
        "unanswered": f"{row.n_unanswered:,}",
        "seconds": "–" if pricer_type in ("person", "saved") else format_speed(row, " s"),
        "fees": fees_note(row, pricer_type),
        "best": row.best and not alone,
    }
    return line | name_cell(data, row, alone=alone)


def coverage_note(row: LeaderboardRow) -> str:
    """Return the typical interval of a pricer, and whether its overall coverage is significantly off its level."""
    if row.lower_factor is None or row.upper_factor is None:
        return ""
    check = next((check for check in row.miscoverage if check.scope == "all"), None)
    direction = "" if check is None else "low" if check.coverage.point < check.level else "high"
    mark = f"significantly {direction}; " if direction else ""
    return f"{mark}price\u00a0{format_factors(row.lower_factor, row.upper_factor)}"


def name_cell(data: ReportData, row: LeaderboardRow, *, alone: bool = False) -> TemplateValues:
    """Return a pricer's name, color and kind, and its mark relative to the best of its items."""
    ties = [other.name for other in data.leaderboard if other.group == row.group and is_tied(data, other)]
    comparisons = data.conclusion.comparisons
    has_better_competitor = data.conclusion.reference == row.name and any(
        comparison.outcome == "worse" for comparison in comparisons
    )
    first = "lowest MAE" if ties or has_better_competitor else "best"
    return {
        "name": row.name,
        "color": data.colors[row.name],
        "kind": row.kind if row.kind != row.name else "",
        "mark": "" if alone else SAME if row.name in ties else first if row.best else "",
        "mark_kind": "tie" if row.name in ties else "best",
    }


def format_speed(row: LeaderboardRow, unit: str = "") -> str:
    """Return the seconds for 1,000 items, a dash if no answer was timed."""
    return "–" if row.seconds_per_1000 is None else f"{format_seconds(row.seconds_per_1000)}{unit}"


def fees_note(row: LeaderboardRow, pricer_type: str) -> str:
    """Return the fees for 1,000 answers; a hosted model's seconds are those of its answers, added up."""
    if pricer_type not in ("own", "hosted"):
        return ""
    value = row.dollars_per_1000
    fees = "no fees" if value == 0 else f"{format_usd(value)} fees" if value is not None else "fees unknown"
    if value and row.hybrid is not None and row.hybrid.estimated_fees:
        fees = f"about {fees}"
    fees = fees.replace(" ", "\u00a0")
    return f"one at a time, {fees}" if pricer_type == "hosted" else fees


def is_tied(data: ReportData, row: LeaderboardRow) -> bool:
    """Return whether a row has no significant difference from the best of its items."""
    return row.tied if row.group else row.name in data.ties


def headline(data: ReportData) -> str:
    """Return the main result in one sentence that claims no more than the tests show."""
    best, mae = data.best, format_price(data.best.mae.point, data.currency)
    name = to_single_line(best.name, 40)
    ties = [to_single_line(row.name, 40) for row in data.main_rows if is_tied(data, row)]
    better = [
        to_single_line(comparison.competitor, 40)
        for comparison in data.conclusion.comparisons
        if comparison.outcome == "worse"
    ]
    if data.conclusion.reference == best.name and better:
        verb = "have" if len(better) > 1 else "has"
        return f"{name} has an MAE of {mae}; {join_names(better, 2)} {verb} a lower one on the common items"
    if len(data.main_rows) == 1:
        return f"{name} has an MAE of {mae}"
    if ties:
        return f"{name} has the lowest MAE, {mae}, with {SAME} from {join_names(ties, 2)}"
    others = "" if len(data.leaderboard) == len(data.main_rows) else " evaluated on all items"
    return f"{name} has the lowest MAE of {len(data.main_rows)} pricers{others}: {mae}"


def lead_sentence(data: ReportData) -> str:
    """Return what the headline was measured on."""
    best = data.best
    groups = f" in {format_count(best.mae.groups, 'near-duplicate group')}" if best.mae.groups != best.n else ""
    split = "5 folds by group" if data.meta.get("folds") else f"the {data.evals.about.get('split', 'test')} split"
    items = format_count(best.n, "item")
    measured = f"Measured on {items}{groups} of {catalog_name(data)} ({split}); prices are in {data.currency}."
    if best.name == data.conclusion.reference:
        return measured
    interval = format_interval(best.mae, data.currency)
    return f"{measured} The 95 % confidence interval of {to_single_line(best.name, 40)}'s MAE is {interval}."


def catalog_name(data: ReportData) -> str:
    """Return the catalog's name on one line."""
    return to_single_line(str(data.meta.get("catalog_name") or "this catalog"), 60)


def summary_tiles(data: ReportData) -> list[TemplateValues]:
    """Return four figures of the best pricer: median error, share within 20 %, gain over the median, coverage."""
    best, currency = data.best, data.currency
    median = format_price(data.evaluations[best.name].median, currency)
    reduction = 1 - best.mae.point / data.median_mae if data.median_mae else 0.0
    direction = "lower" if reduction >= 0 else "higher"
    tiles = [
        ("Median error", format_price(best.median_error, currency), "half of its quotes are closer than this"),
        ("Within 20 %", format_share(best.within_20), "of its quotes are within 20 % of the true price"),
        (
            "Against the median",
            f"{abs(reduction):.0%}".replace("%", " %"),
            f"{direction} MAE than always quoting the training median, {median}",
        ),
    ]
    if best.coverage is not None and best.lower_factor is not None and best.upper_factor is not None:
        level = f"{best.coverage_checks[0].level:.0%}".replace("%", " %") if best.coverage_checks else "90 %"
        typical = f"typical interval: price {format_factors(best.lower_factor, best.upper_factor)}"
        tiles.append((f"Coverage of the {level} intervals", format_share(best.coverage.point), typical))
    return [{"label": label, "value": value, "note": note} for label, value, note in tiles]


def error_shares(data: ReportData) -> TemplateValues:
    """Return the share of items and of the total error in each price band, for the best pricer."""
    bands = data.price_bands[data.best.name]
    most = max(max(band.share_of_items, band.share_of_error) for band in bands)
    heaviest = max(bands, key=lambda band: band.share_of_error - band.share_of_items)
    name = to_single_line(data.best.name, 40)
    intro = f"Share of the items and of the total absolute error of {name} by band of the true price."
    if heaviest.share_of_error >= 1.2 * heaviest.share_of_items:
        label = format_band(heaviest.label, data.currency)
        items, error = format_share(heaviest.share_of_items), format_share(heaviest.share_of_error)
        intro = f"Items priced {label} are {items} of the items and {error} of the total absolute error of {name}."
    rows = [
        {
            "label": format_band(band.label, data.currency),
            "items": format_share(band.share_of_items),
            "error": format_share(band.share_of_error),
            "items_at": f"{100 * band.share_of_items / most:.2f}",
            "error_at": f"{100 * band.share_of_error / most:.2f}",
        }
        for band in bands
    ]
    return {"intro": intro, "rows": rows, "color": data.colors[data.best.name]}


def error_table(
    data: ReportData, bands: Mapping[str, Sequence[ErrorBand]], label: str, *, priced: bool
) -> TemplateValues:
    """Return MAEs with intervals, one line per pricer; with many bands, one line per band."""
    first = next(iter(bands.values()))
    labels = [format_band(band.label, data.currency) if priced else to_single_line(band.label, 60) for band in first]
    header = [(text, format_count(band.n, "item")) for text, band in zip(labels, first, strict=True)]
    lines = [
        [(to_single_line(name, 40), ""), *(error_cell(data, band) for band in pricer_bands)]
        for name, pricer_bands in bands.items()
    ]
    table = [[("", ""), *header], *lines]
    if len(header) > MAX_COLUMNS:
        table = [list(line) for line in zip(*table, strict=True)]
    return {"label": label, "header": table[0], "lines": table[1:]}


def error_cell(data: ReportData, band: ErrorBand) -> tuple[str, str]:
    """Return an MAE, and its interval as the note under it."""
    return format_price(band.mae.point, data.currency), short_interval(band.mae.low, band.mae.high, data.currency)


def short_interval(low: float | None, high: float | None, currency: str) -> str:
    """Format an interval without the currency's sign, for a narrow cell."""
    if low is None or high is None:
        return "no interval"
    return f"{format_number(low, currency)} – {format_number(high, currency)}"


def training_table(data: ReportData) -> TemplateValues:
    """Return the MAE on items with and without a similar listing in training."""
    table = error_table(data, data.training_bands, "MAE with and without a similar training listing", priced=False)
    table["intro"] = (
        "If the MAE is much lower on items with a similar training listing, the overall MAE is too optimistic for new "
        "kinds of goods. Similar: a listing of this catalog's train split has a word similarity of at least 0.8."
        f"{data.other_catalog_note}"
    )
    return table


def coverage_table(data: ReportData) -> TemplateValues:
    """Return the coverage on all items, by band of the quote and by category, with the lowest category named."""
    lines = []
    for name, checks in data.coverage.items():
        for check in checks:
            lines.append(
                {
                    "pricer": to_single_line(name, 40),
                    "color": data.colors[name],
                    "label": coverage_label(check, data.currency),
                    "n": f"{check.n:,}",
                    "coverage": format_share(check.coverage.point),
                    "interval": format_share_interval(check.coverage),
                    "typical": f"price {format_factors(check.band.lower_factor, check.band.upper_factor)}",
                    "result": coverage_result(check),
                    "tone": "bad" if check.is_significant else "none",
                    "first": check.scope == "all",
                }
            )
    return {"label": "Coverage on all items, by band of the quote and by category", "lines": lines}


def coverage_label(check: CoverageCheck, currency: str) -> str:
    """Return the items of a coverage test in a few words."""
    if check.scope == "all":
        return "all items"
    if check.scope == "quote band":
        return f"quote {format_band(check.label, currency)}"
    return to_single_line(check.label, 60)


def lowest_category_sentence(data: ReportData) -> str:
    """Return the category with the lowest coverage for each pricer with intervals; empty without categories."""
    clauses = []
    for name, checks in data.coverage.items():
        categories = [check for check in checks if check.scope == "category"]
        if categories:
            lowest = min(categories, key=lambda check: check.coverage.point)
            label, coverage = to_single_line(lowest.label, 40), format_share(lowest.coverage.point)
            clauses.append(f"{label} for {to_single_line(name, 40)} ({coverage}, {coverage_result(lowest)})")
    return f"Category with the lowest coverage: {join_names(clauses, 6)}." if clauses else ""


def worst_line(data: ReportData, worst: WorstItem) -> TemplateValues:
    """Return one of the worst quotes, with the most similar training listings."""
    currency, row = data.currency, worst.row
    median = data.evaluations[data.best.name].median
    quote = median if row.price is None else row.price
    unanswered = f"unanswered, charged at {format_price(median, currency)}"
    return {
        "title": to_single_line(worst.item.title) or worst.item.id,
        "category": to_single_line(worst.item.category, 60),
        "truth": format_price(row.truth, currency),
        "quote": unanswered if row.price is None else f"quote {format_price(quote, currency)}",
        "interval": format_range(row.low, row.high, currency),
        "error": f"{format_price(worst.error, currency)} {'too high' if quote > row.truth else 'too low'}",
        "near": [
            {"title": to_single_line(near.title, 90) or near.id, "price": format_price(near.price, currency)}
            for near in worst.item.near
        ],
    }


# On a terminal


def leaderboard_dict(evals: Evals, rows: Sequence[LeaderboardRow]) -> dict[str, Any]:
    """Return the leaderboard as plain values, ready for JSON."""
    return {
        "evals": str(evals.path),
        "about": evals.about,
        "leaderboard": [leaderboard_row_dict(row) for row in rows],
    }


def leaderboard_table(evals: Evals, rows: Sequence[LeaderboardRow]) -> Any:
    """Return the leaderboard as a rich renderable, one table for each set of items, because only pricers evaluated on
    the same items are ranked together. Names are data: rich markup in them is not interpreted.
    """
    from rich.console import Group
    from rich.text import Text

    currency = evals.evaluations[0].currency if evals.evaluations else "USD"
    parts: list[Any] = []
    for group in sorted({row.group for row in rows}):
        group_rows = [row for row in rows if row.group == group]
        title = f"{evals.about['split']}: {group_rows[0].n:,} items, prices in {currency}"
        if group:
            title += " (other items: not ranked with the pricers above; the report compares common items)"
        parts.append(FittedTable(title, COLUMNS, [leaderboard_cells(row, currency) for row in group_rows]))
        parts += [Text(to_single_line(note, 1_000)) for note in leaderboard_notes(group_rows, currency)]
    return Group(*parts)


def leaderboard_cells(row: LeaderboardRow, currency: str) -> list[str]:
    """Return the cells of one pricer, in the order of COLUMNS."""
    mark = "" if row.best else " =" if row.tied else ""
    miscovered = any(check.scope == "all" for check in row.miscoverage)
    return [
        row.rank_range + mark,
        to_single_line(row.name, 60),
        format_amount_interval(row.mae, currency),
        format_money(row.mae.point, currency),
        format_money(row.median_error, currency),
        f"{row.rmsle:.3f}",
        f"{row.within_20:.1%}",
        f"{row.n_unanswered:,}",
        format_speed(row),
        f"{row.coverage.point:.1%}{'*' * miscovered}" if row.coverage else "",
        f"÷ {row.lower_factor:.2f} to × {row.upper_factor:.2f}" if row.lower_factor and row.upper_factor else "",
    ]


def leaderboard_notes(rows: Sequence[LeaderboardRow], currency: str) -> list[str]:
    """Return the notes under a table: ties with the sample size needed, rank ranges, coverage, whom a model
    asks, pricers' own notes."""
    notes = []
    for row in rows:
        if row.tied:
            power = f" ({power_clause(row.n_needed, OWN_TEST)})" if row.n_needed else ""
            notes.append(f"= {row.name}: {SAME} from the best on these items{power}.")
    if open_ranks := [row.rank_range for row in rows if row.rank < row.rank_to]:
        notes.append(f"Rank {open_ranks[0]}: the paired tests (95 % each) leave each of these ranks possible.")
    levels = {f"{check.level:.0%}".replace("%", " %") for row in rows for check in row.coverage_checks}
    if levels:
        level = " or ".join(sorted(levels))
        notes.append(f"coverage: share of true prices inside the {level} intervals (p-values are Holm-corrected).")
    notes += [
        f"{'* ' * (check.scope == 'all')}{coverage_sentence(row.name, check, currency)}"
        for row in rows
        for check in row.miscoverage
    ]
    notes += [
        describe_hybrid(row.name, row.hybrid, currency, fees=row.dollars_per_1000)
        for row in rows
        if row.hybrid is not None
    ]
    return notes + sorted({row.note for row in rows if row.note})


def format_conclusion(sentences: Sequence[str]) -> Any:
    """Return the conclusion as one paragraph that wraps in the terminal; rich markup in names is not interpreted."""
    from rich.text import Text

    return Text(" ".join(to_single_line(sentence, 1_000) for sentence in sentences))
