"""Facts about a whole file: blank rows in their place, the sheet that is meant, the decimal mark of all prices."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pricesmith.catalog.columns import choose_columns
from pricesmith.catalog.leakage import find_leaks
from pricesmith.catalog.readers.feeds import ReadOptions, open_feeds
from pricesmith.catalog.readers.sources import BadRow, RawRow, find_marks, read_rows, resolve_sources
from pricesmith.core.errors import InputError
from pricesmith.core.progress import SILENT
from pricesmith.core.types import Quote
from pricesmith.pricers.precomputed import read_prices


def rows_of(path: Path) -> list[RawRow | BadRow]:
    return [row for batch in read_rows(resolve_sources([str(path)])[0]) for row in batch]


def written(path: Path, text: str) -> Path:
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "name,price\nHose,1\n\n   \nLamp,2\n,\nDesk,3\n\n\n"),
        ("a.tsv", "name\tprice\nHose\t1\n\n\nLamp\t2\n\t\nDesk\t3\n"),
        ("a.jsonl", '{"name": "Hose"}\n\n\n{"name": "Lamp"}\n \n{"name": "Desk"}\n\n'),
    ],
)
def test_blank_rows_keep_their_place(tmp_path: Path, name: str, text: str) -> None:
    """Each has a number and a reason; those after the last row of a file are not rows."""
    rows = rows_of(written(tmp_path / name, text))
    assert [row.number for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row.values["name"] if isinstance(row, RawRow) else row.reason for row in rows] == [
        "Hose",
        "blank row",
        "blank row",
        "Lamp",
        "blank row",
        "Desk",
    ]


def test_blank_rows_of_a_sheet_keep_their_place(tmp_path: Path) -> None:
    """Also rows that the workbook does not hold at all."""
    book = openpyxl.Workbook()
    for index, row in {2: ("name", "price"), 3: ("Hose", 1), 6: ("Lamp", 2), 9: ("", None)}.items():
        for column, value in enumerate(row, 1):
            book.active.cell(index, column, value)
    book.save(tmp_path / "a.xlsx")
    rows = rows_of(tmp_path / "a.xlsx")
    assert [row.values["name"] if isinstance(row, RawRow) else row.reason for row in rows] == [
        "Hose",
        "blank row",
        "blank row",
        "Lamp",
    ]


@pytest.mark.parametrize(
    ("states", "read_sheet"),
    [
        (("hidden", "visible", "visible"), 1),
        (("veryHidden", "hidden", "visible"), 2),
        (("visible", "hidden", "visible"), 0),
    ],
)
def test_a_visible_sheet_is_read_before_hidden_ones(tmp_path: Path, states: tuple[str, ...], read_sheet: int) -> None:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for index, state in enumerate(states):
        sheet = book.create_sheet(f"sheet {index}")
        sheet.append(("name", "price"))
        sheet.append((f"Hose {index}", 1))
        sheet.sheet_state = state
    book.active = states.index("visible")
    book.save(tmp_path / "a.xlsx")
    (row,) = rows_of(tmp_path / "a.xlsx")
    assert isinstance(row, RawRow)
    assert row.values["name"] == f"Hose {read_sheet}"


def test_an_empty_visible_sheet_is_passed_over(tmp_path: Path) -> None:
    """A hidden one is never read in its place."""
    book = openpyxl.Workbook()
    for title, state, cells in (("old", "hidden", 1), ("new", "visible", 1)):
        sheet = book.create_sheet(title)
        sheet.sheet_state = state
        for _ in range(cells):
            sheet.append(("name", "price"))
            sheet.append((title, 1))
    book.save(tmp_path / "a.xlsx")
    (row,) = rows_of(tmp_path / "a.xlsx")
    assert isinstance(row, RawRow)
    assert row.values["name"] == "new"
    book.remove(book["new"])
    book.save(tmp_path / "b.xlsx")
    with pytest.raises(InputError, match="it is empty"):
        rows_of(tmp_path / "b.xlsx")


PRICES = [*["129"] * 4_100, "62,39", "1.299"]


def save(path: Path, prices: list[str]) -> Path:
    """A file of these prices, by its ending."""
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"name": ["Bench"] * len(prices), "price": prices}), path)
    elif path.suffix == ".xlsx":
        book = openpyxl.Workbook()
        for row in [("name", "price"), *(("Bench", price) for price in prices)]:
            book.active.append(row)
        book.save(path)
    elif ".jsonl" in path.suffixes:
        written(path, "".join(json.dumps({"price": price, f"k{i % 3}": 1}) + "\n" for i, price in enumerate(prices)))
    else:
        written(path, "name;price\n" + "".join(f"Bench;{price}\n" for price in prices))
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl", "a.jsonl.gz", "a.parquet", "a.xlsx"])
def test_the_decimal_mark_is_read_from_all_prices(tmp_path: Path, name: str) -> None:
    """The only price with cents stands behind 4,100 others."""
    path = save(tmp_path / name, PRICES)
    assert find_marks(resolve_sources([str(path)])[0], "price") == ","


def test_both_marks_and_no_mark_are_detected(tmp_path: Path) -> None:
    (both,) = resolve_sources([str(save(tmp_path / "a.csv", ["62,39", "5", "12.50"]))])
    assert find_marks(both, "price") == ",."
    (none,) = resolve_sources([str(save(tmp_path / "b.csv", ["62", "5"]))])
    assert find_marks(none, "price") == ""
    assert find_marks(both, "another column") == ""


def test_a_numeric_column_of_a_parquet_file_shows_no_mark(tmp_path: Path) -> None:
    pq.write_table(pa.table({"price": [1.5, 2.5]}), tmp_path / "a.parquet")
    assert find_marks(resolve_sources([str(tmp_path / "a.parquet")])[0], "price") == ""


def test_a_file_without_cents_has_the_marks_of_the_others(tmp_path: Path) -> None:
    """Two files of one source, of which one has cents."""
    for name, prices in {"a.csv": ["62,39", "5"], "b.csv": ["1.299", "7"]}.items():
        save(tmp_path / name, prices * 30)
    assert [feed.marks for feed in open_feeds([str(tmp_path)], ReadOptions(), SILENT)] == [",", ","]


def test_saved_answers_are_read_by_the_decimal_mark_of_their_file(tmp_path: Path) -> None:
    """Blank rows between them are no answers and no fault."""
    path = written(tmp_path / "me.csv", "id;price\na;1.299\n\nb;62,39\n")
    assert read_prices(path, "EUR") == {"a": Quote(1299.0, raw="1.299"), "b": Quote(62.39, raw="62,39")}


def test_leaks_are_found_among_numbers_with_decimal_commas() -> None:
    """The net price of a shop that writes 1.299 for 1299."""

    def german(amount: float) -> str:
        return f"{amount:,.2f}".translate(str.maketrans(",.", ".,")).removesuffix(",00")

    amounts = [1_000 + 7.5 * index for index in range(200)]
    table = [
        RawRow("a.csv", index, {"name": "x", "price": german(amount), "net": f"{german(amount / 1.19)} €", "kg": "2,5"})
        for index, amount in enumerate(amounts, 1)
    ]
    assert list(find_leaks([table], choose_columns(["name", "price", "net", "kg"]), ",")) == ["net"]
