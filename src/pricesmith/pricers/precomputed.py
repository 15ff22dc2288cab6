"""Precomputed prices: a person's CSV, or saved quotes, joined by id.

    pricesmith eval human:her_guesses.csv --catalog out/shop --to out/evals

The file has the columns `id` and `price`, and may have a column `currency`; a price may be written as in a shop
("$1,299.00"). Ids are read as curate reads them. A listing is unanswered if its id is not in the file or its price
cannot be parsed; the text of the price is in `raw`. A price in another currency than the catalog's is refused. The
decimal mark is the one that all prices of the file agree on: in a file with "62,39", "1.299" is 1299.
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
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.settings import Settings
from pricesmith.core.types import Item, Listing, Pricer, Quote
from pricesmith.text.price_parser import parse_price

STEM = "precomputed"
CATALOG = "catalog.json"  # every model folder has it


class PrecomputedRecipe(Settings):
    """Settings of the precomputed pricer."""

    kind: ClassVar[str] = "precomputed"
    file: str = Field("", description="a .csv, .jsonl, .parquet or .xlsx file with the columns id and price")

    def fit(self, train: Sequence[Item], validation: Sequence[Item], folder: Path, progress: Progress = SILENT) -> None:
        """Copy the file into the model folder. Raises InputError if it cannot be used."""
        if not self.file:
            raise InputError("The recipe precomputed needs a file of prices", hint="Add --set file=prices.csv.")
        read_prices(Path(self.file), file_currency(folder))
        shutil.copyfile(self.file, folder / self.files[0])

    @property
    def files(self) -> tuple[str, ...]:
        """The copy of the file, by its name in the model folder."""
        return (f"{STEM}{''.join(Path(self.file).suffixes)}",)

    def paths(self) -> list[Path]:
        """The file of prices, if one is named."""
        return [Path(self.file)] if self.file else []

    def content_hashes(self) -> dict[str, dict[str, str]]:
        """The name and SHA-256 of the file, if it exists."""
        file = Path(self.file)
        return {"file": {file.name: sha256(file)}} if file.is_file() else {}

    def stored_copies(self, folder: Path) -> list[Path]:
        """The copy of the file in a model folder."""
        return [folder / name for name in self.files]

    def with_paths(self, paths: Sequence[Path]) -> PrecomputedRecipe:
        """The same recipe with another path of the file."""
        return self.model_copy(update={"file": str(paths[0])})

    def load(self, folder: Path) -> Pricer:
        """The pricer of a model folder."""
        (file,) = self.stored_copies(folder)
        return PrecomputedPricer(read_prices(file, file_currency(folder)), Path(self.file).stem or "precomputed")


class PrecomputedPricer:
    """Quotes the prices of a file."""

    def __init__(self, quotes: Mapping[str, Quote], name: str) -> None:
        self.quotes, self._name = quotes, name

    @property
    def name(self) -> str:
        return self._name

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        """The quote of each id; ids that are not in the file are unanswered."""
        return [self.quotes.get(listing.id, Quote(None)) for listing in listings]


def file_currency(folder: Path) -> str:
    """The currency of the catalog of a model folder."""
    return str(read_object(folder / CATALOG)["currency"])


def read_prices(file: Path, currency: str) -> dict[str, Quote]:
    """Quotes in the catalog's currency, by id.

    Raises InputError if a column is missing, an id is missing or not unique, or a price is in another currency.
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
            id, quote = parse_row(row, file, currency, marks)
            if id in quotes:
                raise InputError(f"{file} has the id {id!r} twice", got=f"row {row.number}", hint="Keep one of them.")
            quotes[id] = quote
    if not quotes:
        raise InputError(f"{file} has no prices", got="0 rows", hint="Write one line for each id.")
    return quotes


def parse_row(row: RawRow, file: Path, currency: str, marks: str) -> tuple[str, Quote]:
    """The id and the quote of a row. Raises InputError like `read_prices`."""
    values = row.values
    if "id" not in values or "price" not in values:
        raise InputError(
            f"{file} lacks a column",
            got=", ".join(values),
            allowed="id and price",
            hint="Rename the columns of the file to id and price.",
        )
    id, cell = clean_id(cell_text(values["id"])), values["price"]
    if not id:
        raise InputError(f"{file}, row {row.number} has no id", hint="Give the row its id, or delete it.")
    parsed, raw = parse_price(cell, currency, marks), cell_text(cell)
    own_currency = values.get("currency")
    other = parsed[1] if isinstance(parsed, tuple) else None
    if not same_currency(own_currency, other, currency):
        raise InputError(
            f"{file}, row {row.number} is in another currency than the catalog",
            got=f"{raw} {cell_text(own_currency)}".strip(),
            allowed=currency,
            hint=f"Write the prices in {currency}.",
        )
    return id, Quote(None, raw=raw) if isinstance(parsed, str) else Quote(parsed[0], raw=raw)
