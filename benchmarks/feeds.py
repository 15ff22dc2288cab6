"""What curate makes of a folder of product files: one line a file, as a table of docs/feeds.md.

    python benchmarks/feeds.py DIR            # every file below DIR; prints Markdown

For each file: the kind recognized, rows, rows kept, rejected rows by reason, seconds, and the result: a catalog with
its currency, or the error. If its hint names an option, the command is run again with it, and the second result is
shown. No content of a file is printed, only the names of its columns in such options.
"""

from __future__ import annotations

import argparse
import re
import shlex
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pricesmith.catalog.curation import curate
from pricesmith.core.errors import PricesmithError
from pricesmith.core.progress import Progress

TOO_FEW = re.compile(r"(?P<kept>[\d,]+) of (?P<rows>[\d,]+) rows(?:; )?(?P<rejected>.*)")
OPTION = re.compile(r"--(?:map|currency|sheet|delimiter) .*")
LABEL = re.compile(r": (?P<label>[^:]+): [\d,]+ rows?(?:, (?P<products>[\d,]+ products?))?$")
CURRENCY = re.compile("--currency [A-Z]{3}")
NAMES = {"--map": "mapping", "--currency": "currency", "--sheet": "sheet", "--delimiter": "delimiter"}


class NoteList(Progress):
    """Keeps the notes of a command."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


@dataclass(frozen=True)
class Outcome:
    """What became of one file."""

    kind: str
    rows: str
    kept: str
    rejected: str
    seconds: float
    result: str
    hint: str = ""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    files = sorted(file for file in parser.parse_args().folder.rglob("*") if file.is_file() and file.suffix != ".tsv")
    files += sorted(file for file in parser.parse_args().folder.rglob("*.tsv") if file.name != "INDEX.tsv")
    print("| File | Kind | Rows | Kept | Rejected | Seconds | Result |\n|---|---|---|---|---|---|---|")
    for file in files:
        outcome = run(file, {})
        print(format_line(file.name, outcome), flush=True)
        if option := OPTION.search(outcome.hint):
            name, value = parse_option(option[0])
            print(format_line(f"{file.name} with `{name} {shlex.quote(value)}`", run(file, settings_of(name, value))))


def parse_option(text: str) -> tuple[str, str]:
    """The option in a hint and its value, as a shell reads it."""
    name, value = shlex.split(text)[:2]
    return name, value.rstrip(".")


def settings_of(name: str, value: str) -> dict[str, Any]:
    """The argument of `curate` for an option."""
    if name == "--map":
        field, _, column = value.partition("=")
        return {"mapping": {field: column}}
    return {NAMES[name]: value}


def run(file: Path, settings: dict[str, Any]) -> Outcome:
    """Curate one file."""
    notes = NoteList()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        try:
            ledger = curate([str(file)], Path(folder) / "catalog", progress=notes, **settings).ledger
        except PricesmithError as error:
            return failed(error, read_kind(notes.texts), time.perf_counter() - start)
    rejected = "; ".join(f"{count:,} {reason}" for reason, count in ledger["rows"]["rejected"].items())
    source = ledger["currency_source"]
    noted = next((match[0] for text in notes.texts if (match := CURRENCY.search(text))), "")
    assumed = f" (assumed{noted and f'; the note says {noted}'})" if source == "assumed" else ""
    counts = [f"{ledger['rows'][name]:,}" for name in ("in", "kept")]
    seconds = time.perf_counter() - start
    return Outcome(read_kind(notes.texts), *counts, rejected, seconds, f"catalog in {ledger['currency']}{assumed}")


def failed(error: PricesmithError, kind: str, seconds: float) -> Outcome:
    """The outcome of a file that is refused. What an error quotes from the file is left out."""
    what = error.what.partition(": ")[2] or error.what
    if match := TOO_FEW.match(error.got or ""):
        return Outcome(kind, match["rows"], match["kept"], match["rejected"], seconds, "refused: fewer than 100 rows")
    return Outcome(kind, "", "", "", seconds, f"refused: {what}", error.hint)


def read_kind(notes: Sequence[str]) -> str:
    """The kind and the number of products in the notes of a command."""
    for text in reversed(notes):
        if match := LABEL.search(text):
            return match["label"] + (f", {match['products']}" if match["products"] else "")
    return ""


def format_line(name: str, outcome: Outcome) -> str:
    """One line of the table."""
    cells = (name, outcome.kind, outcome.rows, outcome.kept, outcome.rejected, f"{outcome.seconds:.1f}", outcome.result)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    main()
