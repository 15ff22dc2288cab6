"""Sums over rows are the same in any way of adding up, and a search for a row with enough words says what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricesmith.catalog import postings
from pricesmith.catalog.postings import Postings, Requirement
from pricesmith.core.errors import InputError


def make_postings(rng: np.random.Generator, n_words: int, n_rows: int) -> Postings:
    """Random postings, some words in most rows, some in one or none."""
    counts = (n_rows * rng.random(n_words) ** rng.integers(1, 12, n_words)).astype(int)
    rows = [np.sort(rng.choice(n_rows, count, replace=False)) for count in counts]
    indptr = np.append(0, np.cumsum(counts)).astype(np.int32)
    indices = np.concatenate(rows).astype(np.int32) if counts.sum() else np.empty(0, np.int32)
    return Postings(rng.random(len(indices)).astype(np.float32), indices, indptr, n_rows)


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_sums_word_by_word_and_all_at_once_are_the_same_to_the_last_bit(seed: int, binary: bool) -> None:
    """Long lists of rows take the first way, short ones the second."""
    rng = np.random.default_rng(seed)
    made = make_postings(rng, 8, 40)
    words = rng.permutation(8)[: rng.integers(1, 9)].astype(np.int64)
    weights = rng.random(len(words))
    expected = np.zeros(40)
    for word, weight in zip(words, weights, strict=True):
        for place in range(made.indptr[word], made.indptr[word + 1]):
            expected[made.indices[place]] += weight * (1.0 if binary else float(made.data[place]))
    assert np.array_equal(made.dot(words, weights, binary=binary), expected)


@given(st.integers(0, 2**32 - 1))
def test_sums_of_a_batch_are_those_of_each_query_to_the_last_bit(seed: int) -> None:
    """Queries without words included."""
    rng = np.random.default_rng(seed)
    made = make_postings(rng, 8, 40)
    words = [rng.permutation(8)[: rng.integers(0, 9)].astype(np.int64) for _ in range(5)]
    queries = [(own, rng.random(len(own)) + 0.1) for own in words]
    ends = np.cumsum([0, *map(len, words)])
    products = made.dot_batch(ends, np.concatenate(words), np.concatenate([weights for _, weights in queries]))
    for query, (rows, sums) in zip(queries, products, strict=True):
        dense = np.zeros(40)
        dense[rows] = sums
        assert np.array_equal(dense, made.dot(*query))


@pytest.mark.parametrize("steps", [0, 3, postings.MAX_STEPS])
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 7, 65, 300]), st.sampled_from([1, 3]))
def test_a_row_with_enough_words_is_found_if_there_is_one(steps: int, seed: int, n_rows: int, digits: int) -> None:
    """The highest sum of all rows says the same: for frequent and rare words, at, above and below each sum, also if the
    search gives up early."""
    rng = np.random.default_rng(seed)
    made = make_postings(rng, 14, n_rows)
    words = rng.permutation(14)[: rng.integers(0, 15)].astype(np.int64)
    weights = np.sort(np.round(0.1 + rng.random(len(words)), digits))[::-1]
    common = float(rng.random())
    total = common + float(weights.sum()) + 0.3
    highest = float(made.dot(words, weights, binary=True).max())
    share = round((highest + common) / total, postings.DECIMALS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postings, "MAX_STEPS", steps)
        for least in (share - 0.1, share - 1e-9, share, share + 1e-9, share + 0.1, 1.0):
            assert made.any_row_meets(words, weights, Requirement(common, total, least)) == (share >= least)


def test_no_row_has_enough_where_there_is_no_row() -> None:
    """An index of nothing has nothing similar."""
    empty = np.empty(0, np.int32)
    made = Postings(np.empty(0, np.float32), empty, np.zeros(2, np.int32), 0)
    assert not made.any_row_meets(np.array([0]), np.array([1.0]), Requirement(1.0, 1.0, 0.5))


@pytest.mark.parametrize("indices", [[1, 0, 2], [0, 0, 2], [0, 1, 3]])
def test_rows_out_of_order_are_refused(indices: list[int], tmp_path: Path) -> None:
    """The search needs ascending rows."""
    made = Postings(np.ones(3, np.float32), np.array(indices, np.int32), np.array([0, 0, 2, 3], np.int32), 3)
    with pytest.raises(InputError, match="damaged"):
        made.check(tmp_path / "index.npz")


def test_a_later_word_may_begin_with_an_earlier_row(tmp_path: Path) -> None:
    """Rows ascend within a word; words without rows are allowed everywhere."""
    ends = np.array([0, 0, 2, 2, 3, 3], np.int32)
    Postings(np.ones(3, np.float32), np.array([1, 2, 0], np.int32), ends, 3).check(tmp_path / "index.npz")
