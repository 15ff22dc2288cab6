"""Price one listing from words, fields or both, with its interval and comparables; and listings from standard input."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pricesmith.batch.priced_row import UNLIKE, price_row
from pricesmith.catalog.clean import CleanSettings, build_listing, cell_text, is_too_short
from pricesmith.catalog.columns import ColumnMap, column_key
from pricesmith.catalog.listing_reader import ListingReader
from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.settings import parse_settings
from pricesmith.core.types import Listing
from pricesmith.text.formatting import format_money, format_number

if TYPE_CHECKING:
    from pricesmith.pricers.model import PriceModel

# Column names of the words themselves; no column of a file begins with NUL.
TITLE, TEXT, CATEGORY, BRAND = "\0title", "\0text", "\0category", "\0brand"
COLUMN = "text"
SHOWN_ROWS = 200  # of a table on a terminal
MAX_NOT_GIVEN = 12  # names that are listed


def known_fields(info: Mapping[str, Any]) -> list[str]:
    """The columns of a catalog that become "Name: value" lines of the text, in the file's order."""
    maps = info.get("maps") or [info["columns"]]
    return list(dict.fromkeys(name for values in maps for name in values.get("extra", ())))


class DescriptionReader:
    """Makes listings of words and fields as curate would; `info` is the model's catalog.json."""

    def __init__(self, info: Mapping[str, Any]) -> None:
        self.cleaning = parse_settings(CleanSettings, info["cleaning"], where="catalog.json")
        self.known = known_fields(info)
        columns = info["columns"]
        self.targets: dict[str, str] = {}
        for name, column in (("title", TITLE), ("text", TEXT), ("category", CATEGORY), ("brand", BRAND)):
            self.targets[column_key(str(columns.get(name) or name))] = column
            self.targets.setdefault(column_key(name), column)
        for name in self.known:
            self.targets[column_key(name)] = name

    def read(self, text: str, fields: Mapping[str, object], id: str = "1") -> Listing:
        """The listing of a text and fields. The first line of the text is the title, unless the fields have one.

        Raises UsageError for a field that the catalog does not have, and if curate would refuse the listing as too
        short.
        """
        values = self.resolve(fields)
        title, _, rest = text.strip().partition("\n")
        if TITLE in values:
            title, rest = "", text.strip()
        if rest and TEXT in values:
            rest = f"{rest}\n{cell_text(values.pop(TEXT))}"
        given: dict[str, object] = {TITLE: title, TEXT: rest, **values}
        extra = tuple(name for name in self.known if name in given)
        cells = {name: given[name] for name in (TITLE, TEXT, CATEGORY, BRAND, *extra) if name in given}
        columns = ColumnMap(title=TITLE, text=TEXT, category=CATEGORY, brand=BRAND, price="", extra=extra)
        listing = build_listing(cells, columns, self.cleaning, id=id)
        shown = text or " ".join(cell_text(value) for value in fields.values())
        if not (listing.title or listing.text):
            raise UsageError(
                "There is nothing to price", got=repr(shown[:60]), hint="Describe the thing: what it is, make, size."
            )
        if is_too_short(listing, self.cleaning):
            raise UsageError(
                "There is too little to price",
                got=repr(shown[:60]),
                allowed=f"at least {self.cleaning.min_chars} letters and digits",
                hint="Describe the thing: what it is, make, size.",
            )
        return listing

    def resolve(self, fields: Mapping[str, object]) -> dict[str, object]:
        """The values of fields by column. Raises UsageError for a name that is neither a column nor a usual field."""
        values: dict[str, object] = {}
        for name, value in fields.items():
            if column_key(name) not in self.targets:
                allowed = ["title", "text", "category", "brand", *self.known]
                raise UsageError(
                    f"This model has no field {name[:60]!r}",
                    got=f"{name[:60]}={cell_text(value)[:60]}",
                    allowed=", ".join(allowed[:30]),
                    hint="Use one of these names, or put it into the text.",
                )
            values[self.targets[column_key(name)]] = value
        return values


def listing_from_text(text: str, info: Mapping[str, Any], fields: Mapping[str, str] | None = None) -> Listing:
    """Words and fields as the listing that curate would make of them; the first line of the text is the title.

    `info` is the model's catalog.json. Raises UsageError for a field that the catalog does not have, and if curate
    would refuse the listing as too short.
    """
    return DescriptionReader(info).read(text, fields or {})


def fields_not_given(listing: Listing, known: Sequence[str], fields: Iterable[str]) -> list[str]:
    """The catalog's columns of text (`known`) that neither the names of fields nor the words mention."""
    given = {column_key(name) for name in fields}
    words = f" {' '.join(f'{listing.title} {listing.text}'.casefold().split())} "
    return [
        name
        for name in known
        if column_key(name) not in given and name.casefold().replace("_", " ").strip() not in words
    ]


