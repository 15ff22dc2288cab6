"""Sketches: 128 small numbers that stand for the word-3-shingles of a text, so that likeness is quick to estimate.

    >>> a, b = sketch(["red hose 25 m brass fittings", "red hose 25 m brass fittings new"])
    >>> float((a == b).mean()) > 0.6
    True

MinHash by rensa (R-MinHash); of each minimum the low 16 bits are kept (b-bit minwise hashing, Li and König, 2010):
two different texts agree in a place by accident once in 65,536.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricesmith.text.words import split_words

N_HASHES = 128
SEED = 1
ALIKE = 103  # places of 128: the least that estimates a Jaccard of 0.8

# Alike texts differ in at most 25 places, so of 26 bands at least one agrees: banding loses no pair.
N_BANDS = (*((start, start + 5) for start in range(0, 120, 5)), (120, 124), (124, 128))


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
    return (np.array(digests, dtype=np.uint32) & 0xFFFF).astype(np.uint16)


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


def is_similar(sketches: Any, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.bool_]:
    """For each pair of row numbers: whether the estimated Jaccard is at least 0.8. (pairs,)"""
    found = np.zeros(len(one), dtype=np.bool_)
    for start in range(0, len(one), 200_000):
        here = slice(start, start + 200_000)
        a, b = one[here], other[here]
        # Half of the places are enough to turn most pairs away.
        differ = np.count_nonzero(sketches[a, :64] != sketches[b, :64], axis=1)
        likely = np.flatnonzero(differ <= N_HASHES - ALIKE)
        rest = np.count_nonzero(sketches[a[likely], 64:] != sketches[b[likely], 64:], axis=1)
        found[start + likely] = differ[likely] + rest <= N_HASHES - ALIKE
    return found
