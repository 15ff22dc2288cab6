"""The league table and the verdict for a terminal and for machines; the HTML report has the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pricesmith.evaluation.store import Evals
from pricesmith.evaluation.summary import LeagueRow
from pricesmith.measures.resample import Interval
from pricesmith.text.formatting import money, plain


def league_facts(evals: Evals, rows: Sequence[LeagueRow]) -> dict[str, Any]:
    """The league as plain values, ready for JSON."""
    return {"evals": str(evals.path), "about": evals.about, "league": [asdict(row) for row in rows]}


def amount(found: Interval, currency: str) -> str:
    """`$38.90 [36.1, 41.8]`; without an interval where there are too few families."""
    point = money(found.point, currency)
    return point if found.low is None or found.high is None else f"{point} [{found.low:,.2f}, {found.high:,.2f}]"


def place(row: LeagueRow) -> str:
    """The places that the tests leave open, `4-5`, with a mark where it is not told apart from the best."""
    return row.places + ("" if row.best else " =" if row.tied else "")


def seconds(value: float) -> str:
    """Seconds with as many digits as mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value < 10 else f"{value:.1f}"


def league_table(evals: Evals, rows: Sequence[LeagueRow]) -> Any:
    """The league as a rich table, one for each set of items; different items are never ranked together. Names are data:
    nothing in them is markup."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    currency = evals.evaluations[0].currency if evals.evaluations else "USD"
    drawn: list[Any] = []
    for group in sorted({row.group for row in rows}):
        some = [row for row in rows if row.group == group]
        table = Table(
            box=box.SIMPLE_HEAD,
            title=f"{evals.about['split']}: {some[0].n:,} items"
            + ("" if group == 0 else " (other items, so not ranked above; the report compares on common ones)"),
            title_justify="left",
        )
        for name in ("", "pricer"):
            table.add_column(name, no_wrap=True)
        for name in ("mean error [95%]", "median", "RMSLE", "within 20%", "no answer", "s/1,000", "90% holds", "x/÷"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in some:
            table.add_row(
                place(row),
                Text(plain(row.name, 60)),
                amount(row.mean_error, currency),
                money(row.median_error, currency),
                f"{row.rmsle:.3f}",
                f"{row.within_20:.1%}",
                f"{row.no_answers:,}",
                seconds(row.seconds_per_1000),
                f"{row.coverage.point:.1%}" if row.coverage else "",
                f"{row.width:.2f}" if row.width else "",
            )
        drawn.append(table)
        drawn += [Text(plain(note, 1_000)) for note in notes(some)]
    return Group(*drawn)


def notes(rows: Sequence[LeagueRow]) -> list[str]:
    """What a reader of the table must know: who is not told apart, and how many items would do it."""
    said = []
    for row in rows:
        if row.tied:
            needed = f"; about {row.needed:,} items would tell them apart" if row.needed else ""
            said.append(f"= {row.name} is not told apart from the best on these items{needed}.")
    if any(row.rank < row.rank_to for row in rows):
        said.append("A rank such as 2–3 is the places that the paired tests leave open.")
    said += sorted({row.note for row in rows if row.note})
    return said


def verdict_told(words: Sequence[str]) -> Any:
    """The verdict as one paragraph, in lines as wide as the terminal; names are data, so nothing in it is markup."""
    from rich.text import Text

    return Text(" ".join(plain(sentence, 1_000) for sentence in words))
