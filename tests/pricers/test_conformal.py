"""Intervals have their nominal coverage; without enough calibration rows they are the whole range."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricesmith.core.types import Listing, Quote
from pricesmith.pricers.conformal import (
    ConformalPricer,
    calibrate,
    conformal_quantile,
    merged_edges,
    own_bounds_table,
)

RANGE = (0.5, 999.49)
HAIR = 1e-12  # the oracle cuts (1 - 0.9) x 100 = 9.999... to 9, one score too wide


class Says:
    """A pricer that reads its quote off the listing's text."""

    name = "says"

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        return [Quote(*(float(part) for part in listing.text.split())) for listing in listings]


def drawn(n: int, seed: int = 0) -> tuple[list[Quote], list[float]]:
    """Quotes and true prices; quotes of cheap items have larger errors than those of expensive ones."""
    draw = np.random.default_rng(seed)
    logs = draw.uniform(math.log(1), math.log(900), n)
    truths = np.clip(np.exp(logs + draw.standard_t(4, n) * (0.6 - 0.07 * logs)), *RANGE)
    return [Quote(float(price)) for price in np.exp(logs)], [float(truth) for truth in truths]


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("n", [30, 99, 100, 731])
def test_half_widths_are_those_of_crepes(level: float, n: int) -> None:
    """The oracle on the same scores gives the same half width, to the last bit."""
    from crepes import ConformalRegressor

    scores = np.random.default_rng(n).exponential(0.4, n)
    oracle = ConformalRegressor().fit(residuals=scores).predict_int(np.zeros(1), confidence=level - HAIR)
    assert conformal_quantile(scores, level) == oracle[0, 1]


SHIFT = 50.0  # added to signed scores and taken off again: the oracle takes the size of a residual


def reaches(scores: Any, bands: Any, test_bands: Any) -> Any:
    """The oracle's 95 % reach on one side, from signed scores by band, for test rows in the bands `found`."""
    from crepes import ConformalRegressor

    model = ConformalRegressor().fit(residuals=scores + SHIFT, bins=bands)
    return model.predict_int(np.zeros(len(test_bands)), bins=test_bands, confidence=0.95 - HAIR)[:, 1] - SHIFT


def test_banded_intervals_are_those_of_crepes() -> None:
    """Mondrian intervals by band of the quote agree with the oracle on every test quote."""
    quotes, truths = drawn(1500)
    table = calibrate(quotes, truths)
    logs = np.log([quote.price for quote in quotes if quote.price])
    bands = np.searchsorted(np.array(table.edges), np.exp(logs), side="right")
    residuals = np.log(truths) - logs
    overwrite, _ = drawn(300, seed=1)
    later = np.array([quote.price for quote in overwrite])
    test_bands = np.searchsorted(np.array(table.edges), later, side="right")
    wrapped = ConformalPricer(Says(), table, (1e-9, 1e9)).price([Listing("", "", repr(q.price)) for q in overwrite])
    lower, upper = reaches(-residuals, bands, test_bands), reaches(residuals, bands, test_bands)
    assert [quote.low for quote in wrapped] == pytest.approx(later * np.exp(-lower), rel=1e-9)
    assert [quote.high for quote in wrapped] == pytest.approx(later * np.exp(upper), rel=1e-9)


def test_skewed_errors_miss_as_often_above_as_below() -> None:
    """Most truths lie a little below the quote, some far above: each side still misses one in twenty."""
    draw = np.random.default_rng(5)
    quotes = [Quote(float(price)) for price in np.exp(draw.uniform(2, 5, 8000))]
    truths = [
        float((quote.price or 0) * math.exp(off))
        for quote, off in zip(quotes, draw.exponential(0.5, 8000) - 0.3, strict=True)
    ]
    table = calibrate(quotes[:4000], truths[:4000])
    bounded = [ConformalPricer(Says(), table, (1e-9, 1e9)).add_interval(quote) for quote in quotes[4000:]]
    below = np.mean([truth < (quote.low or 0) for quote, truth in zip(bounded, truths[4000:], strict=True)])
    above = np.mean([truth > (quote.high or 0) for quote, truth in zip(bounded, truths[4000:], strict=True)])
    assert (below, above) == (pytest.approx(0.05, abs=0.015), pytest.approx(0.05, abs=0.015))
    assert max(reach or 0 for reach in table.lower) < min(reach or 0 for reach in table.upper)


