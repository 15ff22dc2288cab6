"""Many intervals hold all together: who looks at many pricers does not find a winner by luck more often than said."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricesmith.measures.resample import interval
from pricesmith.measures.together import intervals_together, level_of_each

FAMILIES = np.repeat(np.arange(40), 4)


def errors(pricers, seed, skill=1.0):
    """Errors of pricers of equal skill on 160 items in 40 families, shape (160, pricers): log-normal, heavy-tailed.

    With `skill` below 1 the first errs less.
    """
    random = np.random.default_rng(seed)
    truth = np.exp(random.normal(4, 1, 160))[:, None]
    noise = np.repeat(random.normal(0, 0.3, (40, pricers)), 4, axis=0) + random.normal(0, 0.3, (160, pricers))
    noise[:, 0] *= skill
    return np.abs(truth * np.expm1(noise))


def found_anything(intervals):
    return any(one.low > 0 or one.high < 0 for one in intervals)


def test_nothing_is_found_by_luck_more_often_than_said():
    """Family-wise error: with eight rivals of equal skill something is told apart in about 5 of 100 leagues, where
    tests at 5 % each find something in every fourth or so."""
    leagues, together, each = 80, 0, 0
    for seed in range(leagues):
        made = errors(9, seed)
        pairs = [(made[:, rival], made[:, 0]) for rival in range(1, 9)]
        together += found_anything(intervals_together(pairs, FAMILIES, resamples=300)[0])
        each += found_anything([interval(one, FAMILIES, minus=other, resamples=300) for one, other in pairs])
    assert together <= 0.1 * leagues
    assert each >= 0.15 * leagues


def test_the_best_of_many_is_not_better_by_having_been_chosen():
    """A champion chosen on the same items is not told apart from its equals, where all that could have been chosen
    are in the correction."""
    leagues, told = 60, 0
    for seed in range(leagues):
        made = errors(5, 1000 + seed)
        best = int(made.mean(axis=0).argmin())
        both = [(i, j) for i in range(5) for j in range(i)]
        intervals, _ = intervals_together([(made[:, i], made[:, j]) for i, j in both], FAMILIES, resamples=300)
        told += found_anything([one for one, pair in zip(intervals, both, strict=True) if best in pair])
    assert told <= 0.1 * leagues


def test_what_is_there_is_found():
    """A pricer with a tenth of the noise is told apart from all eight."""
    made = errors(9, 3, skill=0.1)
    intervals, _ = intervals_together([(made[:, rival], made[:, 0]) for rival in range(1, 9)], FAMILIES)
    assert all(one.low > 0 for one in intervals)


def test_one_difference_needs_no_correction():
    """It has the interval that it has alone."""
    made = errors(2, 7)
    (one,), confidence = intervals_together([(made[:, 0], made[:, 1])], FAMILIES)
    alone = interval(made[:, 0], FAMILIES, minus=made[:, 1])
    assert confidence == 0.95
    assert (one.point, one.low, one.high, one.se) == pytest.approx((alone.point, alone.low, alone.high, alone.se))


def test_many_are_wider_than_one_and_no_wider_than_bonferroni():
    """What pricers share against one champion is not paid for twice."""
    made = errors(9, 5)
    pairs = [(made[:, rival], made[:, 0]) for rival in range(1, 9)]
    intervals, confidence = intervals_together(pairs, FAMILIES)
    assert 0.95 < confidence <= 1 - 0.05 / 8
    for one, (mine, other) in zip(intervals, pairs, strict=True):
        alone = interval(mine, FAMILIES, minus=other)
        assert one.high - one.low > alone.high - alone.low


def test_the_same_difference_twice_costs_nothing():
    """Copies of one pricer are one comparison, whatever Bonferroni says."""
    made = errors(2, 11)
    _, confidence = intervals_together([(made[:, 0], made[:, 1])] * 6, FAMILIES)
    assert confidence == pytest.approx(0.95, abs=0.002)


def test_two_that_are_one_are_not_told_apart():
    """No difference, no width, and no weight in the correction of the others."""
    made = errors(2, 13)
    pairs = [(made[:, 0], made[:, 0]), (made[:, 0], made[:, 1])]
    (same, other), confidence = intervals_together(pairs, FAMILIES)
    assert (same.point, same.low, same.high) == (0, 0, 0)
    assert other.low < other.point < other.high
    assert confidence == 0.95


def test_few_families_carry_no_interval():
    """Below five there is a point and nothing more."""
    values = np.arange(8.0)
    (one,), _ = intervals_together([(values, values[::-1].copy())], np.repeat(np.arange(4), 2))
    assert (one.low, one.high, one.families) == (None, None, 4)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000), st.integers(2, 12))
def test_the_level_of_each_lies_between_bonferroni_and_the_whole(seed, count):
    """And it does not depend on the order in which differences stand."""
    scores = np.random.default_rng(seed).normal(size=(400, count)) + np.random.default_rng(seed + 1).normal(
        size=(400, 1)
    )
    level = level_of_each(scores, 0.05)
    assert 0.05 / count <= level <= 0.05
    assert level_of_each(scores[:, ::-1], 0.05) == level
