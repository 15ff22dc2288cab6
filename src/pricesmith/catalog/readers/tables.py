"""Parquet and XLSX from unknown sources, a few rows at a time. Runs in the child (`parse`).

One raw row: {"title": "Hose", "price": 24.5, "features": ["25 m", "brass"], "added": datetime(2024, 5, 1)}
becomes ["Hose", 24.5, "25 m\\nbrass", "2024-05-01T00:00:00"].
"""

from __future__ import annotations

import datetime
import math
import os
import re
import zipfile
from collections.abc import Iterator
from functools import cache
from typing import Any, BinaryIO

from pricesmith.catalog.readers.jsonl import flatten_value
from pricesmith.catalog.readers.sandbox import FREE, TOO_LARGE, WRONG_FIELDS, FileRefused, MessageWriter, Scan, Value
from pricesmith.text.currency import find_currencies, normalize_sign

PARQUET_ROWS = 64  # read at a time: a cell may be a million times larger than the file says
XLSX_ROWS = 1_048_576  # that a sheet can have
XLSX_PARTS = 10_000
SHOWN = re.compile(r"""\[\$([^]-]+)[^]]*\]|"([^"]+)"|(?<!\[)([$€£¥₹])""")  # what an Excel format writes beside a number


def parquet(file: BinaryIO, limits: Any, answer: MessageWriter) -> None:
    """A Parquet file. What it will unpack to is judged by its footer first, then by what comes."""
    import pyarrow.parquet as pq

    size = os.fstat(file.fileno()).st_size
    table = pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False, page_checksum_verification=True)
    footer = table.metadata
    if footer.num_rows > limits.rows:
        raise FileRefused("it has too many rows", f"{footer.num_rows:,}", f"{limits.rows:,} rows", "Split the file.")
    header = answer.header(list(table.schema_arrow.names))
    unpacked = sum(footer.row_group(group).total_byte_size for group in range(footer.num_row_groups))
    check_unpacked_size(max(unpacked, footer.num_rows * len(header)), size, limits)
    if isinstance(answer, Scan) and not answer.currency and not has_text(table.schema_arrow, answer.column):
        return
    for batch in table.iter_batches(batch_size=PARQUET_ROWS, use_threads=False):
        columns = [column_values(column) for column in batch.columns]
        for values in zip(*columns, strict=True):
            write_row(list(values), len(header), limits, answer)
        check_unpacked_size(answer.weight, size, limits)


def has_text(schema: Any, name: str) -> bool:
    """Whether a column may hold text; of a name that stands twice nothing is known."""
    import pyarrow as pa

    place = schema.get_field_index(name)
    return place < 0 or not (pa.types.is_floating(schema.types[place]) or pa.types.is_integer(schema.types[place]))


def column_values(column: Any) -> list[Any]:
    """An Arrow column as values. Text that is not UTF-8 comes with replacement characters."""
    try:
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError:
        import pyarrow as pa

        cells = column.cast(pa.large_binary()).to_pylist()
        values = [cell.decode("utf-8", "replace") if cell is not None else None for cell in cells]
    return values


def check_unpacked_size(unpacked: int, packed: int, limits: Any) -> None:
    """Raise FileRefused where a file unpacks to more than a table does."""
    if unpacked > limits.bytes:
        most = f"{limits.bytes:,} bytes"
        raise FileRefused("it is too large unpacked", f"{unpacked:,} bytes", most, "Split the file.")
    if unpacked > max(FREE, limits.ratio * packed):
        raise FileRefused(
            "it unpacks to far more than a table does",
            f"over {unpacked // max(packed, 1)} times its size",
            f"{limits.ratio:g} times",
            "If you trust it, save it as plain CSV and give that.",
        )


