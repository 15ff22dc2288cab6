"""One listing from words and fields: the text that curate would make, and which fields are missing."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from pricesmith.batch.price_one import (
    bare_price,
    fields_not_given,
    format_comparables,
    format_quote,
    known_fields,
    listing_from_text,
    save_input,
)
from pricesmith.batch.priced_row import UNLIKE
from pricesmith.catalog.clean import CleanSettings
from pricesmith.catalog.columns import ColumnMap
from pricesmith.core.errors import InputError, UsageError

INFO: dict[str, Any] = {
    "cleaning": CleanSettings().model_dump(),
    "columns": ColumnMap(
        title="name", text="description", price="price", extra=("pieces", "Release year")
    ).model_dump(),
    "currency": "USD",
}
RESULT: dict[str, Any] = {
    "price": 1299.5, "low": 1000.0, "high": 1500.0, "level": 0.9, "currency": "USD", "note": "",
    "nothing_similar": False, "not_given": ["pieces"],
    "comparables": [{"id": "a", "title": "Oak [bold]chair", "price": 12.0, "similarity": 0.5}],
}  # fmt: skip


def test_fields_become_the_lines_of_the_catalog() -> None:
    """In the catalog's order, whatever the case and the order in which they are given."""
    fields = {"release-year": "2019", "PIECES": "1351", "brand": "Lego", "category": "toys"}
    listing = listing_from_text("Castle set\nwith knights", INFO, fields)
    assert (listing.title, listing.brand, listing.category) == ("Castle set", "Lego", "toys")
    assert listing.text.splitlines() == ["with knights", "pieces: 1351", "Release year: 2019"]


def test_a_title_can_be_a_field_under_the_catalogs_name_for_it() -> None:
    """`name` is what this catalog calls the title."""
    assert listing_from_text("", INFO, {"name": "Castle set"}).title == "Castle set"
    assert listing_from_text("", INFO, {"title": "Castle set"}).title == "Castle set"


def test_an_unknown_field_is_refused_with_the_known_ones() -> None:
    """The names of the catalog are listed."""
    with pytest.raises(UsageError, match="no field 'weight'") as caught:
        listing_from_text("Castle set", INFO, {"weight": "3"})
    assert "pieces, Release year" in caught.value.allowed


def test_missing_fields_are_listed() -> None:
    """Neither by --field nor by the words of the text."""
    assert known_fields(INFO) == ["pieces", "Release year"]
    for text, fields, missing in (
        ("Castle set", {}, ["pieces", "Release year"]),
        ("Castle set, 1351 pieces", {}, ["Release year"]),
        ("Castle set", {"pieces": "1351"}, ["Release year"]),
        ("Castle set, release year 2019", {"Pieces": "7"}, []),
    ):
        assert fields_not_given(listing_from_text(text, INFO, fields), known_fields(INFO), fields) == missing


def test_a_quote_is_printed_with_its_interval_and_what_is_missing() -> None:
    """And a script gets the number alone."""
    assert format_quote(RESULT).splitlines() == [
        "$1,299.50 (USD)",
        "90 % interval: $1,000.00 to $1,500.00",
        "Not given: pieces. Add one with --field NAME=VALUE.",
    ]
    assert bare_price(RESULT) == "1299.50"
    assert bare_price({**RESULT, "price": None}) == ""
    assert "No price: too wide" in format_quote({**RESULT, "price": None, "note": "too wide"})


def test_the_note_of_a_quote_is_printed() -> None:
    """After the line about a guess; the reason for no price stands in the first line alone."""
    guess = {**RESULT, "nothing_similar": True, "note": f"{UNLIKE}; api-m was not asked: the budget is spent"}
    assert format_quote(guess).splitlines()[-2:] == [
        "Nothing similar in the training data: the price is a guess.",
        "Note: api-m was not asked: the budget is spent.",
    ]
    assert "Note" not in format_quote({**guess, "note": UNLIKE})
    assert format_quote({**RESULT, "price": None, "note": "too wide"}).splitlines()[0] == "No price: too wide"
    assert "Note" not in format_quote({**RESULT, "price": None, "note": "too wide"})


def test_comparables_are_a_table() -> None:
    """Markup in a title is text; there is no table if nothing is similar."""
    from rich.console import Console

    console = Console(width=80, file=io.StringIO())
    console.print(format_comparables(RESULT))
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    assert "Oak [bold]chair" in printed
    assert "50%" in printed
    assert format_comparables({**RESULT, "nothing_similar": True}) is None


def test_standard_input_is_text_or_json_lines(tmp_path: Path) -> None:
    """The first line that is not blank decides."""
    path, reader = save_input(io.BytesIO("\n\ufeffOak chair\n\nDrill é\n".encode()), tmp_path, INFO)
    assert reader is not None
    assert path.read_text() == '{"text": "Oak chair"}\n{"text": "Drill \\u00e9"}\n'
    path, reader = save_input(io.BytesIO(b'\n{"name": "Oak chair"}\n{"name": "Drill"}'), tmp_path, INFO)
    assert reader is None
    assert path.read_text() == '{"name": "Oak chair"}\n{"name": "Drill"}'
    with pytest.raises(InputError, match="Standard input is empty"):
        save_input(io.BytesIO(b" \n\n"), tmp_path, INFO)
