"""What `PriceModel.predict` accepts and returns.

    text, or a list of texts           the first line is the title
    dict, or a list of dicts           by the catalog's columns, or by title, text, category and brand
    Listing, or a list of Listings
    DataFrame                          of pandas, polars or pyarrow; comes back with price, low, high and note

Raw text and raw rows are cleaned exactly as `pricesmith curate` cleaned the catalog, and masked alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from pricesmith.catalog.clean import CleanSettings, build_listing
from pricesmith.catalog.columns import ColumnMap
from pricesmith.catalog.dataframes import FrameT, add_columns, build_rows, is_dataframe, to_raw_rows
from pricesmith.catalog.listing_reader import reader_for_header
from pricesmith.core.errors import UsageError
from pricesmith.core.settings import parse_settings
from pricesmith.core.types import Item, Listing, Quote

Described: TypeAlias = str | Mapping[str, Any] | Listing  # one listing, in any of its forms
NOTHING_SIMILAR = "nothing similar in the training data: the price is a guess"
NO_TEXT = "no title and no text"
ALLOWED = "a text, a dict, a Listing, a list of these, or a DataFrame of pandas, polars or pyarrow"
TEXT_COLUMNS = ColumnMap(title="title", text="text", price="")


@dataclass(frozen=True)
class ModelInput:
    """The listings of one call. `single` says that the caller gave one, not a list; `empty` are the places of rows
    that hold neither a title nor a text nor a value in a column of the catalog."""

    listings: list[Listing]
    single: bool = False
    empty: frozenset[int] = frozenset()


def read_input(value: Any, info: Mapping[str, Any]) -> ModelInput:
    """The listings of a text, a dict, a Listing, a list of these, or a DataFrame; `info` is the model's catalog.json.

    Raises UsageError for anything else, and for rows whose columns show neither a title nor a text.
    """
    if isinstance(value, str | Mapping | Listing):
        whole = read_list([value], info)
        return ModelInput(whole.listings, True, whole.empty)
    if isinstance(value, Item):
        raise not_a_listing(value)
    if is_dataframe(value):
        rows = to_raw_rows(value)
        return read_rows("the DataFrame", rows, list(rows[0].values) if rows else [], info, own_keys=False)
    if not isinstance(value, Iterable) or isinstance(value, bytes):
        raise not_a_listing(value)
    return read_list(list(value), info)


def read_list(values: Sequence[Any], info: Mapping[str, Any]) -> ModelInput:
    """The listings of a list, whose members may be of different forms."""
    wrong = next((value for value in values if not isinstance(value, str | Mapping | Listing)), None)
    if wrong is not None:
        raise not_a_listing(wrong)
    listings: list[Listing | None] = [value if isinstance(value, Listing) else None for value in values]
    cleaning = parse_settings(CleanSettings, info["cleaning"], where="catalog.json")
    for place, value in enumerate(values):
        if isinstance(value, str):
            title, _, rest = value.strip().partition("\n")
            row = {"title": title, "text": rest}
            listings[place] = build_listing(row, TEXT_COLUMNS, cleaning, id=str(place + 1))
    empty: set[int] = set()
    places = [place for place, value in enumerate(values) if isinstance(value, Mapping)]
    if places:
        rows = build_rows("the dict" if len(places) == 1 else "the dicts", [values[place] for place in places])
        header = list(dict.fromkeys(name for row in rows for name in row.values))
        read = read_rows(rows[0].file, rows, header, info, own_keys=True)
        for place, listing in zip(places, read.listings, strict=True):
            listings[place] = listing
        empty = {places[number] for number in read.empty}
    return ModelInput([listing for listing in listings if listing is not None], False, frozenset(empty))


def read_rows(
    name: str, rows: Sequence[Any], header: Sequence[str], info: Mapping[str, Any], *, own_keys: bool
) -> ModelInput:
    """Raw rows as listings, as a file with this header is read."""
    if not rows:
        return ModelInput([])
    reader = reader_for_header(name, header, info, own_keys=own_keys)
    listings = [reader.listing(row) for row in rows]
    pairs = zip(rows, listings, strict=True)
    return ModelInput(
        listings, False, frozenset(place for place, pair in enumerate(pairs) if reader.says_nothing(*pair))
    )


def not_a_listing(value: object) -> UsageError:
    """The error for a value that a model cannot price."""
    shown = "an Item, which holds its own price" if isinstance(value, Item) else f"{type(value).__name__}"
    hint = "Give item.listing." if isinstance(value, Item) else "Describe what it is, in a text or a dict."
    return UsageError("A model prices descriptions", got=shown, allowed=ALLOWED, hint=hint)


def add_quotes(frame: FrameT, quotes: Sequence[Quote]) -> FrameT:
    """The DataFrame with the columns price, low, high and note: a new frame of the same library."""
    columns: dict[str, list[Any]] = {
        "price": [quote.price for quote in quotes],
        "low": [quote.low for quote in quotes],
        "high": [quote.high for quote in quotes],
        "note": [describe_quote(quote) for quote in quotes],
    }
    return add_columns(frame, columns, {"price": float, "low": float, "high": float, "note": str})


def describe_quote(quote: Quote) -> str:
    """What a reader of a quote must know: why it has no price, or that its price is a guess; else an empty text."""
    if quote.price is None:
        return quote.raw or "unanswered"
    return NOTHING_SIMILAR if quote.nothing_similar else ""
