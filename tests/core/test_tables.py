"""Tables drop columns where the terminal is narrow, in a fixed order; figures are never cut."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pricesmith.core.tables import Column, FittedTable

COLUMNS = (
    Column(""),
    Column("pricer", wraps=True),
    Column("error [95%]", right=True, drop=1),
    Column("error", right=True, instead_of="error [95%]"),
    Column("median", right=True, drop=2),
    Column("seconds", right=True, drop=3),
)
ROWS = (
    ("1", "sparse_mlp_of_the_whole_shop", "$34.73 [28.28, 42.49]", "$34.73", "$14.62", "1,234,567"),
    ("2-3 =", "ridge", "$1,234.94 [1,106.45, 1,346.91]", "$1,234.94", "$70.67", "0.12"),
)


def drawn(width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(FittedTable("test: 100 items", COLUMNS, ROWS))
    return out.getvalue()


@pytest.mark.parametrize("width", range(30, 201))
def test_no_figure_and_no_rank_is_cut_at_any_width(width: int) -> None:
    """Every figure of a column that is shown is whole, and no line is longer than the terminal."""
    text = drawn(width)
    shown = FittedTable("", COLUMNS, ROWS).shown(width)
    assert "…" not in text
    assert all(len(line) <= width for line in text.splitlines())
    for row in ROWS:
        for index in shown:
            if index != 1:
                assert row[index] in text
    assert {0, 1} <= set(shown)
    assert (2 in shown) != (3 in shown)


def test_columns_are_dropped_in_a_fixed_order() -> None:
    """From wide to narrow: seconds, the median, the interval of the error; the error itself stays."""
    orders = list(dict.fromkeys(tuple(FittedTable("", COLUMNS, ROWS).shown(width)) for width in range(200, 10, -1)))
    assert orders == [(0, 1, 2, 4, 5), (0, 1, 2, 4), (0, 1, 2), (0, 1, 3)]


def test_a_long_name_wraps_and_is_whole() -> None:
    """Names are the only texts that may break."""
    assert "sparse_mlp_of_the_whole_shop" in "".join(line[7:24].strip() for line in drawn(34).splitlines())
