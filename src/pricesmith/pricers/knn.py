"""Nearest neighbors: the weighted median of the log prices of the most similar training listings.

The search is the one that finds comparables (`catalog/comparables.py`), so that a person can check every quote.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import ClassVar

import numpy as np
from pydantic import Field

from pricesmith.catalog.comparables import FILES, Comparable, ComparablesIndex
from pricesmith.catalog.items import get_prices
from pricesmith.core.atomic import write_json
from pricesmith.core.model_files import read_settings
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.settings import Settings
from pricesmith.core.types import Item, Listing, Pricer, Quote

FOLDER = "knn"
OVERALL = "overall_median.json"


class KnnRecipe(Settings):
    """Settings of the nearest-neighbor pricer."""

    kind: ClassVar[str] = "knn"
    files: ClassVar[tuple[str, ...]] = (OVERALL, *(f"{FOLDER}/{name}" for name in FILES))
    n_neighbors: int = Field(9, ge=1, le=1000, description="number of similar listings")
    sharpness: float = Field(4.0, ge=0, description="the weight of a neighbor is its similarity to this power")

    def fit(self, train: Sequence[Item], validation: Sequence[Item], folder: Path, progress: Progress = SILENT) -> None:
        """Write the index of the training listings."""
        ComparablesIndex.build(train).save(folder / FOLDER)
        write_json(folder / OVERALL, {"median": median(get_prices(train).tolist())})

    def load(self, folder: Path) -> Pricer:
        """The pricer of a model folder."""
        overall = read_settings(folder / OVERALL, OverallMedian).median
        return KnnPricer(ComparablesIndex.load(folder / FOLDER), self, overall)


class OverallMedian(Settings):
    """The content of `overall_median.json`: the quote of a listing without a similar training listing."""

    median: float = Field(gt=0)


class KnnPricer:
    """Quotes the weighted median price of similar listings, or the median of all if nothing is similar."""

    def __init__(self, index: ComparablesIndex, settings: KnnRecipe, overall: float) -> None:
        self.index, self.settings, self.overall = index, settings, overall

    @property
    def name(self) -> str:
        return "knn"

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        """One quote for each listing; `raw` has the ids of the nearest neighbors."""
        return [self.quote(neighbors) for neighbors in self.index.search(listings, self.settings.n_neighbors)]

    def quote(self, neighbors: Sequence[Comparable]) -> Quote:
        """The quote of one listing from its neighbors."""
        if not neighbors:
            return Quote(self.overall)
        weights = np.array([max(neighbor.similarity, 1e-6) ** self.settings.sharpness for neighbor in neighbors])
        logs = np.log([neighbor.price for neighbor in neighbors])
        ids = " ".join(neighbor.id for neighbor in neighbors[:3])
        return Quote(float(np.exp(weighted_median(logs, weights))), raw=ids)


def weighted_median(values: np.typing.NDArray[np.float64], weights: np.typing.NDArray[np.float64]) -> float:
    """The value with half of the weight on each side, interpolated between neighboring values."""
    order = np.argsort(values, kind="stable")
    values, weights = values[order], weights[order]
    middles = (np.cumsum(weights) - weights / 2) / weights.sum()
    return float(np.interp(0.5, middles, values))
