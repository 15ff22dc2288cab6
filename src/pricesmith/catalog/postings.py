"""Which training listings have each word: sums over these rows, and whether one row has enough of some words.

postings.dot(words, weights)                       for each row the sum over its words
postings.dot_batch(ends, words, weights)            the same for many listings at once, only rows that have a word
postings.any_row_meets(words, weights, Requirement(common=0.0, total=30.0, share=0.75))
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricesmith.core.model_files import check_below, damaged_file

F64 = NDArray[np.float64]
RowNumbers = NDArray[np.int32]

DECIMALS = 9  # shares are rounded, so that the order of a sum does not decide
FREQUENT = 64  # a word in at least 1 of so many rows gets a bit set: all of these need no more memory than the postings
RARE = 64  # a word in fewer than 1 of so many rows is rare: such words are added up before all others
MAX_STEPS = 500  # words that a search tries before it gives up and adds up all rows
FEW_ROWS = 64  # so few are not thinned out any further


@dataclass(frozen=True, slots=True)
class Requirement:
    """Which share of a listing's words, by weight, a row must have: `common` + the weights of the shared words, divided
    by `total`, must be at least `share` after rounding."""

    common: float
    total: float
    share: float

    def is_met(self, shared: float) -> bool:
        """Whether words of this weight are enough."""
        return round((shared + self.common) / self.total, DECIMALS) >= self.share

    @property
    def least(self) -> float:
        """A weight below which words are never enough."""
        return (self.share - 10.0**-DECIMALS) * self.total - self.common


@dataclass(frozen=True, slots=True)
class BitSet:
    """A set of rows: bit `row % 8` of byte `row // 8`, and the same bits as one integer, which Python intersects and
    compares with 0 faster than numpy does."""

    data: NDArray[np.uint8]
    number: int

    @classmethod
    def from_flags(cls, flags: NDArray[np.bool_]) -> BitSet:
        """The set of the rows whose flag is set."""
        data = np.packbits(flags, bitorder="little")
        return cls(data, int.from_bytes(data.tobytes(), "little"))


@dataclass(frozen=True)
class Postings:
    """The rows that have each word, as a sparse matrix [words, rows] in scipy's CSR layout, rows in ascending order.

    numpy alone: a model that prices one listing need not wait for the import of scipy.
    """

    data: NDArray[np.float32]
    indices: RowNumbers
    indptr: NDArray[np.int32]
    n_rows: int
    bit_sets: dict[int, BitSet] = field(default_factory=dict, compare=False, repr=False)  # of frequent words, once used

    def dot(self, words: NDArray[np.int64], weights: F64, *, binary: bool = False) -> F64:
        """For each row the sum of weight times value over `words`, or of the weights alone (`binary`), [n_rows]."""
        starts, counts = self.indptr[words].astype(np.int64), np.diff(self.indptr)[words].astype(np.int64)
        ends = np.cumsum(counts)
        if len(ends) and ends[-1] > self.n_rows:  # word by word: the same sums, three times as fast for long lists
            sums = np.zeros(self.n_rows)
            for start, count, weight in zip(starts.tolist(), counts.tolist(), weights, strict=True):
                own = slice(start, start + count)
                sums[self.indices[own]] += weight if binary else weight * self.data[own]
            return sums
        entries = np.repeat(starts - ends + counts, counts) + np.arange(int(counts.sum()))
        values = np.repeat(weights, counts)
        if not binary:
            values = values * self.data[entries]
        return np.asarray(np.bincount(self.indices[entries], values, minlength=self.n_rows), dtype=np.float64)

    def dot_batch(
        self, ends: NDArray[np.int64], words: NDArray[np.int64], weights: F64
    ) -> Iterator[tuple[RowNumbers, F64]]:
        """For each query the rows with a word of it and their sums: those of `dot`.

        Query `i` has the words `ends[i]` to `ends[i + 1]` of `words`, and their weights. Much faster than query by
        query, and threads can do it at the same time.
        """
        from scipy.sparse import csr_matrix

        matrix = self.matrix
        cells = (weights, words.astype(np.int32), ends.astype(np.int32))
        products = csr_matrix(cells, shape=(len(ends) - 1, matrix.shape[0])) @ matrix
        for start, end in zip(products.indptr, products.indptr[1:], strict=False):
            yield products.indices[start:end], products.data[start:end]

    @cached_property
    def matrix(self) -> Any:
        """The same as scipy's matrix [words, rows], in double precision so that products need not convert it."""
        from scipy.sparse import csr_matrix

        arrays = (self.data.astype(np.float64), self.indices, self.indptr)
        return csr_matrix(arrays, shape=(len(self.indptr) - 1, self.n_rows))

    def highest_rare_sums(self, ends: NDArray[np.int64], words: NDArray[np.int64], weights: F64) -> F64:
        """For each query the highest sum of weights that a row reaches with its rare words alone: at most the highest
        sum of `dot`, binary, and several times as fast, [queries].

        Query `i` has the words `ends[i]` to `ends[i + 1]` of `words`, and their weights.
        """
        from scipy.sparse import csr_matrix

        rare, matrix = self.rare_words
        chosen = rare[words]
        rare_ends = np.concatenate(([0], np.cumsum(chosen)))[ends].astype(np.int32)
        cells = (weights[chosen], words[chosen].astype(np.int32), rare_ends)
        products = csr_matrix(cells, shape=(len(ends) - 1, matrix.shape[0])) @ matrix
        highest = np.zeros(len(ends) - 1)
        filled = np.flatnonzero(np.diff(products.indptr))
        if len(filled):
            highest[filled] = np.maximum.reduceat(products.data, products.indptr[filled])
        return highest

    @cached_property
    def rare_words(self) -> tuple[NDArray[np.bool_], Any]:
        """Which words are rare, and the matrix [words, rows] with a 1 for each row that has a rare word."""
        from scipy.sparse import csr_matrix

        counts = np.diff(self.indptr)
        rare = counts * RARE < self.n_rows
        indices = self.indices[np.repeat(rare, counts)]
        ends = np.concatenate([[0], np.cumsum(np.where(rare, counts, 0))]).astype(np.int32)
        return rare, csr_matrix((np.ones(len(indices)), indices, ends), shape=(len(counts), self.n_rows))

    def any_row_meets(self, words: NDArray[np.int64], weights: F64, requirement: Requirement) -> bool:
        """Whether some row has enough of `words`: what the highest sum of `dot` says too, in several times the time.

        Rows with a rare word are few and are added up. For the others it is branch and bound over the frequent words.
        Heaviest words first make it fast. Sums are added up in the order of `words`.
        """
        if not self.n_rows or requirement.is_met(0.0):
            return bool(self.n_rows)
        numbers, values = words.tolist(), weights.tolist()
        rest, least = sum(values), requirement.least  # rest: the most that the rows not yet looked at can have
        frequent: list[tuple[int, float]] = []
        for word, value in zip(numbers, values, strict=True):
            if rest < least:
                return False
            if (rows := self.bit_set(word)) is not None:
                frequent.append((rows.number, value))
                continue
            if requirement.is_met(self.highest_sum(self.rows_of(word), numbers, values, least)):
                return True
            rest -= value
        answer = search_bit_sets(frequent, requirement)
        return requirement.is_met(float(self.dot(words, weights, binary=True).max())) if answer is None else answer

    def highest_sum(self, rows: RowNumbers, words: Sequence[int], weights: Sequence[float], least: float) -> float:
        """The highest sum of the weights of `words` over some rows; any lower number if it is below `least`."""
        sums, rest = np.zeros(len(rows)), sum(weights)
        places, shifts = rows >> 3, (rows & 7).astype(np.uint8)  # of each row's bit in a bit set
        for word, weight in zip(words, weights, strict=True):
            if len(rows) > FEW_ROWS:
                possible = sums >= least - rest
                if 2 * np.count_nonzero(possible) < len(rows):
                    rows, sums, places, shifts = rows[possible], sums[possible], places[possible], shifts[possible]
            bits = self.bit_set(word)
            has_word = find_rows(self.rows_of(word), rows) if bits is None else (bits.data[places] >> shifts) & 1
            sums += weight * has_word
            rest -= weight
        return float(sums.max(initial=0.0))

    def rows_of(self, word: int) -> RowNumbers:
        """The rows that have a word."""
        return self.indices[self.indptr[word] : self.indptr[word + 1]]

    def bit_set(self, word: int) -> BitSet | None:
        """The rows that have a frequent word, as bits, which are made at the first use; None for a rare word."""
        bits = self.bit_sets.get(word)
        if bits is None:
            rows = self.rows_of(word)
            if len(rows) * FREQUENT < self.n_rows:
                return None
            flags = np.zeros(self.n_rows, dtype=np.bool_)
            flags[rows] = True
            bits = self.bit_sets[word] = BitSet.from_flags(flags)
        return bits

    def check(self, path: Path) -> None:
        """Raise InputError if the arrays, which were read from `path`, are not such a matrix."""
        check_below(path, "indices", self.indices, self.n_rows)
        ends = self.indptr
        if len(ends) < 1 or ends[0] != 0 or ends[-1] != len(self.indices) or (np.diff(ends) < 0).any():
            raise damaged_file(path, "indptr that does not match the indices", allowed="a sparse matrix")
        ascending = np.diff(self.indices) > 0
        starts = ends[1:-1]  # of the second word and all later ones
        ascending[starts[(starts > 0) & (starts < len(self.indices))] - 1] = True
        if not ascending.all():
            raise damaged_file(path, "rows that do not ascend", allowed="each row of a word once, in ascending order")


