"""Priced listings that a hosted model is shown before it is asked: the same few each time, or the nearest of each.

    Nearest(items, groups, 5).of([listing])[0]        up to 5 (text, whole price), the nearest last

The guard: no training listing of the judged one's group is shown, nor one whose words are nearly the same (estimated
Jaccard of word-3-shingles of 0.8, by which groups are found, or the same words), so that nothing is copied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pricesmith.catalog.comparables import Comparable, ComparablesIndex
from pricesmith.catalog.sketches import is_similar, sketch
from pricesmith.core.types import Item, Listing, render
from pricesmith.text.prompts import format_whole_price, repair_unicode

SPARE = 16  # more than asked for are looked up, because the guard takes some away
SAME_WORDS = 0.999
SHOWN_LETTERS = 1_000  # of a shown listing; its head says what it is

Selector = tuple[tuple[str, int], ...]


class ComparablesSelector:
    """The nearest training listings of any listing, behind the guard. `groups` is by listing id."""

    def __init__(self, train: Sequence[Item], groups: Mapping[str, str], k: int) -> None:
        self.index, self.groups, self.k = ComparablesIndex.build(train), groups, k
        self.items = {item.listing.id: item for item in train}

    def of(self, listings: Sequence[Listing]) -> list[Selector]:
        """For each listing its comparables, the nearest last: next to the question."""
        found = self.index.search(listings, self.k + SPARE)
        return [self.behind_guard(ware, near) for ware, near in zip(listings, found, strict=True)]

    def behind_guard(self, ware: Listing, near: Sequence[Comparable]) -> Selector:
        """The first `k` that may be shown; where the guard takes more than was looked up, it looks further."""
        wanted = self.k + SPARE
        kept = self.allowed(ware, near)
        while len(kept) < self.k and len(near) == wanted:
            wanted *= 4
            near = self.index.search([ware], wanted)[0]
            kept = self.allowed(ware, near)
        return tuple(
            (cut_text(repair_unicode(render(item.listing)), SHOWN_LETTERS), format_whole_price(item.price))
            for item in kept[: self.k][::-1]
        )

    def allowed(self, ware: Listing, near: Sequence[Comparable]) -> list[Item]:
        """Those that are no relatives and no near-copies, in their order."""
        group = self.groups.get(ware.id)
        some = [
            self.items[one.id]
            for one in near
            if one.id != ware.id and one.similarity < SAME_WORDS and (group is None or self.groups.get(one.id) != group)
        ]
        if not some:
            return []
        sketches = sketch([render(ware), *(render(item.listing) for item in some)])
        others = np.arange(1, len(some) + 1, dtype=np.int64)
        copies = is_similar(sketches, np.zeros(len(some), dtype=np.int64), others)
        kept = [item for item, copy in zip(some, copies.tolist(), strict=True) if not copy]
        # One of each group: the same thing in another color says nothing new.
        first = {self.groups.get(item.listing.id, item.listing.id): item for item in reversed(kept)}
        return [item for item in kept if first[self.groups.get(item.listing.id, item.listing.id)] is item]


def cut_text(text: str, letters: int) -> str:
    """The head of a text."""
    return text[:letters]
