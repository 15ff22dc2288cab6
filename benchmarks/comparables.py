"""Comparables: how near their prices lie to the truth, and what a search costs.

    python benchmarks/comparables.py --goods goods.jsonl.gz
    python benchmarks/comparables.py --demo --seeds 0

Each catalog is curated with split seeds 0, 1 and 2, and a model is fitted on it. For each test listing the median price
of its three comparables is set against the true price: |log(median / truth)|. Three orders are compared: by words only;
by words and an estimate that is the same for all models (items.parquet); by words and the model's quote (`price`).
The search is timed on one processor in CPU milliseconds a listing, beside the earlier one, which transposed the matrix
of all rows at every search. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pricesmith.catalog import curate
from pricesmith.catalog.comparables import Comparable, select_rows
from pricesmith.core.types import Item, Listing
from pricesmith.pricers.fitting import fit_model, ordered_index
from pricesmith.pricers.model import load_model
from pricesmith.pricers.recipes import read_recipe
from pricesmith.text.words import split_words

K = 3
REPEATS = 2_000
ORDERS = ("words only (before)", "words and estimate (items.parquet)", "words and quote (price)")


class Transposing:
    """The earlier search: scikit-learn's vectorizer, and a product with the matrix transposed at every search."""

    def __init__(self, items: Sequence[Item]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.reader = TfidfVectorizer(analyzer=split_words, sublinear_tf=True, max_df=0.3, dtype=np.float32)
        self.matrix = self.reader.fit_transform([select_rows(item.listing) for item in items]).tocsr()

    def search(self, listings: Sequence[Listing], k: int) -> list[Any]:
        found = []
        size = max(1, min(256, 16_000_000 // self.matrix.shape[0]))
        for start in range(0, len(listings), size):
            block = self.reader.transform([select_rows(listing) for listing in listings[start : start + size]])
            product = (block @ self.matrix.T).tocsr()
            for row in range(product.shape[0]):
                begin, end = product.indptr[row], product.indptr[row + 1]
                places, scores = product.indices[begin:end], product.data[begin:end]
                if len(scores) > k:
                    kept = scores >= np.partition(scores, len(scores) - k)[len(scores) - k] - 1e-5
                    places, scores = places[kept], scores[kept]
                found.append(places[np.lexsort((places, -np.round(scores, 5)))[:k]])
        return found


def cpu_ms(search: Callable[[Sequence[Listing]], Any], listings: Sequence[Listing], batch: int) -> float:
    """CPU milliseconds a listing, in batches of `batch`."""
    search(listings[:batch])
    begin = time.process_time()
    for start in range(0, len(listings), batch):
        search(listings[start : start + batch])
    return 1000 * (time.process_time() - begin) / len(listings)


def gaps(found: Sequence[Sequence[Comparable]], truth: Any) -> Any:
    """|log(median price of the comparables / truth)|, NaN where there is none."""
    medians = [np.median([one.price for one in near]) if near else np.nan for near in found]
    return np.abs(np.log(medians) - np.log(truth))


def one_seed(source: str, course: bool, seed: int, kind: str, limit: int | None, work: Path) -> dict[str, Any]:
    """Gaps of every order on one split, the groups of the test rows, and the times of the searches."""
    folder = work / f"seed-{seed}"
    catalog = curate(
        [source],
        folder / "catalog",
        min_price=0.5 if course else 0.01,
        max_price=999.49 if course else None,
        split_seed=seed,
    )
    train, train_groups = catalog.items_and_groups("train")
    items, groups = (part[:limit] for part in catalog.items_and_groups("test"))
    listings, truth = [item.listing for item in items], np.array([item.price for item in items])
    index, estimate = ordered_index(train, train_groups)
    found = [index.search(listings, K), index.search(listings, K, estimate(listings))]
    if kind != "none":
        fit_model(read_recipe(kind), catalog, folder / kind)
        found.append(load_model(folder / kind).comparables(listings, K))
    validation, validation_groups = catalog.items_and_groups("validation")
    index.calibrate([item.listing for item in validation], validation_groups)
    some = [item.listing for item in validation[:300]]
    earlier, logs = Transposing(train), estimate(some)
    timed: dict[str, Any] = {
        "earlier": lambda part: earlier.search(part, K),
        "now": lambda part: index.search(part, K, logs[: len(part)]),
        "nothing similar": index.nothing_similar,
    }
    times = {name: (cpu_ms(search, some[:100], 1), cpu_ms(search, some, 256)) for name, search in timed.items()}
    return {
        "gaps": [gaps(near, truth) for near in found],
        "groups": groups,
        "times": times,
        "flagged": float(np.mean(index.nothing_similar(listings))),
        "rows": len(train),
    }


def interval(seeds: Sequence[dict[str, Any]], order: int) -> tuple[float, float, float]:
    """Mean over the seeds of the median gap over that by words only, with a paired 95 % interval over groups."""
    draw = np.random.default_rng(0)
    points, draws = [], []
    for one in seeds:
        pair = np.array([one["gaps"][order], one["gaps"][0]])
        there = np.isfinite(pair).all(axis=0)
        pair, names = pair[:, there], np.asarray(one["groups"])[there]
        _, codes = np.unique(names, return_inverse=True)
        rows = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
        points.append(np.divide(*np.median(pair, axis=1)))
        drawn = []
        for _ in range(REPEATS // len(seeds)):
            chosen = np.concatenate([rows[number] for number in draw.integers(0, len(rows), len(rows))])
            drawn.append(np.divide(*np.median(pair[:, chosen], axis=1)))
        draws.append(drawn)
    low, high = np.quantile(np.mean(draws, axis=0), [0.025, 0.975])
    return float(np.mean(points)), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--goods", help="a file to curate, with --min-price 0.5 --max-price 999.49")
    parser.add_argument("--demo", action="store_true", help="the demo goods instead, with their whole price range")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--model", default="sparse_mlp", help="recipe whose quotes are taken, or none")
    parser.add_argument("--limit", type=int, help="test rows of each split; default: all")
    parser.add_argument("--work", help="a folder to work in and keep; none: a temporary one")
    asked = parser.parse_args()
    if bool(asked.goods) == asked.demo:
        parser.error("give --goods FILE or --demo")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(asked.work or folder)
        source = "demo:goods" if asked.demo else asked.goods
        numbers = [int(seed) for seed in asked.seeds.split(",")]
        seeds = [one_seed(source, not asked.demo, seed, asked.model, asked.limit, work) for seed in numbers]
    print(f"{time.strftime('%Y-%m-%d')}; {seeds[0]['rows']:,} training rows; split seeds {asked.seeds}\n")
    print("| order | median gap | by seed | ratio to words only (95 %) | mean gap |\n|---|---|---|---|---|")
    for order, name in enumerate(ORDERS[: len(seeds[0]["gaps"])]):
        medians = [float(np.nanmedian(one["gaps"][order])) for one in seeds]
        mean = float(np.mean([np.nanmean(one["gaps"][order]) for one in seeds]))
        by_seed = " ".join(f"{value:.3f}" for value in medians)
        point, low, high = interval(seeds, order)
        print(f"| {name} | {np.mean(medians):.3f} | {by_seed} | {point:.3f} ({low:.3f} to {high:.3f}) | {mean:.3f} |")
    print("\n| search | one at a time, CPU ms | in batches of 256, CPU ms |\n|---|---|---|")
    for name in seeds[0]["times"]:
        single, batched = np.mean([one["times"][name] for one in seeds], axis=0)
        print(f"| {name} | {single:.2f} | {batched:.2f} |")
    print(f"\nTest listings with nothing similar: {np.mean([one['flagged'] for one in seeds]):.2%}")


if __name__ == "__main__":
    main()
