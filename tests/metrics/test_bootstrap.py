"""Intervals resample groups: they cover the truth as often as they say, many of them simultaneously too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricesmith.core.errors import PricesmithError
from pricesmith.metrics import bootstrap
from pricesmith.metrics.bootstrap import bootstrap_interval, encode_groups, pointwise_level, simultaneous_intervals

TIMES = 600  # a coverage of 95 % is then measured to +-0.9 points


def sample_errors(random, groups, of=50, spread=0.6):
    """Log-normal errors of groups that err together; shape (groups x of,)."""
    shared = random.normal(0, spread, (groups, 1))
    return np.exp(3 + shared + random.normal(0, 0.8, (groups, of))).ravel()


def coverage(aggregate, truth, groups, paired=False, resamples=400):
    """How often the interval holds the truth."""
    random = np.random.default_rng(7)
    codes = np.repeat(np.arange(groups), 50)
    held = 0
    for seed in range(TIMES):
        values = sample_errors(random, groups)
        minus = values * sample_errors(random, groups, spread=0.3) / np.exp(3) if paired else None
        interval = bootstrap_interval(values, codes, aggregate, minus=minus, resamples=resamples, seed=seed)
        held += interval.low <= truth <= interval.high
    return held / TIMES


MEAN = float(np.exp(3 + 0.6**2 / 2 + 0.8**2 / 2))
FACTOR = float(np.exp(0.3**2 / 2 + 0.8**2 / 2))


@pytest.mark.parametrize("groups", [20, 40])
def test_a_mean_errors_interval_holds_the_truth_in_93_to_97_of_100(groups):
    """On heavy-tailed errors in groups of 50."""
    assert 0.93 <= coverage("mean", MEAN, groups) <= 0.97


def test_a_paired_differences_interval_holds_the_truth_in_93_to_97_of_100():
    """Two pricers that err together on the same groups of 50."""
    assert 0.93 <= coverage("mean", MEAN * (1 - FACTOR), 30, paired=True) <= 0.97


def test_a_roots_interval_holds_the_truth_in_93_to_97_of_100():
    """The root of a mean, as RMSLE is, keeps the promise."""
    assert 0.93 <= coverage("root", float(np.sqrt(MEAN)), 40) <= 0.97


def test_a_medians_interval_holds_the_truth_in_93_to_97_of_100():
    """Percentiles over groups."""
    assert 0.93 <= coverage("median", float(np.exp(3)), 30, resamples=200) <= 0.97


def test_resampling_items_would_be_too_narrow():
    """Where groups err together, an interval over items is less than half as wide as over groups."""
    values = sample_errors(np.random.default_rng(0), 40)
    by_group = bootstrap_interval(values, np.repeat(np.arange(40), 50))
    by_item = bootstrap_interval(values, np.arange(2000))
    assert 0 < by_item.high - by_item.low < 0.5 * (by_group.high - by_group.low)


def test_the_standard_error_of_single_items_is_the_textbooks():
    """Groups of one give s / sqrt(n)."""
    values = np.random.default_rng(0).normal(50, 10, 300)
    assert bootstrap_interval(values, np.arange(300)).se == pytest.approx(values.std(ddof=1) / np.sqrt(300))


def test_the_bootstrap_agrees_with_scipys_on_plain_means():
    """With groups of one and thin tails, scipy's percentile interval is nearly the same."""
    from scipy import stats

    values = np.random.default_rng(3).normal(50, 10, 400)
    oracle = stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(0)).confidence_interval
    interval = bootstrap_interval(values, np.arange(400))
    assert (interval.low, interval.high) == pytest.approx((oracle.low, oracle.high), abs=0.1)


