"""TF-IDF of words and word pairs of a rendered listing, as in the reference ridge, stored without pickle.

vectorizer, matrix = fit_vectorizer(["Garden hose 25 m", "Garden lamp"])        # scikit-learn's, for fitting
TfidfWeights(get_vocabulary(vectorizer), vectorizer.idf_).dot(["Garden hose"], weights)     # without scikit-learn
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np

from pricesmith.core.types import Listing, render
from pricesmith.pricers.features.tokenizer import F64
from pricesmith.text.words import split_words


def build_vectorizer(**options: Any) -> Any:
    """The reference's `TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, ...)` with the words of `text/words.py`:
    the same for plain text, character bigrams and trigrams for Chinese or Thai."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, tokenizer=split_words, token_pattern=None, lowercase=False, **options
    )


class RenderedTexts:
    """The rendered texts of listings, one after the other, so that not all are held at once."""

    def __init__(self, listings: Sequence[Listing]) -> None:
        self.listings = listings

    def __len__(self) -> int:
        return len(self.listings)

    def __iter__(self) -> Iterator[str]:
        return map(render, self.listings)


def fit_vectorizer(texts: Sequence[str] | RenderedTexts, min_df: int = 2) -> tuple[Any, Any]:
    """A vectorizer fitted on texts, and their matrix [n, words].

    If the texts share no word, `min_df` is 1; if they have no word at all, the matrix has one column of zeros.
    """
    for least in (min_df, 1):
        vectorizer = build_vectorizer(min_df=min(least, len(texts)))
        try:
            return vectorizer, vectorizer.fit_transform(texts)
        except ValueError:  # nothing is left of the vocabulary
            continue
    vectorizer = build_vectorizer(vocabulary={"?": 0})
    return vectorizer, vectorizer.fit_transform(texts)


def get_vocabulary(vectorizer: Any) -> list[str]:
    """The words and pairs of a vectorizer, in the order of its columns."""
    return [str(word) for word in vectorizer.get_feature_names_out()]


class TfidfWeights:
    """The TF-IDF of a fitted vectorizer, in numpy: pricing with it does not import scikit-learn."""

    def __init__(self, words: Sequence[str], idf: F64) -> None:
        self.columns = {word: column for column, word in enumerate(words)}
        self.idf = idf

    def dot(self, texts: Sequence[str], weights: F64) -> F64:
        """The product of the TF-IDF rows of length 1 with a weight for each word, [n]; 0 without a known word."""
        products = np.zeros(len(texts))
        for row, text in enumerate(texts):
            counts = self.known_columns(text)
            if counts:
                columns = np.fromiter(counts, np.int64, len(counts))
                values = (1 + np.log(np.fromiter(counts.values(), np.float64, len(counts)))) * self.idf[columns]
                length = float(np.sqrt(values @ values))
                products[row] = (values @ weights[columns]) / length if length else 0.0
        return products

    def known_columns(self, text: str) -> dict[int, int]:
        """The columns of the words and of the pairs of neighboring words that the vocabulary has, in the order of their
        first appearance, words first, and how often each appears."""
        words, column = split_words(text), self.columns.get
        counts: dict[int | None, int] = Counter(map(column, words))
        counts.update(Counter(map(column, map(" ".join, pairwise(words)))))
        counts.pop(None, None)
        return cast("dict[int, int]", counts)
