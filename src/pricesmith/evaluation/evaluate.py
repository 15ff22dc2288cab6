"""Evaluate a pricer on items. The pricer gets listings only, never prices.

    evaluation = evaluate(pricer, items, catalog="9f86d0...", median=34.9)
    to_arrays(evaluation).error.mean()

The quotes of every pricer are clipped to the catalog's price range in the same way. A quote that is not a usable
price (not finite, zero, negative) becomes None: its text stays in `raw`, and the evaluation's note counts it.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pricesmith.core.errors import InputError, PricesmithError
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.types import EvalRow, Evaluation, Item, Pricer, Quote
from pricesmith.metrics.bootstrap import Codes, encode_groups
from pricesmith.metrics.metrics import Array, charge_unanswered, error, to_array

BATCH = 256


def evaluate(
    pricer: Pricer,
    items: Sequence[Item],
    *,
    catalog: str,
    median: float,
    currency: str = "USD",
    price_range: tuple[float, float] = (0.01, math.inf),
    groups: Mapping[str, str] | None = None,
    batch: int = BATCH,
    progress: Progress = SILENT,
) -> Evaluation:
    """A pricer's quotes on items, in their order.

    `catalog` is the fingerprint of the items' catalog, `median` the price charged for an unanswered item, `groups`
    the near-duplicate group of each id. A row's `seconds` are those of its quote if the pricer measured them, else
    an equal share of its batch's. Raises InputError if an id occurs twice or a truth is not a price,
    PricesmithError if the pricer does not return one quote for each listing.
    """
    check_items(items, median)
    rows: list[EvalRow] = []
    fault_counts: Counter[str] = Counter()
    for start in range(0, len(items), batch):
        batch_items = items[start : start + batch]
        started = time.perf_counter()
        quotes = pricer.price([item.listing for item in batch_items])
        seconds = (time.perf_counter() - started) / len(batch_items)
        check_answer(pricer, quotes, len(batch_items))
        for item, quote in zip(batch_items, quotes, strict=True):
            usable, faults = clean_quote(quote, price_range)
            fault_counts.update(faults)
            values = (usable.price, usable.low, usable.high, usable.raw)
            own = quote.seconds is not None and math.isfinite(quote.seconds) and quote.seconds >= 0
            elapsed = float(quote.seconds or 0.0) if own else seconds
            rows.append(EvalRow(item.listing.id, item.price, *values, elapsed, usable.cost_usd))
        progress.advance(len(batch_items))
    row_groups = {row.id: groups[row.id] for row in rows if row.id in groups} if groups else {}
    note = "; ".join(f"{count} {fault}" for fault, count in sorted(fault_counts.items()))
    return Evaluation(pricer.name, catalog, tuple(rows), median, currency, price_range, row_groups, note)


def check_items(items: Sequence[Item], median: float) -> None:
    """Raises InputError if an id occurs twice, or if a truth or the median is not a price."""
    if not (math.isfinite(median) and median > 0):
        raise InputError("The median price is not a price", got=repr(median), allowed="a number above 0")
    ids: set[str] = set()
    for item in items:
        if item.listing.id in ids:
            raise InputError("Two items have the same id", got=item.listing.id, hint="Give each item its own id.")
        if not (math.isfinite(item.price) and item.price > 0):
            raise InputError(
                f"The truth of item {item.listing.id} is not a price",
                got=repr(item.price),
                allowed="a number above 0",
            )
        ids.add(item.listing.id)


def check_answer(pricer: Pricer, quotes: Sequence[Quote], expected: int) -> None:
    """Raises PricesmithError if `quotes` is not one Quote for each listing."""
    if not isinstance(quotes, list | tuple) or len(quotes) != expected:
        got = f"{len(quotes)} quotes" if isinstance(quotes, list | tuple) else type(quotes).__name__
        raise PricesmithError(
            f"{pricer.name} did not return one quote for each listing",
            got=got,
            allowed=f"a list of {expected} quotes",
            hint="Return one quote for each listing; Quote(None) stands for a listing without a price.",
        )
    wrong = next((quote for quote in quotes if not isinstance(quote, Quote)), None)
    if wrong is not None:
        raise PricesmithError(
            f"{pricer.name} returned something other than a Quote",
            got=type(wrong).__name__,
            allowed="Quote(price)",
        )


def clean_quote(quote: Quote, price_range: tuple[float, float]) -> tuple[Quote, list[str]]:
    """The quote clipped to the price range (without a price if it has no usable one), and its faults as texts."""
    faults: list[str] = []
    price = quote.price
    raw, cost = quote.raw, None if quote.cost_usd is None else float(quote.cost_usd)
    if cost is not None and not (math.isfinite(cost) and cost >= 0):
        faults.append("invalid costs")
        cost = 0.0
    if price is not None and not (math.isfinite(price) and price > 0):
        faults.append("answers that are not a price")
        raw, price = raw or repr(float(price)), None
    if price is None:
        return Quote(None, None, None, raw, cost), faults
    low, high = quote.low, quote.high
    if low is None or high is None or not low <= high:  # NaN is never <=
        if low is not None or high is not None:
            faults.append("invalid intervals")
        return Quote(clip_quote(price, price_range), None, None, raw, cost), faults
    price, low, high = (clip_quote(amount, price_range) for amount in (price, low, high))
    return Quote(price, low, high, raw, cost), faults


def clip_quote(amount: float, price_range: tuple[float, float]) -> float:
    """The amount, clipped to the price range."""
    return min(max(float(amount), price_range[0]), price_range[1])


@dataclass(frozen=True)
class EvalArrays:
    """An evaluation as arrays of shape (n,), computed once and passed on to whatever measures it.

    `quote` is the median where `answered` is False. `low` and `high` are NaN without an interval. `groups` are codes
    from 0; an item without near duplicates is its own group.
    """

    evaluation: Evaluation
    ids: tuple[str, ...]
    truth: Array
    quote: Array
    answered: npt.NDArray[np.bool_]
    low: Array
    high: Array
    groups: Codes

    @property
    def error(self) -> Array:
        """|quote - truth| in money."""
        return error(self.truth, self.quote)

    @property
    def bounded(self) -> npt.NDArray[np.bool_]:
        """True where there is an interval."""
        return np.isfinite(self.low) & np.isfinite(self.high) & (self.low > 0)

    @property
    def pricer(self) -> str:
        """The pricer's name."""
        return self.evaluation.pricer

    @property
    def mae(self) -> float:
        """Mean absolute error, in money."""
        return float(self.error.mean())

    @cached_property
    def positions(self) -> dict[str, int]:
        """The position of each id."""
        return {id: position for position, id in enumerate(self.ids)}

    def select(self, ids: Sequence[str]) -> EvalArrays:
        """The arrays of some of the items, in the order of `ids`; codes of groups are numbered anew."""
        index = np.array([self.positions[id] for id in ids], dtype=np.intp)
        return replace(
            self,
            ids=tuple(ids),
            truth=self.truth[index],
            quote=self.quote[index],
            answered=self.answered[index],
            low=self.low[index],
            high=self.high[index],
            groups=encode_groups(self.groups[index].tolist()),
        )


def to_arrays(evaluation: Evaluation | EvalArrays) -> EvalArrays:
    """An evaluation as arrays; arrays are returned as they are."""
    if isinstance(evaluation, EvalArrays):
        return evaluation
    rows = evaluation.rows
    quote, answered = charge_unanswered([row.price for row in rows], evaluation.median)
    # A tuple never equals a group's name, so a single item cannot join a group that is named like its id.
    labels = [evaluation.groups.get(row.id) or ("alone", row.id) for row in rows]
    return EvalArrays(
        evaluation,
        tuple(row.id for row in rows),
        to_array([row.truth for row in rows]),
        quote,
        answered,
        to_array([row.low for row in rows]),
        to_array([row.high for row in rows]),
        encode_groups(labels),
    )


def select_ids(evaluation: Evaluation, ids: Sequence[str]) -> Evaluation:
    """The evaluation restricted to some of its items, in the order of `ids`."""
    rows = {row.id: row for row in evaluation.rows}
    return replace(evaluation, rows=tuple(rows[id] for id in ids))
