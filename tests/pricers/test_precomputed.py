"""Prices that are written down, joined by id."""

from __future__ import annotations

from pathlib import Path

import pytest

from pricesmith.catalog import open as open_catalog
from pricesmith.core.errors import InputError
from pricesmith.core.types import Listing, Quote
from pricesmith.pricers.fitting import fit_model
from pricesmith.pricers.precomputed import PrecomputedPricer, PrecomputedRecipe, read_prices
from pricesmith.testing import make_catalog


def listing(name: str) -> Listing:
    return Listing(name, "lamp", "oak")


def test_prices_are_read_as_a_person_writes_them(tmp_path: Path) -> None:
    """Signs and thousands are read; words are no answer and are kept."""
    (tmp_path / "her.csv").write_text('id,price\na,"$1,299.00"\nb,no idea\nc,12\n')
    quotes = read_prices(tmp_path / "her.csv", "USD")
    assert quotes == {"a": Quote(1299.0, raw="$1,299.00"), "b": Quote(None, raw="no idea"), "c": Quote(12.0, raw="12")}


def test_an_id_that_was_not_answered_is_no_answer() -> None:
    """A skipped item is unanswered, not priced at 0."""
    assert PrecomputedPricer({"a": Quote(3.0)}, "her").price([listing("a"), listing("z")]) == [Quote(3.0), Quote(None)]


def test_an_id_twice_is_refused(tmp_path: Path) -> None:
    """Which of two answers counts is not for us to choose."""
    (tmp_path / "her.csv").write_text("id,price\na,1\na,2\n")
    with pytest.raises(InputError, match="twice"):
        read_prices(tmp_path / "her.csv", "USD")


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    """The two columns are asked for by name."""
    (tmp_path / "her.csv").write_text("id,guess\na,1\n")
    with pytest.raises(InputError) as caught:
        read_prices(tmp_path / "her.csv", "USD")
    assert "id and price" in str(caught.value)


def test_a_recipe_without_a_file_says_so(tmp_path: Path) -> None:
    """The setting that is needed is shown."""
    with pytest.raises(InputError) as caught:
        PrecomputedRecipe().fit([], [], tmp_path)
    assert "--set file=" in str(caught.value)


@pytest.mark.parametrize("row", ["a,€449.23,", "a,449.23 EUR,", "a,449.23,EUR", "a,CA$5,"])
def test_a_price_in_another_currency_is_refused_by_name(row: str, tmp_path: Path) -> None:
    """449 euros are not 449 dollars, whether the price or a column beside it says so."""
    (tmp_path / "her.csv").write_text(f"id,price,currency\n{row}\n", encoding="utf-8")
    with pytest.raises(InputError, match="another currency") as caught:
        read_prices(tmp_path / "her.csv", "USD")
    assert "USD" in str(caught.value)
    assert "row 1" in str(caught.value)


def test_a_sign_is_the_catalogs_currency_where_it_can_be(tmp_path: Path) -> None:
    """A dollar sign in a Canadian catalog is a Canadian dollar; euros are no trouble where all is in euros."""
    (tmp_path / "her.csv").write_text('id,price,currency\na,$5,\nb,"6,50",cad\n', encoding="utf-8")
    assert [quote.price for quote in read_prices(tmp_path / "her.csv", "CAD").values()] == [5.0, 6.5]
    (tmp_path / "his.csv").write_text("id,price\na,€449.23\n", encoding="utf-8")
    assert read_prices(tmp_path / "his.csv", "EUR")["a"].price == 449.23


def test_a_recorded_run_keeps_to_the_currency_of_its_catalog(tmp_path: Path) -> None:
    """A run of euros is not fitted on a catalog in dollars."""
    (tmp_path / "her.csv").write_text("id,price\nmade-1,€449.23\n", encoding="utf-8")
    catalog = open_catalog(make_catalog(tmp_path / "catalog", 200))
    with pytest.raises(InputError, match="another currency"):
        fit_model(PrecomputedRecipe(file=str(tmp_path / "her.csv")), catalog, tmp_path / "run")


def test_ids_are_read_as_curate_reads_them(tmp_path: Path) -> None:
    """Where one cell is empty a table's whole numbers become 1.0 and 2.0; the catalog has 1 and 2."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"id": [1.0, 2.0], "price": [3.0, 4.0]}), tmp_path / "her.parquet")
    assert list(read_prices(tmp_path / "her.parquet", "USD")) == ["1", "2"]
    (tmp_path / "her.csv").write_text("id,price\n a1 ,5\n", encoding="utf-8")
    assert list(read_prices(tmp_path / "her.csv", "USD")) == ["a1"]


def test_a_price_without_an_id_is_refused(tmp_path: Path) -> None:
    """It would be lost without a word."""
    (tmp_path / "her.csv").write_text("id,price\na,1\n,5\n", encoding="utf-8")
    with pytest.raises(InputError, match="row 2 has no id"):
        read_prices(tmp_path / "her.csv", "USD")
