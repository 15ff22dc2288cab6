"""Wrong prices planted in 1 % of the listings: which are found at a false discovery rate of 10 %, and how many others.

    python benchmarks/audit.py --goods goods.jsonl.gz --recipe sparse_mlp --seeds 0,1,2
    python benchmarks/audit.py --made 20000 --recipe ridge

A planted price is ten or a hundred times too high (a lost decimal point), a tenth, has two digits exchanged, or is in
another currency (x 4.2, and / 1.1, which no model can find). Of real goods nobody knows which other prices are wrong,
so those found that were not planted are counted, not called false. Of made goods every other price is right.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pricesmith.auditing import AuditOptions, AuditResult, audit_catalog
from pricesmith.auditing import run as auditing_run
from pricesmith.catalog import curate
from pricesmith.catalog.catalog import Catalog, open_catalog
from pricesmith.core.types import Item
from pricesmith.pricers.recipes import read_recipe
from pricesmith.testing import make_catalog

SHARE = 0.01
NO_ERROR = "none planted"


def exchange_digits(price: float, draw: random.Random) -> float:
    """The price with two different digits side by side exchanged; the same price if there are none."""
    text = str(round(price * 100))
    places = [k for k in range(len(text) - 1) if text[k] != text[k + 1] and not (k == 0 and text[1] == "0")]
    if not places:
        return price
    place = draw.choice(places)
    return int(text[:place] + text[place + 1] + text[place] + text[place + 2 :]) / 100


KINDS: dict[str, Callable[[float, random.Random], float]] = {
    "x 10": lambda price, draw: price * 10,
    "x 100 (cents lost)": lambda price, draw: price * 100,
    "/ 10": lambda price, draw: price / 10,
    "two digits exchanged": exchange_digits,
    "other currency, x 4.2": lambda price, draw: price * 4.2,
    "other currency, / 1.1": lambda price, draw: price / 1.1,
}


def plant_errors(items: list[Item], seed: int, share: float) -> tuple[list[Item], dict[str, str]]:
    """The items with wrong prices in a share of them, and the kind of error of these by id."""
    draw = random.Random(seed)
    planted: dict[str, str] = {}
    changed = list(items)
    for place in draw.sample(range(len(items)), round(share * len(items))):
        kind, item = draw.choice(list(KINDS)), items[place]
        price = round(KINDS[kind](item.price, draw), 2)
        if price > 0 and price != item.price:
            planted[item.listing.id] = kind
            changed[place] = replace(item, price=price)
    return changed, planted


def audit_planted(
    catalog: Catalog, recipe: str, seed: int, share: float, options: AuditOptions
) -> tuple[AuditResult, dict[str, str]]:
    """Audit a catalog whose prices are changed in memory, and the kind of each planted error by id."""
    read_items = auditing_run.read_items
    items, groups, splits = read_items(catalog)
    changed, planted = plant_errors(items, seed, share)
    low, high = catalog.price_range
    wide = replace(catalog, ledger={**catalog.ledger, "price_range": [low / 100, high * 100]})
    auditing_run.read_items = lambda _: (changed, groups, splits)
    try:
        return audit_catalog(wide, read_recipe(recipe), options=options), planted
    finally:
        auditing_run.read_items = read_items


def count_found(result: AuditResult, planted: dict[str, str]) -> tuple[Counter[str], Counter[str]]:
    """How many listings are planted and how many are found, by kind."""
    found = Counter(planted.get(row.id, NO_ERROR) for row in result.flagged)
    return Counter(planted.values()), found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--goods", help="a file of goods")
    source.add_argument("--made", type=int, help="this many made listings, whose other prices are all right")
    parser.add_argument("--recipe", default="sparse_mlp")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--share", type=float, default=SHARE)
    parser.add_argument("--p-values", default="tail")
    asked = parser.parse_args()
    options, seeds = AuditOptions(p_values=asked.p_values), [int(seed) for seed in asked.seeds.split(",")]
    totals: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            if asked.goods:
                path = Path(folder) / "goods"
                catalog = curate([asked.goods], path, min_price=0.5, max_price=999.49)
            else:
                catalog = open_catalog(make_catalog(Path(folder) / f"made-{seed}", asked.made, seed=seed))
            start = time.perf_counter()
            result, planted = audit_planted(catalog, asked.recipe, seed, asked.share, options)
            counts = count_found(result, planted)
            for total, part in zip(totals, counts, strict=True):
                total.update(part)
            others, flagged = counts[1][NO_ERROR], len(result.flagged)
            print(
                f"seed {seed}: {flagged} of {len(result.rows):,} listings found, {others} of them not planted "
                f"({others / max(1, flagged):.1%}), {time.perf_counter() - start:.0f} s; found of planted: "
                + ", ".join(f"{kind} {counts[1][kind]}/{counts[0][kind]}" for kind in KINDS),
                flush=True,
            )
            if asked.goods:
                for row in [row for row in result.flagged if row.id not in planted][:8]:
                    print(f"  not planted: {row.title[:60]}: asked {row.asked:,.2f}, expected {row.expected:,.2f}")
    print("\n| error | planted | found | share found |\n|---|--:|--:|--:|")
    planted_total, found_total = totals
    for kind in KINDS:
        print(
            f"| {kind} | {planted_total[kind]} | {found_total[kind]} "
            f"| {found_total[kind] / max(1, planted_total[kind]):.0%} |"
        )
    flagged = sum(found_total.values())
    others = found_total[NO_ERROR]
    print(f"| {NO_ERROR} | | {others} | {others / max(1, flagged):.1%} of all found |")


if __name__ == "__main__":
    main()
