"""Dates of prices, and --split time: no training row is later than what is tested."""

from __future__ import annotations

import csv
import datetime
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricesmith.catalog import curate
from pricesmith.catalog.catalog import SPLITS, Catalog, open_catalog
from pricesmith.catalog.dates import format_day, parse_day
from pricesmith.catalog.time_split import split_by_time
from pricesmith.cli import run
from pricesmith.core.errors import InputError, PricesmithError, UsageError
from pricesmith.testing import make_items

START = datetime.date(2023, 1, 1)


def write(path: Path, style: Callable[[datetime.date], str], n: int = 600, column: str = "listed_at") -> str:
    """Made rows with dates over two years, some with near-duplicates years apart."""
    chance = random.Random(0)
    with path.open("w", newline="", encoding="utf-8") as handle:
        out = csv.writer(handle)
        out.writerow(["sku", "name", "description", "brand", "price", column])
        for number, item in enumerate(make_items(n)[0]):
            day = START + datetime.timedelta(days=chance.randrange(700))
            listing = item.listing
            out.writerow([f"s{number}", listing.title, listing.text, listing.brand, f"{item.price:.2f}", style(day)])
    return str(path)


def items_of(catalog: Catalog) -> list[dict[str, Any]]:
    names = ("id", "group", "split", "date")
    return [row for batch in catalog.batches(names) for row in batch.to_pylist()]


