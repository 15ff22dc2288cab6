"""Groups go to test, validation or train by a hash of their name, so near-duplicates are never on two sides.

>>> parse_split("auto", 20_000)
Shares(train=18000, validation=1000, test=1000)
>>> parse_split("90/5/5", 1_000)
Shares(train=900, validation=50, test=50)

A newer table of the same goods keeps the split of the earlier catalog. An item is known by its content (brand, title
and text) or by its id. A near-duplicate group goes to the split of its known items. If they were in different splits,
which happens when a new listing joins two groups, the whole group goes to the earliest of train, validation, test: an
item that a model was trained on never becomes a test item.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pricesmith.catalog.catalog import SPLITS, Catalog
from pricesmith.catalog.clean import body_text
from pricesmith.catalog.dates import TIME
from pricesmith.catalog.staging import digest
from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.types import Listing

if TYPE_CHECKING:
    import duckdb

FEWEST = 100  # rows; below that a catalog cannot be judged
TRAIN, VALIDATION, TEST = 0, 1, 2  # places in catalog.SPLITS


class Shares(NamedTuple):
    """How many items each split is to hold."""

    train: int
    validation: int
    test: int


def check_split(split: str) -> tuple[float, float, float] | None:
    """The shares of `--split 90/5/5`, summing to 1; None for `auto` and `time`. Raises UsageError for anything else."""
    if split in ("auto", TIME):
        return None
    try:
        parts = [float(part) for part in split.split("/")]
    except ValueError:
        parts = []
    if len(parts) != 3 or not all(0 < part < 100 for part in parts) or abs(sum(parts) - 100) > 1e-6:
        raise UsageError(
            "--split is auto, time, or the shares of train, validation and test",
            got=split,
            allowed="three shares above 0 that make 100, for example 90/5/5",
            hint="Leave it out for --split auto.",
        )
    return parts[0] / 100, parts[1] / 100, parts[2] / 100


def parse_split(split: str, rows: int, counts: str = "") -> Shares:
    """The sizes of the splits. `auto`: test is max(5 %, min(1,000 items, 20 %)), and validation alike. `counts`, if
    given, describes the rows in the error for too few.

    Raises UsageError for invalid shares, and InputError under 100 rows.
    """
    given = check_split(split)
    if rows < FEWEST:
        raise InputError(
            "Too few rows are left for a catalog",
            got=counts or f"{rows:,} rows",
            allowed=f"at least {FEWEST}",
            hint="Give more rows with a price (several files make one catalog), or a wider price range if one is set.",
        )
    if given is None:
        test = max(math.ceil(0.05 * rows), min(1_000, rows // 5))
        return Shares(rows - 2 * test, test, test)
    validation, test = round(given[1] * rows), round(given[2] * rows)
    return Shares(rows - validation - test, validation, test)


def split_groups(
    groups: NDArray[np.uint64],
    sizes: NDArray[np.int64],
    split: str,
    seed: int,
    fixed: NDArray[np.int8] | None = None,
) -> NDArray[np.int8]:
    """The split of every group, as its place in `catalog.SPLITS`; (groups,). `sizes` are their items.

    Groups come in the order of a hash of seed and group. Each goes to test while it fits there, else to validation
    while it fits there; a group that is too large for what is left is passed over. So each share is exact wherever
    groups are small enough, and the order of the rows plays no part.
    A group whose entry of `fixed` is not negative keeps that split.
    """
    wanted = parse_split(split, int(sizes.sum()))
    left = {TEST: wanted.test, VALIDATION: wanted.validation}
    chosen = np.full(len(groups), TRAIN, dtype=np.int8)
    if fixed is not None:
        chosen = np.maximum(fixed, TRAIN).astype(np.int8)
        left = {side: max(0, size - int(sizes[fixed == side].sum())) for side, size in left.items()}
    for place in map(int, np.argsort(mix_hashes(seed, groups), kind="stable")):
        if fixed is not None and fixed[place] >= 0:
            continue
        size = int(sizes[place])
        for side in left:
            if size <= left[side]:
                chosen[place] = side
                left[side] -= size
                break
        if not any(left.values()):
            break
    return chosen


def mix_hashes(seed: int, hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """New hashes that depend on the seed (the finalizer of SplitMix64, Steele et al., 2014); (hashes,)."""
    start = int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:8], "little")
    mixed = hashes ^ np.uint64(start)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


def log_edges(prices: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """The edges of bins of equal width in log price, (bins + 1,)."""
    low, high = float(prices.min()), float(prices.max())
    return np.geomspace(low, high if high > low else low * 1.01, bins + 1)


def histogram(prices: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin of each price, (prices,)."""
    return np.clip(np.searchsorted(edges, prices, side="right") - 1, 0, len(edges) - 2).astype(np.int64)


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


def group_sides(rows: NDArray[np.int8], group_codes: NDArray[np.integer[Any]], n_groups: int) -> NDArray[np.int8]:
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
