"""Keep the split of an earlier catalog when a newer table of the same goods is curated.

An item is known by its content (brand, title and text) or by its id. A near-duplicate group goes to the split of its
known items. If they were in different splits, which happens when a new listing joins two groups, the whole group goes
to the earliest of train, validation, test: an item that a model was trained on never becomes a test item.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pricesmith.catalog.catalog import SPLITS, Catalog
from pricesmith.catalog.clean import body_text
from pricesmith.catalog.staging import digest
from pricesmith.core.types import Listing

if TYPE_CHECKING:
    import duckdb

NEW = -1  # the split of a group without known items


def previous_sides(base: duckdb.DuckDBPyConnection, previous: Catalog) -> NDArray[np.int8]:
    """The split of each kept row in an earlier catalog, as its place in `SPLITS`, in order of rank; NEW if unknown."""
    import pyarrow as pa

    looks: list[NDArray[np.uint64]] = []
    ids: list[Any] = []
    sides: list[Any] = []
    for batch in previous.batches(("id", "title", "text", "brand", "split")):
        hashes = [
            digest(f"{row['brand']}\0{body_text(Listing(row['id'], row['title'], row['text'], '', row['brand']))}")
            for row in batch.to_pylist()
        ]
        looks.append(np.array(hashes, dtype=np.uint64).reshape(-1, 2))
        ids.append(batch.column("id").cast(pa.string()))
        sides.append(np.array([SPLITS.index(name) for name in batch.column("split").to_pylist()], dtype=np.int8))
    both = np.concatenate(looks)
    table = {"look": both[:, 0], "looks": both[:, 1], "id": pa.chunked_array(ids), "side": np.concatenate(sides)}
    base.register("previous", pa.table(table))
    matches = base.execute(
        """SELECT rank, min(side) AS side FROM (
            SELECT k.rank, p.side FROM kept k JOIN previous p ON p.look = k.look AND p.looks = k.looks
            UNION ALL SELECT k.rank, p.side FROM kept k JOIN previous p ON p.id = k.id)
        GROUP BY rank"""
    ).fetchnumpy()
    rows = base.execute("SELECT count(*) FROM kept").fetchall()[0][0]
    base.unregister("previous")
    sides_by_rank = np.full(rows, NEW, dtype=np.int8)
    sides_by_rank[np.asarray(matches["rank"], dtype=np.int64)] = np.asarray(matches["side"], dtype=np.int8)
    return sides_by_rank


def group_sides(rows: NDArray[np.int8], group_codes: NDArray[np.int64], n_groups: int) -> NDArray[np.int8]:
    """The split of each group, (n_groups,), from the splits of its known rows; NEW for a group without any."""
    none = np.int8(len(SPLITS))
    sides = np.full(n_groups, none, dtype=np.int8)
    np.minimum.at(sides, group_codes, np.where(rows == NEW, none, rows))
    return np.where(sides == none, np.int8(NEW), sides)


def describe_previous(rows: NDArray[np.int8], sides: NDArray[np.int8], previous: Catalog) -> dict[str, Any]:
    """What the ledger records: how many items the earlier catalog had, and how many of them changed their split."""
    known = rows != NEW
    return {
        "fingerprint": previous.fingerprint,
        "known_items": int(known.sum()),
        "new_items": int((~known).sum()),
        "changed_split": int((known & (rows != sides)).sum()),
    }
