"""Peers from other hands, on the same rows: what a good practitioner would reach for first. Both learn log1p price.

lightgbm_tfidf     LightGBM (L1 objective) on 50,000 TF-IDF words and pairs, 400 trees
sklearn_mlp        scikit-learn's MLPRegressor (64, 64) on 2^18 hashed words and pairs, early stopping
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pricesmith.core.types import Item, Listing, render

Quoter = Callable[[Sequence[Listing]], Any]
WORDS = r"(?u)\b\w+\b"


def lightgbm_tfidf(train: Sequence[Item]) -> Quoter:
    """A fitted LightGBM on TF-IDF."""
    import lightgbm
    from sklearn.feature_extraction.text import TfidfVectorizer

    reader = TfidfVectorizer(
        ngram_range=(1, 2), min_df=3, sublinear_tf=True, token_pattern=WORDS, max_features=50_000, dtype=np.float32
    )
    matrix = reader.fit_transform([render(item.listing) for item in train])
    model = lightgbm.LGBMRegressor(
        objective="l1", n_estimators=400, num_leaves=127, learning_rate=0.1, n_jobs=2, verbose=-1, random_state=0
    )
    model.fit(matrix, np.log1p([item.price for item in train]))
    return lambda listings: np.expm1(
        model.booster_.predict(reader.transform([render(listing) for listing in listings]))
    )


def sklearn_mlp(train: Sequence[Item]) -> Quoter:
    """A fitted MLPRegressor on hashed features."""
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.neural_network import MLPRegressor

    reader = HashingVectorizer(
        ngram_range=(1, 2), n_features=2**18, alternate_sign=False, token_pattern=WORDS, dtype=np.float32
    )
    logs = np.log1p([item.price for item in train])
    mean, spread = float(logs.mean()), float(logs.std())
    model = MLPRegressor(
        hidden_layer_sizes=(64, 64),
        batch_size=1024,
        early_stopping=True,
        n_iter_no_change=1,
        max_iter=8,
        random_state=0,
    )
    model.fit(reader.transform([render(item.listing) for item in train]), (logs - mean) / spread)
    return lambda listings: np.expm1(model.predict(reader.transform([render(w) for w in listings])) * spread + mean)


PEERS = {"lightgbm_tfidf": lightgbm_tfidf, "sklearn_mlp": sklearn_mlp}