@pytest.fixture(scope="module")
def dated(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    folder = tmp_path_factory.mktemp("dated")
    return curate([write(folder / "shop.csv", datetime.date.isoformat)], folder / "out", split="time")


def test_every_training_row_is_older_than_the_latest_row_of_each_test_group(dated: Catalog) -> None:
    latest: dict[tuple[str, str], str] = {}
    for row in items_of(dated):
        key = (row["split"], row["group"])
        latest[key] = max(latest.get(key, ""), row["date"])
    ends = {split: [day for (side, _), day in latest.items() if side == split] for split in SPLITS}
    assert max(ends["train"]) < min(ends["validation"])
    assert max(ends["validation"]) < min(ends["test"])
    assert all(row["date"] <= max(ends["train"]) for row in items_of(dated) if row["split"] == "train")


def test_near_duplicates_stay_together_and_sizes_are_those_of_auto(dated: Catalog) -> None:
    sides: dict[str, set[str]] = {}
    for row in items_of(dated):
        sides.setdefault(row["group"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in sides.values())
    splits = dated.ledger["splits"]
    assert 120 <= splits["test"] <= 135
    assert 120 <= splits["validation"] <= 135


def test_the_ledger_and_show_name_the_days(dated: Catalog, capfd: pytest.CaptureFixture[str]) -> None:
    dates = dated.ledger["dates"]
    assert dates["columns"] == {"shop.csv": "listed_at"}
    tested = [row["date"] for row in items_of(dated) if row["split"] == "test"]
    assert dates["test"] == [min(tested), max(tested)]
    assert run(["show", str(dated.path)]) == 0
    assert "Split by time" in capfd.readouterr().out


STYLES: dict[str, Callable[[datetime.date], str]] = {
    "day first": lambda day: day.strftime("%d/%m/%Y"),
    "month first": lambda day: day.strftime("%m/%d/%Y"),
    "points": lambda day: day.strftime("%d.%m.%Y 12:30"),
    "words": lambda day: day.strftime("%B %d, %Y"),
    "seconds": lambda day: str(int(datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.UTC).timestamp())),
    "ISO with time": lambda day: f"{day.isoformat()}T10:00:00Z",
}


@pytest.mark.parametrize("style", STYLES)
def test_every_format_gives_the_same_split(style: str, dated: Catalog, tmp_path: Path) -> None:
    catalog = curate([write(tmp_path / "shop.csv", STYLES[style])], tmp_path / "out", split="time")
    assert catalog.fingerprint == dated.fingerprint


def test_the_date_is_no_line_of_the_text(tmp_path: Path) -> None:
    source = write(tmp_path / "shop.csv", datetime.date.isoformat, column="when asked")
    with pytest.raises(UsageError, match="no column is recognized as the date") as caught:
        curate([source], tmp_path / "out", split="time")
    assert "--map date=COLUMN" in caught.value.hint
    catalog = curate([source], tmp_path / "out", split="time", mapping={"date": "when asked"})
    assert "when asked" not in catalog.ledger["columns"]["extra"]
    assert not any("when asked" in item.listing.text for item in catalog.items("train"))


def test_ambiguous_dates_are_refused_with_a_hint_that_works(tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", lambda day: f"{day.month}/{1 + day.day % 12}/{day.year}")
    with pytest.raises(UsageError, match="ambiguous") as caught:
        curate([source], tmp_path / "out", split="time")
    assert caught.value.hint == "Write them as 2024-05-31."
    mixed = write(tmp_path / "b.csv", lambda day: day.strftime("%d/%m/%Y" if day.day % 2 else "%m/%d/%Y"))
    with pytest.raises(UsageError, match="ambiguous"):
        curate([mixed], tmp_path / "out", split="time")


def test_a_row_without_a_date_is_rejected_by_name(tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", lambda day: "" if day.day == 7 else "soon" if day.day == 8 else day.isoformat())
    catalog = curate([source], tmp_path / "out", split="time")
    assert catalog.ledger["rows"]["rejected"]["no date"] > 20


def test_what_cannot_be_split_by_time_is_refused_and_the_hints_work(dated: Catalog, tmp_path: Path) -> None:
    few = write(tmp_path / "few.csv", lambda day: f"{day.year}-01-01")
    words = write(tmp_path / "words.csv", lambda day: "yesterday")
    good = write(tmp_path / "good.csv", datetime.date.isoformat)
    cases: list[tuple[str, dict[str, Any], type[PricesmithError]]] = [
        (few, {"split": "time"}, InputError),
        (words, {"split": "time"}, InputError),
        (good, {"split": "time", "add": dated}, UsageError),
        (good, {"mapping": {"date": "listed_at"}}, UsageError),
        ("demo:goods", {"split": "time"}, UsageError),
    ]
    for source, options, kind in cases:
        with pytest.raises(kind) as caught:
            curate([source], tmp_path / "out", **options)
        assert "--split time" in caught.value.hint or "--map date" in caught.value.hint
        assert not (tmp_path / "out").exists()
    assert curate([few], tmp_path / "auto").ledger["splits"]["test"]
    assert curate([good], tmp_path / "grown", add=dated).ledger["splits"]["test"]


def test_a_model_is_fitted_and_evaluated_on_it(dated: Catalog, tmp_path: Path) -> None:
    assert open_catalog(dated.path).items("test")
    model = tmp_path / "ridge"
    assert run(["fit", "ridge", "--catalog", str(dated.path), "--to", str(model), "--quiet"]) == 0
    assert run(["eval", str(model), "--catalog", str(dated.path), "--to", str(tmp_path / "evals"), "--quiet"]) == 0


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 25)), min_size=30, max_size=200), st.integers(1, 5))
def test_no_split_by_time_trains_on_the_future(rows: list[tuple[int, int]], wanted: int) -> None:
    days = np.array([day for day, _ in rows])
    _, codes, sizes = np.unique([group for _, group in rows], return_inverse=True, return_counts=True)
    try:
        sides = split_by_time(days, codes, sizes, (wanted, wanted))
    except InputError:
        return
    latest = np.array([days[codes == group].max() for group in range(len(sizes))])
    assert latest[sides == 0].max() < latest[sides == 1].min() <= latest[sides == 1].max() < latest[sides == 2].min()
    assert days[np.isin(codes, np.flatnonzero(sides == 0))].max() < latest[sides > 0].min()
    assert sizes[sides == 1].sum() >= wanted
    assert sizes[sides == 2].sum() >= wanted
    assert sizes[sides == 0].sum() >= len(rows) / 2


@pytest.mark.parametrize(
    "text", ["", "0", "31/31/2024", "2024-02-30", "n/a", "2024", "1/2/24", "x" * 500, "٢٠٢٤-٠١-٠١"]
)
def test_what_is_not_a_date_has_no_day(text: str) -> None:
    assert parse_day(text, "dmy") is None


@given(st.dates(datetime.date(1970, 1, 1), datetime.date(2100, 1, 1)))
def test_days_are_read_back(date: datetime.date) -> None:
    day = parse_day(date.isoformat())
    assert day is not None
    assert format_day(day) == date.isoformat()
