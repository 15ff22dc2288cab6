"""--train-rows: which training items stay, balanced over sources, price bands and categories."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pricesmith.catalog import curate
from pricesmith.catalog.balance import N_BANDS, balance, number_categories
from pricesmith.testing import make_csv

Rows: TypeAlias = tuple[NDArray[np.float64], NDArray[np.uint64], list[str], list[str]]
KINDS = ("Garden > Hoses", "Garden > Lamps", "Office", "office", "", "Pens")


def make_rows(count: int, seed: int = 0) -> Rows:
    """Prices, hashes, categories and sources, some of which are much commoner than others."""
    draw = np.random.default_rng(seed)
    kinds = draw.choice(len(KINDS), count, p=[0.5, 0.3, 0.1, 0.05, 0.04, 0.01])
    hashes = draw.integers(0, 2**63, count).astype(np.uint64)
    shops = draw.choice(["a.csv", "b.csv"], count, p=[0.9, 0.1]).tolist()
    return np.exp(draw.normal(3.5, 1.0, count)), hashes, [KINDS[kind] for kind in kinds], shops


@given(st.integers(0, 9), st.integers(1, 400), st.integers(0, 400), st.integers(0, 400))
def test_a_larger_number_of_rows_contains_the_smaller(seed: int, count: int, few: int, more: int) -> None:
    """And exactly so many stay, or all if there are fewer."""
    rows = make_rows(count, seed)
    masks = [balance(*rows, wanted, 3).mask for wanted in sorted((few, more))]
    assert [mask.sum() for mask in masks] == [min(count, wanted) for wanted in sorted((few, more))]
    assert (masks[0] <= masks[1]).all()


@given(st.integers(0, 9), st.permutations(range(300)))
def test_the_choice_depends_on_the_seed_and_not_on_the_order_of_rows(seed: int, order: list[int]) -> None:
    """The same rows stay, whatever place they have."""
    prices, hashes, categories, sources = rows = make_rows(300, seed)
    mask = balance(*rows, 100, seed).mask
    kinds, shops = ([names[place] for place in order] for names in (categories, sources))
    turned = balance(prices[order], hashes[order], kinds, shops, 100, seed).mask
    assert (turned == mask[order]).all()
    assert not (balance(*rows, 100, seed + 1).mask == mask).all()


def test_each_source_and_stratum_has_a_share_in_proportion_to_the_root_of_its_size() -> None:
    """Within one item, as long as none is used up: of 9,000, 900 and 100 items, 600 are about 420, 133 and 44."""
    sizes, hashes = [9_000, 900, 100], np.random.default_rng(0).integers(0, 2**63, 10_000).astype(np.uint64)
    categories = [name for name, size in zip("abc", sizes, strict=True) for _ in range(size)]
    for kinds, shops in ((categories, ["a.csv"] * 10_000), (["pens"] * 10_000, categories)):
        mask = balance(np.full(10_000, 9.99), hashes, kinds, shops, 600, 0).mask
        counts = np.array([mask[np.array(categories) == name].sum() for name in "abc"])
        assert np.abs(counts - 600 * np.sqrt(sizes) / np.sqrt(sizes).sum()).max() <= 1


def test_a_source_with_many_categories_has_no_larger_share() -> None:
    """Two sources of equal size have equal shares, though one has ten categories and the other has one."""
    categories = [str(number % 10) for number in range(1_000)] + [""] * 1_000
    hashes = np.random.default_rng(0).integers(0, 2**63, 2_000).astype(np.uint64)
    sources = ["a.csv"] * 1_000 + ["b.csv"] * 1_000
    mask = balance(np.full(2_000, 9.99), hashes, categories, sources, 400, 0).mask
    assert abs(int(mask[:1_000].sum()) - 200) <= 5


def test_rare_prices_and_rare_categories_stay_more_often() -> None:
    """The histogram of price bands shows it, and no band is empty that was not."""
    prices, hashes, categories, sources = make_rows(5_000)
    chosen = balance(prices, hashes, categories, sources, 1_000, 0)
    assert (sum(chosen.before), sum(chosen.after), len(chosen.after)) == (5_000, 1_000, N_BANDS)
    assert max(chosen.after) / 1_000 < max(chosen.before) / 5_000
    assert all(after for before, after in zip(chosen.before, chosen.after, strict=True) if before)
    pens = np.array(categories) == "Pens"
    small = np.array(sources) == "b.csv"
    assert chosen.mask[pens].mean() > 2 * chosen.mask.mean()
    assert chosen.mask[small].mean() > 2 * chosen.mask[~small].mean()


def test_categories_go_by_their_first_level_and_rare_ones_are_one() -> None:
    """Letter case does not count. A catalog without categories is balanced over prices alone."""
    categories = ["Garden > Hoses", "garden", "Office"] * 400 + ["rare", "rarer"]
    numbers = number_categories(categories)
    assert numbers[0] == numbers[1] != numbers[2]
    assert numbers[-1] == numbers[-2]
    assert len(set(numbers.tolist())) == 3
    assert number_categories([""] * 9).tolist() == [0] * 9


def test_one_price_is_one_band() -> None:
    """A catalog of a single price can be balanced too."""
    assert balance(np.full(50, 9.99), np.arange(50, dtype=np.uint64), [""] * 50, [""] * 50, 10, 0).mask.sum() == 10


def test_the_training_rows_of_a_small_catalog_are_among_those_of_a_larger_one(tmp_path: Path) -> None:
    """With the same seed; the ledger names the rule."""
    path = str(make_csv(tmp_path / "a.csv", 400))
    small, large = (curate([path], tmp_path / f"out{rows}", train_rows=rows) for rows in (60, 120))
    names = [{item.listing.id for item in catalog.items("train")} for catalog in (small, large)]
    assert [len(name) for name in names] == [60, 120]
    assert names[0] < names[1]
    assert "square root" in small.ledger["balance"]["rule"]
