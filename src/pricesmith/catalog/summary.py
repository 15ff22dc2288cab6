"""A catalog as a person and a machine see it: rows, columns, groups, prices and examples; and its CARD.md.

$ pricesmith show out/goods
58,299 rows: 58,299 kept, 0 outside $0.50 to $999.49, 0 rejected for other reasons
Currency: USD (from the column 'currency')
...
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pricesmith.catalog.catalog import LEDGER, SPLITS, Catalog
from pricesmith.catalog.columns import FIELDS
from pricesmith.catalog.data_card import describe_dominance, describe_noise_floor, source_facts, sources_table
from pricesmith.catalog.row_price import REGULAR
from pricesmith.catalog.staging import ABOVE, ASSUMED, BELOW
from pricesmith.catalog.templates import Templates, describe_templates, find_templates
from pricesmith.core.console import CONTROL
from pricesmith.core.model_files import report_damage
from pricesmith.core.tables import Column, FittedTable
from pricesmith.text.formatting import format_money, format_price, format_range, format_usd

if TYPE_CHECKING:
    from rich.console import RenderableType

BARS = 16
BAR_WIDTH = 40
N_EXAMPLES = 2  # of each split
EIGHTHS = " ▏▎▍▌▋▊▉"
MAX_FILES = 12


def catalog_summary(catalog: Catalog) -> str:
    """What `curate` prints at its end, as text: the first lines show rejected rows, the currency and the prices."""
    with report_damage(catalog.path / LEDGER):
        ledger = catalog.ledger
        rejected = sorted(ledger["rows"]["rejected"].items(), key=lambda pair: -pair[1])
        reasons = [f"  {count:>9,}  {reason}" for reason, count in rejected]
        files = [f"  {file['file']}: {file['in']:,} rows, {file['kept']:,} kept" for file in largest_files(ledger)]
        return "\n".join([*first_lines(catalog), *reasons, *files_title(ledger), *files, *last_lines(catalog)])


def catalog_page(catalog: Catalog) -> RenderableType:
    """What `show` prints: the summary, the price histogram and examples, in tables that fit the terminal."""
    with report_damage(catalog.path / LEDGER):
        from rich.console import Group
        from rich.text import Text

        ledger = catalog.ledger
        rejected = sorted(ledger["rows"]["rejected"].items(), key=lambda pair: -pair[1])
        parts: list[RenderableType] = [Text(plain("\n".join(first_lines(catalog))))]
        if rejected:
            rows = [(f"{count:,}", reason) for reason, count in rejected]
            parts.append(FittedTable("Rejected rows", [Column("rows", right=True), Column("reason", wraps=True)], rows))
        prices = all_prices(catalog)
        sources = source_facts(catalog, price_bins(prices)[0])
        if len(sources) > 1:
            shown = [{**fact, "source": plain(fact["source"])} for fact in sources]
            parts.append(sources_table(shown, catalog.currency))
            if sentence := describe_dominance(shown):
                parts.append(Text(sentence))
        parts.append(Text(plain("\n".join([*describe_templates(catalog_templates(catalog)), *last_lines(catalog)]))))
        if balance := ledger.get("balance"):
            before, after = sum(balance["before"]), sum(balance["after"])
            balanced = f"{before:,} training items, {after:,} kept: {balance['rule']}."
            parts.append(Text(f"Balanced to {balance['train_rows']:,}: {balanced}"))
        parts += [histogram_table(prices, catalog.currency), examples_table(catalog)]
        return Group(*parts)


def catalog_templates(catalog: Catalog) -> Templates:
    """The sentences that many products of a catalog share. Its items are in the order of a hash, so the first ones are
    a fair sample."""
    rows = ((row["text"], row["group"]) for batch in catalog.batches(["text", "group"]) for row in batch.to_pylist())
    texts, groups = itertools.tee(rows)
    return find_templates((text for text, _ in texts), (group for _, group in groups))


def plain(text: str) -> str:
    """Text without the characters that would move a terminal's cursor."""
    return text.translate(CONTROL)


