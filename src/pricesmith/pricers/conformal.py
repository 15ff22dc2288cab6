"""Split-conformal intervals on the log scale, calibrated on rows that nothing was fitted on.

    table = calibrate(quotes, truths, level=0.9)
    ConformalPricer(pricer, table, price_range).price(listings)

The lower and the upper side are calibrated separately, each for half of the misses (5 % at 90 %), because prices are
skewed: with one width for both sides, far more truths lie above the interval than below. The scores of a calibration
row are its signed residuals, log quote - log truth below and log truth - log quote above; the interval reaches from
quote ÷ exp(lower) to quote x exp(upper), where each is the ceil((n + 1) (1 + level) / 2)-th smallest score of its side
in the quote's band (Papadopoulos et al. 2002; Lei et al. 2018; by band: Vovk 2012, "Mondrian"; two sides: Linusson et
al. 2014). The own bounds of a pricer are shifted on the log scale (Romano et al. 2019, conformalized quantile
regression, asymmetric) or, if they are error estimates (`scaled`), multiplied by a factor: the score is then the
residual in units of the half-width (Papadopoulos et al. 2008, normalized). Bands are powers of two of the quote; a band
with fewer than 100 rows joins its neighbor. If a band has too few rows for the level (19 for 90 %), the interval is the
whole price range.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from pricesmith.core.model_files import check_increasing
from pricesmith.core.settings import Settings
from pricesmith.core.types import Listing, Pricer, Quote

MIN_BAND = 100
LEVEL = 0.9
MIN_HALF_WIDTH = 1e-3  # narrower half-widths of a pricer are raised to this, so that they can be scaled


class CalibrationTable(Settings):
    """The result of a calibration.

    Band i has the quotes below `edges[i]`, the last band the rest. `lower` and `upper` are how far the interval of each
    band reaches below and above the quote: on the log scale, or in units of the pricer's own half-widths (`scaled`).
    Both are None if a band has too few rows for the level: its interval is the whole price range.
    """

    level: float = Field(gt=0, lt=1)
    own_bounds: bool
    scaled: bool = False
    edges: tuple[float, ...]
    lower: tuple[float | None, ...]
    upper: tuple[float | None, ...]
    rows: tuple[int, ...]

    @model_validator(mode="after")
    def check_bands(self) -> CalibrationTable:
        """Raise ValueError if edges do not increase, or a band lacks a side or its number of rows."""
        check_increasing(self.edges)
        if {len(self.lower), len(self.upper), len(self.rows)} != {len(self.edges) + 1}:
            raise ValueError("one lower, one upper and one number of rows for each band")
        if any((a is None) != (b is None) for a, b in zip(self.lower, self.upper, strict=True)):
            raise ValueError("both sides of a band, or neither")
        if min(self.rows) < 0:
            raise ValueError("numbers of rows")
        return self


class ClippedPricer:
    """A pricer whose quotes stay inside the catalog's price range."""

    def __init__(self, pricer: Pricer, price_range: tuple[float, float]) -> None:
        self.pricer, self.price_range = pricer, price_range

    @property
    def name(self) -> str:
        return self.pricer.name

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        """The pricer's quotes, clipped; a quote that is not finite becomes unanswered."""
        return [self.clip(quote) for quote in self.pricer.price(listings)]

    def clip(self, quote: Quote) -> Quote:
        """A quote inside the price range."""
        if quote.price is None or not math.isfinite(quote.price):
            return replace(quote, price=None, low=None, high=None)
        low, high = self.price_range
        if quote.low is None and quote.high is None and low <= quote.price <= high:
            return quote
        bounds = [None if end is None else min(max(end, low), high) for end in (quote.low, quote.high)]
        return replace(quote, price=min(max(quote.price, low), high), low=bounds[0], high=bounds[1])


def calibrate(
    quotes: Sequence[Quote], truths: Sequence[float], level: float = LEVEL, *, scaled: bool = False
) -> CalibrationTable:
    """The table of a pricer from its quotes of calibration rows and their true prices; unanswered rows are ignored.

    `scaled`: bounds of the pricer are multiplied on the log scale, not shifted.
    """
    answered = [(quote, truth) for quote, truth in zip(quotes, truths, strict=True) if quote.price is not None]
    own = bool(answered) and all(quote.low is not None and quote.high is not None for quote, _ in answered)
    prices = np.array([quote.price for quote, _ in answered], dtype=np.float64)
    score = scaled_scores if own and scaled else scores
    sides = np.array([score(quote, truth, own) for quote, truth in answered], dtype=np.float64).reshape(-1, 2)
    edges = merged_edges(prices)
    band_of = np.searchsorted(np.array(edges), prices, side="right")
    bands = [sides[band_of == band] for band in range(len(edges) + 1)]
    each = (1 + level) / 2  # half of the misses on each side
    return CalibrationTable(
        level=level,
        own_bounds=own,
        scaled=own and scaled,
        edges=edges,
        lower=tuple(conformal_quantile(band[:, 0], each) for band in bands),
        upper=tuple(conformal_quantile(band[:, 1], each) for band in bands),
        rows=tuple(len(band) for band in bands),
    )


def own_bounds_table(rows: int) -> CalibrationTable:
    """The table of a pricer whose bounds are calibrated already, on this number of rows: they are not moved."""
    return CalibrationTable(level=LEVEL, own_bounds=True, edges=(), lower=(0.0,), upper=(0.0,), rows=(rows,))


