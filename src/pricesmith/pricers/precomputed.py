"""Prices that are already written down: a person's CSV, or saved answers, joined by id.

    pricesmith eval human:her_guesses.csv --catalog out/shop --to out/evals

The file has a column `id` and a column `price`; a price may be written as in a shop ("$1,299.00"), and a column
`currency` may stand beside it. An id is read as curate reads it. An id that is not in the file, or a price that cannot
be read, is no answer, and what was written is kept in `raw`. A price in another currency than the catalog's is refused.
The decimal mark is the one that all prices of the file show: beside "62,39", "1.299" is 1299.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from pricesmith.catalog.clean import cell_text
from pricesmith.catalog.readers.messages import BLANK
from pricesmith.catalog.readers.sources import BadRow, Limits, RawRow, find_marks, read_rows, resolve_sources
from pricesmith.catalog.staging import clean_id, same_currency
from pricesmith.core.atomic import sha256
from pricesmith.core.errors import InputError
from pricesmith.core.model_files import read_object
from pricesmith.core.settings import Settings
from pricesmith.core.types import Item, Listing, Pricer, Quote
from pricesmith.text.price_parser import parse_price

STEM = "precomputed"
CATALOG = "catalog.json"  # every run has it


class PrecomputedRecipe(Settings):
    """Settings of the recorded pricer."""

    kind: ClassVar[str] = "precomputed"
    file: str = Field("", description="a .csv, .jsonl, .parquet or .xlsx file with the columns id and price")

    def fit(self, train: Sequence[Item], validation: Sequence[Item], run: Path) -> None:
        """Copy the file into the run, after reading it once. Raises InputError where it cannot be used."""
        if not self.file:
            raise InputError("recorded needs a file of prices", hint="--set file=prices.csv")
        read_prices(Path(self.file), file_currency(run))
        shutil.copyfile(self.file, run / self.files[0])

    @property
    def files(self) -> tuple[str, ...]:
        """The copy of the file, by its name in the model folder."""
        return (f"{STEM}{''.join(Path(self.file).suffixes)}",)

    def paths(self) -> list[Path]:
        """The file of prices, if one is named."""
        return [Path(self.file)] if self.file else []

    def made_of(self) -> dict[str, dict[str, str]]:
        """The file's name and SHA-256, where it is there."""
        file = Path(self.file)
        return {"file": {file.name: sha256(file)}} if file.is_file() else {}

    def kept(self, run: Path) -> list[Path]:
        """The copy of the file that a run holds."""
        return [run / name for name in self.files]

    def made_from(self, paths: Sequence[Path]) -> PrecomputedRecipe:
        """The same recipe of a file elsewhere."""
        return self.model_copy(update={"file": str(paths[0])})

    def load(self, run: Path) -> Pricer:
        """The pricer that a run folder holds."""
        (file,) = self.kept(run)
        return PrecomputedPricer(read_prices(file, file_currency(run)), Path(self.file).stem or "precomputed")


class PrecomputedPricer:
    """Quotes what was written down."""

    def __init__(self, quotes: Mapping[str, Quote], name: str) -> None:
        self.quotes, self._name = quotes, name

    @property
    def name(self) -> str:
        return self._name

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        """The recorded quote of each id, or none."""
        return [self.quotes.get(ware.id, Quote(None)) for ware in listings]


def file_currency(run: Path) -> str:
    """The currency of the catalog that a run is of."""
    return str(read_object(run / CATALOG)["currency"])


def read_prices(file: Path, currency: str) -> dict[str, Quote]:
    """Quotes in the catalog's currency, by id.

    Raises InputError where a column is missing, an id is missing or there twice, or a price is in another currency.
    """
    (source,) = resolve_sources([str(file)])
    quotes: dict[str, Quote] = {}
    marks = find_marks(source, "price")
    for batch in read_rows(source, Limits()):
        for row in batch:
            if isinstance(row, BadRow):
                if row.reason == BLANK:
                    continue
                raise InputError(f"{file}, row {row.number} cannot be read", got=row.reason, hint="Correct the row.")
            name, quote = parse_answer(row, file, currency, marks)
            if name in quotes:
                raise InputError(f"{file} has the id {name!r} twice", got=f"row {row.number}", hint="Keep one of them.")
            quotes[name] = quote
    if not quotes:
        raise InputError(f"{file} has no prices", got="0 rows", hint="Write one line for each id.")
    return quotes


def parse_answer(row: RawRow, file: Path, currency: str, marks: str) -> tuple[str, Quote]:
    """One row's id and quote. Raises InputError as `read_prices` does."""
    values = row.values
    if "id" not in values or "price" not in values:
        raise InputError(
            f"{file} lacks a column", got=", ".join(values), allowed="id and price", hint="Name the columns."
        )
    name, said = clean_id(cell_text(values["id"])), values["price"]
    if not name:
        raise InputError(f"{file}, row {row.number} has no id", hint="Give the row its id, or delete it.")
    found, raw = parse_price(said, currency, marks), cell_text(said)
    beside = values.get("currency")
    other = found[1] if isinstance(found, tuple) else None
    if not same_currency(beside, other, currency):
        raise InputError(
            f"{file}, row {row.number} is in another currency than the catalog",
            got=f"{raw} {cell_text(beside)}".strip(),
            allowed=currency,
            hint=f"Write the prices in {currency}.",
        )
    return name, Quote(None, raw=raw) if isinstance(found, str) else Quote(found[0], raw=raw)
