"""Words are counted as scikit-learn counts them, cell by cell, in every script and however the texts are divided."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricesmith.core.types import render
from pricesmith.testing import make_items, odd_listings
from pricesmith.text import word_counts as module
from pricesmith.text.word_counts import count_words
from pricesmith.text.words import split_words

TEXTS = [render(listing) for listing in [item.listing for item in make_items(120)[0]] + odd_listings()]
SCRIPTS = ["小米手机 Xiaomi 13 Pro", "กระเป๋าผ้าใบ x", "a b a b a", "İstanbul ١٢٣ é e\u0301", "", "_ _", "\ud800 z"]


def assert_same_counts(texts: list[str], pairs: bool, min_texts: int) -> None:
    """The words and the cells of CountVectorizer, in the same order within each text."""
    from sklearn.feature_extraction.text import CountVectorizer

    reader = CountVectorizer(
        ngram_range=(1, 1 + pairs), tokenizer=split_words, token_pattern=None, lowercase=False, min_df=min_texts
    )
    found = count_words(texts, str, pairs=pairs, min_texts=min_texts)
    try:
        expected = reader.fit_transform(texts).tocsr()
    except ValueError:  # no word is left
        assert not found.words
        assert not len(found.columns)
        return
    assert found.words == reader.get_feature_names_out().tolist()
    counts = found.csr()
    for name in ("indptr", "indices", "data"):
        assert np.array_equal(getattr(counts, name), getattr(expected, name)), name


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("min_texts", [1, 2, 3])
def test_counts_are_those_of_scikit_learn(pairs: bool, min_texts: int) -> None:
    """In the order of the words' first appearance too, on which the last digits of a ridge depend."""
    assert_same_counts([*TEXTS, *SCRIPTS, *SCRIPTS], pairs, min_texts)


@given(st.lists(st.text(st.sampled_from("ab1_ \n-é\u0301ا小手のท١İß"), max_size=12), min_size=1, max_size=8))
def test_counts_of_any_text_are_those_of_scikit_learn(texts: list[str]) -> None:
    """Words, marks, scripts without spaces, digits of other scripts and empty texts in any order."""
    assert_same_counts(texts, True, 1)


@pytest.mark.parametrize(("chunk", "block"), [(1, 1), (7, 2), (50, 3)])
def test_counts_do_not_depend_on_how_texts_are_divided(chunk: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A word gets the same number in whatever chunk and block it appears first."""
    monkeypatch.setattr(module, "CHUNK", chunk)
    monkeypatch.setattr(module, "BLOCK", block)
    assert_same_counts([*TEXTS, *SCRIPTS, *TEXTS[:20]], True, 2)


def test_a_word_may_be_in_one_text_more_often_than_a_byte_can_count() -> None:
    """Counts are kept in as few bytes as they need, not in fewer."""
    found = count_words(["oak " * 70_000, "oak"], str)
    assert found.counts.tolist() == [70_000, 1]


def test_no_texts_have_no_words() -> None:
    """And no row."""
    found = count_words([], str)
    assert found.words == []
    assert found.csr().shape == (0, 0)
