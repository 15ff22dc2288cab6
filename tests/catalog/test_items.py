"""Items that are read from disk as often as they are gone through are the items that a list holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pricesmith.catalog import curate
from pricesmith.catalog import items as module
from pricesmith.catalog.catalog import SPLITS, Catalog
from pricesmith.catalog.items import CatalogItems, get_listings, get_prices, listings_in_order, read_items
from pricesmith.core.errors import InputError
from pricesmith.core.types import Item
from pricesmith.testing import make_csv


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    folder = tmp_path_factory.mktemp("items")
    return curate([str(make_csv(folder / "a.csv", 400))], folder / "out")


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several batches, the last of them shorter."""
    monkeypatch.setattr(module, "BATCH", 70)


@pytest.mark.parametrize("split", SPLITS)
def test_the_items_of_a_split_are_those_of_the_list(shop: Catalog, split: str) -> None:
    """In the same order, as often as they are asked for; with their listings, prices and groups."""
    expected, groups = shop.items_and_groups(split)
    found = read_items(shop, split)
    assert len(found) == len(expected)
    assert list(found) == list(found) == expected
    assert list(found.listings) == [item.listing for item in expected] == get_listings(expected)
    assert get_prices(found).tolist() == [item.price for item in expected] == get_prices(expected).tolist()
    assert found.column("group") == groups


@pytest.mark.parametrize("half", ["tune", "calibrate"])
def test_a_half_of_validation_is_that_of_the_list(shop: Catalog, half: str) -> None:
    """The same groups are in it."""
    assert list(read_items(shop, "validation", half)) == shop.half(half)


def test_single_items_and_slices_are_those_of_the_list(shop: Catalog) -> None:
    """From either end; a place that does not exist is an IndexError, as for a list."""
    expected, found = shop.items("train"), read_items(shop, "train")
    assert [found[place] for place in (0, 5, -1)] == [expected[place] for place in (0, 5, -1)]
    assert found[3:9:2] == expected[3:9:2]
    assert found.listings[-2:] == [item.listing for item in expected[-2:]]
    assert found.listings[4] == expected[4].listing
    assert expected[7] in found
    with pytest.raises(IndexError):
        found[len(expected)]


def test_items_are_weighted_by_place(shop: Catalog) -> None:
    """Weights of 1 are none at all: a fit is then the same to the bit."""
    found = read_items(shop, "validation")
    weights = np.arange(1.0, len(found) + 1)
    expected = [Item(item.listing, item.price, weight) for item, weight in zip(found, weights.tolist(), strict=True)]
    weighted = found.weighted(weights)
    assert list(weighted) == expected
    assert weighted[2] == expected[2]
    assert found.weighted(np.ones(len(found))).weights is None


def test_another_order_is_that_of_the_list(shop: Catalog) -> None:
    """Of listings on disk and of a list."""
    found = read_items(shop, "train")
    order = np.random.default_rng(0).permutation(len(found))
    expected = [list(found)[place].listing for place in order.tolist()]
    ordered = listings_in_order(found, order)
    assert list(ordered) == expected == list(listings_in_order(list(found), order))
    assert [ordered[3], *ordered[5:7]] == [expected[3], *expected[5:7]]
    assert len(ordered) == len(expected)


def test_only_what_is_needed_is_read(shop: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """One batch for the first item; prices do not need the texts."""
    asked: list[tuple[str, ...]] = []
    batches = Catalog.batches

    def record(self, names, rows):  # type: ignore[no-untyped-def]
        for batch in batches(self, names, rows):
            asked.append(tuple(names))
            yield batch

    found = read_items(shop, "train")
    monkeypatch.setattr(Catalog, "batches", record)
    next(iter(found))
    assert len(asked) == 1
    get_prices(found)
    assert set(asked[1:]) == {("price",)}


def test_a_changed_file_is_refused_when_it_is_read(shop: Catalog, tmp_path: Path) -> None:
    """Also after the catalog was opened."""
    found = read_items(shop, "train")
    lost = CatalogItems(Catalog(tmp_path, shop.ledger), found.rows, found.version)
    (tmp_path / "items.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError):
        list(lost)


def test_an_unknown_split_is_refused(shop: Catalog) -> None:
    """With the splits that there are."""
    with pytest.raises(InputError, match="no split 'dev'"):
        read_items(shop, "dev")


def test_items_of_a_catalog_that_was_built_again_are_not_mixed_with_the_new_ones(tmp_path: Path) -> None:
    """A fit goes through them several times. Not if the new file has the same size and number of rows, and not if the
    catalog was opened before, but its items were not found yet."""
    table, folder = make_csv(tmp_path / "a.csv", 400), tmp_path / "out"
    catalog = curate([str(table)], folder)
    found = read_items(catalog, "train")
    listings = found.listings
    assert len(list(found)) == len(list(listings)) == len(found)
    for rows in (400, 410):
        curate([str(make_csv(tmp_path / "a.csv", rows))], folder, overwrite=True)
        for read in (found, listings):
            with pytest.raises(InputError, match="has been replaced while it was read"):
                list(read)
    with pytest.raises(InputError, match="has been replaced while it was read"):
        read_items(catalog, "train")


def test_columns_in_memory_are_in_one_piece_of_any_size(shop: Catalog) -> None:
    """Taking rows from a column of several pieces joins all of them each time, and fails beyond 2 GiB of text."""
    table = read_items(shop, "train").table
    assert {column.num_chunks for column in table.columns} == {1}
    assert str(table.schema.field("text").type) == "large_string"
