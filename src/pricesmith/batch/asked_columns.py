"""The columns that `price --file --audit` adds: the asked price, its assessment and its p-value.

A part holds asked prices and p-values. Which of them are over or under depends on all p-values of the file, so the
assessment is made when the parts are joined.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

    def assess(self, rows: Sequence[Mapping[str, Any]], quotes: Sequence[Quote]) -> list[dict[str, Any]]:
        """`asked_price`, `p_value` and a `reason` for each row with its quote; the reason says why there is none."""
        read = [self.reader.read(values) for values in rows]
        prices = [None if isinstance(price, str) else price for price in read]
        scores = self.auditor.score(quotes, prices)
        p_values = self.auditor.errors.tail_p_values(scores, MAX_WRONG_SHARE)
        return [
            {
                "asked_price": price,
                "p_value": None if math.isnan(p) else float(p),
                "reason": text if isinstance(text, str) else "",
            }
            for text, price, p in zip(read, prices, p_values, strict=True)
        ]


def read_assessments(paths: Sequence[Path]) -> list[str]:
    """The assessment of every row of all parts, in order; empty without a p-value."""
    import pyarrow.parquet as pq

    rows = [
        (row["p_value"], row["asked_price"], row["price"])
        for path in paths
        for row in pq.read_table(path, columns=["p_value", "asked_price", "price"]).to_pylist()
    ]
    p_values = np.array([np.nan if p is None or price is None else p for p, _, price in rows], dtype=np.float64)
    adjusted = benjamini_hochberg(p_values)
    return [
        "" if math.isnan(p) else PLAUSIBLE if p > FDR else OVER if asked > price else UNDER
        for p, (_, asked, price) in zip(adjusted.tolist(), rows, strict=True)
    ]
