"""Items of a catalog as a sequence that is read from disk, in Arrow batches, as often as it is gone through.

    items = read_items(catalog, "train")
    for item in items: ...                  # no more than one batch of them is in memory
    get_prices(items)                       # one column [n], without the texts
    get_listings(items)                     # a sequence of listings, read in the same way

A fit that goes through such a sequence holds its features, and not millions of Python objects beside them. A single
item can be asked for too: then the columns are kept in memory, as Arrow arrays. If the catalog is built again
meanwhile, reading ends with an error: a model of two catalogs would be wrong without a word.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import repeat
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from pricesmith.catalog.catalog import ITEMS, Catalog, check_split, half_of
from pricesmith.core.errors import InputError
from pricesmith.core.types import Item, Listing

if TYPE_CHECKING:
    import pyarrow as pa

TEXTS = ("id", "title", "text", "category", "brand")
BATCH = 5_000  # rows that are read at once


@dataclass(frozen=True, eq=False)
class CatalogItems(Sequence[Item]):
    """The items of the `rows` [n] of a catalog's file, ascending; sample weights [n] are None if all are 1. `version`
    is the file that the rows were found in."""

    catalog: Catalog
    rows: NDArray[np.int64]
    version: tuple[int, ...]
    weights: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Item]:
        weights = repeat(1.0) if self.weights is None else iter(self.weights.tolist())
        for batch in self.batches((*TEXTS, "price")):
            prices = batch.column("price").to_pylist()
            yield from map(Item, make_listings(batch, self.catalog.rewriting), prices, weights)

    @overload
    def __getitem__(self, place: int) -> Item: ...
    @overload
    def __getitem__(self, place: slice) -> list[Item]: ...
    def __getitem__(self, place: int | slice) -> Item | list[Item]:
        import pyarrow as pa

        places = range(len(self))[place]
        chosen = places if isinstance(places, range) else [places]
        rows = self.table.take(pa.array(chosen, pa.int64()))
        weights = repeat(1.0) if self.weights is None else self.weights[chosen].tolist()
        items = [*map(Item, make_listings(rows, self.catalog.rewriting), rows.column("price").to_pylist(), weights)]
        return items if isinstance(place, slice) else items[0]

    @cached_property
    def table(self) -> pa.Table:
        """All columns in memory, for single items."""
        return self.read_table((*TEXTS, "price"))

    def read_table(self, names: Sequence[str]) -> pa.Table:
        """Some columns of the rows, in memory, each in one piece: `take` joins all pieces of a column at every call.
        Large strings, because a piece of others holds 2 GiB at most."""
        import pyarrow as pa

        schema = pa.schema([(name, pa.float64() if name == "price" else pa.string()) for name in names])
        large = pa.schema([(name, pa.float64() if name == "price" else pa.large_string()) for name in names])
        return pa.Table.from_batches(self.batches(names), schema).cast(large).combine_chunks()

    @property
    def listings(self) -> CatalogListings:
        """The listings of the items."""
        return CatalogListings(self)

    def batches(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Some columns of the rows, a number of rows at a time. Raises InputError where the file is damaged, or if it
        is another one by now."""
        import pyarrow as pa

        self.check_version()
        start = 0
        for batch in self.catalog.batches(names, BATCH):
            if start == 0:  # now the file is open: what follows is its own
                self.check_version()
            first, last = np.searchsorted(self.rows, [start, start + batch.num_rows])
            own = self.rows[first:last] - start
            start += batch.num_rows
            if len(own):
                yield (batch if len(own) == batch.num_rows else batch.take(pa.array(own))).select(list(names))

    def check_version(self) -> None:
        """Raises InputError if the catalog is another one by now."""
        if file_version(self.catalog) != self.version:
            raise replaced_error(self.catalog)

    def column(self, name: str) -> list[Any]:
        """The values of one column."""
        return [value for batch in self.batches((name,)) for value in batch.column(0).to_pylist()]

    def weighted(self, weights: NDArray[np.float64]) -> CatalogItems:
        """These items with sample weights [n]."""
        return replace(self, weights=None if (weights == 1).all() else weights)


def replaced_error(catalog: Catalog) -> InputError:
    """The error for a catalog that was built again after it was opened."""
    return InputError(
        f"{catalog.path} has been replaced while it was read",
        got="another catalog under the same name",
        hint="Run the same command again; it reads the new one.",
    )


