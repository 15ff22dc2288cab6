"""Write priced rows as JSON Lines, CSV, Parquet or XLSX; text that a spreadsheet would run as a formula is escaped."""

from __future__ import annotations

import csv
import gc
import io
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pricesmith.core.errors import UsageError
from pricesmith.text.spreadsheet import escape_formula, is_formula, unescape_formula

if TYPE_CHECKING:
    import pyarrow as pa

Cells = Mapping[str, str | float | int | bool | None]
SHEET = "prices"
MAX_LINE = 1 << 20  # characters of a first line; ours are shorter
QUOTE_NAMES = ("price", "low", "high", "note", "currency", "nothing_similar")
AUDIT_NAMES = ("asked_price", "assessment", "p_value")
PREFIX = "predicted_"
BATCH = 5_000
INT64 = 1 << 63
UNESCAPED_ROWS = 500
MAX_CELL = 8_000_000  # characters


def quote_fields(comparables: int = 0, *, audit: bool = False) -> list[tuple[str, Any]]:
    """Names and types of the added columns, with three for an audit and four for each comparable."""
    import pyarrow as pa

    types = [pa.float64(), pa.float64(), pa.float64(), pa.string(), pa.string(), pa.bool_()]
    fields = list(zip(QUOTE_NAMES, types, strict=True))
    fields += list(zip(AUDIT_NAMES, (pa.float64(), pa.string(), pa.float64()), strict=True)) if audit else []
    for number in range(1, comparables + 1):
        kinds = {"id": pa.string(), "title": pa.string(), "price": pa.float64(), "similarity": pa.float64()}
        fields += [(f"comparable_{number}_{name}", kind) for name, kind in kinds.items()]
    return fields


class InputColumns:
    """The columns of the input, in the order in which they appear, each with the types of its values."""

    def __init__(self) -> None:
        self.types: dict[str, set[str]] = {}

    def add(self, cells: Cells) -> None:
        """Note the columns of one row."""
        for name, value in cells.items():
            types = self.types.setdefault(name, set())
            if isinstance(value, int) and not isinstance(value, bool) and not -INT64 <= value < INT64:
                types.add("str")
            elif value is not None:
                types.add(type(value).__name__)

    def arrow_type(self, name: str) -> pa.DataType:
        """The narrowest Arrow type that holds all values of a column."""
        import pyarrow as pa

        types = self.types[name]
        if types and types <= {"int", "float"}:
            return pa.float64() if "float" in types else pa.int64()
        return pa.bool_() if types == {"bool"} else pa.string()


class OutputTable:
    """The columns of the output: those of the input, then the added ones under names that the input does not have."""

    def __init__(self, columns: InputColumns, comparables: int, *, audit: bool = False) -> None:
        self.columns = columns
        self.fields = quote_fields(comparables, audit=audit)
        self.added: dict[str, str] = {}
        for name, _ in self.fields:
            output = name
            while output in columns.types:
                output = PREFIX + output
            self.added[name] = output

    @property
    def names(self) -> list[str]:
        return [*self.columns.types, *self.added.values()]

    def renamed(self) -> dict[str, str]:
        """The added columns whose usual names the input has already: usual name to name in the output."""
        return {name: output for name, output in self.added.items() if name != output}

    def join(self, cells: Cells, quote: Mapping[str, Any]) -> Cells:
        """One row of the output from an input row and a row of a part."""
        return {**cells, **{output: quote[name] for name, output in self.added.items()}}

    def schema(self) -> pa.Schema:
        """The Arrow schema of the output."""
        import pyarrow as pa

        inputs = [(name, self.columns.arrow_type(name)) for name in self.columns.types]
        return pa.schema([*inputs, *((self.added[name], kind) for name, kind in self.fields)])


