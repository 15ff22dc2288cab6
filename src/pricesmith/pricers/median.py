"""The median price: of the category if it has enough rows, else of all training rows.

The median is the constant with the lowest MAE; every other pricer must beat it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pricesmith.catalog.items import get_column, get_prices
from pricesmith.core.atomic import write_json
from pricesmith.core.model_files import read_settings
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.settings import Settings
from pricesmith.core.types import Item, Listing, Pricer, Quote
from pricesmith.pricers.training import get_weights

MEDIANS = "medians.json"


class MedianRecipe(Settings):
    """Settings of the median pricer."""

    kind: ClassVar[str] = "median"
    takes_weights: ClassVar[bool] = True
    files: ClassVar[tuple[str, ...]] = (MEDIANS,)
    by_category: bool = Field(True, description="a median for each category with enough rows")
    min_rows: int = Field(20, ge=1, description="a category with fewer rows gets the median of all")

    def fit(self, train: Sequence[Item], validation: Sequence[Item], folder: Path, progress: Progress = SILENT) -> None:
        """Write the medians."""
        prices, weights = get_prices(train), get_weights(train)
        groups: dict[str, list[int]] = {}
        for row, category in enumerate(get_column(train, "category")):
            groups.setdefault(category, []).append(row)
        large = {name: rows for name, rows in groups.items() if name and len(rows) >= self.min_rows}
        by_category = {}
        for name in sorted(large) if self.by_category else ():
            rows = large[name]
            by_category[name] = weighted_median(prices[rows], None if weights is None else weights[rows])
        write_json(folder / MEDIANS, {"all": weighted_median(prices, weights), "by_category": by_category})

    def load(self, folder: Path) -> Pricer:
        """The pricer of a model folder."""
        medians = read_settings(folder / MEDIANS, Medians)
        return MedianPricer(medians.all, medians.by_category)


def median_price(items: Sequence[Item]) -> float:
    """The median price of items; with weights, the lowest price with at least half of the weight up to it."""
    return weighted_median(get_prices(items), get_weights(items))


def weighted_median(prices: NDArray[np.float64], weights: NDArray[np.float64] | None) -> float:
    """The median of prices [n], of which some may count more than others."""
    if weights is None or (weights == 1).all():
        return float(median(prices.tolist()))
    order = np.argsort(prices, kind="stable")
    total = np.cumsum(weights[order])
    return float(prices[order][np.searchsorted(total, total[-1] / 2)])


class Medians(Settings):
    """The content of `medians.json`: the median of all prices, and of each category with enough rows."""

    all: float = Field(gt=0)
    by_category: dict[str, Annotated[float, Field(gt=0)]]


class MedianPricer:
    """Quotes the median."""

    def __init__(self, overall: float, by_category: Mapping[str, float]) -> None:
        self.overall, self.by_category = overall, by_category

    @property
    def name(self) -> str:
        return "median"

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        """The category's median, or the overall one."""
        return [Quote(self.by_category.get(listing.category, self.overall)) for listing in listings]
