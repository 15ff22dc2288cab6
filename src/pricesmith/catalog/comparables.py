"""What similar things cost: the nearest training listings by the words they share, and by what they are estimated at.

    index = ComparablesIndex.build(items)
    index.search([listing], 3)[0][0].title
    index.nothing_similar([listing])              # [False]

Similarity is the cosine of TF-IDF over single words, exact; a word that no training listing has counts as the rarest.
With estimated prices of the training rows and of the listing, the `POOL` most similar rows are ordered by similarity
times the ratio of the smaller estimate to the larger one: a listing that is estimated at twice as much counts as half
as similar. True prices take no part, or comparables would confirm every quote. Ties go to the smaller id.

On disk: `index.npz` (arrays, no pickle), `words.json`, `items.parquet` (id, title, price, estimate) and `rule.json`
(common words, and below which overlap nothing is similar).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pricesmith.catalog.items import get_listings, get_prices, listings_in_order
from pricesmith.catalog.postings import DECIMALS, F64, Postings, Requirement
from pricesmith.core.cores_and_memory import available_cores
from pricesmith.core.model_files import Shapes, damaged_file, read_arrays, read_names, read_settings, report_damage
from pricesmith.core.settings import Settings
from pricesmith.core.types import Item, Listing, render
from pricesmith.text.vocabulary import UNKNOWN, HashedVocabulary
from pricesmith.text.word_counts import count_words
from pricesmith.text.words import split_words

ARRAYS, WORDS, RULE, ITEMS = FILES = ("index.npz", "words.json", "rule.json", "items.parquet")
SHAPES: Shapes = {
    "data": ("float", "cells"),
    "indices": ("int", "cells"),
    "indptr": ("int", "ends"),
    "idf": ("float", "words"),
}
MAX_CHARS = 2_000  # the head of a long text says what it is
MAX_SHARE = 0.3  # a word in more of the listings than this distinguishes none, and costs the most
FEW = 100  # below so many listings every word counts
POOL = 64  # most similar rows that are ordered by estimated price as well
FLAGGED_SHARE = 0.01  # share of validation listings that may be called unlike all training listings
VALIDATION_ROWS = 2_000  # listings that the threshold is learnt from, at most
STRIPE = 64  # scores whose highest is looked at first
CHUNK = 512  # listings of which the rare words are looked at together
BATCH = 64  # listings whose cosines are one product of sparse matrices; fewer need no import of scipy
TINY = 1e-9


class Rule(Settings):
    """The file of words left out with their weights, and of the overlap below which nothing is similar."""

    common: dict[str, float]
    threshold: float | None = Field(ge=0, le=1)
    calibrated: bool


@dataclass(frozen=True, slots=True)
class Comparable:
    """A training listing like the one asked for. `similarity` is the cosine, from 0 to 1."""

    id: str
    title: str
    price: float
    similarity: float


@dataclass(frozen=True, slots=True)
class Vector:
    """The words of a listing that training listings have, with their weights, and its length with all other words."""

    places: NDArray[np.int64]
    weights: F64
    common: float  # sum of squared weights of words that too many training listings have
    norm: float  # over `places` and unknown words


@dataclass(frozen=True, slots=True)
class WeightedWords:
    """The words of many listings that training listings have: places and weights [cells], where those of each listing
    begin and end [listings + 1], and for each listing the sums of the squared weights of these words, of the words that
    too many training listings have, and of unknown ones, [listings]."""

    places: NDArray[np.int64]
    weights: F64
    ends: NDArray[np.int64]
    own_squares: F64
    common: F64
    unknown: F64


class ComparablesIndex:
    """A search over training listings. Built once with the model, or loaded from its folder.

    `postings` [words, rows] holds unit vectors of the rows as columns; `common` maps words left out to their weight;
    `estimates` [rows] are log prices or None; `threshold` is the overlap below which nothing is similar, or None.
    """

    def __init__(
        self,
        words: Sequence[str],
        idf: Any,
        postings: Postings,
        items: tuple[list[str], list[str], F64],
        common: Mapping[str, float],
    ) -> None:
        self.words, self.idf, self.postings, self.common = words, idf.astype(np.float64), postings, dict(common)
        self.ids, self.titles, self.prices = items
        self.estimates: F64 | None = None
        self.threshold: float | None = None
        self.calibrated = False
        self.vocabulary = {word: place for place, word in enumerate(words)}
        self.rarest = math.log(1 + len(self.ids)) + 1

    @classmethod
    def build(cls, items: Sequence[Item]) -> ComparablesIndex:
        """An index of items, sorted by id."""
        return cls.build_with_order(items)[0]

    @classmethod
    def build_with_order(cls, items: Sequence[Item]) -> tuple[ComparablesIndex, NDArray[np.int64]]:
        """An index of items, sorted by id, and the place of each of its rows among the items."""
        from scipy.sparse import csr_matrix, diags

        ids, titles = read_names_of(items)
        order = np.array(sorted(range(len(ids)), key=ids.__getitem__), dtype=np.int64)
        word_counts = count_words(listings_in_order(items, order), select_rows, dtype=np.float32)
        counts, names = word_counts.csr(), np.array(word_counts.words, dtype=object)
        if not len(names):
            counts, names = csr_matrix((len(items), 1), dtype=np.float32), np.array(["?"])
        frequency = np.bincount(counts.indices, minlength=len(names))
        idf = np.log((1 + len(items)) / (1 + frequency)) + 1
        specific = frequency <= (MAX_SHARE * len(items) if len(items) > FEW else len(items))
        common = {str(word): float(weight) for word, weight in zip(names[~specific], idf[~specific], strict=True)}
        matrix = counts[:, specific]
        matrix.data = 1 + np.log(matrix.data)
        matrix = matrix @ diags(idf[specific].astype(np.float32))
        squares = np.asarray(matrix.multiply(matrix).sum(axis=1), dtype=np.float64).ravel()
        rows = diags((1 / np.sqrt(np.maximum(squares, 1e-12))).astype(np.float32)) @ matrix
        places = order.tolist()
        columns = ([ids[place] for place in places], [titles[place] for place in places], get_prices(items)[order])
        words = rows.T.tocsr()
        postings = Postings(words.data, words.indices, words.indptr, words.shape[1])
        return cls(names[specific].tolist(), idf[specific], postings, columns, common), order

    def vector(self, listing: Listing) -> Vector:
        """A listing as a vector of this index, not scaled to length 1."""
        places, weights, common, unknown = [], [], 0.0, 0.0
        idf = self.idf.data  # its elements are Python's own numbers, which are the fastest here
        for word, count in Counter(split_words(select_rows(listing))).items():
            times = 1 + math.log(count) if count > 1 else 1.0
            place = self.vocabulary.get(word)
            if place is not None:
                places.append(place)
                weights.append(times * idf[place])
            elif word in self.common:
                common += (times * self.common[word]) ** 2
            else:
                unknown += (times * self.rarest) ** 2
        # In this order also if many listings are looked at together; what differs in the last digit is rounded away.
        order = np.argsort(places)
        values = np.array(weights, dtype=np.float64)[order]
        norm = math.sqrt(float(values @ values) + unknown)
        return Vector(np.array(places, dtype=np.int64)[order], values, common, norm)

    def search(self, listings: Sequence[Listing], k: int, estimates: Any = None) -> list[list[Comparable]]:
        """The k nearest training listings of each, nearest first; fewer where there are fewer with a word in common.

        With `estimates`, log prices of the listings (NaN: not known), those of a like estimate come first.
        """
        return [near for near, _ in self.search_with_closest(listings, k, estimates)]

    def search_with_closest(
        self, listings: Sequence[Listing], k: int, estimates: Any = None
    ) -> list[tuple[list[Comparable], list[Comparable]]]:
        """The answer of `search` for each listing, and its single nearest training listing by words alone: none or
        one."""
        if k < 1:
            return [([], []) for _ in listings]
        logs = np.full(len(listings), np.nan) if estimates is None else np.asarray(estimates, dtype=np.float64)
        neighbors: list[tuple[list[Comparable], list[Comparable]]] = []
        size = k if self.estimates is None else max(k, POOL)
        for (rows, scores), log in zip(self.most_similar(listings, size), logs.tolist(), strict=True):
            closest = self.comparables(rows[:1], scores[:1])
            if self.estimates is not None and math.isfinite(log):
                ratios = np.exp(-abs(self.estimates[rows] - log))
                order = np.lexsort((rows, -np.round(scores * ratios, 5)))[:k]
                rows, scores = rows[order], scores[order]
            neighbors.append((self.comparables(rows[:k], scores[:k]), closest))
        return neighbors

    def comparables(self, rows: Any, scores: Any) -> list[Comparable]:
        """Training rows with their cosines as comparables."""
        return [
            Comparable(self.ids[row], self.titles[row], float(self.prices[row]), min(1.0, round(float(score), 5)))
            for row, score in zip(rows, scores, strict=True)
        ]

    def most_similar(self, listings: Sequence[Listing], k: int) -> Iterator[tuple[Any, Any]]:
        """For each listing the rows with the k highest cosines, highest first, and these."""
        if len(listings) < BATCH:
            for vector in map(self.vector, listings):
                if not len(vector.places):
                    yield np.zeros(0, dtype=np.int64), np.zeros(0)
                    continue
                yield highest(self.postings.dot(vector.places, vector.weights / vector.norm), k)
            return
        words = self.find_words(list(map(select_rows, listings)))
        norms = np.sqrt(words.own_squares + words.unknown)
        weights = words.weights / np.repeat(norms, np.diff(words.ends))
        starts = range(0, len(listings), BATCH)

        def search_block(start: int) -> list[tuple[Any, Any]]:
            ends = words.ends[start : start + BATCH + 1]
            own = slice(ends[0], ends[-1])
            products = self.postings.dot_batch(ends - ends[0], words.places[own], weights[own])
            return [highest_of(rows, scores, k) for rows, scores in products]

        with ThreadPoolExecutor(available_cores()) as pool:
            for block in pool.map(search_block, starts):
                yield from block

    def overlap(self, listings: Sequence[Listing]) -> F64:
        """How much of each listing the closest training listing has: the share of its words' squared weights.

        Words that most training listings have are taken for shared.
        """
        overlaps = np.zeros(len(listings))
        for number, listing in enumerate(listings):
            vector, total = self.vector_and_total(listing)
            if total and self.ids:
                sums = self.postings.dot(vector.places, vector.weights**2, binary=True)
                overlaps[number] = min(1.0, round((float(sums.max()) + vector.common) / total, DECIMALS))
        return overlaps

    def vector_and_total(self, listing: Listing) -> tuple[Vector, float]:
        """A listing as a vector, its heaviest words first, and the sum of the squared weights of all its words."""
        vector = self.vector(listing)
        order = np.argsort(-vector.weights, kind="stable")
        ordered = Vector(vector.places[order], vector.weights[order], vector.common, vector.norm)
        return ordered, vector.norm**2 + vector.common

    def calibrate(self, listings: Sequence[Listing], groups: Sequence[str]) -> tuple[int, int]:
        """Learn the threshold of `nothing_similar` from validation listings, one of each near-duplicate group; how many
        of how many are below it."""
        first = {group: listing for listing, group in zip(listings[::-1], groups[::-1], strict=True)}
        chosen = [first[group] for group in sorted(first)][:VALIDATION_ROWS]
        self.calibrated = True
        if not chosen:
            self.threshold = None
            return 0, 0
        overlaps = self.overlap(chosen)
        self.threshold = float(np.quantile(overlaps, FLAGGED_SHARE, method="lower"))
        return int((overlaps < max(self.threshold, TINY)).sum()), len(chosen)

    def nothing_similar(self, listings: Sequence[Listing]) -> list[bool]:
        """Whether no training listing is like each listing: its overlap is lower than that of 99 % of the validation
        listings, or nothing."""
        least = max(self.threshold or 0.0, TINY)
        if len(listings) < BATCH or not self.ids:
            return [not self.reaches(listing, least) for listing in listings]
        flags: list[bool] = []
        for start in range(0, len(listings), CHUNK):
            flags += self.lacks_similar(list(map(select_rows, listings[start : start + CHUNK])), least)
        return flags

    def lacks_similar(self, texts: Sequence[str], least: float) -> list[bool]:
        """Whether the overlap of each text is below `least`: what `reaches` denies, from arrays of words."""
        words = self.find_words(texts)
        squares, ends = words.weights**2, words.ends
        totals = words.own_squares + words.unknown + words.common
        # For most listings the words that few rows have are enough, and quickly added up.
        sums = self.postings.highest_rare_sums(ends, words.places, squares)
        flags: list[bool] = []
        numbers = zip(sums.tolist(), words.common.tolist(), totals.tolist(), strict=True)
        for row, (shared, common, total) in enumerate(numbers):
            requirement = Requirement(common, total or 1.0, least)
            if not requirement.is_met(shared):
                own = slice(ends[row], ends[row + 1])
                shared = float(self.postings.dot(words.places[own], squares[own], binary=True).max())
            flags.append(not total or not requirement.is_met(shared))
        return flags

    def find_words(self, texts: Sequence[str]) -> WeightedWords:
        """The words of many texts: those of `vector` for each of them, from arrays."""
        cells, count = self.hashed_words.find_cells(texts), len(texts)
        weights = (1 + np.log(cells.counts)) * self.all_idf[cells.columns]  # of unknown words: the last one
        is_own = (cells.columns != UNKNOWN) & (cells.columns < len(self.words))
        rows, own = cells.rows[is_own], weights[is_own]
        squares = weights * weights
        return WeightedWords(
            places=cells.columns[is_own],
            weights=own,
            ends=np.searchsorted(rows, np.arange(count + 1)),
            own_squares=add_up(rows, own * own, count),
            common=add_up(cells.rows, squares * (cells.columns >= len(self.words)), count),
            unknown=add_up(cells.rows, squares * (cells.columns == UNKNOWN), count),
        )

    @cached_property
    def hashed_words(self) -> HashedVocabulary:
        """The words of the index and, after them, the common ones."""
        return HashedVocabulary([*self.words, *self.common])

    @cached_property
    def all_idf(self) -> F64:
        """The weights of `hashed_words`, and that of unknown words as the last one."""
        return np.array([*self.idf, *self.common.values(), self.rarest])

    def reaches(self, listing: Listing, least: float) -> bool:
        """Whether the overlap of a listing is at least `least`, without computing it."""
        vector, total = self.vector_and_total(listing)
        if not total or not self.ids:
            return least <= 0
        return self.postings.any_row_meets(vector.places, vector.weights**2, Requirement(vector.common, total, least))

    def save(self, folder: Path) -> None:
        """Write the index into a folder, which is made."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        folder.mkdir(parents=True, exist_ok=True)
        arrays = {name: getattr(self.postings, name) for name in ("data", "indices", "indptr")}
        np.savez(folder / ARRAYS, idf=self.idf, **arrays)
        (folder / WORDS).write_text(json.dumps(list(self.words), ensure_ascii=False), encoding="utf-8")
        rule = {"common": self.common, "threshold": self.threshold, "calibrated": self.calibrated}
        (folder / RULE).write_text(json.dumps(rule, ensure_ascii=False), encoding="utf-8")
        columns: dict[str, Any] = {"id": self.ids, "title": self.titles, "price": pa.array(self.prices, pa.float64())}
        if self.estimates is not None:
            columns["estimate"] = pa.array(self.estimates, pa.float64())
        pq.write_table(pa.table(columns), folder / ITEMS)

    @classmethod
    def load(cls, folder: Path) -> ComparablesIndex:
        """An index from its folder. Raises InputError where it is damaged."""
        import pyarrow.parquet as pq

        path = folder / ITEMS
        words, rule = read_names(folder / WORDS), read_settings(folder / RULE, Rule)
        with report_damage(path):
            with pq.ParquetFile(path) as file:  # read_table would import pandas
                table = file.read()
            names = [name for name in ("id", "title", "price", "estimate") if name in table.column_names]
            values = {name: table.column(name).to_pylist() for name in names}
            if not all(isinstance(text, str) for name in ("id", "title") for text in values[name]):
                raise ValueError("an id or a title that is not a text")
            numbers = {name: np.array(values[name], np.float64) for name in names if name not in ("id", "title")}
            if not all(np.isfinite(array).all() for array in numbers.values()) or (numbers["price"] <= 0).any():
                raise ValueError("prices that are not numbers above 0")
        arrays = read_arrays(folder / ARRAYS, SHAPES, {"words": len(words)})
        if len(arrays["indptr"]) != len(words) + 1:
            raise damaged_file(folder / ARRAYS, f"{len(arrays['indptr'])} ends", allowed=f"{len(words) + 1} ends")
        postings = Postings(arrays["data"], arrays["indices"], arrays["indptr"], table.num_rows)
        postings.check(folder / ARRAYS)
        items = (values["id"], values["title"], numbers["price"])
        index = cls(words, arrays["idf"], postings, items, rule.common)
        index.threshold, index.calibrated, index.estimates = rule.threshold, rule.calibrated, numbers.get("estimate")
        return index


