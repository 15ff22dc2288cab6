"""Shares of the members of a hybrid price: what they sum to, how they are fitted, and when they depend on a listing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from pricesmith.core.types import Listing, Quote
from pricesmith.pricers.hybrid.shares import (
    FOLDS,
    MIN_SLOPES,
    HybridInputs,
    ShareLoss,
    ShareModel,
    choose_penalty,
    fit_shares,
    fit_with_penalty,
    group_folds,
)

PRICES = st.floats(0.5, 1000.0)


def make_inputs(count: int, seed: int = 0) -> tuple[HybridInputs, np.ndarray]:
    """A made law: the second member is within 2 % above 60 and off by a factor of up to 4 below, the first the other
    way round. Prices are log-uniform from 3 to 900."""
    rng = np.random.default_rng(seed)
    truth = np.exp(rng.uniform(np.log(3), np.log(900), count))
    small, large = rng.normal(0, 0.02, (count, 2)), rng.normal(0, 0.6, (count, 2))
    expensive = truth > 60
    noise = np.where(np.column_stack([expensive, ~expensive]), large, small)
    category = tuple(rng.choice(["lamp", "hose"], count).tolist())
    return HybridInputs(truth[:, None] * np.exp(noise), np.full(count, 1.2), category), truth


def own_groups(count: int) -> list[str]:
    return [f"group {number}" for number in range(count)]


def mae(model: ShareModel, inputs: HybridInputs, truth: np.ndarray) -> float:
    return float(np.abs(model.combine(inputs) - truth).mean())


@given(arrays(np.float64, (12, 3), elements=PRICES), arrays(np.bool_, (12, 3)), arrays(np.float64, 12, elements=PRICES))
@settings(max_examples=40)
def test_a_hybrid_price_is_between_the_lowest_and_the_highest_answer(
    prices: np.ndarray, answered: np.ndarray, truth: np.ndarray
) -> None:
    """Shares are not negative and sum to 1 over the members that answered; without any answer there is no price."""
    model = fit_with_penalty(HybridInputs(prices, np.full(12, 0.9), ("lamp",) * 12), truth, 0.01)
    inputs = HybridInputs(np.where(answered, prices, np.nan), np.full(12, np.nan), ("lamp",) * 12)
    shares, price = model.shares(inputs), model.combine(inputs)
    any_answer = answered.any(axis=1)
    assert np.isnan(shares[~any_answer]).all()
    assert np.isnan(price[~any_answer]).all()
    shares, price, answered, prices = shares[any_answer], price[any_answer], answered[any_answer], prices[any_answer]
    assert (shares >= 0).all()
    assert (shares[~answered] == 0).all()
    assert shares.sum(axis=1) == pytest.approx(1)
    assert (price >= np.where(answered, prices, np.inf).min(axis=1) * (1 - 1e-9)).all()
    assert (price <= np.where(answered, prices, -np.inf).max(axis=1) * (1 + 1e-9)).all()


def test_the_inputs_are_the_quotes_of_the_members() -> None:
    """NaN for no answer, and for an unknown interval; only the interval of the first member counts."""
    listings = [Listing("1", "a", "", "lamp"), Listing("2", "b", "")]
    inputs = HybridInputs.build(listings, [[Quote(10.0, 5.0, 20.0), Quote(4.0)], [Quote(None), Quote(8.0, 1.0, 9.0)]])
    assert inputs.prices.tolist()[1] == [4.0, 8.0]
    assert np.isnan(inputs.prices[0, 1])
    assert inputs.width[0] == pytest.approx(np.log(4))
    assert np.isnan(inputs.width[1])
    assert inputs.category == ("lamp", "")
    assert inputs.complete.tolist() == [False, True]


@pytest.mark.parametrize("members", [2, 3])
def test_the_gradient_of_the_loss_equals_finite_differences(members: int) -> None:
    """In every weight, at random weights."""
    rng = np.random.default_rng(1)
    columns = np.column_stack([np.ones(30), rng.normal(size=(30, 4))])
    truth = rng.uniform(2, 200, 30)
    loss = ShareLoss(columns, truth[:, None] * rng.uniform(0.5, 2, (30, members)), truth, 0.02)
    weights = rng.normal(size=(members - 1) * 5)
    _, gradient = loss(weights)
    step = 1e-6
    numeric = [
        (loss(weights + step * unit)[0] - loss(weights - step * unit)[0]) / (2 * step) for unit in np.eye(len(weights))
    ]
    assert gradient == pytest.approx(numeric, abs=1e-7, rel=1e-5)


def test_with_few_answers_shares_are_constant() -> None:
    """From 60 answered listings on they may depend on the listing; unanswered ones do not count."""
    inputs, truth = make_inputs(MIN_SLOPES - 1)
    model = fit_shares(inputs, truth, own_groups(len(truth)))
    assert model.penalty is None
    assert not np.any(model.slopes)
    inputs, truth = make_inputs(MIN_SLOPES)
    inputs.prices[0, 1] = np.nan
    assert fit_shares(inputs, truth, own_groups(len(truth))).penalty is None


def test_slopes_learn_which_member_is_right_and_beat_constant_shares_on_new_rows() -> None:
    """One member knows expensive things, the other cheap ones: the share changes with the price."""
    inputs, truth = make_inputs(600)
    model = fit_shares(inputs, truth, own_groups(600))
    assert model.penalty is not None
    new, new_truth = make_inputs(2000, seed=1)
    constant = fit_with_penalty(inputs, truth, None)
    assert mae(model, new, new_truth) < 0.8 * mae(constant, new, new_truth)
    share = model.shares(new)[:, 1]
    assert share[new_truth > 300].mean() > 0.9
    assert share[new_truth < 12].mean() < 0.1


def test_members_that_are_equally_good_everywhere_get_constant_shares() -> None:
    """Slopes that only fit noise are not used, and each share is near a half."""
    rng = np.random.default_rng(5)
    truth = np.exp(rng.uniform(np.log(3), np.log(900), 300))
    prices = truth[:, None] * np.exp(rng.normal(0, 0.3, (300, 2)))
    inputs = HybridInputs(prices, np.full(300, 1.0), ("lamp",) * 300)
    model = fit_shares(inputs, truth, own_groups(300))
    assert model.shares(inputs).mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.12)


def test_a_member_that_is_always_right_gets_nearly_all() -> None:
    """The other one is wrong by a factor of two."""
    inputs, truth = make_inputs(100)
    right = HybridInputs(np.column_stack([2 * truth, truth]), inputs.width, inputs.category)
    assert fit_shares(right, truth, own_groups(100)).shares(right)[:, 1].min() > 0.9


def test_the_order_of_rows_changes_nothing() -> None:
    """Folds follow the names of groups, not their positions."""
    inputs, truth = make_inputs(200)
    groups = [f"group {number // 2}" for number in range(200)]
    order = np.random.default_rng(3).permutation(200)
    shuffled = HybridInputs(inputs.prices[order], inputs.width[order], tuple(inputs.category[row] for row in order))
    shuffled_groups = [groups[row] for row in order]
    assert choose_penalty(inputs, truth, groups) == choose_penalty(shuffled, truth[order], shuffled_groups)
    one, other = fit_shares(inputs, truth, groups), fit_shares(shuffled, truth[order], shuffled_groups)
    assert other.combine(inputs) == pytest.approx(one.combine(inputs), rel=1e-3)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=80), st.integers(0, 5), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_a_group_is_in_one_fold_whatever_the_order(groups: list[int], seed: int, random: object) -> None:
    """At most ten folds, none of them empty."""
    names = [str(group) for group in groups]
    fold = group_folds(names, seed=seed)
    order = np.random.default_rng(seed).permutation(len(names))
    assert group_folds([names[row] for row in order], seed=seed).tolist() == fold[order].tolist()
    assert len({(name, number) for name, number in zip(names, fold.tolist(), strict=True)}) == len(set(names))
    assert set(fold.tolist()) == set(range(min(FOLDS, len(set(names)))))


def test_without_a_complete_listing_shares_are_equal() -> None:
    """Nothing is known, so no member is preferred."""
    inputs = HybridInputs(np.array([[10.0, np.nan]]), np.array([1.0]), ("",))
    model = fit_with_penalty(inputs, np.array([10.0]), None)
    both = HybridInputs(np.array([[10.0, 30.0]]), np.array([1.0]), ("",))
    assert model.shares(both).tolist() == [[0.5, 0.5]]
    assert model.combine(both).tolist() == [20.0]


def test_a_model_whose_sizes_do_not_fit_is_refused() -> None:
    """A file with a slope too few would fail only when something is priced."""
    inputs, truth = make_inputs(80)
    values = fit_shares(inputs, truth, own_groups(80)).model_dump()
    for change in (
        {"slopes": ()},
        {"slopes": (values["slopes"][0][:-1],)},
        {"mean": values["mean"][:-1]},
        {"scale": (*values["scale"], 1.0)},
        {"constant": (0.0, 0.0)},
        {"categories": (*values["categories"], "more")},
    ):
        with pytest.raises(ValidationError):
            ShareModel.model_validate({**values, **change})
