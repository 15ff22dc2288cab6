"""Tables for a terminal of any width, and as HTML for notebooks.

    FittedTable("Title", [Column("rank"), Column("name", wraps=True), Column("seconds", right=True, drop=1)], rows)

In a terminal, columns are dropped in a fixed order and figures are never cut: where the columns do not fit side by
side, the one with the highest `drop` goes first, then the next; columns with `drop` 0 stay. A column that `wraps`
(names) breaks its lines where the rest leaves too little room. Cells are data: nothing in them is markup.

>>> html_facts("Model mlp", {"Recipe": "sparse_mlp"})
'<table><caption>Model mlp</caption><tr><th>Recipe</th><td>sparse_mlp</td></tr></table>'

`_repr_html_` of models, catalogs, quotes and leaderboards returns such HTML.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

GAP = 3  # spaces around and between two columns
NARROWEST = 8  # columns of a name that wraps


@dataclass(frozen=True)
class Column:
    """One column: its header, and what happens to it where the terminal is narrow."""

    header: str
    right: bool = False
    drop: int = 0
    wraps: bool = False
    instead_of: str = ""  # the header of a longer column, in whose place this one stands where that one is dropped


@dataclass(frozen=True)
class FittedTable:
    """Rows of plain texts under columns; rich draws it in the width that there is."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]

    def widths(self) -> list[int]:
        """The width of each column's longest text."""
        from rich.cells import cell_len

        lines = [[column.header for column in self.columns], *self.rows]
        return [max(cell_len(line[place]) for line in lines) for place in range(len(self.columns))]

    def shown(self, room: int) -> list[int]:
        """The places of the columns that are shown in `room` characters."""
        widths = self.widths()
        least = [
            min(width, NARROWEST) if column.wraps else width for column, width in zip(self.columns, widths, strict=True)
        ]
        places = [place for place, column in enumerate(self.columns) if not column.instead_of]
        while sum(least[place] + GAP for place in places) + 1 > room:  # the frame has a space on each side
            place = max(places, key=lambda place: (self.columns[place].drop, place))
            if not self.columns[place].drop:
                break
            short = [k for k, column in enumerate(self.columns) if column.instead_of == self.columns[place].header]
            places[places.index(place) : places.index(place) + 1] = [k for k in short if self.columns[place].header]
        return places

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        """The table in the width that there is; with too little for the last columns, one line for each figure."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        places, widths = self.shown(options.max_width), self.widths()
        table = Table(box=box.SIMPLE_HEAD, title=self.title, title_justify="left", padding=(0, 1))
        for place in places:
            column = self.columns[place]
            how: dict[str, Any] = {"overflow": "fold"} if column.wraps else {"min_width": widths[place]}
            table.add_column(
                Text(column.header), justify="right" if column.right else "left", no_wrap=not column.wraps, **how
            )
        for row in self.rows:
            table.add_row(*(Text(row[place]) for place in places))
        yield table


def html_facts(caption: str, facts: Mapping[str, object]) -> str:
    """A table of names and values. Everything is escaped: names and values may come from data."""
    rows = "".join(f"<tr><th>{escape(str(name))}</th><td>{escape(str(fact))}</td></tr>" for name, fact in facts.items())
    return f"<table><caption>{escape(caption)}</caption>{rows}</table>"


def html_table(caption: str, header: Sequence[str], rows: Sequence[Sequence[object]], notes: Sequence[str] = ()) -> str:
    """A table with a header, and notes below it; everything is escaped."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    below = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return f"<table><caption>{escape(caption)}</caption><tr>{head}</tr>{body}</table>{below}"
