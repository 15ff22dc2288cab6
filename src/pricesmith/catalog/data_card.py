"""What `show CATALOG` says of its sources: items, share, usual prices and a small histogram of each.

{"source": "lamps.csv", "items": 1200, "share": 0.12, "rows": 1300, "splits": {"train": 1080, ...}, "low": 4.5,
 "median": 19.9, "high": 89.0, "histogram": [0, 3, 41, ...]}

`low` and `high` are the 5 % and 95 % quantiles. All histograms have the catalog's bins: equal width in log price.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pricesmith.catalog.additions import source_rows
from pricesmith.catalog.catalog import SPLITS, Catalog
from pricesmith.catalog.split import histogram
from pricesmith.core.tables import Column, FittedTable
from pricesmith.text.formatting import format_money

BLOCKS = "▁▂▃▄▅▆▇█"
MAX_SOURCES = 12  # that the terminal shows; --json has all
DOMINANT = 0.5  # share of one source among several that is pointed out


def source_facts(catalog: Catalog, edges: Sequence[float]) -> list[dict[str, Any]]:
    """The facts of each source, the largest first; one without items has no prices. `edges` are those of the
    catalog's histogram."""
    prices: dict[str, list[float]] = {}
    sides: dict[str, list[str]] = {}
    for batch in catalog.batches(["source", "price", "split"]):
        columns = batch.to_pydict()
        for source, price, split in zip(columns["source"], columns["price"], columns["split"], strict=True):
            prices.setdefault(source, []).append(price)
            sides.setdefault(source, []).append(split)
    total = sum(map(len, prices.values()))
    rows = source_rows(catalog)
    facts = [
        describe_source(source, values, sides[source], total, edges) | {"rows": rows.get(source)}
        for source, values in prices.items()
    ]
    facts += [
        {"source": file["file"], "items": 0, "share": 0.0, "rows": file["in"]}
        for file in catalog.ledger["files"]
        if not file["kept"] and file["file"] not in prices
    ]
    return sorted(facts, key=lambda fact: (-fact["items"], fact["source"]))


def describe_source(
    source: str, prices: Sequence[float], sides: Sequence[str], total: int, edges: Sequence[float]
) -> dict[str, Any]:
    """The facts of one source."""
    value = np.asarray(prices)
    counts = np.bincount(histogram(value, np.asarray(edges)), minlength=len(edges) - 1)
    low, median, high = (float(f"{quantile:.6g}") for quantile in np.quantile(value, [0.05, 0.5, 0.95]))
    return {
        "source": source,
        "items": len(prices),
        "share": round(len(prices) / total, 4),
        "splits": {name: sides.count(name) for name in SPLITS},
        "low": low,
        "median": median,
        "high": high,
        "histogram": counts.tolist(),
    }


def sparkline(counts: Sequence[int]) -> str:
    """Counts as blocks of eight heights; a bin without items is a space.

    >>> sparkline([0, 1, 4, 8])
    ' ▁▄█'
    """
    most = max(counts, default=0) or 1
    return "".join(BLOCKS[-(-8 * count // most) - 1] if count else " " for count in counts)


def sources_table(facts: Sequence[Mapping[str, Any]], currency: str) -> FittedTable:
    """The largest sources. On a narrow terminal the quantiles and the histogram are dropped, not the shares."""
    more = f", the {MAX_SOURCES} largest" if len(facts) > MAX_SOURCES else ""
    columns = [
        Column("source", wraps=True),
        Column("rows", right=True, drop=3),
        Column("items", right=True),
        Column("share", right=True),
        Column("median", right=True, drop=1),
        Column("90 % of prices", right=True, drop=4),
        Column("prices, low to high", drop=2),
    ]
    rows = [
        (
            str(fact["source"]),
            "" if fact["rows"] is None else f"{fact['rows']:,}",
            f"{fact['items']:,}",
            f"{fact['share']:.1%}",
            format_money(fact["median"], currency) if fact["items"] else "",
            f"{format_money(fact['low'], currency)} to {format_money(fact['high'], currency)}" if fact["items"] else "",
            sparkline(fact.get("histogram", ())),
        )
        for fact in facts[:MAX_SOURCES]
    ]
    return FittedTable(f"{len(facts)} sources{more}", columns, rows)


def describe_dominance(facts: Sequence[Mapping[str, Any]]) -> str:
    """A sentence if one of several sources has most of the items, else empty."""
    if len(facts) < 2 or facts[0]["share"] <= DOMINANT:
        return ""
    name, share = facts[0]["source"], facts[0]["share"]
    return (
        f"One source dominates: {name} has {share:.0%} of the items, so the errors are mostly those on its items. "
        "`fit RECIPE --weight-by source-sqrt` gives the others more weight."
    )


def describe_noise_floor(catalog: Catalog) -> dict[str, Any]:
    """The noise of equal texts, with the smallest MAE on all items that it allows.

    `catalog_mae` spreads the distances of equal texts from their median price over all items, as if prices of other
    items had no noise. So no model that sees the text only can have a lower MAE over the whole catalog. It is left out
    if `--train-rows` removed items.
    """
    noise = dict(catalog.ledger["groups"]["label_noise"])
    items = sum(catalog.ledger["splits"].values())
    floor = noise.get("mean_error_floor")
    if floor is not None and items and not catalog.ledger.get("balance"):
        noise |= {
            "share": round(min(1.0, noise["rows"] / items), 4),
            "catalog_mae": float(f"{floor * noise['rows'] / items:.3g}"),
        }
    return noise
