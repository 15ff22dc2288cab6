"""A made catalog with wrong prices that are known, a clean one, a model, and a file with asked prices."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pricesmith.catalog.catalog import ITEMS, LEDGER, Catalog, open_catalog
from pricesmith.core.atomic import read_json, write_json
from pricesmith.pricers.fitting import fit_model
from pricesmith.pricers.model import PriceModel, load_model
from pricesmith.pricers.recipes import read_recipe
from pricesmith.testing import make_catalog, make_csv

EVERY = 100  # one in so many prices is ten times too high


@pytest.fixture(scope="session")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """2,000 made items, of which the prices of 20 are ten times too high; ids of these begin with `wrong`."""
    folder = make_catalog(tmp_path_factory.mktemp("audit") / "shop", 2000)
    rows = pq.read_table(folder / ITEMS).to_pylist()
    for number, row in enumerate(rows):
        if number % EVERY == 7:
            row |= {"id": f"wrong-{number}", "price": round(row["price"] * 10, 2)}
    pq.write_table(pa.Table.from_pylist(rows), folder / ITEMS)
    size = (folder / ITEMS).stat().st_size
    write_json(folder / LEDGER, {**read_json(folder / LEDGER), "items_bytes": size, "price_range": [0.01, 50000.0]})
    return open_catalog(folder)


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """2,600 other made items, all with right prices."""
    return open_catalog(make_catalog(tmp_path_factory.mktemp("clean") / "clean", 2600, seed=3))


@pytest.fixture(scope="session")
def model(clean: Catalog, tmp_path_factory: pytest.TempPathFactory) -> PriceModel:
    """A ridge model of the clean catalog."""
    folder = tmp_path_factory.mktemp("model") / "ridge"
    fit_model(read_recipe("ridge"), clean, folder)
    return load_model(folder)


@pytest.fixture(scope="session")
def asked_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 listings: the first has ten times its price, the second no price, the third one in euros, the fourth a title
    that a spreadsheet would run."""
    path = make_csv(tmp_path_factory.mktemp("file") / "new.csv", 60, seed=8)
    with path.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    rows[0]["price"] = f"${float(rows[0]['price'].replace('$', '').replace(',', '')) * 10:,.2f}"
    rows[1]["price"] = "on request"
    rows[2]["price"] = "€20.00"
    rows[3] |= {"name": f"={rows[3]['name']}", "price": "$50,000.00"}
    with path.open("w", newline="", encoding="utf-8") as handle:
        out = csv.DictWriter(handle, list(rows[0]))
        out.writeheader()
        out.writerows(rows)
    return path
