"""Many rows at once get the sums that LightGBM computes for each, to the last bit."""

from __future__ import annotations

from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pricesmith.pricers.features import forest as module
from pricesmith.pricers.features.forest import Forest
from pricesmith.pricers.features.trees import MANY_ROWS, TreeEnsemble

COLUMNS, CATEGORICAL = 9, 3


def make_table(rows: int, seed: int) -> np.ndarray:
    """Categories, then numbers; a third of both is missing."""
    draw = np.random.default_rng(seed)
    table = draw.normal(size=(rows, COLUMNS))
    table[:, :CATEGORICAL] = draw.integers(0, 50, (rows, CATEGORICAL))
    table[draw.random(table.shape) < 0.3] = np.nan
    return table.astype(np.float32)


def fit(settings: dict[str, Any], rounds: int = 40) -> lgb.Booster:
    table = make_table(1500, 0)
    truths = np.nan_to_num(table[:, 3:]).sum(axis=1) + 2 * (np.nan_to_num(table[:, 0]) % 3) + np.isnan(table[:, 4])
    fixed = {"verbosity": -1, "num_threads": 1, "deterministic": True, "min_data_in_leaf": 5, "cat_smooth": 1}
    data = lgb.Dataset(table, truths, categorical_feature=list(range(CATEGORICAL)))
    return lgb.train({**fixed, "objective": "l1", **settings}, data, rounds)


BOOSTERS = {
    "categories and missing values": {"num_leaves": 31, "feature_fraction": 0.5},
    "missing values read as zero": {"num_leaves": 31, "use_missing": False},
    "one split": {"num_leaves": 2},
    "a quantile": {"num_leaves": 15, "objective": "quantile", "alpha": 0.9},
}


@pytest.fixture(scope="module")
def boosters() -> dict[str, lgb.Booster]:
    return {name: fit(own) for name, own in BOOSTERS.items()}


def forest_of(booster: lgb.Booster) -> Forest:
    forest = Forest.from_text(booster.model_to_string())
    assert forest is not None
    return forest


@pytest.fixture(scope="module")
def pairs(boosters: dict[str, lgb.Booster]) -> list[tuple[lgb.Booster, Forest]]:
    return [(booster, forest_of(booster)) for booster in boosters.values()]


@pytest.mark.parametrize("name", BOOSTERS)
@pytest.mark.parametrize("rows", [1, 700])
def test_sums_are_those_of_lightgbm(name: str, rows: int, boosters: dict[str, lgb.Booster]) -> None:
    """In one part and in several of rows and of trees."""
    forest, table = forest_of(boosters[name]), make_table(rows, 1)
    assert np.array_equal(forest.predict(table), boosters[name].predict(table))


ODD: list[float] = np.array(
    [0.0, -0.0, 1e-36, -1e-36, 1e-34, np.nan, np.inf, -np.inf, 49.0, 50.0, 31.0, 32.0, 400.0, -1.0, -0.5, 0.5, 48.9],
    np.float32,
).tolist()


@given(arrays(np.float32, (6, COLUMNS), elements=st.sampled_from(ODD) | st.floats(-3, 3, width=32)))
@settings(max_examples=60)
def test_odd_numbers_and_unknown_categories_go_where_lightgbm_sends_them(
    pairs: list[tuple[lgb.Booster, Forest]], table: np.ndarray
) -> None:
    """Infinite, tiny, negative and broken categories, and categories that training rows did not have."""
    table[:, :CATEGORICAL][np.isinf(table[:, :CATEGORICAL])] = 1e6  # LightGBM leaves open what integer infinity is
    for booster, forest in pairs:
        assert np.array_equal(forest.predict(table), booster.predict(table))


def test_every_threshold_divides_at_the_same_number(boosters: dict[str, lgb.Booster]) -> None:
    """Numbers at a threshold, and the nearest ones on both sides of it."""
    booster = boosters["categories and missing values"]
    forest = forest_of(booster)
    for column, thresholds in forest.thresholds.items():
        table = make_table(3 * len(thresholds), 2)
        near = np.float32(thresholds)
        table[:, column] = np.concatenate([near, np.nextafter(near, np.float32(9)), np.nextafter(near, np.float32(-9))])
        assert np.array_equal(forest.predict(table), booster.predict(table))


def test_parts_do_not_matter(boosters: dict[str, lgb.Booster], monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows and trees take a step together."""
    booster, table = boosters["categories and missing values"], make_table(50, 3)
    expected = booster.predict(table)
    for rows, trees, first, every in ((7, 3, 0, 1), (50, 1, 30, 2), (1, 40, 2, 5)):
        for name, value in (("ROWS", rows), ("TREES", trees), ("FIRST", first), ("EVERY", every)):
            monkeypatch.setattr(module, name, value)
        assert np.array_equal(forest_of(booster).predict(table), expected)


def test_trees_without_a_split_have_one_value() -> None:
    """Training rows that are all alike."""
    data = lgb.Dataset(np.zeros((50, 2)), np.full(50, 3.0))
    booster = lgb.train({"verbosity": -1, "objective": "l1", "num_threads": 1}, data, 3)
    assert forest_of(booster).predict(np.ones((4, 2), np.float32)).tolist() == booster.predict(np.ones((4, 2))).tolist()


def test_an_ensemble_predicts_many_rows_as_it_predicts_few(boosters: dict[str, lgb.Booster]) -> None:
    """And those of trees of an unknown kind by LightGBM."""
    table = make_table(MANY_ROWS, 4)
    zero = fit({"num_leaves": 8, "zero_as_missing": True})
    assert Forest.from_text(zero.model_to_string()) is None
    ensemble = TreeEnsemble([*boosters.values(), zero])
    assert np.array_equal(ensemble.predict(table)[:9], ensemble.predict(table[:9]))
    assert [forest is None for forest in ensemble.forests] == [False] * len(boosters) + [True]
