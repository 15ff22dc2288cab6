"""What quotes cost and how long they take: fees of a hosted model, seconds of one's own box, and where the two meet.

    own, hosted = cost_of(ours, meta, machine_cost=0.40), cost_of(theirs, their_meta)
    break_even(own, hosted).quotes

Costs are US dollars for one quote asked for, answered or not. What is not known is None, never 0: a fee whose price per
token nobody gave, seconds that no clock took, a box without a price.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pricesmith.core.types import EvalRow, Evaluation
from pricesmith.evaluation.folds import N_FOLDS

PricerType = Literal["own", "hosted", "person", "saved"]
PRICER_TYPES: dict[str, PricerType] = {
    "api": "hosted",
    "human": "person",
    "precomputed": "saved",
}  # all others are one's own
TUNED = ("lora_tokens", "lora_bins")  # language models of one's own, tuned to prices
UNTUNED = ("zero-shot",)
UNFITTED = (*UNTUNED, *PRICER_TYPES)  # nothing was fitted, so nothing of it is owed
NO_REPLY = "no reply:"  # how `raw` begins where a hosted model never answered: such seconds are no answer's
EACH_ITS_OWN = "each answer's own"
HOUR = 3600.0


@dataclass(frozen=True)
class Latency:
    """Seconds for one listing: the median and the 95th percentile over `n` answers that were timed one by one."""

    median: float
    high: float
    n: int


@dataclass(frozen=True)
class Cost:
    """What one pricer's quotes cost. Dollars are for one quote; `fit` is what fitting it cost, once.

    `fees` is what was paid to a host, `lost` what replies that never came may have cost beside it, at worst;
    `compute` what the box cost at `seconds` a quote; `quote` is the sum of fees and compute. `seconds` is the
    batch's, shared evenly; `latency` is there only where each answer was timed by itself.
    """

    pricer: str
    pricer_type: PricerType
    quote: float | None
    fees: float | None
    compute: float | None
    seconds: float | None
    latency: Latency | None
    fit_seconds: float | None
    fit: float | None
    lost: float = 0.0


@dataclass(frozen=True)
class BreakEven:
    """From how many quotes on one's own box is cheaper than a host, fitting included.

    `quotes` is None unless `why` is "paid back". `machine_cost` is the dollars per hour of the box at which a quote of
    one's own costs what the host takes; it needs no price of the box.
    """

    quotes: int | None
    why: Literal["paid back", "never", "unknown"]
    machine_cost: float | None


def get_pricer_type(kind: str) -> PricerType:
    """Who pays for a pricer of this kind: one's own box, a host's fees, a person's time, or nobody any more."""
    return PRICER_TYPES.get(kind, "own")


def build_cost(evaluation: Evaluation, meta: Mapping[str, Any], machine_cost: float | None = None) -> Cost:
    """The cost of an evaluation's quotes, from its rows and its meta file; `machine_cost` is US dollars an hour."""
    rows = evaluation.rows
    side = get_pricer_type(str(meta.get("kind", "")))
    known = meta.get("cost_known", True) is not False and side not in ("person", "saved")
    answered = sum(not row.raw.startswith(NO_REPLY) for row in rows)  # a lost reply costs, and is no quote
    # A reply that never came may not have been charged: it is an upper end, and no reason to call a competitor dear.
    lost = float(meta.get("quotes_failed_tries_usd") or 0.0) if known else 0.0
    known = known and all(row.cost_usd is not None for row in rows)
    fees = max(0.0, math.fsum(row.cost_usd or 0.0 for row in rows) - lost) / answered if known and answered else None
    seconds = math.fsum(row.seconds for row in rows) / len(rows) if rows and side == "own" else None
    seconds = seconds or None  # no clock reads 0
    fit_seconds = fitting_seconds(evaluation, meta)
    compute = 0.0 if side == "hosted" else machine_rent(seconds, machine_cost)
    return Cost(
        evaluation.pricer,
        side,
        None if fees is None or compute is None else fees + compute,
        fees,
        compute,
        seconds,
        build_latency(rows, meta),
        fit_seconds,
        0.0 if fit_seconds == 0 else machine_rent(fit_seconds, machine_cost),
        lost / answered if answered else 0.0,
    )


def machine_rent(seconds: float | None, machine_cost: float | None) -> float | None:
    """What the box costs for so many seconds, in US dollars; None where either is not known."""
    return None if seconds is None or machine_cost is None else seconds / HOUR * machine_cost


def fitting_seconds(evaluation: Evaluation, meta: Mapping[str, Any]) -> float | None:
    """The seconds of one fit. In folds every fold was fitted, and `fit_seconds` is the sum of all."""
    if str(meta.get("kind", "")) in UNFITTED:
        return 0.0
    seconds = meta.get("fit_seconds")
    if not isinstance(seconds, int | float) or not math.isfinite(seconds) or seconds < 0:
        return None
    settings = meta.get("settings") or {}
    again = bool(meta.get("folds")) and settings.get("fitted_on") == evaluation.catalog
    return float(seconds) / N_FOLDS if again else float(seconds)


def build_latency(rows: tuple[EvalRow, ...], meta: Mapping[str, Any]) -> Latency | None:
    """Seconds a listing, where the meta file says that each answer was timed by itself. A batch's share is none."""
    if meta.get("latency") != EACH_ITS_OWN:
        return None
    timed = np.array([row.seconds for row in rows if row.seconds > 0 and not row.raw.startswith(NO_REPLY)])
    if not len(timed):
        return None
    return Latency(float(np.median(timed)), float(np.quantile(timed, 0.95)), len(timed))


def break_even(own: Cost, hosted: Cost) -> BreakEven:
    """Where one's own box becomes cheaper than a host: fitting / (the host's quote - one's own)."""
    level = None
    if own.seconds and hosted.quote is not None and own.fees is not None and hosted.quote > own.fees:
        level = (hosted.quote - own.fees) / own.seconds * HOUR
    if own.quote is None or hosted.quote is None:
        # Nothing is cheaper than free: that needs no price of the box.
        free = hosted.quote is not None and own.fees is not None and hosted.quote <= own.fees
        return BreakEven(None, "never" if free else "unknown", level)
    if own.quote >= hosted.quote:
        return BreakEven(None, "never", level)
    if own.fit is None:
        return BreakEven(None, "unknown", level)
    return BreakEven(max(1, math.ceil(own.fit / (hosted.quote - own.quote))), "paid back", level)


def cost_ratio(one: Cost, other: Cost) -> float | None:
    """How many times `one`'s cost for a quote `other`'s is; None where one is unknown or free."""
    return other.quote / one.quote if one.quote and other.quote else None


def format_refits(seconds: Sequence[float]) -> str:
    """How long fitting again in every fold takes, by what each fit took; empty for a few seconds."""
    total = N_FOLDS * sum(seconds)
    length = f"{total / 60:.0f} minutes" if total > 120 else f"{total:.0f} seconds"
    return f" That takes about {length} of fitting." if total >= 5 else ""
