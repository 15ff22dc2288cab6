"""The leaderboard and the conclusion for a terminal; the HTML report has the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pricesmith.core.tables import Column, FittedTable
from pricesmith.evaluation.leaderboard import LeaderboardRow
from pricesmith.evaluation.results import Evals
from pricesmith.reporting.json_output import leaderboard_row_dict
from pricesmith.reporting.narrative import SAME, coverage_sentence, power_clause
from pricesmith.text.formatting import format_amount_interval, format_money, to_single_line

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
        format_seconds_short(row.seconds_per_1000),
        f"{row.coverage.point:.1%}{'*' * miscovered}" if row.coverage else "",
        f"÷ {row.lower_factor:.2f} to × {row.upper_factor:.2f}" if row.lower_factor and row.upper_factor else "",
    ]


def format_seconds_short(value: float) -> str:
    """Format seconds with two significant digits, none after the point above 100."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value < 10 else f"{value:.1f}"


def leaderboard_notes(rows: Sequence[LeaderboardRow], currency: str) -> list[str]:
    """Return the notes under a table: ties with the sample size needed, rank ranges, coverage, pricers' own notes."""
    notes = []
    for row in rows:
        if row.tied:
            power = f" ({power_clause(row.n_needed)})" if row.n_needed else ""
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
    return notes + sorted({row.note for row in rows if row.note})


def format_conclusion(sentences: Sequence[str]) -> Any:
    """Return the conclusion as one paragraph that wraps in the terminal; rich markup in names is not interpreted."""
    from rich.text import Text

    return Text(" ".join(to_single_line(sentence, 1_000) for sentence in sentences))
