"""Dates of prices, as shops write them.

>>> parse_day("2024-05-31T10:00:00Z"), parse_day("31.05.2024"), parse_day("May 31, 2024")
(19874, 19874, 19874)
>>> parse_day("05/31/2024", "mdy"), parse_day("05/06/2024")
(19874, None)

Days are counted from 1970-01-01. `time_split` finds the column of dates and splits by it.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from pricesmith.catalog.clean import cell_text

TIME = "time"  # --split time
NO_DATE = "no date"
NO_DAY = -(2**31)  # of catalogs that are not split by time
ISO = re.compile(r"([12][0-9]{3})([-/.]?)([01][0-9])\2([0-3][0-9])(?:[T ].*)?", re.ASCII)
LOCAL = re.compile(r"([0-3]?[0-9])([./-])([0-3]?[0-9])\2([12][0-9]{3})(?:,?[T ].*)?", re.ASCII)
EPOCH = re.compile(r"([0-9]{10})(?:[0-9]{3})?(?:\.[0-9]+)?", re.ASCII)
DAY_NAME = re.compile(r"([0-3]?[0-9])(?:st|nd|rd|th)?[ -]([a-z]{3})[a-z]*\.?,?[ -]([12][0-9]{3})\b.*", re.I | re.ASCII)
NAME_DAY = re.compile(r"([a-z]{3})[a-z]*\.?[ -]([0-3]?[0-9])(?:st|nd|rd|th)?,?[ -]([12][0-9]{3})\b.*", re.I | re.ASCII)
NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
MONTHS = {name: place for place, name in enumerate(NAMES, start=1)}
LONGEST = 64  # characters of a date


@dataclass(frozen=True)
class DateColumn:
    """The column that says when a price was asked. `order` is dmy or mdy, empty if no date needs it."""

    name: str
    order: str = ""

    def day(self, values: Mapping[str, object]) -> int | None:
        """The day of a row, None if it has no date that can be read."""
        return parse_day(cell_text(values.get(self.name)).strip(), self.order)


@lru_cache(maxsize=50_000)
def parse_day(text: str, order: str = "") -> int | None:
    """The day that a text says, in days from 1970-01-01. `5/6/2024` has none unless `order` is dmy or mdy."""
    if len(text) > LONGEST:
        return None
    if match := ISO.fullmatch(text):
        return to_day(match[1], match[3], match[4])
    if match := LOCAL.fullmatch(text):
        first, second = match[1], match[3]
        day_first = match[2] == "." or order == "dmy" or (not order and int(first) > 12)
        if day_first:
            return to_day(match[4], second, first)
        return to_day(match[4], first, second) if order == "mdy" or int(second) > 12 else None
    if match := EPOCH.fullmatch(text):
        return int(match[1]) // 86_400
    if match := DAY_NAME.fullmatch(text):
        return to_day(match[3], MONTHS.get(match[2].lower(), 0), match[1])
    if match := NAME_DAY.fullmatch(text):
        return to_day(match[3], MONTHS.get(match[1].lower(), 0), match[2])
    return None


def to_day(year: str, month: str | int, day: str) -> int | None:
    """The days from 1970-01-01 to a date, None if there is no such day."""
    try:
        return datetime.date(int(year), int(month), int(day)).toordinal() - datetime.date(1970, 1, 1).toordinal()
    except ValueError:
        return None


def format_day(day: int) -> str:
    """A day as ISO 8601.

    >>> format_day(19874)
    '2024-05-31'
    """
    return (datetime.date(1970, 1, 1) + datetime.timedelta(days=day)).isoformat()
