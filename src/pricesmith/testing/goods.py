"""Made goods: items whose prices follow a known law, as rows, as a shop's CSV file and as a catalog.

>>> items, groups = make_items(3)
>>> items[0].listing.category in {"hose", "lamp", "drill", "chair"}
True
"""

from __future__ import annotations

import hashlib
import math
import random
from pathlib import Path

from pricesmith.core.types import Item, Listing

GOODS = {"hose": 18.0, "lamp": 35.0, "drill": 80.0, "chair": 120.0}
BRANDS = {"Aster": 0.8, "Borealis": 1.0, "Cobalt": 1.4, "Dovetail": 2.0}
SIZES = (1, 2, 3, 5, 8, 12, 20, 40)
COLORS = ("red", "green", "blue", "black", "white")
WORDS = (  # noqa: SIM905
    "sturdy light compact foldable garden indoor outdoor quiet bright classic modern folding steel oak brass copper "
    "woven cordless rechargeable durable portable smooth heavy simple elegant robust slim wide tall short"
).split()


def make_items(n: int = 600, seed: int = 0, noise: float = 0.1) -> tuple[list[Item], list[str]]:
    """`n` items and their groups. price = good x brand x size^0.5 x exp(noise): `noise` is the error to reach."""
    draw = random.Random(seed)
    items: list[Item] = []
    groups: list[str] = []
    while len(items) < n:
        good, brand, size = draw.choice(list(GOODS)), draw.choice(list(BRANDS)), draw.choice(SIZES)
        words = " ".join(draw.sample(WORDS, 9))
        model = f"{draw.choice('KLMNP')}{draw.randrange(10, 99)}"
        price = GOODS[good] * BRANDS[brand] * math.sqrt(size) * math.exp(draw.gauss(0, noise))
        for color in draw.sample(COLORS, draw.choice((1, 1, 1, 2, 3))):
            number = len(items)
            text = f"{words}.\nSize: {size} kg\nColor: {color}"
            listing = Listing(f"made-{number}", f"{brand} {good} {model}", text, good, brand)
            items.append(Item(listing, round(price * math.exp(draw.gauss(0, noise / 4)), 2)))
            groups.append(hashlib.sha256(f"{brand}{good}{model}{words}".encode()).hexdigest()[:16])
    return items[:n], groups[:n]


def make_csv(path: Path, n: int = 600, seed: int = 0) -> Path:
    """The made items as the CSV file a shop would have: descriptions in HTML, so that each row is one line."""
    import csv

    items, _ = make_items(n, seed)
    with path.open("w", newline="", encoding="utf-8") as handle:
        out = csv.writer(handle)
        out.writerow(("sku", "name", "description", "category", "brand", "price"))
        for item in items:
            listing = item.listing
            text = listing.text.replace("\n", "<br>")
            out.writerow((listing.id, listing.title, text, listing.category, listing.brand, f"${item.price:,.2f}"))
    return path


def make_catalog(path: Path, n: int = 3000, seed: int = 0) -> Path:
    """A finished catalog folder of made items, written without `curate`: 80/10/10 by group, its folder returned."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pricesmith.catalog.catalog import ITEMS, LEDGER
    from pricesmith.core.atomic import write_json

    items, groups = make_items(n, seed)
    share = {group: int(hashlib.sha256(group.encode()).hexdigest(), 16) % 10 for group in groups}
    splits = [{0: "test", 1: "validation"}.get(share[group], "train") for group in groups]
    listings = [item.listing for item in items]
    columns: dict[str, list[object]] = {
        "id": [listing.id for listing in listings],
        "title": [listing.title for listing in listings],
        "text": [listing.text for listing in listings],
        "category": [listing.category for listing in listings],
        "brand": [listing.brand for listing in listings],
        "price": [item.price for item in items],
        "currency": ["USD"] * n,
        "group": list(groups),
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
        "groups": {"count": len(set(groups))},
        "items_bytes": (path / ITEMS).stat().st_size,
        "settings": {},
    }
    write_json(path / LEDGER, ledger)
    return path
