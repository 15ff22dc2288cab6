"""Files that are damaged, odd, or made to break their reader: each accepted or refused by name, never a traceback."""

from __future__ import annotations

import gzip
import json
import random
import zipfile
from pathlib import Path

import pytest

from pricesmith.catalog.readers.sources import Limits, RawRow, read_rows, resolve_sources
from pricesmith.core.errors import InputError
from pricesmith.core.progress import Progress

WIDE = "é, ü, “quoted”"


class Notes(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def written(path: Path, data: bytes | str) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def zstd(data: bytes) -> bytes:
    import pyarrow as pa

    return bytes(pa.compress(data, "zstd", asbytes=True))


def cells(path: Path, limits: Limits | None = None, notes: Notes | None = None) -> list[dict[str, object] | str]:
    """Every row of a file: its values, or the reason why it has none."""
    (source,) = resolve_sources([str(path)])
    rows = [row for batch in read_rows(source, limits or Limits(), notes or Notes()) for row in batch]
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    return [dict(row.values) if isinstance(row, RawRow) else row.reason for row in rows]


def refused(path: Path, message: str, limits: Limits | None = None) -> InputError:
    """Reading `path` is refused; the error has the file's name and `message`."""
    with pytest.raises(InputError) as caught:
        cells(path, limits)
    assert path.name in str(caught.value)
    assert message in str(caught.value)
    return caught.value


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_text_in_any_usual_encoding_is_read(tmp_path: Path, encoding: str, form: str) -> None:
    """With a byte order mark or without; a note names what is not UTF-8."""
    text = f'name;price\n"{WIDE}";1\n' if form == "csv" else json.dumps({"name": WIDE}, ensure_ascii=False) + "\n"
    notes = Notes()
    (row,) = cells(written(tmp_path / f"a.{form}", text.encode(encoding)), notes=notes)
    assert isinstance(row, dict)
    assert row["name"] == WIDE
    assert any("read as" in note for note in notes.notes) == (not encoding.startswith("utf-8"))


def test_latin_1_in_the_middle_of_utf_8_does_not_spoil_the_rest(tmp_path: Path) -> None:
    """Only the bytes that are not UTF-8 are read as Windows-1252."""
    data = "name,price\nCafé,1\n".encode() + "Säge,2\n".encode("latin-1")
    assert cells(written(tmp_path / "a.csv", data)) == [{"name": "Café", "price": "1"}, {"name": "Säge", "price": "2"}]


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
def test_every_line_end_is_one(tmp_path: Path, end: str) -> None:
    """From Windows, from an old Mac, from anywhere; a blank line between keeps its place, those at the end do not."""
    text = end.join(["name,price", "Hose,1", "", "Lamp,2", "", "", ""])
    hose, lamp = {"name": "Hose", "price": "1"}, {"name": "Lamp", "price": "2"}
    assert cells(written(tmp_path / "a.csv", text)) == [hose, "blank row", lamp]


def test_a_row_with_too_few_or_too_many_fields_is_rejected(tmp_path: Path) -> None:
    """And the rows round it are read."""
    rows = cells(written(tmp_path / "a.csv", "name,price\nHose\nHose,1,2\nLamp,2\n"))
    assert rows == ["wrong number of fields", "wrong number of fields", {"name": "Lamp", "price": "2"}]


def test_broken_quotes_are_rejected_and_an_open_one_refused(tmp_path: Path) -> None:
    """A quote that is never closed would swallow the rest of the file; a file too short to tell its rows is refused."""
    rows = cells(written(tmp_path / "a.csv", 'name,price\n"Big" lamp,1\n9.5" disk,2\n"Big" a,"b" c,3\n'))
    assert rows == [{"name": '"Big" lamp', "price": "1"}, {"name": '9.5" disk', "price": "2"}, "broken quotes"]
    error = refused(written(tmp_path / "b.csv", 'name,price\nHose,1\n"Lamp,2\nDrill,3\n'), "never closed")
    assert "line 3" in str(error)


def test_repeated_and_empty_headers_get_names_of_their_own(tmp_path: Path) -> None:
    """No column hides another one."""
    notes = Notes()
    rows = cells(written(tmp_path / "a.csv", "name,price,price,\nHose,1,2,3\n"), notes=notes)
    assert rows == [{"name": "Hose", "price": "1", "price (2)": "2", "column 4": "3"}]
    assert "two columns are named 'price'" in notes.notes[0]


def test_ten_thousand_columns_are_refused(tmp_path: Path) -> None:
    """In a CSV, in JSON Lines by the file, and by the row."""
    names = [f"c{n}" for n in range(10_000)]
    refused(written(tmp_path / "a.csv", ",".join(names) + "\n" + "1," * 9_999 + "1\n"), "2,000 columns")
    assert cells(written(tmp_path / "a.jsonl", json.dumps(dict.fromkeys(names, 1)))) == ["too many columns"]
    rows = "\n".join(json.dumps({name: 1}) for name in names)
    refused(written(tmp_path / "b.jsonl", rows), "different keys")


@pytest.mark.parametrize("quote", ['"', ""])
def test_a_cell_of_fifty_megabytes_is_rejected_and_the_next_row_read(tmp_path: Path, quote: str) -> None:
    """One row is lost, not the file; and no more memory is used for it than for any other."""
    cell = quote + ("word " * 100 + (",\n" if quote else "")) * 100_000 + quote
    rows = cells(written(tmp_path / "a.csv", f"name,price\nHose,1\n{cell},2\nLamp,3\n"))
    assert rows == [{"name": "Hose", "price": "1"}, "cell too large", {"name": "Lamp", "price": "3"}]


def test_a_large_cell_is_rejected_in_every_format(tmp_path: Path) -> None:
    """At the same limit."""
    import openpyxl
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = {"name": ["Hose", "x" * 1_001, "Lamp"], "price": [1, 2, 3]}
    rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    written(tmp_path / "a.jsonl", "\n".join(map(json.dumps, [*rows, {"deep": ["x" * 600] * 2}, {"y": "x" * 9_000}])))
    written(tmp_path / "a.csv", "name,price\n" + "".join(f"{row['name']},{row['price']}\n" for row in rows))
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    book = openpyxl.Workbook()
    for row in (["name", "price"], *([*row.values()] for row in rows)):
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    for ending in ("csv", "jsonl", "parquet", "xlsx"):
        got = cells(tmp_path / f"a.{ending}", Limits(cell=1_000))
        assert [row["name"] if isinstance(row, dict) else row for row in got[:3]] == ["Hose", "cell too large", "Lamp"]
        assert set(map(str, got[3:])) <= {"cell too large"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"a":' * 50_000, "JSON too deep"),
        ('{"a": ' + "[" * 50_000 + "]" * 50_000 + "}", "JSON too deep"),
        ('{"a": ' + "[" * 100 + "]" * 100 + "}", "JSON too deep"),
        ("{'a': 1}", "not JSON"),
        ('{"a": 1', "not JSON"),
        ('{"a": ' + "9" * 5_000 + "}", "not JSON"),
        ("[1, 2]", "not a JSON object"),
        ("null", "not a JSON object"),
        ('{"price": 1, "price": 2}', "repeated key"),
    ],
)
def test_a_line_that_is_no_row_is_rejected_by_name(tmp_path: Path, line: str, reason: str) -> None:
    """And the line after it is read."""
    assert cells(written(tmp_path / "a.jsonl", f'{{"b": 1}}\n{line}\n{{"b": 2}}\n')) == [{"b": 1}, reason, {"b": 2}]


