"""Tabular features of a listing for trees: its numbers by key and unit, its categories, and its length.

    parse_fields(Listing("1", "DDR5 RAM 16 GB", "modules: 2,8"))   # {"title gb": 16, "gb": 16, ...}

Each number of a line is a column, and so is their product ("modules: 2,8" is 16 GB).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pricesmith.core.types import Listing, render
from pricesmith.pricers.features.hashing import F32
from pricesmith.text.words import segment_text, unit_pattern

MAX_CHARS = 20_000
NUMBERS_PER_LINE = 4  # the rest is ignored
LARGEST = 1e12
NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
LINE = re.compile(r"^([^:\n]{1,30}):[ ]*(.+)$", re.MULTILINE)
NAMED = ("category", "brand", "first word")
MAX_VALUE_CHARS = 80  # of a categorical value

Columns = Mapping[str, int]


def parse_fields(listing: Listing) -> tuple[dict[str, float], dict[str, str]]:
    """The numbers of a listing by name, and its categories: category, brand, first word, the value of each line."""
    whole, head = render(listing)[:MAX_CHARS], (listing.title or listing.text[:200])[:MAX_CHARS]
    text, title = segment_text(whole), segment_text(head)
    first = title.split(maxsplit=1)
    numbers: dict[str, float] = {}
    groups = dict(zip(NAMED, (segment_text(listing.category), segment_text(listing.brand), *first[:1]), strict=False))
    for key, value in LINE.findall(text):
        key = key.strip()
        groups.setdefault(f"{key}:", value.strip()[:MAX_VALUE_CHARS])
        values = [parse_number(number) for number in NUMBER.findall(value)[:NUMBERS_PER_LINE]]
        for index, number in enumerate(values):
            numbers.setdefault(f"{key}#{index}", number)
        if len(values) > 1:
            numbers.setdefault(f"{key}#product", min(math.prod(values), LARGEST))
    for number, unit in unit_pattern(title).findall(title):
        numbers.setdefault(f"title {unit}", parse_number(number))
    for number, unit in unit_pattern(text).findall(text):
        numbers.setdefault(unit, parse_number(number))
    numbers |= {"characters": len(whole), "in title": len(head), "lines": text.count("\n"), "words": text.count(" ")}
    numbers["digits in title"] = sum(character.isdigit() for character in title)
    return numbers, groups


def parse_number(text: str) -> float:
    """The number of a text, at most `LARGEST`."""
    return min(float(text[:30]), LARGEST)


class TabularFields:
    """The columns: `numbers` has the column of each number, `categories` the code of each value of each categorical."""

    def __init__(self, numbers: Columns, categories: Mapping[str, Columns]) -> None:
        self.numbers, self.categories = numbers, categories

    @classmethod
    def from_listings(
        cls, listings: Sequence[Listing], max_numbers: int, min_numbers: int, max_names: int, min_names: int
    ) -> TabularFields:
        """The most frequent numbers and categoricals of at least `min_numbers` listings, at most `max_numbers` of the
        former, and the `max_names` most frequent values of each categorical, each of at least `min_names` listings."""
        rows = [parse_fields(listing) for listing in listings]
        numbers = common_keys((numbers for numbers, _ in rows), max_numbers, min_numbers)
        frequent = common_keys(
            ({kind: 1 for kind, name in groups.items() if name} for _, groups in rows), MAX_CATEGORICALS, min_numbers
        )
        categories = {
            kind: common_keys(({groups[kind]: 1} for _, groups in rows if groups.get(kind)), max_names, min_names)
            for kind in dict.fromkeys((*NAMED, *frequent))
        }
        return cls(numbers, {kind: names for kind, names in categories.items() if names})

    def columns(self, listings: Sequence[Listing]) -> F32:
        """Codes of categories, then log(1 + number); [n, categories + numbers], NaN if missing."""
        table = np.full((len(listings), len(self.categories) + len(self.numbers)), np.nan, dtype=np.float32)
        for row, listing in enumerate(listings):
            numbers, groups = parse_fields(listing)
            for column, (kind, codes) in enumerate(self.categories.items()):
                table[row, column] = codes.get(groups.get(kind, ""), np.nan)
            for key, number in numbers.items():
                if key in self.numbers:
                    table[row, len(self.categories) + self.numbers[key]] = math.log1p(number)
        return table

    def to_dict(self) -> dict[str, Any]:
        """The names in the order of their columns, as JSON values."""
        return {
            "numbers": list(self.numbers),
            "categories": {kind: list(codes) for kind, codes in self.categories.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TabularFields:
        """The fields of `to_dict`. Raises ValueError if the values are damaged."""
        for names in (values["numbers"], *values["categories"].values()):
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise ValueError("names must be lists of texts")
            if len(set(names)) < len(names):
                raise ValueError("names must be different")
        return cls(
            number_names(values["numbers"]), {kind: number_names(names) for kind, names in values["categories"].items()}
        )


MAX_CATEGORICALS = 12  # category, brand and first word, and the lines that most listings have


def number_names(names: Sequence[str]) -> dict[str, int]:
    """The index of each name."""
    return {name: index for index, name in enumerate(names)}


def common_keys(rows: Iterable[Mapping[str, Any]], max_keys: int, min_count: int) -> dict[str, int]:
    """The most frequent keys that occur in at least `min_count` rows, each with its index."""
    counts = Counter(key for row in rows for key in row)
    keys = sorted((key for key, count in counts.items() if count >= min_count), key=lambda key: (-counts[key], key))
    return number_names(keys[:max_keys])
