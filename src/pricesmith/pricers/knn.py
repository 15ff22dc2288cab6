"""What similar things cost, as a price: the weighted median of the log prices of the k most similar training listings.

The search is the one that shows comparables (`catalog/comparables.py`), so a person can check every quote by eye.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import ClassVar

import numpy as np
from pydantic import Field

from pricesmith.catalog.comparables import FILES, Comparable, ComparablesIndex
from pricesmith.core.atomic import write_json
from pricesmith.core.model_files import read_settings
from pricesmith.core.settings import Settings
from pricesmith.core.types import Item, Listing, Pricer, Quote

FOLDER = "knn"
FACTS = "neighbors.json"


class KnnRecipe(Settings):
    """Settings of the neighbors pricer."""

    kind: ClassVar[str] = "knn"
    files: ClassVar[tuple[str, ...]] = (FACTS, *(f"{FOLDER}/{name}" for name in FILES))
    k: int = Field(9, ge=1, le=1000, description="how many similar listings are asked")
    sharpness: float = Field(4.0, ge=0, description="weight of a neighbor: similarity to this power")

    def fit(self, train: Sequence[Item], validation: Sequence[Item], run: Path) -> None:
        """Write the index of the training listings."""
        ComparablesIndex.build(train).save(run / FOLDER)
        write_json(run / FACTS, {"median": median(item.price for item in train)})

    def load(self, run: Path) -> Pricer:
        """The pricer that a run folder holds."""
        median = read_settings(run / FACTS, OverallMedian).median
        return KnnPricer(ComparablesIndex.load(run / FOLDER), self, median)


class OverallMedian(Settings):
    """The file of what is quoted where nothing is similar."""

    median: float = Field(gt=0)


class KnnPricer:
    """Quotes the weighted median of similar listings; the median of all where nothing is similar."""

    def __init__(self, index: ComparablesIndex, settings: KnnRecipe, overall: float) -> None:
        self.index, self.settings, self.overall = index, settings, overall

    @property
    def name(self) -> str:
        return "knn"

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        """One quote a listing; `raw` names the neighbors."""
        return [self.quote(near) for near in self.index.search(listings, self.settings.k)]

    def quote(self, near: Sequence[Comparable]) -> Quote:
        if not near:
            return Quote(self.overall)
        weights = np.array([max(one.similarity, 1e-6) ** self.settings.sharpness for one in near])
        logs = np.log([one.price for one in near])
        return Quote(float(np.exp(weighted_median(logs, weights))), raw=" ".join(one.id for one in near[:3]))


def weighted_median(values: np.typing.NDArray[np.float64], weights: np.typing.NDArray[np.float64]) -> float:
    """The value with half of the weight on each side, between its neighbors where it falls between them."""
    order = np.argsort(values, kind="stable")
    values, weights = values[order], weights[order]
    middles = (np.cumsum(weights) - weights / 2) / weights.sum()
    return float(np.interp(0.5, middles, values))