def price_text(
    model: PriceModel,
    text: str,
    max_interval_ratio: float | None = None,
    comparables: int = 3,
    fields: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Price, interval and comparables of one listing, ready for JSON."""
    listing = listing_from_text(text, model.info, fields)
    (quote,) = model.price([listing], check_similarity=True)
    row = price_row(listing.id, quote, str(model.info["currency"]), max_interval_ratio)
    (near,) = model.find_comparables([listing], comparables, quotes=[quote])
    return {
        "price": row.price,
        "low": row.low,
        "high": row.high,
        "level": model.level,
        "currency": row.currency,
        "note": row.note,
        **({"cost_usd": row.cost_usd} if model.asks_api else {}),
        "nothing_similar": row.nothing_similar,
        "not_given": fields_not_given(listing, known_fields(model.info), fields or {}),
        "pricer": model.name,
        "comparables": [
            {
                "id": comparable.id,
                "title": comparable.title,
                "price": comparable.price,
                "similarity": round(comparable.similarity, 3),
            }
            for comparable in near
        ],
    }


def format_quote(result: Mapping[str, Any]) -> str:
    """Price, interval and the fields that are missing, as text."""
    currency = result["currency"]
    price = result["price"]
    lines = [f"{format_money(price, currency)} ({currency})" if price is not None else f"No price: {result['note']}"]
    if result["low"] is not None and result["high"] is not None:
        level = f"{result['level']:.0%} interval".replace("%", " %") if result["level"] else "interval"
        lines.append(f"{level}: {format_money(result['low'], currency)} to {format_money(result['high'], currency)}")
    if missing := result["not_given"]:
        more = f" and {len(missing) - MAX_NOT_GIVEN} more" if len(missing) > MAX_NOT_GIVEN else ""
        lines.append(f"Not given: {', '.join(missing[:MAX_NOT_GIVEN])}{more}. Add one with --field NAME=VALUE.")
    if result["nothing_similar"]:
        lines.append("Nothing similar in the training data: the price is a guess.")
    note = str(result["note"]).removeprefix(UNLIKE).removeprefix("; ")
    if price is not None and note:
        lines.append(f"Note: {note}.")
    return "\n".join(lines)


def format_comparables(result: Mapping[str, Any]) -> Any:
    """The comparables as a table; None if there are none to show."""
    if result["nothing_similar"] or not result["comparables"]:
        return None
    from rich import box
    from rich.table import Table
    from rich.text import Text

    currency = result["currency"]
    table = Table(box=box.SIMPLE_HEAD, title="Comparables: similar training listings", title_justify="left")
    table.add_column("price", justify="right", no_wrap=True)
    table.add_column("similarity", justify="right", no_wrap=True)
    table.add_column("title", overflow="ellipsis", no_wrap=True)
    for near in result["comparables"]:
        table.add_row(format_money(near["price"], currency), f"{near['similarity']:.0%}", Text(near["title"]))
    return table


def bare_price(result: Mapping[str, Any]) -> str:
    """The price alone, for scripts: `24.50`; empty if there is none."""
    return "" if result["price"] is None else format_number(result["price"], result["currency"]).replace(",", "")


# Standard input: `pricesmith price MODEL -`


def save_input(stream: IO[bytes], folder: Path, info: Mapping[str, Any]) -> tuple[Path, ListingReader | None]:
    """Standard input as a JSON Lines file, and the reader of its rows; None if the file's own keys choose the columns.

    Input that begins with `{` is JSON Lines; in any other each line that is not blank is the text of one listing.
    Raises InputError if there is nothing in it.
    """
    path = folder / "input.jsonl"
    lines = (line for line in stream if line.strip())
    first = next(lines, None)
    if first is None:
        raise InputError(
            "Standard input is empty",
            allowed="one listing a line, as text or as JSON",
            hint="For example: echo 'Cordless drill, 18 V' | pricesmith price MODEL -",
        )
    is_json = first.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")
    with path.open("wb") as out:
        for line in (first, *lines) if not is_json else ():
            text = line.decode("utf-8-sig" if line is first else "utf-8", "replace").strip()
            out.write(json.dumps({COLUMN: text}).encode() + b"\n")
        if is_json:
            out.write(first.rstrip(b"\n") + b"\n")
            for line in lines:
                out.write(line)
    if is_json:
        return path, None
    cleaning = parse_settings(CleanSettings, info["cleaning"], where="catalog.json")
    return path, ListingReader(ColumnMap(title=COLUMN, price=""), cleaning, "", frozenset({COLUMN}))


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file."""
    with path.open(encoding="utf-8") as handle:
        return [json.loads(line) for line in handle]


def prices_table(path: Path, currency: str) -> Any:
    """The first rows of a CSV file of prices as a table for a terminal: a name for each row, price, interval, note."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("listing", overflow="ellipsis", no_wrap=True)
    table.add_column("price", justify="right", no_wrap=True)
    table.add_column("90 % interval", no_wrap=True)
    table.add_column("note")
    with path.open(encoding="utf-8", newline="") as handle:
        for number, row in enumerate(csv.DictReader(handle)):
            if number == SHOWN_ROWS:
                break
            last = dict(reversed(list(row.items())))  # the added columns are the last ones
            price, low, high, note = (pick(last, name) for name in ("price", "low", "high", "note"))
            interval = f"{money(low, currency)} to {money(high, currency)}" if low and high else ""
            table.add_row(Text(row_label(row)), money(price, currency) if price else "", interval, Text(note))
    return table


def pick(row: Mapping[str, str], name: str) -> str:
    """The value of an added column under whichever name it has."""
    return next((cell for column, cell in row.items() if column == name or column.endswith(f"predicted_{name}")), "")


def money(cell: str, currency: str) -> str:
    return format_money(float(cell), currency)


def row_label(row: Mapping[str, str]) -> str:
    """What a row is called on a terminal: its first two columns."""
    return ", ".join(cell for cell in list(row.values())[:2] if cell)[:120]
