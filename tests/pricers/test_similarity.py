"""A loaded model refuses what curate refuses, flags listings with nothing similar, and returns comparables."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from pricesmith.catalog.catalog import Catalog
from pricesmith.core.types import Listing, Quote
from pricesmith.pricers.fitting import fit_model
from pricesmith.pricers.model import load_model
from pricesmith.pricers.recipes import read_recipe


@pytest.fixture(scope="module")
def ridge(shop: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ridge fitted on the made catalog."""
    folder = tmp_path_factory.mktemp("similarity") / "ridge"
    fit_model(read_recipe("ridge"), shop, folder)
    return folder


def test_comparables_follow_the_quote(ridge: Path, shop: Catalog) -> None:
    """Of listings with like words, those that are estimated near the quote come first."""
    listings = [item.listing for item in shop.items("test")[:60]]
    run = load_model(ridge)
    medians = []
    for price in (1.0, 10_000.0):
        comparables = run.comparables(listings, quotes=[Quote(price)] * len(listings))
        medians.append(np.median([comparable.price for near in comparables for comparable in near]))
    assert medians[1] > 1.5 * medians[0]


def test_a_run_says_where_nothing_in_training_is_similar(ridge: Path, shop: Catalog, tmp_path: Path) -> None:
    """A flag with each quote where it is asked for; unknown where the training listings are not there."""
    listings = [*(item.listing for item in shop.items("test")[:50]), Listing("x", "qwertz asdf", "")]
    quotes = load_model(ridge).price(listings, check_similarity=True)
    assert quotes[-1].nothing_similar is True
    assert sum(quote.nothing_similar is True for quote in quotes[:-1]) <= 5
    assert {quote.nothing_similar for quote in load_model(ridge).price(listings)} == {None}
    shutil.copytree(ridge, tmp_path / "exported", ignore=shutil.ignore_patterns("comparables"))
    exported = load_model(tmp_path / "exported")
    assert exported.nothing_similar(listings) == [None] * len(listings)
    assert exported.price(listings, check_similarity=True) == load_model(ridge).price(listings)


@pytest.mark.parametrize("text", ["", "-", "!!!", "a", " \u200b ", "....", "a b c d"])
def test_what_curate_refuses_as_too_short_has_no_price(text: str, ridge: Path) -> None:
    """And its neighbors have theirs, in order."""
    known = [Listing("1", "Aster hose", "5 kg"), Listing("3", "Cobalt drill 12 kg", "")]
    run = load_model(ridge)
    first, refused, last = run.price([known[0], Listing("2", text, ""), known[1]], check_similarity=True)
    assert refused.price is None
    assert "too short" in refused.raw
    assert [first.price, last.price] == [quote.price for quote in run.price(known)]