def xlsx(file: BinaryIO, limits: Any, answer: MessageWriter) -> None:
    """The first visible sheet of an Excel workbook that has a cell; its first row with anything in it is the header.

    Formulas give what Excel saved as their results.
    """
    import openpyxl

    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
        if len(parts) > XLSX_PARTS:
            raise FileRefused("it has too many parts", f"{len(parts):,}", f"{XLSX_PARTS:,}", "Save it as CSV.")
        check_unpacked_size(sum(part.file_size for part in parts), os.fstat(file.fileno()).st_size, limits)
    book = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
    if not book.worksheets:
        raise FileRefused("it has no sheet with cells", "", "", "Save the table as CSV.")
    visible = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"]
    for sheet in visible or book.worksheets:
        sheet.reset_dimensions()
        if table_of(sheet, len(book.worksheets), limits, answer):
            return
    raise FileRefused("it is empty", f"no cell in its {'visible ' if visible else ''}sheets", "", "Leave it out.")


def table_of(sheet: Any, sheets: int, limits: Any, answer: MessageWriter) -> bool:
    """The rows of one sheet; False where it has none. Rows without a value keep their place."""
    header: list[str] | None = None
    for cells in sheet_rows(sheet, limits):
        if header is not None:
            write_row(cells, len(header), limits, answer) if cells else answer.blank()
        elif cells:
            if sheets > 1:
                answer.say(note=f"of its {sheets} sheets, {sheet.title!r} is read: the first visible one with cells")
            header = answer.header(["" if cell is None else str(cell) for cell in cells])
    return header is not None


def sheet_rows(sheet: Any, limits: Any) -> Iterator[list[Any]]:
    """The rows of a sheet, each without its empty end; an empty list is a blank row."""
    for number, row in enumerate(sheet.iter_rows()):
        if number > XLSX_ROWS:
            raise FileRefused("it has too many rows", f"over {XLSX_ROWS:,}", f"{XLSX_ROWS:,}", "Save it as CSV.")
        cells = [cell.value if cell.value is None else with_currency(cell) for cell in row]
        while cells and (cells[-1] is None or cells[-1] == ""):
            cells.pop()
        yield cells


def with_currency(cell: Any) -> Any:
    """A cell's value; a number that its format shows as money gets the sign, or 24.5 € would be taken for dollars."""
    value = cell.value
    if value.__class__ not in (int, float) or cell.number_format == "General":
        return value
    sign = currency_of(cell.number_format)
    return f"{sign} {value:.6f}" if sign and math.isfinite(value) else value


def says_currency(sign: str) -> bool:
    """Whether a text in an Excel format is a currency: `0 "km"` and `0 "L"` are units."""
    short = sign.isascii() and sign.isalpha() and (len(sign) == 1 or (len(sign) == 2 and sign.islower()))
    return (not short or sign in {"kr", "rs", "zl"}) and bool(find_currencies(normalize_sign(sign)))


@cache
def currency_of(style: str) -> str:
    """The currency that an Excel format shows: `€` of `#,##0.00 [$€-407]`, empty where there is none."""
    shown = (next(filter(None, groups)).strip() for groups in SHOWN.findall(style.partition(";")[0]))
    return next((sign for sign in shown if says_currency(sign)), "")


def write_row(cells: list[Any], width: int, limits: Any, answer: MessageWriter) -> None:
    """One row as plain values, filled up to the header's width; or the reason why it is none."""
    if len(cells) > width:
        answer.row(WRONG_FIELDS, 0)
        return
    size = 0
    for place, cell in enumerate(cells):
        kind = cell.__class__
        if kind is not str and kind is not int and kind is not bool and cell is not None:
            cell = cells[place] = plain_cell(cell)
        if cell.__class__ is str:
            size += len(cell)
            if len(cell) > limits.cell:
                answer.row(TOO_LARGE, 0)
                return
    cells.extend([None] * (width - len(cells)))
    answer.row(cells, size + 8 * width)


def plain_cell(cell: Any) -> Value:
    """A cell that is no text and no whole number, as what JSON can hold; None for bytes that are no text."""
    if isinstance(cell, float):
        return cell if cell - cell == 0 else None if cell != cell else str(cell)
    if isinstance(cell, bytes):
        try:
            return cell.decode("utf-8")
        except UnicodeDecodeError:
            return None
    if isinstance(cell, datetime.datetime | datetime.date | datetime.time):
        return cell.isoformat()
    if isinstance(cell, list | dict | tuple):
        try:
            return flatten_value(cell)
        except RecursionError:
            return None
    return str(cell)
