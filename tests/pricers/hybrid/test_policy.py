"""The policy of a cascade: which listings it asks about, and the limits that it keeps."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pricesmith.core.errors import UsageError
from pricesmith.pricers.hybrid.policy import (
    CascadePolicy,
    Constraint,
    ErrorModel,
    Evidence,
    error_features,
    fit_error_model,
    fit_policy,
    reach,
    round_up,
    scores,
    within_allowance,
)

ROWS = 40
GAINS = arrays(np.float64, ROWS, elements=st.floats(-20, 50))
COSTS = arrays(np.float64, ROWS, elements=st.floats(0, 0.01))
ERRORS = arrays(np.float64, ROWS, elements=st.floats(0, 100))
SHARES = st.floats(0, 1)


def evidence(gains: np.ndarray, costs: np.ndarray, saved: np.ndarray | None = None) -> Evidence:
    """All validation listings are answered; the hybrid lowers each error by `saved`, else by the expected gain."""
    first = np.full(len(gains), 100.0)
    return Evidence(gains, costs, first, first - (gains if saved is None else saved), scores(gains, costs))


def asked(policy: CascadePolicy, facts: Evidence) -> np.ndarray:
    return policy.choose(facts.gains, facts.costs)


def mae(policy: CascadePolicy, facts: Evidence) -> float:
    errors = np.where(reach(facts.answered_scores, policy.threshold), facts.hybrid_errors, facts.first_errors)
    return float(errors.mean())


@given(GAINS, COSTS, SHARES)
def test_the_share_that_is_asked_about_is_never_above_the_limit(
    gains: np.ndarray, costs: np.ndarray, share: float
) -> None:
    """Also if many listings have the same score; the policy says what it does."""
    facts = evidence(np.round(gains, -1), np.round(costs, 2))
    policy = fit_policy(Constraint("share", share), facts, "usd")
    assert asked(policy, facts).mean() == policy.share
    assert policy.share <= share or share == 1


@given(GAINS, COSTS, st.floats(0, 12))
def test_the_cost_is_never_above_the_limit(gains: np.ndarray, costs: np.ndarray, limit: float) -> None:
    """In US dollars for 1,000 listings."""
    facts = evidence(np.round(gains, -1), costs)
    policy = fit_policy(Constraint("max_cost_per_1000", limit), facts, "usd")
    cost = costs[asked(policy, facts)].sum() / ROWS * 1000
    assert policy.cost_per_1000 == pytest.approx(cost)
    assert cost <= limit * (1 + 1e-6)


@given(GAINS, COSTS, SHARES)
def test_listings_without_an_expected_gain_are_not_asked_about(
    gains: np.ndarray, costs: np.ndarray, share: float
) -> None:
    """Also those of another file, whatever the gains on validation were; a share of 1 asks about all."""
    facts = evidence(gains, costs)
    for constraint in (Constraint("share", min(share, 0.99)), Constraint("max_cost_per_1000", 100.0)):
        policy = fit_policy(constraint, facts, "usd")
        assert not asked(policy, facts)[gains <= 0].any()
        new = np.array([-1.0, 0.0, -1e-9])
        assert not policy.choose(new, np.full(3, 0.001)).any()
    assert asked(fit_policy(Constraint("share", 1.0), facts, "usd"), facts).all()


@given(GAINS, COSTS, SHARES, SHARES)
@settings(max_examples=60)
def test_a_larger_limit_asks_about_a_superset(gains: np.ndarray, costs: np.ndarray, a: float, b: float) -> None:
    """Of shares and of dollars."""
    facts = evidence(np.round(gains), costs)
    for name, scale in (("share", 1.0), ("max_cost_per_1000", 10.0)):
        less, more = (
            asked(fit_policy(Constraint(name, scale * limit), facts, "usd"), facts) for limit in sorted((a, b))
        )  # type: ignore[arg-type]
        assert (more | ~less).all()


def test_a_limit_is_used_up_to_the_next_listing() -> None:
    """With distinct gains exactly the best listings are asked about, as many as the limit allows."""
    gains = np.arange(1.0, 101.0)
    facts = evidence(gains, np.full(100, 0.002))
    policy = fit_policy(Constraint("share", 0.25), facts, "usd")
    assert asked(policy, facts).tolist() == (gains > 75).tolist()
    policy = fit_policy(Constraint("max_cost_per_1000", 0.5), facts, "usd")
    assert asked(policy, facts).tolist() == (gains > 75).tolist()
    assert policy.cost_per_1000 == pytest.approx(0.5)


def test_a_cheap_listing_is_asked_about_before_an_expensive_one_of_the_same_gain() -> None:
    """The order is the gain for each dollar."""
    facts = evidence(np.array([4.0, 4.0, 5.0]), np.array([0.001, 0.004, 0.004]))
    policy = fit_policy(Constraint("share", 0.34), facts, "usd")
    assert asked(policy, facts).tolist() == [True, False, False]


def test_a_limit_of_nothing_never_asks() -> None:
    """Not even about a new listing whose expected gain is the largest of all."""
    facts = evidence(np.arange(1.0, 11.0), np.full(10, 0.001))
    for constraint in (Constraint("share", 0.0), Constraint("share", 0.05), Constraint("max_cost_per_1000", 0.0)):
        policy = fit_policy(constraint, facts, "usd")
        assert policy.share == 0
        assert not policy.choose(np.array([1e15]), np.array([1e-12])).any()


def test_a_policy_is_the_same_after_it_was_written() -> None:
    """Every threshold is a number that JSON can hold."""
    facts = evidence(np.array([1e15, 1e15, 2.0, -1.0]), np.full(4, 0.001))
    for constraint in (Constraint("share", 0.25), Constraint("share", 0.0), Constraint("share", 1.0)):
        policy = fit_policy(constraint, facts, "usd")
        assert CascadePolicy.model_validate_json(policy.model_dump_json()) == policy


@given(GAINS, COSTS, ERRORS, st.floats(0.1, 100))
def test_the_mae_is_reached_or_the_lowest_one_is_named(
    gains: np.ndarray, costs: np.ndarray, saved: np.ndarray, target: float
) -> None:
    """What the error says to use instead works."""
    facts = evidence(np.round(gains), costs, saved - 30)
    try:
        policy = fit_policy(Constraint("max_mae", target), facts, "usd")
    except UsageError as error:
        other = re.search(r"max_mae=([\d.]+)", error.hint)
        assert other is not None
        assert float(other[1]) > target
        policy, target = fit_policy(Constraint("max_mae", float(other[1])), facts, "usd"), float(other[1])
    assert mae(policy, facts) <= target * (1 + 1e-9)
    assert not asked(policy, facts)[gains <= -0.5].any()


def test_no_more_is_asked_than_the_mae_needs() -> None:
    """Each listing lowers the MAE by its share of the gain; a target that own quotes reach asks nothing."""
    facts = evidence(np.array([10.0, 20.0, 30.0, 40.0]), np.full(4, 0.001))
    assert fit_policy(Constraint("max_mae", 90.0), facts, "usd").share == 0.25
    assert fit_policy(Constraint("max_mae", 89.9), facts, "usd").share == 0.5
    assert fit_policy(Constraint("max_mae", 100.0), facts, "usd").share == 0
    assert fit_policy(Constraint("max_mae", 75.0), facts, "usd").share == 1


@given(st.floats(1e-6, 1e9))
def test_a_number_is_rounded_up_to_four_digits(value: float) -> None:
    """Never down, and by less than one in a thousand."""
    assert value * (1 - 1e-12) <= float(round_up(value)) <= value * 1.0011


@given(GAINS, COSTS, SHARES, st.floats(0, 0.2))
def test_an_allowance_is_never_exceeded(gains: np.ndarray, fees: np.ndarray, share: float, allowance: float) -> None:
    """Only wanted listings are asked about, the best ones first; free ones always."""
    score = scores(gains, fees)
    wanted = reach(score, fit_policy(Constraint("share", share), evidence(gains, fees), "usd").threshold)
    chosen = within_allowance(score, wanted, fees, allowance)
    assert fees[chosen].sum() <= allowance * (1 + 1e-6)
    assert not (chosen & ~wanted).any()
    assert chosen[wanted & (fees == 0)].all()
    if (left := wanted & ~chosen).any() and (paid := chosen & (fees > 0)).any():
        assert score[left].max() <= score[paid].min()
        assert fees[chosen].sum() + fees[left & (score == score[left].max())].max() > allowance


def test_an_unaffordable_fee_is_not_paid() -> None:
    """Nor an unknown one."""
    score, wanted = np.array([3.0, 2.0]), np.ones(2, dtype=np.bool_)
    assert within_allowance(score, wanted, np.array([1.0, 1.0]), 0.5).tolist() == [False, False]
    assert within_allowance(score, wanted, np.array([np.nan, 1.0]), 2.0).tolist() == [False, False]


def test_the_expected_error_follows_its_features() -> None:
    """Errors of 10 % of the price: predicted within a few percent; a model without errors stays a number."""
    rng = np.random.default_rng(0)
    price = np.exp(rng.uniform(1, 6, 2000))
    table = error_features(price, np.full(2000, np.nan), 1.0)
    model = fit_error_model(table, 0.1 * price * rng.exponential(size=2000), 0.001)
    assert model.predict(table) == pytest.approx(0.1 * price, rel=0.15)
    perfect = fit_error_model(table, np.zeros(2000), 0.001)
    assert perfect.predict(table).max() < 1e-6
    assert ErrorModel.model_validate_json(perfect.model_dump_json()) == perfect