def test_nan_is_empty_and_infinity_comes_as_a_word(tmp_path: Path) -> None:
    """An infinite price is refused by its own name; NaN is what other programs write for nothing."""
    line = '{"a": NaN, "b": Infinity, "c": -Infinity, "d": 1e999, "e": "\\ud800x\\ude00", "f": "\\u0000", "g": 1e2}'
    (row,) = cells(written(tmp_path / "a.jsonl", line))
    assert row == {
        "a": None,
        "b": "Infinity",
        "c": "-Infinity",
        "d": "inf",
        "e": "\ufffdx\ufffd",
        "f": "\0",
        "g": 100.0,
    }


def test_a_json_array_in_a_file_of_json_lines_is_read(tmp_path: Path) -> None:
    """The whole file is one value, not one a line; what is no object is rejected by name."""
    assert cells(written(tmp_path / "a.jsonl", '[\n{"a": 1}\n]\n')) == [{"a": 1}]
    refused(written(tmp_path / "b.jsonl", '[\n{"a": 1},\n'), "cut short")


def test_nul_bytes_in_a_cell_pass_and_a_binary_file_does_not(tmp_path: Path) -> None:
    """A stray NUL is a letter; a file of them is no text."""
    rows = cells(written(tmp_path / "a.csv", "name,price\nHo\0se,1\n" + "Lamp,2\n" * 9))
    assert rows[0] == {"name": "Ho\0se", "price": "1"}
    refused(written(tmp_path / "b.csv", b"a" + b"\0\0\0b" * 500), "not text")
    refused(written(tmp_path / "c.csv.gz", gzip.compress(gzip.compress(b"name,price\n"))), "not text")


