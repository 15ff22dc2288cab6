"""What a model's quotes and errors were when it was fitted: `reference.json`, with which later ones are compared.

    reference = build_reference(quotes, items, groups, level=0.9, similarity=(20, 2000))

Quotes of the calibration rows: nothing was fitted on these but the widths of the intervals. So point errors are out of
sample, and the coverage is close to its nominal level by construction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from pricesmith.core.settings import Settings
from pricesmith.core.types import Item, Listing, Quote
from pricesmith.metrics.bootstrap import Codes, encode_groups
from pricesmith.metrics.metrics import Array
from pricesmith.metrics.stability import Histogram, build_histogram, robust_error
from pricesmith.pricers.asked_price import ErrorSample, log_scores

MIN_ROWS = 10  # with fewer answered rows there is no reference
MIN_CATEGORY = 30  # with fewer rows a category has no errors of its own


class ReferenceErrors(Settings):
    """Errors on `n` rows in `groups` near-duplicate groups. `mae` is in the catalog's currency; `bias` is the mean of
    log quote - log truth: above 0 if quotes are too high. Standard errors are robust to groups."""

    n: int = Field(ge=1)
    groups: int = Field(ge=1)
    mae: float = Field(ge=0)
    mae_se: float = Field(ge=0)
    bias: float
    bias_se: float = Field(ge=0)
    coverage: float | None = Field(None, ge=0, le=1)


class Reference(Settings):
    """Distributions and errors at training time.

    `quotes` is the histogram of log quotes, `widths` of log(high / low), `lengths` of log(1 + characters of the
    listing). `flagged` of the `checked` validation listings had nothing similar in training. `errors` are of all rows,
    `categories` of each category with at least 30 rows. `level` is the nominal coverage.
    `distances` are those of the true prices from their quotes, in half-widths of the interval, smallest first, and
    `weights` count each near-duplicate group as 1: an audit of asked prices compares with them.
    """

    n: int = Field(ge=1)
    currency: str = Field(min_length=1)
    level: float = Field(gt=0, lt=1)
    quotes: Histogram
    widths: Histogram | None = None
    lengths: Histogram
    flagged: int = Field(ge=0)
    checked: int = Field(ge=0)
    errors: ReferenceErrors
    categories: dict[str, ReferenceErrors] = Field(default_factory=dict)
    distances: tuple[Annotated[float, Field(ge=0)], ...] = ()
    weights: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()

    @model_validator(mode="after")
    def check_distances(self) -> Reference:
        """Raise ValueError unless distances do not decrease and each has a weight."""
        if len(self.distances) != len(self.weights) or list(self.distances) != sorted(self.distances):
            raise ValueError("one weight for each distance, the smallest distance first")
        return self


@dataclass(frozen=True)
class QuotedRows:
    """Calibration rows, their quotes with intervals, and their near-duplicate groups; all of the same length."""

    items: Sequence[Item]
    quotes: Sequence[Quote]
    groups: Sequence[str]
    level: float
    price_range: tuple[float, float] = (0.0, math.inf)


def listing_length(listing: Listing) -> int:
    """The characters of a listing."""
    return len(listing.title) + len(listing.text) + len(listing.category) + len(listing.brand)


def log_width(quote: Quote) -> float | None:
    """log(high / low) of a quote; None without an interval."""
    return math.log(quote.high / quote.low) if quote.low and quote.high else None


def build_reference(rows: QuotedRows, currency: str, similarity: tuple[int, int] = (0, 0)) -> Reference | None:
    """The reference of a model; None if fewer than 10 rows are answered. `similarity` is how many of how many
    validation listings had nothing similar."""
    answered = [index for index, quote in enumerate(rows.quotes) if quote.price is not None]
    if len(answered) < MIN_ROWS:
        return None
    items, quotes = [rows.items[index] for index in answered], [rows.quotes[index] for index in answered]
    codes = encode_groups([rows.groups[index] for index in answered])
    prices = np.array([quote.price for quote in quotes], dtype=np.float64)
    widths = np.array([np.nan if (width := log_width(quote)) is None else width for quote in quotes], dtype=np.float64)
    bounded = np.isfinite(widths)
    lengths = np.array([math.log1p(listing_length(item.listing)) for item in items], dtype=np.float64)
    names = np.array([item.listing.category for item in items], dtype=object)
    groups = [rows.groups[index] for index in answered]
    sample = ErrorSample.from_scores(log_scores(quotes, [item.price for item in items], rows.price_range), groups)
    masks = {name: names == name for name in sorted(set(names.tolist())) if name}
    return Reference(
        n=len(items),
        currency=currency,
        level=rows.level,
        quotes=build_histogram(np.log(prices), codes),
        widths=build_histogram(widths[bounded], select_groups(codes, bounded)) if bounded.all() else None,
        lengths=build_histogram(lengths, codes),
        flagged=similarity[0],
        checked=similarity[1],
        errors=measure_errors(items, quotes, codes),
        categories={
            name: measure_errors(
                [item for item, chosen in zip(items, mask, strict=True) if chosen],
                [quote for quote, chosen in zip(quotes, mask, strict=True) if chosen],
                select_groups(codes, mask),
            )
            for name, mask in masks.items()
            if int(mask.sum()) >= MIN_CATEGORY
        },
        distances=tuple(float(f"{distance:.6g}") for distance in sample.distances),
        weights=tuple(float(f"{weight:.6g}") for weight in sample.weights),
    )


def select_groups(codes: Codes, mask: Array) -> Codes:
    """The groups of some rows, as codes from 0."""
    return encode_groups(codes[np.asarray(mask, dtype=bool)].tolist())


def measure_errors(items: Sequence[Item], quotes: Sequence[Quote], codes: Codes) -> ReferenceErrors:
    """The errors of answered quotes."""
    truth = np.array([item.price for item in items], dtype=np.float64)
    prices = np.array([quote.price for quote in quotes], dtype=np.float64)
    errors, residuals = np.abs(prices - truth), np.log(prices) - np.log(truth)
    bounds = [(quote.low, quote.high) for quote in quotes if quote.low is not None and quote.high is not None]
    inside = [low <= price <= high for (low, high), price in zip(bounds, truth, strict=False)]
    return ReferenceErrors(
        n=len(items),
        groups=int(codes.max()) + 1,
        mae=float(errors.mean()),
        mae_se=robust_error(errors, codes),
        bias=float(residuals.mean()),
        bias_se=robust_error(residuals, codes),
        coverage=float(np.mean(inside)) if len(inside) == len(items) else None,
    )
