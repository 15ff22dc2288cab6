"""Balancing cuts the crowded price bins to one level."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pricesmith.catalog.split import balance, waterfill_level


def made(n: int = 5_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    return np.exp(draw.normal(3.5, 1.0, n)), draw.integers(0, 2**63, n).astype(np.uint64)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=20), st.integers(0, 500))
def test_the_level_is_the_largest_that_fits(counts: list[int], target: int) -> None:
    """One more in each bin would be too many."""
    cap = waterfill_level(counts, target)
    assert sum(min(count, cap) for count in counts) <= target
    if cap < max(counts):
        assert sum(min(count, cap + 1) for count in counts) > target


def test_exactly_the_target_stays() -> None:
    """And the histogram tells it."""
    prices, hashes = made()
    chosen = balance(prices, hashes, 1_234, 0)
    assert chosen.mask.sum() == 1_234 == sum(chosen.after)
    assert sum(chosen.before) == 5_000


def test_sparse_bins_stay_whole_and_crowded_ones_are_level() -> None:
    """No bin that was cut keeps more than one item more than another."""
    prices, hashes = made()
    chosen = balance(prices, hashes, 1_500, 0)
    cut = [after for before, after in zip(chosen.before, chosen.after, strict=True) if after < before]
    assert cut
    assert max(cut) - min(cut) <= 1
    assert max(chosen.after) <= max(cut)


def test_a_target_above_the_rows_keeps_all() -> None:
    """There is nothing to make up items from."""
    prices, hashes = made(200)
    assert balance(prices, hashes, 1_000, 0).mask.all()


def test_the_choice_is_seeded_and_free_of_order() -> None:
    """Another seed chooses others; another order the same ones."""
    prices, hashes = made(1_000)
    first, other = (balance(prices, hashes, 300, seed).mask for seed in (0, 1))
    order = np.random.default_rng(5).permutation(1_000)
    assert (balance(prices[order], hashes[order], 300, 0).mask == first[order]).all()
    assert not (first == other).all()


def test_one_price_is_one_bin() -> None:
    """A catalog of a single price can be balanced too."""
    assert balance(np.full(50, 9.99), np.arange(50, dtype=np.uint64), 10, 0).mask.sum() == 10
