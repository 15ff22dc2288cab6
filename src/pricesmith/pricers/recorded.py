"""Prices that are already written down: a person's CSV, or saved answers, joined by id.

    pricesmith eval human:her_guesses.csv --catalog out/shop --to out/evals

The file has a column `id` and a column `price`; a price may be written as in a shop ("$1,299.00"). An id that is not in
the file, or a price that cannot be read, is no answer, and what was written is kept in `raw`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from pricesmith.catalog.money import parse_price
from pricesmith.catalog.read import BadRow, Limits, read, resolve
from pricesmith.errors import InputError
from pricesmith.settings import Settings
from pricesmith.types import Item, Listing, Pricer, Quote
from pricesmith.workspace import sha256

STEM = "recorded"


class Recorded(Settings):
    """Settings of the recorded pricer."""

    kind: ClassVar[str] = "recorded"
    file: str = Field("", description="a .csv, .jsonl, .parquet or .xlsx file with the columns id and price")

    def fit(self, train: Sequence[Item], validation: Sequence[Item], run: Path) -> None:
        """Copy the file into the run, after reading it once. Raises InputError where it cannot be used."""
        if not self.file:
            raise InputError("recorded needs a file of prices", hint="--set file=prices.csv")
        read_prices(Path(self.file))
        shutil.copyfile(self.file, run / f"{STEM}{''.join(Path(self.file).suffixes)}")

    def made_of(self) -> dict[str, str]:
        """The SHA-256 of the file, where it is there."""
        return {self.file: sha256(Path(self.file))} if Path(self.file).is_file() else {}

    def load(self, run: Path) -> Pricer:
        """The pricer that a run folder holds."""
        (file,) = run.glob(f"{STEM}.*")
        return RecordedPricer(read_prices(file), Path(self.file).stem or "recorded")


class RecordedPricer:
    """Quotes what was written down."""

    def __init__(self, quotes: Mapping[str, Quote], name: str) -> None:
        self.quotes, self._name = quotes, name

    @property
    def name(self) -> str:
        return self._name

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        """The recorded quote of each id, or none."""
        return [self.quotes.get(ware.id, Quote(None)) for ware in listings]


def read_prices(file: Path) -> dict[str, Quote]:
    """Quotes by id. Raises InputError where a column is missing or an id is there twice."""
    (source,) = resolve([str(file)])
    quotes: dict[str, Quote] = {}
    for batch in read(source, Limits()):
        for row in batch:
            if isinstance(row, BadRow):
                raise InputError(f"{file}, row {row.number} cannot be read", got=row.reason, hint="Correct the row.")
            if "id" not in row.values or "price" not in row.values:
                raise InputError(
                    f"{file} lacks a column",
                    got=", ".join(row.values),
                    allowed="id and price",
                    hint="Name the columns.",
                )
            name = str(row.values["id"] if row.values["id"] is not None else "")
            if name in quotes:
                raise InputError(f"{file} has the id {name!r} twice", got=f"row {row.number}", hint="Keep one of them.")
            said = row.values["price"]
            found = parse_price(said)
            raw = "" if said is None else str(said)
            quotes[name] = Quote(None, raw=raw) if isinstance(found, str) else Quote(found[0], raw=raw)
    if not quotes:
        raise InputError(f"{file} has no prices", hint="Write one line for each id.")
    return quotes
