"""A small catalog, and a recipe with a known best setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from pricesmith.catalog.catalog import Catalog, open_catalog
from pricesmith.pricers import KINDS
from pricesmith.sweeping import trials
from pricesmith.sweeping.space import SearchSpace, parse_space
from pricesmith.testing import make_catalog

from .stand_in import RATES, StandInRecipe


@pytest.fixture(scope="session")
def catalog_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog of 800 made items."""
    return make_catalog(tmp_path_factory.mktemp("sweep") / "shop", 800)


@pytest.fixture
def shop(catalog_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    """The catalog, with its prices known to the stand-in."""
    catalog = open_catalog(catalog_folder)
    items = [item for split in ("train", "validation") for item in catalog.items(split)]
    monkeypatch.setitem(KINDS, "stand_in", f"{StandInRecipe.__module__}:StandInRecipe")
    monkeypatch.setattr(StandInRecipe, "truths", {item.listing.id: item.price for item in items})
    monkeypatch.setattr(StandInRecipe, "fits", [])
    monkeypatch.setattr(StandInRecipe, "breaks_at", 0)
    monkeypatch.setattr(trials, "MIN_PART", 20)  # an eighth of so few rows is fitted too
    return catalog


@pytest.fixture
def stand_in(shop: Catalog, tmp_path: Path) -> str:
    """A recipe file of the stand-in."""
    path = tmp_path / "stand_in.toml"
    path.write_text('kind = "stand_in"\n')
    return str(path)


@pytest.fixture
def space(stand_in: str) -> SearchSpace:
    """A grid of eight rates of the stand-in."""
    return parse_space({"recipe": [{"name": stand_in, "space": {"rate": RATES}}]}, "the space")
