"""Many intervals hold all together: who looks at many pricers does not find a winner by luck more often than said."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricesmith.metrics.bootstrap import bootstrap_interval
from pricesmith.metrics.simultaneous import pointwise_level, simultaneous_intervals

GROUPS = np.repeat(np.arange(40), 4)


def errors(pricers, seed, skill=1.0):
    """Errors of pricers of equal skill on 160 items in 40 groups, shape (160, pricers): log-normal, heavy-tailed.

    With `skill` below 1 the first errs less.
    """
    random = np.random.default_rng(seed)
    truth = np.exp(random.normal(4, 1, 160))[:, None]
    noise = np.repeat(random.normal(0, 0.3, (40, pricers)), 4, axis=0) + random.normal(0, 0.3, (160, pricers))
    noise[:, 0] *= skill
    return np.abs(truth * np.expm1(noise))


def is_any_significant(intervals):
    return any(interval.low > 0 or interval.high < 0 for interval in intervals)


def test_five_percent_of_leaderboards_show_a_difference_by_chance():
    """Family-wise error: with eight equal competitors, about 5 % of leaderboards show any significant difference; tests
    at 5 % each show one in about a quarter of them."""
    leaderboards, together, each = 80, 0, 0
    for seed in range(leaderboards):
        made = errors(9, seed)
        pairs = [(made[:, competitor], made[:, 0]) for competitor in range(1, 9)]
        together += is_any_significant(simultaneous_intervals(pairs, GROUPS, resamples=300)[0])
        each += is_any_significant(
            [bootstrap_interval(competitor, GROUPS, minus=reference, resamples=300) for competitor, reference in pairs]
        )
    assert 0.01 * leaderboards <= together <= 0.1 * leaderboards
    assert each >= 0.15 * leaderboards


def test_the_best_of_many_is_not_better_by_having_been_chosen():
    """A reference chosen on the same items differs significantly from its equals in at most 10 % of leaderboards if all
    pairs that could have been chosen are in the correction; without a correction, in at least 15 %."""
    leaderboards, significant, uncorrected = 60, 0, 0
    for seed in range(leaderboards):
        made = errors(5, 1000 + seed)
        best = int(made.mean(axis=0).argmin())
        both = [(i, j) for i in range(5) for j in range(i)]
        intervals, _ = simultaneous_intervals([(made[:, i], made[:, j]) for i, j in both], GROUPS, resamples=300)
        significant += is_any_significant(
            [interval for interval, pair in zip(intervals, both, strict=True) if best in pair]
        )
        others = [made[:, i] for i in range(5) if i != best]
        uncorrected += is_any_significant(
            [bootstrap_interval(other, GROUPS, minus=made[:, best], resamples=300) for other in others]
        )
    assert 0 < significant <= 0.1 * leaderboards
    assert uncorrected >= 0.15 * leaderboards


def test_a_true_difference_is_significant():
    """A pricer with a tenth of the noise is better than all eight others."""
    made = errors(9, 3, skill=0.1)
    intervals, _ = simultaneous_intervals([(made[:, competitor], made[:, 0]) for competitor in range(1, 9)], GROUPS)
    assert len(intervals) == 8
    assert all(interval.low > 0 for interval in intervals)


def test_one_difference_needs_no_correction():
    """It has the interval that it has alone."""
    made = errors(2, 7)
    (interval,), confidence = simultaneous_intervals([(made[:, 0], made[:, 1])], GROUPS)
    alone = bootstrap_interval(made[:, 0], GROUPS, minus=made[:, 1])
    assert confidence == 0.95
    assert (interval.point, interval.low, interval.high, interval.se) == pytest.approx(
        (alone.point, alone.low, alone.high, alone.se)
    )


def test_many_are_wider_than_one_and_no_wider_than_bonferroni():
    """What pricers share against one reference is not paid for twice."""
    made = errors(9, 5)
    pairs = [(made[:, competitor], made[:, 0]) for competitor in range(1, 9)]
    intervals, confidence = simultaneous_intervals(pairs, GROUPS)
    assert 0.95 < confidence <= 1 - 0.05 / 8
    for interval, (competitor, other) in zip(intervals, pairs, strict=True):
        alone = bootstrap_interval(competitor, GROUPS, minus=other)
        assert interval.high - interval.low > alone.high - alone.low


def test_the_same_difference_twice_costs_nothing():
    """Copies of one pricer are one comparison, whatever Bonferroni says."""
    made = errors(2, 11)
    _, confidence = simultaneous_intervals([(made[:, 0], made[:, 1])] * 6, GROUPS)
    assert confidence == pytest.approx(0.95, abs=0.002)


def test_two_that_are_one_are_not_told_apart():
    """No difference, no width, and no weight in the correction of the others."""
    made = errors(2, 13)
    pairs = [(made[:, 0], made[:, 0]), (made[:, 0], made[:, 1])]
    (same, other), confidence = simultaneous_intervals(pairs, GROUPS)
    assert (same.point, same.low, same.high) == (0, 0, 0)
    assert other.low < other.point < other.high
    assert confidence == 0.95


def test_few_groups_carry_no_interval():
    """Below five there is a point and nothing more."""
    values = np.arange(8.0)
    (interval,), _ = simultaneous_intervals([(values, values[::-1].copy())], np.repeat(np.arange(4), 2))
    assert (interval.low, interval.high, interval.groups) == (None, None, 4)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000), st.integers(2, 12))
def test_the_level_of_each_lies_between_bonferroni_and_the_whole(seed, count):
    """And it does not depend on the order in which differences stand."""
    scores = np.random.default_rng(seed).normal(size=(400, count)) + np.random.default_rng(seed + 1).normal(
        size=(400, 1)
    )
    level = pointwise_level(scores, 0.05)
    assert 0.05 / count <= level <= 0.05
    assert pointwise_level(scores[:, ::-1], 0.05) == level
