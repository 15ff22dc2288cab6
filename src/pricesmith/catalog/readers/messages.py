"""What the parsing child says: rows, notes, signs of life, and why a file cannot be used (see `sandbox`).

One message: {"rows": [["Garden hose", "$24.50"], "wrong number of fields"]}
"""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from typing import Any, BinaryIO

from pricesmith.text.price_parser import choose_marks, count_marks

BATCH_ROWS = 2_000
BATCH_SIZE = 2_000_000  # characters
FREE = 64_000_000  # unpacked bytes before the ratio to the packed ones counts
TOO_LARGE = "cell too large"
WRONG_FIELDS = "wrong number of fields"
BLANK = "blank row"
SCANNED = 50_000  # rows between signs of life of a scan

Value = str | float | int | bool | None


class FileRefused(Exception):
    """The file as a whole cannot be used."""

    def __init__(self, what: str, got: str = "", allowed: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.facts = {"what": what, "got": got[:300], "allowed": allowed, "hint": hint}


class MessageWriter:
    """The way out: rows are gathered into batches; each message is a sign of life."""

    def __init__(self, limits: Any, out: BinaryIO) -> None:
        self.limits, self.out = limits, out
        self.batch: list[Any] = []
        self.size = self.rows = self.weight = self.blanks = 0

    def say(self, **message: Any) -> None:
        """Send one message; the time the reader takes is not ours."""
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
        self.batch.append(entry)
        self.size += size
        self.weight += size
        if len(self.batch) >= BATCH_ROWS or self.size >= BATCH_SIZE:
            self.send()

    def blank(self) -> None:
        """A row without a value. It keeps its place between other rows; at the end of a file nothing is said of it."""
        self.blanks += 1

    def send(self) -> None:
        """Send the rows gathered so far. Raises Refused over the limit of rows."""
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
        return clean


class Scan(MessageWriter):
    """Looks at one column of all rows and sends no row: the decimal marks of a whole file's prices."""

    def __init__(self, limits: Any, out: BinaryIO, column: str) -> None:
        super().__init__(limits, out)
        self.column, self.dots, self.commas = column, 0, 0
        self.names: list[str] = []

    @property
    def marks(self) -> str:
        """The decimal marks of the prices looked at so far."""
        return choose_marks(self.dots, self.commas)

    def say(self, **message: Any) -> None:
        """Send a sign of life or the end; notes and headers were sent when the file was first opened."""
        if "header" in message:
            self.names = [*message["header"]]
        if not {"header", "note"} & message.keys():
            super().say(**message)

    def send(self) -> None:
        """Look at the prices of the rows gathered so far."""
        place = self.names.index(self.column) if self.column in self.names else -1
        cells = []
        for entry in self.batch:
            if entry.__class__ is dict:
                cells.append(entry.get(self.column))
            elif entry.__class__ is not str and place >= 0:
                cells.append(entry[place])
        dots, commas = count_marks(cells)
        self.dots, self.commas = self.dots + dots, self.commas + commas
        before, self.rows = self.rows, self.rows + len(self.batch)
        self.batch, self.size = [], 0
        if before // SCANNED < self.rows // SCANNED:
            self.say(alive=self.rows)


def too_many_columns(got: int, allowed: int) -> FileRefused:
    return FileRefused(
        "it has too many columns",
        f"{got:,}",
        f"{allowed:,} columns",
        "Keep the columns that describe the thing.",
    )
