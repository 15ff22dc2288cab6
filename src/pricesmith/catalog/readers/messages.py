"""What the child that parses an untrusted file writes: rows, notes, signs of life, and why a file cannot be used.

It starts several times for each file, so this module and what it imports are few and small.
"""

from __future__ import annotations

import json
import re
import signal
from collections import Counter
from collections.abc import Sequence
from typing import Any, BinaryIO

BATCH_ROWS = 2_000
BATCH_SIZE = 2_000_000  # characters
FREE = 64_000_000  # unpacked bytes before the ratio to the packed ones counts
TOO_LARGE = "cell too large"
WRONG_FIELDS = "wrong number of fields"
BLANK = "blank row"
HEADER_AGAIN = "the header again"
PLAIN = re.compile(r"[0-9]+(?:[.,][0-9]+)?", re.ASCII)
NUMBER = re.compile(r"[0-9](?:[0-9.,'\s]*[0-9])?", re.ASCII)
DIGIT = re.compile("[0-9]")
LONGEST_PRICE = 64  # characters of a cell with a price
MOST_SIGNS = 500  # different texts beside prices that are counted
AROUND = "\ufeff \t\r\n"  # what may stand around a name
SCANNED = 50_000  # rows between signs of life of a scan

Value = str | float | int | bool | None


