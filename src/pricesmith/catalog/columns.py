"""Which column of a file is its title, text and price; which a pricer may read; which give the price away.

One raw header: ["sku", "name", "price", "capacity", "price_per_gb"] becomes title `name`, price `price`,
id `sku`, one line of text `capacity: ...`, and `price_per_gb` stays out.

    >>> choose_columns(["sku", "name", "price", "capacity", "price_per_gb"], {}).left_out
    {'price_per_gb': 'leak: its name says price'}
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pydantic import Field

from pricesmith.catalog.local_names import LOCAL
from pricesmith.catalog.price_columns import PriceChoice, choose_price, leak_reason
from pricesmith.core.errors import UsageError
from pricesmith.core.settings import Settings
from pricesmith.text.price_parser import AMBIGUOUS, currency_in_name, find_price_word, name_words, parse_price, word_set

FIELDS = ("title", "text", "price", "currency", "category", "brand", "id", "source")

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
USUAL = {field: f"{names} {LOCAL[field]}" for field, names in USUAL.items()}

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


CENTS = re.compile(r"[0-9][.,][0-9]{2}(?![0-9])")
MONEY_NAMES = word_set("amt amount value total sum charge fee preis prix precio prezzo preco prijs pris cena hinta ar")
MINIMUM = re.compile(r"MAP(?:[\W\d_]+)?")
DATED = re.compile(r"(?<!\d)(?:\d{1,2}[./-]\d{1,2}[./-](?:19|20)\d{2}|(?:19|20)\d{2}(?:[./-]\d{1,2}){0,2})(?!\d)")
NAMELESS = re.compile(r"column \d+|Unnamed: \d+")  # ours for an empty name, and that of pandas


class ColumnMap(Settings):
    """The column map of one header.

    `extra` are the columns that become "Name: value" lines, in the file's order; `left_out` says of every
    other column why no pricer reads it. `sale` is the column of sale prices, which come before `price` in the rows that
    have one, but for rows with a value in one of `sale_dates`; these columns are in `left_out` too.
    """

    title: str | None = None
    text: str | None = None
    price: str
    currency: str | None = None
    category: str | None = None
    brand: str | None = None
    id: str | None = None
    source: str | None = None
    extra: tuple[str, ...] = ()
    left_out: dict[str, str] = Field(default_factory=dict)
    sale: str = ""
    sale_dates: tuple[str, ...] = ()

    def names(self) -> set[str]:
        """All columns of the header, whatever they are used for."""
        fields = (self.title, self.text, self.price, self.currency, self.category, self.brand, self.id, self.source)
        return {*(name for name in fields if name), *self.extra, *self.left_out}


def column_key(name: str) -> str:
    """A column's name without case, spaces and signs."""
    return re.sub(r"[\W_]+", "", name.casefold())


class NoPriceColumn(UsageError):
    """No column of a header is recognized as the price."""


class NoTextColumn(UsageError):
    """No column of a header describes the items."""


def choose_columns(
    header: Sequence[str],
    mapping: Mapping[str, str] | None = None,
    *,
    priced: bool = True,
    filled: Collection[str] | None = None,
    currency: str = "",
    kind_price: str = "",
    counts: Mapping[str, int] | None = None,
) -> ColumnMap:
    """The column map of a header: by `mapping` (field -> column), else by usual names.

    If `priced` is false the header needs no price, and one without a price has an empty name for it. `filled` are the
    columns with values: an empty column is chosen only if no other one has a usual name. Of several price columns that
    name a currency (`price_eur`), the one in `currency` is chosen. `price_columns` has the rule for prices:
    `kind_price` is the regular price that the kind of the file has, and `counts` are the values of each column in
    sample rows. A header may lack title and text if it has other columns to build a text from. Raises UsageError for an
    unknown field or column, NoPriceColumn without a price, and NoTextColumn if nothing describes the items.
    """
    chosen = {field: resolve_mapping(header, field, name) for field, name in (mapping or {}).items()}
    taken = set(chosen.values())
    if len(taken) < len(chosen):
        raise UsageError(
            "One column is mapped to two fields", got=format_mapping(mapping or {}), hint="Map each one once."
        )
    full = [name for name in header if filled is None or name in filled]
    empty = [name for name in header if name not in full]
    choice = PriceChoice()
    for field in USUAL:
        if field in chosen:
            continue
        usual = [*usual_columns(field, full, taken, currency), *usual_columns(field, empty, taken, currency)]
        name = next(iter(usual), "")
        if field == "price":
            options: dict[str, Any] = {"price": kind_price, "currency": currency, "counts": counts, "taken": taken}
            choice = choose_price(header, usual, **options, empty=empty)
            name = choice.price
        if name:
            chosen[field] = name
            taken.add(name)
    if "price" not in chosen:
        if priced:
            raise NoPriceColumn(
                "No column is recognized as the price",
                got=format_header(header),
                allowed=f"a column named {', '.join(USUAL['price'].split()[:4])} or similar",
                hint="Name the column of prices: --map price=COLUMN.",
            )
        chosen["price"] = ""
    extra, left_out = sort_columns([name for name in header if name not in taken], choice)
    if "title" not in chosen and "text" not in chosen and not extra:
        raise NoTextColumn(
            "No column describes the items",
            got=format_header(header),
            allowed="a title, a text, or other columns than prices, links, ids and dates",
            hint="Add a column that says what each item is.",
        )
    left = {"left_out": left_out, "sale": choice.sale, "sale_dates": choice.sale_dates}
    return ColumnMap(**chosen, extra=tuple(extra), **left)


