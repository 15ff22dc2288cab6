"""Judge a pricer on items: it sees listings only, and its answers are taken as they come.

    evaluation = evaluate(pricer, items, catalog="9f86d0...", median=34.9)
    columns_of(evaluation).error.mean()

Every pricer's answers are clipped to the catalog's price range, all alike. An answer that is no usable price
(not finite, zero, negative) becomes None with what was said kept in `raw`; it is counted in the note.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

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

    `catalog` is the fingerprint of the catalog the items are from, `median` the quote an item without an
    answer is charged at, `groups` the group of each id. A row's `seconds` are the quote's own, or
    its batch's, shared evenly.
    Raises InputError where an id is there twice or a truth is not a price, PricesmithError where the pricer's
    answer is not one quote for each listing.
    """
    check_items(items, median)
    rows: list[EvalRow] = []
    odd: Counter[str] = Counter()
    for start in range(0, len(items), batch):
        part = items[start : start + batch]
        began = time.perf_counter()
        quotes = pricer.price([item.listing for item in part])
        seconds = (time.perf_counter() - began) / len(part)
        check_answer(pricer, quotes, len(part))
        for item, quote in zip(part, quotes, strict=True):
            usable, faults = usable_quote(quote, price_range)
            odd.update(faults)
            said = (usable.price, usable.low, usable.high, usable.raw)
            own = quote.seconds is not None and math.isfinite(quote.seconds) and quote.seconds >= 0
            took = float(quote.seconds or 0.0) if own else seconds
            rows.append(EvalRow(item.listing.id, item.price, *said, took, usable.cost_usd))
        progress.advance(len(part))
    known = {row.id: groups[row.id] for row in rows if row.id in groups} if groups else {}
    note = "; ".join(f"{count} {fault}" for fault, count in sorted(odd.items()))
    return Evaluation(pricer.name, catalog, tuple(rows), median, currency, price_range, known, note)


def check_items(items: Sequence[Item], median: float) -> None:
    """Raises InputError where an id is there twice, or a truth or the median is not a price."""
    if not (math.isfinite(median) and median > 0):
        raise InputError("The median's quote is not a price", got=repr(median), allowed="a number above 0")
    seen: set[str] = set()
    for item in items:
        if item.listing.id in seen:
            raise InputError("Two items have the same id", got=item.listing.id, hint="Give each item its own id.")
        if not (math.isfinite(item.price) and item.price > 0):
            raise InputError(
                f"The truth of item {item.listing.id} is not a price",
                got=repr(item.price),
                allowed="a number above 0",
            )
        seen.add(item.listing.id)


def check_answer(pricer: Pricer, quotes: Sequence[Quote], asked: int) -> None:
    """Raises PricesmithError where `quotes` is not one Quote for each listing."""
    if not isinstance(quotes, list | tuple) or len(quotes) != asked:
        got = f"{len(quotes)} quotes" if isinstance(quotes, list | tuple) else type(quotes).__name__
        raise PricesmithError(
            f"{pricer.name} did not give one quote for each listing",
            got=got,
            allowed=f"a list of {asked} quotes",
            hint="A pricer answers every listing, with Quote(None) where it has no price.",
        )
    wrong = next((quote for quote in quotes if not isinstance(quote, Quote)), None)
    if wrong is not None:
        raise PricesmithError(
            f"{pricer.name} gave something else than a Quote",
            got=type(wrong).__name__,
            allowed="Quote(price)",
        )


def usable_quote(quote: Quote, price_range: tuple[float, float]) -> tuple[Quote, list[str]]:
    """The quote inside the price range, or without a price where it is none; and what was wrong with it."""
    faults: list[str] = []
    price = quote.price
    raw, cost = quote.raw, None if quote.cost_usd is None else float(quote.cost_usd)
    if cost is not None and not (math.isfinite(cost) and cost >= 0):
        faults.append("costs that are no amount")
        cost = 0.0
    if price is not None and not (math.isfinite(price) and price > 0):
        faults.append("answers that are no price")
        raw, price = raw or repr(float(price)), None
    if price is None:
        return Quote(None, None, None, raw, cost), faults
    low, high = quote.low, quote.high
    if low is None or high is None or not low <= high:  # NaN is never <=
        if low is not None or high is not None:
            faults.append("intervals that are none")
        return Quote(clip_quote(price, price_range), None, None, raw, cost), faults
    price, low, high = (clip_quote(amount, price_range) for amount in (price, low, high))
    return Quote(price, low, high, raw, cost), faults


def clip_quote(amount: float, price_range: tuple[float, float]) -> float:
    """An amount inside the price range."""
    return min(max(float(amount), price_range[0]), price_range[1])


@dataclass(frozen=True)
class EvalArrays:
    """An evaluation as arrays of shape (n,). `quote` is charged at the median where `answered` is False.

    `low` and `high` are NaN where there is no interval. `groups` are codes from 0; an item alone is its own
    group.
    """

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
        """Where there is an interval."""
        return np.isfinite(self.low) & np.isfinite(self.high) & (self.low > 0)


def to_arrays(evaluation: Evaluation) -> EvalArrays:
    """An evaluation as arrays."""
    rows = evaluation.rows
    quote, answered = charge_unanswered([row.price for row in rows], evaluation.median)
    # A tuple never equals a group's name, so an item alone cannot fall in with a group called like its id.
    labels = [evaluation.groups.get(row.id) or ("alone", row.id) for row in rows]
    return EvalArrays(
        tuple(row.id for row in rows),
        to_array([row.truth for row in rows]),
        quote,
        answered,
        to_array([row.low for row in rows]),
        to_array([row.high for row in rows]),
        encode_groups(labels),
    )


def select_ids(evaluation: Evaluation, ids: Sequence[str]) -> Evaluation:
    """The evaluation of some of its items, in the order of `ids`."""
    rows = {row.id: row for row in evaluation.rows}
    return replace(evaluation, rows=tuple(rows[id] for id in ids))
