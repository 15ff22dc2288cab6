"""The leaderboard and the conclusion for a terminal and for machines; the HTML report has the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pricesmith.core.fitted_table import Column, FittedTable
from pricesmith.evaluation.leaderboard import LeaderboardRow
from pricesmith.evaluation.results import Evals
from pricesmith.text.formatting import (
    format_amount_interval,
    format_money,
    to_single_line,
)


def leaderboard_dict(evals: Evals, rows: Sequence[LeaderboardRow]) -> dict[str, Any]:
    """The leaderboard as plain values, ready for JSON."""
    return {"evals": str(evals.path), "about": evals.about, "leaderboard": [asdict(row) for row in rows]}


def format_rank(row: LeaderboardRow) -> str:
    """The places that the tests leave open, `4-5`, with a mark where it is not told apart from the best."""
    return row.rank_range + ("" if row.best else " =" if row.tied else "")


def format_seconds_short(value: float) -> str:
    """Seconds with as many digits as mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value < 10 else f"{value:.1f}"


def leaderboard_table(evals: Evals, rows: Sequence[LeaderboardRow]) -> Any:
    """The leaderboard as a rich table, one for each set of items; different items are never ranked together. Names are data:
    nothing in them is markup."""
    from rich.console import Group
    from rich.text import Text

    currency = evals.evaluations[0].currency if evals.evaluations else "USD"
    drawn: list[Any] = []
    for group in sorted({row.group for row in rows}):
        some = [row for row in rows if row.group == group]
        others = "" if group == 0 else " (other items, so not ranked above; the report compares on common ones)"
        title = f"{evals.about['split']}: {some[0].n:,} items{others}"
        drawn.append(FittedTable(title, COLUMNS, [leaderboard_line(row, currency) for row in some]))
        drawn += [Text(to_single_line(note, 1_000)) for note in leaderboard_notes(some)]
    return Group(*drawn)


COLUMNS = (  # the highest `drop` goes first where the terminal is narrow
    Column(""),
    Column("pricer", wraps=True),
    Column("mean error [95%]", right=True, drop=1),
    Column("mean error", right=True, instead_of="mean error [95%]"),
    Column("median", right=True, drop=3),
    Column("RMSLE", right=True, drop=7),
    Column("within 20%", right=True, drop=4),
    Column("no answer", right=True, drop=6),
    Column("s/1,000", right=True, drop=8),
    Column("90% holds", right=True, drop=2),
    Column("price", right=True, drop=5),
)


def leaderboard_line(row: LeaderboardRow, currency: str) -> list[str]:
    """The cells of one pricer."""
    return [
        format_rank(row),
        to_single_line(row.name, 60),
        format_amount_interval(row.mae, currency),
        format_money(row.mae.point, currency),
        format_money(row.median_error, currency),
        f"{row.rmsle:.3f}",
        f"{row.within_20:.1%}",
        f"{row.n_unanswered:,}",
        format_seconds_short(row.seconds_per_1000),
        f"{row.coverage.point:.1%}{'*' * any(one.kind == 'all' for one in row.miscoverage)}" if row.coverage else "",
        f"÷ {row.lower_factor:.2f} to × {row.upper_factor:.2f}" if row.lower_factor and row.upper_factor else "",
    ]


def leaderboard_notes(rows: Sequence[LeaderboardRow]) -> list[str]:
    """What a reader of the table must know: who is not told apart, and how many items would do it."""
    said = []
    for row in rows:
        if row.tied:
            needed = f"; about {row.n_needed:,} items would tell them apart" if row.n_needed else ""
            said.append(f"= {row.name} is not told apart from the best on these items{needed}.")
    if any(row.rank < row.rank_to for row in rows):
        said.append("A rank such as 2–3 is the places that the paired tests leave open.")
    said += [line for row in rows for line in coverage_notes(row)]
    said += sorted({row.note for row in rows if row.note})
    return said


def coverage_notes(row: LeaderboardRow) -> list[str]:
    """Where the coverage of a pricer's intervals is significantly off its level, in a sentence for each."""
    lines = []
    for one in row.miscoverage:
        where = {"all": "", "band": f" where it quotes {one.label}", "category": f" in the category {one.label}"}
        lines.append(
            f"{'* ' * (one.kind == 'all')}{row.name}: its {one.level:.0%} intervals hold {one.coverage:.1%} of "
            f"{one.n:,} prices{where[one.kind]}, significantly {'less' if one.coverage < one.level else 'more'} than "
            f"{one.level:.0%} (p = {one.p:.2g}, corrected for all bands and categories)."
        )
    return lines


def format_conclusion(words: Sequence[str]) -> Any:
    """The conclusion as one paragraph, in lines as wide as the terminal; names are data, so nothing in it is markup."""
    from rich.text import Text

    return Text(" ".join(to_single_line(sentence, 1_000) for sentence in words))
