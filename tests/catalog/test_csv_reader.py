"""Quotes that are not CSV quotes: every line of a file is one row, read as it was meant, whatever its quotes."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricesmith.catalog.readers.csv import CsvReader, RowShape, loose
from pricesmith.catalog.readers.sources import BadRow, RawRow, read_rows, resolve_sources
from pricesmith.core.errors import InputError
from pricesmith.core.progress import Progress

Row = list[str] | str


class Notes(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def rows_of(text: str, separator: str) -> list[Row]:
    """The rows below the header."""
    wrapped = io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8", newline="")
    reader = CsvReader(wrapped, separator, 100_000)
    header = reader.next()
    assert isinstance(header, list)
    reader.shape = RowShape(len(header), separator, text[:60_000])
    rows: list[Row] = []
    while (row := reader.next()) is not None:
        rows.append(row)
    return rows


def export(n: int, special: dict[int, list[str]]) -> list[list[str]]:
    """Rows of title, description and price."""
    rows = [[f"steel lamp number {index}", f"{index} parts, for the desk", f"{index}.50"] for index in range(1, n + 1)]
    for index, row in special.items():
        rows[index] = row
    return rows


STRAY = {
    3: ['"vintage lamp', "brass", "190.43"],
    40: ['pan 10"', 'for 24" stoves', "204.38"],
    41: ['"left" handed hat', "felt", "31"],
    55: ['"', '"x', "4"],
    89: ['"the last one', "opens a quote", "5"],
}


@pytest.mark.parametrize("separator", ["\t", ";", "|"])
def test_an_export_without_quoting_is_read_line_by_line(separator: str) -> None:
    """A quote at the start of a cell is no reason to take the next lines for its text."""
    rows = export(90, STRAY)
    text = "".join(separator.join(row) + "\n" for row in [["title", "description", "price"], *rows])
    assert rows_of(text, separator) == rows


def test_inch_marks_inside_quoted_cells_are_text() -> None:
    """Every cell is quoted, and no quote inside is doubled."""
    rows = export(60, {5: ['24" monitor, 60 Hz', 'with a 12" stand', "120"], 9: ['pipe 1/2"', 'of 3/4" steel', "7"]})
    text = "title,description,price\n" + "".join(",".join(f'"{cell}"' for cell in row) + "\n" for row in rows)
    assert rows_of(text, ",") == rows


def test_quotes_behind_backslashes_are_text() -> None:
    """As databases export them, also over two lines."""
    rows = export(60, {5: ['24" monitor', 'the "large", one', "120"], 9: ['"Aster"', 'brass\nand "oak", green', "7"]})
    escaped = [[cell.replace('"', '\\"') for cell in row] for row in rows]
    text = "title,description,price\n" + "".join(",".join(f'"{cell}"' for cell in row) + "\n" for row in escaped)
    assert rows_of(text, ",") == rows


def test_a_description_of_several_lines_stays_one_cell() -> None:
    """Though its lines have as many commas as the header, or are numbers."""
    cells = ["Sizes:\n10, 20\n5, 7\n1, 2", "nice, long\nsoft, thin\n1,2", 'a "b"\nc, d']
    rows = [[f"{index}.50", cells[index % 3]] for index in range(40)]
    out = io.StringIO()
    csv.writer(out).writerows([["price", "description"], *rows])
    assert rows_of(out.getvalue(), ",") == rows


def test_a_short_row_of_a_quoted_file_stays_one() -> None:
    """Its comma is not taken for a missing separator."""
    rows = export(60, {})
    out = io.StringIO()
    csv.writer(out).writerows([["title", "description", "price"], *rows])
    assert rows_of(out.getvalue() + '"Hose, green",12\n', ",")[-1] == ["Hose, green", "12"]


cells = st.text(st.sampled_from('ab "\\,;\t\n5'), min_size=1, max_size=12)


@settings(derandomize=True)
@given(st.lists(st.tuples(cells, cells, st.integers(1, 999)), min_size=1, max_size=8), st.sampled_from(",;\t"))
def test_what_csv_writes_is_read_as_it_was(table: list[tuple[str, str, int]], separator: str) -> None:
    """Proper CSV, with every sign in its cells."""
    rows = [[f"x{a}", f"x{b}", str(price)] for a, b, price in table]
    out = io.StringIO()
    csv.writer(out, delimiter=separator, quoting=csv.QUOTE_ALL).writerows([["title", "text", "price"], *rows])
    assert rows_of(out.getvalue(), separator) == rows


line = st.text(st.sampled_from('ab "5,'), max_size=10)


@settings(derandomize=True)
@given(st.lists(st.tuples(line, line, st.integers(1, 999)), min_size=1, max_size=20))
def test_no_line_of_an_unquoted_export_is_lost(table: list[tuple[str, str, int]]) -> None:
    """One row for each line, of the line's own text or rejected by name."""
    base = [["lamp", "of steel", "5"]] * 12
    rows = [*base, *([f"a{a}" if a.startswith('""') else a, f"b{b}", str(price)] for a, b, price in table)]
    text = "".join("\t".join(row) + "\n" for row in [["title", "text", "price"], *rows])
    read = rows_of(text, "\t")
    assert len(read) == len(rows)
    for row, got in zip(rows, read, strict=True):
        assert isinstance(got, str) or got[-1] == row[-1]


def test_a_quoted_cell_ends_at_a_quote_before_a_separator() -> None:
    assert loose('"24" tv","b ""c"" d",5', ",", backslash=False) == ['24" tv', 'b "c" d', "5"]
    assert loose('"a \\"b\\", c",5', ",", backslash=True) == ['a "b", c', "5"]
    assert loose('"a,5', ",", backslash=False) is None


def test_the_ledger_adds_up_and_a_note_says_so(tmp_path: Path) -> None:
    """Through the reader of files: numbers without a gap, one note."""
    path = tmp_path / "a.tsv"
    rows = export(90, STRAY)
    path.write_text("".join("\t".join(row) + "\n" for row in [["title", "description", "price"], *rows]))
    notes = Notes()
    read = [row for batch in read_rows(resolve_sources([str(path)])[0], progress=notes) for row in batch]
    assert [row.number for row in read] == list(range(1, 91))
    assert [list(row.values.values()) for row in read if isinstance(row, RawRow)] == rows
    assert sum("quotes" in note for note in notes.notes) == 1


def test_a_file_of_open_quotes_is_read_in_linear_time(tmp_path: Path) -> None:
    """Each of 30,000 lines opens a quote that none closes."""
    path = tmp_path / "a.tsv"
    path.write_text("title\tprice\n" + "lamp\t5\n" * 20 + '"lamp\t5\n' * 30_001)
    read = [row for batch in read_rows(resolve_sources([str(path)])[0]) for row in batch]
    assert len(read) == 30_021
    assert not any(isinstance(row, BadRow) for row in read)


def test_a_file_cut_inside_a_cell_is_still_refused(tmp_path: Path) -> None:
    """Its rows need CSV's quotes, so its last one is cut short."""
    path = tmp_path / "a.csv"
    path.write_text("name,price,text\n" + 'Hose,5,"25 m, brass"\n' * 20 + 'Lamp,7,"40 cm, bra')
    with pytest.raises(InputError, match="never closed"):
        list(read_rows(resolve_sources([str(path)])[0]))
