"""Published figures have a source and a date, and invalid ones are refused."""

from __future__ import annotations

import copy
import tomllib
from importlib import resources
from typing import Any

import pytest

from pricesmith.core.errors import UsageError
from pricesmith.reporting.head_to_head import PUBLISHED_FILE, check_published, published_figures

TABLE: dict[str, Any] = {
    "name": "Elsewhere",
    "sample": "other goods",
    "metric": "RMSLE",
    "source": "a page",
    "date": "2018",
    "figures": [{"pricer": "somebody", "value": 0.4}],
}


def test_every_figure_has_a_source_and_a_date() -> None:
    """In the shipped file, and every table describes its items."""
    tables = published_figures()
    assert len(tables) == 4
    for table in tables:
        assert table.date
        assert table.sample
        for row in table.figures:
            assert table.source_of(row)


def test_the_courses_figures_are_those_of_its_notebooks() -> None:
    """The headline figure of each edition, and of the same models on all test items."""
    first, second, mercari, amazon = published_figures()
    assert {46.67: 250, 53.70: 2000}.items() <= {row.value: row.n for row in first.figures}.items()
    assert {39.85: 200, 43.78: 10000, 38.82: 10000}.items() <= {row.value: row.n for row in second.figures}.items()
    assert (mercari.figures[0].value, amazon.figures[0].value) == (0.3733, 39.7)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"source": ""}, "table.0.source"),
        ({"source": None}, "table.0.source"),
        ({"date": "lately"}, "table.0.date"),
        ({"sample": " "}, "table.0.sample"),
        ({"figures": []}, "table.0.figures"),
        ({"figures": [{"pricer": "x", "value": 0.4, "source": " "}]}, "table.0.figures.0.source"),
        ({"figures": [{"pricer": "x", "value": 0}]}, "table.0.figures.0.value"),
        ({"figures": [{"pricer": "x", "value": 0.4, "low": 0.1}]}, "table.0.figures.0"),
        ({"figures": [{"pricer": "x", "value": 0.4, "low": 0.5, "high": 0.6}]}, "table.0.figures.0"),
    ],
    ids=[
        "empty source",
        "no source",
        "no date",
        "no items",
        "no figure",
        "empty own source",
        "nothing",
        "one end",
        "outside",
    ],
)
def test_a_figure_without_a_source_is_refused(change: dict[str, Any], expected: str) -> None:
    """A figure without a source cannot be checked; one outside its own interval was copied wrongly."""
    table = {**copy.deepcopy(TABLE), **change}
    table = {name: value for name, value in table.items() if value is not None}
    with pytest.raises(UsageError) as caught:
        check_published({"table": [table]})
    assert expected in str(caught.value)


def test_a_table_without_a_source_is_refused_even_if_its_figures_have_one() -> None:
    """A table needs a source of its own."""
    values = tomllib.loads(resources.files("pricesmith.reporting").joinpath(PUBLISHED_FILE).read_text(encoding="utf-8"))
    del values["table"][0]["source"]
    with pytest.raises(UsageError):
        check_published(values)
