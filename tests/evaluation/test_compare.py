"""Pairs are compared on common items, by group; what is inside noise is not ranked."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.types import EvalRow, Evaluation
from pricesmith.evaluation.compare import compare, items_needed

prices = st.none() | st.floats(0.5, 999.0)


def evaluation(name, prices, truths=None, *, groups=None, median=30.0, catalog="c0ffee", **more):
    """An evaluation of items "0", "1", ... with these quotes."""
    truths = truths if truths is not None else [10.0 * (i + 1) for i in range(len(prices))]
    rows = tuple(EvalRow(str(i), t, p) for i, (t, p) in enumerate(zip(truths, prices, strict=True)))
    return Evaluation(name, catalog, rows, median, groups=groups or {}, **more)


def noisy(name, spread, n=400, seed=0, of=1):
    """An evaluation whose quotes err by a log-normal factor; items come in groups of `of`."""
    truth = np.exp(np.random.default_rng(99).normal(4, 1, n))
    quote = truth * np.exp(np.random.default_rng(seed).normal(0, spread, n))
    groups = {str(i): f"f{i // of}" for i in range(n)} if of > 1 else {}
    return evaluation(name, quote.tolist(), truth.tolist(), groups=groups)


def test_a_clearly_better_pricer_is_significantly_better():
    """The interval excludes 0, and the better pricer is named."""
    difference = compare(noisy("good", 0.1), noisy("bad", 0.6, seed=1))
    assert (difference.is_significant, difference.better) == (True, "good")
    assert difference.low < difference.difference < difference.high < 0
    assert difference.difference == pytest.approx(difference.a_value - difference.b_value)


def test_two_equal_pricers_differ_significantly_in_5_of_100_tests():
    """Noise of the same size with different seeds: the false positive rate is the nominal one."""
    pairs = [(noisy("one", 0.3, seed=2 * i), noisy("two", 0.3, seed=2 * i + 1)) for i in range(150)]
    flags = [compare(first, second, resamples=200).is_significant for first, second in pairs]
    assert sum(flags) <= 0.09 * len(flags)


def test_without_significance_no_pricer_is_better_and_more_items_are_needed():
    """0 is inside the interval."""
    difference = compare(noisy("one", 0.3, seed=3), noisy("two", 0.3, seed=4))
    assert (difference.is_significant, difference.better) == (False, None)
    assert difference.low < 0 < difference.high
    assert difference.n_needed > difference.n


@pytest.mark.parametrize("n", [6, 12, 30])
def test_a_difference_that_is_not_significant_needs_more_items_than_there_are(n):
    """With few groups an interval is wider than the normal one, and so is what is needed."""
    for seed in range(40):
        difference = compare(noisy("one", 0.5, seed=2 * seed, n=n), noisy("two", 0.8, seed=2 * seed + 1, n=n))
        assert difference.is_significant or difference.n_needed is None or difference.n_needed > n


def test_a_pricer_does_not_differ_from_itself():
    """The difference is 0 and no number of items would change that."""
    first = noisy("one", 0.3)
    difference = compare(first, first)
    assert (difference.difference, difference.low, difference.high, difference.is_significant, difference.n_needed) == (
        0,
        0,
        0,
        False,
        None,
    )


@settings(max_examples=25)
@given(
    st.lists(st.tuples(prices, prices), min_size=6, max_size=40),
    st.sampled_from(["MAE", "within 20 %"]),
)
def test_comparing_the_other_way_round_mirrors(data, metric):
    """compare(b, a) is minus compare(a, b), with the same conclusion."""
    a, b = (evaluation(name, [row[i] for row in data]) for i, name in enumerate("ab"))
    first, second = compare(a, b, metric, resamples=100), compare(b, a, metric, resamples=100)
    assert first.difference == pytest.approx(-second.difference)
    assert (first.low, first.high) == pytest.approx((-second.high, -second.low), abs=1e-6)
    assert (first.n, first.n_needed) == (second.n, second.n_needed)


@settings(max_examples=25)
@given(st.floats(0.5, 999.0), st.lists(st.floats(0.5, 999.0), min_size=5, max_size=30))
def test_abstaining_never_beats_the_constant(median, truths):
    """A pricer that answers nothing is exactly as good as the median, by every metric that ranks."""
    silent = evaluation("silent", [None] * len(truths), truths, median=median)
    steady = evaluation("median", [median] * len(truths), truths, median=median)
    for metric in ("MAE", "median error", "RMSLE", "within 20 %", "course hit"):
        assert compare(silent, steady, metric, resamples=20).difference == 0


def test_rounding_is_no_difference():
    """The same quotes but for the eighth digit are the same pricer, however steady the difference."""
    first = noisy("one", 0.3)
    second = dataclasses.replace(
        first, rows=tuple(dataclasses.replace(row, price=row.price * 1.0000001) for row in first.rows)
    )
    difference = compare(first, second)
    assert (difference.difference, difference.is_significant, difference.n_needed) == (0, False, None)


def test_higher_is_better_for_a_share():
    """More quotes near the truth win, with the difference above 0."""
    difference = compare(noisy("good", 0.1), noisy("bad", 0.6, seed=1), "within 20 %")
    assert (difference.better, difference.difference > 0, difference.unit) == ("good", True, "share")


def test_only_common_items_count():
    """A person who answered 40 of 100 items is compared on those 40."""
    whole = noisy("whole", 0.2, n=100)
    person = dataclasses.replace(noisy("person", 0.3, n=100, seed=4), rows=noisy("person", 0.3, n=100).rows[30:70])
    difference = compare(whole, person)
    assert difference.n == 40
    assert difference.a_value == pytest.approx(np.mean([abs(row.price - row.truth) for row in whole.rows[30:70]]))


def test_groups_widen_the_interval():
    """The same errors are less evidence when items of a group err together."""
    shared = np.repeat(np.exp(np.random.default_rng(5).normal(0, 0.5, 40)), 10)
    truth = np.full(400, 50.0)
    quotes = (truth * shared).tolist()
    steady = [50.5] * 400
    groups = {str(i): f"f{i // 10}" for i in range(400)}
    alone = compare(evaluation("a", quotes, truth), evaluation("b", steady, truth))
    together = compare(evaluation("a", quotes, truth, groups=groups), evaluation("b", steady, truth, groups=groups))
    assert together.groups == 40
    assert together.high - together.low > 2 * (alone.high - alone.low)
    assert together.n_needed > 4 * alone.n_needed


def test_different_catalogs_are_refused():
    """The same ids in another catalog are other items."""
    with pytest.raises(UsageError, match="different catalogs"):
        compare(evaluation("a", [1.0] * 6), evaluation("b", [1.0] * 6, catalog="f00d"))


def test_no_item_in_common_is_refused():
    """Different items are never ranked together."""
    first, second = evaluation("a", [1.0] * 6), evaluation("b", [1.0] * 6)
    other = dataclasses.replace(second, rows=tuple(dataclasses.replace(row, id=f"x{row.id}") for row in second.rows))
    with pytest.raises(UsageError, match="no item in common"):
        compare(first, other)


def test_two_truths_of_one_item_are_refused():
    """One of the two evaluations cannot be of this catalog."""
    with pytest.raises(InputError, match="truth of item 2"):
        compare(evaluation("a", [1.0] * 6), evaluation("b", [1.0] * 6, [10.0, 20.0, 31.0, 40.0, 50.0, 60.0]))


def test_bias_has_no_better_direction():
    """Too high is not worse than too low; pricers are not ranked by it."""
    with pytest.raises(UsageError, match="no better direction"):
        compare(noisy("a", 0.1), noisy("b", 0.2), "bias")


def test_few_groups_give_no_significant_difference():
    """Below 5 common groups there is no interval and no conclusion."""
    groups = {str(i): f"f{i % 4}" for i in range(40)}
    good = evaluation("good", [10.0 * (i + 1) for i in range(40)], groups=groups)
    bad = evaluation("bad", [1.0] * 40, groups=groups)
    difference = compare(good, bad)
    assert (difference.low, difference.high, difference.is_significant, difference.n_needed) == (
        None,
        None,
        False,
        None,
    )


def test_the_items_needed_give_a_significant_difference_in_80_of_100_tests():
    """Drawn anew with as many items, the paired difference leaves 0 out in about 80 % of cases."""
    random = np.random.default_rng(0)
    mean, spread = 2.0, 20.0
    needed = items_needed(100, mean, spread / np.sqrt(100))
    assert needed == 785
    draws = random.normal(mean, spread, (1000, needed))
    flags = np.abs(draws.mean(axis=1)) > 1.96 * draws.std(axis=1, ddof=1) / np.sqrt(needed)
    assert 0.76 <= flags.mean() <= 0.84
