"""The second pass of curate, on the staged rows: duplicates, order, ids, groups and split.

duckdb does what needs all rows at once, within a memory limit and with its overflow in the catalog's own folder; it
reads the staged shards and nothing else. numpy finds the groups on sketches in their order, from a file or in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pricesmith.catalog.catalog import Catalog
from pricesmith.catalog.dates import NO_DAY, TIME
from pricesmith.catalog.mapped_arrays import MappedArrays
from pricesmith.catalog.near_duplicates import find_groups, join_groups, split_templates
from pricesmith.catalog.shards import StagedFeeds
from pricesmith.catalog.sketch_file import sort_sketches
from pricesmith.catalog.split import describe_previous, group_sides, parse_split, previous_sides, split_groups
from pricesmith.catalog.time_split import split_by_time
from pricesmith.core.errors import PricesmithError
from pricesmith.core.progress import Progress

if TYPE_CHECKING:
    import duckdb

MEMORY = "600MB"  # of duckdb; a catalog of ten million rows then holds under 1.5 GB in all
THREADS = 2
PIECE = 100_000  # rows that are read from duckdb at once
MOST_PAIRS = 50  # rows of one text whose pairs are counted


@dataclass(frozen=True)
class Finalized:
    """The remaining rows in ascending order of content hash: their hashes, prices, groups (of 64 bits) and splits."""

    rows: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    more: NDArray[np.uint64]
    prices: NDArray[np.float64]
    groups: NDArray[np.uint64]
    splits: NDArray[np.int8]
    templates: int
    days: NDArray[np.int64]
    previous: dict[str, Any] | None = None


@contextmanager
def connect(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory that may read and write in `folder` only. Raises PricesmithError where memory runs out."""
    import duckdb

    overflow = folder / "overflow"
    overflow.mkdir(exist_ok=True)
    base = duckdb.connect(":memory:")
    for name, value in (
        ("memory_limit", MEMORY),
        ("threads", THREADS),
        ("temp_directory", str(overflow)),
        ("preserve_insertion_order", False),
        ("allowed_directories", [str(folder)]),
        ("enable_external_access", False),
        ("autoinstall_known_extensions", False),
        ("autoload_known_extensions", False),
        ("allocator_background_threads", True),  # else what a query has freed stays with the process
    ):
        base.execute(f"SET {name} = $value", {"value": value})
    with suppress(duckdb.InvalidInputException):  # a notebook without ipywidgets has no progress bar to turn off
        base.execute("SET enable_progress_bar = false")
    base.execute("SET lock_configuration = true")
    try:
        yield base
    except duckdb.OutOfMemoryException as error:
        hint = "Free some disk space, or give fewer rows."
        raise PricesmithError("The catalog does not fit", got=str(error).split("\n")[0][:200], hint=hint) from None
    finally:
        base.close()


def load_facts(base: duckdb.DuckDBPyConnection, added: int = -1) -> None:
    """The rows of the view `staged` without their words, each with its place among rows of the same text and price:
    `facts`.

    `added` is the place of the feed with the items of an earlier catalog, which come first; -1: there is none.
    """
    base.execute(
        """CREATE TABLE facts AS
        SELECT row, hash, more, look, looks, words, price, given, named, product, source, number, day,
               row_number() OVER (PARTITION BY look, looks, price ORDER BY source <> $added, hash, more, source,
                                  number) AS copy
        FROM staged""",
        {"added": added},
    )


def duplicates(base: duckdb.DuckDBPyConnection) -> Iterator[tuple[int, int]]:
    """(source, row number) of each row with the text and price of one that stays, whose hash is the smallest."""
    cursor = base.execute("SELECT source, number FROM facts WHERE copy > 1 ORDER BY source, number")
    while rows := cursor.fetchmany(10_000):
        yield from rows


def keep_rows(base: duckdb.DuckDBPyConnection, added: int = -1) -> None:
    """The rows that stay, in order of content hash, with their ids: `kept`.

    An id is the file's where no other row has it, else 16 figures of the row's SHA-256 (32 where those are taken).
    Items of an earlier catalog (the feed `added`) keep their ids.
    """
    base.execute("CREATE VIEW firsts AS SELECT * EXCLUDE (copy) FROM facts WHERE copy = 1")
    find_repeated(base, "given", "firsts")
    base.execute(
        f"""CREATE VIEW named AS SELECT *, CASE WHEN given <> '' AND (source = {int(added)} OR given NOT IN
        (SELECT value FROM repeated_given)) THEN given ELSE format('{{:016x}}', hash) END AS short FROM firsts"""
    )
    find_repeated(base, "short", "named")
    # A window over all rows in order would need memory for all of them; a sort does not, and its rows are counted.
    base.execute(
        """CREATE TABLE kept AS
        SELECT row, hash, more, look, looks, words, price, named, product, source, number, day,
               CASE WHEN short NOT IN (SELECT value FROM repeated_short) THEN short
                    ELSE format('{:016x}{:016x}', hash, more) END AS id,
               row_number() OVER () - 1 AS rank
        FROM (SELECT * FROM named ORDER BY hash, more, source, number)"""
    )
    base.execute("DROP VIEW named; DROP VIEW firsts; DROP TABLE facts; DROP TABLE repeated_given")
    base.execute("DROP TABLE repeated_short")


