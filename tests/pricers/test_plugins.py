"""Pricers of other packages: found through entry points, fitted, checked, and named when they are missing."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from pricesmith.catalog.catalog import Catalog
from pricesmith.core.errors import InputError, UsageError
from pricesmith.pricers import plugin_kinds, recipe_class
from pricesmith.pricers.fitting import fit_model
from pricesmith.pricers.model import load_model
from pricesmith.pricers.recipes import list_recipes, read_recipe
from pricesmith.testing.conformance import check_pricer

MODULE = '''
import json
from pathlib import Path
from typing import ClassVar
from pydantic import Field
from pricesmith.core.settings import Settings
from pricesmith.core.types import Quote

class MeanRecipe(Settings):
    """The mean price, times a factor."""
    kind: ClassVar[str] = "mean_price"
    files: ClassVar[tuple[str, ...]] = ("mean.json",)
    factor: float = Field(1.0, gt=0, description="multiplies every quote")

    def fit(self, train, validation, folder, progress):
        mean = sum(item.price for item in train) / len(train)
        (folder / "mean.json").write_text(json.dumps({"mean": mean * self.factor}))

    def load(self, folder):
        return MeanPricer(json.loads((folder / "mean.json").read_text())["mean"])

class MeanPricer:
    name = "mean_price"
    def __init__(self, mean):
        self.mean = mean
    def price(self, listings):
        return [Quote(self.mean) for _ in listings]

not_a_recipe = 5
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed distribution `pricesmith-mean` with two entry points, one of them wrong."""
    site = tmp_path / "site"
    metadata = site / "pricesmith_mean-1.2.dist-info"
    metadata.mkdir(parents=True)
    (site / "pricesmith_mean.py").write_text(MODULE, encoding="utf-8")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: pricesmith-mean\nVersion: 1.2\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text(
        "[pricesmith.pricers]\nmean_price = pricesmith_mean:MeanRecipe\nbroken = pricesmith_mean:not_a_recipe\n"
        "absent = no_such_module:Recipe\nridge = pricesmith_mean:MeanRecipe\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "pricesmith_mean", raising=False)
    importlib.invalidate_caches()
    return site


def test_a_kind_of_another_package_is_found_fitted_and_checked(package: Path, shop: Catalog, tmp_path: Path) -> None:
    """Its name is a recipe name, its settings are validated, and its quotes pass the conformance checks."""
    fit_model(read_recipe("mean_price", {"factor": 2.0}), shop, tmp_path / "model")
    model = load_model(tmp_path / "model")
    items = shop.items("train")
    (quote,) = model.price([items[0].listing])
    assert quote.price == pytest.approx(2 * sum(item.price for item in items) / len(items))
    assert model.manifest["package"] == {"name": "pricesmith-mean", "version": "1.2"}
    check_pricer(model, price_range=shop.price_range)
    with pytest.raises(UsageError, match="factr"):
        read_recipe("mean_price", {"factr": 1})


def test_the_list_of_recipes_names_the_package(package: Path) -> None:
    """A plug-in is listed with its description and package."""
    (row,) = [row for row in list_recipes() if row["recipe"] == "mean_price"]
    assert row == {"recipe": "mean_price", "about": "The mean price, times a factor.", "package": "pricesmith-mean"}


def test_a_package_cannot_replace_a_kind_of_pricesmith(package: Path) -> None:
    """`ridge` stays ours, whatever is installed."""
    assert "ridge" not in plugin_kinds()
    assert recipe_class("ridge").__module__ == "pricesmith.pricers.ridge"


@pytest.mark.parametrize(("kind", "reason"), [("broken", "not a recipe class"), ("absent", "cannot be imported")])
def test_a_wrong_entry_point_names_its_package(kind: str, reason: str, package: Path) -> None:
    """The error says which package to upgrade or report."""
    with pytest.raises(UsageError, match=reason) as caught:
        recipe_class(kind)
    assert "pricesmith-mean" in str(caught.value)


def test_a_model_of_a_missing_package_names_the_package(
    package: Path, shop: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A colleague without the package learns what to install."""
    fit_model(read_recipe("mean_price"), shop, tmp_path / "model")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(package)])
    importlib.invalidate_caches()
    with pytest.raises(InputError, match="needs the package pricesmith-mean") as caught:
        load_model(tmp_path / "model")
    assert "pip install pricesmith-mean" in str(caught.value)
