"""Do 90 % intervals hold 90 %? Coverage and width on the test rows of five split seeds, each printed, and their mean.

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


def measured(source: str, recipes: list[str], seed: int, place: Path) -> list[dict[str, Any]]:
    """Coverage and width of each recipe on one split."""
    options = {} if source.startswith("demo:") else {"min_price": 0.5, "max_price": 999.49}
    catalog = curate([source], place / "catalog", split_seed=seed, **options)
    items = catalog.items("test")
    truth = np.array([item.price for item in items])
    found = []
    for name in recipes:
        fit_model(read_recipe(name), catalog, place / name)
        quotes = load_model(place / name).price([item.listing for item in items])
        low, high = np.array([(quote.low, quote.high) for quote in quotes], dtype=float).T
        inside = float(((low <= truth) & (truth <= high)).mean())
        width = float(np.exp(np.log(high / low).mean() / 2))
        found.append({"recipe": name, "seed": seed, "n": len(items), "coverage": inside, "width": width})
        print(json.dumps(found[-1]), flush=True)
    return found


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
        with tempfile.TemporaryDirectory() as place:
            rows += measured(options.goods or "demo:goods", recipes, seed, Path(place))
    print("\n| pricer | " + " | ".join(f"seed {seed}" for seed in SEEDS) + " | mean | price x/÷ |")
    print("|---|" + "--:|" * (len(SEEDS) + 2))
    for name in recipes:
        some = [row for row in rows if row["recipe"] == name]
        each = " | ".join(f"{row['coverage']:.1%}" for row in some)
        mean, width = (float(np.mean([row[key] for row in some])) for key in ("coverage", "width"))
        print(f"| {name} | {each} | {mean:.1%} | {width:.2f} |")


if __name__ == "__main__":
    main()
