"""Published figures are shown with their source and date, and never among ours."""

from __future__ import annotations

import copy
import tomllib
from importlib import resources
from typing import Any

import pytest

from pricesmith.core.errors import UsageError
from pricesmith.reporting.published import FILE, check_published, published_figures

TABLE: dict[str, Any] = {
    "name": "Elsewhere",
    "what": "other goods",
    "metric": "RMSLE",
    "source": "a page",
    "date": "2018",
    "row": [{"who": "somebody", "value": 0.4}],
}


def test_every_figure_has_a_source_and_a_date() -> None:
    """In the file as it is shipped, and a table that says what its items were."""
    tables = published_figures()
    assert len(tables) == 4
    for table in tables:
        assert table.date
        assert table.what
        for row in table.row:
            assert table.source_of(row)


def test_the_courses_figures_are_those_of_its_notebooks() -> None:
    """The headline of each edition, and what the same models come to on all their test items."""
    first, second, mercari, amazon = published_figures()
    assert {46.67: 250, 53.70: 2000}.items() <= {row.value: row.items for row in first.row}.items()
    assert {39.85: 200, 43.78: 10000, 38.82: 10000}.items() <= {row.value: row.items for row in second.row}.items()
    assert (mercari.row[0].value, amazon.row[0].value) == (0.3733, 39.7)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"source": ""}, "table.0.source"),
        ({"source": None}, "table.0.source"),
        ({"date": "lately"}, "table.0.date"),
        ({"what": " "}, "table.0.what"),
        ({"row": []}, "table.0.row"),
        ({"row": [{"who": "x", "value": 0.4, "source": " "}]}, "table.0.row.0.source"),
        ({"row": [{"who": "x", "value": 0}]}, "table.0.row.0.value"),
        ({"row": [{"who": "x", "value": 0.4, "low": 0.1}]}, "table.0.row.0"),
        ({"row": [{"who": "x", "value": 0.4, "low": 0.5, "high": 0.6}]}, "table.0.row.0"),
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
    """Nobody can check what has no source; a figure outside of its own interval was copied wrongly."""
    table = {**copy.deepcopy(TABLE), **change}
    table = {name: value for name, value in table.items() if value is not None}
    with pytest.raises(UsageError) as caught:
        check_published({"table": [table]})
    assert expected in str(caught.value)


def test_a_table_without_a_source_is_refused_even_where_its_rows_have_one() -> None:
    """The whole has one too."""
    values = tomllib.loads(resources.files("pricesmith.reporting").joinpath(FILE).read_text(encoding="utf-8"))
    del values["table"][0]["source"]
    with pytest.raises(UsageError):
        check_published(values)
