"""A hybrid model for tests: its own price for each listing, and a paid one as long as the budget lasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.settings import Settings
from pricesmith.core.types import NOT_ASKED, Item, Listing, Quote
from pricesmith.pricers.api.limits import BudgetExceeded
from pricesmith.pricers.api.model_spec import current_settings

ASKED = "asked api:fake"
SPENT = f"{NOT_ASKED}: the budget is spent"
DOWN = f"{NOT_ASKED}: localhost does not answer"
FILE = "settings.txt"
FEE = 1 / 64  # US dollars; sums of it are exact


class FakeHybrid(Settings):
    """A recipe that asks an API model unless `saved`; it writes down the settings that its fit has seen."""

    kind: ClassVar[str] = "fake_hybrid"
    files: ClassVar[tuple[str, ...]] = (FILE,)
    probed: ClassVar[bool] = False
    fee: float = Field(FEE, description="US dollars for each answer")
    saved: bool = False

    @property
    def asks_api(self) -> bool:
        return not self.saved

    def fit(self, train: Sequence[Item], validation: Sequence[Item], folder: Path, progress: Progress = SILENT) -> None:
        settings = current_settings()
        (folder / FILE).write_text(f"{settings.budget} {settings.concurrency} {settings.timeout} {settings.fallback}")

    def load(self, folder: Path) -> FakeHybridPricer:
        return FakeHybridPricer(self.fee, asks_api=self.asks_api)


@dataclass
class FakeHybridPricer:
    """Asks about every listing within its allowance, in order; a title that begins with Down is never answered.

    `fails_after`: raises RuntimeError once this many were asked.
    """

    fee: float = FEE
    fails_after: int | None = None
    name: str = "fake_hybrid"
    asks_api: bool = True
    asked: int = 0

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        settings = current_settings()
        allowance = settings.allowance(len(listings))
        left = float("inf") if allowance is None else allowance * (1 + 1e-9)
        quotes = []
        for listing in listings:
            quotes.append(self.price_one(listing, left))
            left -= quotes[-1].cost_usd or 0.0
        return quotes

    def price_one(self, listing: Listing, left: float) -> Quote:
        """The paid price if the fee is within what is left, else the own one with the reason."""
        if self.fails_after is not None and self.asked >= self.fails_after:
            raise RuntimeError("killed")
        if listing.title.startswith("Down"):
            return Quote(10.0, 8.0, 12.0, note=DOWN)
        budget = current_settings().shared_budget
        try:
            if left < self.fee:
                return Quote(10.0, 8.0, 12.0, note=SPENT)
            budget.reserve(self.fee)
        except BudgetExceeded:
            return Quote(10.0, 8.0, 12.0, note=SPENT)
        budget.commit(self.fee, self.fee)
        self.asked += 1
        return Quote(20.0, 16.0, 24.0, note=ASKED, cost_usd=self.fee)