def write_jsonl(rows: Iterator[Cells], path: Path, table: OutputTable) -> None:
    with path.open("w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(rows: Iterator[Cells], path: Path, table: OutputTable) -> None:
    with path.open("w", encoding="utf-8", newline="") as handle:
        out = csv.writer(handle)
        names = table.names
        out.writerow([escape_formula(name) for name in names])
        for row in rows:
            out.writerow([format_cell(row.get(name)) for name in names])


def format_cell(value: Any) -> Any:
    """A value as a cell of a CSV file."""
    return str(value).lower() if isinstance(value, bool) else escape_formula(value)


def unescape_csv(path: Path) -> Iterator[bytes]:
    """The bytes of a CSV file of ours without the apostrophes that `escape_formula` put before text."""
    csv.field_size_limit(max(csv.field_size_limit(), MAX_CELL))
    with path.open(encoding="utf-8", newline="") as handle:
        buffer = io.StringIO()
        out = csv.writer(buffer)
        rows = csv.reader(handle)
        while batch := list(itertools.islice(rows, UNESCAPED_ROWS)):
            out.writerows([unescape_formula(cell) for cell in row] for row in batch)
            yield buffer.getvalue().encode()
            buffer.seek(0)
            buffer.truncate()


def write_parquet(rows: Iterator[Cells], path: Path, table: OutputTable) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = table.schema()
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    with pq.ParquetWriter(path, schema) as out:
        while batch := list(itertools.islice(rows, BATCH)):
            values = [
                {**row, **{name: str(row[name]) for name in texts if not isinstance(row.get(name, ""), str | None)}}
                for row in batch
            ]
            out.write_table(pa.Table.from_pylist(values, schema=schema))


def write_xlsx(rows: Iterator[Cells], path: Path, table: OutputTable) -> None:
    """Write a workbook.

    On a full disk openpyxl's open files fail again when they are freed, and Python would print tracebacks of that: they
    are freed here, without output, before the one error is raised.
    """
    failed: OSError | None = None
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        try:
            fill_workbook(rows, path, table)
        except OSError as error:
            failed = OSError(error.errno, error.strerror or str(error), str(path))
        gc.collect()
    finally:
        sys.unraisablehook = hook
    if failed is not None:
        raise failed


def fill_workbook(rows: Iterator[Cells], path: Path, table: OutputTable) -> None:
    from openpyxl import Workbook
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE, WriteOnlyCell

    book = Workbook(write_only=True)
    sheet = book.create_sheet(SHEET)
    names = table.names

    def text_cell(value: str) -> Any:
        cell = WriteOnlyCell(sheet, ILLEGAL_CHARACTERS_RE.sub("", value))
        cell.data_type = "s"
        if is_formula(value):
            cell.quotePrefix = True  # the same mark as an apostrophe typed before it; the value is unchanged
        return cell

    sheet.append([text_cell(name) for name in names])
    for number, row in enumerate(rows, start=2):
        if number > 1_048_576:
            raise UsageError("A sheet holds at most 1,048,576 rows", hint="Write .csv or .parquet instead.")
        values = (row.get(name) for name in names)
        sheet.append([text_cell(value) if isinstance(value, str) else value for value in values])
    book.save(path)


WRITERS: dict[str, Callable[[Iterator[Cells], Path, OutputTable], None]] = {
    ".jsonl": write_jsonl,
    ".csv": write_csv,
    ".parquet": write_parquet,
    ".xlsx": write_xlsx,
}


def is_prices(path: Path, ending: str) -> bool:
    """Whether a writer for this ending wrote a file: its last columns are the added ones. An empty file counts too."""
    if not path.stat().st_size:
        return True
    try:
        names = [re.sub(f"^({PREFIX})+", "", name) for name in READERS[ending](path)]
    except Exception:  # whatever a library raises for a file of another kind
        return False
    while names and names[-1].startswith("comparable_"):
        names.pop()
    if tuple(names[-len(AUDIT_NAMES) :]) == AUDIT_NAMES:
        names = names[: -len(AUDIT_NAMES)]
    return tuple(names[-len(QUOTE_NAMES) :]) == QUOTE_NAMES


def names_of_jsonl(path: Path) -> list[str]:
    with path.open(encoding="utf-8") as handle:
        row = json.loads(handle.readline(MAX_LINE))
    return list(row) if isinstance(row, dict) else []


def names_of_csv(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as handle:
        return next(csv.reader([handle.readline(MAX_LINE)]))


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
