"""Parquet from unknown sources, a few rows at a time. Runs in the child (`parse`).

One raw row: {"title": "Hose", "price": 24.5, "features": ["25 m", "brass"], "added": datetime(2024, 5, 1)}
becomes ["Hose", 24.5, "25 m\\nbrass", "2024-05-01T00:00:00"].
"""

from __future__ import annotations

import datetime
import os
from typing import Any, BinaryIO

from pricesmith.catalog.readers.jsonl import flatten_value
from pricesmith.catalog.readers.messages import FREE, TOO_LARGE, WRONG_FIELDS, FileRefused, MessageWriter, Scan, Value

PARQUET_ROWS = 64  # read at a time: a cell may be a million times larger than the file says


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
    if isinstance(answer, Scan) and not answer.currency:
        scanned = [answer.column, *([answer.sale] if answer.sale else [])]
        if not any(has_text(table.schema_arrow, name) for name in scanned):
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
