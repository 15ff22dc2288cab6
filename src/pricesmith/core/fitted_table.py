"""A table for a terminal of any width: columns are dropped in a fixed order, figures are never cut.

    FittedTable("Title", [Column("rank"), Column("name", wraps=True), Column("seconds", right=True, drop=1)], rows)

Where the columns do not fit side by side, the one with the highest `drop` goes first, then the next; columns with
`drop` 0 stay. A column that `wraps` (names) breaks its lines where the rest leaves too little room. Cells are data:
nothing in them is markup.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
