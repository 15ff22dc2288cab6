"""The error by age: bands of items by day, and the slope of the error with its interval."""

from __future__ import annotations

import csv
import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricesmith.candidates import run_candidates
from pricesmith.catalog import curate
from pricesmith.core.types import EvalRow, Evaluation
from pricesmith.evaluation.aging import (
    LEAST_ITEMS,
    MOST_BANDS,
    NOT_LATER,
    adjust_trends,
    age_dict,
    age_edges,
    age_trend,
    ages_of,
    error_by_age,
)
from pricesmith.evaluation.evaluate import EvalArrays, to_arrays
from pricesmith.evaluation.results import AGE, EvalItem, Evals, read_evals, read_items, write_items
from pricesmith.pricers.fitting import fit_model
from pricesmith.pricers.recipes import read_recipe
from pricesmith.testing import make_items


def arrays_of(errors: np.ndarray, groups: np.ndarray | None = None) -> EvalArrays:
    """An evaluation with these absolute errors on items that cost 1,000; `groups` are codes."""
    rows = tuple(EvalRow(f"i{n}", 1_000.0, 1_000.0 - float(error)) for n, error in enumerate(errors))
    names = {} if groups is None else {row.id: f"g{group}" for row, group in zip(rows, groups, strict=True)}
    return to_arrays(Evaluation("mlp", "c0ffee", rows, 1_000.0, "USD", (0.0, 10_000.0), names))


def test_a_planted_slope_is_found_and_none_is_not() -> None:
    random = np.random.default_rng(0)
    ages = random.integers(1, 300, 2_000).astype(float)
    noise = random.lognormal(3, 0.6, 2_000)
    growing, flat = arrays_of(noise + 3 * ages / 30), arrays_of(noise)
    trends = adjust_trends(
        {name: age_trend(data, ages, error_by_age(data, ages)) for name, data in (("a", growing), ("b", flat))}
    )
    assert trends["a"].low < 3 < trends["a"].high
    assert trends["a"].is_significant
    assert trends["a"].last_to_first > 1.5
    assert trends["b"].low < 0 < trends["b"].high
    assert not trends["b"].is_significant


def test_a_flat_error_seems_to_grow_in_about_one_of_twenty_samples_with_groups_of_five() -> None:
    significant, bands = 0, []
    for seed in range(400):
        random = np.random.default_rng(seed)
        groups = np.repeat(np.arange(80), 5)
        ages = np.repeat(random.integers(1, 200, 80), 5).astype(float)
        errors = np.repeat(random.lognormal(3, 0.5, 80), 5) * random.lognormal(0, 0.2, 400)
        data = arrays_of(errors, groups)
        bands = bands or error_by_age(data, ages)
        p = age_trend(data, ages, bands).p
        significant += p is not None and p < 0.05
    assert 0.02 < significant / 400 < 0.09


def test_the_slope_is_the_least_squares_slope_for_thirty_days() -> None:
    ages = np.arange(1.0, 121.0)
    data = arrays_of(5 + 2 * ages / 30)
    trend = age_trend(data, ages, error_by_age(data, ages))
    assert trend.slope == pytest.approx(2.0)
    assert (trend.n, trend.groups, trend.days) == (120, 120, 119)


def test_items_no_later_than_training_are_shown_but_not_tested() -> None:
    ages = np.concatenate([np.full(50, -10.0), np.arange(1.0, 101.0)])
    data = arrays_of(np.concatenate([np.full(50, 500.0), np.full(100, 10.0)]))
    bands = error_by_age(data, ages)
    assert (bands[0].label, bands[0].n, bands[0].mae.point) == (NOT_LATER, 50, 500.0)
    trend = age_trend(data, ages, bands)
    assert (trend.n, trend.slope) == (100, pytest.approx(0.0, abs=1e-9))
    values = age_dict(bands, trend)
    assert [band["ratio_to_first"] for band in values["bands"][:2]] == [None, 1.0]


@given(st.lists(st.integers(-50, 400), max_size=500))
def test_bands_hold_every_later_item_once_and_enough_of_them(days: list[int]) -> None:
    ages = np.array(days, dtype=float)
    edges = age_edges(ages)
    if not edges:
        return
    sizes = [int(((ages >= start) & (ages < end)).sum()) for start, end in pairwise(edges)]
    assert sum(sizes) == int((ages > 0).sum())
    assert min(sizes) >= LEAST_ITEMS
    assert 2 <= len(sizes) <= MOST_BANDS


@pytest.mark.parametrize("ages", [np.full(500, 3.0), np.arange(1.0, 2 * LEAST_ITEMS), np.full(500, -1.0)])
def test_one_day_and_too_few_items_have_no_bands(ages: np.ndarray) -> None:
    assert error_by_age(arrays_of(np.ones(len(ages))), ages) == []


def test_too_few_groups_have_no_interval() -> None:
    ages = np.repeat([1.0, 2.0, 3.0, 4.0], 30)
    data = arrays_of(np.arange(120.0), np.repeat(np.arange(4), 30))
    trend = age_trend(data, ages, error_by_age(data, ages))
    assert (trend.low, trend.p) == (None, None)
    assert not adjust_trends({"a": trend})["a"].is_significant


def test_files_of_items_of_earlier_versions_have_no_ages(tmp_path: Path) -> None:
    items = [EvalItem("a", "A", "", 1.0, days_after_training=12), EvalItem("b", "B", "", 2.0)]
    write_items(tmp_path, items, {"split": "test"})
    assert list(read_items(tmp_path).values()) == items
    path = tmp_path / "items.parquet"
    pq.write_table(pq.read_table(path).drop_columns([AGE]), path)
    read = read_items(tmp_path)
    assert [item.days_after_training for item in read.values()] == [None, None]
    evals = Evals(tmp_path, read, (), {}, {})
    rows = (EvalRow("a", 1.0, 1.0), EvalRow("b", 2.0, 2.0))
    assert ages_of(to_arrays(Evaluation("mlp", "c0ffee", rows, 1.0, "USD", (0.0, 9.0), {})), evals) is None


@pytest.mark.parametrize("rows", [600, 2_400], ids=["small", "large"])
def test_an_evaluation_of_a_catalog_split_by_time_has_the_days_after_the_last_training_day(
    tmp_path: Path, rows: int
) -> None:
    """A small one too: it is evaluated on its test split, not in folds of which some are fitted on later prices."""
    first = datetime.date(2024, 1, 1)
    with (tmp_path / "shop.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["sku", "name", "description", "price", "listed_at"])
        for number, item in enumerate(make_items(rows)[0]):
            day = first + datetime.timedelta(days=number // 10)
            writer.writerow([f"s{number}", item.listing.title, item.listing.text, f"{item.price:.2f}", day])
    catalog = curate([str(tmp_path / "shop.csv")], tmp_path / "shop", split="time", currency="USD")
    fit_model(read_recipe("median"), catalog, tmp_path / "median")
    run_candidates([str(tmp_path / "median")], catalog, tmp_path / "evals")
    last = datetime.date.fromisoformat(catalog.ledger["dates"]["train"][1])
    items = read_evals(tmp_path / "evals").items
    assert len(items) == catalog.ledger["splits"]["test"]
    for evaluated in items.values():
        day = first + datetime.timedelta(days=int(evaluated.id.removeprefix("s")) // 10)
        assert evaluated.days_after_training == (day - last).days
