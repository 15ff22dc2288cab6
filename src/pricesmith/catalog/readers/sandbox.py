"""The sandbox for untrusted files: a child process parses them and answers in JSON lines. Both ends of that pipe.

The child (`python -m pricesmith.catalog.readers.worker`) gets the opened file as its standard input, no environment of
ours, little memory, no right to write files, and where the kernel allows it no network (except to read a table of a
server). It writes messages with a
`MessageWriter` or a `Scan`: rows, notes, signs of life, and why a file cannot be used. One message:

    {"rows": [["Garden hose", "$24.50"], "wrong number of fields"]}

`run_worker` reads them. A child that dies, hangs, or says that a file cannot be used becomes an InputError with the
file's name.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO

from pricesmith.core.errors import InputError
from pricesmith.text.price_parser import choose_marks, count_marks

KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "TZ", "SYSTEMROOT")
GRACE = 5.0  # seconds that the child's own alarm goes before ours
PIECE = 1 << 18


def run_worker(
    path: Path | None,
    task: Mapping[str, Any],
    pages: Sequence[Path] = (),
    *,
    text: str = "",
    variables: Mapping[str, str] | None = None,
) -> Generator[dict[str, Any], None, None]:
    """The messages of a child that parses `path`, or all `pages` in turn; or, without a path, works on `text`, which
    no other user can see, with these environment `variables`.

    Raises InputError where it refuses it, dies or hangs.
    """
    name, seconds = task["name"], task["limits"]["seconds"]
    try:
        file: Any = contextlib.nullcontext() if path is None else path.open("rb")
    except OSError as error:
        raise InputError(f"{name} cannot be opened", got=error.strerror or str(error), hint="Check the path.") from None
    command = [sys.executable, "-m", "pricesmith.catalog.readers.worker", json.dumps(task)]
    with (
        file,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE if pages or path is None else file,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=worker_environment() | dict(variables or {}),
        ) as child,
    ):
        assert child.stdout is not None
        if pages:
            threading.Thread(target=send_pages, args=(child.stdin, pages), daemon=True).start()
        elif path is None:
            assert child.stdin is not None
            with contextlib.suppress(OSError), child.stdin:  # a child that has died says so below
                child.stdin.write(text.encode())
        try:
            done = False
            for line in read_lines(child.stdout, name, seconds):
                message = json.loads(line)
                if refusal := message.get("refused"):
                    raise InputError(f"{name}: {refusal['what']}", **{k: v for k, v in refusal.items() if k != "what"})
                done = done or "done" in message
                yield message
            if not done:
                raise crash_error(name, child.wait(GRACE), task)
        finally:
            child.kill()


def send_pages(pipe: IO[bytes], pages: Sequence[Path]) -> None:
    """Write files to a child, each as a line of JSON with its name and length, and its bytes."""
    with contextlib.suppress(OSError), pipe:
        for page in pages:
            try:
                body = page.read_bytes()
            except OSError:
                body = b""
            pipe.write(json.dumps({"name": page.name, "length": len(body)}).encode() + b"\n" + body)


def read_lines(pipe: IO[bytes], name: str, seconds: float) -> Iterator[bytes]:
    """Whole lines from a pipe. Raises InputError if nothing comes for `seconds` and some grace."""
    handle, rest = pipe.fileno(), bytearray()
    poll = select.poll()
    poll.register(handle, select.POLLIN | select.POLLHUP)
    while True:
        if not poll.poll(int((seconds + GRACE) * 1000)):
            raise timeout_error(name, seconds)
        piece = os.read(handle, PIECE)
        if not piece:
            return
        rest += piece
        if (end := rest.rfind(b"\n")) >= 0:
            yield from bytes(rest[:end]).split(b"\n")
            del rest[: end + 1]


def worker_environment() -> dict[str, str]:
    """What the child knows of ours: where the package lies, and nothing else."""
    ours = {name: os.environ[name] for name in KEPT if name in os.environ}
    places = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    return ours | {
        "PYTHONPATH": os.pathsep.join(place for place in places if place),
        "PYTHONSAFEPATH": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "1",
    }


def timeout_error(name: str, seconds: float) -> InputError:
    return InputError(
        f"{name} cannot be read: no answer for {seconds:g} s",
        hint="Write the file again, or split it.",
    )


def crash_error(name: str, code: int, task: Mapping[str, Any]) -> InputError:
    """The error for a child that ended without saying that it was done."""
    if code == -signal.SIGALRM:
        return timeout_error(name, task["limits"]["seconds"])
    if task["format"] == "postgresql":
        return InputError(
            f"{name}: reading the table ended unexpectedly",
            got=f"the reading process was ended by {signal.Signals(-code).name}" if code < 0 else f"code {code}",
            hint="Read fewer columns with ?query=SELECT ..., or export the table as CSV.",
        )
    got = f"the parser was ended by {signal.Signals(-code).name}" if code < 0 else f"the parser ended with code {code}"
    return InputError(
        f"{name} cannot be read as {task['format']}",
        got=got,
        hint="The file is damaged or was made to break its reader: write it again.",
    )


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
SCANNED = 50_000  # rows between signs of life of a scan

Value = str | float | int | bool | None


class FileRefused(Exception):
    """The file as a whole cannot be used."""

    def __init__(self, what: str, got: str = "", allowed: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.facts = {"what": what, "got": got[:300], "allowed": allowed, "hint": hint}


def fold_name(name: str) -> str:
    """A column's name as the header of another export may write it: without spaces around, in lower case."""
    return name.replace("\x00", "").strip("\ufeff \t\r\n").casefold()


class MessageWriter:
    """The way out: rows are gathered into batches; each message is a sign of life."""

    def __init__(self, limits: Any, out: BinaryIO) -> None:
        self.limits, self.out = limits, out
        self.batch: list[Any] = []
        self.size = self.rows = self.weight = self.blanks = 0
        self.keys: list[str] = []  # the header's names as `fold_name` writes them
        self.key_set: frozenset[str] = frozenset()

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
        if not any(isinstance(cell, str) and fold_name(cell) in self.key_set for cell in entry[:2]):
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
