"""Stacking: out of fold, resumed after a kill; the error model orders quotes, the gate weights them by distance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pricesmith.catalog.catalog import Catalog, open_catalog
from pricesmith.core.errors import PricesmithError
from pricesmith.core.progress import Progress
from pricesmith.core.types import Item, Listing
from pricesmith.pricers.conformal import ClippedPricer, ConformalPricer
from pricesmith.pricers.ensemble import neural, stacking
from pricesmith.pricers.ensemble.neural import TrainConfig
from pricesmith.pricers.ensemble.stacking import StackingPricer, StackingRecipe
from pricesmith.pricers.features import trees
from pricesmith.pricers.features.retrieval import RetrievalSet
from pricesmith.pricers.features.trees import TabularFields, TreeRows, parse_fields
from pricesmith.pricers.fitting import fit_model
from pricesmith.pricers.model import load_model
from pricesmith.pricers.recipes import get_settings, read_recipe
from pricesmith.testing import make_catalog, make_items

TINY = {
    "folds": 2,
    "ensemble_size": 2,
    "fold_ensemble_size": 1,
    "n_forests": 1,
    "embedding_dim": 8,
    "hidden_dim": 8,
    "key_dim": 4,
    "epochs": 2,
}
TINY = {**TINY, "n_estimators": 20, "tree_learning_rate": 0.2, "num_leaves": 7, "estimators": ["ridge"]}


def test_the_shipped_recipe_is_the_settings() -> None:
    """The recipe file has the class's default settings."""
    assert read_recipe("best") == StackingRecipe()


def test_a_killed_fit_goes_on_with_the_networks_that_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks trained before it was stopped are not trained again, also if it was stopped while it was calibrated, and
    the quotes are those of an unbroken fit."""
    shop = open_catalog(make_catalog(tmp_path / "catalog", 400))
    whole, broken, trained = tmp_path / "whole", tmp_path / "broken", []
    real = neural.train_network

    def counted(*arguments: object) -> object:
        if stop and len(trained) == stop:
            raise PricesmithError("stopped")
        trained.append(1)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(neural, "train_network", counted)
    stop = 0
    fit_model(read_recipe("best", TINY), shop, whole)
    assert len(trained) == 4
    trained.clear()
    stop = 2
    with pytest.raises(PricesmithError, match="stopped"):
        fit_model(read_recipe("best", TINY), shop, broken)
    stop = 0

    class InterruptedCalibration(Progress):
        def start(self, what: str, total: int | None = None) -> None:
            if what.startswith("calibrating"):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_model(read_recipe("best", TINY), shop, broken, progress=InterruptedCalibration())
    assert len(trained) == 4
    fit_model(read_recipe("best", TINY), shop, broken)
    assert len(trained) == 4
    listings = [item.listing for item in shop.items("test")[:40]]
    assert load_model(broken).price(listings) == load_model(whole).price(listings)
    assert not (broken / "checkpoints").exists()


def test_a_fit_killed_among_its_trees_goes_on_with_those_that_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trees of a fold are grown once, and the quotes are those of an unbroken fit."""
    items = make_items(150)[0]
    recipe = StackingRecipe(**{**TINY, "folds": 3, "estimators": (), "n_forests": 2})
    recipe.fit(items, [], tmp_path / "whole")
    whole = recipe.load(tmp_path / "whole").price([item.listing for item in items])
    grown: list[int] = []
    real = trees.fit_booster

    def counted(*arguments: Any) -> Any:
        if len(grown) == stop:
            raise PricesmithError("stopped")
        grown.append(1)
        return real(*arguments)

    monkeypatch.setattr(trees, "fit_booster", counted)
    monkeypatch.setattr(stacking, "N_CORES", 1)  # fold by fold
    stop = 2
    with pytest.raises(PricesmithError, match="stopped"):
        recipe.fit(items, [], tmp_path / "broken")
    stop = -1
    recipe.fit(items, [], tmp_path / "broken")
    assert len(grown) == 3 + 2 + 1  # folds, forests of the quote, error model
    assert recipe.load(tmp_path / "broken").price([item.listing for item in items]) == whole


