"""Ridge regression on log price over TF-IDF of words and word pairs.

The log makes it independent of the unit: prices in cents or in thousands give the same quotes. The reference of the
published ratios, on log1p price, is `benchmarks/reference_ridge.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from pricesmith.core.model_files import Shapes, array_names, read_arrays, read_names
from pricesmith.core.settings import Settings
from pricesmith.core.types import Item, Listing, Pricer, Quote, render
from pricesmith.pricers.features.log_price import LARGEST_LOG, require_log_prices
from pricesmith.pricers.features.tfidf import fit_vectorizer, get_vocabulary, restore_vectorizer

WORDS = "words.json"
ARRAYS = "ridge.npz"
BATCH = 4096
SHAPES: Shapes = {"idf": ("float", "words"), "weights": ("float", "words"), "log_bias": ("float", 1)}


class RidgeRecipe(Settings):
    """Settings of the ridge pricer."""

    kind: ClassVar[str] = "ridge"
    files: ClassVar[tuple[str, ...]] = (WORDS, ARRAYS)
    alpha: float = Field(1.0, gt=0, description="strength of the penalty")
    min_df: int = Field(2, ge=1, description="a word or pair in fewer listings is not used")

    def fit(self, train: Sequence[Item], validation: Sequence[Item], run: Path) -> None:
        """Write the vocabulary and the coefficients."""
        from sklearn.linear_model import Ridge

        reader, matrix = fit_vectorizer([render(item.listing) for item in train], self.min_df)
        model = Ridge(alpha=self.alpha).fit(matrix, np.log([item.price for item in train]))
        (run / WORDS).write_text(json.dumps(get_vocabulary(reader), ensure_ascii=False), encoding="utf-8")
        np.savez(run / ARRAYS, idf=reader.idf_, weights=model.coef_, log_bias=np.array([float(model.intercept_)]))

    def load(self, run: Path) -> Pricer:
        """The pricer that a run folder holds."""
        require_log_prices("log_bias" in array_names(run / ARRAYS), run)
        words = read_names(run / WORDS)
        arrays = read_arrays(run / ARRAYS, SHAPES, {"words": len(words)})
        return RidgePricer(words, arrays["idf"], arrays["weights"], float(arrays["log_bias"][0]))


class RidgePricer:
    """Quotes exp(w x + b)."""

    def __init__(self, words: Sequence[str], idf: Any, weights: Any, bias: float) -> None:
        self.reader, self.weights, self.bias = restore_vectorizer(words, idf), weights, bias

    @property
    def name(self) -> str:
        return "ridge"

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        """One quote a listing; a text without a known word gets the intercept's price."""
        quotes: list[Quote] = []
        for start in range(0, len(listings), BATCH):
            matrix = self.reader.transform([render(ware) for ware in listings[start : start + BATCH]])
            logs = matrix @ self.weights + self.bias
            quotes += [Quote(float(price)) for price in np.exp(np.clip(logs, -LARGEST_LOG, LARGEST_LOG))]
        return quotes