def to_dict(catalog: Catalog) -> dict[str, Any]:
    """The ledger, sources, leaks, noise floor, price histogram and examples, for --json."""
    with report_damage(catalog.path / LEDGER):
        edges, counts = price_bins(all_prices(catalog))
        left_out = catalog.columns_left_out()
        return {
            **catalog.ledger,
            "histogram": {"edges": edges, "counts": counts},
            "sources": source_facts(catalog, edges),
            "leaks": {name: reason for name, reason in left_out.items() if reason.startswith("leak")},
            "noise_floor": describe_noise_floor(catalog),
            "templates": catalog_templates(catalog).to_dict(),
            "examples": find_examples(catalog),
        }


def first_lines(catalog: Catalog) -> list[str]:
    """Rows read, kept and rejected; the currency and where it comes from; the range of the prices."""
    ledger = catalog.ledger
    rows, source = ledger["rows"], ledger.get("currency_source", "")
    outside = sum(rows["rejected"].get(reason, 0) for reason in (BELOW, ABOVE))
    rejected = sum(rows["rejected"].values())
    currency = f"Currency: {catalog.currency}"
    if source == ASSUMED:
        currency += " (assumed; --currency changes it)"
    elif source:
        currency += f" ({source})"
    if ledger.get("range_given", True):
        low, high = (format_money(price, catalog.currency) for price in catalog.price_range)
        counts = f"{outside:,} outside {low} to {high}, {rejected - outside:,} rejected for other reasons"
        return [f"{rows['in']:,} rows: {rows['kept']:,} kept, {counts}", currency]
    low, high = (format_money(price, catalog.currency) for price in ledger["observed_range"])
    return [
        f"{rows['in']:,} rows: {rows['kept']:,} kept, {rejected:,} rejected",
        currency,
        f"Prices: {low} to {high} (the data's own minimum and maximum; --min-price and --max-price set a range)",
    ]


def last_lines(catalog: Catalog) -> list[str]:
    """Columns, groups, masked amounts, split and folder."""
    splits = ", ".join(f"{count:,} {name}" for name, count in catalog.ledger["splits"].items())
    kinds = describe_kinds(catalog.ledger)
    lines = [
        *describe_rewriting(catalog.ledger),
        *kinds,
        *describe_columns(catalog.ledger["columns"]),
        *describe_sale_prices(catalog.ledger),
    ]
    lines += describe_groups(catalog)
    if dates := catalog.ledger.get("dates"):
        days = "; ".join(f"{name} {dates[name][0]} to {dates[name][1]}" for name in SPLITS)
        lines.append(f"Split by time: a near-duplicate group goes by its latest date. {days}.")
    return [*lines, f"{'Items' if dates else 'Split by group'}: {splits}.", f"The catalog is {catalog.path}"]


def describe_rewriting(ledger: Mapping[str, Any]) -> list[str]:
    """Which language model rewrote how many listings, what they cost, and the change of the error in its trial."""
    facts = ledger.get("rewriting")
    if not facts:
        return []
    trial, spent = facts["trial"], facts["cost"]["spent_usd"]
    currency = ledger["currency"]
    before, after, change = (
        format_price(trial[name], currency) for name in ("mae_as_written", "mae_rewritten", "change")
    )
    interval = format_range(trial["low"], trial["high"], currency) or "unknown"
    significant = "" if trial["improves"] else ", which is not a significant fall"
    cost = "" if spent == 0 else f" Its answers cost {format_usd(spent)}."
    others = "; the others keep their original text" if facts["rewritten"] < facts["listings"] else ""
    return [
        f"Titles and texts are rewritten by {facts['model']} (prompt version {facts['prompt_version']}): "
        f"{facts['rewritten']:,} of {facts['listings']:,} listings{others}.{cost}",
        f"In its trial, {trial['recipe']} out of fold on {trial['rows']:,} listings, the MAE changed from {before} to "
        f"{after}, by {change} (95 % CI {interval}){significant}.",
    ]


def describe_kinds(ledger: Mapping[str, Any]) -> list[str]:
    """One line on what the files were recognized as; none if they are plain tables."""
    kinds = [kind for kind in ledger.get("kinds", {}).values() if kind["kind"] != "table" or kind.get("products")]
    labels = []
    for label in dict.fromkeys(kind["label"] for kind in kinds):
        alike = [kind for kind in kinds if kind["label"] == label]
        products = sum(kind.get("products", 0) for kind in alike)
        grouped = ", ".join(dict.fromkeys(kind["grouped_by"] for kind in alike if "grouped_by" in kind))
        labels.append(f"{label} ({products:,} products by {grouped})" if products else label)
    return [f"Recognized: {'; '.join(labels)}"] if labels else []


