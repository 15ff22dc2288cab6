"""Intervals that hold: split-conformal on the log scale, learnt on rows that nothing else has seen.

    table = calibrate(quotes, truths, level=0.9)
    Calibrated(pricer, table).price(listings)

The score of a calibration row is |log truth - log quote|; the interval is quote x/÷ exp(q), where q is the
ceil((n + 1) level)-th smallest score of the quote's band (Papadopoulos et al. 2002; Lei et al. 2018; by band: Vovk
2012, "Mondrian"). A pricer with bounds of its own has them widened or narrowed by one amount on the log scale (Romano
et al. 2019, conformalised quantile regression) or, where they tell how far off it may be (`scaled`), by one factor:
the score is then the error in units of its half-width (Papadopoulos et al. 2008, normalised). Bands are powers of two
of the quote; one under 100 rows joins its neighbour. Where a band has too few rows for the level, the interval is the
whole price range.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pricesmith.settings import Settings
from pricesmith.types import Listing, Pricer, Quote

MIN_BAND = 100
LEVEL = 0.9
NARROWEST = 1e-3  # an own half-width below this is taken for this, so that it can be widened


class Table(Settings):
    """What calibration learnt. Band i holds quotes below `edges[i]`, the last one the rest. `widths` are on the log
    scale, or factors of the pricer's own half-widths there (`scaled`); None where a band has too few rows for the
    level: then the interval is the whole price range."""

    level: float
    own_bounds: bool
    scaled: bool = False
    edges: tuple[float, ...]
    widths: tuple[float | None, ...]
    rows: tuple[int, ...]


class Clipped:
    """A pricer whose quotes stay inside the catalog's price range."""

    def __init__(self, pricer: Pricer, price_range: tuple[float, float]) -> None:
        self.pricer, self.price_range = pricer, price_range

    @property
    def name(self) -> str:
        return self.pricer.name

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        """The pricer's quotes, clipped; one that is not a number is no answer."""
        return [self.clipped(quote) for quote in self.pricer.price(listings)]

    def clipped(self, quote: Quote) -> Quote:
        if quote.price is None or not np.isfinite(quote.price):
            return Quote(None, raw=quote.raw, cost_usd=quote.cost_usd)
        low, high = self.price_range
        bounds = [None if end is None else min(max(end, low), high) for end in (quote.low, quote.high)]
        return Quote(min(max(quote.price, low), high), bounds[0], bounds[1], quote.raw, quote.cost_usd)


def calibrate(quotes: Sequence[Quote], truths: Sequence[float], level: float = LEVEL, *, scaled: bool = False) -> Table:
    """One pricer's table from quotes on calibration rows and their true prices; rows without an answer are left out.

    `scaled`: where the pricer has bounds, they are to be multiplied on the log scale, not moved.
    """
    kept = [(quote, truth) for quote, truth in zip(quotes, truths, strict=True) if quote.price is not None]
    own = bool(kept) and all(quote.low is not None and quote.high is not None for quote, _ in kept)
    prices = np.array([quote.price for quote, _ in kept], dtype=np.float64)
    how = scaled_score if own and scaled else score
    scores = np.array([how(quote, truth, own) for quote, truth in kept], dtype=np.float64)
    edges = merged_edges(prices)
    places = np.searchsorted(np.array(edges), prices, side="right")
    bands = [scores[places == band] for band in range(len(edges) + 1)]
    return Table(
        level=level,
        own_bounds=own,
        scaled=own and scaled,
        edges=edges,
        widths=tuple(conformal(band, level) for band in bands),
        rows=tuple(len(band) for band in bands),
    )


def score(quote: Quote, truth: float, own: bool) -> float:
    """How far, on the log scale, an interval would have to reach to hold the truth."""
    assert quote.price is not None
    if own:
        assert quote.low is not None
        assert quote.high is not None
        return max(math.log(quote.low) - math.log(truth), math.log(truth) - math.log(quote.high))
    return abs(math.log(truth) - math.log(quote.price))


