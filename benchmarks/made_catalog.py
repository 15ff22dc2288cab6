"""Large catalogs for benchmarks, written without `curate`: real listings recombined, in near-duplicate groups.

    PRICESMITH_GOODS=goods.jsonl.gz python benchmarks/made_catalog.py --rows 2000000 --to made

Each listing has the title of one real listing with a word dropped, its category, brand and price (times a log-normal
factor of about 10 %), and lines of its own text followed by lines of the text of another listing of the category. Five
rows in six are a group of their own, the others form groups of 2 to 6. Splits are drawn by group: 90, 5 and 5 %, or
`--test` rows for testing. The same arguments write the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

BLOCK = 50_000
Row = dict[str, Any]


def read_goods(source: str) -> list[Row]:
    """The real rows of a JSON Lines file, or of the demo goods (`demo:goods`)."""
    if source.startswith("demo:"):
        from pricesmith.catalog.demo import read_goods as read_demo
        from pricesmith.catalog.readers.sources import RawRow

        return [dict(row.values) for batch in read_demo() for row in batch if isinstance(row, RawRow)]
    with gzip.open(source, "rt", encoding="utf-8") as handle:
        return [json.loads(line) for line in handle]


def made_rows(real: Sequence[Row], rows: int, seed: int = 0) -> Iterator[Row]:
    """`rows` listings made of real ones: id, title, text, category, brand and price."""
    draw = np.random.default_rng(seed)
    by_category: dict[str, list[int]] = {}
    for place, row in enumerate(real):
        by_category.setdefault(str(row.get("category") or ""), []).append(place)
    titles = [str(row["title"]).split(" ") for row in real]
    lines = [str(row.get("description") or "").split("\n") for row in real]
    for start in range(0, rows, BLOCK):
        count = min(BLOCK, rows - start)
        places, cuts, shares = draw.integers(0, len(real), count), draw.random(count), draw.random(count)
        others, factors = draw.random(count), draw.lognormal(0, 0.1, count)
        for number in range(count):
            row, words, own = real[places[number]], titles[places[number]], lines[places[number]]
            drop = int(cuts[number] * len(words)) if len(words) > 2 else len(words)
            alike = by_category[str(row.get("category") or "")]
            other = lines[alike[int(others[number] * len(alike))]]
            share = shares[number]
            text = own[: max(1, int(share * len(own)))] + other[: int((1 - share) * len(other))]
            yield {
                "id": f"m{start + number}",
                "title": " ".join(words[:drop] + words[drop + 1 :]),
                "text": "\n".join(text),
                "category": str(row.get("category") or ""),
                "brand": str(row.get("brand") or ""),
                "price": min(999.49, max(0.5, round(float(row["price"]) * float(factors[number]), 2))),
            }


def group_numbers(rows: int, seed: int = 0) -> np.ndarray:
    """The number of the near-duplicate group of each row, ascending."""
    draw = np.random.default_rng([seed, 1])
    sizes = np.where(draw.random(rows) < 0.95, 1, draw.integers(2, 7, rows))
    return np.repeat(np.arange(rows), sizes)[:rows]


def write_catalog(real: Sequence[Row], folder: Path, rows: int, test: int | None = None, seed: int = 0) -> Path:
    """Write a catalog of `rows` listings, and return its folder; one that is there already is left as it is."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if (folder / "ledger.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    names = ["id", "title", "text", "category", "brand", "price", "currency", "group", "split", "source"]
    schema = pa.schema([(name, pa.float64() if name == "price" else pa.string()) for name in names])
    groups = group_numbers(rows, seed)
    draws = np.random.default_rng([seed, 2]).random(groups[-1] + 1)[groups]
    share = test / rows if test is not None else 0.05
    splits = np.where(draws < share, "test", np.where(draws < share + 0.05, "validation", "train"))
    made = made_rows(real, rows, seed)
    with pq.ParquetWriter(folder / "items.parquet", schema, compression="zstd", write_page_checksum=True) as file:
        for start in range(0, rows, BLOCK):
            block = list(islice(made, min(BLOCK, rows - start)))
            columns = {name: [row[name] for row in block] for name in names[:6]}
            own = slice(start, start + len(block))
            columns |= {"currency": ["USD"] * len(block), "source": ["made"] * len(block)}
            columns |= {"group": [f"{number:016x}" for number in groups[own]], "split": splits[own].tolist()}
            file.write_table(pa.table(columns, schema=schema))
    write_ledger(folder, {name: int((splits == name).sum()) for name in ("train", "validation", "test")}, rows)
    return folder


def write_ledger(folder: Path, splits: dict[str, int], rows: int) -> None:
    """The ledger of a made catalog: what `open_catalog` asks for."""
    items = folder / "items.parquet"
    with items.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    cleaning = {"min_chars": 5, "max_chars": 4000, "max_title": 400, "max_name": 200, "currency": "USD"}
    ledger = {
        "generator": "pricesmith catalog",
        "format": 1,
        "name": f"made-{rows}",
        "fingerprint": digest,
        "currency": "USD",
        "price_range": [0.5, 999.49],
        "cleaning": {**cleaning, "drop_part_numbers": False},
        "splits": splits,
        "columns": {"title": "title", "text": "description", "price": "price", "id": "id"},
        "rows": {"in": rows, "kept": rows, "rejected": {}},
        "items_bytes": items.stat().st_size,
        "items_sha256": digest,
    }
    (folder / "ledger.json").write_text(json.dumps(ledger), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default=os.environ.get("PRICESMITH_GOODS", "demo:goods"))
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--test", type=int)
    parser.add_argument("--to", type=Path, required=True)
    options = parser.parse_args()
    print(write_catalog(read_goods(options.source), options.to, options.rows, options.test))


if __name__ == "__main__":
    main()
