"""The number of answers to buy: the order of asking, the costs, the curve of the error, and when it is no promise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricesmith.core.types import Item, Listing, Quote
from pricesmith.pricers.hybrid.model import Answers
from pricesmith.pricers.hybrid.suggest import (
    AskingCosts,
    GainCurve,
    SubsetScore,
    answer_counts,
    asking_order,
    choose_count,
    cost_rows,
    fit_curve,
    is_worthwhile,
    measure_curve,
    subset_sizes,
)

RANGE = (1.0, 1000.0)
POINTS = (SubsetScore(25, 12.0, 0.9, 10), SubsetScore(50, 11.0, 0.5, 10))


def make_answers(count: int, seed: int = 0) -> Answers:
    """Two members with independent errors of the same size."""
    draws = np.random.default_rng(seed)
    truth = np.exp(draws.normal(3.5, 1.0, count)).clip(2.0, 900.0)
    own, other = (truth * np.exp(draws.normal(0.0, 0.4, count)) for _ in range(2))
    items = [Item(Listing(f"id{row}", f"Item {row}", ""), float(price)) for row, price in enumerate(truth)]
    return Answers(
        items=items,
        groups=[f"group{row}" for row in range(count)],
        first=[Quote(float(price), price / 2, price * 2) for price in own],
        asked=range(count),
        others=[[Quote(float(price)) for price in other]],
        names=("own", "api"),
    )


def costs_of(cached: list[bool], usd: float = 0.01) -> AskingCosts:
    """Costs of listings that each cost the same."""
    free = np.array(cached)
    return AskingCosts(free, np.where(free, 0.0, usd), np.where(free, 0.0, 2 * usd))


def test_the_order_of_asking_does_not_depend_on_the_order_of_rows() -> None:
    """The first N listings are the same ones, and a smaller purchase is a part of a larger one."""
    items = make_answers(50).items
    groups = [f"group{row}" for row in range(50)]
    order = [items[row].listing.id for row in asking_order(items, groups)]
    backwards = asking_order(items[::-1], groups[::-1])
    assert [items[::-1][row].listing.id for row in backwards] == order
    assert order != [item.listing.id for item in items]


@given(st.integers(1, 5000), st.integers(1, 5000))
@settings(max_examples=50)
def test_counts_double_and_end_with_all_listings(n_listings: int, wanted: int) -> None:
    """The wanted number is one of them."""
    counts = answer_counts(n_listings, min(wanted, n_listings))
    assert counts == sorted(set(counts))
    assert counts[-1] == n_listings
    assert min(wanted, n_listings) in counts
    assert set(answer_counts(n_listings)) - {n_listings} == {50 * 2**k for k in range(10) if 50 * 2**k < n_listings}


def test_costs_are_of_new_requests_only_and_unknown_ones_are_not_zero() -> None:
    """What is cached is free; without a price only a row without requests has a cost."""
    costs = costs_of([True, True, False, False])
    rows = cost_rows(costs, [2, 3, 4])
    assert [(row.cached, row.requests) for row in rows] == [(2, 0), (2, 1), (2, 2)]
    assert [row.usd for row in rows] == pytest.approx([0.0, 0.01, 0.02])
    assert [row.worst_usd for row in rows] == pytest.approx([0.0, 0.02, 0.04])
    unknown = cost_rows(costs_of([True, False], float("nan")), [1, 2])
    assert [row.usd for row in unknown] == [0.0, None]
    assert (costs.n_free, costs_of([True, True]).n_free, costs_of([False, True]).n_free) == (2, 2, 0)


@pytest.mark.parametrize(
    ("answers", "sizes"), [(60, [25, 50]), (111, [25, 50]), (112, [50, 100]), (900, [50, 100, 200, 400])]
)
def test_subsets_leave_answers_to_score(answers: int, sizes: list[int]) -> None:
    """At most half of the answers are in a subset, if two sizes are left."""
    assert subset_sizes(answers) == sizes


def test_the_curve_is_recovered() -> None:
    """Least squares finds floor and slope of exact points; more answers never cost accuracy."""
    counts = np.array([50, 50, 100, 200])
    assert fit_curve(counts, 28.0 + 40.0 / counts) == pytest.approx((28.0, 40.0))
    assert fit_curve(counts, 28.0 - 40.0 / counts)[1] == 0.0


def test_a_hybrid_of_independent_errors_has_a_lower_mae_than_its_members() -> None:
    """The measured curve says so, the same one with the same seed."""
    answers = make_answers(140)
    curve = measure_curve(answers, RANGE, repeats=2)
    assert curve is not None
    assert curve == measure_curve(answers, RANGE, repeats=2)
    assert curve.answers == 140
    assert curve.expected_mae(140) < min(curve.own_mae, curve.api_mae)
    assert [point.answers for point in curve.points] == [50, 100]
    assert curve.noise == curve.points[-1].sd > 0


def test_nothing_is_measured_on_few_answers_and_unanswered_listings_are_left_out() -> None:
    """Only listings with a price by both members count."""
    answers = make_answers(64)
    assert measure_curve(make_answers(59), RANGE) is None
    silent = [Quote(None) if row < 5 else quote for row, quote in enumerate(answers.others[0])]
    assert measure_curve(replace(answers, others=[silent]), RANGE) is None
    curve = measure_curve(answers, RANGE, repeats=2)
    assert curve is not None
    assert curve.answers == 64


def test_a_gain_within_the_noise_is_no_reason_to_buy() -> None:
    """The least number of answers with a gain above the noise is chosen; without one, those that are free."""
    curve = GainCurve(60, 14.0, 13.0, POINTS, 9.0, 100.0)  # 10.67 with 60 answers
    rows = cost_rows(costs_of([True] * 60 + [False] * 140), answer_counts(200))
    assert curve.expected_gain(100) == pytest.approx(100 / 60 - 1)
    assert [is_worthwhile(row, curve) for row in rows] == [False, True, True]
    assert choose_count(rows, curve, 60) == 100
    flat = replace(curve, slope=20.0)
    assert [is_worthwhile(row, flat) for row in rows] == [False, False, False]
    assert choose_count(rows, flat, 60) == 60
    assert choose_count(rows, flat, 0) == 60


def test_without_a_measured_gain_a_hundred_answers_are_bought_first() -> None:
    """All listings, if there are fewer."""
    rows = cost_rows(costs_of([False] * 300), answer_counts(300))
    assert choose_count(rows, None, 0) == 100
    assert choose_count(rows[:1], None, 0) == 50
