"""What quotes cost and how long they take: a hosted model's fees, the machine's time, and their break-even point.

    own, hosted = build_cost(own_evaluation, meta, machine_cost=0.40), build_cost(hosted_evaluation, hosted_meta)
    break_even(own, hosted).quotes

Costs are US dollars for one requested quote, answered or not. Unknown costs are None, never 0: fees without a price per
token, times that were not measured, a machine without a cost per hour.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pricesmith.core.types import EACH_REQUEST, EvalRow, Evaluation
from pricesmith.evaluation.cost_curve import read_hybrid
from pricesmith.evaluation.folds import N_FOLDS

PricerType = Literal["own", "hosted", "person", "saved"]
PRICER_TYPES: dict[str, PricerType] = {
    "api": "hosted",
    "human": "person",
    "precomputed": "saved",
}  # all others: own
TUNED = ("lora_tokens", "lora_bins")  # fine-tuned language models
UNTUNED = ("zero-shot",)
UNFITTED = (*UNTUNED, *PRICER_TYPES)  # without a fit, and without its cost
NO_REPLY = "no reply:"  # prefix of `raw` if a hosted model never replied; such seconds measure no answer
HOUR = 3600.0


@dataclass(frozen=True)
class Latency:
    """Seconds for one listing: median and 95th percentile (`high`) over `n` answers that were timed one by one."""

    median: float
    high: float
    n: int


@dataclass(frozen=True)
class Cost:
    """The costs of one pricer's quotes. Dollars are for one quote; `fit` is the cost of the fit, once.

    `fees` were paid to a host, `lost` is the most that requests without a reply may have cost in addition; `compute` is
    the machine's cost at `seconds` a quote; `quote` is fees plus compute. An own model that asks an API model has both;
    `estimated_fees` says that its fees are estimates, not billed. `seconds` is the batch's time divided by its
    quotes; `latency` exists only if each answer was timed by itself.
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
    estimated_fees: bool = False


@dataclass(frozen=True)
class BreakEven:
    """From how many quotes on the own model is cheaper than a host, including the cost of its fit.

    `quotes` is None unless `why` is "paid back". `machine_cost` is the cost of the machine, in dollars an hour, at
    which an own quote costs as much as the host's; it needs no actual machine cost.
    """

    quotes: int | None
    why: Literal["paid back", "never", "unknown"]
    machine_cost: float | None


def get_pricer_type(kind: str) -> PricerType:
    """The type of a pricer of this kind: own, hosted, person or saved. It decides which costs apply."""
    return PRICER_TYPES.get(kind, "own")


def build_cost(evaluation: Evaluation, meta: Mapping[str, Any], machine_cost: float | None = None) -> Cost:
    """The cost of an evaluation's quotes, from its rows and its meta file; `machine_cost` is US dollars an hour."""
    rows = evaluation.rows
    side = get_pricer_type(str(meta.get("kind", "")))
    known = meta.get("cost_known", True) is not False and side not in ("person", "saved")
    # A lost reply may cost, but is not a quote; an own model that asks a host quotes without its reply, too.
    answered = sum(row.price is not None or not row.raw.startswith(NO_REPLY) for row in rows)
    # A lost reply may not have been charged: it is an upper bound, and does not count as the competitor's cost.
    lost = float(meta.get("quotes_failed_tries_usd") or 0.0) if known else 0.0
    known = known and all(row.cost_usd is not None for row in rows)
    fees = max(0.0, math.fsum(row.cost_usd or 0.0 for row in rows) - lost) / answered if known and answered else None
    seconds = math.fsum(row.seconds for row in rows) / len(rows) if rows and side == "own" else None
    seconds = seconds or None  # 0 means not measured
    fit_seconds, hybrid = fitting_seconds(evaluation, meta), read_hybrid(meta)
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
        hybrid is not None and hybrid.estimated_fees,
    )


def machine_rent(seconds: float | None, machine_cost: float | None) -> float | None:
    """The machine's cost for a duration, in US dollars; None if either is unknown."""
    return None if seconds is None or machine_cost is None else seconds / HOUR * machine_cost


def fitting_seconds(evaluation: Evaluation, meta: Mapping[str, Any]) -> float | None:
    """The seconds of one fit. With folds, `fit_seconds` is the sum over all folds."""
    if str(meta.get("kind", "")) in UNFITTED:
        return 0.0
    seconds = meta.get("fit_seconds")
    if not isinstance(seconds, int | float) or not math.isfinite(seconds) or seconds < 0:
        return None
    settings = meta.get("settings") or {}
    refitted = bool(meta.get("folds")) and settings.get("fitted_on") == evaluation.catalog
    return float(seconds) / N_FOLDS if refitted else float(seconds)


def build_latency(rows: tuple[EvalRow, ...], meta: Mapping[str, Any]) -> Latency | None:
    """Seconds for a listing if the meta file says that each answer was timed by itself; else None."""
    if meta.get("latency") != EACH_REQUEST:
        return None
    timed = np.array(timed_seconds(rows))
    if not len(timed):
        return None
    return Latency(float(np.median(timed)), float(np.quantile(timed, 0.95)), len(timed))


def timed_seconds(rows: Sequence[EvalRow]) -> list[float]:
    """The seconds of the answers that were timed; none if they are fewer than half of all answers. Those of batch jobs
    and of slow service tiers have 0 seconds, and a few timed ones beside them are no measurement."""
    answered = [row.seconds for row in rows if not row.raw.startswith(NO_REPLY)]
    timed = [seconds for seconds in answered if seconds > 0]
    return timed if 2 * len(timed) >= len(answered) else []


def break_even(own: Cost, hosted: Cost) -> BreakEven:
    """The break-even point of an own model and a host: fit / (hosted quote - own quote)."""
    level = None
    if own.seconds and hosted.quote is not None and own.fees is not None and hosted.quote > own.fees:
        level = (hosted.quote - own.fees) / own.seconds * HOUR
    if own.quote is None or hosted.quote is None:
        # A host that costs at most the own fees is never more expensive, whatever the machine costs.
        free = hosted.quote is not None and own.fees is not None and hosted.quote <= own.fees
        return BreakEven(None, "never" if free else "unknown", level)
    if own.quote >= hosted.quote:
        return BreakEven(None, "never", level)
    if own.fit is None:
        return BreakEven(None, "unknown", level)
    return BreakEven(max(1, math.ceil(own.fit / (hosted.quote - own.quote))), "paid back", level)


def cost_ratio(base: Cost, other: Cost) -> float | None:
    """The cost of `other`'s quote divided by that of `base`'s; None if either is unknown or free."""
    return other.quote / base.quote if base.quote and other.quote else None


def format_refits(seconds: Sequence[float]) -> str:
    """The estimated time to refit in every fold, from the seconds of each fit; empty below 5 seconds."""
    total = N_FOLDS * sum(seconds)
    duration = f"{total / 60:.0f} minutes" if total > 120 else f"{total:.0f} seconds"
    return f" That takes about {duration} of fitting." if total >= 5 else ""
