"""Price lists as people write them: workbooks with banners, two-line headers and several sheets; files without a
header; a header in the middle of the data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.catalog.test_curate_options import options_in
from tests.catalog.test_kinds import Notes

from pricesmith.catalog.curation import curate
from pricesmith.catalog.preview import preview
from pricesmith.catalog.readers.sources import Limits, RawRow, read_rows, resolve_sources
from pricesmith.core.errors import InputError, UsageError

Sheets = dict[str, Sequence[Sequence[Any]]]
GOODS = [("h25", "Hose 25 m", 20.0, 24.5, 3), ("h50", "Hose 50 m", 33.0, 39.9, 7), ("lamp", "Lamp", 12.0, 15.0, 1)]


def workbook(path: Path, sheets: Sheets, hidden: Sequence[str] = ()) -> Path:
    import openpyxl

    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(list(row))
        sheet.sheet_state = "hidden" if name in hidden else "visible"
    book.save(path)
    return path


def read(path: Path, notes: Notes | None = None) -> list[dict[str, Any] | str]:
    (source,) = resolve_sources([str(path)])
    batches = read_rows(source, Limits(), notes or Notes())
    return [row.values if isinstance(row, RawRow) else row.reason for batch in batches for row in batch]


def test_banner_rows_above_the_header_are_passed_over(tmp_path: Path) -> None:
    """A company's name and a date come before the table; a note counts them."""
    rows = [
        ("Acme GmbH",),
        (),
        ("Price list", "valid from 2024-05-01"),
        ("SKU", "Name", "Net", "Price", "Stock"),
        *GOODS,
    ]
    notes = Notes()
    path = workbook(tmp_path / "list.xlsx", {"Prices": rows})
    assert read(path, notes)[0] == {"SKU": "h25", "Name": "Hose 25 m", "Net": 20, "Price": 24.5, "Stock": 3}
    assert notes.notes == ["list.xlsx: the 2 rows above the header of sheet 'Prices' are passed over"]


@pytest.mark.parametrize(
    "header",
    [
        [("SKU", "Name", "Price", None, "Stock"), (None, None, "net", "gross", None)],
        [(None, None, "Price", None, None), ("SKU", "Name", "net", "gross", "Stock")],
    ],
)
def test_the_two_lines_of_a_header_become_one(header: Sequence[Sequence[Any]], tmp_path: Path) -> None:
    """Merged cells have their text in the first one; it goes on over the names below it."""
    row = read(workbook(tmp_path / "list.xlsx", {"Prices": [("Acme",), *header, *GOODS]}))[0]
    assert isinstance(row, dict)
    names = [*row]
    if header[0][0]:
        assert names == ["SKU", "Name", "Price net", "Price gross", "Stock"]
    else:
        assert names[:2] == ["SKU", "Name"]
    assert row["SKU"] == "h25"


def test_a_plain_workbook_is_read_as_it_stands(tmp_path: Path) -> None:
    """Text in a column of numbers, years as names and a single column do not move the header."""
    rows = [("Name", "2023", "Price"), ("Hose", 1, "open"), ("Lamp", 2, 15), ("Rake", 3, 9)]
    assert read(workbook(tmp_path / "a.xlsx", {"A": rows}))[0] == {"Name": "Hose", "2023": 1, "Price": "open"}
    assert read(workbook(tmp_path / "b.xlsx", {"A": [("Name",), ("Hose",), ("Lamp",)]})) == [
        {"Name": "Hose"},
        {"Name": "Lamp"},
    ]
    assert read(workbook(tmp_path / "c.xlsx", {"A": [("Name", "Price")]})) == []


def test_the_header_again_in_a_sheet_is_rejected_by_name(tmp_path: Path) -> None:
    """A list printed page by page repeats it."""
    header = ("SKU", "Name", "Net", "Price", "Stock")
    rows = read(workbook(tmp_path / "a.xlsx", {"A": [header, *GOODS, header, *GOODS]}))
    assert [row for row in rows if isinstance(row, str)] == ["the header again"]


