"""TF-IDF of words and word pairs of a rendered listing, as in the reference ridge, stored without pickle.

words, idf, matrix = fit_tfidf(listings)                        # scikit-learn's TF-IDF, for fitting
TfidfWeights(words, idf).dot(["Garden hose"], weights)          # without scikit-learn
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, cast

import numpy as np

from pricesmith.core.types import Listing, render
from pricesmith.pricers.features.tokenizer import F64
from pricesmith.text.vocabulary import HashedVocabulary, WordCells
from pricesmith.text.word_counts import count_words
from pricesmith.text.words import split_words

BATCH = 64  # texts whose words are found together; fewer need no hashes of the vocabulary


def fit_tfidf(listings: Sequence[Listing], min_df: int = 2) -> tuple[list[str], F64, Any]:
    """The words and pairs of at least `min_df` listings, sorted, the idf of each, and the TF-IDF matrix [n, words].

    They are those of the reference's `TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, ...)` with the words of
    `text/words.py`, which has character bigrams and trigrams for Chinese or Thai.

    If the listings share no word, `min_df` is 1; if they have no word at all, the matrix has one column of zeros.
    """
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfTransformer

    for least in (min(min_df, len(listings)), 1):
        counts = count_words(listings, render, pairs=True, min_texts=least)
        words, matrix = counts.words, counts.csr()
        if words:
            break
    else:
        words, matrix = ["?"], csr_matrix((len(listings), 1), dtype=np.float64)
    transformer = TfidfTransformer(sublinear_tf=True).fit(matrix)
    return words, transformer.idf_, transformer.transform(matrix, copy=False)


class TfidfWeights:
    """The TF-IDF of a fitted vectorizer, in numpy: pricing with it does not import scikit-learn."""

    def __init__(self, words: Sequence[str], idf: F64) -> None:
        self.columns = {word: column for column, word in enumerate(words)}
        self.idf = idf

    @cached_property
    def vocabulary(self) -> HashedVocabulary:
        """The words and pairs, found in many texts at once."""
        return HashedVocabulary(list(self.columns))

    def dot(self, texts: Sequence[str], weights: F64) -> F64:
        """The product of the TF-IDF rows of length 1 with a weight for each word, [n]; 0 without a known word.

        Sums are in the order of the columns, so that a text has the same product alone and among others.
        """
        if len(texts) < BATCH:
            products = np.zeros(len(texts))
            for row, text in enumerate(texts):
                counts = self.known_columns(text)
                columns = np.array(sorted(counts), dtype=np.int64)
                cells = WordCells(np.zeros_like(columns), columns, np.array([counts[n] for n in columns.tolist()]))
                products[row] = self.dot_cells(cells, 1, weights)[0]
            return products
        return self.dot_cells(self.vocabulary.find_cells(texts, pairs=True).known(), len(texts), weights)

    def dot_cells(self, cells: WordCells, n_texts: int, weights: F64) -> F64:
        """`dot` of texts with these words, [n_texts]."""
        values = (1 + np.log(cells.counts)) * self.idf[cells.columns]
        # Unlike a dot product, bincount adds up one cell after another.
        squares = np.bincount(cells.rows, values * values, n_texts)
        sums = np.bincount(cells.rows, values * weights[cells.columns], n_texts)
        return np.asarray(sums / np.sqrt(np.where(squares > 0, squares, 1.0)))

    def known_columns(self, text: str) -> dict[int, int]:
        """The columns of the words and of the pairs of neighboring words that the vocabulary has, and how often each
        appears."""
        words, column = split_words(text), self.columns.get
        counts: dict[int | None, int] = Counter(map(column, words))
        counts.update(Counter(map(column, map(" ".join, pairwise(words)))))
        counts.pop(None, None)
        return cast("dict[int, int]", counts)
