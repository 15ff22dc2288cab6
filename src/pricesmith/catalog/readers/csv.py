"""CSV rows in constant memory, also from files whose quotes are not CSV quotes. Runs in the child (`parse`).

One raw line of an unquoted export: "vintage lamp<tab>brass, 26 parts<tab>190.43

To `csv.reader` that quote opens a cell which ends at the next quote, maybe a hundred rows below. A row is read again
where the strict rules fail: its quotes are broken, it has another number of fields than the header, or it goes over
several lines which are rows by themselves, each with the header's number of fields and numbers where the file has
numbers. Then a quote with a backslash before it, or one inside a cell, is part of the text; and each line is a row.
"""

from __future__ import annotations

import csv
import io
import re
from collections import deque
from collections.abc import Iterator, Sequence

from pricesmith.catalog.readers.messages import TOO_LARGE, FileRefused

BROKEN_QUOTES = "broken quotes"
SAMPLED = 400  # lines of the head that show what a row looks like
FEWEST_SAMPLED = 5
LOOKED_AT = 50  # lines of a row over several lines that are tried as rows by themselves
CONTINUED = 50  # lines that a cell with a quote inside may go on
REREAD = 50_000_000  # characters read again, from which on each line is a row
NUMBER = re.compile(r"[^\w\n]{0,3}[^\W\d]{0,3}[.\s]{0,2}[-+]?[0-9][0-9.,'’\s]*[^0-9]{0,5}")


class RowShape:
    """What rows of a file look like: their number of fields, and which columns hold numbers and which words.

    A file that is too short shows no columns of either kind.
    """

    def __init__(self, width: int, separator: str, head: str) -> None:
        self.width, self.separator = width, separator
        self.needs_quotes = False  # a line of the head has the right number of fields only by CSV's rules
        self.numbers: list[int] = []
        self.words: list[int] = []
        rows = []
        for line in head.splitlines()[1 : SAMPLED + 1][:-1]:
            if '"' in line:
                fields = strict(line, separator)
                self.needs_quotes |= len(fields) == width != len(line.split(separator))
            else:
                fields = line.split(separator)
            if len(fields) == width:
                rows.append(fields)
        if len(rows) >= FEWEST_SAMPLED:
            for place in range(width):
                cells = [row[place].strip() for row in rows if row[place].strip()]
                share = sum(is_number(cell) for cell in cells) / len(cells) if cells else 0.5
                if share >= 0.9:
                    self.numbers.append(place)
                elif share <= 0.05:
                    self.words.append(place)

    @property
    def is_known(self) -> bool:
        """Whether the columns, or tabs between them, distinguish a row from a line of text."""
        return bool(self.numbers) or self.separator == "\t" or self.width > 4

    def fits(self, fields: Sequence[str] | None) -> bool:
        """Whether fields are a row of this file."""
        if fields is None or len(fields) != self.width or self.width < 2:
            return False
        cells = [field.strip(' "\r\n') for field in fields]
        numbers = [cells[place] for place in self.numbers if cells[place]]
        if (self.numbers and not numbers) or not all(map(is_number, numbers)):
            return False
        return self.separator == "\t" or not any(is_number(cells[place]) for place in self.words)

    def row_of(self, line: str, *, plain: bool = True) -> list[str] | None:
        """A line as a row, by the first reading that fits: quotes with backslashes before them, quotes inside cells,
        and, if `plain`, no quotes at all. None if none fits."""
        text = line.rstrip("\r\n")
        for reading in ("backslash", "quotes", "plain"):
            if (reading == "backslash" and '\\"' not in text) or (reading == "plain" and not plain):
                continue
            fields = (
                text.split(self.separator)
                if reading == "plain"
                else loose(text, self.separator, backslash=reading == "backslash")
            )
            fields = fields if fields is None else without_spare(fields, self.width)
            if self.fits(fields):
                return fields
        return None

    def are_rows(self, lines: Sequence[str], *, well_formed: bool = False) -> bool:
        """Whether the lines of one CSV row are rows by themselves: the first, and at least half of the others.

        It takes numbers where the file has them to believe this of a `well_formed` row, which has as many fields as the
        header; and where other rows of the file need CSV quotes it takes all lines.
        """
        known = bool(self.numbers) if well_formed else self.is_known
        if len(lines) < 2 or not known or not self.row_of(lines[0]):
            return False
        others = lines[1 : LOOKED_AT + 1]
        least = len(others) if well_formed and self.needs_quotes else len(others) / 2
        return sum(self.row_of(line) is not None for line in others) >= least


