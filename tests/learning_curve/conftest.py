"""A pricer with a known learning curve, and a catalog of which one category is starved of rows."""

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
    """The known law, in money: a floor of 20, and a fall with the square root of the rows."""
    return 20 + 900.0 * rows**-0.5


class Known(Settings):
    """Errs by the known law of the rows it was fitted on; in the starved category by its own rows there."""

    kind: ClassVar[str] = "known"
    truths: ClassVar[dict[str, float]] = {}
    fits: ClassVar[list[int]] = []
    breaks_at: ClassVar[int] = 0
    flat: bool = False

    def fit(self, train: Sequence[Item], validation: Sequence[Item], run: Path) -> None:
        if len(Known.fits) + 1 == Known.breaks_at:
            Known.breaks_at = 0
            raise KeyboardInterrupt
        Known.fits.append(len(train))
        counts = Counter(item.listing.category for item in train)
        groups = hashlib.sha256("".join(item.listing.id for item in train[:50]).encode()).hexdigest()
        write_json(run / "known.json", {"rows": len(train), "starved": counts["gem"], "seed": groups})

    def load(self, run: Path):
        return Knower(read_json(run / "known.json"), self.flat)


class Knower:
    """Quotes as much above the truth as the law says, more or less by the listing and by the fit."""

    name = "known"

    def __init__(self, facts, flat: bool) -> None:
        luck = math.exp(random.Random(facts["seed"]).gauss(0, 0.005))
        self.off = 40.0 if flat else luck * curve(facts["rows"])
        self.starved = 40.0 if flat else luck * (20 + 900 * max(1, facts["starved"]) ** -0.5)
        self.seed = facts["seed"]

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        quotes = []
        for ware in listings:
            noise = random.Random(ware.id).gauss(-0.125, 0.5) + random.Random(f"{self.seed}{ware.id}").gauss(0, 0.1)
            off = self.starved if ware.category == "gem" else self.off
            quotes.append(Quote(Known.truths[ware.id] + off * math.exp(noise)))
        return quotes


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog of 6,000 made goods, of which every fiftieth is a gem: few rows, the price of the others times 6."""
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
def shop(made: Path, monkeypatch: pytest.MonkeyPatch):
    """The catalog, with its truths known to the known pricer."""
    catalog = open_catalog(made)
    items = [item for split in ("train", "validation") for item in catalog.items(split)]
    monkeypatch.setattr(Known, "truths", {item.listing.id: item.price for item in items})
    monkeypatch.setattr(Known, "fits", [])
    monkeypatch.setattr(Known, "breaks_at", 0)
    return catalog
