"""CV+ intervals of hybrid prices: their coverage on new rows, and what they do with few answers."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import binom

from pricesmith.pricers.hybrid.intervals import (
    MIN_ROWS,
    HybridIntervals,
    ScaleModel,
    fit_intervals,
    fit_scale,
    mean_coverage,
    scale_features,
)
from pricesmith.pricers.hybrid.shares import HybridInputs, fit_shares


def make_inputs(count: int, seed: int) -> tuple[HybridInputs, np.ndarray]:
    """A made law: both members err by a factor whose size is told by the width of the first one's interval."""
    rng = np.random.default_rng(seed)
    truth = np.exp(rng.uniform(np.log(3), np.log(900), count))
    sigma = rng.uniform(0.05, 0.8, count)
    prices = truth[:, None] * np.exp(rng.normal(0, 1, (count, 2)) * sigma[:, None])
    return HybridInputs(prices, 3.3 * sigma, ("lamp",) * count), truth


def fit(count: int, seed: int) -> HybridIntervals:
    inputs, truth = make_inputs(count, seed)
    return fit_intervals(inputs, truth, [str(row) for row in range(count)], None)[0]


def test_nine_of_ten_new_prices_are_inside_from_both_sides() -> None:
    """400 answers: the coverage of 4,000 new rows is 90 %, within the error of calibrating on 400, on each side."""
    intervals = fit(400, seed=1)
    new, truth = make_inputs(4000, seed=2)
    low, high = intervals.bounds(new)
    assert mean_coverage(truth, low, high) == pytest.approx(0.9, abs=0.04)
    assert float((truth < low).mean()) == pytest.approx(0.05, abs=0.03)
    assert float((truth > high).mean()) == pytest.approx(0.05, abs=0.03)


def test_coverage_holds_with_60_answers_too() -> None:
    """Over 40 fits the misses are within binomial bounds of 10 %: not more (too narrow), not far fewer (too wide)."""
    covered = total = 0
    for seed in range(40):
        intervals = fit(60, seed=100 + seed)
        new, truth = make_inputs(50, seed=500 + seed)
        low, high = intervals.bounds(new)
        covered += int(((low <= truth) & (truth <= high)).sum())
        total += len(truth)
    # Rows of one fit share its error, so the bounds are those of half as many independent rows.
    assert binom.ppf(0.001, total // 2, 0.9) / (total // 2) <= covered / total
    assert covered / total <= binom.ppf(0.999, total // 2, 0.94) / (total // 2)


def test_uncertain_listings_have_wider_intervals() -> None:
    """The scale follows the width of the first member's interval."""
    intervals = fit(300, seed=3)
    new, _ = make_inputs(500, seed=4)
    low, high = intervals.bounds(new)
    width = np.log(high / low)
    assert np.corrcoef(width, new.width)[0, 1] > 0.8


def test_too_few_answers_have_no_bounds() -> None:
    """A 5 % quantile needs 19 residuals."""
    new, _ = make_inputs(3, seed=0)
    low, high = fit(MIN_ROWS - 1, seed=0).bounds(new)
    assert np.isnan(low).all()
    assert np.isnan(high).all()
    low, high = fit(MIN_ROWS, seed=0).bounds(new)
    assert (low < high).all()


def test_bounds_do_not_depend_on_the_batch() -> None:
    """Over a thousand listings are computed in parts."""
    intervals = fit(50, seed=5)
    new, _ = make_inputs(1200, seed=6)
    low, high = intervals.bounds(new)
    part = np.zeros(1200, dtype=np.bool_)
    part[990:1010] = True
    alone = intervals.bounds(new.rows(part))
    assert alone[0] == pytest.approx(low[part])
    assert alone[1] == pytest.approx(high[part])


def test_a_listing_without_any_answer_has_no_bounds() -> None:
    """And changes nothing for its neighbors."""
    intervals = fit(50, seed=7)
    new, _ = make_inputs(4, seed=8)
    low, _ = intervals.bounds(new)
    new.prices[2] = np.nan
    changed, _ = intervals.bounds(new)
    assert np.isnan(changed).tolist() == [False, False, True, False]
    assert changed[[0, 1, 3]] == pytest.approx(low[[0, 1, 3]])


def test_each_listing_is_priced_by_shares_fitted_without_its_group() -> None:
    """A listing with a wrong truth moves the prices of other folds only."""
    inputs, truth = make_inputs(100, seed=9)
    groups = [str(row // 4) for row in range(100)]
    _, prices = fit_intervals(inputs, truth, groups, None)
    wrong = truth.copy()
    wrong[:4] *= 50
    _, changed = fit_intervals(inputs, wrong, groups, None)
    assert changed[:4] == pytest.approx(prices[:4])
    assert not np.allclose(changed[4:], prices[4:])


def test_cross_fitted_errors_are_not_those_of_the_fit() -> None:
    """They are a little larger: the fit has seen the rows."""
    inputs, truth = make_inputs(60, seed=10)
    groups = [str(row) for row in range(60)]
    _, prices = fit_intervals(inputs, truth, groups, 0.003)
    fitted = fit_shares(inputs, truth, groups).combine(inputs)
    assert np.isfinite(prices).all()
    assert np.abs(prices - truth).mean() > 0.98 * np.abs(fitted - truth).mean()


def test_residuals_of_zero_give_a_finite_scale() -> None:
    """A member that is always right."""
    inputs, _ = make_inputs(30, seed=11)
    scale = fit_scale(scale_features(inputs, 1.0), np.zeros(30))
    assert np.isfinite(scale.predict(scale_features(inputs, 1.0))).all()


def test_a_file_with_parts_that_do_not_belong_together_is_refused() -> None:
    """Each fold needs its shares, scale and scores."""
    values = fit(40, seed=12).model_dump()
    with pytest.raises(ValidationError, match="for each fold"):
        HybridIntervals.model_validate({**values, "scales": values["scales"][:-1]})
    with pytest.raises(ValidationError, match="slopes, means and scales"):
        ScaleModel.model_validate({**values["scales"][0], "mean": (0.0,)})
