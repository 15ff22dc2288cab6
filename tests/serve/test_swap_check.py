"""A new model is compared with the served one on common test items before it replaces it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import pricesmith as ps
from pricesmith.catalog.catalog import Catalog, open_catalog
from pricesmith.pricers.model import COMPARABLES, PriceModel, load_model
from pricesmith.serve import swap_check
from pricesmith.serve.swap_check import compare_models
from pricesmith.testing import make_csv


@pytest.fixture(scope="module")
def catalog(served_catalog: Path) -> Catalog:
    return open_catalog(served_catalog)


@pytest.fixture(scope="module")
def models(served_models: dict[str, Path]) -> dict[str, PriceModel]:
    return {name: load_model(path) for name, path in served_models.items()}


@pytest.fixture(scope="module")
def larger(served_catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """A newer catalog that has the rows of the served one and more; its split is another."""
    folder = tmp_path_factory.mktemp("larger")
    return ps.curate(make_csv(folder / "shop.csv", 900), folder / "catalog", split_seed=5)


def test_a_worse_model_is_found_worse(models: dict[str, PriceModel], catalog: Catalog) -> None:
    check = compare_models(models["ridge"], models["median"], catalog)
    assert check.significantly_worse is True
    assert check.new_mae > check.old_mae
    assert check.low > 0
    assert "the new model is significantly worse" in check.sentence
    assert f"{check.n_items} items of the test split of catalog" in check.sentence


def test_a_better_model_and_the_same_model_are_not_worse(models: dict[str, PriceModel], catalog: Catalog) -> None:
    better = compare_models(models["median"], models["ridge"], catalog)
    assert better.significantly_worse is False
    assert "significantly better" in better.sentence
    same = compare_models(models["ridge"], models["ridge"], catalog)
    assert same.significantly_worse is False
    assert same.difference == 0.0
    assert "no significant difference" in same.sentence
    json.dumps(same.to_dict(), allow_nan=False)


def test_items_that_a_model_was_trained_on_are_dropped(models: dict[str, PriceModel], larger: Catalog) -> None:
    """On another catalog, whose test items the models may have been trained on."""
    check = compare_models(models["ridge"], models["median"], larger)
    trained = models["ridge"].index
    assert trained is not None
    assert check.dropped > 0
    assert check.n_items + check.dropped == larger.ledger["splits"]["test"]
    assert f"{check.dropped:,} that a model was trained on left out" in check.sentence


def test_a_model_whose_training_rows_are_unknown_is_not_compared(
    models: dict[str, PriceModel], served_models: dict[str, Path], larger: Catalog, catalog: Catalog, tmp_path: Path
) -> None:
    """On another catalog; on its own it is, because the test split is never trained on."""
    shutil.copytree(served_models["median"], tmp_path / "median")
    shutil.rmtree(tmp_path / "median" / COMPARABLES)
    bare = load_model(tmp_path / "median")
    check = compare_models(models["ridge"], bare, larger)
    assert check.significantly_worse is None
    assert "the training rows of the new model are unknown" in check.sentence
    assert compare_models(models["ridge"], bare, catalog).significantly_worse is True


def test_models_in_different_currencies_are_not_compared(models: dict[str, PriceModel], catalog: Catalog) -> None:
    euros = PriceModel(
        models["ridge"].path, models["ridge"].recipe, models["ridge"].pricer,
        {**models["ridge"].info, "currency": "EUR"}, models["ridge"].manifest,
    )  # fmt: skip
    check = compare_models(models["ridge"], euros, catalog)
    assert check.significantly_worse is None
    assert check.sentence == "Not compared: the new model quotes in EUR, the catalog catalog is in USD."


def test_a_model_that_costs_money_is_not_compared(models: dict[str, PriceModel], catalog: Catalog) -> None:
    class Paid(PriceModel):
        asks_api = True

    ridge = models["ridge"]
    paid = Paid(ridge.path, ridge.recipe, ridge.pricer, ridge.info, ridge.manifest)
    assert "would cost money" in compare_models(paid, ridge, catalog).sentence


def test_without_common_items_there_is_nothing_to_compare(models: dict[str, PriceModel], catalog: Catalog) -> None:
    """All of the catalog's items are in the training rows of a model of another catalog."""
    foreign = replace(catalog, ledger={**catalog.ledger, "fingerprint": "another"})
    check = compare_models(models["ridge"], models["median"], foreign, split="train")
    assert check.significantly_worse is None
    assert "has 0 groups of items to compare on" in check.sentence
    assert check.dropped == catalog.ledger["splits"]["train"]


def test_a_large_split_is_sampled(
    models: dict[str, PriceModel], catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swap_check, "MAX_ITEMS", 50)
    results: list[Any] = [compare_models(models["ridge"], models["median"], catalog) for _ in range(2)]
    assert results[0] == results[1]
    assert results[0].n_items == 50
