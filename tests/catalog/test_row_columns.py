"""Rows that are kept by column are the same rows."""

from __future__ import annotations

import copy
import io
import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricesmith.catalog.readers.messages import MessageWriter, fold_name
from pricesmith.catalog.readers.row_columns import RawRow, RowBatch, RowColumns, get_column, select_rows

HEADER = ("title", "price")
cells = st.none() | st.integers() | st.text(max_size=5)
tables = st.lists(st.tuples(cells, cells), min_size=1, max_size=9)
LIMITS = SimpleNamespace(rows=100, columns=10, seconds=0.0)


def batch_of(table: list[tuple[Any, Any]]) -> tuple[RowBatch, list[RawRow]]:
    """Rows 11, 12 and so on, by column and one by one."""
    columns = RowColumns(HEADER, [list(column) for column in zip(*table, strict=True)])
    rows = [RawRow("shop.csv", number, dict(zip(HEADER, row, strict=True))) for number, row in enumerate(table, 11)]
    return RowBatch("shop.csv", 11, columns), rows


@given(tables, st.slices(9).filter(lambda part: part.step == 1 or part.step is None), st.data())
def test_a_batch_by_column_is_its_rows(table: list[tuple[Any, Any]], part: slice, data: st.DataObject) -> None:
    batch, rows = batch_of(table)
    assert list(batch) == rows
    assert len(batch) == len(rows)
    assert (batch[0], batch[-1]) == (rows[0], rows[-1])
    assert list(batch[part]) == rows[part]
    assert list(copy.deepcopy(batch)) == rows
    values = [row.values for row in rows]
    for name in (*HEADER, "weight"):
        assert list(get_column(batch.rows, name)) == get_column(values, name) == [row.get(name) for row in values]
    chosen = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    assert list(select_rows(batch.rows, chosen)) == list(select_rows(values, chosen))
    narrow = [{"price": row["price"], "weight": None} for row in values]
    assert list(batch.rows.narrow(["price", "weight"])) == narrow


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="different lengths"):
        RowColumns(HEADER, [["Hose"], []])
    with pytest.raises(ValueError, match="different lengths"):
        RowColumns(HEADER, [["Hose"]])


def test_rows_are_sent_by_column_unless_one_of_them_is_another_kind() -> None:
    out = io.BytesIO()
    writer = MessageWriter(LIMITS, out)
    writer.header(["title", "price"])
    for entries in ([["Hose", 1], ["Lamp", 2]], [["Hose", 1], "wrong number of fields"], [{"title": "Hose"}]):
        for entry in entries:
            writer.row(entry, 1)
        writer.send()
    assert [json.loads(line) for line in out.getvalue().splitlines()] == [
        {"header": ["title", "price"]},
        {"columns": [["Hose", "Lamp"], [1, 2]]},
        {"rows": [["Hose", 1], "wrong number of fields"]},
        {"rows": [{"title": "Hose"}]},
    ]


@given(
    st.lists(st.text("aAßİ \t\n\0\ufeff", max_size=5), min_size=1, max_size=4),
    st.text("aAßİſ \t\n\0\ufeff", max_size=9) | st.none() | st.integers(),
)
def test_names_of_columns_are_found_among_cells(header: list[str], cell: Any) -> None:
    writer = MessageWriter(LIMITS, io.BytesIO())
    writer.set_keys(header)
    assert writer.is_name(cell) is (isinstance(cell, str) and fold_name(cell) in writer.key_set)