def scores(quote: Quote, truth: float, own: bool) -> tuple[float, float]:
    """How far, on the log scale, an interval must reach below and above to cover the truth."""
    assert quote.price is not None
    low, high = (quote.low, quote.high) if own else (quote.price, quote.price)
    assert low is not None
    assert high is not None
    return math.log(low) - math.log(truth), math.log(truth) - math.log(high)


def scaled_scores(quote: Quote, truth: float, own: bool) -> tuple[float, float]:
    """How far an interval must reach from the quote to cover the truth, in units of the quote's own half-widths."""
    assert quote.price is not None
    off = math.log(truth) - math.log(quote.price)
    below, above = half_widths(quote)
    return -off / below, off / above


def half_widths(quote: Quote) -> tuple[float, float]:
    """The distances of a quote's own bounds below and above it on the log scale, at least `MIN_HALF_WIDTH`."""
    assert quote.price is not None
    assert quote.low is not None
    assert quote.high is not None
    here = math.log(quote.price)
    return max(here - math.log(quote.low), MIN_HALF_WIDTH), max(math.log(quote.high) - here, MIN_HALF_WIDTH)


def conformal_quantile(scores: npt.NDArray[np.float64], level: float) -> float | None:
    """The ceil((n + 1) level)-th smallest score; None if there are too few."""
    rank = math.ceil((len(scores) + 1) * level - 1e-9)
    return float(np.sort(scores)[rank - 1]) if 0 < rank <= len(scores) else None


def merged_edges(prices: npt.NDArray[np.float64], min_rows: int = MIN_BAND) -> tuple[float, ...]:
    """Powers of two with at least `min_rows` rows in each band; a smaller band joins its smaller neighbor."""
    if not len(prices):
        return ()
    low, high = math.floor(math.log2(prices.min())), math.ceil(math.log2(prices.max()))
    edges = [2.0**power for power in range(low + 1, high)]
    counts = np.bincount(np.searchsorted(np.array(edges), prices, side="right"), minlength=len(edges) + 1).tolist()
    while edges and min(counts) < min_rows:
        band = counts.index(min(counts))
        below = band > 0 and (band == len(edges) or counts[band - 1] <= counts[band + 1])
        left = band - 1 if below else band
        counts[left : left + 2] = [counts[left] + counts[left + 1]]
        del edges[left]
    return tuple(edges)


class ConformalPricer:
    """A pricer with intervals. Bounds stay inside the price range, which covers every price of the catalog."""

    def __init__(self, pricer: Pricer, table: CalibrationTable, price_range: tuple[float, float]) -> None:
        self.pricer, self.table, self.price_range = pricer, table, price_range

    @property
    def name(self) -> str:
        return self.pricer.name

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        """The pricer's quotes with `low` and `high`."""
        return [self.add_interval(quote) for quote in self.pricer.price(listings)]

    def add_interval(self, quote: Quote) -> Quote:
        """A quote with the interval of its band."""
        if quote.price is None:
            return quote
        bottom, top = self.price_range
        band = bisect_right(self.table.edges, quote.price)
        lower, upper = self.table.lower[band], self.table.upper[band]
        has_bounds = quote.low is not None and quote.high is not None
        if lower is None or upper is None or (self.table.own_bounds and not has_bounds):
            return replace(quote, low=bottom, high=top)
        low, high = quote.price, quote.price
        if self.table.scaled and has_bounds:
            below, above = half_widths(quote)
            low, high = low * math.exp(-lower * below), high * math.exp(upper * above)
        else:
            if self.table.own_bounds and quote.low is not None and quote.high is not None:
                low, high = quote.low, quote.high
            low, high = low * math.exp(-lower), high * math.exp(upper)
        # A narrowed interval of the pricer's own must still contain the quote.
        low, high = min(max(low, bottom), quote.price), max(min(high, top), quote.price)
        return replace(quote, low=low, high=high)


def format_intervals(table: CalibrationTable) -> str:
    """The typical interval of the calibration rows, and how many rows have none, as a short text."""
    bands = [band for band in zip(table.lower, table.upper, table.rows, strict=True) if band[0] is not None]
    parts = []
    if bands:
        below, above = (
            weighted_mean([band[side] or 0.0 for band in bands], [band[2] for band in bands]) for side in (0, 1)
        )
        if table.scaled:
            parts.append(f"its own error estimate times {below:.2f} below and {above:.2f} above")
        elif table.own_bounds and below == above == 0:
            parts.append("its own, calibrated by cross-fitting")
        elif table.own_bounds:
            parts.append(f"its own lower bound ÷ {math.exp(below):.2f}, its own upper bound × {math.exp(above):.2f}")
        else:
            parts.append(f"price ÷ {math.exp(below):.2f} to × {math.exp(above):.2f}")
    if None in table.lower:
        few = sum(n for n, width in zip(table.rows, table.lower, strict=True) if width is None)
        parts.append(f"the whole price range for {few} validation rows, too few for an interval")
    return ", ".join(parts)


def weighted_mean(values: Sequence[float], rows: Sequence[int]) -> float:
    """The mean of the bands' values, weighted by their rows."""
    return float(np.average(values, weights=np.maximum(rows, 1)))


def to_dict(table: CalibrationTable) -> dict[str, Any]:
    """The table as plain values, ready for JSON."""
    return table.model_dump(mode="json")
