"""Out-of-fold price estimates of training rows, by which comparables are ordered.

    estimates, estimator = cross_fit(items, groups)
    estimator.estimate([listing])          # log prices

Ridge regression of the log price on the features of the sparse MLP, in `FOLDS` folds that keep near-duplicates
together. A row's estimate is out of fold, a new listing's is the mean of all folds. Estimates by a model
that was fitted on a row are pulled to its price: comparables in that order would confirm any quote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricesmith.core.types import Item, Listing
from pricesmith.pricers.features.vocabulary import SparseRows, Vocabulary, gather_rows

F64 = NDArray[np.float64]

FOLDS = 3
ALPHA = 1.0
TOLERANCE = 1e-2  # the order of comparables needs no more
MAX_FEATURES = 1 << 19


@dataclass(frozen=True)
class Estimator:
    """The ridge models of all folds, averaged: log price = features @ weights + bias."""

    vocabulary: Vocabulary
    weights: F64
    bias: float

    def estimate(self, listings: Sequence[Listing]) -> F64:
        """Log prices of listings."""
        if not listings:
            return np.zeros(0)
        return np.asarray(feature_matrix(gather_rows(listings), self.vocabulary) @ self.weights + self.bias)


def cross_fit(items: Sequence[Item], groups: Sequence[str]) -> tuple[F64, Estimator]:
    """The out-of-fold log price of each item [n], and the estimator for new listings.

    `groups` [n] are the near-duplicate groups of the items. With a single group every estimate is the mean.
    """
    from sklearn.linear_model import Ridge

    logs = np.log([item.price for item in items])
    buckets = gather_rows([item.listing for item in items])
    vocabulary = Vocabulary.from_rows(buckets, 2, MAX_FEATURES)
    matrix = feature_matrix(buckets, vocabulary)
    fold = assign_folds(groups)
    mean = float(logs.mean())
    estimates = np.full(len(items), mean)
    weights, biases = np.zeros(matrix.shape[1], dtype=np.float64), []
    numbers = np.unique(fold)
    for number in numbers if len(numbers) > 1 else ():
        held_out = fold == number
        model = Ridge(alpha=ALPHA, solver="sparse_cg", tol=TOLERANCE).fit(
            matrix[~held_out], logs[~held_out].astype(np.float32)
        )
        estimates[held_out] = model.predict(matrix[held_out])
        weights += model.coef_ / len(numbers)
        biases.append(float(model.intercept_))
    return estimates, Estimator(vocabulary, weights, float(np.mean(biases)) if biases else mean)


def feature_matrix(buckets: SparseRows, vocabulary: Vocabulary) -> Any:
    """Rows of buckets as a sparse matrix."""
    return vocabulary.rows(buckets).csr(vocabulary.size)


def assign_folds(groups: Sequence[str]) -> NDArray[np.int64]:
    """The fold of each row [n]; a group is in a single fold. Folds do not depend on the order of rows."""
    names, positions = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
    return np.asarray(np.random.default_rng(0).permutation(len(names))[positions] % FOLDS, dtype=np.int64)