def find_repeated(base: duckdb.DuckDBPyConnection, column: str, rows: str) -> None:
    """The texts in a column that several rows have: `repeated_COLUMN`. Numbers that stand for them come first: they
    need less memory than the texts."""
    base.execute(
        f"""CREATE TABLE repeated_{column} AS
        WITH shared AS (
            SELECT hash({column}) AS code FROM {rows} WHERE {column} <> '' GROUP BY code HAVING count(*) > 1)
        SELECT {column} AS value FROM {rows} WHERE {column} <> '' AND hash({column}) IN (SELECT code FROM shared)
        GROUP BY value HAVING count(*) > 1"""
    )


def label_noise(base: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """How far prices of the same text lie apart: what no pricer can do better than.

    `median_relative_difference` is |a - b| over the mean of both, over all pairs of a text (of its first 50 rows);
    `mean_error_floor` is the mean distance of these rows from the median price of their text.
    """
    base.execute(
        """CREATE TEMP TABLE alike AS
        WITH repeated AS (SELECT look, looks FROM kept GROUP BY look, looks HAVING count(*) > 1)
        SELECT look, looks, price, rank, row_number() OVER (PARTITION BY look, looks ORDER BY rank) AS place,
               median(price) OVER (PARTITION BY look, looks) AS middle
        FROM kept SEMI JOIN repeated USING (look, looks)"""
    )
    pairs, difference = base.execute(
        """SELECT count(*), median(2 * abs(a.price - b.price) / (a.price + b.price))
        FROM alike a JOIN alike b ON a.look = b.look AND a.looks = b.looks AND a.rank < b.rank
        WHERE a.place <= $most AND b.place <= $most""",
        {"most": MOST_PAIRS},
    ).fetchall()[0]
    rows, floor = base.execute("SELECT count(*), avg(abs(price - middle)) FROM alike").fetchall()[0]
    base.execute("DROP TABLE alike")
    return {
        "rows": rows,
        "pairs": pairs,
        "median_relative_difference": None if difference is None else round(difference, 4),
        "mean_error_floor": None if floor is None else float(f"{floor:.2f}" if floor >= 1 else f"{floor:.3g}"),
    }


def finalize(
    base: duckdb.DuckDBPyConnection,
    folder: Path,
    staged: StagedFeeds,
    limit: int,
    split: str,
    seed: int,
    progress: Progress,
    previous: Catalog | None = None,
) -> Finalized:
    """Groups and split of the kept rows. Items of the catalog `previous` keep their split."""
    rows = read_column(base, "row", np.int64)
    centers, templates = find_all_groups(base, folder, staged, rows, limit, progress)
    if has_values(base, "product <> 0"):
        centers = join_groups(centers, linked(read_column(base, "product", np.uint64), staged.links()), limit)
    hashes = read_column(base, "hash", np.uint64)
    names, which, sizes = name_groups(hashes, centers)
    del centers
    known = None if previous is None else previous_sides(base, previous)
    fixed = None if known is None else group_sides(known, which, len(names))
    is_dated = has_values(base, f"day <> {NO_DAY}")
    days = read_column(base, "day", np.int64) if is_dated else np.broadcast_to(np.int64(NO_DAY), len(rows))
    if split == TIME:
        shares = parse_split(split, len(rows))
        sides = split_by_time(days, which, sizes, (shares.validation, shares.test))
    else:
        sides = split_groups(names, sizes, split, seed, fixed)
    record = describe_previous(known, sides[which], previous) if previous is not None and known is not None else None
    groups, splits = names[which], sides[which]
    del names, which, sizes
    more, prices = read_column(base, "more", np.uint64), read_column(base, "price", np.float64)
    for name in ("hash", "more", "look", "looks", "words", "named", "product"):
        base.execute(f"ALTER TABLE kept DROP COLUMN {name}")  # their memory is free for writing the items
    return Finalized(rows, hashes, more, prices, groups, splits, templates, days, record)


def name_groups(
    hashes: NDArray[np.uint64], centers: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.int32], NDArray[np.int64]]:
    """The names of all groups, which are the hashes of their centers, in ascending order; which of them each row has;
    and how many rows each has. `hashes` ascend, `centers` are the centers of the rows."""
    is_center = np.zeros(len(hashes), dtype=np.bool_)
    is_center[centers] = True
    is_new = np.zeros(len(hashes), dtype=np.bool_)  # two centers may have one hash
    where = np.flatnonzero(is_center)
    is_new[where] = np.r_[True, hashes[where[1:]] != hashes[where[:-1]]][: len(where)]
    numbers = np.cumsum(is_new, dtype=np.int32) - np.int32(1)
    which = numbers[centers]
    return hashes[is_new], which, np.bincount(which, minlength=int(is_new.sum()))