def test_the_sheet_with_prices_is_read_and_another_can_be_chosen(tmp_path: Path) -> None:
    """The note's option works; so does that of the error for a sheet that is not there."""
    sheets: Sheets = {
        "Notes": [("Topic", "Text"), ("Delivery", "in two days")],
        "Old": [("Name", "Price"), ("Hose", 1.0)],
        "New": [("Name", "Price"), ("Hose", 2.0)],
        "Hidden": [("Name", "Price"), ("Hose", 3.0)],
    }
    path = workbook(tmp_path / "list.xlsx", sheets, hidden=["Hidden"])
    notes = Notes()
    assert preview([str(path)], progress=notes).files[0].rows == [{"Name": "Hose", "Price": 1}]
    note = next(note for note in notes.notes if "of its 4 sheets, 'Old' is read" in note)
    assert options_in(note, "--sheet") == "Notes"
    assert preview([str(path)], sheet="new").files[0].rows == [{"Name": "Hose", "Price": 2}]
    assert preview([str(path)], sheet="Hidden").files[0].rows == [{"Name": "Hose", "Price": 3}]
    with pytest.raises(InputError, match="it has no sheet 'News'") as caught:
        preview([str(path)], sheet="News")
    assert preview([str(path)], sheet=options_in(caught.value.hint, "--sheet")).files[0].rows[0]["Price"] == 2
    (tmp_path / "a.csv").write_text("Name,Price\nHose,1\n")
    with pytest.raises(UsageError, match="--sheet is for XLSX files only"):
        preview([str(tmp_path / "a.csv")], sheet="New")


def test_a_file_without_a_header_is_recognized_and_the_hint_works(tmp_path: Path) -> None:
    """Its columns are column_1 and so on; its first row is not lost."""
    lines = [f'SKU{n},"Garden hose {n} of {n * 3} kinds",{n + 4}.90,https://example.org/{n}' for n in range(1, 151)]
    path = tmp_path / "shop.csv"
    path.write_text("\n".join(lines))
    notes = Notes()
    with pytest.raises(UsageError, match="No column is recognized as the price") as caught:
        preview([str(path)], progress=notes)
    assert "its first row looks like data" in notes.notes[-1]
    field, _, column = options_in(caught.value.hint, "--map").partition("=")
    assert (field, column) == ("price", "column_3")
    catalog = curate([str(path)], tmp_path / "out", mapping={"price": column, "title": "column_2"})
    assert catalog.ledger["rows"]["in"] == 150


@pytest.mark.parametrize("header", ["name,2023,2024", "id,name,price", "Hersteller,1,2"])
def test_a_header_with_numbers_in_it_is_a_header(header: str, tmp_path: Path) -> None:
    """Years and usual names are names of columns."""
    path = tmp_path / "a.csv"
    path.write_text(
        f"{header}\n" + "".join(f"{n},{n}5,{n}7\n" if "id" in header else f"Hose {n},{n},{n}\n" for n in range(1, 9))
    )
    row = read(path)[0]
    assert isinstance(row, dict)
    assert [*row] == (header.split(",") if "Hersteller" not in header else ["column_1", "column_2", "column_3"])


def test_the_header_again_in_a_csv_file_is_rejected_by_name(tmp_path: Path) -> None:
    """Files that were put together one after another have it in their middle."""
    path = tmp_path / "a.csv"
    path.write_text("name,price\nHose,1\nname,price\nLamp,2\n")
    assert read(path) == [{"name": "Hose", "price": "1"}, "the header again", {"name": "Lamp", "price": "2"}]
    path.write_text("Name,Price,URL\nHose,1,\n name ,PRICE,Url\nname,2,\n")
    assert [row for row in read(path) if isinstance(row, str)] == ["the header again"]
    lines = tmp_path / "a.jsonl"
    lines.write_text('{"name": "Hose", "price": 1}\n{"name": "name", "price": "Price"}\n{"name": "name", "price": 2}\n')
    assert read(lines) == [{"name": "Hose", "price": 1}, "the header again", {"name": "name", "price": 2}]


@pytest.mark.parametrize("second", ["price,name,stock", "Name,Stock,Price", "name,cost,price"])
def test_a_second_header_with_other_columns_is_refused(tmp_path: Path, second: str) -> None:
    """Its rows would be read under wrong names. The parts of the file can be read, as the hint says."""
    whole, part = tmp_path / "a.csv", tmp_path / "b.csv"
    whole.write_text(f"name,price,stock\nHose,1,8\n{second}\nLamp,2,9\n")
    with pytest.raises(InputError, match="second header") as caught:
        read(whole)
    assert str(caught.value.got).startswith("row 2: ")
    part.write_text(f"{second}\nLamp,2,9\n")
    assert len(read(part)) == 1


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("3 345,34 zł", (3345.34, "PLN")),
        ("1.139,00TL", (1139.0, "TRY")),
        ("￥4,400", (4400.0, "JPY")),
        ("719.", (719.0, None)),
        ("£147.59 –", (147.59, "GBP")),
    ],
)
def test_prices_in_local_formats_are_read(text: str, amount: tuple[float, str | None]) -> None:
    """Spaces and dots that group thousands, signs behind the number, a dot without cents, an open dash."""
    from pricesmith.text.price_parser import parse_price

    assert parse_price(text) == amount
