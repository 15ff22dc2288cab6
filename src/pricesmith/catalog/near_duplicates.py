"""Groups: near-duplicates (the same product in other colors, sizes, shops) that must stay on one side of a split.

    >>> texts = ["red hose 25 m with brass fittings for the garden and the yard", "a steel lamp"]
    >>> find_groups(sketch([*texts, texts[0]])).tolist()
    [0, 1, 0]

A group is built round a center. Rows come in ascending order of their content hash; a row joins the first center
that it is alike to (estimated Jaccard of word-3-shingles at least 0.8), or becomes a center. There is no chaining.
Centers of a row are looked for where a band of the sketches agrees; see `N_BANDS` for why that loses none.
Rows with the same sketch are one: the first stands for all. Where many different rows share a band (the text of a
template) not all are compared: a row with the first `CAP` of each of its bands, in the order of their hashes. So the
groups depend on the rows alone, not on how many are looked at together.

Similarity is estimated on sketches of 128 numbers: MinHash by rensa (R-MinHash), of which the low 16 bits of each
minimum are kept (b-bit minwise hashing, Li and König, 2010). Two different texts agree in one of them by chance once in
65,536.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from struct import Struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricesmith.catalog.band_index import Allocate, BandIndex, BlockIndex, Ints, allocate_memory
from pricesmith.catalog.word_columns import JoinedWords, find_shingles, hash_shingles, join_words
from pricesmith.core.progress import SILENT, Progress

FIRST_BLOCK, BLOCK = 256, 8_192  # rows; large groups have their center before blocks are large
CAP = 64  # rows of one bucket, at most 255
CHUNK = 50_000
BLOCK_ROWS = 500_000  # rows whose sketches are in memory at once
MOST_PAIRS = 4_000_000  # pairs with rows of earlier blocks that are held at once
NONE = np.iinfo(np.int64).max
N_HASHES = 128
SEED = 1
AT_ONCE = 256  # texts whose minima are Python numbers at the same time: more of them leave the cache
ALIKE = 103  # places of 128: the least that estimates a Jaccard of 0.8

# Alike texts differ in at most 25 places, so of 26 bands at least one agrees: banding loses no pair.
N_BANDS = (*((start, start + 5) for start in range(0, 120, 5)), (120, 124), (124, 128))


def find_groups(
    sketches: Any,
    allocate: Allocate = allocate_memory,
    progress: Progress = SILENT,
    release: Callable[[], None] = lambda: None,
) -> Ints:
    """The center of each row, as the number of another row or its own; (rows,).

    `sketches` is (rows, 128), in ascending order of content hash: an array, or a `SketchFile`. It is read from front to
    back, once for each `BLOCK_ROWS` rows. `allocate` makes the arrays that need up to 17 bytes for each band of a row,
    in memory or in files; `release` is called now and then: what is mapped may leave memory.
    """
    progress.start("finding groups", 2 * len(N_BANDS) + len(sketches))
    keys = allocate("keys", np.uint32, (len(N_BANDS), len(sketches)))
    hashes = np.empty(len(sketches), dtype=np.uint64)
    for start in range(0, len(sketches), CHUNK):
        keys[:, start : start + CHUNK] = band = band_keys(sketches[start : start + CHUNK])
        hashes[start : start + CHUNK] = hash_keys(band)
        release()
    again, firsts = find_equal(sketches, hashes)
    del hashes
    progress.advance(len(N_BANDS))
    different = np.delete(np.arange(len(sketches), dtype=np.int64), again)  # one row of each sketch
    index = BandIndex(keys, different, CAP, allocate, progress, release)
    del keys, different
    centers = np.arange(len(sketches), dtype=np.int64)
    for start in range(0, len(sketches), BLOCK_ROWS):
        assign_rows(sketches, start, min(start + BLOCK_ROWS, len(sketches)), index, centers, progress)
    centers[again] = centers[firsts]
    return centers


def find_equal(sketches: Any, hashes: NDArray[np.uint64]) -> tuple[Ints, Ints]:
    """The rows whose sketch an earlier row has, and the first row that has it. `hashes` are those of the sketches."""
    order = np.argsort(hashes, kind="stable")
    hashes = hashes[order]
    is_new = np.r_[True, hashes[1:] != hashes[:-1]]
    repeated = np.flatnonzero(~is_new[: len(order)])
    begins = np.flatnonzero(is_new)
    again, firsts = order[repeated], order[begins[np.searchsorted(begins, repeated, side="right") - 1]]
    rows, places = np.unique(np.r_[again, firsts], return_inverse=True)
    digests = np.empty((len(rows), 2), dtype=np.uint64)
    for start, here, piece in read_pieces(sketches, rows):
        whole = b"".join(hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in piece[rows[here] - start])
        digests[here] = np.frombuffer(whole, dtype=np.uint64).reshape(-1, 2)
    places = places.reshape(-1)
    same = (digests[places[: len(again)]] == digests[places[len(again) :]]).all(axis=1)
    return again[same], firsts[same]


def read_pieces(sketches: Any, rows: Ints) -> Iterator[tuple[int, slice, NDArray[np.uint16]]]:
    """The pieces of the sketches that have ascending rows: the first row of a piece, which of the rows it has, and its
    sketches."""
    low = 0
    while low < len(rows):
        start = int(rows[low])
        high = int(np.searchsorted(rows, start + CHUNK))
        last = int(rows[high - 1])
        yield start, slice(low, high), sketches[start : last + 1]
        low = high


def assign_rows(
    sketches: Any, start: int, stop: int, index: BandIndex, centers: Ints, progress: Progress = SILENT
) -> None:
    """Find the centers of the rows from `start` to `stop`; those of all earlier rows are known.

    A row goes to the first center that it is alike to: among earlier rows, then, if there is none, in the block.
    """
    own = sketches[start:stop]
    before = EarlierCenters(sketches, own, start, centers)
    block = index.read_block(start, stop, before.add)
    first = before.finish()
    is_settled = first < NONE
    block.counts[:, is_settled] = 0
    chosen = np.where(is_settled, -1, np.arange(stop - start, dtype=np.int64))
    low, size = 0, min(FIRST_BLOCK, BLOCK)
    while low < len(own):
        assign_block(own, low, min(low + size, len(own)), block, chosen)
        progress.advance(size)
        low, size = low + size, min(2 * size, BLOCK)
    centers[start:stop] = np.where(is_settled, first, chosen + start)


class EarlierCenters:
    """Compares the rows of a block with centers before it that share a band, and finds the first one of each row that
    is alike. Pairs are collected, and compared in the order of the centers."""

    def __init__(self, sketches: Any, own: NDArray[np.uint16], start: int, centers: Ints) -> None:
        self.sketches, self.own, self.start = sketches, own, start
        self.is_center = centers[:start] == np.arange(start)
        self.first = np.full(len(own), NONE, dtype=np.int64)
        self.waiting: list[Ints] = []
        self.held = 0

    def add(self, later: Ints, earlier: Ints) -> None:
        """Pairs (row of the block, row before it)."""
        later = later - self.start
        useful = self.is_center[earlier] & (earlier < self.first[later])
        self.waiting.append(earlier[useful] << 32 | later[useful])
        self.held += len(self.waiting[-1])
        if self.held > MOST_PAIRS:
            self.waiting = [np.unique(np.concatenate(self.waiting))]
            self.held = len(self.waiting[0])
            if self.held > MOST_PAIRS // 2:
                self.compare()

    def compare(self) -> None:
        """Compare the pairs that wait."""
        pairs = np.unique(np.concatenate(self.waiting))
        self.waiting, self.held = [], 0
        for start, here, piece in read_pieces(self.sketches, pairs >> 32):
            earlier, later = pairs[here] >> 32, pairs[here] & 0xFFFFFFFF
            useful = earlier < self.first[later]
            earlier, later = earlier[useful], later[useful]
            alike = are_alike(piece, earlier - start, self.own, later)
            np.minimum.at(self.first, later[alike], earlier[alike])

    def finish(self) -> Ints:
        """The first center of each row of the block; `NONE` if there is none."""
        if self.waiting:
            self.compare()
        return self.first


def assign_block(sketches: Any, start: int, stop: int, index: BlockIndex, centers: Ints) -> None:
    """Find the centers of the rows from `start` to `stop` of a block; those of its earlier rows are known. A row that
    has one before the block (-1) stays as it is."""
    step = 1_024  # rows whose pairs are held at once
    within: list[Ints] = []
    for low in range(start, stop, step):
        high = min(low + step, stop)
        codes = index.pairs(low, high, lambda earlier: (earlier >= start) | (centers[earlier] == earlier))
        later, earlier = codes >> 32, codes & 0xFFFFFFFF
        known = earlier < start
        alike = np.flatnonzero(known)[is_similar(sketches, later[known], earlier[known])]
        members, first = np.unique(later[alike], return_index=True)
        centers[members] = earlier[alike][first]
        within.append(codes[~known])
    codes = np.concatenate(within)
    later, earlier = codes >> 32, codes & 0xFFFFFFFF
    free = (centers[later] == later) & (centers[earlier] == earlier)
    later, earlier = later[free], earlier[free]
    good = is_similar(sketches, later, earlier)
    for row, other in zip(later[good].tolist(), earlier[good].tolist(), strict=True):
        if centers[row] == row and centers[other] == other:
            centers[row] = other


def group_size_limit(rows: int) -> int:
    """The largest group that is not taken for template text."""
    return max(50, int(0.002 * rows))


def split_templates(centers: Ints, words: NDArray[np.uint64], limit: int) -> tuple[Ints, int]:
    """Groups over `limit` split again by exact normalized text; the centers, and how many groups were split.

    `words` is `word_key` of each row. The center of a part is its first row.
    """
    sizes = np.bincount(centers, minlength=len(centers))
    large = sizes[centers] > limit
    if not large.any():
        return centers, 0
    where = np.flatnonzero(large)
    _, group = np.unique(np.stack((centers[where].astype(np.uint64), words[where])), axis=1, return_inverse=True)
    parts = centers.copy()
    parts[where] = first_of_groups(group.reshape(-1), where)
    return parts, int((sizes > limit).sum())


def join_groups(centers: Ints, products: NDArray[np.uint64], limit: int) -> Ints:
    """Near-duplicate groups and products made one: rows of one product, and rows near to one of them, have one center.

    `products` names the product of each row, 0 for none. A joined group over `limit` rows (products that are alike in
    words) is split again: its rows go by their product, or by their words if they have none. A name that more than
    `limit` rows and over a fifth of all rows have names no product.
    """
    names, which, sizes = np.unique(products, return_inverse=True, return_counts=True)
    which = which.reshape(-1)
    is_product = (names != 0) & (sizes > 1) & ~((sizes > limit) & (sizes > len(products) / 5))
    if not is_product.any():
        return centers
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(centers)
    rows = np.flatnonzero(is_product[which])
    ends = np.r_[centers, count + which[rows]]  # a node for each row and one for each product
    starts = np.r_[np.arange(count), rows]
    total = count + len(names)
    graph = coo_array((np.ones(len(ends), dtype=np.int8), (starts, ends)), shape=(total, total))
    label = connected_components(graph, directed=False)[1][:count].astype(np.int64)
    large = np.flatnonzero(np.bincount(label)[label] > limit)
    if len(large):
        by_product = is_product[which[large]]
        label[large] = 2 * total + np.where(by_product, count + which[large], centers[large])
    _, group = np.unique(label, return_inverse=True)
    return first_of_groups(group.reshape(-1), np.arange(count, dtype=np.int64))


def first_of_groups(group: Ints, rows: Ints) -> Ints:
    """For rows in ascending order, each with a group number: the first row of its group."""
    first = np.full(int(group.max()) + 1, np.iinfo(np.int64).max, dtype=np.int64)
    np.minimum.at(first, group, rows)
    return first[group]


def word_key(words: Sequence[str]) -> int:
    """64 bits that stand for the exact normalized text."""
    return int(hash_words(join_words([" ".join(words)]))[0])


def hash_words(words: JoinedWords) -> NDArray[np.uint64]:
    """64 bits that stand for the exact words of each text; (texts,)."""
    blake2b = hashlib.blake2b
    whole = b"".join([blake2b(row, digest_size=8).digest() for row in words.rows()])
    return np.frombuffer(whole, dtype="<u8").astype(np.uint64)


def sketch(texts: Sequence[str]) -> NDArray[np.uint16]:
    """The sketches of texts, (texts, 128)."""
    return sketch_joined(join_words(texts))


def sketch_joined(words: JoinedWords) -> NDArray[np.uint16]:
    """The sketches of texts, (texts, 128): for each place the least of the hashes of all shingles, its low 16 bits."""
    from rensa import RMinHash

    starts, ends, counts = find_shingles(words)
    hashes = hash_shingles(words.data, starts, ends)
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.uint64)
    pack = Struct(f"={N_HASHES}I").pack
    packed: list[bytes] = []
    for first in range(0, len(counts), AT_ONCE):
        here = offsets[first : first + AT_ONCE + 1]
        part = hashes[int(here[0]) : int(here[-1])]
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(part, here - here[0], N_HASHES, SEED)
        packed += [pack(*row) for row in matrix.to_rows()]
    minima = np.frombuffer(b"".join(packed), dtype=np.uint32).reshape(len(counts), N_HASHES)
    return minima.astype(np.uint16)


def band_keys(sketches: NDArray[np.uint16]) -> NDArray[np.uint32]:
    """One key for each band of each sketch, (bands, texts). Equal bands have equal keys."""
    keys = np.empty((len(N_BANDS), len(sketches)), dtype=np.uint32)
    for band, (start, stop) in enumerate(N_BANDS):
        mixed = np.full(len(sketches), 0x9E3779B97F4A7C15, dtype=np.uint64)
        for place in range(start, stop):
            mixed = (mixed ^ sketches[:, place]) * np.uint64(0xFF51AFD7ED558CCD)
            mixed ^= mixed >> np.uint64(32)
        keys[band] = (mixed >> np.uint64(16)).astype(np.uint32)
    return keys


def hash_keys(keys: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """64 bits for the band keys of each text, (texts,), from (bands, texts)."""
    mixed = np.full(keys.shape[1], 0x9E3779B97F4A7C15, dtype=np.uint64)
    for key in keys:
        mixed = (mixed ^ key) * np.uint64(0xFF51AFD7ED558CCD)
        mixed ^= mixed >> np.uint64(32)
    return mixed


def is_similar(sketches: Any, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.bool_]:
    """For each pair of row numbers: whether the estimated Jaccard is at least 0.8. (pairs,)"""
    return are_alike(sketches, left, sketches, right)


def are_alike(first: Any, left: NDArray[np.int64], second: Any, right: NDArray[np.int64]) -> NDArray[np.bool_]:
    """For each pair of a row of `first` and one of `second`: whether the estimated Jaccard is at least 0.8. (pairs,)"""
    similar = np.zeros(len(left), dtype=np.bool_)
    for start in range(0, len(left), 200_000):
        here = slice(start, start + 200_000)
        a, b = left[here], right[here]
        # Half of the places are enough to turn most pairs away.
        differ = np.count_nonzero(first[a, :64] != second[b, :64], axis=1)
        likely = np.flatnonzero(differ <= N_HASHES - ALIKE)
        rest = np.count_nonzero(first[a[likely], 64:] != second[b[likely], 64:], axis=1)
        similar[start + likely] = differ[likely] + rest <= N_HASHES - ALIKE
    return similar
