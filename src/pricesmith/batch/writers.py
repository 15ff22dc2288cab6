"""Write priced rows as JSON Lines, CSV, Parquet or XLSX; text that a spreadsheet would run as a formula is escaped."""

from __future__ import annotations

import csv
import gc
import io
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pricesmith.batch.part_table import ENCODER, Column, InputColumns, PartTable, to_json
from pricesmith.core.errors import UsageError
from pricesmith.text.spreadsheet import escape_formula, is_formula, unescape_formula

if TYPE_CHECKING:
    import pyarrow as pa

SHEET = "prices"
MAX_LINE = 1 << 20  # characters of a first line; ours are shorter
QUOTE_NAMES = ("price", "low", "high", "note", "currency", "nothing_similar")
AUDIT_NAMES = ("asked_price", "assessment", "p_value")
PREFIX = "predicted_"
ROW_GROUP = 5_000
MAX_SHEET_ROWS = 1_048_576
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


def part_schema(comparables: int = 0, *, audit: bool = False) -> pa.Schema:
    """The columns of a part that are added to those of the input."""
    import pyarrow as pa

    paid = [("cost_usd", pa.float64()), ("quote_note", pa.string())]
    return pa.schema([("id", pa.string()), *quote_fields(comparables, audit=audit), *paid])


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

    def cells(self, part: PartTable) -> list[Column]:
        """The columns of the output that a part has, (columns, rows)."""
        inputs = [part.cells(name) for name in self.columns.types]
        return [*inputs, *(part.array(name).to_pylist() for name in self.added)]

    def schema(self) -> pa.Schema:
        """The Arrow schema of the output."""
        import pyarrow as pa

        inputs = [(name, self.columns.arrow_type(name)) for name in self.columns.types]
        return pa.schema([*inputs, *((self.added[name], kind) for name, kind in self.fields)])


def write_jsonl(parts: Iterator[PartTable], path: Path, table: OutputTable) -> None:
    """Write each row with its own keys, in their order, and the added ones."""
    with path.open("w", encoding="utf-8") as out:
        for part in parts:
            out.writelines(json_lines(part, table))


def json_lines(part: PartTable, table: OutputTable) -> list[str]:
    """The rows of a part as lines."""
    columns = {name: part.json_cells(name) for name in part.places}
    columns |= {output: to_json(part.array(name).to_pylist()) for name, output in table.added.items()}
    lines = [""] * len(part)
    for code, keys in enumerate(part.keys):
        names = [*keys, *table.added.values()]
        members = ", ".join(f"{ENCODER.encode(name)}: ".replace("%", "%%") + "%s" for name in names)
        template = f"{{{members}}}\n"
        places = np.flatnonzero(part.codes == code).tolist()
        if len(places) == len(part):
            return [template % cells for cells in zip(*(columns[name] for name in names), strict=True)]
        own = [[columns[name][place] for place in places] for name in names]
        for place, cells in zip(places, zip(*own, strict=True), strict=True):
            lines[place] = template % cells
    return lines


def write_csv(parts: Iterator[PartTable], path: Path, table: OutputTable) -> None:
    with path.open("w", encoding="utf-8", newline="") as handle:
        out = csv.writer(handle)
        out.writerow([escape_formula(name) for name in table.names])
        for part in parts:
            columns = [format_cells(cells) for cells in table.cells(part)]
            out.writerows(zip(*columns, strict=True))


def format_cells(cells: Column) -> Column:
    """The cells of a column as those of a CSV file."""
    classes = set(map(type, cells))
    if not classes & {str, bool}:
        return cells
    if bool in classes:
        cells = [str(cell).lower() if isinstance(cell, bool) else cell for cell in cells]
    return [cell if cell is None else escape_formula(cell) for cell in cells]


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


def write_parquet(parts: Iterator[PartTable], path: Path, table: OutputTable) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = table.schema()
    waiting = schema.empty_table()
    with pq.ParquetWriter(path, schema) as out:
        for part in parts:
            arrays = [part.input_array(name, schema.field(name).type) for name in table.columns.types]
            arrays += [part.array(name).cast(kind) for name, kind in table.fields]
            waiting = pa.concat_tables([waiting, pa.Table.from_arrays(arrays, schema=schema)])
            while len(waiting) >= ROW_GROUP:
                out.write_table(waiting[:ROW_GROUP])
                waiting = waiting[ROW_GROUP:]
        if len(waiting):
            out.write_table(waiting)


def write_xlsx(parts: Iterator[PartTable], path: Path, table: OutputTable) -> None:
    """Write a workbook.

    On a full disk openpyxl's open files fail again when they are freed, and Python would print tracebacks of that: they
    are freed here, without output, before the one error is raised.
    """
    failed: OSError | None = None
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        try:
            fill_workbook(parts, path, table)
        except OSError as error:
            failed = OSError(error.errno, error.strerror or str(error), str(path))
        gc.collect()
    finally:
        sys.unraisablehook = hook
    if failed is not None:
        raise failed


def fill_workbook(parts: Iterator[PartTable], path: Path, table: OutputTable) -> None:
    from openpyxl import Workbook
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE, WriteOnlyCell

    book = Workbook(write_only=True)
    sheet = book.create_sheet(SHEET)

    def text_cell(value: str) -> Any:
        cell = WriteOnlyCell(sheet, ILLEGAL_CHARACTERS_RE.sub("", value))
        cell.data_type = "s"
        if is_formula(value):
            cell.quotePrefix = True  # the same mark as an apostrophe typed before it; the value is unchanged
        return cell

    sheet.append([text_cell(name) for name in table.names])
    room = MAX_SHEET_ROWS - 1
    for part in parts:
        room -= len(part)
        if room < 0:
            raise UsageError("A sheet holds at most 1,048,576 rows", hint="Write .csv or .parquet instead.")
        for cells in zip(*table.cells(part), strict=True):
            sheet.append([text_cell(cell) if isinstance(cell, str) else cell for cell in cells])
    book.save(path)


WRITERS: dict[str, Callable[[Iterator[PartTable], Path, OutputTable], None]] = {
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
