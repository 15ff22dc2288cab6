"""Metrics: what is measured for each item, how items are put together, in which unit, and which way is
better.

    >>> import numpy as np
    >>> METRICS["MAE"].value(np.array([10.0, 20.0]), np.array([12.0, 16.0]))
    3.0

Every function takes `truth` and `quote`, arrays of shape (n,) in the catalog's currency. The truth is never
rounded or clipped. An item without an answer is charged at the constant's quote (`charge`), never scored as
0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pricesmith.core.errors import PricesmithError, UsageError

Array = npt.NDArray[np.float64]
Aggregate = Literal["mean", "root", "median"]  # root: the square root of the mean
Better = Literal["lower", "higher", "zero"]
Unit = Literal["money", "log price", "share"]
COURSE_RANGE = (0.50, 999.49)


def error(truth: Array, quote: Array) -> Array:
    """|quote - truth|, in money."""
    return np.abs(quote - truth)


def signed_error(truth: Array, quote: Array) -> Array:
    """quote - truth, in money: above 0 where the quote is too high."""
    return quote - truth


def squared_log_error(truth: Array, quote: Array) -> Array:
    """(log(1 + quote) - log(1 + truth))^2, without a unit."""
    away: Array = np.log1p(quote) - np.log1p(truth)
    return away * away


def within_20_percent(truth: Array, quote: Array) -> Array:
    """1 where the quote is at most 20 % of the truth away from it, else 0."""
    return (error(truth, quote) <= 0.2 * truth).astype(np.float64)


def course_hit(truth: Array, quote: Array) -> Array:
    """1 where the course colors a guess green, error < $40 or error < 20 % of the truth, else 0.

    Source: the `Tester` of the course "LLM Engineering", week 6.
    """
    away = error(truth, quote)
    return ((away < 40.0) | (away < 0.2 * truth)).astype(np.float64)


@dataclass(frozen=True)
class Metric:
    """A measure of quotes against truths. `per_item` gives shape (n,); `aggregate` makes one number of it."""

    name: str
    unit: Unit
    better: Better
    per_item: Callable[[Array, Array], Array]
    aggregate: Aggregate = "mean"

    def value(self, truth: Array, quote: Array) -> float:
        """The metric over all items, in its unit. Raises PricesmithError where there are none."""
        return aggregate_values(self.per_item(truth, quote), self.aggregate)

    def improves(self, difference: float) -> bool:
        """Whether a change by `difference` is for the better. Raises UsageError where no way is better."""
        if self.better == "zero":
            raise UsageError(
                f"{self.name} has no better direction",
                got=self.name,
                allowed=", ".join(name for name, metric in METRICS.items() if metric.better != "zero"),
                hint="Compare by one of the others.",
            )
        return difference < 0 if self.better == "lower" else difference > 0


def aggregate_values(values: Array, aggregate: Aggregate) -> float:
    """One number of the items' values, shape (n,). Raises PricesmithError where there are none."""
    if not len(values):
        raise PricesmithError("There are no items to measure", hint="Judge at least one item.")
    if aggregate == "median":
        return float(np.median(values))
    mean = float(np.mean(values))
    return float(np.sqrt(mean)) if aggregate == "root" else mean


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("MAE", "money", "lower", error),
        Metric("median error", "money", "lower", error, "median"),
        Metric("RMSLE", "log price", "lower", squared_log_error, "root"),
        Metric("within 20 %", "share", "higher", within_20_percent),
        Metric("course hit", "share", "higher", course_hit),
        Metric("bias", "money", "zero", signed_error),
    )
}


def get_metric(name: str) -> Metric:
    """A metric by its name. Raises UsageError with the names there are."""
    if name not in METRICS:
        raise UsageError(f"There is no metric {name!r}", got=name, allowed=", ".join(METRICS))
    return METRICS[name]


def is_course_range(currency: str, price_range: tuple[float, float]) -> bool:
    """Whether the course's hit rate means anything: its $40 do in dollars, inside its own price range."""
    low, high = price_range
    return currency == "USD" and low >= COURSE_RANGE[0] and high <= COURSE_RANGE[1]


def charge_unanswered(quotes: Sequence[float | None], median: float) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Quotes of shape (n,) with the constant's where there is no answer, and which were answered."""
    answered = np.array([quote is not None for quote in quotes], dtype=bool)
    charged = np.array([median if quote is None else quote for quote in quotes], dtype=np.float64)
    return charged, answered


def coverage(truth: Array, low: Array, high: Array) -> Array:
    """1 where low <= truth <= high, else 0, shape (n,)."""
    return ((low <= truth) & (truth <= high)).astype(np.float64)


def interval_factors(quote: Array, low: Array, high: Array) -> tuple[float, float]:
    """The geometric mean of quote / low and of high / quote: (1.5, 2) reads "price ÷ 1.5 to × 2"; all are above 0."""
    return float(np.exp(np.mean(np.log(quote / low)))), float(np.exp(np.mean(np.log(high / quote))))


def to_array(values: Sequence[Any]) -> Array:
    """Plain numbers, with None as NaN, as an array of shape (n,)."""
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
