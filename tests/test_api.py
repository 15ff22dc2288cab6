"""The five lines of Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

import pricesmith as ps
from pricesmith.core.errors import InputError, UsageError
from pricesmith.testing import make_catalog


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a made catalog."""
    folder = tmp_path_factory.mktemp("api")
    make_catalog(folder / "catalog", 2400)
    return folder


def test_fit_evaluate_compare_from_paths(place: Path) -> None:
    """A name, a folder and a path are enough; ridge is told apart from the constant."""
    ridge = ps.fit("ridge", place / "catalog", place / "ridge", settings={"alpha": 0.5})
    median = ps.fit("median", place / "catalog", place / "median")
    found = ps.compare(ps.evaluate(ridge, place / "catalog"), ps.evaluate(median, place / "catalog"))
    assert found.is_significant
    assert found.better == "ridge"


def test_a_loaded_run_prices_listings(place: Path) -> None:
    """What `fit` gives is what `load` gives."""
    fitted = ps.fit("median", place / "catalog", place / "median")
    listing = ps.Listing("1", "Aster lamp", "oak", "lamp")
    assert ps.load(place / "median").price([listing]) == fitted.price([listing])


def test_a_misspelt_metric_lists_the_metrics(place: Path) -> None:
    """A wrong name is a usage error, not a KeyError."""
    median = ps.fit("median", place / "catalog", place / "median")
    evaluation = ps.evaluate(median, ps.catalog.open(place / "catalog"))
    with pytest.raises(UsageError, match="no metric"):
        ps.compare(evaluation, evaluation, "mean eror")


def test_a_folder_that_is_no_run_is_an_input_error(place: Path) -> None:
    """The error says which command makes one."""
    with pytest.raises(InputError) as caught:
        ps.load(place / "catalog")
    assert "pricesmith fit" in caught.value.hint


def test_a_run_of_another_catalog_is_refused_unless_asked_for(place: Path) -> None:
    """The five lines keep the rules of eval; with `other_catalog` what is known is left out, and the note says so."""
    median = ps.fit("median", place / "catalog", place / "median")
    make_catalog(place / "other", 2400, seed=9)
    with pytest.raises(UsageError, match="another catalog"):
        ps.evaluate(median, place / "other")
    assert "fitted on another catalog" in ps.evaluate(median, place / "other", other_catalog=True).note


def test_a_small_catalog_is_judged_in_folds_and_the_note_says_so(place: Path) -> None:
    """Every row once, by a run fitted without its fold, as `pricesmith eval` does."""
    make_catalog(place / "small", 300)
    ridge = ps.fit("ridge", place / "small", place / "small-ridge")
    evaluation = ps.evaluate(ridge, place / "small")
    assert len(evaluation.rows) == 300
    assert "5 folds by group" in evaluation.note
    own = {item.listing.id: item for item in ps.catalog.open(place / "small").items("train")}
    again = ridge.price([own[row.id].listing for row in evaluation.rows if row.id in own])
    assert [row.price for row in evaluation.rows if row.id in own] != [quote.price for quote in again]


def test_a_pricer_of_ones_own_is_judged_on_the_split_alone(place: Path) -> None:
    """It may have learnt from the other splits of a small catalog; nobody can fit it again in folds."""

    class Ten:
        name = "ten"

        def price(self, listings: Sequence[ps.Listing]) -> list[ps.Quote]:
            return [ps.Quote(10.0) for _ in listings]

    small = ps.catalog.open(make_catalog(place / "few", 300))
    evaluation = ps.evaluate(Ten(), small)
    assert [row.id for row in evaluation.rows] == [item.listing.id for item in small.items("test")]
    assert "only the test split is judged" in evaluation.note
    assert ps.evaluate(Ten(), place / "catalog").note == ""


def test_nobody_is_judged_on_the_train_split(place: Path) -> None:
    """What was learnt by heart is no measure."""
    median = ps.fit("median", place / "catalog", place / "median")
    with pytest.raises(UsageError, match="train"):
        ps.evaluate(median, place / "catalog", "train")
