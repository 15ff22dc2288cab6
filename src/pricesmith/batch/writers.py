"""Answers as a file: JSON Lines, CSV, Parquet or XLSX, table by table; nothing in them runs in a spreadsheet."""

from __future__ import annotations

import csv
import gc
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pricesmith.core.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

SHEET = "prices"
MOST_LINE = 1 << 20  # characters of a first line; ours are shorter
COLUMN_NAMES = ("id", "price", "low", "high", "currency", "note", "nothing_similar")


def output_schema(comparables: int = 0) -> pa.Schema:
    """Names and types of the output's columns, with four for each comparable."""
    import pyarrow as pa

    types = [pa.string(), pa.float64(), pa.float64(), pa.float64(), pa.string(), pa.string(), pa.bool_()]
    columns = list(zip(COLUMN_NAMES, types, strict=True))
    for number in range(1, comparables + 1):
        kinds = {"id": pa.string(), "title": pa.string(), "price": pa.float64(), "similarity": pa.float64()}
        columns += [(f"comparable_{number}_{name}", kind) for name, kind in kinds.items()]
    return pa.schema(columns)


def to_rows(tables: Iterator[pa.Table]) -> Iterator[dict[str, Any]]:
    """The rows of all tables, one after another."""
    for table in tables:
        yield from table.to_pylist()


def write_jsonl(tables: Iterator[pa.Table], path: Path, columns: pa.Schema) -> None:
    with path.open("w", encoding="utf-8") as out:
        for row in to_rows(tables):
            out.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(tables: Iterator[pa.Table], path: Path, columns: pa.Schema) -> None:
    with path.open("w", encoding="utf-8", newline="") as handle:
        out = csv.writer(handle)
        out.writerow(columns.names)
        for row in to_rows(tables):
            out.writerow([cell_of(row[name]) for name in columns.names])


def cell_of(value: Any) -> Any:
    """A value as a cell of a CSV file."""
    return str(value).lower() if isinstance(value, bool) else escape_formula(value)


def escape_formula(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula gets an apostrophe before it (OWASP, CSV injection)."""
    return "'" + value if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def write_parquet(tables: Iterator[pa.Table], path: Path, columns: pa.Schema) -> None:
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, columns) as out:
        for table in tables:
            out.write_table(table)


def write_xlsx(tables: Iterator[pa.Table], path: Path, columns: pa.Schema) -> None:
    """Write a workbook. On a full disk its library's open files fail again when they are freed, and Python would
    print tracebacks of that: they are freed here, in silence, before the one error is raised."""
    failed: OSError | None = None
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        try:
            fill_workbook(tables, path, columns)
        except OSError as error:
            failed = OSError(error.errno, error.strerror or str(error), str(path))
        gc.collect()
    finally:
        sys.unraisablehook = hook
    if failed is not None:
        raise failed


def fill_workbook(tables: Iterator[pa.Table], path: Path, columns: pa.Schema) -> None:
    from openpyxl import Workbook
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE, WriteOnlyCell

    book = Workbook(write_only=True)
    sheet = book.create_sheet(SHEET)
    sheet.append(list(columns.names))
    for number, row in enumerate(to_rows(tables), start=2):
        if number > 1_048_576:
            raise UsageError("A sheet holds at most 1,048,576 rows", hint="Write .csv or .parquet instead.")
        cells: list[Any] = []
        for name in columns.names:
            value = escape_formula(row[name])
            cell = WriteOnlyCell(sheet, ILLEGAL_CHARACTERS_RE.sub("", value) if isinstance(value, str) else value)
            if isinstance(value, str):
                cell.data_type = "s"
            cells.append(cell)
        sheet.append(cells)
    book.save(path)


WRITERS: dict[str, Callable[[Iterator[pa.Table], Path, pa.Schema], None]] = {
    ".jsonl": write_jsonl,
    ".csv": write_csv,
    ".parquet": write_parquet,
    ".xlsx": write_xlsx,
}


def is_prices(path: Path, ending: str) -> bool:
    """Whether a file is one that a writer for this ending wrote, by its columns; an empty file is nobody's loss."""
    if not path.stat().st_size:
        return True
    try:
        names = READERS[ending](path)
        comparables, rest = divmod(len(names) - len(COLUMN_NAMES), 4)
        return not rest and comparables >= 0 and names == output_schema(comparables).names
    except Exception:  # whatever a library says of a file that is something else
        return False


def names_of_jsonl(path: Path) -> list[str]:
    with path.open(encoding="utf-8") as handle:
        row = json.loads(handle.readline(MOST_LINE))
    return list(row) if isinstance(row, dict) else []


def names_of_csv(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as handle:
        return next(csv.reader([handle.readline(MOST_LINE)]))


def names_of_parquet(path: Path) -> list[str]:
    import pyarrow.parquet as pq

    with path.open("rb") as handle:
        return list(pq.read_schema(handle).names)


def names_of_xlsx(path: Path) -> list[str]:
    from openpyxl import load_workbook

    book = load_workbook(path, read_only=True)
    try:
        if book.sheetnames != [SHEET]:
            return []
        return [str(name) for name in next(book[SHEET].iter_rows(max_row=1, values_only=True))]
    finally:
        book.close()


READERS: dict[str, Callable[[Path], list[str]]] = {
    ".jsonl": names_of_jsonl,
    ".csv": names_of_csv,
    ".parquet": names_of_parquet,
    ".xlsx": names_of_xlsx,
}
