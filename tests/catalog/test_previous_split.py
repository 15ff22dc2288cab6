"""A newer table of the same goods: known items keep their split, and near-duplicate groups stay on one side."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from pricesmith.catalog import curate
from pricesmith.catalog.catalog import Catalog
from pricesmith.catalog.previous_split import NEW, group_sides
from pricesmith.testing import make_csv


def splits_by_words(catalog: Catalog) -> dict[tuple[str, str], set[str]]:
    """The splits of each title and text."""
    splits: dict[tuple[str, str], set[str]] = {}
    for split in ("train", "validation", "test"):
        columns = catalog.columns(split, ("title", "text"))
        for words in zip(columns["title"], columns["text"], strict=True):
            splits.setdefault(words, set()).add(split)
    return splits


@pytest.fixture(scope="module")
def catalogs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalog, Catalog]:
    """A catalog of 1,000 rows, and one of 1,500: 900 of the old rows, 20 of them repriced, and 600 new ones."""
    folder = tmp_path_factory.mktemp("refit")
    make_csv(folder / "all.csv", 1600)
    with (folder / "all.csv").open(newline="") as handle:
        header, *rows = csv.reader(handle)
    price = next(place for place, name in enumerate(header) if "price" in name.lower())

    def write(path: Path, lines: list[list[str]]) -> str:
        with path.open("w", newline="") as handle:
            csv.writer(handle).writerows([header, *lines])
        return str(path)

    old = curate(write(folder / "old.csv", rows[:1000]), folder / "old")
    newer = [list(row) for row in rows[100:]]
    for row in newer[:20]:
        row[price] = "77.5"
    return old, curate(write(folder / "new.csv", newer), folder / "new", previous=old)


def test_known_items_keep_their_split(catalogs: tuple[Catalog, Catalog]) -> None:
    """Except for the few that the ledger counts, and those move towards train only."""
    old, new = (splits_by_words(catalog) for catalog in catalogs)
    shared = [words for words in old if words in new]
    changed = [words for words in shared if old[words] != new[words]]
    record = catalogs[1].ledger["previous"]
    assert len(shared) > 500
    assert len(changed) <= record["changed_split"] <= 0.02 * record["known_items"]
    assert record["fingerprint"] == catalogs[0].fingerprint
    assert record["new_items"] > 400
    assert "train" not in [split for words in changed for split in old[words]]


def test_new_items_fill_all_splits_up_to_their_shares(catalogs: tuple[Catalog, Catalog]) -> None:
    """The test split grows with the table; no group is on two sides."""
    _, new = catalogs
    sizes = new.ledger["splits"]
    rows = sum(sizes.values())
    assert sizes["test"] == pytest.approx(min(1000, rows // 5), abs=5)
    assert sizes["validation"] == pytest.approx(min(1000, rows // 5), abs=5)
    groups = [set(new.columns(split, ("group",))["group"]) for split in ("train", "validation", "test")]
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]


def test_a_group_of_several_splits_goes_to_the_earliest() -> None:
    """Train before validation before test; a group without known items is free."""
    rows = np.array([2, 0, NEW, 1, 2, NEW], dtype=np.int8)
    codes = np.array([0, 0, 0, 1, 1, 2])
    assert group_sides(rows, codes, 3).tolist() == [0, 1, NEW]
