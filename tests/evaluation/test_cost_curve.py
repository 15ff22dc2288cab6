"""The cost curve of a cascade: from its first model alone to always asking the second, with intervals by group."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricesmith.core.errors import PricesmithError
from pricesmith.evaluation.cost_curve import (
    SHARES,
    CostCurve,
    CurveConstraint,
    measure_cost_curve,
    read_asked,
    read_cost_curve,
    read_hybrid,
)
from pricesmith.metrics.bootstrap import encode_groups

SHARE = CurveConstraint(name="share", value=0.2)


@dataclass(frozen=True)
class Arrays:
    """The arrays that a curve is measured from."""

    truth: np.ndarray
    first: np.ndarray
    hybrid: np.ndarray
    second: np.ndarray
    fees: np.ndarray
    order: np.ndarray
    asked: np.ndarray
    groups: np.ndarray

    def measure(self, **options):
        defaults = {"median": 30.0, "names": ("best", "llm"), "constraint": SHARE}
        return measure_cost_curve(*vars(self).values(), **{**defaults, **options})

    def take(self, index):
        arrays = Arrays(*(values[index] for values in vars(self).values()))
        return replace(arrays, groups=encode_groups(arrays.groups.tolist()))


def make_arrays(n=60, seed=0):
    """Listings whose second quote is closer to the truth than the first; the worst first quotes are asked first."""
    random = np.random.default_rng(seed)
    truth = np.exp(random.normal(3, 1, n))
    first, second = (truth * np.exp(random.normal(0, spread, n)) for spread in (0.6, 0.3))
    order = np.abs(first - truth) + random.uniform(0, 1e-3, n)
    fees = random.uniform(0.001, 0.003, n)
    return Arrays(truth, first, second, second, fees, order, order > np.quantile(order, 0.8), np.arange(n) // 2)


def mae(arrays, quotes):
    return pytest.approx(float(np.abs(np.where(np.isnan(quotes), 30.0, quotes) - arrays.truth).mean()))


many = given(st.integers(1, 60), st.integers(0, 10**6))


@many
@settings(max_examples=30)
def test_the_ends_are_the_first_model_alone_and_the_cascade_that_always_asks(n, seed):
    """At no cost, and at the sum of all fees."""
    arrays = make_arrays(n, seed)
    curve = arrays.measure()
    assert (curve.first_alone.share, curve.always.share) == (0, 1)
    assert (curve.first_alone.mae, curve.always.mae) == (mae(arrays, arrays.first), mae(arrays, arrays.hybrid))
    assert curve.first_alone.cost_per_1000 == 0
    assert curve.always.cost_per_1000 == pytest.approx(1000 * arrays.fees.mean())
    assert curve.second_alone.mae == mae(arrays, arrays.second)
    assert curve.second_alone.cost_per_1000 == curve.always.cost_per_1000


@many
@settings(max_examples=30)
def test_costs_rise_with_the_share_and_intervals_contain_the_mae(n, seed):
    """Every point costs more than the one before; shares are those asked for, rounded to whole listings."""
    curve = make_arrays(n, seed).measure()
    costs = [point.cost_per_1000 for point in curve.points]
    assert all(low < high for low, high in pairwise(costs))
    assert [point.share for point in curve.points] == sorted({round(share * n) / n for share in SHARES})
    for point in (*curve.points, curve.chosen, curve.second_alone):
        has_interval = len(set(np.arange(n) // 2)) >= 5
        assert (point.low is not None) == has_interval
        assert not has_interval or 0 <= point.low <= point.mae <= point.high


@many
@settings(max_examples=30)
def test_the_order_of_the_rows_does_not_matter(n, seed):
    """Without equal ranks, the same curve up to the sampling of the bootstrap."""
    arrays = make_arrays(n, seed)
    there = arrays.measure()
    back = arrays.take(np.random.default_rng(seed).permutation(n)).measure()
    for a, b in zip((*there.points, there.chosen), (*back.points, back.chosen), strict=True):
        assert (a.share, a.mae) == (b.share, pytest.approx(b.mae))
        assert a.cost_per_1000 == pytest.approx(b.cost_per_1000)
        assert (a.low is None) == (b.low is None)
        if n >= 40:  # 20 groups; with a few, the draws of the bootstrap differ much
            assert b.high - b.low == pytest.approx(a.high - a.low, rel=0.5)


def test_listings_are_asked_in_decreasing_order():
    """The one with the largest gain per dollar first; of equal ones, the one that comes first."""
    truth = np.full(4, 10.0)
    first, hybrid = np.array([11.0, 14.0, 12.0, 12.0]), truth
    fees = np.array([0.001, 0.004, 0.002, 0.003])
    order = np.array([1.0, 9.0, 2.0, 2.0])
    arrays = Arrays(truth, first, hybrid, hybrid, fees, order, order > 100, np.arange(4))
    curve = arrays.measure(shares=(0.25, 0.5, 0.75))
    assert [point.mae for point in curve.points] == [2.25, 1.25, 0.75, 0.25, 0]
    assert [point.cost_per_1000 for point in curve.points] == pytest.approx([0, 1.0, 1.5, 2.25, 2.5])
    assert curve.chosen == curve.first_alone


def test_the_chosen_point_is_the_policys_own():
    """It need not ask in the order of the curve."""
    arrays = make_arrays()
    asked = np.arange(60) % 3 == 0
    chosen = replace(arrays, asked=asked).measure().chosen
    assert chosen.share == pytest.approx(1 / 3)
    assert chosen.mae == mae(arrays, np.where(asked, arrays.hybrid, arrays.first))
    assert chosen.cost_per_1000 == pytest.approx(1000 * arrays.fees[asked].sum() / 60)


def test_unanswered_listings_are_charged_at_the_median():
    """By the second model alone; the cascade has the first quote for them. A first quote may be missing, too."""
    arrays = make_arrays()
    second = np.where(np.arange(60) % 4 == 0, np.nan, arrays.second)
    hybrid = np.where(np.isnan(second), arrays.first, second)
    curve = replace(arrays, second=second, hybrid=hybrid).measure()
    assert curve.second_alone.mae == mae(arrays, second)
    assert curve.always.mae == mae(arrays, hybrid)
    assert replace(arrays, first=second).measure().first_alone.mae == mae(arrays, second)


def test_one_unknown_fee_makes_all_costs_unknown():
    """They are never 0."""
    arrays = make_arrays()
    curve = replace(arrays, fees=np.where(np.arange(60) == 7, np.nan, arrays.fees)).measure()
    points = (*curve.points, curve.chosen, curve.second_alone)
    assert {point.cost_per_1000 for point in points} == {None}
    assert not curve.has_costs
    assert arrays.measure().has_costs


def test_the_first_model_may_cost_something_too():
    """Seconds of a small model, or the fees of a cascade inside a cascade; the second model alone does without."""
    arrays = make_arrays()
    curve = arrays.measure(first_fees=np.full(60, 0.5), cost_unit="seconds")
    assert curve.first_alone.cost_per_1000 == pytest.approx(500)
    assert curve.always.cost_per_1000 == pytest.approx(500 + curve.second_alone.cost_per_1000)
    assert curve.cost_unit == "seconds"


def test_arrays_that_do_not_fit_together_are_refused():
    """No listings, an array that is too short, an order or a share that is not one."""
    arrays = make_arrays()
    for wrong in (
        arrays.take(slice(0, 0)),
        replace(arrays, fees=arrays.fees[:-1]),
        replace(arrays, order=np.full(60, np.nan)),
    ):
        with pytest.raises(PricesmithError):
            wrong.measure()
    with pytest.raises(PricesmithError, match=r"between 0 and 1"):
        arrays.measure(shares=(0.0, 1.2))


def test_a_curve_is_read_back_as_it_was_written():
    """Through the JSON of a meta file; a meta file without one has none."""
    curve = make_arrays().measure(estimated_fees=True)
    meta = json.loads(json.dumps({"cost_curve": curve.to_dict()}, allow_nan=False))
    assert read_cost_curve(meta) == curve
    assert read_cost_curve({}) is None


def test_a_curve_without_a_unit_is_in_dollars():
    """The unit is in the file for seconds; an unknown fee is null."""
    content = make_arrays().measure().to_dict()
    del content["cost_unit"]
    assert read_cost_curve({"cost_curve": content}).cost_unit == "usd"
    for point in (*content["points"], content["chosen"], content["second_alone"]):
        point["cost_per_1000"] = None
    assert not read_cost_curve({"cost_curve": content}).has_costs


def damaged_curves() -> Iterator[dict[str, Any]]:
    """Curves that cannot be right, each with one damage."""
    intact = make_arrays().measure().to_dict()
    numbers = (float("nan"), float("inf"), -1.0, 1e200, "1", True)
    for key in ("share", "cost_per_1000", "mae", "low", "high"):
        for value in numbers:
            yield {**intact, "chosen": {**intact["chosen"], key: value}}
            yield {
                **intact,
                "points": [*intact["points"][:3], {**intact["points"][3], key: value}, *intact["points"][4:]],
            }
    for key in intact:
        others: tuple[Any, ...] = (None, "x", 7.5, [], {}, True)
        for value in others:
            if not (key in ("first", "second") and value == "x") and not (key == "estimated_fees" and value is True):
                yield {**intact, key: value}
    yield {**intact, "points": intact["points"][::-1]}
    yield {**intact, "points": intact["points"][1:]}
    yield {**intact, "points": intact["points"][:-1]}
    yield {**intact, "points": [intact["points"][0]] * 2}
    yield {**intact, "points": [{**intact["points"][0], "cost_per_1000": None}, *intact["points"][1:]]}
    yield {**intact, "chosen": {**intact["chosen"], "low": None}}
    yield {**intact, "chosen": {**intact["chosen"], "mae": intact["chosen"]["high"] + 1}}
    yield {**intact, "constraint": {"name": "max_price", "value": 1.0}}
    yield {**intact, "more": 1}


@pytest.mark.parametrize("damaged", list(damaged_curves()))
def test_a_damaged_curve_is_refused_in_one_line(damaged):
    """Numbers that are not finite or negative, shares that do not rise, costs that are known in part."""
    with pytest.raises(ValueError, match=r"^cost_curve") as refusal:
        read_cost_curve({"cost_curve": damaged})
    assert "\n" not in str(refusal.value)


def test_the_counts_of_asked_listings_fit_together():
    """The unanswered ones are among the asked ones."""
    counts = read_asked({"asked": {"n": 600, "asked": 126, "unanswered": 2}})
    assert (counts.n, counts.asked, counts.unanswered, counts.share) == (600, 126, 2, 0.21)
    assert read_asked({}) is None
    for wrong in ({"n": 5, "asked": 6, "unanswered": 0}, {"n": 5, "asked": 1, "unanswered": 2}, {"n": -1}, 7, []):
        with pytest.raises(ValueError, match=r"^asked"):
            read_asked({"asked": wrong})


def test_a_hybrid_is_known_by_its_counts_and_by_its_curve():
    """A blend has counts only, a cascade of two own models a curve only; the name is the curve's if there is one."""
    curve = make_arrays().measure(estimated_fees=True).to_dict()
    counts = {"n": 600, "asked": 126, "unanswered": 2}
    cascade = read_hybrid({"cost_curve": curve, "asked": counts})
    assert (cascade.member, cascade.is_paid, cascade.share, cascade.estimated_fees) == ("llm", True, 0.21, True)
    blend = read_hybrid({"asked": {**counts, "member": "gpt", "estimated_fees": False}})
    assert (blend.member, blend.is_paid, blend.curve, blend.estimated_fees) == ("gpt", True, None, False)
    assert read_hybrid({"asked": counts}).member == ""
    own = read_hybrid({"cost_curve": {**curve, "cost_unit": "seconds"}})
    assert (own.member, own.is_paid, own.share) == ("llm", False, own.curve.chosen.share)
    assert read_hybrid({"kind": "ridge"}) is None


def test_the_curve_says_what_its_points_are():
    """Named, so that nobody counts positions."""
    curve = make_arrays().measure()
    assert isinstance(curve, CostCurve)
    assert (curve.first_alone, curve.always) == (curve.points[0], curve.points[-1])
    assert (curve.first, curve.second, curve.constraint.name) == ("best", "llm", "share")
