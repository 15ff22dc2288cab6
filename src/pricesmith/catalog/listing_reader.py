"""Reads raw rows to be priced as curate read the catalog's own files, so that a row becomes the same text.

The columns are chosen once for a file, by its header. Where that is the header of a file that the catalog was made
from, its column map is used; else one is chosen as curate would, with the catalog's `--map` and without the columns
that gave a price away there. A file without any column that the model knows is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pricesmith.catalog.clean import (
    CleanSettings,
    build_listing,
    cell_text,
    clean_columns,
    column_texts,
    field_text,
)
from pricesmith.catalog.columns import (
    USUAL,
    ColumnMap,
    NoTextColumn,
    choose_columns,
    column_key,
    exclusion_reason,
    format_header,
)
from pricesmith.catalog.leakage import drop_columns
from pricesmith.catalog.readers.feeds import OWN_KEYS, read_header
from pricesmith.catalog.readers.sources import Limits, RawRow, Source, category_from_stem, read_rows
from pricesmith.catalog.staging import get_id, get_ids
from pricesmith.catalog.variants import Variants, find_variants
from pricesmith.core.errors import UsageError
from pricesmith.core.settings import parse_settings
from pricesmith.core.types import Listing
from pricesmith.text.price_parser import find_price_word

MAP_HINT = (
    "Name the column that describes the items: --map title=COLUMN or --map text=COLUMN "
    "(in Python: mapping={'title': 'COLUMN'})."
)


@dataclass(frozen=True)
class ListingReader:
    """The column map, cleaning and category of one file, and the columns of text that the catalog's files had."""

    columns: ColumnMap
    cleaning: CleanSettings
    category: str
    known: frozenset[str]
    variants: Variants | None = None
    header: tuple[str, ...] = ()

    def listing(self, row: RawRow) -> Listing:
        """A row as curate makes a listing of it. Its id is its own, else the row's number."""
        name = get_id(row.values, self.columns) or str(row.number)
        return build_listing(row.values, self.columns, self.cleaning, id=name, category=self.category)

    def listings(self, rows: Sequence[Mapping[str, object]], numbers: Sequence[int]) -> list[Listing]:
        """`listing` of each row, column by column, which is faster. `numbers` are those of the rows in the file."""
        names = [id or str(number) for id, number in zip(get_ids(rows, self.columns), numbers, strict=True)]
        clean = clean_columns(rows, self.columns, self.cleaning, ids=names, category=self.category)
        return list(map(Listing, clean.ids, clean.titles, clean.texts, clean.categories, clean.brands))

    def says_nothing(self, values: Mapping[str, object], listing: Listing) -> bool:
        """Whether there is nothing to price by: neither title nor text, nor a value in a column the catalog had."""
        if not (listing.title or listing.text):
            return True
        columns = self.columns
        if field_text(values, columns.title).strip() or field_text(values, columns.text).strip():
            return False
        return not any(name in self.known and cell_text(values.get(name)).strip() for name in columns.extra)

    def find_empty(self, rows: Sequence[Mapping[str, object]], listings: Sequence[Listing]) -> list[int]:
        """The places of the rows that say nothing."""
        titles, texts = column_texts(rows, self.columns.title), column_texts(rows, self.columns.text)
        described = [
            bool((listing.title or listing.text) and (title.strip() or text.strip()))
            for listing, title, text in zip(listings, titles, texts, strict=True)
        ]
        doubtful = [place for place, known in enumerate(described) if not known]
        return [place for place in doubtful if self.says_nothing(rows[place], listings[place])]


def build_reader(source: Source, info: Mapping[str, Any], mapping: Mapping[str, str] | None = None) -> ListingReader:
    """The reader of a file's rows for a model, whose catalog.json is `info`; `mapping` is field -> column.

    Reads as far as the file's header; in JSON Lines, the first 20,000 rows. Raises UsageError if the model knows no
    column of the header, and InputError if the file cannot be read.
    """
    stream = read_rows(source, Limits())
    try:
        header = read_header(stream, source.format, [], Counter())
    finally:
        getattr(stream, "close", lambda: None)()
    category = category_from_stem(source.stem)
    own_keys = source.format in OWN_KEYS
    return reader_for_header(
        source.name, header, info, own_keys=own_keys, category=category, mapping=mapping, hint=MAP_HINT
    )


