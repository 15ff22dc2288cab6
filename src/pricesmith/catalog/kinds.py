"""Kinds of product files, recognized by their headers: the one table of what each kind's columns mean.

    >>> find_kind(["Handle", "Title", "Option1 Name", "Variant Price"]).label
    'Shopify product export'

A kind says which columns are used before the usual names (`columns.USUAL`), which rows are one product (`variants`),
and which columns are settings of the shop and no facts of the thing. `--kind` chooses one by name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from pricesmith.catalog.columns import ColumnMap, column_key
from pricesmith.catalog.variants import GROUP_KEYS, Variants, find_variants
from pricesmith.core.errors import UsageError

SETTINGS = "settings of the shop"


@dataclass(frozen=True)
class Kind:
    """One kind of file. Column names are keys (`column_key`)."""

    name: str
    label: str
    needs: tuple[frozenset[str], ...]  # of each set, a column is there
    columns: Mapping[str, str] = field(default_factory=dict)  # field -> columns, the first that is there
    ignored: re.Pattern[str] | None = None  # columns that are settings of the shop
    variants: bool = False  # whether its rows name their products in its own way
    names_currency: bool = True  # whether the format has a place for the currency

    def fits(self, keys: Collection[str]) -> bool:
        """Whether a header has what this kind needs."""
        return all(not choice.isdisjoint(keys) for choice in self.needs)


def one_of(*choices: str) -> tuple[frozenset[str], ...]:
    """Sets of column keys, from texts with spaces between them."""
    return tuple(frozenset(choice.split()) for choice in choices)


TABLE = Kind("table", "table", ())
KINDS = (
    Kind(
        "shopify",
        "Shopify product export",
        one_of("handle urlhandle", "title", "variantprice option1name option1value"),
        {"title": "title", "text": "bodyhtml description", "price": "variantprice price", "brand": "vendor"},
        re.compile(
            r"published.*|status|(?:variant)?inventory.*|continueselling.*|(?:variant)?fulfillmentservice"
            r"|(?:variant)?requiresshipping|varianttaxable|chargetax|(?:variant)?taxcode|giftcard|option\dlinkedto"
            r"|included.*|seotitle|seodescription|variantweightunit|weightunitfordisplay"
            r"|googleshopping(?:adwords.*|adgroupname|adslabels|customlabel\d|customproduct)"
        ),
        variants=True,
        names_currency=False,
    ),
    Kind(
        "woocommerce",
        "WooCommerce product export",
        one_of(
            "type typ tipo",
            "sku id ugs artikelnummer",
            "regularprice regulärerpreis precionormal tarifrégulier",
            "parent visibilityincatalog übergeordnetesprodukt superior sichtbarkeitimkatalog",
        ),
        {"price": "regularprice regulärerpreis precionormal tarifrégulier"},
        re.compile(
            r"published|isfeatured|visibilityincatalog|taxstatus|taxclass|instock|stock|lowstockamount|backordersallowed"
            r"|soldindividually|allowcustomerreviews|purchasenote|downloadlimit|downloadexpirydays|position|type"
            r"|groupedproducts|upsells|crosssells|buttontext|meta.*|attribute\d+(?:visible|global|default)|parent"
        ),
        variants=True,
        names_currency=False,
    ),
    Kind(
        "magento",
        "Magento product export",
        one_of(
            "sku",
            "producttype superproductssku",
            "configurablevariations storeviewcode attributesetcode superproductssku",
        ),
        {"title": "name", "price": "price", "text": "description shortdescription", "category": "categories category"},
        re.compile(
            r"useconfig.*|.*date|storeviewcode|productwebsites?|websiteids?|productonline|taxclassname|visibility"
            r"|meta.*|.*qty|isinstock|managestock|.*image.*|displayproductoptionsin|custom.*|pagelayout|giftmessage.*"
            r"|mapenabled|related.*|crosssell.*|upsell.*|configurablevariation.*|bundle.*|associatedskus|(?:cre|upd)atedat"
            r"|.*backorders|notifyonstockbelow|qtyincrements|enableqtyincrements|is(?:qty)?decimal.*|deferredstockupdate"
            r"|superproductssku|newsfrom.*|newsto.*|hide.*|attributesetcode|producttype|status"
        ),
        variants=True,
        names_currency=False,
    ),
    Kind(
        "merchant",
        "Google Merchant feed",
        one_of(
            "id gid", "title gtitle", "price gprice", "link glink", "availability gavailability imagelink gimagelink"
        ),
        {
            "title": "title gtitle",
            "text": "description gdescription",
            "price": "price gprice",
            "category": "producttype gproducttype googleproductcategory ggoogleproductcategory",
            "brand": "brand gbrand",
            "id": "id gid",
        },
        re.compile(
            r"g?(?:availability|identifierexists|shipping(?!weight).*|tax.*|adslabels|adsgrouping|customlabel\d"
            r"|(?:in|ex)cludeddestination|.*handlingtime|transittimelabel|paymentnotes|sellonlinequantity|promotionid)"
        ),
    ),
    Kind(
        "amazon-2023",
        "Amazon Reviews 2023 metadata",
        one_of("parentasin", "title", "price", "maincategory averagerating store"),
        {"id": "parentasin", "category": "maincategory categories"},
        re.compile(r"boughttogether|videos?"),
    ),
    Kind(
        "amazon-2018",
        "Amazon Reviews 2018 metadata",
        one_of("asin", "title", "price", "alsobuy alsoview similaritem alsoviewed related"),
        {"id": "asin"},
        re.compile(r"also.*|similaritem|rank|salesrank|fit|related"),
    ),
    Kind(
        "mercari",
        "Mercari listings",
        one_of("name", "itemconditionid", "itemdescription", "shipping"),
        {"title": "name", "text": "itemdescription", "price": "price", "category": "categoryname"},
    ),
    Kind(
        "schema.org",
        "schema.org products",
        one_of("name", "price", "pricecurrency"),
        {"title": "name", "price": "price", "currency": "pricecurrency"},
        re.compile("availability"),
    ),
    TABLE,
)
BY_NAME = {kind.name: kind for kind in KINDS}


def keys_of(header: Sequence[str]) -> dict[str, str]:
    """The first column of each key."""
    columns: dict[str, str] = {}
    for name in header:
        columns.setdefault(column_key(name), name)
    return columns


def find_kind(header: Sequence[str], name: str = "") -> Kind:
    """The kind that a header fits, or the one of a name (`--kind`). Raises UsageError for one that it does not fit."""
    keys = keys_of(header)
    if not name:
        return next(kind for kind in KINDS if kind.fits(keys))
    kind = BY_NAME.get(name.lower())
    if kind is None:
        raise UsageError(f"There is no kind {name!r}", got=name, allowed=", ".join(BY_NAME), hint="Leave --kind out.")
    if not kind.fits(keys):
        missing = next(choice for choice in kind.needs if choice.isdisjoint(keys))
        raise UsageError(
            f"This is no {kind.label}: it has no such column",
            got=f"--kind {kind.name}",
            allowed=f"a file with a column named {' or '.join(sorted(missing))}",
            hint=f"Use --kind {find_kind(header).name}.",
        )
    return kind


def own_columns(kind: Kind, header: Sequence[str], mapping: Mapping[str, str], currency: str = "") -> dict[str, str]:
    """field -> column of a header, as the kind has it, for what `mapping` leaves open."""
    keys = keys_of(header)
    taken = {column_key(name) for name in mapping.values()}
    chosen: dict[str, str] = {}
    for name, choices in kind.columns.items():
        column = next((keys[key] for key in choices.split() if key in keys and key not in taken), "")
        if column and name not in mapping:
            chosen[name] = column
            taken.add(column_key(column))
    return chosen


def without_settings(columns: ColumnMap, kind: Kind, keep: Collection[str] = ()) -> ColumnMap:
    """The column map without the columns that are settings of the shop."""
    if kind.ignored is None:
        return columns
    settings = [name for name in columns.extra if name not in keep and kind.ignored.fullmatch(column_key(name))]
    extra = tuple(name for name in columns.extra if name not in settings)
    if not settings or not (extra or columns.title or columns.text):
        return columns
    left_out = {**columns.left_out, **dict.fromkeys(settings, SETTINGS)}
    return columns.model_copy(update={"extra": extra, "left_out": left_out})


def variants_of(kind: Kind, header: Sequence[str]) -> Variants | None:
    """How rows of a file of this kind name their product, None if they do not."""
    variants = find_variants(header)
    if variants is None or variants.kind == kind.name or (variants.kind == "group" and not kind.variants):
        return variants
    keys = keys_of(header)
    return None if GROUP_KEYS.keys().isdisjoint(keys) else Variants("group", keys)
