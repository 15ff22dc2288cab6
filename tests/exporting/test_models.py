"""A model as a folder for others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pricesmith.candidates import run_candidates
from pricesmith.catalog.catalog import open_catalog
from pricesmith.core.errors import UsageError
from pricesmith.exporting import export_model
from pricesmith.pricers import fitting, model
from pricesmith.pricers.recipes import read_recipe
from pricesmith.testing import make_catalog


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made catalog with a ridge, a run of neighbors, and the leaderboard of both."""
    folder = tmp_path_factory.mktemp("shop")
    catalog = open_catalog(make_catalog(folder / "catalog", 600))
    for kind in ("ridge", "knn"):
        fitting.fit_model(read_recipe(kind), catalog, folder / kind)
    run_candidates([str(folder / "ridge"), str(folder / "knn")], catalog, folder / "evals")
    return folder


def test_a_hub_export_prices_as_the_run_does_without_its_rows(shop: Path, tmp_path: Path) -> None:
    """The exported folder loads as a run; comparables, which are rows of the catalog, stay at home."""
    export_model(shop / "ridge", tmp_path / "out", "hub")
    listings = [item.listing for item in open_catalog(shop / "catalog").items("test")]
    assert model.load_model(tmp_path / "out").price(listings) == model.load_model(shop / "ridge").price(listings)
    assert not (tmp_path / "out" / "comparables").exists()
    assert "This folder contains no row of it" in (tmp_path / "out" / "README.md").read_text()


def test_a_card_has_the_front_matter_of_the_hub(shop: Path, tmp_path: Path) -> None:
    """Stock huggingface_hub reads the card, and the model index holds the leaderboard's figure."""
    from huggingface_hub import ModelCard

    export_model(shop / "ridge", tmp_path / "out", "hub", evals=shop / "evals")
    card = ModelCard.load(tmp_path / "out" / "README.md")
    meta = json.loads((shop / "evals" / "ridge.meta.json").read_text())
    results = {result.metric_type: result for result in card.data.eval_results}
    assert results["mean absolute error"].dataset_revision == meta["catalog"][:12]
    assert f"${results['mean absolute error'].metric_value:,.2f}" in card.text
    assert "(95 % CI)" in card.text


def test_a_card_without_a_leaderboard_says_so(shop: Path, tmp_path: Path) -> None:
    """The card says that there was no evaluation."""
    export_model(shop / "ridge", tmp_path / "out", "hub")
    assert "It was not evaluated when this card was written" in (tmp_path / "out" / "README.md").read_text()


def test_a_leaderboard_without_the_run_is_refused(shop: Path, tmp_path: Path) -> None:
    """A card never shows the figures of another run."""
    run_candidates([str(shop / "knn")], open_catalog(shop / "catalog"), tmp_path / "other")
    with pytest.raises(UsageError, match="has no results of"):
        export_model(shop / "ridge", tmp_path / "out", "hub", evals=tmp_path / "other")
    assert not (tmp_path / "out").exists()


def test_the_card_of_a_knn_model_says_that_it_contains_training_rows(shop: Path, tmp_path: Path) -> None:
    """Neighbors cannot be handed on without titles and prices: the card says so in bold."""
    export_model(shop / "knn", tmp_path / "out", "hub")
    assert "**This folder contains prices of the training rows" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("form", ["merged", "adapter", "sft", "gguf"])
def test_a_form_that_a_run_does_not_have_is_refused(shop: Path, tmp_path: Path, form: str) -> None:
    """A ridge has no adapter, and a run is not rows."""
    with pytest.raises(UsageError):
        export_model(shop / "ridge", tmp_path / "out", form)
    assert not (tmp_path / "out").exists()


def test_what_is_neither_run_nor_catalog_is_refused(tmp_path: Path) -> None:
    """A folder of something else is named as such."""
    with pytest.raises(UsageError, match="neither a catalog nor a model folder"):
        export_model(tmp_path, tmp_path / "out", "hub")
