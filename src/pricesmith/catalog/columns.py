"""Which column of a file is its title, text and price; which a pricer may read; which give the price away.

One raw header: ["sku", "name", "price", "capacity", "price_per_gb"] becomes title `name`, price `price`,
id `sku`, one line of text `capacity: ...`, and `price_per_gb` stays out.

    >>> choose(["sku", "name", "price", "capacity", "price_per_gb"], {}).left_out
    {'price_per_gb': 'leak: its name says price'}
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

from pydantic import Field

from pricesmith.core.errors import UsageError
from pricesmith.core.settings import Settings
from pricesmith.text.price_parser import find_price_word, name_words, word_set

FIELDS = ("title", "text", "price", "currency", "category", "brand", "id")

# Usual names, the likeliest first, compared without case, spaces and signs.
USUAL = {
    "title": "title name producttitle productname itemtitle itemname listingtitle listingname articlename",
    "text": """description text body bodyhtml productdescription itemdescription longdescription
        fulldescription descriptionhtml listingdescription content shortdescription features about""",
    "price": """price variantprice productprice itemprice sellingprice currentprice unitprice finalprice
        priceusd pricevalue retailprice priceamount amount regularprice""",
    "currency": "currency currencycode pricecurrency variantcurrency",
    "category": """category productcategory categoryname maincategory categories producttype
        googleproductcategory""",
    "brand": "brand brandname vendor manufacturer maker make store",
    "id": "id sku variantsku productid itemid listingid articleid asin parentasin trainid testid uid uuid",
}

# Words that say where a row came from, not what the thing is: anywhere in a name, at its end, all of it.
CODES = word_set("id ids sku skus gtin barcode ean upc isbn asin mpn uuid guid url urls uri href permalink slug")
LAST = word_set("link links date dates datetime timestamp timestamps")
WHOLE = word_set(
    """source handle video videos crawled scraped created updated modified datasource sourcefile sourcename website
    domain filename filepath index rowindex rownumber boughttogether"""
)
PICTURE = word_set("image images img imgs picture pictures photo photos thumbnail thumbnails thumb")
PICTURE_PART = word_set(
    """src path file files name names position alt text product variant main additional primary large small
    hi res high medium count list hash data"""
)
AT = word_set("created updated modified published posted scraped crawled listed fetched deleted added seen retrieved")
WHEN = {*LAST, *AT, *word_set("on at first last day time available")}


NAMELESS = re.compile(r"column \d+|Unnamed: \d+")  # ours for an empty name, and that of pandas


class ColumnMap(Settings):
    """The column map of one header.

    `extra` are the columns that become "Name: value" lines, in the file's order; `left_out` says of every
    other column why no pricer reads it.
    """

    title: str | None = None
    text: str | None = None
    price: str
    currency: str | None = None
    category: str | None = None
    brand: str | None = None
    id: str | None = None
    extra: tuple[str, ...] = ()
    left_out: dict[str, str] = Field(default_factory=dict)

    def names(self) -> set[str]:
        """All columns of the header, whatever they are used for."""
        fields = (self.title, self.text, self.price, self.currency, self.category, self.brand, self.id)
        return {*(name for name in fields if name), *self.extra, *self.left_out}


def column_key(name: str) -> str:
    """A column's name without case, spaces and signs."""
    return re.sub(r"[\W_]+", "", name.casefold())


def choose_columns(
    header: Sequence[str], mapping: Mapping[str, str] | None = None, *, priced: bool = True
) -> ColumnMap:
    """The column map of a header: by `mapping` (field -> column), else by usual names.

    Where `priced` is false the header needs no price; one without has an empty name for it.
    Raises UsageError for an unknown field or column, and where there is no price, or neither title nor text.
    """
    chosen = {field: resolve_mapping(header, field, name) for field, name in (mapping or {}).items()}
    taken = set(chosen.values())
    if len(taken) < len(chosen):
        raise UsageError(
            "One column is mapped to two fields", got=format_mapping(mapping or {}), hint="Map each one once."
        )
    by_key: dict[str, str] = {}
    for name in header:
        by_key.setdefault(column_key(name), name)
    for field, names in USUAL.items():
        if field in chosen:
            continue
        for usual in names.split():
            if usual in by_key and by_key[usual] not in taken:
                chosen[field] = by_key[usual]
                taken.add(by_key[usual])
                break
    if "price" not in chosen:
        if priced:
            raise missing_column_error("price", header)
        chosen["price"] = ""
    if "title" not in chosen and "text" not in chosen:
        raise missing_column_error("title", header)
    extra, left_out = [], {}
    for name in header:
        if name in taken:
            continue
        if reason := exclusion_reason(name):
            left_out[name] = reason
        else:
            extra.append(name)
    return ColumnMap(**chosen, extra=tuple(extra), left_out=left_out)


def exclusion_reason(name: str) -> str:
    """The reason why a column of this name stays out of the text, or an empty text."""
    if word := find_price_word(name):
        return f"leak: its name says {word}"
    if NAMELESS.fullmatch(name):
        return "it has no name"
    parts = name_words(name)
    rest = [part for part in parts if not part.isdigit()]
    if not rest:
        return ""
    picture = any(part in PICTURE for part in rest) and all(
        part in PICTURE or part in PICTURE_PART or part in CODES or part in LAST for part in rest
    )
    code = any(re.sub(r"\d+$", "", part) in CODES for part in parts) and "condition" not in parts
    dated = rest[-1] in LAST or (len(rest) > 1 and WHEN.issuperset(rest) and not (LAST | AT).isdisjoint(rest))
    dated = dated or (rest[-1] == "at" and not AT.isdisjoint(rest))
    if picture or code or dated or "".join(rest) in WHOLE or (rest[0] in PICTURE and len(rest) == 1):
        return "provenance: says where the row came from, not what the thing is"
    return ""


def resolve_mapping(header: Sequence[str], field: str, name: str) -> str:
    """The header's column that `--map field=name` means: exactly, or but for case, spaces and signs."""
    if field not in FIELDS:
        near = difflib.get_close_matches(field, FIELDS, n=1)
        raise UsageError(
            f"--map: there is no field {field!r}",
            got=f"{field}={name}",
            allowed=", ".join(FIELDS),
            hint=f"Did you mean {near[0]}={name}?" if near else "Write --map field=column.",
        )
    if name in header:
        return name
    alike = [column for column in header if column_key(column) == column_key(name)]
    if len(alike) == 1:
        return alike[0]
    near = difflib.get_close_matches(name, list(header), n=1)
    raise UsageError(
        f"--map: the file has no column {name!r}",
        got=f"{field}={name}",
        allowed=format_header(header),
        hint=f"Did you mean --map '{field}={near[0]}'?" if near else "Name one of its columns.",
    )


def missing_column_error(field: str, header: Sequence[str]) -> UsageError:
    """The error for a header without a column that is needed."""
    what = "price" if field == "price" else "title or text"
    return UsageError(
        f"No column is known as the {what}",
        got=format_header(header),
        allowed=f"a column named {', '.join(USUAL[field].split()[:4])} or the like",
        hint=f"Name it: --map {field}=COLUMN.",
    )


def format_header(header: Sequence[str]) -> str:
    """A header as one line of bounded length."""
    shown = ", ".join(repr(name[:60]) for name in header[:30]) or "no columns"
    return shown + (f" and {len(header) - 30} more" if len(header) > 30 else "")


def format_mapping(mapping: Mapping[str, str]) -> str:
    return ", ".join(f"{field}={name}" for field, name in mapping.items())
