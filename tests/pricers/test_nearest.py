"""Neighbours are the nearest, never of the own family, and their prices tell what a listing costs."""

from __future__ import annotations

import numpy as np
import pytest

from pricesmith.pricers.features import nearest
from pricesmith.pricers.features.nearest import BIAS, NOISE, RIDGES, SEEN, Nearest, families_of, folds_of
from pricesmith.pricers.features.vocabulary import gather
from pricesmith.pricers.stacked.stock import Stock
from pricesmith.testing import made_items
from pricesmith.types import Listing

ITEMS = made_items(400, seed=3)[0]
WARES = [item.listing for item in ITEMS]
LOGS = np.log([item.price for item in ITEMS])


@pytest.fixture(scope="module")
def shop() -> Nearest:
    return Nearest.of(gather(WARES), LOGS)


def test_the_nearest_are_those_of_the_whole_product(shop: Nearest) -> None:
    """Block by block or all at once: the same cosines, highest first."""
    found = shop.search(shop.matrix[:50], 20)
    whole = (shop.matrix[:50] @ shop.matrix.T).toarray()
    assert found.cosines == pytest.approx(-np.sort(-whole, axis=1)[:, :20], abs=2e-5)
    assert (found.places[:, 0] == np.arange(50)).mean() > 0.9


def test_a_row_is_not_shown_its_own_family(shop: Nearest) -> None:
    """Not itself, and not its near-duplicates: a price that leaks would make training rows look easy."""
    families = families_of(WARES)
    assert len(np.unique(families)) < len(families)
    found = shop.search(shop.matrix, SEEN, families, families)
    shown = found.places >= 0
    assert shown.any()
    assert not (shown & (families[found.places] == families[:, None])).any()


@pytest.mark.parametrize("gram", [0, 4_000], ids=["a large shop", "a small shop"])
def test_cosines_among_neighbours_are_those_of_the_matrix(
    shop: Nearest, gram: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The quick product over shared features alone, and in a small shop the one of all pairs, is the whole product."""
    monkeypatch.setattr(nearest, "GRAM", gram)
    found = shop.search(shop.matrix[:5], 16)
    for row, among in enumerate(shop.cosines_among(found.places)):
        near = shop.matrix[found.places[row]]
        assert among == pytest.approx((near @ near.T).toarray(), abs=1e-5)


def test_the_local_ridge_is_the_dual_of_a_ridge_regression(shop: Nearest) -> None:
    """scikit-learn's kernel ridge on the same neighbours gives the same answer."""
    from sklearn.kernel_ridge import KernelRidge

    found = shop.search(shop.vectors(WARES[:6]), SEEN)
    told = shop.columns(found)
    k = RIDGES[0]
    for row in range(6):
        near = shop.matrix[found.places[row, :k]]
        oracle = KernelRidge(alpha=NOISE, kernel="precomputed").fit(
            BIAS + (near @ near.T).toarray(), LOGS[found.places[row, :k]] - LOGS.mean()
        )
        answer = oracle.predict(BIAS + found.cosines[row, :k][None, :])[0] + LOGS.mean()
        assert told[row, 0] == pytest.approx(answer, abs=1e-3)


def test_without_anything_alike_there_is_nothing_to_tell(shop: Nearest) -> None:
    """A listing of unknown words has no neighbours: columns are missing, not made up, and nothing fails."""
    found = shop.search(shop.vectors([Listing("1", "zzqx", "wvvj")]), SEEN)
    assert (found.places == -1).all()
    told = shop.columns(found)[0]
    assert told[0] == pytest.approx(LOGS.mean(), abs=1e-6)
    assert np.isnan(told[4])


def test_a_listing_has_the_same_neighbours_in_any_batch(shop: Nearest) -> None:
    """Columns of one are columns of many."""
    many = shop.columns(shop.search(shop.vectors(WARES[:30]), SEEN))
    for row in (0, 7, 29):
        one = shop.columns(shop.search(shop.vectors([WARES[row]]), SEEN))
        assert np.array_equal(one[0], many[row], equal_nan=True)


def test_a_fold_left_out_is_nowhere_among_the_neighbours() -> None:
    """Neither as a row's neighbour nor in the columns; a family lies in one fold."""
    stock = Stock.of(ITEMS, folds=3, seed=0)
    columns = stock.columns()
    assert columns.shape[0] == 1 + 3
    for number, fold in enumerate(stock.folds):
        found = stock.found(fold)
        shown = found.places >= 0
        assert shown.sum(axis=1).mean() > 0.9 * SEEN
        assert not (shown & (stock.fold[found.places] == fold)).any()
        again = stock.nearest.columns(found, middle_log=float(stock.logs[stock.fold != fold].mean()))
        assert np.allclose(columns[number + 1], again, atol=1e-4, equal_nan=True)
    families = families_of(WARES)
    pairs = {(int(family), int(fold)) for family, fold in zip(families, stock.fold, strict=True)}
    assert len(pairs) == len(np.unique(families))
    assert np.array_equal(stock.fold, folds_of(families, 3, 0))
