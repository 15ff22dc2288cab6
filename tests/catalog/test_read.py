"""Files of every kind that is read, as they should be."""

from __future__ import annotations

import datetime
import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from pricesmith.catalog.readers.sources import ALLOWED, BadRow, Limits, RawRow, read_rows, resolve_sources
from pricesmith.core.errors import InputError
from pricesmith.core.progress import Progress

Cells = list[dict[str, object] | str]
ROWS = [{"name": "Hose, 25 m", "price": "24.50"}, {"name": 'Lamp "Aster"\nbrass', "price": "35"}]
CSV = 'name,price\n"Hose, 25 m",24.50\n"Lamp ""Aster""\nbrass",35\n'


class Notes(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def cells(path: Path, limits: Limits | None = None, notes: Notes | None = None) -> Cells:
    """Every row of a file: its values, or the reason why it has none."""
    (source,) = resolve_sources([str(path)])
    rows = [row for batch in read_rows(source, limits or Limits(), notes or Notes()) for row in batch]
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    return [dict(row.values) if isinstance(row, RawRow) else row.reason for row in rows]


def written(path: Path, data: bytes | str) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def zstd(data: bytes) -> bytes:
    import pyarrow as pa

    return bytes(pa.compress(data, "zstd", asbytes=True))


@pytest.mark.parametrize("ending", [".csv", ".CSV", ".csv.gz", ".csv.zst"])
def test_csv_is_read_packed_or_not(tmp_path: Path, ending: str) -> None:
    """Quoted commas, quotes and newlines come out as they were meant."""
    pack = {"gz": gzip.compress, "zst": zstd}.get(ending.rpartition(".")[2], bytes)
    assert cells(written(tmp_path / f"shop{ending}", pack(CSV.encode()))) == ROWS


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_the_separator_of_a_csv_is_detected(tmp_path: Path, separator: str) -> None:
    """Semicolon, tab and bar are found, with commas in the cells, and named in a note."""
    notes = Notes()
    text = f"name{separator}price\n" + f"Hose, red, long{separator}24,50\n" * 3
    rows = cells(written(tmp_path / "shop.csv", text), notes=notes)
    assert rows == [{"name": "Hose, red, long", "price": "24,50"}] * 3
    assert "separated by" in notes.notes[0]


def test_excels_line_about_the_separator_is_obeyed(tmp_path: Path) -> None:
    """`sep=;` is no header."""
    path = written(tmp_path / "a.csv", "sep=;\r\nname;price\r\nHose;1\r\n")
    assert cells(path) == [{"name": "Hose", "price": "1"}]


def test_a_tsv_is_separated_by_tabs_alone(tmp_path: Path) -> None:
    """A comma in a tab-separated file is a letter."""
    assert cells(written(tmp_path / "a.tsv", "name\tprice\nA,B,C\t1,5\n")) == [{"name": "A,B,C", "price": "1,5"}]


@pytest.mark.parametrize("ending", ["jsonl", "ndjson"])
def test_json_lines_keep_their_kinds_and_nested_values_become_text(tmp_path: Path, ending: str) -> None:
    """Numbers stay numbers; a list becomes lines, an object `key: value` lines, and no price hides among them."""
    row = {"name": "Hose", "price": 24.5, "stock": 3, "new": True, "brand": None, "features": ["25 m", ["brass"], None],
           "details": {"Color": "green", "List Price": "30", "offer": {"price": 24.5, "ends": "May"}}}  # fmt: skip
    assert cells(written(tmp_path / f"a.{ending}", json.dumps(row) + "\n\n")) == [
        row | {"features": "25 m\nbrass", "details": "Color: green\noffer: ends: May"}
    ]


def test_parquet_values_come_as_plain_ones(tmp_path: Path) -> None:
    """Dates become text, lists lines, bytes text where they are any."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    day = datetime.datetime(2024, 5, 1, 12)
    table = {"name": ["Hose", None], "price": [24.5, float("nan")], "tags": [["a", "b"], []], "day": [day, None],
             "raw": [b"text", b"\xff\xfe"], "n": [1, None],
             "kind": pa.array(["x", "x"]).dictionary_encode()}  # fmt: skip
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    assert cells(tmp_path / "a.parquet") == [
        {"name": "Hose", "price": 24.5, "tags": "a\nb", "day": day.isoformat(), "raw": "text", "n": 1, "kind": "x"},
        {"name": None, "price": None, "tags": "", "day": None, "raw": None, "n": None, "kind": "x"},
    ]


def test_the_first_sheet_of_a_workbook_is_read(tmp_path: Path) -> None:
    """Blank rows keep their place, short rows are filled up, and a note names the sheet."""
    import openpyxl

    book = openpyxl.Workbook()
    for row in [("name", "price", "added"), (), ("Hose", 24.5, datetime.date(2024, 5, 1)), ("Lamp", 35), (1, 2, 3, 4)]:
        book.active.append(row)
    book.create_sheet("other")
    book.save(tmp_path / "a.xlsx")
    notes = Notes()
    assert cells(tmp_path / "a.xlsx", notes=notes) == [
        "blank row",
        {"name": "Hose", "price": 24.5, "added": "2024-05-01T00:00:00"},
        {"name": "Lamp", "price": 35, "added": None},
        "wrong number of fields",
    ]
    assert "of its 2 sheets, 'Sheet' is read" in notes.notes[0]


def test_rows_come_in_batches_and_a_reader_may_stop(tmp_path: Path) -> None:
    """The numbers run on from batch to batch; the child ends with the reader."""
    path = written(tmp_path / "a.csv", "name,price\n" + "Hose,1\n" * 5_000)
    (source,) = resolve_sources([str(path)])
    stream = read_rows(source)
    first, second = next(stream), next(stream)
    assert (len(first), second[0].number) == (2_000, 2_001)
    assert isinstance(first[0], RawRow)
    stream.close()  # type: ignore[attr-defined]


def test_a_folder_is_its_tables_by_name(tmp_path: Path) -> None:
    """Other files are passed over with a note, hidden ones without; a file's name is its category."""
    for name in ("internal-hard-drive.csv", "case_fan.csv.gz", "README.md", ".hidden.csv"):
        data = b"name,price\n"
        written(tmp_path / name, gzip.compress(data) if name.endswith("gz") else data)
    notes = Notes()
    sources = resolve_sources([str(tmp_path)], notes)
    assert [(source.name, source.category) for source in sources] == [
        ("case_fan.csv.gz", "case fan"),
        ("internal-hard-drive.csv", "internal hard drive"),
    ]
    assert "README.md" in notes.notes[0]


def test_sources_are_the_same_in_any_order_and_however_often_named(tmp_path: Path) -> None:
    """A file, its folder and a glob: each file once, sorted by name; same names are distinguished by folder."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for name in ("x.csv", "y.csv"):
            written(tmp_path / folder / name, "name,price\n")
    given = [str(tmp_path / "a"), str(tmp_path / "*" / "x.csv"), str(tmp_path / "b" / "y.csv")]
    assert resolve_sources(given) == resolve_sources(given[::-1])
    assert [source.name for source in resolve_sources(given)] == ["a/x.csv", "a/y.csv", "b/x.csv", "b/y.csv"]


def test_a_lone_file_has_no_category(tmp_path: Path) -> None:
    """One file says nothing about kinds of things."""
    assert resolve_sources([str(written(tmp_path / "shop.csv", "name,price\n"))])[0].category == ""


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.pkl", b"\x80\x04.", "Pickles run code"),
        ("a.yaml", b"a: 1", ".jsonl"),
        ("a.xls", b"\xd0\xcf\x11\xe0", ".xlsx"),
        ("a", b"x", "no ending"),
        ("a.parquet.gz", b"\x1f\x8b", ".parquet.gz"),
        ("a.csv", b"\x80\x04\x95", "pickle"),
        ("a.csv", b"\x1f\x8b\x08", "gzip"),
        ("a.csv", b"PK\x03\x04", "XLSX"),
        ("a.jsonl", b"PAR1", "Parquet"),
        ("a.csv.gz", b"name,price", "gzip"),
        ("a.csv.zst", b"\x1f\x8b\x08", "gzip"),
        ("a.parquet", b"name,price", "Parquet"),
        ("a.xlsx", b"PAR1", "XLSX"),
        ("a.csv", b"", "empty"),
    ],
)
def test_a_wrong_name_or_content_is_refused_by_name(tmp_path: Path, name: str, data: bytes, expected: str) -> None:
    """An unknown ending, a known one over other content, and nothing at all."""
    with pytest.raises(InputError) as caught:
        resolve_sources([str(written(tmp_path / name, data))])
    assert name in str(caught.value)
    assert expected in str(caught.value)


def test_a_source_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """A missing file, an empty glob, a folder without tables, an address: each says what is read."""
    (tmp_path / "empty").mkdir()
    for source in ("nothing.csv", "*.csv", "empty"):
        with pytest.raises(InputError) as caught:
            resolve_sources([str(tmp_path / source)])
        assert caught.value.allowed == ALLOWED
    with pytest.raises(InputError, match="no file or folder") as caught:
        resolve_sources(["https://example.org/shop.csv"])
    assert "Download it" in caught.value.hint
    with pytest.raises(InputError, match="No file was given"):
        resolve_sources([])


def test_a_bad_row_carries_its_file_and_number(tmp_path: Path) -> None:
    """So that the ledger can say where."""
    (source,) = resolve_sources([str(written(tmp_path / "a.csv", "name,price\nHose,1\nHose\n"))])
    assert next(iter(read_rows(source)))[1] == BadRow("a.csv", 2, "wrong number of fields")


def test_reading_loads_no_table_library_here(tmp_path: Path) -> None:
    """CSV and JSON Lines are read without pyarrow, openpyxl or numpy in this process."""
    path = written(tmp_path / "a.csv", CSV)
    code = (
        "import sys; from pricesmith.catalog.readers.sources import read_rows, resolve_sources\n"
        f"print(sum(len(b) for s in resolve_sources([{str(path)!r}]) for b in read_rows(s)))\n"
        "assert not {'pyarrow', 'openpyxl', 'numpy', 'pandas'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "2\n"


def test_a_catalog_is_not_read_as_a_folder_of_tables(tmp_path: Path) -> None:
    """Its items.parquet has cleaned text, and its rejects are no goods."""
    written(tmp_path / "ledger.json", "{}")
    written(tmp_path / "items.csv", CSV)
    with pytest.raises(InputError, match="is a catalog, not a table"):
        resolve_sources([str(tmp_path)])


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        ("General", 24.5), ("0.00", 24.5), ("#,##0.00 [$€-407]", "€ 24.500000"), ("[$USD] #,##0.00", "USD 24.500000"),
        ('#,##0.00 "zł"', "zł 24.500000"), ("_($* #,##0.00_)", "$ 24.500000"), ("[$-409]d-mmm", None),
        ('0.0 "kg"', 24.5),
    ],
)  # fmt: skip
def test_a_cell_that_excel_shows_as_money_says_its_currency(style: str, expected: object, tmp_path: Path) -> None:
    """Euros in a dollar catalog are then refused by name, and not taken for dollars."""
    import openpyxl

    book = openpyxl.Workbook()
    book.active.append(["name", "price"])
    book.active.append(["Hose", 24.5])
    book.active["B2"].number_format = style
    book.save(tmp_path / "a.xlsx")
    (row,) = cells(tmp_path / "a.xlsx")
    assert isinstance(row, dict)
    if expected is None:
        assert not str(row["price"]).startswith("$")
    else:
        assert row["price"] == expected
