"""How the sparse MLP grows: seconds and peak memory of a fit at 12,500 to 400,000 rows, each in a fresh process.

    python benchmarks/growth.py --goods goods.jsonl.gz

Up to 58,000 the rows are real, drawn at random. Beyond they are not new goods: real rows are repeated, each time with a
tenth of their words dropped and a model number put in, and their prices jittered by 5 %. That grows vocabulary and work
as new goods would; its error means nothing.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SIZES = (12_500, 25_000, 50_000, 100_000, 200_000, 400_000)


def grown(source: str, size: int) -> list[Any]:
    """`size` items: the real rows first, then altered ones."""
    from pricesmith.catalog import curate
    from pricesmith.core.types import Item, Listing

    with tempfile.TemporaryDirectory() as folder:
        catalog = curate(
            [source],
            Path(folder) / "catalog",
            min_price=0.01 if ":" in source else 0.5,
            max_price=None if ":" in source else 999.49,
        )
        real = catalog.items("train") + catalog.items("validation") + catalog.items("test")
    draw = random.Random(0)
    draw.shuffle(real)  # a shop's file is in the order of its categories
    items = real[:size]
    while len(items) < size:
        item = real[len(items) % len(real)]
        original = item.listing
        lines = [
            " ".join(word for word in line.split(" ") if draw.random() > 0.1)
            for line in original.text.removeprefix(original.title).split("\n")
        ]
        title = f"{original.title} {draw.choice('KLMNP')}{draw.randrange(10**5)}"
        listing = Listing(f"{original.id}-{len(items)}", title, "\n".join(lines), original.category, original.brand)
        items.append(Item(listing, item.price * draw.uniform(0.95, 1.05)))
    return items


def peak_mb() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def measure(source: str, size: int) -> dict[str, Any]:
    """One fit; `rows_mb` is what the rows themselves and the libraries took before it."""
    from pricesmith.pricers.recipes import read_recipe
    from pricesmith.pricers.sparse_mlp import SparseMlpRecipe, batch_sizes

    items = grown(source, size)
    recipe = read_recipe("sparse_mlp")
    assert isinstance(recipe, SparseMlpRecipe)
    before = peak_mb()
    with tempfile.TemporaryDirectory() as folder:
        start, work = time.perf_counter(), time.process_time()
        recipe.fit(items, [], Path(folder))
        seconds, cpu = time.perf_counter() - start, time.process_time() - work
        kept = sum(path.stat().st_size for path in Path(folder).iterdir()) / 2**20
    passes = len(batch_sizes(size, recipe))
    return {
        "rows": size,
        "passes": passes,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "rows_mb": before,
        "peak_mb": peak_mb(),
        "run_mb": round(kept, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--goods", help="a file to curate; none: the demo goods")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    source = asked.goods or "demo:goods"
    if asked.one:
        print(json.dumps(measure(source, asked.one)))
        return
    print("| rows | passes | fit s | CPU s | s per 100,000 rows | rows MB | peak MB | run MB |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for size in map(int, asked.sizes.split(",")):
        command = [sys.executable, __file__, "--one", str(size), *(["--goods", asked.goods] if asked.goods else [])]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        one = json.loads(done.stdout.splitlines()[-1])
        per = one["seconds"] / size * 1e5
        print(
            f"| {size:,} | {one['passes']} | {one['seconds']} | {one['cpu_seconds']} | {per:.1f} "
            f"| {one['rows_mb']:,.0f} | {one['peak_mb']:,.0f} | {one['run_mb']:,.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