def test_its_interval_is_its_own_doubt_times_a_factor(runs: dict[str, Path], shop: Catalog) -> None:
    """The doubt of the trees comes first, the conformal factor of the band after."""
    run = load_model(runs["best"])
    assert isinstance(run.pricer, ConformalPricer)
    assert run.pricer.table.scaled
    clipped = run.pricer.pricer
    assert isinstance(clipped, ClippedPricer)
    assert isinstance(clipped.pricer, StackingPricer)
    listings = [item.listing for item in shop.items("test")[:50]]
    own = [quote.high / quote.low for quote in clipped.pricer.price(listings) if quote.low and quote.high]
    assert max(own) > 1.2 * min(own)


@pytest.mark.parametrize(("count", "later"), [(1, 1), (3, 3), (40, 0)])
def test_few_rows_are_enough_to_fit(count: int, later: int, tmp_path: Path) -> None:
    """One row, or rows that are one group, leave nothing to learn errors from; a small catalog may have no validation
    rows for settings: it quotes all the same."""
    items = make_items(count, seed=1)[0]
    recipe = StackingRecipe(**TINY)
    recipe.fit(items, items[:later], tmp_path)
    quotes = recipe.load(tmp_path).price([items[0].listing, Listing("0", "", "")])
    assert all(quote.price and np.isfinite(quote.price) for quote in quotes)


def test_a_line_gives_its_numbers_their_product_and_its_name() -> None:
    """Two modules of 8: the second number and 16 are there, and what the line says is a group."""
    numbers, groups = parse_fields(Listing("1", "DDR5 16 GB", "modules: 2,8\ncolor: Red", "memory"))
    assert (numbers["modules#0"], numbers["modules#1"]) == (2, 8)
    assert numbers["modules#product"] == 16
    assert numbers["gb"] == numbers["title gb"] == 16
    assert groups["color:"] == "red"
    assert groups["category"] == "memory"


def test_fields_are_the_same_after_a_file() -> None:
    """Columns written to JSON and read again are the same."""
    items: list[Item] = make_items(120, seed=2)[0]
    listings = [item.listing for item in items]
    fields = TabularFields.from_listings(listings, 50, 5, 20, 5)
    again = TabularFields.from_dict(fields.to_dict())
    assert np.array_equal(fields.columns(listings), again.columns(listings), equal_nan=True)
    assert fields.columns(listings).shape == (120, len(fields.categories) + len(fields.numbers))


def test_the_batch_doubles_in_the_last_half_of_the_passes() -> None:
    """Six passes over many rows; few rows are passed more often."""
    settings = {name: get_settings(StackingRecipe())[name] for name in TrainConfig.__dataclass_fields__}
    assert TrainConfig(**settings).batch_sizes(52_000) == [512, 512, 512, 1024, 2048, 4096]
    assert sum(-(-500 // size) for size in TrainConfig(**settings).batch_sizes(500)) >= 150


def test_out_of_fold_trees_never_see_a_price_of_their_fold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither as the price of a listing nor as that of its partner nor in the columns of its neighbors' prices; the
    fold's rows only say when to stop."""
    calls: list[TreeRows] = []
    real = trees.fit_trees

    def record(rows: TreeRows, *arguments: Any, **options: Any) -> Any:
        calls.append(rows)
        return real(rows, *arguments, **options)

    monkeypatch.setattr(stacking, "fit_trees", record)
    monkeypatch.setattr(stacking, "N_CORES", 1)  # fold by fold
    items = make_items(150)[0]
    recipe = StackingRecipe(**{**TINY, "folds": 3, "estimators": ()})
    recipe.fit(items, [], tmp_path)
    rows = RetrievalSet.from_items(items, 3, 0)
    limits = (recipe.max_numbers, recipe.min_numbers, recipe.max_names, recipe.min_names)
    first = TabularFields.from_listings(rows.listings, *limits).columns(rows.listings).shape[1]
    everything, *without = rows.columns()
    assert len(calls) == len(rows.folds) + 1 + 1  # the trees of the folds, those of the quote, the error model
    for fold, columns, call in zip(rows.folds, without, calls, strict=False):
        inside, outside = set(rows.logs[rows.fold == fold].tolist()), set(rows.logs[rows.fold != fold].tolist())
        assert call.offsets is not None
        seen = {*call.truths.tolist(), *call.offsets.tolist()}
        assert len(inside - outside) > 10
        assert not seen & (inside - outside)
        assert seen & outside
        seen_columns = {row.tobytes() for row in call.table[:, first : first + columns.shape[1]]}
        assert seen_columns <= {row.tobytes() for row in columns[rows.fold != fold]}
        assert not seen_columns <= {row.tobytes() for row in everything[rows.fold != fold]}
