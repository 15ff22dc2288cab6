"""DataFrames of pandas, polars and pyarrow in and out, through narwhals: none of these libraries is needed.

>>> import pyarrow as pa
>>> to_raw_rows(pa.table({"name": ["Garden hose"], "price": [24.5]}))[0].values
{'name': 'Garden hose', 'price': 24.5}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pricesmith.catalog.readers.sources import RawRow
from pricesmith.core.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa
    from narwhals.typing import IntoDataFrame

FrameT = TypeVar("FrameT", bound="IntoDataFrame")
NAME = "the DataFrame"
PREFIX = "predicted_"


def is_dataframe(value: object) -> bool:
    """Whether a value is a DataFrame: a table of pandas, polars, pyarrow or another library that narwhals reads."""
    if value is None or isinstance(value, str | list | tuple | dict):  # no need to import narwhals
        return False
    import narwhals as nw

    frame = nw.from_native(value, pass_through=True)
    if isinstance(frame, nw.LazyFrame):
        raise UsageError(
            "A lazy frame has no rows yet",
            got=type(value).__name__,
            allowed="a DataFrame of pandas, polars or pyarrow",
            hint="Call .collect() on it first.",
        )
    return isinstance(frame, nw.DataFrame)


def to_arrow(frame: IntoDataFrame) -> pa.Table:
    """A DataFrame as an Arrow table with text as column names, without an index.

    A column of mixed types becomes a column of text. Raises UsageError if two columns have one name.
    """
    import narwhals as nw
    import pyarrow as pa

    table = nw.from_native(frame, eager_only=True)
    names = [str(name) for name in table.columns]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise UsageError("Two columns have the same name", got=", ".join(twice), hint="Rename one of them.")
    columns = []
    for name in table.columns:
        series = table.get_column(name)
        try:
            columns.append(series.to_arrow())
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            columns.append(pa.array([to_text(value) for value in series.to_list()], pa.large_string()))
    return pa.table(dict(zip(names, columns, strict=True)))


def to_text(value: Any) -> str | None:
    """A cell of a column of mixed types as text; None if it is missing."""
    return None if value is None or value != value else str(value)


def to_raw_rows(frame: IntoDataFrame) -> list[RawRow]:
    """The rows of a DataFrame as a file's rows are read; numbers count from 1."""
    table = to_arrow(frame)
    return build_rows(NAME, table.to_pylist())


def build_rows(name: str, rows: Sequence[Mapping[str, Any]]) -> list[RawRow]:
    """Rows of Python values as a file's rows are read: dates and nested values become text, NaN is missing."""
    from pricesmith.catalog.readers.tables import plain_cell

    plain = (str, int, bool)
    return [
        RawRow(
            name,
            number,
            {
                str(key): value if value is None or value.__class__ in plain else plain_cell(value)
                for key, value in row.items()
            },
        )
        for number, row in enumerate(rows, start=1)
    ]


def write_parquet(frame: IntoDataFrame, path: Path) -> None:
    """Write a DataFrame as a Parquet file, whose bytes depend on its columns and rows only."""
    import pyarrow.parquet as pq

    pq.write_table(to_arrow(frame), path)


def add_columns(frame: FrameT, columns: Mapping[str, Sequence[Any]], types: Mapping[str, type]) -> FrameT:
    """The DataFrame with further columns, in the same library and with the same index.

    A name that the frame already has gets the prefix `predicted_`, so that no column is overwritten. Raises UsageError
    if that name is taken too. `types` gives each column's type: float or str.
    """
    import narwhals as nw

    table = nw.from_native(frame, eager_only=True)
    taken = {str(name) for name in table.columns}
    new = []
    for name, values in columns.items():
        free = PREFIX + name if name in taken else name
        if free in taken:
            raise UsageError(
                f"The DataFrame has the columns {name!r} and {free!r} already",
                got=f"{name}, {free}",
                hint=f"Drop the column {free!r}, which an earlier prediction may have added.",
            )
        dtype = nw.String if types[name] is str else nw.Float64
        new.append(nw.new_series(free, list(values), dtype, backend=table.implementation))
    result: FrameT = table.with_columns(*new).to_native()
    return result
