"""A recipe whose error is a known function of its settings and of its training rows, and which fits in no time."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from pricesmith.core.atomic import read_json, write_json
from pricesmith.core.errors import PricesmithError
from pricesmith.core.settings import Settings
from pricesmith.core.types import Item, Listing, Quote
from pricesmith.sweeping.result import SweepResult

RATES = [0.001, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0]


class StandInRecipe(Settings):
    """Quotes err by |log10(rate)| + a part for few rows; best at rate 1. `fits` lists the rows of every fit."""

    kind: ClassVar[str] = "stand_in"
    truths: ClassVar[dict[str, float]] = {}
    fits: ClassVar[list[tuple[float, int]]] = []
    breaks_at: ClassVar[int] = 0
    rate: float = Field(1.0, gt=0, description="best at 1")
    depth: int = Field(3, ge=1, le=64, description="of no effect")
    fails: bool = False
    base: str = ""
    minutes: float = Field(0.0, ge=0, description="of no effect")

    def fit(self, train: Sequence[Item], validation: Sequence[Item], folder: Path, progress: object = None) -> None:
        if len(StandInRecipe.fits) + 1 == StandInRecipe.breaks_at:
            StandInRecipe.breaks_at = 0
            raise KeyboardInterrupt
        StandInRecipe.fits.append((self.rate, len(train)))
        if self.fails:
            raise PricesmithError("The training diverged", got="a loss of nan")
        error = 0.1 + abs(math.log10(self.rate)) + 0.002 * self.depth + 5 / math.sqrt(len(train))
        write_json(folder / "stand_in.json", {"error": error})

    def load(self, folder: Path):
        return StandInPricer(read_json(folder / "stand_in.json")["error"])


class StandInPricer:
    """Quotes the true price times e^(error x noise); the noise of a listing is always the same."""

    name = "stand_in"

    def __init__(self, error: float) -> None:
        self.error = error

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        truths = StandInRecipe.truths
        return [
            Quote(truths.get(listing.id, 10.0) * math.exp(self.error * random.Random(listing.id).uniform(-1, 1)))
            for listing in listings
        ]


def summary(result: SweepResult) -> list[tuple[Any, ...]]:
    """What must not depend on interruptions: everything but times."""
    return [
        (trial.number, trial.settings, trial.status, trial.errors, trial.mae, trial.difference)
        for trial in result.trials
    ]
