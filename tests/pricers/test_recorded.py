"""Prices that are written down, joined by id."""

from __future__ import annotations

from pathlib import Path

import pytest

from pricesmith.errors import InputError
from pricesmith.pricers.recorded import Recorded, RecordedPricer, read_prices
from pricesmith.types import Listing, Quote


def listing(name: str) -> Listing:
    return Listing(name, "lamp", "oak")


def test_prices_are_read_as_a_person_writes_them(tmp_path: Path) -> None:
    """Signs and thousands are read; words are no answer and are kept."""
    (tmp_path / "her.csv").write_text('id,price\na,"$1,299.00"\nb,no idea\nc,12\n')
    quotes = read_prices(tmp_path / "her.csv")
    assert quotes == {"a": Quote(1299.0, raw="$1,299.00"), "b": Quote(None, raw="no idea"), "c": Quote(12.0, raw="12")}


def test_an_id_that_was_not_answered_is_no_answer() -> None:
    """Who skipped an item is not charged 0 for it."""
    assert RecordedPricer({"a": Quote(3.0)}, "her").price([listing("a"), listing("z")]) == [Quote(3.0), Quote(None)]


def test_an_id_twice_is_refused(tmp_path: Path) -> None:
    """Which of two answers counts is not for us to choose."""
    (tmp_path / "her.csv").write_text("id,price\na,1\na,2\n")
    with pytest.raises(InputError, match="twice"):
        read_prices(tmp_path / "her.csv")


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    """The two columns are asked for by name."""
    (tmp_path / "her.csv").write_text("id,guess\na,1\n")
    with pytest.raises(InputError) as caught:
        read_prices(tmp_path / "her.csv")
    assert "id and price" in str(caught.value)


def test_a_recipe_without_a_file_says_so(tmp_path: Path) -> None:
    """The setting that is needed is shown."""
    with pytest.raises(InputError) as caught:
        Recorded().fit([], [], tmp_path)
    assert "--set file=" in str(caught.value)
