"""Coverage is told to be off its level where that is significant, and seldom by chance."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from pricesmith.metrics.coverage import adjust_p_values, binomial_p, coverage_test


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
