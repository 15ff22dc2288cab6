"""The words of many texts in one buffer, and the sketches of all of them: numpy instead of a Python object a word.

    >>> words = join_words(["Red hose, 25 m", "", "Größe"])
    >>> words.rows()
    [b'red hose 25 m', b'', b'gr\\xc3\\xb6\\xc3\\x9fe']

What a word is says `text.words.split_words`: texts that are not ASCII go through it, one by one; in ASCII a word is a
run of letters, digits and underscores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricesmith.text.words import split_words

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]

SPACE, END = 0x20, 0x0A  # between two words, and behind the last word of a text
UNDERSCORE = 0x5F
LONGEST = 8  # bytes beyond the end that a hash may read


def build_table() -> bytes:
    """What each byte becomes: letters in lower case, digits, underscores and what is not ASCII stay, NUL ends a text,
    all others are spaces."""
    table = bytearray([SPACE]) * 256
    for code in range(128):
        character = chr(code)
        if character.isalnum() or character == "_":
            table[code] = ord(character.lower())
    table[128:] = bytes(range(128, 256))
    table[0] = END
    return bytes(table)


TABLE = build_table()


@dataclass(frozen=True)
class JoinedWords:
    """The words of each text with single spaces between them and `END` behind the last one, as UTF-8, in one buffer.

    `ends` are the places of the spaces and ends, one for each word; a text without words has one of no length.
    """

    data: Bytes
    ends: Ints

    @property
    def starts(self) -> Ints:
        """Where each word begins."""
        return np.concatenate((np.zeros(min(1, len(self.ends)), dtype=np.int64), self.ends[:-1] + 1))

    @property
    def is_last(self) -> NDArray[np.bool_]:
        """Whether each word is the last one of its text."""
        is_last: NDArray[np.bool_] = self.data[self.ends] == END
        return is_last

    def bounds(self) -> list[int]:
        """Where each text begins, and where one after the last would."""
        return [0, *(self.ends[self.is_last] + 1).tolist()]

    def rows(self) -> list[bytes]:
        """The words of each text, `" ".join(split_words(text))`, as UTF-8."""
        whole = self.data.tobytes()
        return [whole[start : stop - 1] for start, stop in pairwise(self.bounds())]

    def count_letters(self) -> Ints:
        """The letters and digits of each text, if it is ASCII; (texts,)."""
        if not len(self.ends):
            return np.zeros(0, dtype=np.int64)
        is_letter = (self.data > SPACE) & (self.data != UNDERSCORE)
        return np.add.reduceat(is_letter, self.bounds()[:-1], dtype=np.int64)


def join_words(texts: Sequence[str]) -> JoinedWords:
    """The words of texts, which have no lone surrogates."""
    if not texts:
        return JoinedWords(np.zeros(0, dtype=np.uint8), np.zeros(0, dtype=np.int64))
    ready = [text if text.isascii() else " ".join(split_words(text)) for text in texts]
    whole = "\0".join(ready)
    if whole.count("\0") >= len(texts):
        whole = "\0".join([text.replace("\0", " ") for text in ready])
    data = np.frombuffer(f"{whole}\0".encode().translate(TABLE), dtype=np.uint8)
    # A space stays if a word follows it, but not before the first word.
    is_kept = data != SPACE
    is_kept[:-1] |= is_kept[1:] & (data[1:] != END)
    data = data[is_kept]
    is_leading = data == SPACE
    is_leading[1:] &= data[:-1] == END
    if is_leading.any():
        data = data[~is_leading]
    return JoinedWords(data, np.flatnonzero((data == SPACE) | (data == END)))


def find_shingles(words: JoinedWords) -> tuple[Ints, Ints, Ints]:
    """Where the shingles of all texts begin and end, in order, and how many each text has.

    A shingle is every three words in a row (four characters of a script without spaces); a shorter text is one.
    """
    starts, ends, is_last = words.starts, words.ends, words.is_last
    last = np.flatnonzero(is_last)
    first = np.concatenate((np.zeros(min(1, len(last)), dtype=np.int64), last[:-1] + 1))
    sizes = last - first + 1
    stops = np.zeros(len(ends), dtype=np.int64)  # behind the shingle that begins with a word; 0: none does
    begins = np.flatnonzero(~(is_last[:-2] | is_last[1:-1]))
    stops[begins] = ends[begins + 2]
    is_chosen = np.zeros(len(ends), dtype=np.bool_)
    is_chosen[begins] = True
    is_short = sizes < 3
    stops[first[is_short]] = ends[last[is_short]]
    is_chosen[first[is_short]] = True
    return starts[is_chosen], stops[is_chosen], np.maximum(sizes - 2, 1)


# The hash of rensa 0.5, which is that of the Rust crate rustc-hash 2 for bytes (a hash with 128-bit products in the
# manner of wyhash). `tests/catalog/test_word_columns.py` compares it with rensa's own.
FIRST_SEED, SECOND_SEED = np.uint64(0x243F6A8885A308D3), np.uint64(0x13198A2E03707344)
MIXED_IN, FACTOR = np.uint64(0xA4093822299F31D0), np.uint64(0xF1357AEA2E62A9C5)
LOW, HALF, ROTATION = np.uint64(0xFFFFFFFF), np.uint64(32), np.uint64(26)


def hash_shingles(data: Bytes, starts: Ints, ends: Ints) -> Hashes:
    """64 bits for each span of bytes, those of `RMinHash.hash_token_sets`; (spans,)."""
    padded = np.concatenate((data, np.zeros(LONGEST, dtype=np.uint8)))
    sizes = ends - starts
    hashes = np.empty(len(starts), dtype=np.uint64)
    is_long = sizes > 16
    for chosen, hash_some in ((np.flatnonzero(is_long), hash_long), (np.flatnonzero(~is_long), hash_short)):
        if len(chosen):
            mixed = hash_some(padded, starts[chosen], sizes[chosen]) ^ sizes[chosen].astype(np.uint64)
            mixed = mixed * FACTOR
            hashes[chosen] = (mixed << ROTATION) | (mixed >> (np.uint64(64) - ROTATION))
    return hashes


def hash_long(padded: Bytes, starts: Ints, sizes: Ints) -> Hashes:
    """The mixed words of spans of more than 16 bytes: 16 at a time, then the last 16."""
    rounds = (sizes - 1) // 16
    most = int(rounds.max())
    fewer = most - rounds  # the longest first: those that go on are the first ones
    order = np.argsort(fewer.astype(np.uint16) if most < 1 << 16 else fewer, kind="stable")  # 16 bits are sorted fast
    starts, sizes = starts[order], sizes[order]
    first = np.full(len(starts), FIRST_SEED, dtype=np.uint64)
    second = np.full(len(starts), SECOND_SEED, dtype=np.uint64)
    going = np.cumsum(np.bincount(fewer, minlength=most))  # how many are left in each round, the last one first
    for number in range(most):
        left = int(going[most - 1 - number])
        here = starts[:left] + 16 * number
        mixed = multiply_mix(first[:left] ^ read_words(padded, here), MIXED_IN ^ read_words(padded, here + 8))
        first[:left], second[:left] = second[:left], mixed
    tails = starts + sizes - 16
    mixed = np.empty(len(starts), dtype=np.uint64)
    mixed[order] = multiply_mix(first ^ read_words(padded, tails), second ^ read_words(padded, tails + 8))
    return mixed


def hash_short(padded: Bytes, starts: Ints, sizes: Ints) -> Hashes:
    """The mixed words of spans of at most 16 bytes: its first and last 8 bytes, or 4, or single ones."""
    first = np.full(len(starts), FIRST_SEED, dtype=np.uint64)
    second = np.full(len(starts), SECOND_SEED, dtype=np.uint64)
    for least, most, width in ((8, 16, 8), (4, 7, 4)):
        chosen = np.flatnonzero((sizes >= least) & (sizes <= most))
        here = starts[chosen]
        first[chosen] ^= read_words(padded, here, width)
        second[chosen] ^= read_words(padded, here + sizes[chosen] - width, width)
    chosen = np.flatnonzero((sizes > 0) & (sizes < 4))
    here, size = starts[chosen], sizes[chosen]
    first[chosen] ^= padded[here].astype(np.uint64)
    last = padded[here + size - 1].astype(np.uint64) << np.uint64(8)
    second[chosen] ^= last | padded[here + size // 2].astype(np.uint64)
    return multiply_mix(first, second)


def read_words(padded: Bytes, places: Ints, width: int = 8) -> Hashes:
    """The numbers of 8 or 4 bytes at these places, the first byte the lowest."""
    kind = f"<u{width}"
    view: Any = np.ndarray((len(padded) - width + 1,), dtype=kind, buffer=padded, strides=(1,))
    numbers: Hashes = view[places].astype(np.uint64, copy=False)
    return numbers


def multiply_mix(left: Hashes, right: Hashes) -> Hashes:
    """The low half of the product of 128 bits, and its high half, mixed by exclusive or."""
    left_low, left_high = left & LOW, left >> HALF
    right_low, right_high = right & LOW, right >> HALF
    low, across = left_low * right_low, left_high * right_low
    middle = left_low * right_high + (low >> HALF) + (across & LOW)
    high = left_high * right_high + (across >> HALF) + (middle >> HALF)
    mixed: Hashes = (left * right) ^ high
    return mixed
