"""Changes of distributions: no false alarms, and real changes are found."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from pricesmith.metrics.stability import (
    Histogram,
    build_histogram,
    compare,
    count_bins,
    quantile_edges,
    stability_index,
)


def make_values(random: np.random.Generator, n: int, shift: float = 0.0) -> np.ndarray:
    """Logarithms of prices."""
    return random.normal(4.0 + shift, 1.0, n)


def reject_rates(n: int, m: int, rounds: int = 400, shift: float = 0.0) -> tuple[float, float, float]:
    """How often the two tests reject at 5 %, and the mean PSI, when both samples are from one distribution."""
    random = np.random.default_rng(0)
    results = []
    for _ in range(rounds):
        reference = build_histogram(make_values(random, m), np.arange(m))
        change = compare(reference, make_values(random, n, shift))
        results.append((change.p < 0.05, change.shift_p < 0.05, change.psi))
    by_bins, by_mean, psi = np.mean(np.array(results, dtype=float), axis=0)
    return float(by_bins), float(by_mean), float(psi)


@pytest.mark.parametrize(("n", "m"), [(40, 200), (40, 3000), (500, 500), (500, 3000)])
def test_both_tests_hold_their_level_without_a_change(n: int, m: int) -> None:
    """400 pairs of samples at a level of 5 %: 2 to 9 % is what chance allows."""
    by_bins, by_mean, psi = reject_rates(n, m)
    assert 0.02 <= by_bins <= 0.09
    assert 0.02 <= by_mean <= 0.09
    assert psi < 0.06


def test_a_shift_of_20_percent_in_500_quotes_is_found() -> None:
    _, by_mean, _ = reject_rates(500, 1000, 200, np.log(1.2))
    assert by_mean > 0.9


def test_psi_of_a_large_change_is_above_the_usual_threshold() -> None:
    random = np.random.default_rng(1)
    reference = build_histogram(make_values(random, 1000), np.arange(1000))
    assert compare(reference, make_values(random, 500, 0.6)).psi > 0.25
    assert compare(reference, make_values(random, 500)).psi < 0.05


def test_psi_is_that_of_the_definition_apart_from_its_bias() -> None:
    old, new = np.array([100_000.0, 100_000.0]), np.array([120_000.0, 80_000.0])
    p, q = np.array([0.5, 0.5]), np.array([0.6, 0.4])
    assert stability_index(old, new) == pytest.approx(((q - p) * np.log(q / p)).sum(), abs=1e-4)


def test_near_duplicates_in_the_reference_do_not_make_alarms() -> None:
    """Each value ten times in its group: without groups the reference would seem ten times as precise."""
    random = np.random.default_rng(2)
    rejected = {"grouped": 0, "ignored": 0}
    for _ in range(200):
        values = np.repeat(make_values(random, 40), 10)
        new = make_values(random, 400)
        rejected["grouped"] += compare(build_histogram(values, np.repeat(np.arange(40), 10)), new).shift_p < 0.05
        rejected["ignored"] += compare(build_histogram(values, np.arange(400)), new).shift_p < 0.05
    assert rejected["grouped"] <= 20
    assert rejected["ignored"] > 60


def test_quantile_bins_of_distinct_values_are_equally_full() -> None:
    values = np.random.default_rng(3).normal(size=1000)
    edges = quantile_edges(values, 10)
    assert count_bins(values, edges).tolist() == [100.0] * 10


def test_equal_values_are_in_one_bin_whatever_their_last_digits_are() -> None:
    """A few widths, each many times, as intervals calibrated by band have them."""
    widths = np.repeat([1.0, 1.5, 2.0], 100)
    reference = build_histogram(widths, np.arange(300))
    change = compare(reference, widths * (1 + 1e-12))
    assert len(reference.shares) == 3
    assert (change.psi, change.p) == (0.0, pytest.approx(1.0))


def test_a_constant_has_one_bin_and_no_test_of_bins() -> None:
    reference = build_histogram(np.full(50, 3.0), np.arange(50))
    assert reference.shares == (1.0,)
    assert compare(reference, np.full(10, 3.0)).p is None
    assert compare(reference, np.full(10, 3.0)).shift_p is None
    assert compare(reference, np.array([3.0])).shift_p is None


@pytest.mark.parametrize(
    "change",
    [
        {"shares": (0.5, 0.6)},
        {"shares": (1.0,)},
        {"shares": (1.5, -0.5)},
        {"edges": (1.0, 1.0), "shares": (0.5, 0.25, 0.25)},
        {"n": 0},
        {"std": -1.0},
        {"effective_n": 0.0},
        {"mean": float("nan")},
    ],
)
def test_an_impossible_histogram_is_refused(change: dict[str, object]) -> None:
    values = {"edges": (1.0,), "shares": (0.5, 0.5), "n": 2, "effective_n": 2.0, "mean": 1.0, "std": 1.0, "se": 0.1}
    Histogram(**values)
    with pytest.raises(ValidationError):
        Histogram(**{**values, **change})
