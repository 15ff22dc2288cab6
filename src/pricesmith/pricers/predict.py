"""What `PriceModel.predict` accepts and returns.

    text, or a list of texts           the first line is the title
    dict, or a list of dicts           by the catalog's columns, or by title, text, category and brand
    Listing, or a list of Listings
    DataFrame                          of pandas, polars or pyarrow; comes back with price, low, high and note

Raw text and raw rows are cleaned exactly as `pricesmith curate` cleaned the catalog, and masked alike.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, overload

from pricesmith.catalog.clean import CleanSettings, build_listing
from pricesmith.catalog.columns import ColumnMap
from pricesmith.catalog.comparables import Comparable
from pricesmith.catalog.dataframes import NAME, FrameT, add_columns, build_rows, is_dataframe, to_raw_rows
from pricesmith.catalog.listing_reader import reader_for_header
from pricesmith.core.errors import UsageError
from pricesmith.core.settings import parse_settings
from pricesmith.core.tables import html_facts
from pricesmith.core.types import Item, Listing, Quote
from pricesmith.text.formatting import format_money

Described: TypeAlias = str | Mapping[str, Any] | Listing  # one listing, in any of its forms
NOTHING_SIMILAR = "nothing similar in the training data: the price is a guess"
NO_TEXT = "no title and no text"
ALLOWED = "a text, a dict, a Listing, a list of these, or a DataFrame of pandas, polars or pyarrow"
TEXT_COLUMNS = ColumnMap(title="title", text="text", price="")


@dataclass(frozen=True)
class ModelInput:
    """The listings of one call: `form` says whether the caller gave one, a list or a DataFrame. `empty` are the
    positions of rows that hold neither a title nor a text nor a value in a column of the catalog."""

    listings: list[Listing]
    empty: frozenset[int] = frozenset()
    form: Literal["one", "list", "frame"] = "list"


def read_input(value: Any, info: Mapping[str, Any]) -> ModelInput:
    """The listings of a text, a dict, a Listing, a list of these, or a DataFrame; `info` is the model's catalog.json.

    Raises UsageError for anything else, and for rows whose columns show neither a title nor a text.
    """
    if isinstance(value, str | Mapping | Listing):
        return replace(read_list([value], info), form="one")
    if isinstance(value, Item):
        raise not_a_listing(value)
    if is_dataframe(value):
        rows = to_raw_rows(value)
        header = list(rows[0].values) if rows else []
        return replace(read_rows(NAME, rows, header, info, own_keys=False), form="frame")
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
    return ModelInput([listing for listing in listings if listing is not None], frozenset(empty))


def read_rows(
    name: str, rows: Sequence[Any], header: Sequence[str], info: Mapping[str, Any], *, own_keys: bool
) -> ModelInput:
    """Raw rows as listings, as a file with this header is read."""
    if not rows:
        return ModelInput([])
    reader = reader_for_header(name, header, info, own_keys=own_keys)
    listings = [reader.listing(row) for row in rows]
    pairs = zip(rows, listings, strict=True)
    empty = frozenset(place for place, (row, listing) in enumerate(pairs) if reader.says_nothing(row.values, listing))
    return ModelInput(listings, empty)


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
    """What a reader of a quote must know: why it has no price, that its price is a guess, and its own note."""
    unanswered = (quote.raw or "unanswered") if quote.price is None else ""
    similar = NOTHING_SIMILAR if quote.nothing_similar and not unanswered else ""
    return "; ".join(text for text in (unanswered, similar, quote.note) if text)


class PredictMixin(ABC):
    """The methods of a model that take text, dicts, Listings and DataFrames; a model adds those on Listings."""

    path: Path
    info: Mapping[str, Any]
    manifest: Mapping[str, Any]

    @abstractmethod
    def price(self, listings: Sequence[Listing], *, check_similarity: bool = False) -> list[Quote]:
        """One quote for each listing, in order."""

    @abstractmethod
    def find_comparables(
        self, listings: Sequence[Listing], k: int = 3, *, quotes: Sequence[Quote] | None = None
    ) -> list[list[Comparable]]:
        """The training listings most like each listing."""

    @overload
    def predict(self, value: Described) -> Quote: ...  # type: ignore[overload-overlap]  # a text is a sequence too
    @overload
    def predict(self, value: Sequence[str] | Sequence[Mapping[str, Any]] | Sequence[Listing]) -> list[Quote]: ...
    @overload
    def predict(self, value: FrameT) -> FrameT: ...
    def predict(self, value: Any) -> Any:
        """The price of one listing or of many, each with its interval, in the catalog's currency.

        A text, a dict or a Listing gives a Quote, and a list of these a list of Quotes, in order. A DataFrame of
        pandas, polars or pyarrow comes back with the columns `price`, `low`, `high` and `note`; if it has a column of
        that name, the new one is called `predicted_price` and so on. The first line of a text is its title. The keys of
        a dict and the columns of a DataFrame are those of the catalog's table, or title, text, category and brand.

        A listing that is too short has no price (`Quote.price` is None, `Quote.raw` the reason).
        `Quote.nothing_similar` says that no training listing is like it, so its price is a guess.

        Raises UsageError for any other value, and for columns that hold neither a title nor a text.

        >>> quote = model.predict("Cobalt drill, size 12 kg")
        >>> quote.low < quote.price < quote.high
        True
        >>> [quote.price for quote in model.predict(["", {"name": "Aster lamp", "brand": "Aster"}])][0] is None
        True
        """
        read = read_input(value, self.info)
        quotes = self.price(read.listings, check_similarity=True)
        quotes = [Quote(None, raw=NO_TEXT) if place in read.empty else quote for place, quote in enumerate(quotes)]
        if read.form == "one":
            return quotes[0]
        return quotes if read.form == "list" else add_quotes(value, quotes)

    @overload
    def comparables(
        self, value: Described, k: int = 3, *, quotes: Sequence[Quote] | None = None
    ) -> list[Comparable]: ...
    @overload
    def comparables(
        self, value: Any, k: int = 3, *, quotes: Sequence[Quote] | None = None
    ) -> list[list[Comparable]]: ...
    def comparables(self, value: Any, k: int = 3, *, quotes: Sequence[Quote] | None = None) -> Any:
        """The `k` training listings most like a listing, or like each of many: most words in common, prices alike.

        `value` is what `predict` takes; one listing gives a list, several give a list for each. `quotes` are the
        model's quotes of the listings, if you have them, to save pricing them again. A model that was exported without
        its training listings has no comparables.

        >>> [comparable.title for comparable in model.comparables("Cobalt drill", k=1)]
        ['Cobalt drill ...']
        """
        read = read_input(value, self.info)
        near = self.find_comparables(read.listings, k, quotes=quotes)
        return near[0] if read.form == "one" else near

    def __repr__(self) -> str:
        rows = self.manifest["rows"]["train"]
        return f"PriceModel({str(self.path)!r}: {self.manifest['kind']}, {rows:,} training listings)"

    def _repr_html_(self) -> str:
        """The model's facts as a table, for notebooks."""
        rows, (low, high) = self.manifest["rows"], self.info["price_range"]
        currency = str(self.info["currency"])
        facts = {
            "Recipe": self.manifest["kind"],
            "Catalog": self.info["name"],
            "Training listings": f"{rows['train']:,}",
            "Price range": f"{format_money(low, currency)} to {format_money(high, currency)}",
            "Fit time": f"{float(self.manifest['fit_seconds']):,.1f} s",
        }
        return html_facts(f"Model {self.path.resolve().name}", facts)