def is_number(cell: str) -> bool:
    """Whether a cell is a number or a price, with at most a few letters beside it."""
    return len(cell) <= 40 and NUMBER.fullmatch(cell) is not None


def strict(line: str, separator: str) -> list[str]:
    """A line by CSV's rules; empty if it breaks them."""
    try:
        return next(csv.reader([line], delimiter=separator, strict=True), [])
    except csv.Error:
        return []


def loose(text: str, separator: str, *, backslash: bool) -> list[str] | None:
    """Fields of a row whose quoted cells may hold quotes: one ends a cell only before a separator or the end.

    With `backslash` a quote behind one is always part of the text. None if a quoted cell has no end.
    """
    fields: list[str] = []
    start = 0
    while True:
        if not text.startswith('"', start):
            end = text.find(separator, start)
            if end < 0:
                return [*fields, text[start:]]
            fields.append(text[start:end])
            start = end + 1
            continue
        parts: list[str] = []
        at = start + 1
        while True:
            quote = text.find('"', at)
            if quote < 0:
                return None
            after = text[quote + 1 : quote + 2]
            if backslash and quote > at and text[quote - 1] == "\\":
                parts.append(text[at : quote - 1] + '"')
                at = quote + 1
            elif after in ("", separator):
                parts.append(text[at:quote])
                break
            elif after == '"':
                parts.append(text[at : quote + 1])
                at = quote + 2
                if not backslash and text[at : at + 1] in (
                    "",
                    separator,
                ):  # a cell that ends in an inch mark
                    quote += 1
                    break
            else:
                parts.append(text[at : quote + 1])
                at = quote + 1
        fields.append("".join(parts))
        if quote + 1 >= len(text):
            return fields
        start = quote + 2


def without_spare(row: list[str], width: int) -> list[str]:
    """A row without the empty cells that separators at its end have made beyond the header's."""
    return row[:width] if len(row) > width and not "".join(row[width:]).strip() else row


