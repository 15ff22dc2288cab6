"""Groups go to one side each, also in a newer table of the same goods."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricesmith.catalog import curate
from pricesmith.catalog.catalog import Catalog
from pricesmith.catalog.split import (
    NEW,
    Shares,
    group_sides,
    mix_hashes,
    parse_split,
    split_groups,
)
from pricesmith.core.errors import InputError, UsageError
from pricesmith.testing import make_csv


def make_groups(sizes: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    return draw.integers(0, 2**63, len(sizes)).astype(np.uint64), np.array(sizes)


def test_auto_is_a_thousand_items_between_5_and_20_percent() -> None:
    """test = max(5 %, min(1,000 items, 20 %)), validation alike."""
    assert parse_split("auto", 100) == Shares(60, 20, 20)
    assert parse_split("auto", 4_000) == Shares(2_400, 800, 800)
    assert parse_split("auto", 10_000) == Shares(8_000, 1_000, 1_000)
    assert parse_split("auto", 60_000) == Shares(54_000, 3_000, 3_000)


@settings(max_examples=50)
@given(st.integers(0, 99), st.integers(400, 3_000), st.sampled_from(["auto", "90/5/5", "70/10/20", "80/15/5"]))
def test_each_share_is_within_half_a_point(seed: int, groups: int, split: str) -> None:
    """With groups of up to 50 items among many small ones."""
    draw = np.random.default_rng(seed)
    sizes = np.minimum(np.ceil(draw.pareto(1.5, groups) + 0.01), 50).astype(int).tolist()
    names, count = make_groups(sizes, seed)
    side = split_groups(names, count, split, seed)
    rows = sum(sizes)
    for index, wanted in enumerate(parse_split(split, rows)):
        assert abs(count[side == index].sum() - wanted) <= 0.005 * rows


def test_the_split_does_not_depend_on_the_order_of_groups() -> None:
    """It is a matter of their hashes."""
    names, sizes = make_groups([1, 2, 3] * 200)
    order = np.random.default_rng(1).permutation(600)
    assert (split_groups(names, sizes, "auto", 0)[order] == split_groups(names[order], sizes[order], "auto", 0)).all()


def test_another_seed_is_another_split() -> None:
    """And the same seed the same."""
    names, sizes = make_groups([1] * 1_000)
    first, same, other = (split_groups(names, sizes, "90/5/5", seed) for seed in (1, 1, 2))
    assert (first == same).all()
    assert not (first == other).all()


def test_the_seeded_order_is_even() -> None:
    """Ten equal parts of the drawn numbers hold a tenth each, within four standard deviations."""
    counts = np.bincount(mix_hashes(3, np.arange(10_000, dtype=np.uint64)) // np.uint64(2**64 // 10), minlength=10)[:10]
    assert np.abs(counts - 1_000).max() < 120


def test_under_a_hundred_rows_nothing_is_split() -> None:
    """Too few to judge by."""
    with pytest.raises(InputError, match="Too few rows"):
        parse_split("auto", 99)


@pytest.mark.parametrize("split", ["", "90", "90/10", "90/5/6", "a/b/c", "100/0/0", "nan/5/5", "-5/100/5", "90/5/5/0"])
def test_shares_that_are_none_are_refused(split: str) -> None:
    """Three shares above 0 that make 100."""
    with pytest.raises(UsageError, match="--split"):
        parse_split(split, 1_000)


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
    price = next(index for index, name in enumerate(header) if "price" in name.lower())

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