def file_version(catalog: Catalog) -> tuple[int, ...]:
    """What tells the file of a catalog's items from another one under the same name; empty if there is none."""
    try:
        facts = (catalog.path / ITEMS).stat()
    except FileNotFoundError:
        return ()
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def make_listings(rows: pa.RecordBatch | pa.Table, rewriting: str) -> Iterator[Listing]:
    """The listings of some rows with the columns `TEXTS`."""
    columns = [rows.column(name).to_pylist() for name in TEXTS]
    return map(Listing, *columns, repeat(rewriting))


def read_items(catalog: Catalog, split: str, half: str | None = None) -> CatalogItems:
    """The items of a split, or of the half `tune` or `calibrate` of validation. Raises InputError for another split."""
    import pyarrow as pa
    import pyarrow.compute as pc

    check_split(split)
    version = file_version(catalog)
    if version and version[1] != catalog.ledger["items_bytes"]:  # checked when the catalog was opened
        raise replaced_error(catalog)
    parts, start = [np.zeros(0, np.int64)], 0
    for batch in catalog.batches(("split",) if half is None else ("split", "group")):
        rows = np.flatnonzero(pc.equal(batch.column("split"), split).to_numpy(zero_copy_only=False))
        if half is not None:
            groups = batch.column("group").take(pa.array(rows)).to_pylist()
            rows = rows[np.array([half_of(group) == half for group in groups], dtype=np.bool_)]
        parts.append(rows + start)
        start += batch.num_rows
    return CatalogItems(catalog, np.concatenate(parts), version)


@dataclass(frozen=True, eq=False)
class CatalogListings(Sequence[Listing]):
    """The listings of items of a catalog, read like these."""

    items: CatalogItems

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Listing]:
        for batch in self.items.batches(TEXTS):
            yield from make_listings(batch, self.items.catalog.rewriting)

    @overload
    def __getitem__(self, place: int) -> Listing: ...
    @overload
    def __getitem__(self, place: slice) -> list[Listing]: ...
    def __getitem__(self, place: int | slice) -> Listing | list[Listing]:
        if isinstance(place, slice):
            return [item.listing for item in self.items[place]]
        return self.items[place].listing


@dataclass(frozen=True, eq=False)
class OrderedListings(Sequence[Listing]):
    """The listings of a table in another order, made when they are gone through."""

    table: pa.Table
    order: NDArray[np.int64]
    rewriting: str

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Listing]:
        import pyarrow as pa

        for start in range(0, len(self), BATCH):
            yield from make_listings(self.table.take(pa.array(self.order[start : start + BATCH])), self.rewriting)

    @overload
    def __getitem__(self, place: int) -> Listing: ...
    @overload
    def __getitem__(self, place: slice) -> list[Listing]: ...
    def __getitem__(self, place: int | slice) -> Listing | list[Listing]:
        own = replace(self, order=self.order[place if isinstance(place, slice) else [place]])
        return list(own) if isinstance(place, slice) else next(iter(own))


def listings_in_order(items: Sequence[Item], order: NDArray[np.int64]) -> Sequence[Listing]:
    """The listings of items in another order; those of a catalog are in memory as Arrow arrays."""
    if isinstance(items, CatalogItems):
        return OrderedListings(items.read_table(TEXTS), order, items.catalog.rewriting)
    return [items[place].listing for place in order.tolist()]


def get_listings(items: Sequence[Item]) -> Sequence[Listing]:
    """The listings of items; those of a catalog are read when they are gone through."""
    return items.listings if isinstance(items, CatalogItems) else [item.listing for item in items]


def get_column(items: Sequence[Item], name: str) -> list[str]:
    """One text of each item, such as its category."""
    return items.column(name) if isinstance(items, CatalogItems) else [getattr(item.listing, name) for item in items]


def get_prices(items: Sequence[Item]) -> NDArray[np.float64]:
    """The prices of items [n]."""
    if isinstance(items, CatalogItems):
        parts = [batch.column(0).to_numpy() for batch in items.batches(("price",))]
        return np.concatenate([np.zeros(0), *parts])
    return np.array([item.price for item in items], dtype=np.float64)