class FileRefused(Exception):
    """The file as a whole cannot be used."""

    def __init__(self, what: str, got: str = "", allowed: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.facts = {"what": what, "got": got[:300], "allowed": allowed, "hint": hint}


def fold_name(name: str) -> str:
    """A column's name as the header of another export may write it: without spaces around, in lower case."""
    return name.replace("\x00", "").strip(AROUND).casefold()


class MessageWriter:
    """The way out: rows are gathered into batches; each message is a sign of life."""

    def __init__(self, limits: Any, out: BinaryIO) -> None:
        self.limits, self.out = limits, out
        self.batch: list[Any] = []
        self.size = self.rows = self.weight = self.blanks = 0
        self.keys: list[str] = []  # the header's names as `fold_name` writes them
        self.key_set: frozenset[str] = frozenset()
        self.longest = 0  # characters of a key

    def say(self, **message: Any) -> None:
        """Send one message; the time the reader takes is not ours."""
        if "header" in message:
            self.set_keys(message["header"])
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.out.write(json.dumps(message).encode("ascii") + b"\n")
        self.out.flush()
        signal.setitimer(signal.ITIMER_REAL, self.limits.seconds)

    def row(self, entry: Sequence[Value] | dict[str, Value] | str, size: int) -> None:
        """One row, or the name of the reason why there is none. `size` is its length in characters."""
        if self.blanks:
            blanks, self.blanks = self.blanks, 0
            for _ in range(blanks):
                self.row(BLANK, 0)
        if entry.__class__ is not str and self.repeats_header(entry):
            entry, size = HEADER_AGAIN, 0
        self.batch.append(entry)
        self.size += size
        self.weight += size
        if len(self.batch) >= BATCH_ROWS or self.size >= BATCH_SIZE:
            self.send()

    def repeats_header(self, entry: Sequence[Value] | dict[str, Value] | str) -> bool:
        """Whether a row is the header again, in whatever letter case, as files have it that were put together.

        Raises FileRefused for another header: the columns of the rows below it would be read under wrong names.
        """
        if isinstance(entry, dict):
            return len(entry) > 1 and all(
                isinstance(cell, str) and fold_name(cell) == fold_name(name) for name, cell in entry.items()
            )
        if len(entry) < 2 or len(entry) != len(self.keys):
            return False
        if not (self.is_name(entry[0]) or self.is_name(entry[1])):
            return False
        cells = [fold_name(cell) if isinstance(cell, str) else "0" for cell in entry]
        if cells == self.keys:
            return True
        known = sum(cell in self.key_set for cell in cells)
        if known < max(2, len(cells) / 2) or any(not cell or DIGIT.search(cell) for cell in cells):
            return False
        raise FileRefused(
            "it has a second header with other columns, or in another order",
            f"row {self.rows + len(self.batch) + 1:,}: {', '.join(cells)[:200]}",
            "one header, or the same one again",
            "Split the file there, so that each part has one header, and give both parts.",
        )

    def is_name(self, cell: Value) -> bool:
        """Whether a cell is the name of a column, in whatever letter case."""
        if not isinstance(cell, str):
            return False
        if len(cell) > self.longest and cell[0] not in AROUND and cell[-1] not in AROUND and "\x00" not in cell:
            return False  # folding makes no text shorter
        return fold_name(cell) in self.key_set

    def blank(self) -> None:
        """A row without a value. It keeps its place between other rows; at the end of a file nothing is said of it."""
        self.blanks += 1

    def send(self) -> None:
        """Send the rows gathered so far. Raises FileRefused over the limit of rows."""
        if not self.batch:
            return
        self.rows += len(self.batch)
        if self.rows > self.limits.rows:
            raise FileRefused(
                "it has too many rows",
                f"over {self.limits.rows:,}",
                f"{self.limits.rows:,} rows",
                "Split the file.",
            )
        if self.batch[0] and all(entry.__class__ is list for entry in self.batch):
            self.say(columns=[*zip(*self.batch, strict=True)])  # by column: most rows are never needed one by one
        else:
            self.say(rows=self.batch)
        self.batch, self.size = [], 0

    def header(self, names: list[str]) -> list[str]:
        """Announce the columns. Empty names get a number, repeated ones too; too many are refused."""
        if len(names) > self.limits.columns:
            raise too_many_columns(len(names), self.limits.columns)
        clean: list[str] = []
        for place, name in enumerate(names, start=1):
            name = name.replace("\x00", "").strip("\ufeff \t\r\n") or f"column {place}"
            if len(name) > 1_000:
                raise FileRefused(
                    "a column name is too long", f"{len(name):,} characters", "1,000", "Check the first row."
                )
            if name in clean:
                number = next(n for n in range(2, len(names) + 2) if f"{name} ({n})" not in clean)
                self.say(note=f"two columns are named {name!r}; the later one is called {name} ({number})")
                name = f"{name} ({number})"
            clean.append(name)
        self.say(header=clean)
        self.set_keys(names)
        return clean

    def set_keys(self, names: Sequence[str]) -> None:
        """Remember the header, to recognize it among the rows."""
        self.keys = [fold_name(name) for name in names]
        self.key_set = frozenset(self.keys) - {""}
        self.longest = max(map(len, self.keys), default=0)


class Scan(MessageWriter):
    """Reads the prices and currencies of all rows and sends no row: only decimal marks and counts of currencies.

    `signs` counts what stands beside the numbers in the column of prices, each number written as 9: `$9`, `9 EUR`.
    """

    def __init__(self, limits: Any, out: BinaryIO, column: str, currency: str = "", sale: str = "") -> None:
        super().__init__(limits, out)
        self.column, self.currency, self.sale, self.dots, self.commas = column, currency, sale, 0, 0
        self.names: list[str] = []
        self.signs: Counter[str] = Counter()
        self.codes: Counter[str] = Counter()
        self.filled = 0

    def summary(self) -> dict[str, Any]:
        """The decimal marks, the counts of signs and of currency codes, and the number of prices."""
        from pricesmith.text.price_parser import choose_marks

        return {
            "marks": choose_marks(self.dots, self.commas),
            "signs": dict(self.signs),
            "codes": dict(self.codes),
            "filled": self.filled,
        }

    def count_signs(self, cells: Sequence[Value]) -> None:
        """Count what stands beside the number of each price."""
        for cell in cells:
            if cell is None or cell == "":
                continue
            self.filled += 1
            if cell.__class__ is not str or PLAIN.fullmatch(cell) or len(cell) > LONGEST_PRICE:
                continue
            sign = " ".join(NUMBER.sub("9", cell).split())
            if sign in self.signs or len(self.signs) < MOST_SIGNS:
                self.signs[sign] += 1

    def say(self, **message: Any) -> None:
        """Send a sign of life or the end; notes and headers were sent when the file was first opened."""
        if "header" in message:
            self.names = [*message["header"]]
            self.set_keys(self.names)
        if not {"header", "note"} & message.keys():
            super().say(**message)

    def send(self) -> None:
        """Look at the prices of the rows gathered so far."""
        from pricesmith.text.price_parser import count_marks

        cells = self.cells(self.column)
        if self.sale:
            cells = [cell if sale in (None, "") else sale for sale, cell in zip(self.cells(self.sale), cells)]  # noqa: B905
        self.count_signs(cells)
        for code in self.cells(self.currency) if self.currency else ():
            if isinstance(code, str) and code.strip() and (code in self.codes or len(self.codes) < MOST_SIGNS):
                self.codes[code[:LONGEST_PRICE]] += 1
        dots, commas = count_marks(cells)
        self.dots, self.commas = self.dots + dots, self.commas + commas
        before, self.rows = self.rows, self.rows + len(self.batch)
        self.batch, self.size = [], 0
        if before // SCANNED < self.rows // SCANNED:
            self.say(alive=self.rows)

    def cells(self, column: str) -> list[Value]:
        """The cells of one column in the rows gathered so far."""
        place = self.names.index(column) if column in self.names else -1
        cells = []
        for entry in self.batch:
            if entry.__class__ is dict:
                cells.append(entry.get(column))
            elif entry.__class__ is not str and place >= 0:
                cells.append(entry[place])
        return cells


def too_many_columns(got: int, allowed: int) -> FileRefused:
    return FileRefused(
        "it has too many columns",
        f"{got:,}",
        f"{allowed:,} columns",
        "Keep the columns that describe the thing.",
    )
