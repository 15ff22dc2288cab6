"""Nearest-neighbor features: neighbors are the nearest rows of other groups, and columns are made of their prices."""

from __future__ import annotations

import numpy as np
import pytest

from pricesmith.core.types import Listing
from pricesmith.pricers.features import retrieval
from pricesmith.pricers.features.hashing import gather_rows
from pricesmith.pricers.features.retrieval import (
    BIAS,
    N_NEIGHBORS,
    NOISE,
    RIDGES,
    NeighborIndex,
    RetrievalSet,
    assign_folds,
    group_listings,
)
from pricesmith.testing import make_items

ITEMS = make_items(400, seed=3)[0]
LISTINGS = [item.listing for item in ITEMS]
LOGS = np.log([item.price for item in ITEMS])


@pytest.fixture(scope="module")
def index() -> NeighborIndex:
    return NeighborIndex.from_rows(gather_rows(LISTINGS), LOGS)


def test_the_nearest_are_those_of_the_whole_product(index: NeighborIndex) -> None:
    """Block by block or all at once: the same cosines, highest first."""
    neighbors = index.search(index.matrix[:50], 20)
    whole = (index.matrix[:50] @ index.matrix.T).toarray()
    assert neighbors.cosines == pytest.approx(-np.sort(-whole, axis=1)[:, :20], abs=2e-5)
    assert (neighbors.indices[:, 0] == np.arange(50)).mean() > 0.9


def test_neighbors_exclude_the_row_and_its_near_duplicates(index: NeighborIndex) -> None:
    """A leaked price would make training rows look easier than new ones."""
    groups = group_listings(LISTINGS)
    assert len(np.unique(groups)) < len(groups)
    neighbors = index.search(index.matrix, N_NEIGHBORS, groups, groups)
    present = neighbors.indices >= 0
    assert present.any()
    assert not (present & (groups[neighbors.indices] == groups[:, None])).any()


@pytest.mark.parametrize("gram", [0, 4_000], ids=["many rows", "few rows"])
def test_cosines_among_neighbors_are_those_of_the_matrix(
    index: NeighborIndex, gram: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The quick product over shared features alone, and with few rows the one of all pairs, equal the whole product."""
    monkeypatch.setattr(retrieval, "MAX_GRAM_ROWS", gram)
    neighbors = index.search(index.matrix[:5], 16)
    for row, among in enumerate(index.pairwise_cosines(neighbors.indices)):
        near = index.matrix[neighbors.indices[row]]
        assert among == pytest.approx((near @ near.T).toarray(), abs=1e-5)


def test_the_local_ridge_is_the_dual_of_a_ridge_regression(index: NeighborIndex) -> None:
    """scikit-learn's kernel ridge on the same neighbors gives the same prediction."""
    from sklearn.kernel_ridge import KernelRidge

    neighbors = index.search(index.encode(gather_rows(LISTINGS[:6])), N_NEIGHBORS)
    columns = index.columns(neighbors)
    k = RIDGES[0]
    for row in range(6):
        near = index.matrix[neighbors.indices[row, :k]]
        oracle = KernelRidge(alpha=NOISE, kernel="precomputed").fit(
            BIAS + (near @ near.T).toarray(), LOGS[neighbors.indices[row, :k]] - LOGS.mean()
        )
        answer = oracle.predict(BIAS + neighbors.cosines[row, :k][None, :])[0] + LOGS.mean()
        assert columns[row, 0] == pytest.approx(answer, abs=1e-3)


def test_columns_are_missing_without_neighbors(index: NeighborIndex) -> None:
    """A listing of unknown words has no neighbors: its columns are NaN."""
    neighbors = index.search(index.encode(gather_rows([Listing("1", "zzqx", "wvvj")])), N_NEIGHBORS)
    assert (neighbors.indices == -1).all()
    columns = index.columns(neighbors)[0]
    assert columns[0] == pytest.approx(LOGS.mean(), abs=1e-6)
    assert np.isnan(columns[4])


def test_a_listing_has_the_same_neighbors_in_any_batch(index: NeighborIndex) -> None:
    """The columns of a listing do not depend on its batch."""
    many = index.columns(index.search(index.encode(gather_rows(LISTINGS[:30])), N_NEIGHBORS))
    for row in (0, 7, 29):
        columns = index.columns(index.search(index.encode(gather_rows([LISTINGS[row]])), N_NEIGHBORS))
        assert np.array_equal(columns[0], many[row], equal_nan=True)


def test_the_rows_of_a_fold_are_no_neighbors_without_it() -> None:
    """They are neither neighbors nor part of the columns; a group is in a single fold."""
    rows = RetrievalSet.from_items(ITEMS, folds=3, seed=0)
    columns = rows.columns()
    assert columns.shape[0] == 1 + 3
    for number, fold in enumerate(rows.folds):
        neighbors = rows.neighbors(fold)
        present = neighbors.indices >= 0
        assert present.sum(axis=1).mean() > 0.9 * N_NEIGHBORS
        assert not (present & (rows.fold[neighbors.indices] == fold)).any()
        again = rows.index.columns(neighbors, mean_log=float(rows.logs[rows.fold != fold].mean()))
        assert np.allclose(columns[number + 1], again, atol=1e-4, equal_nan=True)
    groups = group_listings(LISTINGS)
    pairs = {(int(group), int(fold)) for group, fold in zip(groups, rows.fold, strict=True)}
    assert len(pairs) == len(np.unique(groups))
    assert np.array_equal(rows.fold, assign_folds(groups, 3, 0))
