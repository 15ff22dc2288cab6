"""A pricer with a known learning curve, and a catalog with a category that has few rows."""

from __future__ import annotations

import hashlib
import math
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pricesmith.catalog.catalog import ITEMS, LEDGER, open_catalog
from pricesmith.core.atomic import read_json, write_json
from pricesmith.core.settings import Settings
from pricesmith.core.types import Item, Listing, Quote
from pricesmith.testing import make_catalog


def curve(rows: float) -> float:
    """Return the known MAE at a number of rows: a floor of 20, and a fall with the square root of the rows."""
    return 20 + 900.0 * rows**-0.5


class KnownRecipe(Settings):
    """A recipe whose error is the known function of its training rows; in the rare category, of the rows there."""

    kind: ClassVar[str] = "known"
    truths: ClassVar[dict[str, float]] = {}
    fits: ClassVar[list[int]] = []
    breaks_at: ClassVar[int] = 0
    flat: bool = False

    def fit(self, train: Sequence[Item], validation: Sequence[Item], run: Path, progress: object = None) -> None:
        if len(KnownRecipe.fits) + 1 == KnownRecipe.breaks_at:
            KnownRecipe.breaks_at = 0
            raise KeyboardInterrupt
        KnownRecipe.fits.append(len(train))
        counts = Counter(item.listing.category for item in train)
        groups = hashlib.sha256("".join(item.listing.id for item in train[:50]).encode()).hexdigest()
        write_json(run / "known.json", {"rows": len(train), "rare": counts["gem"], "seed": groups})

    def load(self, run: Path):
        return KnownPricer(read_json(run / "known.json"), self.flat)


class KnownPricer:
    """Quotes above the true price by the known error, varied by listing and by fit."""

    name = "known"

    def __init__(self, facts, flat: bool) -> None:
        factor = math.exp(random.Random(facts["seed"]).gauss(0, 0.005))
        self.error = 40.0 if flat else factor * curve(facts["rows"])
        self.rare = 40.0 if flat else factor * (20 + 900 * max(1, facts["rare"]) ** -0.5)
        self.seed = facts["seed"]

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        quotes = []
        for listing in listings:
            noise = random.Random(listing.id).gauss(-0.125, 0.5) + random.Random(f"{self.seed}{listing.id}").gauss(
                0, 0.1
            )
            error = self.rare if listing.category == "gem" else self.error
            quotes.append(Quote(KnownRecipe.truths[listing.id] + error * math.exp(noise)))
        return quotes


@pytest.fixture(scope="session")
def catalog_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog of 6,000 simulated items; every fiftieth is a gem, with six times the price of the others."""
    folder = make_catalog(tmp_path_factory.mktemp("advice") / "shop", 6000)
    rows = pq.read_table(folder / ITEMS).to_pylist()
    for row in rows:
        if int(row["group"], 16) % 50 == 0:
            row |= {"category": "gem", "price": round(row["price"] * 6, 2)}
    pq.write_table(pa.Table.from_pylist(rows), folder / ITEMS)
    size = (folder / ITEMS).stat().st_size
    write_json(folder / LEDGER, {**read_json(folder / LEDGER), "items_bytes": size, "price_range": [0.01, 50000.0]})
    return folder


@pytest.fixture
def shop(catalog_folder: Path, monkeypatch: pytest.MonkeyPatch):
    """The catalog, with its true prices known to the known recipe."""
    catalog = open_catalog(catalog_folder)
    items = [item for split in ("train", "validation") for item in catalog.items(split)]
    monkeypatch.setattr(KnownRecipe, "truths", {item.listing.id: item.price for item in items})
    monkeypatch.setattr(KnownRecipe, "fits", [])
    monkeypatch.setattr(KnownRecipe, "breaks_at", 0)
    return catalog
