"""All feeds of a catalog: its sources, with their dates for a split by time, and the items of an earlier catalog."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pricesmith.catalog.additions import add_feed
from pricesmith.catalog.catalog import DATE, Catalog
from pricesmith.catalog.dates import TIME
from pricesmith.catalog.readers.feeds import ReadOptions, open_feeds
from pricesmith.catalog.staging import Feed
from pricesmith.catalog.time_split import with_dates
from pricesmith.core.errors import UsageError
from pricesmith.core.progress import Progress


def open_all_feeds(
    sources: Sequence[str],
    reading: ReadOptions,
    previous: Catalog | None,
    added: bool,
    split: str,
    progress: Progress,
) -> list[Feed]:
    """The feeds of all sources, with their dates for a split by time, and the earlier catalog if it is `added`.

    Raises UsageError for a column of dates without `--split time`, and for `--split time` with an earlier catalog.
    """
    column = reading.mapping.get(DATE, "")
    if column and split != TIME:
        raise UsageError("--map date is for --split time", got=f"date={column}", hint="Add --split time.")
    if previous is not None and split == TIME:
        raise UsageError(
            "--split time cannot keep the split of an earlier catalog",
            got=f"--split time and the catalog {previous.path}",
            allowed="--split time for a new catalog of all rows",
            hint="Leave out --split time.",
        )
    feeds = open_feeds(sources, replace(reading, mapping=without_date(reading.mapping)), progress)
    if split == TIME:
        return with_dates(feeds, column)
    return add_feed(previous, feeds, reading.keep) if added and previous is not None else feeds


def without_date(mapping: Mapping[str, str]) -> dict[str, str]:
    """A mapping without the column of dates, which only a split by time uses."""
    return {field: name for field, name in mapping.items() if field != DATE}
