"""The p-values of asked prices: valid if prices are exchangeable, and small for wrong ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricesmith.core.types import Quote
from pricesmith.metrics.multiple_tests import benjamini_hochberg
from pricesmith.pricers.asked_price import (
    ErrorSample,
    assess_prices,
    log_scores,
    suggest_error,
    swap_digits,
)

RANGE = (0.01, 1e6)


@given(st.lists(st.tuples(st.integers(-4, 4), st.integers(0, 6)), min_size=2, max_size=40))
def test_conformal_p_values_are_valid_for_every_sample(rows: list[tuple[int, int]]) -> None:
    """Let each group be the new one in turn, and each of its members the new price: P(p <= t) <= t for every t.

    That is the definition of validity for exchangeable groups, with ties and with groups of any size.
    """
    scores = np.array([score for score, _ in rows], dtype=np.float64)
    groups = [f"group {group}" for _, group in rows]
    names = sorted(set(groups))
    p, weights = [], []
    for name in names:
        inside = np.array([group == name for group in groups])
        sample = ErrorSample.from_scores(scores[~inside], [group for group in groups if group != name])
        p += sample.p_values(scores[inside]).tolist()
        weights += [1 / inside.sum() / len(names)] * int(inside.sum())
    for threshold in sorted(set(p)):
        assert sum(weight for value, weight in zip(p, weights, strict=True) if value <= threshold) <= threshold + 1e-9


def test_a_conformal_p_value_is_never_below_its_resolution() -> None:
    """With n groups it is at least 1 / (n + 1), however far the price is."""
    sample = ErrorSample.from_scores(np.array([0.1, -0.2, 0.3]), ["a", "b", "c"])
    assert sample.p_values(np.array([50.0, 0.25, 0.0, math.nan]))[:3].tolist() == [0.25, 0.5, 1.0]
    assert np.isnan(sample.p_values(np.array([math.nan]))[0])


def test_a_group_counts_once() -> None:
    """Ten near-duplicates say as much as one listing."""
    many = ErrorSample.from_scores(np.array([2.0] * 10 + [0.1]), ["a"] * 10 + ["b"])
    assert many.total == pytest.approx(2)
    assert many.p_values(np.array([1.0])) == pytest.approx([2 / 3])


@pytest.mark.parametrize("law", ["normal", "laplace", "t"])
def test_tail_p_values_hold_the_false_discovery_rate(law: str) -> None:
    """Held-out prices hold 1 % of wrong ones, as the audited ones do: the tail finds most of these, few others."""
    draw = np.random.default_rng(3)
    shares, powers = [], []
    for _ in range(30):
        size = 3_000
        scores = {
            "normal": lambda: draw.normal(0, 0.61, size),  # noqa: B023
            "laplace": lambda: draw.laplace(0, 0.43, size),  # noqa: B023
            "t": lambda: draw.standard_t(5, size) * 0.5,  # noqa: B023
        }[law]()
        scores[:30] = 8.0
        sample = ErrorSample.from_scores(scores, [str(place) for place in range(size)])
        found = np.flatnonzero(benjamini_hochberg(sample.tail_p_values(scores)) <= 0.1)
        shares.append((found >= 30).mean() if len(found) else 0.0)
        powers.append((found < 30).sum() / 30)
    assert np.mean(shares) <= 0.1
    assert np.mean(powers) > 0.9


def test_prices_of_the_same_shop_hide_each_other_without_a_tail() -> None:
    """With conformal p-values, 30 obvious errors among 3,000 held-out prices make themselves look usual."""
    scores = np.random.default_rng(0).normal(0, 0.5, 3_000)
    scores[:30] = 9.0
    sample = ErrorSample.from_scores(scores, [str(place) for place in range(3_000)])
    assert (benjamini_hochberg(sample.p_values(scores)) > 0.1).all()


def test_tail_p_values_never_grow_with_the_distance() -> None:
    """Also where the conformal part ends and the tail begins; without enough scores there is no tail."""
    scores = np.random.default_rng(1).normal(0, 0.6, 2_000)
    sample = ErrorSample.from_scores(scores, [str(place) for place in range(2_000)])
    p = sample.tail_p_values(np.linspace(0, 30, 500))
    assert (np.diff(p) <= 1e-12).all()
    assert p[-1] < 1e-6
    few = ErrorSample.from_scores(scores[:20], [str(place) for place in range(20)])
    assert few.fit_tail() is None
    assert few.tail_p_values(np.array([30.0])) == pytest.approx(few.p_values(np.array([30.0])))


def test_a_score_is_in_half_widths_of_the_interval() -> None:
    """1 at the upper end, -1 at the lower one; none without a price, a quote or an interval."""
    quote = Quote(10.0, 5.0, 40.0)
    scores = log_scores([quote] * 4, [40.0, 5.0, 10.0, 20.0], RANGE)
    assert scores == pytest.approx([1.0, -1.0, 0.0, 0.5])
    assert np.isnan(log_scores([quote, Quote(None), Quote(10.0)], [None, 5.0, 5.0], RANGE)).all()


def test_a_clipped_end_is_no_sign_of_precision() -> None:
    """A quote at the catalog's highest price has no room above it; the lower side tells how precise it is."""
    assert log_scores([Quote(1000.0, 500.0, 1000.0)], [2000.0], (1.0, 1000.0)) == pytest.approx([1.0])


def test_prices_are_over_under_or_plausible() -> None:
    """By the sign of the score and the adjusted p-value; without one there is no assessment."""
    names = assess_prices(np.array([3.0, -3.0, 0.2, np.nan]), np.array([0.01, 0.1, 0.9, np.nan]), 0.1)
    assert names == ["over", "under", "plausible", ""]


@pytest.mark.parametrize(
    ("price", "suggested"),
    [
        (245.0, "10 times $24.50"),
        (2450.0, "100 times $24.50"),
        (2.45, "a tenth of $24.50"),
        (0.25, "a hundredth of $25.00"),
        (25.0, ""),
        (82.5, "two digits exchanged: $28.50"),
        (71.0, ""),
    ],
)
def test_a_usual_slip_is_named_if_it_explains_the_price(price: float, suggested: str) -> None:
    """It is named only if the right price would lie inside the interval and the asked one does not."""
    assert suggest_error(price, Quote(24.0, 20.0, 30.0), "USD") == suggested


def test_digits_are_exchanged_in_the_currency_s_smallest_unit() -> None:
    """Cents in dollars, none in yen; no price begins with 0."""
    assert swap_digits(10.5, 2) == [15.0, 10.05]
    assert swap_digits(120.0, 0) == [210.0, 102.0]
