"""Words found by hash are those found one by one, in every script."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pricesmith.core.types import render
from pricesmith.testing import make_items, odd_listings
from pricesmith.text.vocabulary import HashedVocabulary
from pricesmith.text.words import split_words

TEXTS = [render(listing) for listing in [item.listing for item in make_items(60)[0]] + odd_listings()]
LETTERS = st.text(st.sampled_from("ab1_ \n-é\u0301ا小手のท١İßﬁ²"), max_size=14)


def read_words(text: str, pairs: bool) -> list[str]:
    """The words of a text, and its pairs."""
    words = split_words(text)
    return [*words, *(map(" ".join, pairwise(words)) if pairs else ())]


def assert_same_cells(known: list[str], texts: list[str], pairs: bool) -> None:
    """Each text has its words of the vocabulary with their counts, and all others as unknown ones."""
    words = sorted({word for text in known for word in read_words(text, pairs)})
    cells = HashedVocabulary(words).find_cells(texts, pairs=pairs)
    found = [
        sorted(zip(cells.columns[cells.rows == row].tolist(), cells.counts[cells.rows == row].tolist(), strict=True))
        for row in range(len(texts))
    ]
    place = {word: column for column, word in enumerate(words)}
    expected = [
        sorted((place.get(word, -1), count) for word, count in Counter(read_words(text, pairs)).items())
        for text in texts
    ]
    assert found == expected
    assert (cells.rows[1:] >= cells.rows[:-1]).all()


def test_the_words_of_listings_are_found() -> None:
    """Alone and as pairs; half of the listings make the vocabulary."""
    for pairs in (False, True):
        assert_same_cells(TEXTS[::2], TEXTS, pairs)


@given(known=st.lists(LETTERS, max_size=6), texts=st.lists(LETTERS, max_size=6))
def test_the_words_of_any_text_are_found(known: list[str], texts: list[str]) -> None:
    """Marks, digits of other scripts, scripts without spaces, empty texts and an empty vocabulary."""
    assert_same_cells(known, texts, True)


def test_a_vocabulary_without_a_word_finds_nothing() -> None:
    """A model of listings without words has the column "?", which no text has."""
    assert HashedVocabulary(["?"]).find_cells(["? what", ""]).known().columns.tolist() == []