def highest(scores: Any, k: int) -> tuple[Any, Any]:
    """Rows and scores of the k highest above 0, highest first; near-ties, which rounding makes, by the smaller row."""
    whole = len(scores) // STRIPE * STRIPE
    tops = scores[:whole].reshape(-1, STRIPE).max(axis=1)
    least = 0.0
    if len(tops) > k:  # so many scores are at least as high as the k-th of the stripes' highest
        least = max(0.0, float(np.partition(tops, len(tops) - k)[len(tops) - k]) - 1e-5)
    rows = np.flatnonzero((scores >= least) & (scores > 0))
    top = scores[rows]
    order = np.lexsort((rows, -np.round(top, 5)))[:k]
    return rows[order], top[order]


def highest_of(rows: Any, scores: Any, k: int) -> tuple[Any, Any]:
    """`highest` for the scores of some rows, all others being 0."""
    if len(scores) > k:
        chosen = scores >= float(np.partition(scores, len(scores) - k)[len(scores) - k]) - 1e-5
        rows, scores = rows[chosen], scores[chosen]
    order = np.lexsort((rows, -np.round(scores, 5)))[:k]
    return rows[order], scores[order]


def read_names_of(items: Sequence[Item]) -> tuple[list[str], list[str]]:
    """The ids of items, and their titles or what stands for these."""
    ids, titles = [], []
    for listing in get_listings(items):
        ids.append(listing.id)
        titles.append((listing.title or listing.text)[:200])
    return ids, titles


def add_up(rows: NDArray[np.int64], values: F64, count: int) -> F64:
    """The sum of the values of each row, [count], in the order in which they are given."""
    return np.asarray(np.bincount(rows, values, count), dtype=np.float64)


def select_rows(listing: Listing) -> str:
    """The part of a listing's text that is compared."""
    return render(listing)[:MAX_CHARS]