def test_intervals_cover_what_they_promise_in_every_band() -> None:
    """The coverage is 90 %, for cheap and for expensive items alike."""
    table = calibrate(*drawn(4000))
    quotes, truths = drawn(20_000, seed=5)
    bounded = [ConformalPricer(Says(), table, RANGE).add_interval(quote) for quote in quotes]
    inside = np.array([q.low <= t <= q.high for q, t in zip(bounded, truths, strict=True) if q.low and q.high])
    prices = np.array([quote.price for quote in quotes])
    assert inside.mean() == pytest.approx(0.9, abs=0.02)
    for low, high in ((1, 8), (8, 64), (64, 900)):
        assert inside[(prices >= low) & (prices < high)].mean() == pytest.approx(0.9, abs=0.035)


def test_too_few_rows_give_the_whole_range() -> None:
    """Eight rows are too few for 90 % coverage: the interval is the whole range."""
    table = calibrate(*drawn(8))
    (quote,) = ConformalPricer(Says(), table, RANGE).price([Listing("", "", "20.0")])
    assert table.lower == table.upper == (None,)
    assert (quote.low, quote.high) == RANGE


def test_nine_rows_are_just_enough_for_ninety_per_cent() -> None:
    """ceil(10 x 0.9) = 9: the largest of nine scores; floating point does not make it ten."""
    assert conformal_quantile(np.arange(9.0), 0.9) == 8.0


def test_no_rows_give_the_whole_range() -> None:
    """A pricer that answered nothing on the calibration rows is not calibrated by chance."""
    table = calibrate([Quote(None)] * 50, [1.0] * 50)
    assert ConformalPricer(Says(), table, RANGE).add_interval(Quote(3.0)) == Quote(3.0, *RANGE)


def test_no_answer_stays_no_answer() -> None:
    """Calibration adds nothing to a quote without a price."""
    table = calibrate(*drawn(500))
    assert ConformalPricer(Says(), table, RANGE).add_interval(Quote(None, raw="?")) == Quote(None, raw="?")


def test_a_pricers_own_bounds_are_widened_or_narrowed() -> None:
    """Own quantiles that are too narrow by a factor come out wider by about that factor, and cover."""
    quotes, truths = drawn(3000)
    narrow = [Quote(quote.price, quote.price * 0.9, quote.price * 1.1) for quote in quotes if quote.price]
    table = calibrate(narrow, truths)
    assert table.own_bounds
    wrapped = ConformalPricer(Says(), table, RANGE)
    inside = [
        q.low <= t <= q.high for q, t in zip(map(wrapped.add_interval, narrow), truths, strict=True) if q.low and q.high
    ]
    assert np.mean(inside) == pytest.approx(0.9, abs=0.01)


def test_normalized_intervals_are_those_of_crepes() -> None:
    """A pricer's own error estimate times the factors of its band: the oracle on residuals in units of the estimate
    agrees on every test quote."""

    def doubted(n: int, seed: int) -> tuple[list[Quote], list[float], np.ndarray]:
        quotes, truths = drawn(n, seed)
        doubts = np.random.default_rng(seed).uniform(0.1, 0.8, n)
        prices = [quote.price or 0.0 for quote in quotes]
        bounds = zip(prices, doubts, strict=True)
        return [Quote(p, p * math.exp(-s), p * math.exp(s)) for p, s in bounds], truths, doubts

    quotes, truths, doubts = doubted(1500, 0)
    table = calibrate(quotes, truths, scaled=True)
    logs = np.log([quote.price for quote in quotes if quote.price])
    bands = np.searchsorted(np.array(table.edges), np.exp(logs), side="right")
    residuals = (np.log(truths) - logs) / doubts
    overwrite, _, later_doubts = doubted(300, 1)
    later = np.array([quote.price for quote in overwrite])
    test_bands = np.searchsorted(np.array(table.edges), later, side="right")
    lower, upper = reaches(-residuals, bands, test_bands), reaches(residuals, bands, test_bands)
    bounded = [ConformalPricer(Says(), table, (1e-9, 1e9)).add_interval(quote) for quote in overwrite]
    assert [quote.low for quote in bounded] == pytest.approx(later * np.exp(-lower * later_doubts), rel=1e-9)
    assert [quote.high for quote in bounded] == pytest.approx(later * np.exp(upper * later_doubts), rel=1e-9)


