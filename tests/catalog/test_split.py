"""Groups go to one side each, and the shares are met."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricesmith.catalog.split import Shares, mix_hashes, parse_split, split_groups
from pricesmith.core.errors import InputError, UsageError


def made(sizes: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    return draw.integers(0, 2**63, len(sizes)).astype(np.uint64), np.array(sizes)


def test_auto_is_a_thousand_items_between_5_and_20_percent() -> None:
    """test = max(5 %, min(1,000 items, 20 %)), validation alike."""
    assert parse_split("auto", 100) == Shares(60, 20, 20)
    assert parse_split("auto", 4_000) == Shares(2_400, 800, 800)
    assert parse_split("auto", 10_000) == Shares(8_000, 1_000, 1_000)
    assert parse_split("auto", 60_000) == Shares(54_000, 3_000, 3_000)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 99), st.integers(400, 3_000), st.sampled_from(["auto", "90/5/5", "70/10/20", "80/15/5"]))
def test_each_share_is_within_half_a_point(seed: int, groups: int, split: str) -> None:
    """With groups of up to 50 items among many small ones."""
    draw = np.random.default_rng(seed)
    sizes = np.minimum(np.ceil(draw.pareto(1.5, groups) + 0.01), 50).astype(int).tolist()
    names, count = made(sizes, seed)
    side = split_groups(names, count, split, seed)
    rows = sum(sizes)
    for place, wanted in enumerate(parse_split(split, rows)):
        assert abs(count[side == place].sum() - wanted) <= 0.005 * rows


def test_the_split_does_not_depend_on_the_order_of_groups() -> None:
    """It is a matter of their hashes."""
    names, sizes = made([1, 2, 3] * 200)
    order = np.random.default_rng(1).permutation(600)
    assert (split_groups(names, sizes, "auto", 0)[order] == split_groups(names[order], sizes[order], "auto", 0)).all()


def test_another_seed_is_another_split() -> None:
    """And the same seed the same."""
    names, sizes = made([1] * 1_000)
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
