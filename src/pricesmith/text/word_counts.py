"""How often each word, or pair of neighboring words, is in each of many texts.

    counts = count_words(["red rope", "rope 12 m"], str, pairs=True)
    counts.words                        # ["12", "12 m", "m", "red", "red rope", "rope", "rope 12"]
    counts.csr()                        # [2, 7]

The counts of scikit-learn's CountVectorizer with the words of `split_words`, cell by cell in the same order, in a
fraction of its time and memory: words are hashes of 64 bits while they are counted, a thousand texts at a time, and
only those that are kept become strings again, from the first text of each. Two words with the same hash would share a
column: among 100 million words and pairs by a chance of 3 in 10,000; on purpose, long words can be made that do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pricesmith.core.threads import map_ahead
from pricesmith.text.code_points import (
    I64,
    OTHER,
    SPECIAL,
    U64,
    classes,
    code_points,
    field_starts,
    find_runs,
    hash_spans,
    mix_hash,
    prefix_hashes,
)
from pricesmith.text.words import segment_text, split_words

T = TypeVar("T")
I32 = NDArray[np.int32]
CHUNK = 1024  # texts whose words are found at once
CHUNK_CHARS = 1 << 19
BLOCK = 64  # chunks whose words get common numbers


@dataclass(slots=True)
class NumberedCounts:
    """The words of some texts as numbers, by first appearance. Text `i` has the cells `starts[i]` to `starts[i + 1]` of
    `numbers` and `counts`; `hashes`, `texts` (how many have it), `first_text` and `first_place` are of each word.

    Places in a text number its words and then its pairs.
    """

    starts: I64
    numbers: I32
    counts: NDArray[Any]
    hashes: U64
    texts: I64
    first_text: I64
    first_place: I32


@dataclass(slots=True)
class WordCounts:
    """The words, sorted, and their counts: text `i` has the cells `starts[i]` to `starts[i + 1]` of `columns` and
    `counts`, in the order in which the words first appear in all texts."""

    words: list[str]
    starts: NDArray[Any]
    columns: NDArray[Any]
    counts: NDArray[Any]

    def csr(self) -> Any:
        """The counts as a scipy matrix [texts, words]."""
        from scipy.sparse import csr_matrix

        return csr_matrix((self.counts, self.columns, self.starts), (len(self.starts) - 1, len(self.words)))


def count_words(
    rows: Sequence[T], read: Callable[[T], str], *, pairs: bool = False, min_texts: int = 1, dtype: Any = np.float64
) -> WordCounts:
    """The words that `min_texts` texts or more have; the text of a row is `read(row)`. Rows are read twice."""
    chunks = map_ahead(lambda texts: count_chunk(texts, pairs), read_chunks(rows, read))
    blocks: list[NumberedCounts] = []
    while block := list(islice(chunks, BLOCK)):
        blocks.append(merge(block))
    number, texts, first_text, first_place = share_numbers(blocks)
    chosen = texts >= min_texts
    rank = np.where(chosen, np.cumsum(chosen) - 1, -1).astype(np.int32)  # among the kept words, by first appearance
    words = list(read_words(rows, read, first_text[chosen], first_place[chosen]))
    order = sorted(range(len(words)), key=words.__getitem__)
    column = np.empty(len(words), dtype=np.int32)
    column[order] = np.arange(len(words), dtype=np.int32)
    starts, columns, counts = select_cells(blocks, [rank[own] for own in number], column, dtype)
    return WordCounts([words[place] for place in order], starts, columns, counts)


def read_chunks(rows: Iterable[T], read: Callable[[T], str]) -> Iterator[list[str]]:
    """The texts, in order, in parts whose arrays stay small; counts do not depend on the parts."""
    part: list[str] = []
    chars = 0
    for row in rows:
        text = read(row)
        if len(part) == CHUNK or (part and chars + len(text) > CHUNK_CHARS):
            yield part
            part, chars = [], 0
        part.append(text)
        chars += len(text)
    if part:
        yield part


def count_chunk(texts: Sequence[str], pairs: bool) -> NumberedCounts:
    """The counts of a few texts."""
    from scipy.sparse import csr_matrix

    hashes, starts = word_hashes([segment_text(text) for text in texts], pairs)
    numbers, distinct = number_hashes(hashes)
    first = first_places(numbers)
    text = np.searchsorted(starts, first, side="right") - 1
    cells = (np.ones(len(numbers), np.int32), numbers.copy(), starts)  # pyarrow's own array cannot be sorted in place
    matrix = csr_matrix(cells, (len(texts), max(1, len(distinct))))
    matrix.sum_duplicates()
    n_texts = np.bincount(matrix.indices, minlength=len(distinct))
    place = (first - starts[text]).astype(np.int32)
    ends = matrix.indptr.astype(np.int64)
    return NumberedCounts(ends, matrix.indices, matrix.data, distinct, n_texts, text, place)


def word_hashes(texts: Sequence[str], pairs: bool) -> tuple[U64, I64]:
    """The hashes of the words of each segmented text, followed by those of its pairs, and where each text starts."""
    raw = code_points(texts)
    kind = classes(raw) & np.uint8(SPECIAL - 1)
    start, end = find_runs((kind != OTHER).view(np.uint8))
    words = hash_spans(*prefix_hashes(raw), start, end)
    row = np.searchsorted(field_starts(texts), start, side="right") - 1
    counts = np.bincount(row, minlength=len(texts))
    if not pairs:
        return words, np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))
    first = np.flatnonzero(row[1:] == row[:-1])
    pair_ends, word_ends = np.cumsum(np.maximum(counts - 1, 0)), np.cumsum(counts)
    hashes = np.empty(len(words) + len(first), dtype=np.uint64)
    hashes[np.arange(len(words)) + (pair_ends - np.maximum(counts - 1, 0))[row]] = words
    hashes[np.arange(len(first)) + word_ends[row[first]]] = mix_hash(mix_hash(words[first]) + words[first + 1])
    return hashes, np.concatenate((np.zeros(1, np.int64), word_ends + pair_ends))


def number_hashes(hashes: U64) -> tuple[I32, U64]:
    """The number of each hash by first appearance, and the distinct hashes."""
    import pyarrow as pa

    encoded = pa.array(hashes).dictionary_encode()
    return encoded.indices.to_numpy(), encoded.dictionary.to_numpy()


def first_places(numbers: I32) -> I64:
    """Where each number, by first appearance, appears first."""
    return (
        np.flatnonzero(np.diff(np.maximum.accumulate(numbers), prepend=-1)) if len(numbers) else np.zeros(0, np.int64)
    )


def merge(parts: list[NumberedCounts]) -> NumberedCounts:
    """The counts of several parts as one, with common numbers. The list is emptied."""
    number, texts, first_text, first_place = share_numbers(parts)
    hashes = np.empty(len(texts), dtype=np.uint64)
    for own, part in zip(number, parts, strict=True):
        hashes[own] = part.hashes
    starts, offset = [np.zeros(1, np.int64)], 0
    for part in parts:
        starts.append(part.starts[1:] + offset)
        offset += int(part.starts[-1])
    numbers = np.concatenate([own[part.numbers] for own, part in zip(number, parts, strict=True)])
    counts = np.concatenate([part.counts for part in parts])
    parts.clear()
    counts = counts.astype(np.min_scalar_type(int(counts.max(initial=0))))
    return NumberedCounts(np.concatenate(starts), numbers, counts, hashes, texts, first_text, first_place)


def share_numbers(parts: Sequence[NumberedCounts]) -> tuple[list[I32], I64, I64, I32]:
    """The common number of each word of each part, and of each common number: how many texts have the word, the first
    text and the place in it."""
    if not parts:
        return [], np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int32)
    numbers, distinct = number_hashes(np.concatenate([part.hashes for part in parts]))
    first = first_places(numbers)
    texts = np.zeros(len(distinct), dtype=np.int64)
    np.add.at(texts, numbers, np.concatenate([part.texts for part in parts]))
    offsets = np.cumsum([0, *(len(part.starts) - 1 for part in parts[:-1])])
    first_text = np.concatenate([part.first_text + offset for part, offset in zip(parts, offsets, strict=True)])[first]
    first_place = np.concatenate([part.first_place for part in parts])[first]
    ends = np.cumsum([len(part.hashes) for part in parts])
    return np.split(numbers, ends[:-1]), texts, first_text, first_place


def read_words(rows: Iterable[T], read: Callable[[T], str], texts: I64, places: I32) -> Iterator[str]:
    """The word or pair at each place of an ascending text."""
    if not len(texts):
        return
    starts = np.flatnonzero(np.diff(texts, prepend=-1)).tolist()
    wanted = iter(zip(texts[starts].tolist(), np.split(places, starts[1:]), strict=True))
    text, own = next(wanted, (-1, places))
    for number, row in enumerate(rows):
        if number != text:
            continue
        words = split_words(read(row))
        for place in own.tolist():
            pair = place - len(words)
            yield words[place] if pair < 0 else f"{words[pair]} {words[pair + 1]}"
        text, own = next(wanted, (-1, places))
        if text < 0:
            return


def select_cells(
    blocks: list[NumberedCounts], ranks: list[I32], column: I32, dtype: Any
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """The starts, columns and counts of the words with a rank, by rank in each text. The lists are emptied."""
    from scipy.sparse import csr_matrix

    sizes = [np.zeros(1, np.int64)]
    for block, rank in zip(blocks, ranks, strict=True):
        known = np.concatenate((np.zeros(1, np.int64), np.cumsum(rank[block.numbers] >= 0)))
        sizes.append(np.diff(known[block.starts]))
    starts = np.cumsum(np.concatenate(sizes))
    dtype_of_places = np.int32 if starts[-1] < 2**31 else np.int64
    columns, counts = np.empty(starts[-1], dtype_of_places), np.empty(starts[-1], dtype)
    n_texts, ends = 0, starts.astype(dtype_of_places)
    blocks.reverse()
    ranks.reverse()
    while blocks:
        block, rank = blocks.pop(), ranks.pop()
        own = ends[n_texts : n_texts + len(block.starts)]
        here = slice(own[0], own[-1])
        n_texts += len(block.starts) - 1
        cells = rank[block.numbers]
        known = cells >= 0
        part = csr_matrix((block.counts[known], cells[known], own - own[0]), (len(own) - 1, max(1, len(column))))
        part.sort_indices()
        columns[here], counts[here] = column[part.indices], part.data
    return ends, columns, counts
