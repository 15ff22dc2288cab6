"""Groups: near-duplicates (the same product in other colors, sizes, shops) that must stay on one side of a split.

    >>> texts = ["red hose 25 m with brass fittings for the garden and the yard", "a steel lamp"]
    >>> find_groups(sketch([*texts, texts[0]])).tolist()
    [0, 1, 0]

A group is built round a center. Rows come in ascending order of their content hash; a row joins the first center
that it is alike to (estimated Jaccard of word-3-shingles at least 0.8), or becomes a center. There is no chaining.
Centers of a row are looked for where a band of the sketches agrees; see `N_BANDS` for why that loses none.
Where many rows share a band (the text of a template) not all are compared: a row with the first `CAP` centers of each
of its bands, and, among rows of one block that none of these took, with the first `CAP` of those rows in the band.

Similarity is estimated on sketches of 128 numbers: MinHash by rensa (R-MinHash), of which the low 16 bits of each
minimum are kept (b-bit minwise hashing, Li and König, 2010). Two different texts agree in one of them by chance once in
65,536.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricesmith.core.progress import SILENT, Progress
from pricesmith.text.words import split_words

Ints = NDArray[np.int64]
FIRST_BLOCK, BLOCK = 256, 8_192  # rows; large groups have their center in the index before blocks are large
CAP = 64
CHUNK = 50_000
N_HASHES = 128
SEED = 1
ALIKE = 103  # places of 128: the least that estimates a Jaccard of 0.8

# Alike texts differ in at most 25 places, so of 26 bands at least one agrees: banding loses no pair.
N_BANDS = (*((start, start + 5) for start in range(0, 120, 5)), (120, 124), (124, 128))


def find_groups(
    sketches: Any,
    rows: Ints | None = None,
    keys: Any = None,
    progress: Progress = SILENT,
    release: Callable[[], None] = lambda: None,
) -> NDArray[np.int64]:
    """The center of each row, as a position in `rows`; (rows,).

    `sketches` is (n, 128), in memory or mapped from disk; `rows` are the numbers of the rows to look at in ascending
    order of content hash (all of them as they stand, without it). `keys` is room for (26, rows) numbers of 32 bits.
    `release` is called now and then: what is mapped from disk may leave memory.
    """
    rows = np.arange(len(sketches), dtype=np.int64) if rows is None else rows
    count = len(rows)
    keys = np.empty((len(N_BANDS), count), dtype=np.uint32) if keys is None else keys
    progress.start("finding groups", len(N_BANDS) + count)
    for start in range(0, count, CHUNK):
        here = rows[start : start + CHUNK]
        keys[:, start : start + CHUNK] = band_keys(np.asarray(sketches[here]))
        release()
    buckets = keys.view(np.int32)
    center_index = CenterIndex(number_buckets(keys, buckets, progress))
    centers = np.arange(count, dtype=np.int64)
    start, size = 0, min(FIRST_BLOCK, BLOCK)
    while start < count:
        here = np.arange(start, min(start + size, count), dtype=np.int64)
        block = np.asarray(buckets[:, start : start + size]).astype(np.int64).T
        shared = (block >= 0).any(axis=1)
        assign_block(sketches, rows, here[shared], block[shared], center_index, centers)
        progress.advance(len(here))
        start, size = start + size, min(2 * size, BLOCK)
        release()
    return centers


def number_buckets(keys: Any, buckets: Any, progress: Progress) -> NDArray[np.int32]:
    """Turn keys, in place, into bucket numbers: -1 where a row is alone with its key. The size of each bucket."""
    sizes: list[NDArray[np.int32]] = []
    first = 0
    for band in range(len(keys)):
        key = np.asarray(keys[band])
        order = np.argsort(key, kind="stable")
        ordered = key[order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(key) else np.empty(0, np.int64)
        counts = np.diff(np.r_[starts, len(key)])
        shared = counts > 1
        number = np.where(shared, first + np.cumsum(shared) - 1, -1).astype(np.int32)
        placed = np.empty(len(key), dtype=np.int32)
        placed[order] = np.repeat(number, counts)
        buckets[band] = placed
        sizes.append(counts[shared].astype(np.int32))
        first += int(shared.sum())
        progress.advance()
    return np.concatenate(sizes) if sizes else np.empty(0, np.int32)


class CenterIndex:
    """The centers found so far, by bucket: at most `CAP` in each, in ascending order.

    Millions of rows have tens of millions of buckets: their numbers are as short as they can be.
    """

    def __init__(self, sizes: NDArray[np.int32]) -> None:
        room = np.minimum(sizes, CAP)
        total = int(room.sum(dtype=np.int64))
        self.starts: NDArray[Any] = np.zeros(len(sizes) + 1, dtype=np.int32 if total < 2**31 else np.int64)
        np.cumsum(room, out=self.starts[1:])
        self.filled = np.zeros(len(sizes), dtype=np.uint8)
        self.held = np.zeros(total, dtype=np.int32)

    def pairs(self, block: Ints) -> tuple[Ints, Ints]:
        """For rows with the buckets `block` (rows, bands): every different pair (place in block, center), sorted."""
        place, band = np.nonzero(block >= 0)
        bucket = block[place, band]
        count = self.filled[bucket].astype(np.int64)
        place, bucket, count = place[count > 0], bucket[count > 0], count[count > 0]
        if not len(place):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        inside = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
        center = self.held[np.repeat(self.starts[bucket], count) + inside].astype(np.int64)
        code = np.unique(np.repeat(place, count) << 32 | center)
        return code >> 32, code & 0xFFFFFFFF

    def add(self, centers: Ints, block: Ints) -> None:
        """Put new centers, ascending, into their buckets `block` (centers, bands), as long as there is room."""
        band, place = np.nonzero(block.T >= 0)
        bucket, center = block[place, band], centers[place]
        order = np.lexsort((center, bucket))
        bucket, center = bucket[order], center[order]
        where = self.starts[bucket] + self.filled[bucket] + pairs_within_buckets(bucket)
        fits = where < self.starts[bucket + 1]
        self.held[where[fits]] = center[fits]
        np.add.at(self.filled, bucket[fits], 1)


def pairs_within_buckets(ordered: Ints) -> Ints:
    """How many equal values stand before each one, in sorted values."""
    if not len(ordered):
        return np.empty(0, np.int64)
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    counts = np.diff(np.r_[starts, len(ordered)])
    return np.arange(len(ordered)) - np.repeat(starts, counts)


def assign_block(sketches: Any, rows: Ints, here: Ints, block: Ints, center_index: CenterIndex, centers: Ints) -> None:
    """Find the center of each row of a block, which follows all earlier rows; add new centers to the index."""
    if not len(here):
        return
    step = 1_024  # rows whose pairs are held at once
    open_rows = np.ones(len(here), dtype=np.bool_)
    for start in range(0, len(here), step):
        place, center = center_index.pairs(block[start : start + step])
        place += start
        good = is_similar(sketches, rows[here[place]], rows[center])
        first, index = np.unique(place[good], return_index=True)
        centers[here[first]] = center[good][index]
        open_rows[first] = False
    left = np.flatnonzero(open_rows)
    assign_rest(sketches, rows, here, left, block[left], centers)
    new = left[centers[here[left]] == here[left]]
    center_index.add(here[new], block[new])


def assign_rest(sketches: Any, rows: Ints, here: Ints, left: Ints, block: Ints, centers: Ints) -> None:
    """Rows of a block that no earlier center took: among themselves, in order.

    A row is compared with the first `CAP` such rows of each bucket, members of groups as well as centers: in a larger
    bucket a center further on is not met there.
    """
    codes: list[Ints] = []
    for band in range(block.shape[1]):
        order = np.argsort(block[:, band], kind="stable")
        bucket = block[order, band]
        order, bucket = order[bucket >= 0], bucket[bucket >= 0]
        inside = pairs_within_buckets(bucket)
        # Each row with the rows before it in its bucket, at most CAP of them: the first ones.
        count = np.minimum(inside, CAP)
        starts = np.arange(len(bucket)) - inside
        later = np.repeat(np.arange(len(bucket)), count)
        step = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
        codes.append(np.unique(order[later] << 32 | order[np.repeat(starts, count) + step]))
    code = np.unique(np.concatenate(codes))
    later, before = code >> 32, code & 0xFFFFFFFF
    good = is_similar(sketches, rows[here[left[later]]], rows[here[left[before]]])
    is_member: set[int] = set()
    for row, other in zip(later[good].tolist(), before[good].tolist(), strict=True):
        if row not in is_member and other not in is_member:
            centers[here[left[row]]] = here[left[other]]
            is_member.add(row)


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
    return int.from_bytes(hashlib.blake2b(" ".join(words).encode(), digest_size=8).digest(), "little")


def shingles(words: Sequence[str]) -> list[str]:
    """Every three words in a row (four characters of a script without spaces); a shorter text is one shingle."""
    return [" ".join(three) for three in zip(words, words[1:], words[2:], strict=False)] or [" ".join(words)]


def sketch(texts: Sequence[str]) -> NDArray[np.uint16]:
    """The sketches of texts, (texts, 128)."""
    return sketch_words([split_words(text) for text in texts])


def sketch_words(documents: Sequence[Sequence[str]]) -> NDArray[np.uint16]:
    """The sketches of texts that are split into words already, (texts, 128)."""
    from rensa import RMinHash

    if not documents:
        return np.empty((0, N_HASHES), dtype=np.uint16)
    digests = RMinHash.digests_from_token_sets([shingles(words) for words in documents], N_HASHES, SEED)
    flat = np.fromiter(chain.from_iterable(digests), dtype=np.uint32, count=len(documents) * N_HASHES)
    return flat.reshape(-1, N_HASHES).astype(np.uint16)  # the low 16 bits


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


def is_similar(sketches: Any, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.bool_]:
    """For each pair of row numbers: whether the estimated Jaccard is at least 0.8. (pairs,)"""
    similar = np.zeros(len(left), dtype=np.bool_)
    for start in range(0, len(left), 200_000):
        here = slice(start, start + 200_000)
        a, b = left[here], right[here]
        # Half of the places are enough to turn most pairs away.
        differ = np.count_nonzero(sketches[a, :64] != sketches[b, :64], axis=1)
        likely = np.flatnonzero(differ <= N_HASHES - ALIKE)
        rest = np.count_nonzero(sketches[a[likely], 64:] != sketches[b[likely], 64:], axis=1)
        similar[start + likely] = differ[likely] + rest <= N_HASHES - ALIKE
    return similar