def largest_files(ledger: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The files with most rows; none if there is only one file."""
    files = ledger["files"]
    return sorted(files, key=lambda file: -file["in"])[:MAX_FILES] if len(files) > 1 else []


def files_title(ledger: Mapping[str, Any]) -> list[str]:
    """The line above the files; none if there is only one file."""
    count = len(ledger["files"])
    largest = f", the {MAX_FILES} largest" if count > MAX_FILES else ""
    return [f"{count} files{largest}:"] if count > 1 else []


def describe_columns(columns: Mapping[str, Any]) -> list[str]:
    """The column map; the ignored columns, a line for each kind of reason; the columns that give the price away."""
    used = [f"{field} = {columns[field]}" for field in FIELDS if columns.get(field)]
    used += [f"sale price = {columns['sale']}"] if columns.get("sale") else []
    lines = [f"Columns: {', '.join(used)}"]
    if columns["extra"]:
        lines.append(f"Lines of the text: {list_names(columns['extra'])}")
    ignored: dict[str, list[str]] = {}
    leaks = []
    for name, reason in columns["left_out"].items():
        kind, _, detail = reason.partition(": ")
        if kind == "leak":
            leaks.append(f"Dropped because it gives the price away: {name} ({detail})")
        else:
            ignored.setdefault("links, ids, dates" if kind == "provenance" else reason, []).append(name)
    return [*lines, *(f"Ignored columns ({kind}): {list_names(names)}" for kind, names in ignored.items()), *leaks]


def describe_sale_prices(ledger: Mapping[str, Any]) -> list[str]:
    """One line for each file (the first ones) in which some rows have a sale price and others the regular price."""
    counted = ledger.get("sale_prices", {}).items()
    files = [(name, facts) for name, facts in counted if facts["rows"].keys() != {REGULAR}][:MAX_FILES]
    return [
        f"Prices of {name}: "
        + ", ".join(f"{count:,} {which}" for which, count in facts["rows"].items())
        + f" (sale = {facts['sale']}, regular = {facts['price']})"
        for name, facts in files
    ]


def list_names(names: Sequence[str]) -> str:
    """Names as one line of bounded length."""
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def describe_groups(catalog: Catalog) -> list[str]:
    """Near-duplicate groups, label noise, masked amounts."""
    groups, masked = catalog.ledger["groups"], catalog.ledger["masked"]
    noise = groups["label_noise"]
    lines = [
        f"Near-duplicate groups: {groups['count']:,}, the largest with {groups['largest']:,} items; "
        f"{groups['share_with_relatives']:.1%} of the items have a near-duplicate; "
        f"{groups['templates_split']:,} groups of template text were split by exact text."
    ]
    if noise["pairs"]:
        floor = format_money(noise["mean_error_floor"], catalog.currency)
        lines.append(
            f"Label noise: {noise['rows']:,} items have the same text as another item with another price; the median "
            f"difference is {noise['median_relative_difference']:.1%}, so no model's MAE on them is below {floor}."
        )
    if masked["amounts"]:
        lines.append(
            f"Masked: {masked['amounts']:,} amounts of money in {masked['listings']:,} listings, "
            f"{masked['near_price']:,} listings with an amount within 5 % of their price."
        )
    return lines


def all_prices(catalog: Catalog) -> list[float]:
    """Every price of the catalog."""
    return [price for batch in catalog.batches(["price"]) for price in batch.column("price").to_pylist()]


def price_bins(prices: list[float]) -> tuple[list[float], list[int]]:
    """Bins of equal width in log price: their edges and counts."""
    import numpy as np

    from pricesmith.catalog.split import histogram, log_edges

    value = np.asarray(prices)
    edges = log_edges(value, BARS)
    counts = np.bincount(histogram(value, edges), minlength=BARS)
    return [round(float(edge), 4) for edge in edges], counts.tolist()


def histogram_table(prices: list[float], currency: str) -> FittedTable:
    """The price histogram: a row for each bin. On a narrow terminal the bars are dropped, not the numbers."""
    edges, counts = price_bins(prices)
    rows = []
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        whole, eighths = divmod(round(8 * BAR_WIDTH * count / max(counts)), 8)
        bar = ("█" * whole + EIGHTHS[eighths]).rstrip() or ("▏" if count else "")
        digits = None if high < 100 else 0
        rows.append((format_money(low, currency, digits), format_money(high, currency, digits), f"{count:,}", bar))
    columns = [Column("from", right=True), Column("to", right=True), Column("items", right=True), Column("", drop=1)]
    return FittedTable("Prices", columns, rows)


def examples_table(catalog: Catalog) -> FittedTable:
    """Examples of each split. On a narrow terminal the text is dropped first, then the split."""
    rows = [
        (example["split"], format_money(example["price"], catalog.currency), example["title"], short_text(example))
        for example in find_examples(catalog)
    ]
    columns = [Column("split", drop=1), Column("price", right=True), Column("title", wraps=True)]
    return FittedTable("Examples", [*columns, Column("text", drop=2, wraps=True)], rows)


def short_text(example: Mapping[str, Any]) -> str:
    """The beginning of an example's text on one line; empty if it only repeats the title."""
    text = " | ".join(example["text"].split("\n"))
    return "" if text == example["title"] else text[:120]


def find_examples(catalog: Catalog) -> list[dict[str, Any]]:
    """The first items of each split. The file's order is that of a hash, so they are a fair sample."""
    examples: list[dict[str, Any]] = []
    names = ["split", "title", "category", "brand", "price", "text"]
    missing = dict.fromkeys(SPLITS, N_EXAMPLES)
    for batch in catalog.batches(names, 1_000):
        for row in batch.to_pylist():
            if missing[row["split"]]:
                missing[row["split"]] -= 1
                examples.append(row | {"title": row["title"][:120], "text": row["text"][:400]})
        if not any(missing.values()):
            break
    return sorted(examples, key=lambda row: SPLITS.index(row["split"]))


def catalog_card(ledger: Mapping[str, Any]) -> str:
    """The text of CARD.md. Nothing in it comes from a listing."""
    rows, splits, groups = ledger["rows"], ledger["splits"], ledger["groups"]
    low, high = (format_money(price, ledger["currency"]) for price in ledger["observed_range"])
    reasons = "".join(f"| {reason} | {count:,} |\n" for reason, count in rows["rejected"].items())
    columns = ledger["columns"]
    fields = ", ".join(f"{field} = `{code_span(columns[field])}`" for field in FIELDS if columns.get(field))
    left_out = "".join(f"* `{code_span(name)}`: {reason}\n" for name, reason in columns["left_out"].items())
    noise = groups["label_noise"]
    floor = (
        f"{noise['rows']:,} items have the same text as another item with another price; the median difference of "
        f"their prices is {noise['median_relative_difference']:.1%}."
        if noise["pairs"]
        else "No text has two prices."
    )
    cleaning, masked = ledger["cleaning"], ledger["masked"]
    part_numbers = "removed" if cleaning["drop_part_numbers"] else "kept"
    rewriting = "".join(f"{line}\n\n" for line in describe_rewriting(ledger))
    return f"""# {code_span(ledger["name"])}

A Pricesmith catalog: {rows["kept"]:,} items priced in {ledger["currency"]}, from {low} to {high}.

| split | items |
|---|--:|
{"".join(f"| {name} | {count:,} |" + chr(10) for name, count in splits.items())}
Rows read: {rows["in"]:,}. Kept: {rows["kept"]:,}. Rejected, each with its reason in `rejects.jsonl.gz`:

| reason | rows |
|---|--:|
{reasons}
## Columns

{fields}

{"Left out of the text:" if left_out else "No column was left out of the text."}

{left_out}
## Groups

{groups["count"]:,} near-duplicate groups, the largest with {groups["largest"]:,} items. Each group is in one split.
{groups["share_with_relatives"]:.1%} of the items have a near-duplicate. {groups["templates_split"]:,} groups of
template text were split by exact text.

{floor}

## Cleaning

A text has at most {cleaning["max_chars"]:,} characters; part numbers are {part_numbers}.
Every amount of money is masked: {masked["amounts"]:,} in {masked["listings"]:,} listings, of which
{masked["near_price"]:,} had an amount within 5 % of their own price.

{rewriting}Fingerprint: `{ledger["fingerprint"]}`
"""


def code_span(name: str) -> str:
    """A name that cannot end the code span it stands in, nor its line."""
    return " ".join(name.replace("`", "'").split())
