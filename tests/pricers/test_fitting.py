"""A resumed fit counts the seconds of both processes; estimates of training rows come from models without them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pricesmith.catalog import curate
from pricesmith.catalog.catalog import open_catalog
from pricesmith.catalog.items import read_items
from pricesmith.core.types import Item, Listing
from pricesmith.pricers.fitting import (
    FIT_TIME,
    FitData,
    assign_folds,
    catalog_info,
    cross_fit,
    delete_records,
    fit_model,
    fit_rows,
    previous_fit_seconds,
)
from pricesmith.pricers.model import read_manifest
from pricesmith.pricers.recipes import read_recipe
from pricesmith.pricers.training import CURVE
from pricesmith.pricers.weighting import item_sources
from pricesmith.testing import make_catalog, make_csv, make_items


def written(path: Path, at: float) -> None:
    """A file as a process wrote it at that time."""
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}")
    os.utime(path, (at, at))


def test_a_fit_that_goes_on_counts_the_seconds_up_to_its_last_checkpoint(tmp_path: Path) -> None:
    """Ten seconds in the first process, five in the second, none twice and none between them, though each writes to the
    folder before it asks; a whole run keeps nothing of it."""
    assert previous_fit_seconds(tmp_path, 1000.0) == 0.0
    written(tmp_path / "checkpoints" / "checkpoint-1", 1010.0)
    for began, last, spent in ((5000.0, 5005.0, 10.0), (90_000.0, 90_001.0, 15.0)):
        written(tmp_path / "catalog.json", began - 0.01)
        assert previous_fit_seconds(tmp_path, began) == pytest.approx(spent)
        written(tmp_path / "checkpoints" / "checkpoint-1", last)
    delete_records(tmp_path)
    assert not (tmp_path / FIT_TIME).exists()


def test_one_that_was_killed_before_its_first_checkpoint_has_taken_nothing_that_is_known(tmp_path: Path) -> None:
    """A file that is older than the process does not change its fit time."""
    written(tmp_path / "catalog.json", 10.0)
    previous_fit_seconds(tmp_path, 1000.0)
    assert previous_fit_seconds(tmp_path, 2000.0) == 0.0


def test_a_row_does_not_see_the_prices_of_its_own_group() -> None:
    """Other prices of one near-duplicate group change estimates, but none in that group's fold."""
    items, groups = make_items(300)
    groups = [str(group) for group in groups]
    chosen = groups[0]
    changed = [
        Item(item.listing, item.price * 50) if group == chosen else item
        for item, group in zip(items, groups, strict=True)
    ]
    before, _ = cross_fit(items, groups)
    after, _ = cross_fit(changed, groups)
    fold = assign_folds(groups)
    own = fold == fold[0]
    assert before[own] == pytest.approx(after[own], abs=1e-6)
    assert abs(before[~own] - after[~own]).max() > 0.01


def test_a_group_is_in_one_fold() -> None:
    """Three folds of like size."""
    groups = [f"g{number // 3}" for number in range(300)]
    fold = assign_folds(groups)
    assert all(len(set(fold[start : start + 3])) == 1 for start in range(0, 300, 3))
    assert sorted(np.bincount(fold)) == [99, 99, 102]


def test_new_listings_are_estimated_near_their_prices() -> None:
    """The generated items have prices that a ridge can learn."""
    items, groups = make_items(1500)
    known, new = items[:1200], items[1200:]
    estimates, estimator = cross_fit(known, [str(group) for group in groups[:1200]])
    truth = np.log([item.price for item in new])
    logs = estimator.estimate([item.listing for item in new])
    assert np.median(abs(logs - truth)) < 0.5 * np.median(abs(truth - np.median(truth)))
    assert np.isfinite(estimates).all()


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_few_rows_have_estimates(count: int) -> None:
    """One group alone is estimated at its mean."""
    items = [Item(Listing(str(number), "oak chair", ""), 20.0) for number in range(count)]
    for groups in (["one"] * count, [str(number) for number in range(count)]):
        estimates, estimator = cross_fit(items, groups)
        assert estimates == pytest.approx([np.log(20)] * count)
        assert estimator.estimate([Listing("x", "oak chair", ""), Listing("y", "", "")]) == pytest.approx(
            [np.log(20)] * 2
        )
    assert len(estimator.estimate([])) == 0


@pytest.mark.parametrize("weight_by", ["", "source"])
@pytest.mark.parametrize("kind", ["ridge", "sparse_mlp"])
def test_a_fit_that_reads_from_disk_is_that_of_a_list(kind: str, weight_by: str, tmp_path: Path) -> None:
    """Model, intervals, comparables and reference have the same bytes; the training curve has other seconds."""
    shops = [str(make_csv(tmp_path / f"{name}.csv", rows, seed=rows)) for name, rows in (("a", 300), ("b", 200))]
    catalog = curate(shops, tmp_path / "catalog")
    recipe = read_recipe(kind, {"ensemble_size": 1, "embedding_dim": 8} if kind == "sparse_mlp" else {})
    fit_model(recipe, catalog, tmp_path / "read", weight_by=weight_by)
    parts = [catalog.items_and_groups(split) for split in ("train", "validation")]
    groups = {item.listing.id: group for items, own in parts for item, group in zip(items, own, strict=True)}
    rows = FitData(catalog.items("train"), catalog.tune_half(), catalog.calibrate_half(), groups, item_sources(catalog))
    fit_rows(recipe, rows, catalog_info(catalog, rows.train), tmp_path / "listed", weight_by=weight_by)
    read, listed = (read_manifest(tmp_path / name)["files"] for name in ("read", "listed"))
    assert len(read) > 8
    assert {name for name in {*read, *listed} if read.get(name) != listed.get(name)} <= {CURVE}


def test_lists_of_a_catalogs_rows_keep_their_groups(tmp_path: Path) -> None:
    """Both halves of validation together, on which a blend is cross-fitted, and a sample of the rows to calibrate on:
    near-duplicates in different folds would make the intervals too narrow."""
    catalog = open_catalog(make_catalog(tmp_path / "catalog", 200))
    tune, calibrate = (read_items(catalog, "validation", half) for half in ("tune", "calibrate"))
    rows = FitData(read_items(catalog, "train"), tune, calibrate)
    columns = catalog.columns("validation", ("id", "group"))
    groups = dict(zip(columns["id"], columns["group"], strict=True))
    assert len(set(groups.values())) < len(groups)
    validation = [*tune, *calibrate]
    assert rows.get_groups(validation) == [groups[item.listing.id] for item in validation]
    assert rows.get_groups(list(calibrate)[::2]) == rows.get_groups(calibrate)[::2]
    assert rows.get_groups([Item(Listing("new", "a hose", ""), 1.0)]) == ["new"]
