"""The gate weights networks and trees by how far they are apart."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pricesmith.pricers.ensemble.gate import MIN_BIN_ROWS, Gate, best_weight, weighted_log_mean

TRUTHS = np.log(np.linspace(10, 500, 200))


def test_the_share_is_the_one_that_errs_least_in_money() -> None:
    """Halfway between two that err to both sides; all of the one that is right; half where it makes no difference."""
    over, under = np.log(np.exp(TRUTHS) + 3), np.log(np.exp(TRUTHS) - 3)
    assert best_weight(over, under, TRUTHS) == pytest.approx(0.5)
    assert best_weight(TRUTHS, under, TRUTHS) == 1.0
    assert best_weight(under, under, TRUTHS) == 0.5


def test_networks_that_are_right_only_when_near_are_believed_only_then() -> None:
    """The shares follow the distance, without a jump, and new listings get those of their distance."""
    random = np.random.default_rng(0)
    count = 20 * MIN_BIN_ROWS
    truths = random.normal(4, 1, count)
    far = np.arange(count) % 2 == 1
    trees = truths + random.choice([-0.1, 0.1], count)
    networks = np.where(far, truths + random.choice([-1.0, 1.0], count), truths)
    gate = Gate.fit(networks, trees, truths)
    assert len(gate.weights) == 10
    assert gate.weights[0] == 1.0
    assert gate.weights[-1] < 0.2
    assert np.all(np.diff(gate.distances) >= 0)
    errors = [np.abs(np.exp(logs) - np.exp(truths)).mean() for logs in (gate.combine(networks, trees), trees, networks)]
    assert errors[0] < min(errors[1:])
    ends = gate.combine(np.array([4.0, 4.0, 14.0]), np.array([4.0, 4.0 + 1e-9, 4.0]))
    assert ends[:2] == pytest.approx([4.0, 4.0])
    assert ends[2] == pytest.approx(weighted_log_mean(np.array([14.0]), np.array([4.0]), gate.weights[-1])[0])


def test_few_rows_get_one_share_for_all() -> None:
    """Ten rows a bin are too few to fit weights."""
    random = np.random.default_rng(1)
    gate = Gate.fit(TRUTHS + random.normal(0, 0.1, 200), TRUTHS + random.normal(0, 0.1, 200), TRUTHS)
    assert len(gate.weights) == 1
    assert Gate.from_dict(json.loads(json.dumps(gate.to_dict()))).weights.tolist() == gate.weights.tolist()
