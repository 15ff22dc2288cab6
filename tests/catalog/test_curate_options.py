"""curate on tables as people have them: unusual names, other currencies, empty columns; and its options and hints."""

from __future__ import annotations

import csv
import json
import re
import shlex
import zipfile
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from pricesmith.catalog import curate
from pricesmith.catalog.preview import preview
from pricesmith.catalog.readers.sources import RawRow, read_rows, resolve_sources
from pricesmith.catalog.summary import catalog_summary
from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.progress import Progress
from pricesmith.testing import make_items

Row = dict[str, Any]


class Notes(Progress):
    """Collects notes."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def make_rows(n: int = 130, **columns: Any) -> list[Row]:
    """Rows with a title, a text and a price; `columns` maps a name to a function of (item, number)."""
    items, _ = make_items(n, 0)
    base: dict[str, Any] = {
        "title": lambda item, _: item.listing.title,
        "description": lambda item, _: item.listing.text,
        "price": lambda item, _: f"{item.price:.2f}",
    }
    chosen = {name: make for name, make in {**base, **columns}.items() if make is not None}
    return [{name: make(item, number) for name, make in chosen.items()} for number, item in enumerate(items)]


def write_csv(path: Path, rows: list[Row], delimiter: str = ",") -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        out.writeheader()
        out.writerows(rows)
    return str(path)


def options_in(hint: str, option: str) -> str:
    """The value of an option in a hint, as a shell reads it."""
    words = shlex.split(hint[hint.index(option) :])
    return words[1].rstrip(".")


@pytest.mark.parametrize("name", ["Betrag", "Amt $ each", "Ціна", "it's"])
def test_the_hint_for_a_missing_price_names_the_column_and_works(name: str, tmp_path: Path) -> None:
    """The column of money comes before a column of whole numbers, and the option that the hint names is accepted."""
    rows = make_rows(price=None, pieces=lambda _, n: n % 7 + 1, **{name: lambda item, _: f"${item.price:.2f}"})
    path = write_csv(tmp_path / "a.csv", rows)
    with pytest.raises(UsageError, match="No column is recognized as the price") as caught:
        curate([path], tmp_path / "out")
    field, _, column = options_in(caught.value.hint, "--map").partition("=")
    assert (field, column) == ("price", name)
    assert curate([path], tmp_path / "out", mapping={field: column}).ledger["columns"]["price"] == name


def test_the_hint_for_a_wrong_delimiter_works(tmp_path: Path) -> None:
    """A table that was read as one column says which delimiter to use."""
    path = write_csv(tmp_path / "a.csv", make_rows(), delimiter=";")
    assert curate([path], tmp_path / "found").ledger["columns"]["title"] == "title"
    with pytest.raises(UsageError) as caught:
        curate([path], tmp_path / "out", delimiter="|")
    delimiter = options_in(caught.value.hint, "--delimiter")
    assert curate([path], tmp_path / "out", delimiter=delimiter).ledger["rows"]["rejected"] == {}


@pytest.mark.parametrize("wrong", [";;", "a", '"'])
def test_a_delimiter_is_one_sign(wrong: str, tmp_path: Path) -> None:
    """Several characters, letters and quotes are refused."""
    with pytest.raises(UsageError, match="--delimiter is one character"):
        curate([write_csv(tmp_path / "a.csv", make_rows())], tmp_path / "out", delimiter=wrong)


@pytest.mark.parametrize(("name", "code"), [("Price (INR)", "INR"), ("price_eur", "EUR"), ("PriceGBP", "GBP")])
def test_the_currency_in_the_name_of_the_price_is_taken(name: str, code: str, tmp_path: Path) -> None:
    """Without --map and --currency."""
    rows = make_rows(price=None, **{name: lambda item, _: f"{item.price:.2f}"})
    catalog = curate([write_csv(tmp_path / "a.csv", rows)], tmp_path / "out")
    assert (catalog.ledger["columns"]["price"], catalog.currency) == (name, code)
    assert f"Currency: {code} (from the name of the column {name!r})" in catalog_summary(catalog)


def test_of_two_prices_the_one_in_the_given_currency_is_taken(tmp_path: Path) -> None:
    """The other one is dropped: it gives the price away."""
    rows = make_rows(
        price=None, price_usd=lambda item, _: f"{item.price:.2f}", price_eur=lambda item, _: f"{item.price * 0.9:.2f}"
    )
    path = write_csv(tmp_path / "a.csv", rows)
    catalog = curate([path], tmp_path / "out", currency="EUR")
    assert catalog.ledger["columns"]["price"] == "price_eur"
    assert catalog.ledger["columns"]["left_out"]["price_usd"].startswith("leak")


@pytest.mark.parametrize(
    ("prices", "currency", "source"),
    [
        (["{:.2f} €"], "EUR", "from € in the prices"),
        (["CHF {:.2f}"], "CHF", "from chf in the prices"),
        (["${:.2f}"], "USD", "from $ in the prices, a sign that other currencies share"),
        (["{:.2f}"], "USD", "assumed"),
        (["{:.2f}"] * 40 + ["{:.2f} €"], "USD", "assumed"),
        (["{:.2f} €"] * 40 + ["${:.2f}"], "EUR", "from € in the prices"),
    ],
)
def test_prices_that_name_one_currency_need_no_option(
    prices: list[str], currency: str, source: str, tmp_path: Path
) -> None:
    """Up to 5 % of other currencies are exceptions: their rows are rejected by name."""
    rows = make_rows(price=lambda item, n: prices[n % len(prices)].format(item.price))
    catalog = curate([write_csv(tmp_path / "a.csv", rows)], tmp_path / "out")
    assert catalog.currency == currency
    assert catalog.ledger["currency_source"].lower() == source.lower()
    assert ("(assumed; --currency changes it)" in catalog_summary(catalog).splitlines()[1]) == (source == "assumed")


def test_of_prices_in_several_currencies_the_commonest_is_taken(tmp_path: Path) -> None:
    """Nothing is converted; the rows in other currencies are rejected by name, and the output says so."""
    units = ("EUR", "EUR", "USD", "EUR", "USD", "GBP")
    rows = make_rows(300, price=lambda item, n: f"{item.price:.2f}", unit=lambda _, n: units[n % 6])
    path = write_csv(tmp_path / "a.csv", rows)
    catalog = curate([path], tmp_path / "out", mapping={"currency": "unit"})
    assert catalog.currency == "EUR"
    assert catalog.ledger["rows"]["rejected"] == {"other currency: GBP": 50, "other currency: USD": 100}
    assert "150 prices, the most; not converted and rejected: 100 USD, 50 GBP" in catalog_summary(catalog)
    dollars = curate([path], tmp_path / "usd", mapping={"currency": "unit"}, currency="USD")
    assert dollars.ledger["rows"]["kept"] == 100


def test_a_shared_sign_is_read_by_the_currency_that_other_prices_name(tmp_path: Path) -> None:
    """`$` beside prices in CAD is a Canadian dollar."""
    rows = make_rows(price=lambda item, n: f"CAD {item.price:.2f}" if n % 2 else f"${item.price:.2f}")
    assert curate([write_csv(tmp_path / "a.csv", rows)], tmp_path / "out").currency == "CAD"


def test_an_empty_column_does_not_win_over_a_full_one(tmp_path: Path) -> None:
    """Empty `title` and `price` columns come first in the list of usual names, and are passed over."""
    rows = make_rows(
        title=lambda *_: "", name=lambda item, _: item.listing.title, amount=lambda item, _: f"{item.price:.2f}"
    )
    for row in rows:
        row["price"] = ""
    columns = curate([write_csv(tmp_path / "a.csv", rows)], tmp_path / "out").ledger["columns"]
    assert (columns["title"], columns["price"]) == ("name", "amount")


def test_a_table_without_a_title_has_a_text_of_its_columns(tmp_path: Path) -> None:
    """A note says so, and names the option for the column that looks like a title."""
    words = ["red", "blue", "green", "steel", "oak", "glass", "brass", "linen"]
    rows = make_rows(
        title=None,
        description=None,
        ware=lambda item, _: item.listing.title,
        color=lambda _, n: words[n % 8],
        pieces=lambda _, n: n % 13 + 1,
    )
    path, notes = write_csv(tmp_path / "a.csv", rows), Notes()
    catalog = curate([path], tmp_path / "out", progress=notes)
    item = catalog.items("train")[0]
    assert item.listing.title == ""
    assert re.match(r"ware: .+\ncolor: \w+\npieces: \d+$", item.listing.text)
    (note,) = [text for text in notes.texts if "no title" in text]
    field, _, column = options_in(note, "--map").partition("=")
    assert curate([path], tmp_path / "titled", mapping={field: column}).items("train")[0].listing.title


def test_dropped_columns_are_ignored(tmp_path: Path) -> None:
    """A dropped title makes way for the next usual name; unknown and contradictory names are refused."""
    rows = make_rows(name=lambda item, n: f"{item.listing.title} number {n}", color=lambda *_: "red")
    path = write_csv(tmp_path / "a.csv", rows)
    catalog = curate([path], tmp_path / "out", drop=["title", "color"])
    assert catalog.ledger["columns"]["title"] == "name"
    assert not [item for item in catalog.items("train") if "color" in item.listing.text]
    assert "Ignored columns (dropped by --drop): title, color" in catalog_summary(catalog)
    with pytest.raises(UsageError, match="there is no column 'colour'") as caught:
        curate([path], tmp_path / "other", drop=["colour"])
    assert options_in(caught.value.hint, "--drop").rstrip("?") == "color"
    for more in ({"keep": ["color"]}, {"mapping": {"title": "color"}}):
        with pytest.raises(UsageError, match="is in --drop and in"):
            curate([path], tmp_path / "other", drop=["color"], **more)


def test_ignored_columns_stand_in_one_line(tmp_path: Path) -> None:
    """Links, ids and dates together."""
    rows = make_rows(url=lambda *_: "x", image=lambda *_: "y", created_at=lambda *_: "z", sku=lambda _, n: f"s{n}")
    catalog = curate([write_csv(tmp_path / "a.csv", rows)], tmp_path / "out")
    assert "Ignored columns (links, ids, dates): url, image, created_at" in catalog_summary(catalog)


def test_without_a_range_the_data_s_own_prices_are_named(tmp_path: Path) -> None:
    """With a range, the first line says what it cost."""
    rows = make_rows()
    prices = [float(row["price"]) for row in rows]
    catalog = curate([write_csv(tmp_path / "a.csv", rows)], tmp_path / "out")
    line = catalog_summary(catalog).splitlines()[2]
    assert line.startswith(f"Prices: ${min(prices):,.2f} to ${max(prices):,.2f} (the data's own minimum and maximum")


def test_preview_shows_what_curate_would_read_and_writes_nothing(tmp_path: Path) -> None:
    """Columns, guesses and five rows."""
    from rich.console import Console

    path = write_csv(tmp_path / "a.csv", make_rows(url=lambda *_: "x", color=lambda *_: "red"))
    shown = preview([path])
    (file,) = shown.files
    assert [path] == [str(entry) for entry in tmp_path.iterdir()]
    assert dict(file.roles())["price"] == "price"
    assert dict(file.roles())["color"] == "line of the text"
    assert dict(file.roles())["url"].startswith("ignored: ")
    assert [row["color"] for row in file.rows] == ["red"] * 5
    assert json.loads(json.dumps(shown.to_dict()))["currency"] == "USD"
    console = Console(width=80, record=True, file=StringIO())
    console.print(shown.render())
    text = console.export_text()
    assert "assumed" in text
    assert file.rows[0]["price"] in text


def read_all(path: Path) -> list[Row]:
    """The rows of all tables in a file."""
    return [
        row.values
        for source in resolve_sources([str(path)])
        for batch in read_rows(source)
        for row in batch
        if isinstance(row, RawRow)
    ]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_a_json_array_is_a_table(name: str, indent: int | None, tmp_path: Path) -> None:
    """On one line or on many, whatever the name."""
    rows = make_rows(2_500, tags=lambda *_: ["a", "b"])
    (tmp_path / name).write_text(json.dumps(rows, indent=indent))
    assert read_all(tmp_path / name) == [{**row, "tags": "a\nb"} for row in rows]


@pytest.mark.parametrize("indent", [None, 1])
def test_a_json_array_under_a_key_is_a_table(indent: int | None, tmp_path: Path) -> None:
    """As the feeds of shops have it; other lists before it are passed over."""
    rows = make_rows(300)
    whole = {"meta": {"pages": 3}, "ids": [1, 2], "none": [], "products": rows, "more": [{"x": 1}]}
    (tmp_path / "a.json").write_text(json.dumps(whole, indent=indent))
    assert read_all(tmp_path / "a.json") == rows


def test_json_lines_named_json_are_read_as_lines(tmp_path: Path) -> None:
    """Also if the first line is longer than what is looked at first."""
    rows = [{"title": "lamp " * 30_000, "price": 1.5}, *make_rows(20)]
    for name in ("a.json", "a.jsonl"):
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)))
        assert read_all(tmp_path / name) == rows


@pytest.mark.parametrize("text", ['[{"a": 1}, {"a"', '[{"a": 1}; {"a": 2}]', '{"a": 1,\n "b": 2}', '{\n"a": [1, 2]}'])
def test_a_damaged_json_array_is_refused(text: str, tmp_path: Path) -> None:
    """Cut short, with a wrong sign, or without a list of objects."""
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=r"^a\.json: "):
        read_all(tmp_path / "a.json")


def test_the_tables_of_a_zip_archive_are_read(tmp_path: Path) -> None:
    """Each under its own name; files that are no tables are passed over."""
    rows = make_rows()
    write_csv(tmp_path / "one.csv", rows[:70])
    with zipfile.ZipFile(tmp_path / "shop.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "one.csv", "lamps.csv")
        archive.writestr("sub/hoses.json", json.dumps(rows[70:]))
        archive.writestr("readme.txt", "x")
        archive.writestr("__MACOSX/._lamps.csv", "x")
    assert read_all(tmp_path / "shop.zip") == rows
    catalog = curate([str(tmp_path / "shop.zip")], tmp_path / "out")
    assert [file["file"] for file in catalog.ledger["files"]] == ["shop.zip/lamps.csv", "shop.zip/sub/hoses.json"]
    assert {item.listing.category for item in catalog.items("train")} == {"lamps", "hoses"}


def test_a_zip_archive_without_a_table_or_with_a_bomb_is_refused(tmp_path: Path) -> None:
    """By name, before any row is used."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "x")
    with pytest.raises(InputError, match="has no table in it"):
        read_all(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", "title,price\n" + "x" * 90_000_000)
    with pytest.raises(InputError, match="unpacks to far more"):
        read_all(path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match="damaged"):
        read_all(path)
