"""Bands hold every item once, at round prices; their coverage is tested against its level."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from pricesmith.metrics.bands import (
    adjust_p_values,
    band_label,
    binomial_p,
    category_masks,
    coverage_bands,
    coverage_test,
    error_bands,
    price_edges,
    price_masks,
)

prices = st.lists(st.floats(0.01, 1e7), min_size=1, max_size=80)


@settings(max_examples=60)
@given(prices, st.floats(1e-3, 1e3))
def test_price_bands_hold_every_item_once(values, scale):
    """Whatever the prices and the currency, bands are few, rising and round."""
    array = np.array(values) * scale
    edges = price_edges(array)
    assert edges == sorted(set(edges))
    assert len(edges) <= 7
    assert edges or len(price_masks(array, edges)) == 1
    assert all(f"{edge:.0e}"[0] in "125" for edge in edges)
    assert (np.sum([mask for _, mask in price_masks(array, edges)], axis=0) == 1).all()


def test_bands_of_shop_prices_are_those_a_person_would_choose():
    """Log-normal prices round 50 are cut at round numbers, and the dear tail has its own band."""
    array = np.exp(np.random.default_rng(0).normal(np.log(50), 1.4, 5000))
    assert price_edges(array) == [5, 10, 20, 50, 100, 200, 500]


def test_one_price_is_one_band():
    """Where all prices are the same there is nothing to cut."""
    assert [label for label, _ in price_masks(np.full(9, 5.0), price_edges(np.full(9, 5.0)))] == ["all"]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 10, "under 10"), (10, 25, "10 to 25"), (2000, np.inf, "2,000 and over"), (0, np.inf, "all")],
)
def test_a_band_is_named_in_words(low, high, expected):
    """A reader needs no brackets."""
    assert band_label(low, high) == expected


def test_rare_categories_are_put_together():
    """The commonest keep their names, the rest are counted in one."""
    masks = category_masks(["a"] * 5 + ["b"] * 3 + ["", "", "d"], most=2)
    assert [(label, int(mask.sum())) for label, mask in masks] == [("a", 5), ("b", 3), ("2 others", 3)]


def test_bands_share_out_all_of_the_error():
    """Shares of items and of error add up to 1, and each band's mean is over its own items."""
    random = np.random.default_rng(0)
    truth = np.exp(random.normal(4, 1, 500))
    quote = truth * np.exp(random.normal(0, 0.5, 500))
    bands = error_bands(truth, quote, np.arange(500), price_masks(truth, price_edges(truth)))
    assert sum(band.share_of_items for band in bands) == pytest.approx(1)
    assert sum(band.share_of_error for band in bands) == pytest.approx(1)
    total = sum(band.mae.point * band.n for band in bands)
    assert total == pytest.approx(np.abs(quote - truth).sum())


def test_coverage_counts_only_items_with_an_interval():
    """NaN bounds are no interval; a band without any is left out."""
    truth, low, high = (
        np.array([10.0, 20.0, 30.0]),
        np.array([5.0, 25.0, np.nan]),
        np.array([20.0, 100.0, np.nan]),
    )
    masks = [("first two", np.array([True, True, False])), ("last", np.array([False, False, True]))]
    (band,) = coverage_bands(truth, np.sqrt(low * high), low, high, np.arange(3), masks)
    assert (band.label, band.n, band.coverage.point) == ("first two", 2, 0.5)
    assert (band.lower_factor, band.upper_factor) == (pytest.approx(2.0), pytest.approx(2.0))


@pytest.mark.parametrize(("held", "n"), [(80, 100), (90, 100), (97, 100), (0, 10), (10, 10)])
def test_independent_items_get_the_exact_binomial_test(held: int, n: int) -> None:
    """Each tail is scipy's."""
    tails = [binomtest(held, n, 0.9, alternative=side).pvalue for side in ("less", "greater")]
    assert binomial_p(held, n, 0.9) == pytest.approx(min(1.0, 2 * min(tails)), rel=1e-9)


def test_items_of_one_group_count_as_little_as_they_agree() -> None:
    """Twenty items in each of forty groups that are held or missed together say no more than forty items."""
    held = np.repeat(np.arange(40) >= 8, 20).astype(float)
    alone, together = coverage_test(held, np.arange(800), 0.9), coverage_test(held, np.repeat(np.arange(40), 20), 0.9)
    assert together.effective == pytest.approx(40, rel=0.05)
    assert alone.p is not None
    assert together.p is not None
    assert alone.p < 1e-6 < 0.01 < together.p


def test_a_coverage_at_its_level_is_rejected_in_about_5_percent_of_samples() -> None:
    """In groups of four that agree; items taken as independent would be rejected far more often."""
    draw, rejected, by_item = np.random.default_rng(0), 0, 0
    groups = np.repeat(np.arange(150), 4)
    for _ in range(400):
        common, own = np.repeat(draw.random(150) < 0.9, 4), draw.random(600) < 0.9
        held = np.where(np.repeat(draw.random(150) < 0.5, 4), common, own).astype(float)
        p = coverage_test(held, groups, 0.9).p
        rejected += p is not None and p < 0.05
        by_item += (coverage_test(held, np.arange(600), 0.9).p or 0) < 0.05
    assert 0.02 < rejected / 400 < 0.075
    assert by_item / 400 > 0.1


def test_too_few_groups_have_no_test() -> None:
    """Four groups cannot carry one."""
    assert coverage_test(np.ones(100), np.arange(100) % 4, 0.9).p is None


def test_many_tests_are_corrected() -> None:
    """Holm, by hand; what was not tested does not count."""
    assert adjust_p_values([0.01, None, 0.04, 0.03]) == [
        pytest.approx(0.03),
        None,
        pytest.approx(0.06),
        pytest.approx(0.06),
    ]
