"""Log prices, the target of every model: quotes are positive, and the same in any currency unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pricesmith.core.errors import InputError

LARGEST_LOG = 300.0  # |log price| is clipped here, so that a quote is finite and above 0


@dataclass(frozen=True, slots=True)
class PriceScale:
    """Standardization of log prices: (logs - mean) / spread; `top` is the highest log price."""

    logs: NDArray[np.float64]
    mean: float
    spread: float
    top: float

    @classmethod
    def from_prices(cls, prices: Sequence[float]) -> PriceScale:
        """The scale of training prices; the spread is 1 if all prices are equal."""
        logs = np.log(np.array(prices))
        return cls(logs, float(logs.mean()), float(logs.std()) or 1.0, float(logs.max()))


def require_log_prices(present: bool, folder: Path) -> None:
    """Raise InputError if the files of a model lack the log scale: earlier versions fitted log(1 + price)."""
    if not present:
        raise InputError(
            f"{folder} was fitted by an earlier version of Pricesmith",
            got="a model of log(1 + price)",
            allowed="a model of log price",
            hint="Run the same `pricesmith fit` command again with --overwrite.",
        )
