"""Reads the price that a row of a file asks, in the currency of a model, as `curate` reads prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pricesmith.catalog.columns import ColumnMap, format_header
from pricesmith.catalog.listing_reader import ListingReader
from pricesmith.catalog.readers.sources import Limits, RawRow, Source, find_marks, read_rows
from pricesmith.catalog.row_price import check_price_columns, read_price
from pricesmith.catalog.staging import same_currency
from pricesmith.core.errors import UsageError

OTHER_CURRENCY = "a price in another currency"


@dataclass(frozen=True)
class AskedPriceReader:
    """The columns of a file, that of currency codes if there is one, and the decimal marks of its prices."""

    columns: ColumnMap
    currency_column: str | None
    currency: str
    marks: str

    @classmethod
    def open(cls, source: Source, reader: ListingReader, currency: str) -> AskedPriceReader:
        """The reader for a file.

        Raises UsageError if it has no price column, or if its sale prices are none by what they hold (as `curate`
        does), and InputError if it cannot be read.
        """
        header, columns = reader.header, reader.columns
        if not columns.price or columns.price not in header:
            raise UsageError(
                f"{source.name} has no column of asked prices",
                got=format_header(header),
                allowed="a column with a usual name such as price",
                hint="Name it: --map price=COLUMN (in Python: mapping={'price': 'COLUMN'}).",
            )
        if columns.sale:
            check_price_columns(first_rows(source), columns, header)
        codes = columns.currency if columns.currency in header else None
        return cls(columns, codes, currency, find_marks(source, columns.price, columns.sale))

    def read(self, values: Mapping[str, str | float | int | bool | None]) -> float | str:
        """The price of a row, or the reason why it has none that can be read."""
        parsed, _ = read_price(values, self.columns, self.currency, self.marks)
        if isinstance(parsed, str):
            return f"no asked price: {parsed}"
        price, named = parsed
        code = values.get(self.currency_column) if self.currency_column else None
        return price if same_currency(code, named, self.currency) else OTHER_CURRENCY


def first_rows(source: Source) -> list[Mapping[str, object]]:
    """The values of the rows of a file's first batch."""
    batches = read_rows(source, Limits())
    try:
        return [row.values for row in next(batches, []) if isinstance(row, RawRow)]
    finally:
        getattr(batches, "close", lambda: None)()
