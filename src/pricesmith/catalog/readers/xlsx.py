"""Excel workbooks from unknown sources. Runs in the child (`parse`).

A price list as people write it:
    Acme GmbH, price list 2024
    SKU  | Name | Price |       | Stock
         |      | net   | gross |
    h25  | Hose | 20.00 | 24.50 | 3
The lines above the header are passed over, and the two lines of the header become one: "Price net", "Price gross". Of
several sheets, the first visible one with a column of prices is read, unless one is named. Formulas give what Excel
saved as their results.
"""

from __future__ import annotations

import difflib
import itertools
import math
import os
import re
import shlex
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, BinaryIO

from pricesmith.catalog.readers.csv import is_number
from pricesmith.catalog.readers.messages import HEADER_AGAIN, FileRefused, MessageWriter
from pricesmith.catalog.readers.tables import check_unpacked_size, write_row
from pricesmith.text.currency import find_currencies, normalize_sign
from pricesmith.text.price_parser import find_price_word

XLSX_ROWS = 1_048_576  # that a sheet can have
XLSX_PARTS = 10_000
MOST_SHEETS = 100  # that are looked at
HEAD = 60  # rows of a sheet that show where its table begins
FILLED = 0.6  # of the table's columns have a name in the header
TEXT = 0.75  # of a header's cells are no numbers
SHOWN = re.compile(r"""\[\$([^]-]+)[^]]*\]|"([^"]+)"|(?<!\[)([$€£¥₹])""")  # what an Excel format writes beside a number


@dataclass(frozen=True)
class Head:
    """Where a sheet's table begins: the names of its columns, the row after them, and the rows passed over above."""

    names: list[str]
    start: int
    above: int
    has_price: bool
    has_numbers: bool


def xlsx(file: BinaryIO, limits: Any, answer: MessageWriter, named: str = "") -> None:
    """The rows of one sheet: the one that is `named`, or the best guess."""
    import openpyxl

    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
        if len(parts) > XLSX_PARTS:
            raise FileRefused("it has too many parts", f"{len(parts):,}", f"{XLSX_PARTS:,}", "Save it as CSV.")
        check_unpacked_size(sum(part.file_size for part in parts), os.fstat(file.fileno()).st_size, limits)
    book = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
    if not book.worksheets:
        raise FileRefused("it has no sheet with cells", "", "", "Save the table as CSV.")
    for sheet in book.worksheets:
        sheet.reset_dimensions()
    sheet, head = choose_sheet(book.worksheets, named, limits, answer)
    if head.above:
        lines = f"{head.above} row{'s' * (head.above > 1)}"
        answer.say(note=f"the {lines} above the header of sheet {sheet.title!r} are passed over")
    header = answer.header(head.names)
    for number, cells in enumerate(sheet_rows(sheet, limits)):
        if number < head.start:
            continue
        if not cells:
            answer.blank()
        elif [cell_name(cell) for cell in cells] == head.names and number > head.start:
            answer.row(HEADER_AGAIN, 0)
        else:
            write_row(cells, len(header), limits, answer)


def choose_sheet(sheets: Sequence[Any], named: str, limits: Any, answer: MessageWriter) -> tuple[Any, Head]:
    """The sheet that is read, and where its table begins. Raises FileRefused if there is none, or none of that name."""
    if named:
        titles = [sheet.title for sheet in sheets]
        chosen = next((sheet for sheet in sheets if sheet.title.strip().casefold() == named.strip().casefold()), None)
        if chosen is None:
            near = (difflib.get_close_matches(named, titles, n=1, cutoff=0.3) or titles)[0]
            shown = ", ".join(map(repr, titles[:20]))
            raise FileRefused(
                f"it has no sheet {named!r}", f"--sheet {named}", shown, f"Use --sheet {shlex.quote(near)}."
            )
        head = find_head(list(itertools.islice(sheet_rows(chosen, limits), HEAD)))
        if head is None:
            raise FileRefused(
                f"its sheet {named!r} is empty", "no cell", "", "Name another sheet, or leave --sheet out."
            )
        return chosen, head
    visible = [sheet for sheet in sheets if sheet.sheet_state == "visible"]
    heads = []
    for sheet in (visible or sheets)[:MOST_SHEETS]:
        if head := find_head(list(itertools.islice(sheet_rows(sheet, limits), HEAD))):
            heads.append((sheet, head))
    if not heads:
        raise FileRefused("it is empty", f"no cell in its {'visible ' if visible else ''}sheets", "", "Leave it out.")
    chosen, head = max(heads, key=lambda pair: (pair[1].has_price, pair[1].has_numbers))  # of equals, the first
    if len(sheets) > 1:
        why = "the first one with a column of prices" if head.has_price else "the first visible one with cells"
        others = [sheet.title for sheet, _ in heads if sheet is not chosen]
        hint = f"; --sheet {shlex.quote(others[0])} reads another" if others else ""
        answer.say(note=f"of its {len(sheets)} sheets, {chosen.title!r} is read: {why}{hint}")
    return chosen, head


