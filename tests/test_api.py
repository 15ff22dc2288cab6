"""The five lines of Python."""

from __future__ import annotations

from pathlib import Path

import pytest

import pricesmith as ps
from pricesmith.errors import InputError, UsageError
from pricesmith.testing import made_catalog


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a made catalog."""
    folder = tmp_path_factory.mktemp("api")
    made_catalog(folder / "catalog", 2400)
    return folder


def test_fit_evaluate_compare_from_paths(place: Path) -> None:
    """A name, a folder and a path are enough; ridge is told apart from the constant."""
    ridge = ps.fit("ridge", place / "catalog", place / "ridge", settings={"alpha": 0.5})
    constant = ps.fit("constant", place / "catalog", place / "constant")
    found = ps.compare(ps.evaluate(ridge, place / "catalog"), ps.evaluate(constant, place / "catalog"))
    assert found.told_apart
    assert found.better == "ridge"


def test_a_loaded_run_prices_listings(place: Path) -> None:
    """What `fit` gives is what `load` gives."""
    fitted = ps.fit("constant", place / "catalog", place / "constant")
    listing = ps.Listing("1", "Aster lamp", "oak", "lamp")
    assert ps.load(place / "constant").price([listing]) == fitted.price([listing])


def test_a_misspelt_metric_lists_the_metrics(place: Path) -> None:
    """A wrong name is a usage error, not a KeyError."""
    constant = ps.fit("constant", place / "catalog", place / "constant")
    evaluation = ps.evaluate(constant, ps.catalog.open(place / "catalog"))
    with pytest.raises(UsageError, match="no metric"):
        ps.compare(evaluation, evaluation, "mean eror")


def test_a_folder_that_is_no_run_is_an_input_error(place: Path) -> None:
    """The error says which command makes one."""
    with pytest.raises(InputError) as caught:
        ps.load(place / "catalog")
    assert "pricesmith fit" in caught.value.hint
