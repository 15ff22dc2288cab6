"""A listing as a row of a table: its numbers by key and unit, what it is one of, and how long it is.

    numbers_of(Listing("1", "DDR5 RAM 16 GB", "modules: 2,8"))   {"16 gb in the title", "gb": 16, "modules#0": 2, ...}

For trees, which cut numbers well. A key's second number and the product of its numbers ("modules: 2,8" is 16 GB) count.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricesmith.core.types import Listing, render
from pricesmith.text.words import segment_text, unit_pattern

MAX_CHARS = 20_000
MOST = 4  # numbers of a line that are looked at
LARGEST = 1e12
NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
LINE = re.compile(r"^([^:\n]{1,30}):[ ]*(.+)$", re.MULTILINE)
KINDS = ("category", "brand", "first word")
LONGEST = 80  # characters of a value that names a group

Places = Mapping[str, int]
F32 = NDArray[np.float32]


def parse_fields(listing: Listing) -> tuple[dict[str, float], dict[str, str]]:
    """The numbers of a listing by what they are of, and its groups: category, brand, first word, each line's value."""
    whole, head = render(listing)[:MAX_CHARS], (listing.title or listing.text[:200])[:MAX_CHARS]
    text, title = segment_text(whole), segment_text(head)
    first = title.split(maxsplit=1)
    numbers: dict[str, float] = {}
    groups = dict(zip(KINDS, (segment_text(listing.category), segment_text(listing.brand), *first[:1]), strict=False))
    for key, value in LINE.findall(text):
        key = key.strip()
        groups.setdefault(f"{key}:", value.strip()[:LONGEST])
        found = [cap_text(number) for number in NUMBER.findall(value)[:MOST]]
        for place, number in enumerate(found):
            numbers.setdefault(f"{key}#{place}", number)
        if len(found) > 1:
            numbers.setdefault(f"{key}#product", min(math.prod(found), LARGEST))
    for number, unit in unit_pattern(title).findall(title):
        numbers.setdefault(f"title {unit}", cap_text(number))
    for number, unit in unit_pattern(text).findall(text):
        numbers.setdefault(unit, cap_text(number))
    numbers |= {"characters": len(whole), "in title": len(head), "lines": text.count("\n"), "words": text.count(" ")}
    numbers["digits in title"] = sum(sign.isdigit() for sign in title)
    return numbers, groups


def cap_text(number: str) -> float:
    """A number as written, no larger than what a tree needs to tell."""
    return min(float(number[:30]), LARGEST)


class TabularFields:
    """Which numbers and groups are columns. `groups` has for each kind of group the place of each name."""

    def __init__(self, numbers: Places, groups: Mapping[str, Places]) -> None:
        self.numbers, self.groups = numbers, groups

    @classmethod
    def of(cls, listings: Sequence[Listing], most: int, least: int, names: int, least_of_name: int) -> TabularFields:
        """The `most` frequent numbers of at least `least` listings; the `names` most frequent names of every group
        that is told of `least` listings or more, each of at least `least_of_name`."""
        read = [parse_fields(ware) for ware in listings]
        numbers = common_keys((numbers for numbers, _ in read), most, least)
        told = common_keys(
            ({kind: 1 for kind, name in groups.items() if name} for _, groups in read), MOST_GROUPS, least
        )
        groups = {
            kind: common_keys(({groups[kind]: 1} for _, groups in read if groups.get(kind)), names, least_of_name)
            for kind in dict.fromkeys((*KINDS, *told))
        }
        return cls(numbers, {kind: known for kind, known in groups.items() if known})

    def columns(self, listings: Sequence[Listing]) -> F32:
        """Places of groups, then log(1 + number); [n, groups + numbers], NaN where there is none."""
        table = np.full((len(listings), len(self.groups) + len(self.numbers)), np.nan, dtype=np.float32)
        for row, ware in enumerate(listings):
            numbers, groups = parse_fields(ware)
            for column, (kind, known) in enumerate(self.groups.items()):
                table[row, column] = known.get(groups.get(kind, ""), np.nan)
            for key, number in numbers.items():
                if key in self.numbers:
                    table[row, len(self.groups) + self.numbers[key]] = math.log1p(number)
        return table

    def plain(self) -> dict[str, Any]:
        """Names in the order of their places, ready for JSON."""
        return {"numbers": list(self.numbers), "groups": {kind: list(known) for kind, known in self.groups.items()}}

    @classmethod
    def made(cls, plain: Mapping[str, Any]) -> TabularFields:
        """The fields that `plain` told. Raises ValueError where the facts are none."""
        for names in (plain["numbers"], *plain["groups"].values()):
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise ValueError("names are lists of texts")
            if len(set(names)) < len(names):
                raise ValueError("a name is there twice")
        return cls(
            place_values(plain["numbers"]), {kind: place_values(names) for kind, names in plain["groups"].items()}
        )


MOST_GROUPS = 12  # kinds of group: category, brand and first word, and the lines that most listings have


def place_values(names: Sequence[str]) -> dict[str, int]:
    """The place of each name."""
    return {name: place for place, name in enumerate(names)}


def common_keys(found: Iterable[Mapping[str, Any]], most: int, least: int) -> dict[str, int]:
    """The most frequent keys, each with its place."""
    counts = Counter(key for one in found for key in one)
    kept = sorted((key for key, count in counts.items() if count >= least), key=lambda key: (-counts[key], key))
    return place_values(kept[:most])