class CsvReader:
    """csv.reader over a text, which keeps no more than one row in memory and passes over one that is too long."""

    def __init__(self, text: io.TextIOWrapper, separator: str, longest: int) -> None:
        self.text, self.separator, self.longest = text, separator, longest
        self.held: list[str] = []  # the lines of the row that is being read
        self.size = 0  # and their characters
        self.line = 0  # lines read
        self.waiting: deque[str] = deque()  # lines that are read again
        self.reread = 0  # characters of all of them
        self.repaired = 0  # rows that CSV's rules would have read wrong
        self.shape: RowShape | None = None
        self.begin()

    def begin(self) -> None:
        self.rows = csv.reader(self.lines(), delimiter=self.separator, strict=True)

    def readline(self) -> str:
        """The next line, or a piece of one that is longer than a row may be; empty at the end."""
        piece = self.waiting.popleft() if self.waiting else self.text.readline(self.longest)
        self.line += piece.endswith(("\n", "\r"))
        return piece

    def lines(self) -> Iterator[str]:
        held, longest = self.held, self.longest
        while line := self.readline():
            held.append(line)
            self.size += len(line)
            if self.size >= longest:
                raise OverflowError
            yield line

    def next(self) -> list[str] | str | None:
        """The next row, or the name of the reason why it cannot be read, or None at the end.

        Raises FileRefused for a quote that is never closed.
        """
        self.held.clear()
        self.size = 0
        start = self.line + 1
        entry: list[str] | str
        try:
            entry = next(self.rows)
        except StopIteration:
            return None
        except OverflowError:
            self.begin()
            if self.is_swallowed():
                return self.first_line()
            self.skip(start)
            return TOO_LARGE
        except csv.Error as error:
            if "unexpected end of data" not in str(error):
                entry = BROKEN_QUOTES
            elif self.is_swallowed() or self.is_last_line():
                self.begin()
                return self.first_line()
            else:
                raise unclosed(start) from None
        if self.shape is None:
            return entry
        if entry.__class__ is not str:
            entry = without_spare(entry, self.shape.width)  # type: ignore[arg-type]
            if len(self.held) == 1 and (len(entry) == self.shape.width or '"' not in self.held[0]):
                return entry
        return self.repair(entry, self.shape)

    def repair(self, entry: list[str] | str, shape: RowShape) -> list[str] | str:
        """A row that CSV's rules may have read wrong: it goes over several lines, is broken or has too few fields."""
        well_formed = isinstance(entry, list) and len(entry) == shape.width
        if len(self.held) > 1 and shape.are_rows(self.held, well_formed=well_formed):
            return self.first_line()
        if isinstance(entry, list):
            if len(self.held) > 1 or not entry:
                return entry
            # A quoted cell may well hold commas, hardly tabs: then the quotes are not what keeps the row together.
            fields = shape.row_of(self.held[0], plain=self.separator == "\t" and not shape.needs_quotes)
            self.repaired += fields is not None
            return entry if fields is None else fields
        fields = shape.row_of(self.held[0])
        if fields is None and (fields := self.continued(shape)) is not None:
            self.repaired += 1
            return fields
        return self.first_line()

    def is_swallowed(self) -> bool:
        """Whether the lines held are rows by themselves that a quote has made one row of."""
        return self.shape is not None and self.shape.are_rows(self.held)

    def is_last_line(self) -> bool:
        """Whether the only line held is a row by itself, in a file that has shown no need for CSV quotes."""
        shape = self.shape
        return len(self.held) == 1 and shape is not None and not shape.needs_quotes and bool(shape.row_of(self.held[0]))

    def first_line(self) -> list[str] | str:
        """The first line held as a row, or the reason why it is none; the others are read again."""
        first, *others = self.held
        self.give_back(others)
        self.held[:] = [first]
        self.size = len(first)
        fields = self.shape.row_of(first) if self.shape else None
        self.repaired += fields is not None
        return BROKEN_QUOTES if fields is None else fields

    def give_back(self, lines: Sequence[str]) -> None:
        """Lines to be read again. From `REREAD` characters on no row goes over several lines any more, so that a file
        cannot make its reader go over the same lines without end."""
        self.waiting.extendleft(reversed(lines))
        self.line -= sum(line.endswith(("\n", "\r")) for line in lines)
        self.reread += sum(map(len, lines))
        if self.reread > REREAD:
            self.rows = (self.single(line) for line in iter(self.readline, ""))  # type: ignore[assignment]

    def single(self, line: str) -> list[str]:
        """A line as a row of its own."""
        self.held.append(line)
        self.size += len(line)
        return strict(line, self.separator) or (self.shape and self.shape.row_of(line)) or [line]

    def continued(self, shape: RowShape) -> list[str] | None:
        """A row whose cell with quotes inside goes on over the next lines; None, and nothing read, if it is none."""
        text = "".join(self.held)
        more: list[str] = []
        while len(more) < CONTINUED and len(text) < self.longest and (line := self.readline()):
            more.append(line)
            text += line
            if line.count('"') and (fields := shape.row_of(text, plain=False)) is not None:
                self.held.extend(more)
                self.size = len(text)
                return fields
        self.give_back(more)
        return None

    def skip(self, start: int) -> None:
        """Pass over the rest of a row that is too long: to a line's end behind an even number of quotes."""
        odd = sum(line.count('"') for line in self.held) % 2
        piece = self.held[-1]
        while odd or not piece.endswith(("\n", "\r")):
            piece = self.readline()
            if not piece:
                if odd:
                    raise unclosed(start)
                break
            odd ^= piece.count('"') & 1


def unclosed(line: int) -> FileRefused:
    return FileRefused(
        "a quote is opened and never closed",
        f"the row that begins at line {line:,} goes on to the end of the file",
        "",
        'Close it, or write a quote inside a quoted cell as "".',
    )
