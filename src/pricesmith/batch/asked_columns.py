"""The columns that `price --file --audit` adds: the asked price, its assessment and its p-value.

A part holds asked prices and p-values. Which of them are over or under depends on all p-values of the file, so the
assessment is made when the parts are joined.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pricesmith.catalog.asked_prices import AskedPriceReader
from pricesmith.catalog.listing_reader import ListingReader
from pricesmith.catalog.readers.sources import Source
from pricesmith.core.errors import UsageError
from pricesmith.core.types import Pricer, Quote
from pricesmith.metrics.multiple_tests import benjamini_hochberg
from pricesmith.pricers.asked_price import MAX_WRONG_SHARE, OVER, PLAUSIBLE, UNDER
from pricesmith.pricers.model import PriceModel
from pricesmith.pricers.price_auditor import PriceAuditor

if TYPE_CHECKING:
    import pyarrow as pa

FDR = 0.1


@dataclass(frozen=True)
class AskedPrices:
    """The asked prices of a file's rows, and their p-values by a model."""

    auditor: PriceAuditor
    reader: AskedPriceReader

    @classmethod
    def open(cls, pricer: Pricer, source: Source, reader: ListingReader) -> AskedPrices:
        """The asked prices of a file. Raises UsageError if it has no column of prices, or if the model cannot audit."""
        if not isinstance(pricer, PriceModel):
            raise UsageError("--audit needs a fitted model", got=pricer.name, hint="Leave out --audit.")
        auditor = PriceAuditor(pricer)
        return cls(auditor, AskedPriceReader.open(source, reader, str(pricer.info["currency"])))

    def assess(self, rows: Sequence[Mapping[str, Any]], quotes: Sequence[Quote]) -> list[AskedPrice]:
        """The asked price of each row with its quote."""
        read = [self.reader.read(values) for values in rows]
        prices = [None if isinstance(price, str) else price for price in read]
        scores = self.auditor.score(quotes, prices)
        p_values = self.auditor.errors.tail_p_values(scores, MAX_WRONG_SHARE)
        return [
            AskedPrice(price, None if math.isnan(p) else float(p), text if isinstance(text, str) else "")
            for text, price, p in zip(read, prices, p_values, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class AskedPrice:
    """The asked price of a row and its p-value; the reason says why there is none."""

    price: float | None
    p_value: float | None
    reason: str


def read_assessments(paths: Sequence[Path]) -> list[str]:
    """The assessment of every row of all parts, in order; empty without a p-value."""
    import pyarrow.parquet as pq

    names = ["p_value", "asked_price", "price"]
    tables = [pq.read_table(path, columns=names) for path in paths]
    p_values, asked, prices = (
        np.concatenate([np.zeros(0), *(table.column(name).to_numpy() for table in tables)]) for name in names
    )
    adjusted = benjamini_hochberg(np.where(np.isnan(prices), np.nan, p_values))
    names_of = np.array(["", PLAUSIBLE, OVER, UNDER], dtype=object)
    codes = np.select([np.isnan(adjusted), adjusted > FDR, asked > prices], [0, 1, 2], 3)
    assessments: list[str] = names_of[codes].tolist()
    return assessments


def add_assessments(part: pa.Table, assessments: Sequence[str]) -> pa.Table:
    """The table of a part with its column of assessments."""
    import pyarrow as pa

    place = part.schema.get_field_index("assessment")
    return part.set_column(place, part.schema.field(place), pa.array(assessments, pa.string()))
