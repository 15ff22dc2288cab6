"""Reads the listings and the asked prices of a file that a model is to audit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pricesmith.catalog.asked_prices import AskedPriceReader
from pricesmith.catalog.listing_reader import build_reader
from pricesmith.catalog.price_columns import describe_choice
from pricesmith.catalog.readers.feeds import read_inherited
from pricesmith.catalog.readers.sources import BadRow, Limits, single_source
from pricesmith.catalog.readers.table_copies import table_copies
from pricesmith.core.errors import InputError
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.types import Listing


@dataclass
class AskedFile:
    """The listings of a file with their prices, of equal length: a price is None if there is none that can be read, for
    the reason in `reasons`. `unread` counts rows that are no listing, by reason."""

    name: str
    listings: list[Listing] = field(default_factory=list)
    prices: list[float | None] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)


@table_copies()
def read_asked_file(
    file: Path | str, info: Mapping[str, Any], mapping: Mapping[str, str] | None = None, progress: Progress = SILENT
) -> AskedFile:
    """Every listing of a file, or of another source, with its asked price; `info` is the model's catalog.json.

    Raises UsageError if it is not one file, or has no column of prices or none that the model knows, and InputError if
    it cannot be read or no row has a price.
    """
    source = single_source(str(file), progress, "Audit")
    reader = build_reader(source, info, mapping)
    prices = AskedPriceReader.open(source, reader, str(info["currency"]))
    if prices.columns.sale:
        progress.note(f"{source.name}: {describe_choice(prices.columns.price, prices.columns.sale, reader.header)}")
    read = AskedFile(source.name)
    progress.start(f"reading {source.name}")
    for batch in read_inherited(source, Limits(), progress, reader.variants):
        for row in batch:
            if isinstance(row, BadRow):
                read.unread[row.reason] += 1
                continue
            price = prices.read(row.values)
            read.listings.append(reader.listing(row))
            read.prices.append(None if isinstance(price, str) else price)
            read.reasons.append(price if isinstance(price, str) else "")
    if not any(price is not None for price in read.prices):
        reasons = Counter([reason for reason in read.reasons if reason]) + read.unread
        raise InputError(
            f"No row of {source.name} has a price that can be read",
            got=", ".join(f"{count:,} x {reason}" for reason, count in reasons.most_common(3)) or "0 rows",
            hint="Name the column of asked prices: --map price=COLUMN.",
        )
    return read
