"""The reference of a model: its quotes and errors when it was fitted."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from pricesmith.catalog.catalog import Catalog
from pricesmith.core.progress import SILENT
from pricesmith.core.types import Item, Listing, Quote
from pricesmith.exporting.models import write_export
from pricesmith.pricers.fitting import fit_model
from pricesmith.pricers.model import REFERENCE, load_model
from pricesmith.pricers.recipes import read_recipe
from pricesmith.pricers.reference import QuotedRows, build_reference


@pytest.fixture(scope="module")
def ridge(shop: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference") / "ridge"
    fit_model(read_recipe("ridge", {}), shop, folder)
    return folder


def test_the_reference_is_that_of_the_calibration_rows(ridge: Path, shop: Catalog) -> None:
    """Recomputed from the loaded model."""
    model, items = load_model(ridge), shop.calibrate_half()
    reference = model.reference
    quotes = model.price([item.listing for item in items])
    prices = np.array([quote.price for quote in quotes])
    truth = np.array([item.price for item in items])
    assert reference.n == len(items)
    assert reference.errors.mae == pytest.approx(np.abs(prices - truth).mean())
    assert reference.errors.bias == pytest.approx(np.log(prices / truth).mean())
    assert reference.quotes.mean == pytest.approx(np.log(prices).mean(), abs=1e-6)
    assert reference.widths.mean == pytest.approx(np.mean([math.log(quote.high / quote.low) for quote in quotes]))
    assert 0.85 <= reference.errors.coverage <= 0.97
    assert reference.errors.groups < reference.n
    assert (reference.currency, reference.level) == (model.info["currency"], model.level)
    assert 0 <= reference.flagged / reference.checked <= 0.02


def test_the_manifest_lists_the_reference_and_an_export_keeps_it(ridge: Path, tmp_path: Path) -> None:
    manifest = json.loads((ridge / "manifest.json").read_text())
    assert REFERENCE in manifest["files"]
    write_export(ridge, tmp_path / "export", "hub", None, SILENT)
    assert load_model(tmp_path / "export").reference == load_model(ridge).reference


def test_a_median_has_a_reference_too(shop: Catalog, tmp_path: Path) -> None:
    fit_model(read_recipe("median", {}), shop, tmp_path / "median")
    assert load_model(tmp_path / "median").reference.errors.n > 30


def test_only_categories_with_enough_rows_have_errors_of_their_own() -> None:
    items = [Item(Listing(str(n), "thing", "", "many" if n < 40 else "few"), 10.0) for n in range(60)]
    quotes = [Quote(12.0, 8.0, 14.0) for _ in items]
    reference = build_reference(QuotedRows(items, quotes, [item.listing.id for item in items], 0.9), "USD")
    assert list(reference.categories) == ["many"]
    assert reference.categories["many"].mae == pytest.approx(2.0)
    assert reference.categories["many"].bias == pytest.approx(math.log(1.2))
    assert reference.errors.coverage == 1.0


def test_too_few_answers_make_no_reference() -> None:
    items = [Item(Listing(str(n), "thing", ""), 10.0) for n in range(60)]
    quotes = [Quote(12.0 if n < 9 else None) for n in range(60)]
    assert build_reference(QuotedRows(items, quotes, [item.listing.id for item in items], 0.9), "USD") is None
    assert build_reference(QuotedRows(items, [Quote(12.0)] * 60, ["one group"] * 60, 0.9), "USD").widths is None
