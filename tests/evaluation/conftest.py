"""Simulated catalogs and pricers to evaluate, without curate or fit."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pricesmith.catalog.catalog import COLUMNS, ITEMS, LEDGER, open_catalog
from pricesmith.core.atomic import write_json
from pricesmith.core.types import Quote
from pricesmith.testing import BRANDS, GOODS, make_items


@dataclass(frozen=True)
class NoisyPricer:
    """A pricer that knows the formula of the simulated prices and errs by a factor of up to exp(+-noise)."""

    name: str
    noise: float
    interval: bool = False

    def price(self, listings):
        quotes = []
        for listing in listings:
            kind, brand = listing.category, listing.brand
            size = float(listing.text.split("Size: ")[1].split(" kg")[0])
            draw = hashlib.sha256(f"{self.name}{listing.id}".encode()).digest()[0] / 255 - 0.5
            price = GOODS[kind] * BRANDS[brand] * math.sqrt(size) * math.exp(2 * self.noise * draw)
            ends = (price / 1.3, price * 1.3) if self.interval else (None, None)
            quotes.append(Quote(price, *ends))
        return quotes


def write_catalog(path, n, seed=0, shares=(0.8, 0.1, 0.1)):
    """A finished catalog folder of simulated items, split by group."""
    items, groups = make_items(n, seed)
    path.mkdir(parents=True)
    rows = []
    for item, group in zip(items, groups, strict=True):
        draw = int(group[:6], 16) / 16**6
        split = "train" if draw < shares[0] else "validation" if draw < shares[0] + shares[1] else "test"
        listing = item.listing
        content = (
            listing.id,
            listing.title,
            listing.text,
            listing.category,
            listing.brand,
            item.price,
            "USD",
            group,
            split,
            "made",
        )
        rows.append(dict(zip(COLUMNS, content, strict=True)))
    pq.write_table(pa.Table.from_pylist(rows), path / ITEMS)
    splits = [row["split"] for row in rows]
    ledger = {
        "format": 1,
        "name": path.name,
        "fingerprint": hashlib.sha256(repr(rows).encode()).hexdigest(),
        "currency": "USD",
        "price_range": [0.5, 999.49],
        "cleaning": {},
        "columns": {"title": "title", "text": "text", "price": "price", "category": "category", "brand": "brand"},
        "rows": {"in": n, "kept": n, "rejected": {}},
        "files": [],
        "splits": {split: splits.count(split) for split in ("train", "validation", "test")},
        "groups": {"count": len(set(groups))},
        "items_bytes": (path / ITEMS).stat().st_size,
        "settings": {},
    }
    write_json(path / LEDGER, ledger)
    return open_catalog(path)


@pytest.fixture(scope="session")
def catalog(tmp_path_factory):
    """2,400 simulated items: evaluated on the test split."""
    return write_catalog(tmp_path_factory.mktemp("catalogs") / "made", 2400)


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """300 simulated items: evaluated in folds."""
    return write_catalog(tmp_path_factory.mktemp("catalogs") / "small", 300, seed=1)


@pytest.fixture(scope="session")
def make_pricer():
    """Makes a pricer: `make_pricer(name, noise, interval)`."""
    return NoisyPricer


@pytest.fixture(scope="session")
def new_catalog():
    """Writes a simulated catalog: `new_catalog(path, rows, seed)`."""
    return write_catalog
