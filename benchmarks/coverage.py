"""Coverage of the 90 % intervals, misses on each side and width, on the test rows of five split seeds.

    python benchmarks/coverage.py --goods goods.jsonl.gz
    python benchmarks/coverage.py --demo --recipes ridge

Each seed is a catalog of its own (the same rows, another split by group), each pricer is fitted on it anew.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pricesmith.catalog import curate
from pricesmith.pricers.fitting import fit_model
from pricesmith.pricers.model import load_model
from pricesmith.pricers.recipes import read_recipe

SEEDS = (0, 1, 2, 3, 4)


def measured(source: str, recipes: list[str], seed: int, folder: Path) -> list[dict[str, Any]]:
    """Coverage, misses on each side and width of each recipe on one split."""
    options = {} if source.startswith("demo:") else {"min_price": 0.5, "max_price": 999.49}
    catalog = curate([source], folder / "catalog", split_seed=seed, **options)
    items = catalog.items("test")
    truth = np.array([item.price for item in items])
    rows = []
    for name in recipes:
        fit_model(read_recipe(name), catalog, folder / name)
        quotes = load_model(folder / name).price([item.listing for item in items])
        low, high = np.array([(quote.low, quote.high) for quote in quotes], dtype=float).T
        row = {
            "recipe": name,
            "seed": seed,
            "n": len(items),
            "coverage": float(((low <= truth) & (truth <= high)).mean()),
            "below": int((truth < low).sum()),
            "above": int((truth > high).sum()),
            "width": float(np.exp(np.log(high / low).mean() / 2)),
        }
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--goods", help="the catalog of goods, a file")
    source.add_argument("--demo", action="store_true", help="the goods of the demo")
    parser.add_argument("--recipes", default="ridge,sparse_mlp")
    options = parser.parse_args()
    recipes = options.recipes.split(",")
    rows: list[dict[str, Any]] = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            rows += measured(options.goods or "demo:goods", recipes, seed, Path(folder))
    seeds = " | ".join(f"seed {seed}" for seed in SEEDS)
    print(f"\n| pricer | {seeds} | mean | below the interval | above it | factor |")
    print("|---|" + "--:|" * (len(SEEDS) + 4))
    for name in recipes:
        fits = [row for row in rows if row["recipe"] == name]
        shares = " | ".join(f"{row['coverage']:.1%}" for row in fits)
        mean, width = (float(np.mean([row[key] for row in fits])) for key in ("coverage", "width"))
        below, above = (sum(row[side] for row in fits) for side in ("below", "above"))
        print(f"| {name} | {shares} | {mean:.1%} | {below} | {above} | {width:.2f} |")


if __name__ == "__main__":
    main()