@pytest.mark.parametrize("aggregate", ["mean", "root", "median"])
@settings(max_examples=25)
@given(st.lists(st.tuples(st.floats(0, 1e5), st.floats(0, 1e5), st.integers(0, 8)), min_size=9, max_size=60))
def test_a_paired_difference_mirrors_when_the_two_change_places(aggregate, data):
    """a - b is the negative of b - a, point and interval; the interval holds the point."""
    a, b = (np.array([row[i] for row in data]) for i in (0, 1))
    codes = encode_groups([row[2] for row in data])
    first = bootstrap_interval(a, codes, aggregate, minus=b, resamples=100)
    two = bootstrap_interval(b, codes, aggregate, minus=a, resamples=100)
    assert first.point == pytest.approx(-two.point)
    if first.low is None:
        assert first.groups < bootstrap.MIN_GROUPS
    else:
        assert first.low <= first.point <= first.high
        assert (first.low, first.high) == pytest.approx((-two.high, -two.low), rel=1e-6, abs=1e-6)


@settings(max_examples=25)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=40))
def test_a_pricer_does_not_differ_from_itself(values):
    """The difference, its interval and its standard error are 0."""
    array = np.array(values)
    interval = bootstrap_interval(array, np.arange(len(array)), minus=array, resamples=50)
    assert interval.point == 0
    assert interval.low in (None, 0.0)
    assert interval.high in (None, 0.0)


def test_fewer_than_five_groups_have_no_interval():
    """Four groups cannot carry one, however many items they have."""
    interval = bootstrap_interval(np.arange(400.0), np.arange(400) % 4)
    assert (interval.low, interval.high, interval.se, interval.groups) == (None, None, None, 4)


def test_one_group_that_differs_is_no_evidence():
    """Resamples without it have no spread; they are left out, and the interval stays finite and holds 0."""
    values = np.zeros(60)
    values[0] = 12.0
    interval = bootstrap_interval(values, np.arange(60), minus=np.zeros(60))
    assert -1 < interval.low < 0 < interval.point < interval.high < 1


def test_the_interval_of_a_mean_error_is_never_below_zero():
    """With few groups the lower bound stops at 0."""
    values = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 100.0])
    assert bootstrap_interval(values, np.arange(6)).low == 0.0


def test_a_share_of_all_is_not_certain():
    """20 hits of 20 groups: the exact bound of one-sided 2.5 %, not the point 1."""
    interval = bootstrap_interval(np.ones(40), np.arange(40) // 2, share=True)
    assert (interval.low, interval.high) == (pytest.approx(0.025 ** (1 / 20)), 1.0)


def test_a_shares_interval_stays_inside_zero_to_one():
    """One miss in 60 groups."""
    interval = bootstrap_interval(np.array([0.0] + [1.0] * 59), np.arange(60), share=True)
    assert 0 <= interval.low < interval.point < interval.high == 1.0


def test_the_same_seed_gives_the_same_interval_in_blocks_or_at_once(monkeypatch):
    """Memory is bounded by drawing in blocks; the draws do not change with it."""
    values, codes = np.random.default_rng(0).lognormal(3, 1, 200), np.arange(200) // 2
    at_once = bootstrap_interval(values, codes)
    monkeypatch.setattr(bootstrap, "CELLS", 1000)
    assert bootstrap_interval(values, codes) == at_once


def test_a_resampled_median_is_that_of_the_repeated_items():
    """A group drawn twice counts twice, one not drawn not at all."""
    values, codes = np.array([5.0, 1.0, 9.0, 4.0, 7.0]), np.array([0, 0, 1, 2, 2])
    weights = np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [1.0, 1.0, 1.0]])
    expected = [np.median(np.repeat(values, row[codes].astype(int))) for row in weights]
    assert bootstrap.weighted_medians(values, weights, codes).tolist() == expected


def test_values_without_their_groups_are_refused():
    """One group code for each value."""
    with pytest.raises(PricesmithError, match="one entry for each item"):
        bootstrap_interval(np.ones(3), np.arange(2))


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


def test_a_pricer_has_no_difference_from_itself():
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


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.integers(2, 12))
def test_the_level_of_each_lies_between_bonferroni_and_the_whole(seed, count):
    """And it does not depend on the order in which differences stand."""
    scores = np.random.default_rng(seed).normal(size=(400, count)) + np.random.default_rng(seed + 1).normal(
        size=(400, 1)
    )
    level = pointwise_level(scores, 0.05)
    assert 0.05 / count <= level <= 0.05
    assert pointwise_level(scores[:, ::-1], 0.05) == level
