"""The split by time: `curate --split time`.

A near-duplicate group goes to the side of its latest row: the latest groups make test, those before them validation. So
every training row is older than the latest row of every validation and test group, and no training row shows the
future. Groups of one latest day are on one side, so validation and test have at least the sizes of `auto`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricesmith.catalog.catalog import SPLITS
from pricesmith.catalog.clean import cell_text
from pricesmith.catalog.columns import column_key
from pricesmith.catalog.dates import LOCAL, DateColumn, format_day, parse_day
from pricesmith.catalog.leakage import drop_columns
from pricesmith.catalog.readers.sources import RawRow
from pricesmith.catalog.staging import Feed
from pricesmith.core.errors import InputError, UsageError

USUAL_DATES = (
    "date pricedate asof dateofprice listingdate datelisted listedat listedon listdate solddate soldat soldon saledate "
    "datesold dateposted posteddate postedat postedon createdat createdon createddate datecreated created "
    "datefirstavailable firstavailable dateadded addedat publishedat datepublished published crawledat scrapedat "
    "fetchedat retrievedat timestamp datetime updatedat dateupdated updated lastupdated modifiedat"
)
LEAST_READABLE = 0.5  # share of the values of a date column that are dates
SHOWN = 3


def with_dates(feeds: Sequence[Feed], column: str) -> list[Feed]:
    """The feeds with their column of dates, which is no line of the text. `column` is empty if it is to be found.

    Raises UsageError for a feed without such a column or with ambiguous dates, InputError if few values are dates.
    """
    dated = []
    for feed in feeds:
        name = find_date_column(feed, column)
        dates = DateColumn(name, find_order(feed, name))
        columns = drop_columns(feed.columns, {name: "date of the price"})
        dated.append(replace(feed, dates=dates, columns=columns))
    return dated


def find_date_column(feed: Feed, column: str) -> str:
    """The column of dates of one feed. Raises UsageError if there is none."""
    names = [] if feed.named else sorted(feed.columns.names())
    by_key = {column_key(name): name for name in reversed(names)}
    if column:
        if column in names or column_key(column) in by_key:
            return column if column in names else by_key[column_key(column)]
        raise UsageError(
            f"{feed.name}: there is no column {column!r}",
            got=f"date={column}",
            allowed=", ".join(names[:30]) or "a source with dates",
            hint="Name the column of dates: --map date=COLUMN." if names else "Leave out --split time.",
        )
    if name := next((by_key[key] for key in USUAL_DATES.split() if key in by_key), ""):
        return name
    raise UsageError(
        f"{feed.name}: no column is recognized as the date of the price",
        got=", ".join(names[:30]) or "no dates",
        allowed="a column named date, listed_at, sold_on, created_at or similar",
        hint="Name it: --map date=COLUMN. Without dates, leave out --split time."
        if names
        else "Leave out --split time.",
    )


def find_order(feed: Feed, name: str) -> str:
    """Whether the dates of a column have the day or the month first: dmy, mdy, or empty if no date needs it.

    Raises UsageError if the column has dates of both kinds or only ambiguous ones, InputError if few are dates.
    """
    filled = readable = 0
    unclear, strange = "", list[str]()
    orders: dict[str, str] = {}
    for text in read_values(feed, name):
        filled += 1
        if parse_day(text) is not None:
            readable += 1
            if (match := LOCAL.fullmatch(text)) and match[2] != ".":
                orders.setdefault("dmy" if int(match[1]) > 12 else "mdy", text)
        elif parse_day(text, "dmy") is not None:
            readable += 1
            unclear = unclear or text
        elif len(strange) < SHOWN:
            strange.append(text[:40])
    if readable < LEAST_READABLE * filled or not readable:
        raise InputError(
            f"{feed.name}: the column {name!r} has few dates",
            got=f"{readable:,} of {filled:,} values; others: {', '.join(map(repr, strange))}",
            allowed="dates such as 2024-05-31, 31.05.2024 or May 31, 2024",
            hint="Name another column: --map date=COLUMN.",
        )
    if len(orders) > 1 or (unclear and not orders):
        both = " and ".join(orders.values())
        raise UsageError(
            f"{feed.name}: the dates in {name!r} are ambiguous",
            got=f"{both}: the day is first in one, the month in the other" if both else f"{unclear}: which is the day?",
            allowed="dates of which at least one has a day above 12, all in one order",
            hint="Write them as 2024-05-31.",
        )
    return next(iter(orders), "")


def read_values(feed: Feed, name: str) -> Iterator[str]:
    """The values of one column that are not empty."""
    for batch in feed.read():
        for row in batch:
            if isinstance(row, RawRow) and (text := cell_text(row.values.get(name)).strip()):
                yield text


def split_by_time(
    days: NDArray[np.int64], group_codes: NDArray[np.integer[Any]], sizes: NDArray[np.int64], wanted: tuple[int, int]
) -> NDArray[np.int8]:
    """The side of each group, (groups,), as its place in `catalog.SPLITS`: by its latest day. `days` and `group_codes`
    are of the rows, `sizes` of the groups; `wanted` are the least items of validation and test.

    Raises InputError if whole days leave less than half of the items for training.
    """
    latest = np.full(len(sizes), np.iinfo(np.int64).min)
    np.maximum.at(latest, group_codes, days)
    different, places = np.unique(latest, return_inverse=True)
    items = np.bincount(places, weights=sizes, minlength=len(different)).astype(np.int64)
    from_end = np.cumsum(items[::-1])[::-1]  # items of this day and all later ones
    validation, test = wanted
    test_start = int(np.flatnonzero(from_end >= test)[-1])
    later = int(from_end[test_start])
    before = np.flatnonzero(from_end - later >= validation)
    validation_start = int(before[-1]) if len(before) else 0
    if not validation_start or (total := int(sizes.sum())) - int(from_end[validation_start]) < total / 2:
        day, most = int(np.argmax(items)), int(items.max())
        raise InputError(
            "The dates do not allow a split by time",
            got=f"{len(different):,} different dates, {most:,} of {int(sizes.sum()):,} items on "
            f"{format_day(int(different[day]))}",
            allowed="at least half of the items on days before those of validation and test",
            hint="Leave out --split time.",
        )
    return ((places >= validation_start).astype(np.int8) + (places >= test_start)).astype(np.int8)


def describe_dates(feeds: Sequence[Feed], days: NDArray[np.int64], splits: NDArray[np.int8]) -> dict[str, Any]:
    """The column of each feed; the first and last day of each split; and how many test items are as old as training
    items, because a near-duplicate of theirs is later."""
    sides = {name: days[splits == place] for place, name in enumerate(SPLITS)}
    last = int(sides["train"].max())
    return {
        "columns": {feed.name: feed.dates.name for feed in feeds if feed.dates is not None},
        **{name: [format_day(int(side.min())), format_day(int(side.max()))] for name, side in sides.items()},
        "older_test_items": int((sides["test"] <= last).sum()),
    }
