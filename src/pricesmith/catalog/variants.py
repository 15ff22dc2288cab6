"""Feeds in which variants of a product take their title and text from the product's row: Shopify, WooCommerce, Magento.

One Shopify product, of which only the first row has a title:
    hose,Garden hose,25 m of rubber,Acme,Length,25 m,24.50
    hose,,,,,50 m,39.00
The second row becomes {"Handle": "hose", "Title": "Garden hose", ..., "Option1 Value": "50 m", "Variant Price": 39.00}.
The handle names the group that stays on one side of the split. Formats: help.shopify.com (products CSV), WooCommerce's
product export (columns Type and Parent), Magento's (configurable_variations, _super_products_sku), and any feed with a
column such as item_group_id.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from pricesmith.catalog.clean import cell_text
from pricesmith.catalog.columns import USUAL, column_key
from pricesmith.catalog.readers.messages import Value
from pricesmith.catalog.readers.sources import BadRow, RawRow
from pricesmith.text.price_parser import NO_PRICE

PICTURE = "picture row of a product"
ORPHAN = "variant without its product's row before it"
PARENT = "product row without a price"
EXTRA = "extra row of a product"
MEMORY = 30_000_000  # characters of product rows that are remembered
GROUP_KEYS = {  # columns that name the product of a row, and the columns that name the product itself in its own row
    "itemgroupid": (),
    "gitemgroupid": (),
    "productgroupid": (),
    "variantgroupid": (),
    "inproductgroupwithid": (),
    "parentasin": ("asin",),
    "parentsku": ("sku",),
    "mastersku": ("sku",),
    "parentproductid": ("productid", "id"),
}
INHERITED = frozenset(
    f"""{USUAL["title"]} {USUAL["text"]} {USUAL["brand"]} {USUAL["category"]} brands tags type producttags""".split()
)
TRANSLATED = {  # WooCommerce writes its headers in the language of the shop: German, Spanish, French
    "type": "typ tipo",
    "parent": "übergeordnetesprodukt superior",
    "sku": "artikelnummer ugs",
    "regularprice": "regulärerpreis precionormal tarifrégulier",
}
TITLES = tuple(USUAL["title"].split())
# Columns of a Shopify export that belong to one variant or one picture; all others belong to the product.
OF_A_VARIANT = re.compile(
    r"variant|image|productimage|price|compareat|cost|unitprice|inventory|weight|barcode|sku|included|chargetax|taxcode"
    r"|requiresshipping|fulfillment|continueselling|option\d(?:value|linkedto)|.*variantmetafields"
)
VARIATIONS = re.compile(r"(?:^|\|)\s*sku=([^,|]+)")


class ProductRows:
    """The latest product rows by the names that variants call them, up to `MEMORY` characters."""

    def __init__(self) -> None:
        self.known: OrderedDict[str, dict[str, Value]] = OrderedDict()
        self.size = 0

    def add(self, names: Sequence[str], values: dict[str, Value]) -> None:
        """Remember a product's row, and forget the oldest ones."""
        for name in names:
            self.size += size_of(values) - size_of(self.known.pop(name, {}))
            self.known[name] = values
        while self.size > MEMORY and len(self.known) > 1:
            self.size -= size_of(self.known.popitem(last=False)[1])


def size_of(values: Mapping[str, Value]) -> int:
    """The characters of a row."""
    return sum(len(cell_text(value)) for value in values.values())


