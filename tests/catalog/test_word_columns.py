"""Words, shingles, hashes and sketches of many texts are those of each text."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from rensa import RMinHash

from pricesmith.catalog.near_duplicates import N_HASHES, SEED, sketch, sketch_joined
from pricesmith.catalog.word_columns import find_shingles, hash_shingles, join_words
from pricesmith.text.words import count_letters, split_words

PIECES = [
    *["a", "hose", "Größe", "25", "x_1", "_", " ", "  ", "\n", "\0", "\t", "-", ".", "$9", "\x7f", "\x1c", "\x85"],
    *[
        "小米手机",
        "カメラ",
        "ไทย",
        "की",
        "İ",
        "K",
        "ß",
        "é",
        "e\u0301",
        "١٢",
        "１２",
        "\u00ad",
        "🎸",
        "\u200f",
        "עברית",
    ],
]
texts = st.lists(
    st.text(st.characters(exclude_categories=["Cs"])) | st.lists(st.sampled_from(PIECES), max_size=12).map("".join),
    max_size=8,
)


def shingles(words: list[str]) -> list[str]:
    """Every three words in a row; a shorter text is one shingle."""
    return [" ".join(three) for three in zip(words, words[1:], words[2:], strict=False)] or [" ".join(words)]


@given(texts)
@example(["", "\0", " a", "b ", " ", "c\0d", "\0\0"])
@example([" "])
def test_the_words_of_many_texts_are_those_of_each(texts: list[str]) -> None:
    assert join_words(texts).rows() == [" ".join(split_words(text)).encode() for text in texts]


@given(texts)
def test_letters_of_ascii_texts_are_counted(texts: list[str]) -> None:
    counts = join_words(texts).count_letters().tolist()
    assert len(counts) == len(texts)
    for text, count in zip(texts, counts, strict=True):
        assert not text.isascii() or count == count_letters(text, 1_000_000)


@given(texts)
@example(["", "one", "one two", "one two three", "one two three four", ""])
def test_shingles_are_three_words_in_a_row(texts: list[str]) -> None:
    words = join_words(texts)
    starts, ends, counts = find_shingles(words)
    whole = words.data.tobytes()
    found = [whole[start:stop].decode() for start, stop in zip(starts.tolist(), ends.tolist(), strict=True)]
    expected = [shingles(split_words(text)) for text in texts]
    assert found == [shingle for row in expected for shingle in row]
    assert counts.tolist() == [len(row) for row in expected]


@given(st.lists(st.binary(max_size=80), min_size=1, max_size=20))
@example([b"x" * 70])
@example([bytes(range(size)) for size in range(1, 70)])
@example([b"x" * 1_100_000, b"y" * 17, b""])
def test_hashes_are_those_of_rensa(spans: list[bytes]) -> None:
    ends = np.cumsum([len(span) for span in spans])
    starts = ends - [len(span) for span in spans]
    hashes = hash_shingles(np.frombuffer(b"".join(spans), dtype=np.uint8), starts, ends)
    assert [hashes.tolist()] == RMinHash.hash_token_sets([spans])


@given(texts)
def test_sketches_are_those_of_rensa(texts: list[str]) -> None:
    digests = RMinHash.digests_from_token_sets([shingles(split_words(text)) for text in texts], N_HASHES, SEED)
    expected = np.array(digests, dtype=np.uint32).reshape(-1, N_HASHES).astype(np.uint16)
    assert (sketch(texts) == expected).all()


def test_sketches_do_not_depend_on_how_many_are_made_at_once() -> None:
    texts = [f"a hose of {number} m with {number % 7} brass fittings" for number in range(700)]
    alone = np.concatenate([sketch([text]) for text in texts])
    assert (sketch_joined(join_words(texts)) == alone).all()
    assert len(np.unique(alone, axis=0)) == len(texts)