def scaled_score(quote: Quote, truth: float, own: bool) -> float:
    """How often the half-width on the truth's side fits into the error, on the log scale."""
    assert quote.price is not None
    off = math.log(truth) - math.log(quote.price)
    return abs(off) / half_widths(quote)[off > 0]


def half_widths(quote: Quote) -> tuple[float, float]:
    """How far below and above a quote its own bounds lie, on the log scale; never nothing."""
    assert quote.price is not None
    assert quote.low is not None
    assert quote.high is not None
    here = math.log(quote.price)
    return max(here - math.log(quote.low), NARROWEST), max(math.log(quote.high) - here, NARROWEST)


def conformal(scores: npt.NDArray[np.float64], level: float) -> float | None:
    """The ceil((n + 1) level)-th smallest score; None where there are too few."""
    rank = math.ceil((len(scores) + 1) * level - 1e-9)
    return float(np.sort(scores)[rank - 1]) if 0 < rank <= len(scores) else None


def merged_edges(prices: npt.NDArray[np.float64], least: int = MIN_BAND) -> tuple[float, ...]:
    """Powers of two that leave at least `least` rows in each band; a smaller band joins its smaller neighbour."""
    if not len(prices):
        return ()
    low, high = math.floor(math.log2(prices.min())), math.ceil(math.log2(prices.max()))
    edges = [2.0**power for power in range(low + 1, high)]
    counts = np.bincount(np.searchsorted(np.array(edges), prices, side="right"), minlength=len(edges) + 1).tolist()
    while edges and min(counts) < least:
        band = counts.index(min(counts))
        below = band > 0 and (band == len(edges) or counts[band - 1] <= counts[band + 1])
        left = band - 1 if below else band
        counts[left : left + 2] = [counts[left] + counts[left + 1]]
        del edges[left]
    return tuple(edges)


class Calibrated:
    """A pricer with intervals. Bounds stay inside the price range, where every truth of the catalog is."""

    def __init__(self, pricer: Pricer, table: Table, price_range: tuple[float, float]) -> None:
        self.pricer, self.table, self.price_range = pricer, table, price_range

    @property
    def name(self) -> str:
        return self.pricer.name

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        """The pricer's quotes with `low` and `high`."""
        return [self.bounded(quote) for quote in self.pricer.price(listings)]

    def bounded(self, quote: Quote) -> Quote:
        if quote.price is None:
            return quote
        bottom, top = self.price_range
        width = self.table.widths[int(np.searchsorted(np.array(self.table.edges), quote.price, side="right"))]
        if width is None:
            return Quote(quote.price, bottom, top, quote.raw, quote.cost_usd)
        low, high = quote.price, quote.price
        if self.table.scaled and quote.low and quote.high:
            below, above = half_widths(quote)
            low, high = low * math.exp(-width * below), high * math.exp(width * above)
        else:
            if self.table.own_bounds and quote.low and quote.high:
                low, high = quote.low, quote.high
            low, high = low * math.exp(-width), high * math.exp(width)
        # A narrowed interval of the pricer's own may not leave its quote out.
        low, high = min(max(low, bottom), quote.price), max(min(high, top), quote.price)
        return Quote(quote.price, low, high, quote.raw, quote.cost_usd)


def intervals_told(table: Table) -> str:
    """The narrowest and the widest band as a person reads them, and where rows were too few."""
    widths = [width for width in table.widths if width is not None]
    told = []
    if widths and table.scaled:
        told.append(f"its own doubt times {min(widths):.2f} to {max(widths):.2f}")
    elif widths:
        span = f"{math.exp(min(widths)):.2f} to {math.exp(max(widths)):.2f}"
        moved = f"its own bounds moved out by a factor of {span} (under 1: in)"
        told.append(moved if table.own_bounds else f"price x/÷ {span}")
    if None in table.widths:
        few = sum(n for n, width in zip(table.rows, table.widths, strict=True) if width is None)
        told.append(f"the whole price range where {few} validation rows are too few for an interval")
    return ", ".join(told)


def facts(table: Table) -> dict[str, Any]:
    """The table as plain values, ready for JSON."""
    return table.model_dump(mode="json")
