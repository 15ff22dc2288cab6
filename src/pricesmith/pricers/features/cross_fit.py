"""Price estimates of training rows by a model that has not seen them: what comparables are ordered by.

    estimates, estimator = cross_fit(items, groups)
    estimator.estimate([listing])          # log prices

Ridge regression of the log price on the features of the sparse MLP, in `FOLDS` folds that keep near-duplicates
together. A row's estimate comes from the fold that it was left out of, a new listing's is the mean of all folds.
Estimates by a model that has seen a row are pulled to its price: comparables in that order would confirm any quote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricesmith.core.types import Item, Listing
from pricesmith.pricers.features.vocabulary import SparseRows, Vocabulary, gather_ranges

F64 = NDArray[np.float64]

FOLDS = 3
ALPHA = 1.0
TOLERANCE = 1e-2  # the order of comparables needs no more
MOST_FEATURES = 1 << 19


@dataclass(frozen=True)
class Estimator:
    """The ridge models of all folds, averaged: log price = features @ weights + bias."""

    vocabulary: Vocabulary
    weights: F64
    bias: float

    def estimate(self, listings: Sequence[Listing]) -> F64:
        """Log prices of listings."""
        return (
            features(gather_ranges(listings), self.vocabulary) @ self.weights + self.bias
            if len(listings)
            else np.zeros(0)
        )


def cross_fit(items: Sequence[Item], groups: Sequence[str]) -> tuple[F64, Estimator]:
    """The log price of each item as estimated without its fold, and the estimator for new listings.

    `groups` are the near-duplicate groups of the items. With one group alone every estimate is the mean.
    """
    from sklearn.linear_model import Ridge

    logs = np.log([item.price for item in items])
    raw = gather_ranges([item.listing for item in items])
    vocabulary = Vocabulary.of(raw, 2, MOST_FEATURES)
    matrix = features(raw, vocabulary)
    fold = folds_of(groups)
    mean = float(logs.mean())
    estimates = np.full(len(items), mean)
    weights, biases = np.zeros(matrix.shape[1], dtype=np.float64), []
    numbers = np.unique(fold)
    for number in numbers if len(numbers) > 1 else ():
        held = fold == number
        model = Ridge(alpha=ALPHA, solver="sparse_cg", tol=TOLERANCE).fit(matrix[~held], logs[~held].astype(np.float32))
        estimates[held] = model.predict(matrix[held])
        weights += model.coef_ / len(numbers)
        biases.append(float(model.intercept_))
    return estimates, Estimator(vocabulary, weights, float(np.mean(biases)) if biases else mean)


def features(raw: SparseRows, vocabulary: Vocabulary) -> Any:
    """Rows of buckets as a sparse matrix."""
    return vocabulary.rows(raw).csr(vocabulary.size)


def folds_of(groups: Sequence[str]) -> NDArray[np.int64]:
    """The fold of each row; a group is in one. Folds do not depend on the order of rows."""
    names, places = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
    return np.asarray(np.random.default_rng(0).permutation(len(names))[places] % FOLDS, dtype=np.int64)
