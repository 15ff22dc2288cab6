"""Made goods: items whose prices follow a known law, as rows, as a shop's CSV file and as a catalog.

>>> items, families = made_items(3)
>>> items[0].listing.category in {"hose", "lamp", "drill", "chair"}
True
"""

from __future__ import annotations

import hashlib
import math
import random
from pathlib import Path

from pricesmith.types import Item, Listing

GOODS = {"hose": 18.0, "lamp": 35.0, "drill": 80.0, "chair": 120.0}
BRANDS = {"Aster": 0.8, "Borealis": 1.0, "Cobalt": 1.4, "Dovetail": 2.0}
SIZES = (1, 2, 3, 5, 8, 12, 20, 40)
COLOURS = ("red", "green", "blue", "black", "white")
WORDS = (  # noqa: SIM905
    "sturdy light compact foldable garden indoor outdoor quiet bright classic modern folding steel oak brass copper "
    "woven cordless rechargeable durable portable smooth heavy simple elegant robust slim wide tall short"
).split()


def made_items(n: int = 600, seed: int = 0, noise: float = 0.1) -> tuple[list[Item], list[str]]:
    """`n` items and their families. price = good x brand x size^0.5 x exp(noise): `noise` is the error to reach."""
    draw = random.Random(seed)
    items: list[Item] = []
    families: list[str] = []
    while len(items) < n:
        good, brand, size = draw.choice(list(GOODS)), draw.choice(list(BRANDS)), draw.choice(SIZES)
        words = " ".join(draw.sample(WORDS, 9))
        model = f"{draw.choice('KLMNP')}{draw.randrange(10, 99)}"
        price = GOODS[good] * BRANDS[brand] * math.sqrt(size) * math.exp(draw.gauss(0, noise))
        for colour in draw.sample(COLOURS, draw.choice((1, 1, 1, 2, 3))):
            number = len(items)
            text = f"{words}.\nSize: {size} kg\nColour: {colour}"
            listing = Listing(f"made-{number}", f"{brand} {good} {model}", text, good, brand)
            items.append(Item(listing, round(price * math.exp(draw.gauss(0, noise / 4)), 2)))
            families.append(hashlib.sha256(f"{brand}{good}{model}{words}".encode()).hexdigest()[:16])
    return items[:n], families[:n]


def made_csv(path: Path, n: int = 600, seed: int = 0) -> Path:
    """The made items as the CSV file a shop would have."""
    import csv

    items, _ = made_items(n, seed)
    with path.open("w", newline="", encoding="utf-8") as handle:
        out = csv.writer(handle)
        out.writerow(("sku", "name", "description", "category", "brand", "price"))
        for item in items:
            ware = item.listing
            out.writerow((ware.id, ware.title, ware.text, ware.category, ware.brand, f"${item.price:,.2f}"))
    return path


def made_catalog(path: Path, n: int = 3000, seed: int = 0) -> Path:
    """A finished catalog folder of made items, written without `curate`: 80/10/10 by family, its folder returned."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pricesmith.catalog.store import ITEMS, LEDGER
    from pricesmith.workspace import write_json

    items, families = made_items(n, seed)
    share = {family: int(hashlib.sha256(family.encode()).hexdigest(), 16) % 10 for family in families}
    splits = [{0: "test", 1: "validation"}.get(share[family], "train") for family in families]
    wares = [item.listing for item in items]
    columns: dict[str, list[object]] = {
        "id": [ware.id for ware in wares],
        "title": [ware.title for ware in wares],
        "text": [ware.text for ware in wares],
        "category": [ware.category for ware in wares],
        "brand": [ware.brand for ware in wares],
        "price": [item.price for item in items],
        "currency": ["USD"] * n,
        "family": list(families),
        "split": list(splits),
        "source": ["made"] * n,
    }
    path.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path / ITEMS)
    digest = hashlib.sha256("".join(f"{item.listing}{item.price}" for item in items).encode()).hexdigest()
    ledger = {
        "format": 1,
        "name": "made",
        "fingerprint": digest,
        "currency": "USD",
        "price_range": [0.01, 5000.0],
        "cleaning": {},
        "columns": {"title": "title", "text": "text", "price": "price", "category": "category", "brand": "brand"},
        "rows": {"in": n, "kept": n, "rejected": {}},
        "files": [],
        "splits": {split: splits.count(split) for split in ("train", "validation", "test")},
        "families": {"count": len(set(families))},
        "items_bytes": (path / ITEMS).stat().st_size,
        "settings": {},
    }
    write_json(path / LEDGER, ledger)
    return path