@pytest.mark.parametrize("data", ["\n\n  \n", "\ufeff", ",,\n,,\n"])
def test_a_file_of_nothing_is_refused(tmp_path: Path, data: str) -> None:
    """Blank lines, a lone byte order mark, a header without names."""
    refused(written(tmp_path / "a.csv", data), "empty")
    refused(written(tmp_path / "a.csv.gz", gzip.compress(data.encode())), "empty")


@pytest.mark.parametrize("ending", ["csv.gz", "csv.zst", "jsonl.gz"])
def test_a_packed_file_cut_short_is_refused_before_any_row(tmp_path: Path, ending: str) -> None:
    """Half a download is not a shorter table."""
    data = "".join(f'{{"name": "Hose {n * n}"}}\n' for n in range(20_000)).encode()
    whole = zstd(data) if ending.endswith("zst") else gzip.compress(data)
    for part in (0.3, 0.9, 0.999):
        refused(written(tmp_path / f"a.{ending}", whole[: int(len(whole) * part)]), "damaged or cut short")


def tables(folder: Path) -> list[Path]:
    """The same 300 rows in every kind of file."""
    import openpyxl
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"name": f"Hose {n * n}", "price": f"{n}.50"} for n in range(300)]
    text = "name,price\n" + "".join(f'"{row["name"]}",{row["price"]}\n' for row in rows)
    lines = "\n".join(map(json.dumps, rows)).encode()
    pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet")
    book = openpyxl.Workbook()
    for row in (["name", "price"], *([*row.values()] for row in rows)):
        book.active.append(row)
    book.save(folder / "a.xlsx")
    return [
        folder / "a.parquet",
        folder / "a.xlsx",
        written(folder / "a.csv", text),
        written(folder / "a.csv.gz", gzip.compress(text.encode())),
        written(folder / "a.jsonl.zst", zstd(lines)),
    ]


def test_damaged_files_are_read_or_refused_by_name(tmp_path: Path) -> None:
    """Cut short and with bits flipped, in every format: rows or an InputError with the file's name, nothing else."""
    draw = random.Random(0)
    outcomes = set()
    for path in tables(tmp_path):
        assert len(cells(path)) == 300
        whole = path.read_bytes()
        for trial in range(7):
            torn = bytearray(whole[: len(whole) * trial // 5] if trial % 5 and trial < 5 else whole)
            for _ in range(1 + trial % 4):
                torn[draw.randrange(len(torn))] ^= 1 << draw.randrange(8)
            path.write_bytes(torn)
            outcomes.add(outcome(path))
    assert outcomes == {"rows", "refused"}


def outcome(path: Path) -> str:
    try:
        cells(path, Limits(seconds=10))
    except InputError as error:
        return "refused" if path.name in str(error) else str(error)
    return "rows"


def test_a_sheet_that_claims_a_billion_rows_is_refused(tmp_path: Path) -> None:
    """By the number of rows that a sheet can have."""
    sheet = (
        '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
        '<row r="1"><c r="A1"><v>1</v></c></row><row r="999999999"><c r="A999999999"><v>1</v></c></row>'
        "</sheetData></worksheet>"
    )
    path = tables(tmp_path)[1]
    with zipfile.ZipFile(path) as book:
        parts = {name: book.read(name) for name in book.namelist()} | {"xl/worksheets/sheet1.xml": sheet.encode()}
    with zipfile.ZipFile(path, "w") as book:
        for name, data in parts.items():
            book.writestr(name, data)
    refused(path, "too many rows")