def find_head(rows: Sequence[Sequence[Any]]) -> Head | None:
    """Where the table begins in the first rows of a sheet; None for a sheet without a cell."""
    filled = [place for place, row in enumerate(rows) if row]
    if not filled:
        return None
    place = next((place for place in filled if is_header(rows, place)), filled[0])
    above, bottom = rows[place - 1] if place else [], rows[place]
    if is_header_line(rows, place) and place + 1 < len(rows) and continues_header(rows, place + 1):
        top, bottom, first = bottom, rows[place + 1], place
        place += 1
    elif completes_header(above, bottom):
        top, first = above, place - 1
    else:
        top, first = [], place
    names = join_names(top, bottom)
    columns = numeric_columns(rows[place + 1 :])
    priced = any(find_price_word(names[column]) for column in columns if column < len(names))
    return Head(names, place + 1, sum(bool(row) for row in rows[:first]), priced, bool(columns))


def cell_name(cell: Any) -> str:
    """A cell of a header as text."""
    return "" if cell is None else " ".join(str(cell).split())


def holds_number(cell: Any) -> bool:
    """Whether a cell is a number or a price."""
    return not isinstance(cell, bool) and (isinstance(cell, int | float) or (isinstance(cell, str) and is_number(cell)))


def count_filled(row: Sequence[Any]) -> int:
    """The number of cells with a value."""
    return sum(cell is not None and cell != "" for cell in row)


def numeric_columns(rows: Sequence[Sequence[Any]]) -> list[int]:
    """The columns in which most values of these rows are numbers."""
    values: Counter[int] = Counter()
    numbers: Counter[int] = Counter()
    for row in rows:
        for column, cell in enumerate(row):
            if cell is not None and cell != "":
                values[column] += 1
                numbers[column] += holds_number(cell)
    return sorted(column for column, count in values.items() if numbers[column] > count / 2)


def is_header(rows: Sequence[Sequence[Any]], place: int) -> bool:
    """Whether a row names the columns of those below it: most of them have a name, and most names are no numbers."""
    below = sorted(count_filled(row) for row in rows[place + 1 :] if row)
    if not below:
        return False
    width = below[len(below) // 2]
    return count_filled(rows[place]) >= max(2, FILLED * width) and is_header_line(rows, place)


def is_header_line(rows: Sequence[Sequence[Any]], place: int) -> bool:
    """Whether most cells of a row are texts that are no numbers."""
    cells = [cell for cell in rows[place] if cell is not None and cell != ""]
    return bool(cells) and sum(isinstance(cell, str) and not is_number(cell) for cell in cells) >= TEXT * len(cells)


def continues_header(rows: Sequence[Sequence[Any]], place: int) -> bool:
    """Whether a row is the second line of a header: no number in a column of numbers, and a text in one of them."""
    row = rows[place]
    columns = numeric_columns(rows[place + 1 :])
    cells = [row[column] for column in columns if column < len(row)]
    return bool(row) and any(isinstance(cell, str) and cell for cell in cells) and not any(map(holds_number, cells))


def completes_header(above: Sequence[Any], header: Sequence[Any]) -> bool:
    """Whether the row above a header belongs to it: it names columns that have no name, or have the same."""
    if count_filled(above) < 2 or any(map(holds_number, above)):
        return False
    names = [cell_name(cell) for cell in header]
    gaps = any(cell_name(cell) and not (place < len(names) and names[place]) for place, cell in enumerate(above))
    given = [name for name in names if name]
    return gaps or len(set(given)) < len(given)


def join_names(top: Sequence[Any], bottom: Sequence[Any]) -> list[str]:
    """The names of columns from two lines. A name of the first line goes on over the empty cells beside it."""
    names = []
    last = ""
    for place in range(max(len(top), len(bottom))):
        over = cell_name(top[place]) if place < len(top) else ""
        under = cell_name(bottom[place]) if place < len(bottom) else ""
        last = over or (last if under else "")
        names.append(f"{last} {under}".strip() if last else under)
    return names


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
