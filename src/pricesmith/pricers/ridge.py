"""Ridge regression on log price over TF-IDF of words and word pairs.

The log makes it independent of the currency unit: prices in cents or in thousands give the same quotes. The reference
of the published ratios, on log1p price, is `benchmarks/reference_ridge.py`. Only fitting imports scikit-learn.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from pricesmith.catalog.items import get_listings, get_prices
from pricesmith.core.model_files import Shapes, array_names, read_arrays, read_names
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.settings import Settings
from pricesmith.core.types import Item, Listing, Pricer, Quote, render
from pricesmith.pricers.features.tfidf import TfidfWeights, fit_tfidf
from pricesmith.pricers.training import LARGEST_LOG, get_weights, require_log_prices

WORDS = "words.json"
ARRAYS = "ridge.npz"
SHAPES: Shapes = {"idf": ("float", "words"), "weights": ("float", "words"), "log_bias": ("float", 1)}


class RidgeRecipe(Settings):
    """Settings of the ridge pricer."""

    kind: ClassVar[str] = "ridge"
    takes_weights: ClassVar[bool] = True
    files: ClassVar[tuple[str, ...]] = (WORDS, ARRAYS)
    alpha: float = Field(1.0, gt=0, description="strength of the L2 penalty")
    min_df: int = Field(2, ge=1, description="words and pairs in fewer listings are ignored")

    def fit(self, train: Sequence[Item], validation: Sequence[Item], folder: Path, progress: Progress = SILENT) -> None:
        """Write the vocabulary and the coefficients."""
        from sklearn.linear_model import Ridge

        words, idf, matrix = fit_tfidf(get_listings(train), self.min_df)
        model = Ridge(alpha=self.alpha, copy_X=False).fit(
            matrix, np.log(get_prices(train)), sample_weight=get_weights(train)
        )
        (folder / WORDS).write_text(json.dumps(words, ensure_ascii=False), encoding="utf-8")
        np.savez(folder / ARRAYS, idf=idf, weights=model.coef_, log_bias=np.array([float(model.intercept_)]))

    def load(self, folder: Path) -> Pricer:
        """The pricer of a model folder."""
        require_log_prices("log_bias" in array_names(folder / ARRAYS), folder)
        words = read_names(folder / WORDS)
        arrays = read_arrays(folder / ARRAYS, SHAPES, {"words": len(words)})
        return RidgePricer(TfidfWeights(words, arrays["idf"]), arrays["weights"], float(arrays["log_bias"][0]))


class RidgePricer:
    """Quotes exp(weights · TF-IDF + bias)."""

    def __init__(self, tfidf: TfidfWeights, weights: Any, bias: float) -> None:
        self.tfidf, self.weights, self.bias = tfidf, weights, bias

    @property
    def name(self) -> str:
        return "ridge"

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        """One quote for each listing; a text without a known word gets the price of the intercept."""
        logs = self.tfidf.dot([render(listing) for listing in listings], self.weights) + self.bias
        return [Quote(price) for price in np.exp(np.clip(logs, -LARGEST_LOG, LARGEST_LOG)).tolist()]
