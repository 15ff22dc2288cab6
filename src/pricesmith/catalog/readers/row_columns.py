"""Rows that have the same columns, kept column by column: a mapping is made of a row only when it is asked for.

>>> rows = RowColumns(("title", "price"), [["Garden hose", "Lamp"], [24.5, 39.0]])
>>> rows[1]
{'title': 'Lamp', 'price': 39.0}
>>> get_column(rows, "price"), get_column([{"price": 7}, {}], "price")
([24.5, 39.0], [7, None])
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, overload

from pricesmith.catalog.readers.messages import Value


class RowColumns(Sequence[dict[str, Value]]):
    """Rows by column. `columns` are those of the header, (columns, rows), and at least one."""

    __slots__ = ("columns", "header")

    def __init__(self, header: Sequence[str], columns: Sequence[Sequence[Value]]) -> None:
        self.header, self.columns = tuple(header), columns
        if len(self.header) != len(columns) or len({len(column) for column in columns}) != 1:
            raise ValueError("the columns of rows have different lengths")

    def __len__(self) -> int:
        return len(self.columns[0])

    @overload
    def __getitem__(self, place: int) -> dict[str, Value]: ...
    @overload
    def __getitem__(self, place: slice) -> RowColumns: ...
    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return RowColumns(self.header, [column[place] for column in self.columns])
        return {name: column[place] for name, column in zip(self.header, self.columns, strict=True)}

    def __iter__(self) -> Iterator[dict[str, Value]]:
        header = self.header
        for cells in zip(*self.columns, strict=True):
            yield dict(zip(header, cells, strict=True))

    def get_column(self, name: str) -> Sequence[Value]:
        """The cells of a column; None for each row if there is none of this name."""
        return self.columns[self.header.index(name)] if name in self.header else [None] * len(self)

    def narrow(self, names: Collection[str]) -> RowColumns:
        """The rows with the columns of these names alone; one that is not there is None in each row."""
        return RowColumns([*names], [self.get_column(name) for name in names])

    def select(self, chosen: Sequence[bool]) -> RowColumns:
        """The rows that are chosen, (rows,)."""
        return RowColumns(self.header, [list(compress(column, chosen)) for column in self.columns])


def get_column(rows: Sequence[Mapping[str, object]], name: str) -> Sequence[object]:
    """The cells of a column of rows, None where a row has none."""
    return rows.get_column(name) if isinstance(rows, RowColumns) else [row.get(name) for row in rows]


def select_rows(rows: Sequence[Mapping[str, object]], chosen: Sequence[bool]) -> Sequence[Mapping[str, object]]:
    """The rows that are chosen, (rows,)."""
    if all(chosen):
        return rows
    return rows.select(chosen) if isinstance(rows, RowColumns) else list(compress(rows, chosen))


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as the file has it. `number` counts data rows from 1; nested values are flattened to text."""

    file: str
    number: int
    values: dict[str, str | float | int | bool | None]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that could not be read, and the stable name of the reason."""

    file: str
    number: int
    reason: str


class RowBatch(Sequence[RawRow]):
    """Rows of a file with the same columns, one after another from the number `first` on."""

    __slots__ = ("file", "first", "rows")

    def __init__(self, file: str, first: int, rows: RowColumns) -> None:
        self.file, self.first, self.rows = file, first, rows

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def numbers(self) -> range:
        """The numbers of the rows in their file."""
        return range(self.first, self.first + len(self))

    @overload
    def __getitem__(self, place: int) -> RawRow: ...
    @overload
    def __getitem__(self, place: slice) -> RowBatch: ...
    def __getitem__(self, place: Any) -> Any:
        if not isinstance(place, slice):
            return RawRow(self.file, self.numbers[place], self.rows[place])
        if place.step not in (None, 1):
            raise ValueError("a part of a batch is rows one after another")
        return RowBatch(self.file, self.first + place.indices(len(self))[0], self.rows[place])

    def __iter__(self) -> Iterator[RawRow]:
        for number, values in enumerate(self.rows, start=self.first):
            yield RawRow(self.file, number, values)