def read_column(base: duckdb.DuckDBPyConnection, name: str, dtype: Any) -> NDArray[Any]:
    """One column of all kept rows, in order of rank."""
    values = np.empty(base.execute("SELECT count(*) FROM kept").fetchall()[0][0], dtype=dtype)
    for batch in base.execute(f"SELECT rank, {name} FROM kept").to_arrow_reader(PIECE):
        values[batch.column(0).to_numpy()] = batch.column(1).to_numpy()
    return values


def has_values(base: duckdb.DuckDBPyConnection, condition: str) -> bool:
    """Whether any kept row meets a condition."""
    return bool(base.execute(f"SELECT count(*) FROM kept WHERE {condition}").fetchall()[0][0])


def read_labels(base: duckdb.DuckDBPyConnection) -> list[tuple[str, str]]:
    """The category and the source of each kept row, in order of rank."""
    return base.execute(
        """SELECT s.category, CASE WHEN s.origin <> '' THEN s.origin ELSE CAST(k.source AS VARCHAR) END
        FROM kept k JOIN staged s ON s.row = k.row ORDER BY k.rank"""
    ).fetchall()


def linked(products: NDArray[np.uint64], pairs: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The product of each row, a variant's own name replaced by that of the product which lists it."""
    if not len(pairs):
        return products
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    place = np.minimum(np.searchsorted(pairs[:, 0], products), len(pairs) - 1)
    return np.where(pairs[place, 0] == products, pairs[place, 1], products)


def find_all_groups(
    base: duckdb.DuckDBPyConnection,
    folder: Path,
    staged: StagedFeeds,
    rows: NDArray[np.int64],
    limit: int,
    progress: Progress,
) -> tuple[NDArray[np.int64], int]:
    """The center of every kept row, and how many groups were template text. Rows whose source names their groups
    go by that name, all others by their words."""
    named = base.execute(
        """SELECT rank, min(rank) OVER (PARTITION BY named) AS first FROM kept WHERE named <> ''"""
    ).fetchnumpy()
    given = np.asarray(named["rank"], dtype=np.int64)
    if not len(given):
        return find_near_duplicates(base, folder, staged, rows, None, limit, progress)
    centers = np.arange(len(rows), dtype=np.int64)
    others = np.setdiff1d(centers, given, assume_unique=True)
    centers[given] = np.asarray(named["first"], dtype=np.int64)
    if not len(others):
        return centers, 0
    center_rows, templates = find_near_duplicates(base, folder, staged, rows[others], others, limit, progress)
    centers[others] = others[center_rows]
    return centers, templates


def find_near_duplicates(
    base: duckdb.DuckDBPyConnection,
    folder: Path,
    staged: StagedFeeds,
    rows: NDArray[np.int64],
    ranks: NDArray[np.int64] | None,
    limit: int,
    progress: Progress,
) -> tuple[NDArray[np.int64], int]:
    """The center of each of these rows, by their words, and how many groups were template text. `ranks` are the ranks
    of the rows, None if these are all."""
    with MappedArrays(folder) as arrays, sort_sketches(staged.sketches(), rows, folder) as sketches:
        centers = find_groups(sketches, arrays.allocate, progress, arrays.release)
        del sketches
    if np.bincount(centers).max() <= limit:
        return centers, 0
    words = read_column(base, "words", np.uint64)
    return split_templates(centers, words if ranks is None else words[ranks], limit)


def fingerprint(finalized: Finalized, mask: NDArray[np.bool_], currency: str) -> str:
    """SHA-256 over the sorted content: every kept item's content hash (text, price and id), group and split."""
    whole = hashlib.sha256(f"pricesmith catalog 1 {currency}\n".encode())
    for array in (finalized.hashes, finalized.more, finalized.groups, finalized.splits):
        for start in range(0, len(array), PIECE):
            here = slice(start, start + PIECE)
            whole.update(array[here][mask[here]].astype(array.dtype.newbyteorder("<")).tobytes())
    return whole.hexdigest()


def group_sizes(groups: NDArray[np.uint64]) -> NDArray[np.int64]:
    """How many rows each group has, from the group of each row."""
    groups = np.sort(groups)
    begins = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]][: len(groups)])
    return np.asarray(np.diff(np.r_[begins, len(groups)]), dtype=np.int64)