def sort_columns(names: Sequence[str], choice: PriceChoice) -> tuple[list[str], dict[str, str]]:
    """The columns that become lines of the text, and the others with the reason."""
    extra, left_out = [], {}
    for name in names:
        if name == choice.sale:
            left_out[name] = "leak: the sale price, which is the price of the rows that have one"
        elif name in choice.sale_dates:
            left_out[name] = "leak: the dates of a sale"
        elif reason := exclusion_reason(name):
            left_out[name] = reason
        else:
            extra.append(name)
    return extra, left_out


def exclusion_reason(name: str) -> str:
    """The reason why a column of this name stays out of the text, or an empty text."""
    if word := find_price_word(name):
        return f"leak: its name says {word}"
    if MINIMUM.fullmatch(name):
        return "leak: its name says MAP (minimum advertised price)"
    if reason := leak_reason(name):
        return reason
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


def usual_columns(field: str, header: Sequence[str], taken: Collection[str], currency: str = "") -> list[str]:
    """The columns of a header with a usual name of a field that are not taken, the likeliest first.

    A price column may name its currency (`Price (INR)`, `price_eur`); one in `currency` comes first.
    """
    by_key: dict[str, str] = {}
    with_currency: dict[str, str] = {}
    preferred = []
    for name in header:
        if name in taken:
            continue
        by_key.setdefault(column_key(name), name)
        if field == "price" and (code := currency_in_name(name)):
            key = column_key(name).replace(code.lower(), "", 1)
            if code == currency and key in USUAL["price"].split():
                preferred.append(name)
            with_currency.setdefault(key, name)
    names = [columns[key] for columns in (by_key, with_currency) for key in USUAL[field].split() if key in columns]
    return list(dict.fromkeys([*preferred, *names]))


def price_candidates(header: Sequence[str], rows: Sequence[Mapping[str, object]]) -> list[str]:
    """The columns whose values in sample rows may be prices, the likeliest first.

    At least 4 in 5 values of such a column are positive amounts. A column whose name says money, whose values have
    currency signs or whose values have cents comes before one with plain numbers.
    """
    scored = []
    for place, name in enumerate(header):
        values = [value for row in rows if (value := row.get(name)) is not None and str(value).strip()]
        amounts = [parse_price(value, marks=",.") for value in values]
        numbers = [amount for amount in amounts if not isinstance(amount, str) or amount == AMBIGUOUS]
        if not values or len(numbers) < 0.8 * len(values) or exclusion_reason(name).startswith("provenance"):
            continue
        signs = sum(not isinstance(amount, str) and amount[1] is not None for amount in amounts) / len(values)
        cents = sum(bool(CENTS.search(str(value))) for value in values) / len(values)
        says_money = bool(find_price_word(name)) or not MONEY_NAMES.isdisjoint(name_words(name))
        scored.append((-4 * says_money - 2 * (signs > 0.5) - (cents > 0.3), place, name))
    return latest_first([name for _, _, name in sorted(scored)])


def latest_first(names: Sequence[str]) -> list[str]:
    """Names of columns with a price list's date in them (`PRICE 10/1/2018`) in the order of their dates, the latest
    first, where they are alike but for the date; other names keep their place."""
    ordered = list(names)
    by_stem: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        if DATED.search(name):
            by_stem.setdefault(DATED.sub("", name), []).append(place)
    for places in by_stem.values():
        newest = sorted((names[place] for place in places), key=date_in, reverse=True)
        for place, name in zip(places, newest, strict=True):
            ordered[place] = name
    return ordered


def date_in(name: str) -> tuple[int, ...]:
    """The date in a name as numbers that sort: `10/1/2018` as month first, `1.10.2018` as day first."""
    match = DATED.search(name)
    numbers = [int(number) for number in re.split(r"\D+", match[0])] if match else []
    if len(numbers) == 3 and numbers[2] > 31:
        first, second, year = numbers
        return (year, second, first) if match and "." in match[0] else (year, first, second)
    return tuple(numbers)


def title_candidate(header: Sequence[str], rows: Sequence[Mapping[str, object]]) -> str:
    """The column whose values in sample rows look most like titles: different texts of several words; may be empty."""
    best, most = "", 1.5
    for name in header:
        texts = [value for row in rows if isinstance(value := row.get(name), str) and value.strip()]
        if len(texts) < len(rows) / 2 or len(set(texts)) < len(texts) / 2:
            continue
        words = sum(len(text.split()) for text in texts) / max(len(texts), 1)
        if words > most:
            best, most = name, words
    return best


def format_header(header: Sequence[str]) -> str:
    """A header as one line of bounded length."""
    shown = ", ".join(repr(name[:60]) for name in header[:30]) or "no columns"
    return shown + (f" and {len(header) - 30} more" if len(header) > 30 else "")


def format_mapping(mapping: Mapping[str, str]) -> str:
    return ", ".join(f"{field}={name}" for field, name in mapping.items())
