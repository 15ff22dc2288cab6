"""Finds the words of a vocabulary in many texts at once, by hash instead of a Python string a word.

>>> cells = HashedVocabulary(["hose", "red", "red hose"]).find_cells(["Red hose, red", "lamp"], pairs=True)
>>> cells.rows.tolist(), cells.columns.tolist(), cells.counts.tolist()
([0, 0, 0, 0, 1], [-1, 0, 1, 2, -1], [1.0, 1.0, 2.0, 1.0, 1.0])

The words are those of `split_words`. As in `word_counts`, two words with the same hash of 64 bits would share a column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pricesmith.text.code_points import I64, U64
from pricesmith.text.word_counts import count_chunk, read_chunks, word_hashes

UNKNOWN = -1


@dataclass(frozen=True, slots=True)
class WordCells:
    """The distinct words of texts, by text and then by column: the text of each, its column (`UNKNOWN`: not in the
    vocabulary) and how often the text has it, [cells]."""

    rows: I64
    columns: I64
    counts: NDArray[np.float64]

    def known(self) -> WordCells:
        """The words of the vocabulary alone."""
        chosen = self.columns != UNKNOWN
        return WordCells(self.rows[chosen], self.columns[chosen], self.counts[chosen])


class HashedVocabulary:
    """Distinct words, and pairs of words with a space between them; the place of each is its column."""

    def __init__(self, words: Sequence[str]) -> None:
        hashes, columns = [np.zeros(0, dtype=np.uint64)], [np.zeros(0, dtype=np.int64)]
        start = 0
        for part in read_chunks(words, str):
            own, starts = word_hashes(part, pairs=True)
            # A word has its own hash; a pair has those of two words and then its own.
            expected = np.array([3 if " " in word else 1 for word in part])
            whole = np.diff(starts) == expected
            hashes.append(own[starts[1:][whole] - 1])
            columns.append(np.flatnonzero(whole) + start)
            start += len(part)
        order = np.argsort(every := np.concatenate(hashes))
        self.hashes: U64 = every[order]
        self.columns: I64 = np.concatenate(columns)[order]

    def find(self, hashes: U64) -> I64:
        """The column of each hash, `UNKNOWN` if the vocabulary does not have it."""
        if not len(self.hashes):
            return np.full(len(hashes), UNKNOWN, dtype=np.int64)
        places = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        return np.where(self.hashes[places] == hashes, self.columns[places], UNKNOWN)

    def find_cells(self, texts: Sequence[str], *, pairs: bool = False) -> WordCells:
        """The words of texts, with `pairs` also each two words that follow each other. `UNKNOWN` cells come first."""
        size = int(self.columns.max(initial=0)) + 2
        rows, columns, counts = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
        start = 0
        for part in read_chunks(texts, str):
            counted = count_chunk(part, pairs)
            row = np.repeat(np.arange(len(part), dtype=np.int64), np.diff(counted.starts))
            column = self.find(counted.hashes)[counted.numbers]
            order = np.argsort(row * size + column + 1, kind="stable")
            rows.append(row[order] + start)
            columns.append(column[order])
            counts.append(counted.counts[order].astype(np.float64))
            start += len(part)
        return WordCells(np.concatenate(rows), np.concatenate(columns), np.concatenate(counts))
