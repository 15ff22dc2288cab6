"""Parts by column give the files that rows, one by one, would."""

from __future__ import annotations

import csv
import io
import json
import math
from array import array
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricesmith.batch import writers
from pricesmith.batch.part_table import InputCells, InputColumns, PartRows, PartTable, build_part, to_json
from pricesmith.batch.parts import count_repeated, join_parts, read_part, write_part
from pricesmith.batch.writers import OutputTable, part_schema, write_csv, write_jsonl, write_parquet
from pricesmith.catalog.readers.row_columns import RowBatch, RowColumns
from pricesmith.catalog.readers.sources import BadRow, RawRow
from pricesmith.core.errors import InputError
from pricesmith.text.spreadsheet import escape_formula

WORK = "work"
CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -5, 2**53, 2**53 + 1, 2**62, 2**63, -(2**63), -(2**70)]),
    st.floats(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    st.sampled_from(["=1+1", "'-x", "-5", 'say "so"', "a,b\nc", "%s", "\u2028"]),
)
NAMES = st.sampled_from(["a", "b %s", "price", "predicted_price", 'q"', "=n", "keys", "input_0", "ü"])
ROWS = st.lists(st.one_of(st.none(), st.dictionaries(NAMES, CELLS, max_size=5)), min_size=1, max_size=12)


def make_part(rows: list[dict[str, Any] | None], first: int, *, by_column: bool) -> pa.Table:
    """The table of some rows, None for a row that could not be read."""
    batches: list[Any] = []
    for number, row in enumerate(rows, first):
        if row is None:
            batches.append([BadRow("f", number, "broken")])
        elif by_column and row:
            batches.append(RowBatch("f", number, RowColumns([*row], [[cell] for cell in row.values()])))
        elif batches and isinstance(batches[-1], list):
            batches[-1].append(RawRow("f", number, row))
        else:
            batches.append([RawRow("f", number, row)])
    added: dict[str, list[Any]] = {field.name: [None] * len(rows) for field in part_schema()}
    added |= {"price": [float(first + place) for place in range(len(rows))], "currency": ["USD"] * len(rows)}
    added |= {
        "nothing_similar": [(first + place) % 2 == 0 for place in range(len(rows))],
        "note": ["a, =b"] * len(rows),
    }
    return build_part(InputCells.from_rows(PartRows(batches)), added, part_schema(), WORK)


def expected_rows(
    tables: list[pa.Table], rows: list[dict[str, Any] | None], table: OutputTable
) -> list[dict[str, Any]]:
    """The rows of the output, one by one: own cells, as far as JSON holds them, and added ones."""
    added = [row for part in tables for row in part.select(list(table.added)).to_pylist()]
    return [
        {name: finite(cell) for name, cell in (row or {}).items()}
        | {table.added[name]: cell for name, cell in more.items()}
        for row, more in zip(rows, added, strict=True)
    ]


def finite(cell: Any) -> Any:
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell


def csv_cell(cell: Any) -> Any:
    return str(cell).lower() if isinstance(cell, bool) else escape_formula(cell)


@pytest.mark.parametrize("by_column", [False, True], ids=["rows", "columns"])
@given(first=ROWS, second=ROWS)
def test_a_file_is_that_of_rows_one_by_one(
    by_column: bool, tmp_path_factory: pytest.TempPathFactory, first: list[Any], second: list[Any]
) -> None:
    """In JSON Lines each row with its own keys in their order, in CSV and Parquet with all columns; cells of any kind,
    names that the added columns or the parts have too, rows that could not be read."""
    folder = tmp_path_factory.mktemp("parts")
    tables = [make_part(first, 1, by_column=by_column), make_part(second, len(first) + 1, by_column=by_column)]
    columns = InputColumns()
    for number, part in enumerate(tables):
        write_part(folder / f"{number}.parquet", part)
        columns.add(pq.read_schema(folder / f"{number}.parquet"))
    table = OutputTable(columns, 0)
    rows = expected_rows(tables, [*first, *second], table)

    def parts() -> Any:
        return (PartTable(read_part(folder / f"{number}.parquet", WORK)) for number in range(2))

    write_jsonl(parts(), folder / "out.jsonl", table)
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    assert (folder / "out.jsonl").read_text(encoding="utf-8").split("\n") == [*lines, ""]
    write_csv(parts(), folder / "out.csv", table)
    expected = io.StringIO()
    out = csv.writer(expected)
    out.writerow([escape_formula(name) for name in table.names])
    out.writerows([csv_cell(row.get(name)) for name in table.names] for row in rows)
    assert (folder / "out.csv").read_bytes().decode() == expected.getvalue()
    write_parquet(parts(), folder / "out.parquet", table)
    stored = pq.read_table(folder / "out.parquet")
    for name in columns.types:
        cells = [row.get(name) for row in rows]
        text = pa.types.is_string(columns.arrow_type(name))
        assert stored.column(name).to_pylist() == [str(c) if text and c is not None else c for c in cells]
        kinds = {type(cell) for cell in cells} - {type(None)}
        assert text == (kinds not in ({bool}, {int}, {float}, {int, float}) or stored_as_text(cells))


def stored_as_text(cells: list[Any]) -> bool:
    """Whether no Arrow number holds the cells of a column: integers beyond 64 bits, or beside decimal numbers those
    that a decimal number does not hold."""
    whole = [cell for cell in cells if type(cell) is int]
    if any(not -(2**63) <= cell < 2**63 for cell in whole):
        return True
    return any(abs(cell) > 2**53 for cell in whole) and any(isinstance(cell, float) for cell in cells)


def test_the_row_groups_of_a_parquet_file_do_not_depend_on_the_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of one and of seven rows give the same bytes."""
    monkeypatch.setattr(writers, "ROW_GROUP", 4)
    rows = [{"a": place, "b": f"text {place}"} for place in range(10)]
    for size in (1, 7):
        tables = [make_part(rows[at : at + size], at + 1, by_column=True) for at in range(0, 10, size)]
        columns = InputColumns()
        for part in tables:
            columns.add(part.schema)
        write_parquet(map(PartTable, tables), tmp_path / f"{size}.parquet", OutputTable(columns, 0))
    assert (tmp_path / "1.parquet").read_bytes() == (tmp_path / "7.parquet").read_bytes()
    file = pq.ParquetFile(tmp_path / "1.parquet")
    assert [file.metadata.row_group(group).num_rows for group in range(3)] == [4, 4, 2]


def test_a_part_of_other_work_is_refused(tmp_path: Path) -> None:
    """Another command may have replaced it while this one ran."""
    write_part(tmp_path / "part.parquet", make_part([{"a": 1}], 1, by_column=False))
    with pytest.raises(InputError, match="replaced by another command"):
        read_part(tmp_path / "part.parquet", "other work")


def test_a_part_of_an_earlier_format_is_refused(tmp_path: Path) -> None:
    """With what to do, before its columns are looked at."""
    pq.write_table(pa.table({"id": ["1"], "input": ["{}"]}), tmp_path / "part-000000.parquet")
    with pytest.raises(InputError, match="replaced by another command"):
        join_parts(tmp_path, 1, 5, tmp_path / "out.jsonl", ".jsonl", 0, WORK)


def test_an_added_number_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    """JSON has none, and a wrong number is never silent."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json([1.0, math.inf])
    assert to_json([1.5, None, 2.0]) == ["1.5", "null", "2.0"]


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 5), max_size=30))
def test_repeated_ids_are_those_that_appeared_before(hashes: list[int]) -> None:
    """Three of one kind are two repeats."""
    assert count_repeated(array("Q", hashes)) == len(hashes) - len(set(hashes))