def test_an_error_estimate_that_separates_easy_from_hard_covers_both_and_is_narrow_on_the_easy() -> None:
    """Half of the items have ten times the error of the others and wider intervals: coverage is 90 % in each half."""
    draw = np.random.default_rng(3)
    spread = np.where(draw.random(8000) < 0.5, 0.03, 0.3)
    logs = draw.uniform(2, 6, 8000)
    truths = np.clip(np.exp(logs + draw.normal(0, spread)), *RANGE)
    quotes = [
        Quote(float(p), float(p * math.exp(-s)), float(p * math.exp(s)))
        for p, s in zip(np.exp(logs), spread, strict=True)
    ]
    table = calibrate(quotes[:4000], truths[:4000].tolist(), scaled=True)
    assert table.scaled
    wrapped = [ConformalPricer(Says(), table, RANGE).add_interval(quote) for quote in quotes[4000:]]
    inside = np.array([(q.low or 0) <= t <= (q.high or 0) for q, t in zip(wrapped, truths[4000:], strict=True)])
    factor = np.array([math.sqrt((q.high or 1) / (q.low or 1)) for q in wrapped])
    easy = spread[4000:] < 0.1
    assert inside[easy].mean() == pytest.approx(0.9, abs=0.02)
    assert inside[~easy].mean() == pytest.approx(0.9, abs=0.02)
    assert np.median(factor[easy]) < 1.1 < 1.4 < np.median(factor[~easy])


def test_a_doubt_of_nothing_can_still_be_widened() -> None:
    """Bounds that sit on the quote have no width to multiply; they are given the least there is."""
    quotes = [Quote(10.0, 10.0, 10.0)] * 200
    truths = [10.0 * math.exp(0.1 * (-1) ** number) for number in range(200)]
    table = calibrate(quotes, truths, scaled=True)
    bounded = ConformalPricer(Says(), table, RANGE).add_interval(quotes[0])
    assert (bounded.low, bounded.high) == pytest.approx((10 * math.exp(-0.1), 10 * math.exp(0.1)))


@settings(max_examples=60)
@given(
    prices=st.lists(st.floats(0.5, 999.49), min_size=0, max_size=400),
    factor=st.floats(0.01, 100),
    asked=st.floats(0.5, 999.49),
)
def test_a_quote_is_always_inside_its_interval(prices: list[float], factor: float, asked: float) -> None:
    """low <= price <= high, both inside the catalog's range, whatever was learnt."""
    table = calibrate([Quote(price) for price in prices], [min(max(p * factor, 0.5), 999.49) for p in prices])
    quote = ConformalPricer(Says(), table, RANGE).add_interval(Quote(asked))
    assert quote.low is not None
    assert quote.high is not None
    assert RANGE[0] <= quote.low <= asked <= quote.high <= RANGE[1]


@settings(max_examples=60)
@given(prices=st.lists(st.floats(0.01, 1e6), min_size=1, max_size=600))
def test_bands_have_a_hundred_rows_or_are_one(prices: list[float]) -> None:
    """A band under 100 rows joins its neighbor until none is left or there is one band."""
    edges = merged_edges(np.array(prices))
    counts = np.bincount(np.searchsorted(np.array(edges), prices, side="right"), minlength=len(edges) + 1)
    assert counts.sum() == len(prices)
    assert len(edges) == 0 or counts.min() >= 100


def test_a_quote_without_own_bounds_has_the_whole_price_range() -> None:
    """If the bounds of the pricer are calibrated, a quote that has none is not an interval of width 0."""

    class Fixed:
        name = "fixed"

        def price(self, listings: Sequence[Listing]) -> list[Quote]:
            return [Quote(20.0) for _ in listings]

    pricer = ConformalPricer(Fixed(), own_bounds_table(50), (0.5, 900.0))
    (quote,) = pricer.price([Listing("1", "a", "")])
    assert (quote.low, quote.price, quote.high) == (0.5, 20.0, 900.0)
