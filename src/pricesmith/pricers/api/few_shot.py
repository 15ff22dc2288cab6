"""Selects the priced training listings that an API model is shown before a question.

    ComparablesSelector(items, groups, 5).select([listing])[0]        up to 5 (text, whole price), the nearest last

Priced training listings may be shown before the question, the nearest of each listing. No example comes from the
near-duplicate group of the evaluated listing, and none has nearly the same words (estimated Jaccard similarity of
word-3-shingles of 0.8, the rule that finds the groups, or the same words), so that the model cannot copy the price.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pricesmith.catalog.comparables import Comparable, ComparablesIndex
from pricesmith.catalog.near_duplicates import is_similar, sketch
from pricesmith.core.types import Item, Listing, render
from pricesmith.text.prompts import format_whole_price, repair_unicode

SPARE = 16  # neighbors looked up beyond `k`, because the filter removes some
SAME_WORDS = 0.999
MAX_SHOWN_CHARS = 1_000  # of an example; its first lines describe it

Examples = tuple[tuple[str, int], ...]


class ComparablesSelector:
    """Selects the `k` nearest training listings of any listing. `groups` maps listing ids to near-duplicate groups."""

    def __init__(self, train: Sequence[Item], groups: Mapping[str, str], k: int) -> None:
        self.index, self.groups, self.k = ComparablesIndex.build(train), groups, k
        self.items = {item.listing.id: item for item in train}

    def select(self, listings: Sequence[Listing]) -> list[Examples]:
        """Return the examples of each listing as (text, whole price), the nearest last, next to the question."""
        neighbors = self.index.search(listings, self.k + SPARE)
        return [self.select_one(listing, near) for listing, near in zip(listings, neighbors, strict=True)]

    def select_one(self, listing: Listing, neighbors: Sequence[Comparable]) -> Examples:
        """Return up to `k` examples; searches further if the filter leaves fewer than `k` of the neighbors."""
        n_neighbors = self.k + SPARE
        items = self.filter(listing, neighbors)
        while len(items) < self.k and len(neighbors) == n_neighbors:
            n_neighbors *= 4
            neighbors = self.index.search([listing], n_neighbors)[0]
            items = self.filter(listing, neighbors)
        return tuple(
            (repair_unicode(render(item.listing))[:MAX_SHOWN_CHARS], format_whole_price(item.price))
            for item in items[: self.k][::-1]
        )

    def filter(self, listing: Listing, neighbors: Sequence[Comparable]) -> list[Item]:
        """Return the neighbors that are neither of the listing's group nor near copies of it, in their order."""
        group = self.groups.get(listing.id)
        items = [
            self.items[near.id]
            for near in neighbors
            if near.id != listing.id
            and near.similarity < SAME_WORDS
            and (group is None or self.groups.get(near.id) != group)
        ]
        if not items:
            return []
        sketches = sketch([render(listing), *(render(item.listing) for item in items)])
        others = np.arange(1, len(items) + 1, dtype=np.int64)
        copies = is_similar(sketches, np.zeros(len(items), dtype=np.int64), others)
        distinct = [item for item, copy in zip(items, copies.tolist(), strict=True) if not copy]
        # One of each group: the same product in another color adds no information.
        first = {self.groups.get(item.listing.id, item.listing.id): item for item in reversed(distinct)}
        return [item for item in distinct if first[self.groups.get(item.listing.id, item.listing.id)] is item]
