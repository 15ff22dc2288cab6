"""Words and word pairs of a rendered listing, weighted as the reference has them, and kept without pickle.

reader, matrix = fit_reader(["Garden hose 25 m", "Garden lamp"])
reader_of(words_of(reader), reader.idf_).transform(["Garden hose"])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pricesmith.text.words import split_words


def build_vectorizer(**options: Any) -> Any:
    """The reference's reader of text, `TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, ...)`, with the words of
    `text/words.py`: of plain text the same, of Chinese or Thai character bigrams and trigrams."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, tokenizer=split_words, token_pattern=None, lowercase=False, **options
    )


def fit_vectorizer(texts: Sequence[str], min_df: int = 2) -> tuple[Any, Any]:
    """A reader fitted on texts, and their matrix, shape (n, words). Texts that share no word are read word by word,
    and texts without any word have one column of zeros."""
    for least in (min_df, 1):
        reader = build_vectorizer(min_df=min(least, len(texts)))
        try:
            return reader, reader.fit_transform(texts)
        except ValueError:  # nothing is left of the vocabulary
            continue
    reader = build_vectorizer(vocabulary={"?": 0})
    return reader, reader.fit_transform(texts)


def get_vocabulary(reader: Any) -> list[str]:
    """The words and pairs of a reader, in the order of its columns."""
    return [str(word) for word in reader.get_feature_names_out()]


def restore_vectorizer(words: Sequence[str], idf: Any) -> Any:
    """The reader that `words_of` and `idf_` were taken from."""
    reader = build_vectorizer(vocabulary={word: place for place, word in enumerate(words)})
    reader.idf_ = idf
    return reader