def search_bit_sets(words: Sequence[tuple[int, float]], requirement: Requirement) -> bool | None:
    """Whether some row has enough of the words, each given as a bit set and a weight; None after `MAX_STEPS` steps.

    A row has the next word or lacks it; a case is dropped if it has no row, or if the words that are left cannot be
    enough.
    """
    least = requirement.least
    rest = [*itertools.accumulate((weight for _, weight in reversed(words)), initial=0.0)][::-1]  # from each place on
    cases = [(0, -1, 0.0)]  # the next word, the rows (-1: all) and the weight of the words that they have
    for _ in range(MAX_STEPS):
        if not cases:
            return False
        place, rows, shared = cases.pop()
        if shared + rest[place] < least:
            continue
        if shared >= least and requirement.is_met(shared):
            return True
        if place < len(words):
            bits, weight = words[place]
            cases.append((place + 1, rows, shared))
            if both := rows & bits:
                cases.append((place + 1, both, shared + weight))
    return None


def find_rows(ascending: RowNumbers, rows: RowNumbers) -> NDArray[np.bool_]:
    """Whether each of `rows` is among ascending rows."""
    if not len(ascending):
        return np.zeros(len(rows), dtype=np.bool_)
    places = np.minimum(np.searchsorted(ascending, rows), len(ascending) - 1)
    return np.asarray(ascending[places] == rows)