def reader_for_header(
    name: str,
    header: Sequence[str],
    info: Mapping[str, Any],
    *,
    own_keys: bool = False,
    category: str = "",
    mapping: Mapping[str, str] | None = None,
    hint: str = "",
) -> ListingReader:
    """The reader of rows with these columns for a model, whose catalog.json is `info`.

    `name` is what errors call the rows. `own_keys` says that each row has keys of its own, so a row may lack some.
    `category` is what the file's name says; it counts only if the catalog has that category. `mapping` is field ->
    column, as of `--map`. Raises UsageError, with `hint` as the next step, if the header has neither a title nor a text
    nor any column that the catalog's listings had.
    """
    maps = [parse_settings(ColumnMap, values, where="catalog.json") for values in info.get("maps") or [info["columns"]]]
    known = frozenset(
        column for known_map in maps for column in (*known_map.extra, known_map.title, known_map.text) if column
    )
    columns = None if mapping else matching_map(header, maps, own_keys=own_keys)
    if columns is None:
        try:
            columns = choose_map(header, maps, info, mapping or {}) if header else ColumnMap(price="")
        except NoTextColumn:
            raise unknown_columns(name, header, maps, hint) from None
    elif "price" not in info.get("map", {}):
        columns = with_own_prices(columns, header)
    if header and not (columns.title or columns.text or known.intersection(columns.extra)):
        raise unknown_columns(name, header, maps, hint)
    columns = completed(columns, header)
    if columns.category or category not in info.get("categories", ()):
        category = ""  # a name that the catalog never saw says nothing about the listing
    return ListingReader(
        columns,
        parse_settings(CleanSettings, info["cleaning"], where="catalog.json"),
        category,
        known,
        find_variants(header),
        tuple(header),
    )


def with_own_prices(columns: ColumnMap, header: Sequence[str]) -> ColumnMap:
    """A column map of the catalog with the prices of a header that has columns which the catalog's file did not have,
    chosen as curate chooses them."""
    if set(header) <= columns.names():
        return columns
    named = {field: name for field in ("title", "text") if (name := getattr(columns, field)) in header}
    try:
        own = choose_columns(header, named, priced=False)
    except NoTextColumn:
        return columns
    if not own.price:
        return columns
    return columns.model_copy(update={"price": own.price, "sale": own.sale, "sale_dates": own.sale_dates})


def completed(columns: ColumnMap, header: Sequence[str]) -> ColumnMap:
    """A column map with the id, category and brand that it lacks, found in the header by their usual names.

    A column that is read for something else already, or gives the price away, is not taken.
    """
    leaks = {name for name, reason in columns.left_out.items() if reason.startswith("leak")}
    used = {columns.title, columns.text, columns.price, columns.currency, *columns.extra, *leaks}
    by_key: dict[str, str] = {}
    for name in header:
        by_key.setdefault(column_key(name), name)
    fields: dict[str, str] = {}
    for field_name in ("id", "category", "brand"):
        own = getattr(columns, field_name)
        if own in header:
            used.add(own)
            continue
        free = (by_key[usual] for usual in USUAL[field_name].split() if usual in by_key)
        usable = next((name for name in free if name not in used and not find_price_word(name)), "")
        if usable:
            fields[field_name] = usable
            used.add(usable)
    return columns.model_copy(update=fields) if fields else columns


def matching_map(header: Sequence[str], maps: Sequence[ColumnMap], *, own_keys: bool) -> ColumnMap | None:
    """The map of the catalog's file that has this header, None where there is none. The nearest of several is taken.

    Columns that no pricer reads may differ: a file to be priced need not have a price. Where rows have their own keys
    (JSON Lines) those that a short file happens not to use may lack, but not what the thing is called.
    """
    names = set(header)
    near: list[tuple[int, int, int]] = []
    for place, columns in enumerate(maps):
        fields = (columns.title, columns.text, columns.category, columns.brand, columns.id)
        seen = {name for name in (*fields, *columns.extra) if name}
        unseen = {columns.price, columns.currency or "", *columns.left_out} - {""}
        here = {name for name in names if name in seen or not (name in unseen or exclusion_reason(name))}
        lacking = len(seen - here)
        named = {columns.title or columns.text} - {None}
        if here - seen or not named <= here or (lacking and not own_keys):
            continue
        near.append((lacking, len(names ^ (seen | unseen)), place))
    return maps[min(near)[2]] if near else None


def choose_map(
    header: Sequence[str], maps: Sequence[ColumnMap], info: Mapping[str, Any], mapping: Mapping[str, str]
) -> ColumnMap:
    """The column map of a header that no file of the catalog has, as curate would choose it.

    `mapping` (field -> column) comes before the catalog's own. Raises NoTextColumn if nothing describes the items.
    """
    chosen, taken = dict(mapping), {column_key(column) for column in mapping.values()}
    for field, wanted in info.get("map", {}).items():
        alike = [column for column in header if column == wanted] or [
            column for column in header if column_key(column) == column_key(wanted)
        ]
        if len(alike) == 1 and field not in chosen and column_key(alike[0]) not in taken:
            chosen[field] = alike[0]
            taken.add(column_key(alike[0]))
    columns = choose_columns(header, chosen, priced=False)
    leaks = {name: reason for known_map in maps for name, reason in known_map.left_out.items()}
    return drop_columns(columns, {**leaks, **parse_settings(ColumnMap, info["columns"], where="catalog.json").left_out})


def unknown_columns(name: str, header: Sequence[str], maps: Sequence[ColumnMap], hint: str) -> UsageError:
    """The error for rows without any column that a model knows."""
    known = dict.fromkeys(
        column for known_map in maps for column in (known_map.title, known_map.text, *known_map.extra) if column
    )
    usual = maps[0].title or maps[0].text or "title"
    return UsageError(
        f"{name} has no column that the model knows",
        got=format_header(header),
        allowed=f"at least one of {format_header([*known])}, or a usual name of a title or text",
        hint=hint or f"Rename the field that describes the item to {usual!r}.",
    )
