"""A listing beside its neighbors: what the trees see of a pair, and the price that follows from all pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricesmith.core.errors import InputError
from pricesmith.pricers.ensemble import pairs as module
from pricesmith.pricers.ensemble.pairs import FIELDS, MAX_NUMBERS, PAIRS_A_ROW, Partners, choose_pairs
from pricesmith.pricers.features.retrieval import Neighbors

NAN = np.nan
# A category, a number, and a log price; three training rows with the first two.
PARTNERS = Partners(np.array([[1, 2.0], [1, NAN], [NAN, 5.0]], dtype=np.float32), 1, np.log([10.0, 20.0, 40.0]))
TABLE = np.array([[1, 3.0, 2.5], [0, NAN, 1.5], [1, 1.0, 0.5]], dtype=np.float32)
NEAR = Neighbors(np.array([[0, 2], [1, -1], [-1, -1]]), np.array([[0.8, 0.4], [0.5, 0.0], [0.0, 0.0]], np.float32))
FALLBACK = np.log([1.0, 2.0, 3.0])


def test_a_pair_is_the_listing_its_partner_and_their_differences() -> None:
    """A field that one of the two lacks is not compared; a listing without neighbors is beside its fallback."""
    pairs = PARTNERS.pair(TABLE, [2], NEAR, FALLBACK)
    assert pairs.rows.tolist() == [0, 0, 1, 2]
    assert np.allclose(pairs.logs, np.log([10, 40, 20, 3]))
    cosine, rank, log, equal, difference, distance, one_only, relative = pairs.table[:, 3:].T
    assert np.array_equal(pairs.table[:, :3], TABLE[pairs.rows], equal_nan=True)
    assert np.allclose(cosine, [0.8, 0.4, 0.5, 0])
    assert rank.tolist() == [0, 1, 0, 0]
    assert np.array_equal(equal, [1, NAN, 0, NAN], equal_nan=True)
    assert np.array_equal(difference, [1, -2, NAN, NAN], equal_nan=True)
    assert distance.tolist() == [1, 2, 0, 0]
    assert one_only.tolist() == [0, 0, 0, 1]
    assert np.allclose(log, pairs.logs)
    assert np.allclose(relative, TABLE[pairs.rows, 2] - pairs.logs)


def test_the_price_is_the_mean_over_the_partners() -> None:
    """Weighted by the fourth power of the cosine, after each ratio is applied to its partner's price."""
    pairs = PARTNERS.pair(TABLE, [2], NEAR, FALLBACK)
    ratios = np.array([0.1, -0.2, 0.3, 0.0])
    first = (0.8**4 * (np.log(10) + 0.1) + 0.4**4 * (np.log(40) - 0.2)) / (0.8**4 + 0.4**4)
    assert np.allclose(pairs.mean(ratios), [first, np.log(20) + 0.3, np.log(3)])


@given(st.integers(0, 40), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_trees_are_grown_on_a_few_pairs_of_each_listing(count: int, k: int, seed: int) -> None:
    """As many as there are neighbors, at most three; of a listing without neighbors its only pair."""
    rng = np.random.default_rng(seed)
    known = rng.integers(0, k + 1, count)
    indices = np.where(np.arange(k)[None, :] < known[:, None], 0, -1)
    near = Neighbors(indices, np.zeros((count, k), dtype=np.float32))
    chosen = choose_pairs(near, seed)
    partners = Partners(np.zeros((1, 1), dtype=np.float32), 1, np.zeros(1))
    pairs = partners.pair(np.zeros((count, 1), dtype=np.float32), [], near, np.zeros(count), chosen)
    expected = np.minimum(np.maximum(known, 1), PAIRS_A_ROW)
    assert np.bincount(pairs.rows, minlength=count).tolist() == expected.tolist()
    assert np.array_equal(chosen, choose_pairs(near, seed))


def test_of_very_many_rows_one_pair_each_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a fit needs no more memory than for single rows."""
    monkeypatch.setattr(module, "MAX_PAIRS", 100)
    near = Neighbors(np.zeros((90, 6), dtype=np.int64), np.ones((90, 6), dtype=np.float32))
    assert choose_pairs(near, 0).sum(axis=1).tolist() == [1] * 90


def test_partners_are_the_same_after_a_file(tmp_path: Path) -> None:
    """With missing fields; only the most frequent numbers are kept."""
    rng = np.random.default_rng(0)
    tabular = np.abs(rng.normal(size=(20, MAX_NUMBERS + 9))).astype(np.float32)
    tabular[rng.random(tabular.shape) < 0.5] = NAN
    logs = rng.normal(size=20)
    made = Partners.from_table(tabular, 3, logs)
    made.save(tmp_path)
    again = Partners.load(tmp_path, 3, MAX_NUMBERS + 6, logs)
    assert np.array_equal(again.fields, made.fields, equal_nan=True)
    assert made.fields.shape == (20, 3 + MAX_NUMBERS)
    with pytest.raises(InputError, match=FIELDS):
        Partners.load(tmp_path, 3, MAX_NUMBERS + 6, logs[:19])
    (tmp_path / FIELDS).write_bytes(b"no zip")
    with pytest.raises(InputError, match=FIELDS):
        Partners.load(tmp_path, 3, MAX_NUMBERS + 6, logs)
