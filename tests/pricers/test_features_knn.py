"""Neighbors are the nearest, never of the own group, and their prices tell what a listing costs."""

from __future__ import annotations

import numpy as np
import pytest

from pricesmith.core.types import Listing
from pricesmith.pricers.ensemble.retrieval_set import RetrievalSet
from pricesmith.pricers.features import knn
from pricesmith.pricers.features.knn import BIAS, NOISE, RIDGES, SAME_TEXT, NeighborIndex, folds_of, groups_of_texts
from pricesmith.pricers.features.vocabulary import gather_ranges
from pricesmith.testing import make_items

ITEMS = make_items(400, seed=3)[0]
WARES = [item.listing for item in ITEMS]
LOGS = np.log([item.price for item in ITEMS])


@pytest.fixture(scope="module")
def shop() -> NeighborIndex:
    return NeighborIndex.of(gather_ranges(WARES), LOGS)


def test_the_nearest_are_those_of_the_whole_product(shop: NeighborIndex) -> None:
    """Block by block or all at once: the same cosines, highest first."""
    found = shop.search(shop.matrix[:50], 20)
    whole = (shop.matrix[:50] @ shop.matrix.T).toarray()
    assert found.cosines == pytest.approx(-np.sort(-whole, axis=1)[:, :20], abs=2e-5)
    assert (found.places[:, 0] == np.arange(50)).mean() > 0.9


def test_a_row_is_not_shown_its_own_group(shop: NeighborIndex) -> None:
    """Not itself, and not its near-duplicates: a price that leaks would make training rows look easy."""
    groups = groups_of_texts(WARES)
    assert len(np.unique(groups)) < len(groups)
    found = shop.search(shop.matrix, SAME_TEXT, groups, groups)
    shown = found.places >= 0
    assert shown.any()
    assert not (shown & (groups[found.places] == groups[:, None])).any()


@pytest.mark.parametrize("gram", [0, 4_000], ids=["a large shop", "a small shop"])
def test_cosines_among_neighbors_are_those_of_the_matrix(
    shop: NeighborIndex, gram: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The quick product over shared features alone, and in a small shop the one of all pairs, is the whole product."""
    monkeypatch.setattr(knn, "GRAM", gram)
    found = shop.search(shop.matrix[:5], 16)
    for row, among in enumerate(shop.cosines_among(found.places)):
        near = shop.matrix[found.places[row]]
        assert among == pytest.approx((near @ near.T).toarray(), abs=1e-5)


def test_the_local_ridge_is_the_dual_of_a_ridge_regression(shop: NeighborIndex) -> None:
    """scikit-learn's kernel ridge on the same neighbors gives the same answer."""
    from sklearn.kernel_ridge import KernelRidge

    found = shop.search(shop.vectors(WARES[:6]), SAME_TEXT)
    told = shop.columns(found)
    k = RIDGES[0]
    for row in range(6):
        near = shop.matrix[found.places[row, :k]]
        oracle = KernelRidge(alpha=NOISE, kernel="precomputed").fit(
            BIAS + (near @ near.T).toarray(), LOGS[found.places[row, :k]] - LOGS.mean()
        )
        answer = oracle.predict(BIAS + found.cosines[row, :k][None, :])[0] + LOGS.mean()
        assert told[row, 0] == pytest.approx(answer, abs=1e-3)


def test_without_anything_alike_there_is_nothing_to_tell(shop: NeighborIndex) -> None:
    """A listing of unknown words has no neighbors: columns are missing, not made up, and nothing fails."""
    found = shop.search(shop.vectors([Listing("1", "zzqx", "wvvj")]), SAME_TEXT)
    assert (found.places == -1).all()
    told = shop.columns(found)[0]
    assert told[0] == pytest.approx(LOGS.mean(), abs=1e-6)
    assert np.isnan(told[4])


def test_a_listing_has_the_same_neighbors_in_any_batch(shop: NeighborIndex) -> None:
    """Columns of one are columns of many."""
    many = shop.columns(shop.search(shop.vectors(WARES[:30]), SAME_TEXT))
    for row in (0, 7, 29):
        one = shop.columns(shop.search(shop.vectors([WARES[row]]), SAME_TEXT))
        assert np.array_equal(one[0], many[row], equal_nan=True)


def test_a_fold_left_out_is_nowhere_among_the_neighbors() -> None:
    """Neither as a row's neighbor nor in the columns; a group lies in one fold."""
    stock = RetrievalSet.of(ITEMS, folds=3, seed=0)
    columns = stock.columns()
    assert columns.shape[0] == 1 + 3
    for number, fold in enumerate(stock.folds):
        found = stock.found(fold)
        shown = found.places >= 0
        assert shown.sum(axis=1).mean() > 0.9 * SAME_TEXT
        assert not (shown & (stock.fold[found.places] == fold)).any()
        again = stock.nearest.columns(found, middle_log=float(stock.logs[stock.fold != fold].mean()))
        assert np.allclose(columns[number + 1], again, atol=1e-4, equal_nan=True)
    groups = groups_of_texts(WARES)
    pairs = {(int(group), int(fold)) for group, fold in zip(groups, stock.fold, strict=True)}
    assert len(pairs) == len(np.unique(groups))
    assert np.array_equal(stock.fold, folds_of(groups, 3, 0))
