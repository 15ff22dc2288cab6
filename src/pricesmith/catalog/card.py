"""CARD.md: a catalog told to a person who finds the folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pricesmith.text.formatting import format_money


def catalog_card(ledger: Mapping[str, Any]) -> str:
    """The card's text. Nothing of it comes from a listing."""
    rows, splits, groups = ledger["rows"], ledger["splits"], ledger["groups"]
    low, high = (format_money(price, ledger["currency"]) for price in ledger["price_range"])
    reasons = "".join(f"| {reason} | {count:,} |\n" for reason, count in rows["rejected"].items())
    columns = ledger["columns"]
    fields = ", ".join(f"{name} = `{columns[name]}`" for name in FIELDS if columns[name])
    out = "".join(f"* `{tick(name)}`: {reason}\n" for name, reason in columns["left_out"].items())
    noise = groups["label_noise"]
    floor = (
        f"{noise['rows']:,} items share their text with another price; their prices differ by "
        f"{noise['median_relative_difference']:.1%} (median)."
        if noise["pairs"]
        else "No text comes with two prices."
    )
    cleaning, masked = ledger["cleaning"], ledger["masked"]
    return f"""# {tick(ledger["name"])}

A Pricesmith catalog: {rows["kept"]:,} items priced in {ledger["currency"]}, from {low} to {high}.

| split | items |
|---|--:|
{"".join(f"| {name} | {count:,} |" + chr(10) for name, count in splits.items())}
Rows read: {rows["in"]:,}. Kept: {rows["kept"]:,}. Refused, each with its reason in `rejects.jsonl.gz`:

| reason | rows |
|---|--:|
{reasons}
## Columns

{fields}

{"Left out of the text:" if out else "No column was left out of the text."}

{out}
## Groups

{groups["count"]:,} groups of near-duplicates, the largest of {groups["largest"]:,}; each is on one side of the
split. {groups["share_with_relatives"]:.1%} of the items have a relative. {groups["templates_split"]:,} groups
of template text were split again by exact text.

{floor}

## Cleaning

A text is at most {cleaning["max_chars"]:,} characters; part-numbers are {"taken out" if cleaning["drop_part_numbers"] else "kept"}.
Every amount of money is masked: {masked["amounts"]:,} in {masked["listings"]:,} listings, of which
{masked["near_price"]:,} had one within 5 % of their own price.

Fingerprint: `{ledger["fingerprint"]}`
"""


FIELDS = ("title", "text", "price", "currency", "category", "brand", "id")


def tick(name: str) -> str:
    """A name that cannot end the code span it stands in, nor its line."""
    return " ".join(name.replace("`", "'").split())
