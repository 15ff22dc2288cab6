"""A catalog as a person and a machine see it: ledger, price histogram, groups, leaks, examples.

$ pricesmith show out/goods
58,299 rows: 58,299 kept, 0 outside $0.50 to $999.49, 0 refused for other reasons
...
"""

from __future__ import annotations

from typing import Any

from pricesmith.catalog.catalog import SPLITS, Catalog
from pricesmith.catalog.staging import ABOVE, BELOW
from pricesmith.text.formatting import format_money

BARS = 16
WIDTH = 46
EXAMPLES = 2
EIGHTHS = " ▏▎▍▌▋▊▉"
MOST_FILES = 12
FIELDS = ("title", "text", "price", "currency", "category", "brand", "id")


def catalog_summary(catalog: Catalog) -> str:
    """What curate says at its end; the first line has the rows that the price range cost."""
    ledger = catalog.ledger
    splits = ", ".join(f"{count:,} {name}" for name, count in ledger["splits"].items())
    lines = [headline(catalog), *reasons(ledger), *files(ledger), *columns(ledger), *groups(catalog)]
    return "\n".join([*lines, f"Split by group: {splits}.", f"The catalog is {catalog.path}"])


def catalog_page(catalog: Catalog) -> str:
    """All of it as text."""
    prices = prices_of(catalog)
    parts = [catalog_summary(catalog), "", "Prices", *histogram(prices, catalog.currency)]
    balance = catalog.ledger.get("balance")
    if balance:
        before, after = sum(balance["before"]), sum(balance["after"])
        parts += [
            "",
            f"Balanced to {balance['train_rows']:,}: {before:,} training items, {after:,} kept: {balance['rule']}.",
        ]
    parts += ["", "Examples"]
    for one in examples(catalog):
        text = " | ".join(one["text"].split("\n"))
        parts.append(f"  {one['split']:<10} {format_money(one['price'], catalog.currency):>12}  {one['title']}")
        if text and text != one["title"]:
            parts.append(f"{'':26}{text[:150]}")
    return "\n".join(parts)


def to_dict(catalog: Catalog) -> dict[str, Any]:
    """All of it for a machine: the ledger, the histogram and the examples."""
    edges, counts = bins_of(prices_of(catalog))
    return {**catalog.ledger, "histogram": {"edges": edges, "counts": counts}, "examples": examples(catalog)}


def headline(catalog: Catalog) -> str:
    """Rows in, kept, lost to the price range, refused otherwise."""
    rows = catalog.ledger["rows"]
    outside = sum(rows["rejected"].get(reason, 0) for reason in (BELOW, ABOVE))
    other = sum(rows["rejected"].values()) - outside
    low, high = (format_money(price, catalog.currency) for price in catalog.price_range)
    return (
        f"{rows['in']:,} rows: {rows['kept']:,} kept, {outside:,} outside {low} to {high}, "
        f"{other:,} refused for other reasons"
    )


def reasons(ledger: Any) -> list[str]:
    """Every reason with its rows."""
    rejected = sorted(ledger["rows"]["rejected"].items(), key=lambda pair: -pair[1])
    return [f"  {count:>9,}  {reason}" for reason, count in rejected]


def files(ledger: Any) -> list[str]:
    """Each file's rows, where there are several."""
    found = ledger["files"]
    if len(found) < 2:
        return []
    shown = sorted(found, key=lambda one: -one["in"])[:MOST_FILES]
    lines = [f"  {one['file']}: {one['in']:,} rows, {one['kept']:,} kept" for one in shown]
    return [f"{len(found)} files:", *lines, *(["  ..."] if len(found) > len(shown) else [])]


def columns(ledger: Any) -> list[str]:
    """The column map, and what stays out of the text."""
    chosen = ledger["columns"]
    lines = ["Columns: " + ", ".join(f"{name} = {chosen[name]}" for name in FIELDS if chosen[name])]
    if chosen["extra"]:
        lines.append(f"Lines of the text: {listed(chosen['extra'])}")
    return [*lines, *(f"Left out: {name} ({reason})" for name, reason in chosen["left_out"].items())]


def listed(names: Any) -> str:
    """Names as one line of bounded length."""
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def groups(catalog: Catalog) -> list[str]:
    """Groups, label noise, masked amounts."""
    found, masked = catalog.ledger["groups"], catalog.ledger["masked"]
    noise = found["label_noise"]
    lines = [
        f"Groups: {found['count']:,}, the largest of {found['largest']:,}; {found['share_with_relatives']:.1%} "
        f"of the items have a relative; {found['templates_split']:,} of template text were split again."
    ]
    if noise["pairs"]:
        lines.append(
            f"Label noise: {noise['rows']:,} items share their text with another price; the median difference is "
            f"{noise['median_relative_difference']:.1%}, no pricer errs less than "
            f"{format_money(noise['mean_error_floor'], catalog.currency)} on them."
        )
    if masked["amounts"]:
        lines.append(
            f"Masked: {masked['amounts']:,} amounts of money in {masked['listings']:,} listings, "
            f"{masked['near_price']:,} listings with one within 5 % of their price."
        )
    return lines


def prices_of(catalog: Catalog) -> list[float]:
    """Every price of the catalog."""
    return [price for batch in catalog.batches(["price"]) for price in batch.column("price").to_pylist()]


def bins_of(prices: list[float]) -> tuple[list[float], list[int]]:
    """Bins of equal width in log price: their edges and counts."""
    import numpy as np

    from pricesmith.catalog.balance import histogram as bins
    from pricesmith.catalog.balance import log_edges

    value = np.asarray(prices)
    edges = log_edges(value, BARS)
    counts = np.bincount(bins(value, edges), minlength=BARS)
    return [round(float(edge), 4) for edge in edges], counts.tolist()


def histogram(prices: list[float], currency: str) -> list[str]:
    """The price histogram, a bar a line."""
    edges, counts = bins_of(prices)
    most = max(counts)
    lines = []
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        whole, rest = divmod(round(8 * WIDTH * count / most), 8)
        bar = ("█" * whole + EIGHTHS[rest]).rstrip() or ("▏" if count else "")
        places = None if high < 100 else 0
        span = f"{format_money(low, currency, places)} - {format_money(high, currency, places)}"
        lines.append(f"  {span:>25} {bar} {count:,}")
    return lines


def examples(catalog: Catalog) -> list[dict[str, Any]]:
    """The first items of each split; the order is that of a hash, so they are a fair sample."""
    found: list[dict[str, Any]] = []
    names = ["split", "title", "category", "brand", "price", "text"]
    need = dict.fromkeys(SPLITS, EXAMPLES)
    for batch in catalog.batches(names, 1_000):
        for one in batch.to_pylist():
            if need[one["split"]]:
                need[one["split"]] -= 1
                found.append(one | {"title": one["title"][:120], "text": one["text"][:400]})
        if not any(need.values()):
            break
    return sorted(found, key=lambda one: SPLITS.index(one["split"]))