@dataclass(frozen=True)
class Variants:
    """How the rows of a feed name their product. `columns` are the header's names by their keys."""

    kind: str  # shopify, woocommerce, magento or group
    columns: Mapping[str, str]

    def value(self, values: Mapping[str, object], *keys: str) -> str:
        """The first of these columns that has a value in a row."""
        for key in keys:
            if key in self.columns and (text := cell_text(values.get(self.columns[key])).strip()):
                return text
        return ""

    @property
    def group_columns(self) -> str:
        """The columns by which rows are one product."""
        by = {"shopify": "Handle", "woocommerce": "Parent", "magento": "sku and configurable_variations"}
        return by.get(self.kind) or next(self.columns[key] for key in GROUP_KEYS if key in self.columns)

    def describe(self) -> str:
        """A note for the user on how variants are grouped."""
        rows = f"rows of one product (by {self.group_columns})"
        return f"{rows} stay on one side of the split; variants inherit what they leave empty"

    def group_of(self, values: Mapping[str, object]) -> str:
        """The name of the product that a row belongs to, empty if it names none."""
        if self.kind == "shopify":
            handle = self.value(values, "handle", "urlhandle")
            return f"handle {handle}" if handle else ""
        if self.kind == "magento":
            sku = self.value(values, "sku")
            return f"sku {sku}" if sku else ""
        if self.kind == "woocommerce":
            parent = self.value(values, "parent")
            if not parent and self.value(values, "type").lower().startswith("variable"):
                return self.own_name(values)
            return f"woo {parent.lower().replace(' ', '')}" if parent else ""
        own = next(key for key in GROUP_KEYS if key in self.columns)
        named = self.value(values, own, *GROUP_KEYS[own])
        return f"{own} {named}" if named else ""

    def own_name(self, values: Mapping[str, object]) -> str:
        """The name by which variants call this row their product, empty if they cannot."""
        if self.kind == "woocommerce":
            sku = self.value(values, "sku")
            name = sku or f"id:{self.value(values, 'id')}"
            return f"woo {name.lower().replace(' ', '')}"
        return self.group_of(values)

    def names(self, values: Mapping[str, object]) -> list[str]:
        """All names by which variants may call this row their product."""
        names = [self.own_name(values)]
        if self.kind == "woocommerce" and (number := self.value(values, "id")):
            names.append(f"woo id:{number}")
        return [name for name in names if name]

    def links_of(self, values: Mapping[str, object]) -> list[str]:
        """The groups of the variants that a product's row lists: they belong to the group of this row."""
        if self.kind != "magento":
            return []
        listed = VARIATIONS.findall(self.value(values, "configurablevariations"))
        return [f"sku {sku.strip()}" for sku in (*listed, self.value(values, "superproductssku")) if sku.strip()]

    def reason(self, values: Mapping[str, object], reason: str) -> str:
        """The name of the reason why a row has no price: those of products whose variants have one get their own."""
        if reason != NO_PRICE:
            return reason
        kind = self.value(values, "type", "producttype").lower()
        if self.kind == "woocommerce":
            return PARENT if kind.startswith(("variable", "grouped")) else reason
        if self.kind == "magento":
            if self.value(values, "superproductssku", "storeviewcode") or not self.value(values, "name", "producttype"):
                return EXTRA
            return PARENT if kind in ("configurable", "grouped", "bundle") else reason
        return reason

    def inherit(self, batches: Iterable[Sequence[RawRow | BadRow]]) -> Iterator[list[RawRow | BadRow]]:
        """The rows of a feed with what variants leave empty taken from their product's row. Numbers stay.

        Product rows are remembered up to a limit, so that memory stays the same whatever the length of a file; a
        nameless variant whose product's row was not met, or too long ago, is a row with a reason.
        """
        memory = ProductRows()
        last = ""
        for batch in batches:
            made: list[RawRow | BadRow] = []
            for row in batch:
                if isinstance(row, BadRow):
                    made.append(row)
                elif self.kind == "magento":
                    last = self.value(row.values, "sku") or last
                    made.append(self.with_sku(row, last))
                else:
                    row = self.without_placeholder(row)
                    filled = self.filled(row, memory.known)
                    made.append(filled)
                    if filled is row and (values := self.inherited(row.values)):
                        memory.add(self.names(row.values), values)
            yield made

    def with_sku(self, row: RawRow, sku: str) -> RawRow:
        """A row that continues the product above it, as Magento 1 writes them, under that product's SKU."""
        if self.value(row.values, "sku") or not sku:
            return row
        return replace(row, values={**row.values, self.columns["sku"]: sku})

    def without_placeholder(self, row: RawRow) -> RawRow:
        """Shopify's row of a product without variants, without the words "Title: Default Title"."""
        if self.kind != "shopify" or self.value(row.values, "option1value") != "Default Title":
            return row
        names = [self.columns[key] for key in ("option1name", "option1value") if key in self.columns]
        return replace(row, values={**row.values, **dict.fromkeys(names, "")})

    @cached_property
    def inherited_columns(self) -> list[str]:
        """The columns that variants may take from their product's row."""
        if self.kind == "shopify":
            return [name for key, name in self.columns.items() if not OF_A_VARIANT.match(key)]
        skipped = {"type"} if self.kind == "woocommerce" else set()
        return [name for key, name in self.columns.items() if key in INHERITED - skipped]

    def inherited(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """What variants may take from a row; nothing from a row without a title."""
        if not self.value(values, *TITLES):
            return {}
        return {name: value for name in self.inherited_columns if cell_text(value := values.get(name)).strip()}

    def filled(self, row: RawRow, known: Mapping[str, dict[str, Value]]) -> RawRow | BadRow:
        """A variant with its product's values where it has none; another row as it is."""
        values = row.values
        if self.kind == "shopify":
            if self.value(values, "title"):
                return row
            price = ("variantprice", "price", "variantsku", "sku")
            if not self.value(values, "option1value", "option2value", "option3value", *price):
                return BadRow(row.file, row.number, PICTURE)
        elif self.kind == "woocommerce":
            if not self.value(values, "parent"):
                return row
        elif self.value(values, *TITLES):
            return row
        product = known.get(self.group_of(values))
        if product is None:
            nameless = not self.value(values, *TITLES)
            return BadRow(row.file, row.number, ORPHAN) if nameless and self.group_of(values) else row
        empty = {name: value for name, value in product.items() if not cell_text(values.get(name)).strip()}
        return replace(row, values={**values, **empty}) if empty else replace(row)


def find_variants(header: Sequence[str]) -> Variants | None:
    """How rows of a feed with this header name their product, None if they do not."""
    columns: dict[str, str] = {}
    for name in header:
        columns.setdefault(column_key(name), name)
    seen = columns.keys()
    if seen & {"handle", "urlhandle"} and "title" in seen and seen & {"variantprice", "option1name", "option1value"}:
        return Variants("shopify", columns)
    for key, names in TRANSLATED.items():
        if local := next((columns[name] for name in names.split() if name in columns), ""):
            columns.setdefault(key, local)
    seen = columns.keys()
    if {"type", "parent"} <= seen and seen & {"sku", "id"} and seen & {"regularprice", "visibilityincatalog"}:
        return Variants("woocommerce", columns)
    if "sku" in seen and (
        "superproductssku" in seen
        or ("producttype" in seen and seen & {"configurablevariations", "storeviewcode", "attributesetcode"})
    ):
        return Variants("magento", columns)
    if not GROUP_KEYS.keys().isdisjoint(seen):
        return Variants("group", columns)
    return None
