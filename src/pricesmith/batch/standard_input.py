"""Listings from standard input, and prices printed instead of written: `pricesmith price MODEL -`."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from pricesmith.catalog.clean import CleanSettings
from pricesmith.catalog.columns import ColumnMap
from pricesmith.catalog.listing_reader import ListingReader
from pricesmith.core.errors import InputError
from pricesmith.core.settings import parse_settings
from pricesmith.text.formatting import format_money

COLUMN = "text"
SHOWN_ROWS = 200  # of a table on a terminal


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that goes away at the end."""
    folder = Path(tempfile.mkdtemp(prefix="pricesmith-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def save_input(stream: IO[bytes], folder: Path, info: Mapping[str, Any]) -> tuple[Path, ListingReader | None]:
    """Standard input as a JSON Lines file, and the reader of its rows; None if the file's own keys choose the columns.

    Input that begins with `{` is JSON Lines; in any other each line that is not blank is the text of one listing.
    Raises InputError if there is nothing in it.
    """
    path = folder / "input.jsonl"
    lines = (line for line in stream if line.strip())
    first = next(lines, None)
    if first is None:
        raise InputError(
            "Standard input is empty",
            allowed="one listing a line, as text or as JSON",
            hint="For example: echo 'Cordless drill, 18 V' | pricesmith price MODEL -",
        )
    is_json = first.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")
    with path.open("wb") as out:
        for line in (first, *lines) if not is_json else ():
            text = line.decode("utf-8-sig" if line is first else "utf-8", "replace").strip()
            out.write(json.dumps({COLUMN: text}).encode() + b"\n")
        if is_json:
            out.write(first.rstrip(b"\n") + b"\n")
            for line in lines:
                out.write(line)
    if is_json:
        return path, None
    cleaning = parse_settings(CleanSettings, info["cleaning"], where="catalog.json")
    return path, ListingReader(ColumnMap(title=COLUMN, price=""), cleaning, "", frozenset({COLUMN}))


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file."""
    with path.open(encoding="utf-8") as handle:
        return [json.loads(line) for line in handle]


def prices_table(path: Path, currency: str) -> Any:
    """The first rows of a CSV file of prices as a table for a terminal: a name for each row, price, interval, note."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("listing", overflow="ellipsis", no_wrap=True)
    table.add_column("price", justify="right", no_wrap=True)
    table.add_column("90 % interval", no_wrap=True)
    table.add_column("note")
    with path.open(encoding="utf-8", newline="") as handle:
        for number, row in enumerate(csv.DictReader(handle)):
            if number == SHOWN_ROWS:
                break
            last = dict(reversed(list(row.items())))  # the added columns are the last ones
            price, low, high, note = (pick(last, name) for name in ("price", "low", "high", "note"))
            interval = f"{money(low, currency)} to {money(high, currency)}" if low and high else ""
            table.add_row(Text(row_label(row)), money(price, currency) if price else "", interval, Text(note))
    return table


def pick(row: Mapping[str, str], name: str) -> str:
    """The value of an added column under whichever name it has."""
    return next((cell for column, cell in row.items() if column == name or column.endswith(f"predicted_{name}")), "")


def money(cell: str, currency: str) -> str:
    return format_money(float(cell), currency)


def row_label(row: Mapping[str, str]) -> str:
    """What a row is called on a terminal: its first two columns."""
    return ", ".join(cell for cell in list(row.values())[:2] if cell)[:120]
