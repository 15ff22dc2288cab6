"""The shopkeeper who does not read: the median price, of the category where it has enough rows, else of all.

The median is the constant with the least mean absolute error; it is what every other pricer must beat.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, ClassVar

from pydantic import Field

from pricesmith.core.atomic import write_json
from pricesmith.core.model_files import read_settings
from pricesmith.core.settings import Settings
from pricesmith.core.types import Item, Listing, Pricer, Quote

FILE = "medians.json"


class MedianRecipe(Settings):
    """Settings of the constant pricer."""

    kind: ClassVar[str] = "median"
    files: ClassVar[tuple[str, ...]] = (FILE,)
    by_category: bool = Field(True, description="a median for each category with enough rows")
    min_rows: int = Field(20, ge=1, description="a category with fewer rows gets the median of all")

    def fit(self, train: Sequence[Item], validation: Sequence[Item], run: Path) -> None:
        """Write the medians."""
        groups: dict[str, list[float]] = {}
        for item in train:
            groups.setdefault(item.listing.category, []).append(item.price)
        kept = {name: prices for name, prices in groups.items() if name and len(prices) >= self.min_rows}
        by_category = {name: median(kept[name]) for name in sorted(kept)} if self.by_category else {}
        write_json(run / FILE, {"all": median(item.price for item in train), "by_category": by_category})

    def load(self, run: Path) -> Pricer:
        """The pricer that a run folder holds."""
        medians = read_settings(run / FILE, Medians)
        return MedianPricer(medians.all, medians.by_category)


class Medians(Settings):
    """The file of a fitted median: the median of all prices, and of each category with enough rows."""

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
        return [Quote(self.by_category.get(ware.category, self.overall)) for ware in listings]
