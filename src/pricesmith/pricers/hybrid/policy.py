"""When to ask the second model of a cascade: in order of the expected gain for each dollar, within a limit.

    policy = fit_policy(Constraint("max_cost_per_1000", 0.5), evidence)
    policy.choose(gains, costs)                               # [n] bool

The expected error of the first model and that of the hybrid are predicted from what the first model says, by Poisson
regressions of the absolute error (scikit-learn's PoissonRegressor; the mean of a non-negative variable on the log
scale: Gourieroux, Monfort & Trognon 1984). Their difference is the expected gain of asking. This module reads and
writes no files, so that a server can use a policy with a limit for each day.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pricesmith.core.errors import UsageError
from pricesmith.core.settings import Settings
from pricesmith.pricers.hybrid.shares import Array, Finite

ConstraintName = Literal["share", "max_cost_per_1000", "max_seconds_per_1000", "max_mae"]
Mask = npt.NDArray[np.bool_]


class ErrorModel(Settings):
    """The expected absolute error in money: exp(intercept + slopes . standardized features)."""

    intercept: Finite
    slopes: tuple[Finite, ...]
    mean: tuple[Finite, ...]
    scale: tuple[Annotated[float, Field(gt=0)], ...]

    def predict(self, table: Array) -> Array:
        """The expected error [n] from features [n, features]."""
        logs = self.intercept + (table - np.array(self.mean)) / np.array(self.scale) @ np.array(self.slopes)
        return np.asarray(np.exp(np.clip(logs, -50.0, 50.0)))


def error_features(price: Array, width: Array, typical_width: float) -> Array:
    """The features [n, 2]: the log quote of the first model, and the log width of its interval."""
    known = np.where(np.isfinite(width), width, typical_width)
    return np.column_stack([np.log(price), np.log(np.maximum(known, 0.0) + 0.05)])


def fit_error_model(table: Array, errors: Array, penalty: float) -> ErrorModel:
    """The expected error, fitted to absolute errors [n] with a ridge penalty on the slopes."""
    from sklearn.linear_model import PoissonRegressor

    mean, scale = table.mean(axis=0), table.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    unit = float(errors.mean()) or 1.0
    model = PoissonRegressor(alpha=penalty, max_iter=500).fit((table - mean) / scale, errors / unit)
    return ErrorModel(
        intercept=float(model.intercept_ + np.log(unit)),
        slopes=tuple(float(slope) for slope in model.coef_),
        mean=tuple(mean.tolist()),
        scale=tuple(scale.tolist()),
    )


@dataclass(frozen=True)
class Constraint:
    """The limit of a cascade: the share of listings that are asked about, US dollars or seconds for 1,000 listings, or
    the MAE that is enough."""

    name: ConstraintName
    value: float


@dataclass(frozen=True)
class Evidence:
    """What a policy is fitted on. `gains` and `costs` [n] are of all validation listings; `first_errors`,
    `hybrid_errors` and `answered_scores` are of the answered ones, for the MAE that can be reached."""

    gains: Array
    costs: Array
    first_errors: Array
    hybrid_errors: Array
    answered_scores: Array


class CascadePolicy(Settings):
    """Ask where the expected gain for each unit of cost is at least `threshold`; None: everywhere.

    `share` and `cost_per_1000` are what that means on validation; `unit` is what costs are in.
    """

    threshold: float | None
    unit: Literal["usd", "seconds", "listings"]
    share: float = Field(ge=0, le=1)
    cost_per_1000: float | None = Field(None, ge=0)

    def choose(self, gains: Array, costs: Array, allowance: float | None = None) -> Mask:
        """Which of n listings to ask about. With an `allowance`, those with the highest expected gain for each unit of
        cost whose costs sum to at most that."""
        score = scores(gains, costs)
        asked = np.ones(len(score), dtype=np.bool_) if self.threshold is None else score >= self.threshold
        if allowance is None:
            return asked
        order = np.argsort(-score, kind="stable")
        order = order[asked[order]]
        within = order[np.cumsum(costs[order]) <= allowance * (1 + 1e-9)]
        chosen = np.zeros(len(score), dtype=np.bool_)
        chosen[within] = True
        return chosen


def scores(gains: Array, costs: Array) -> Array:
    """The expected gain for each unit of cost [n]; a free answer is worth asking for if it gains anything."""
    return np.asarray(gains / np.maximum(costs, 1e-12))


def fit_policy(
    constraint: Constraint, evidence: Evidence, unit: Literal["usd", "seconds", "listings"]
) -> CascadePolicy:
    """The policy that asks about as many listings as the constraint allows, those of the highest score first.

    Listings without an expected gain are asked about only if the constraint is a share of 1. Raises UsageError if the
    MAE cannot be reached.
    """
    score = scores(evidence.gains, evidence.costs)
    order = np.argsort(-score, kind="stable")
    useful = int((score > 0).sum())
    if constraint.name == "share" and constraint.value >= 1:
        return describe(None, np.ones(len(score), dtype=np.bool_), evidence, unit)
    if constraint.name == "max_mae":
        threshold = threshold_for_mae(constraint.value, evidence)
    else:
        if constraint.name == "share":
            count = int(np.floor(constraint.value * len(score) + 1e-9))
        else:
            limit = constraint.value / 1000 * len(score)
            count = int((np.cumsum(evidence.costs[order]) <= limit * (1 + 1e-9)).sum())
        count = min(count, useful)
        threshold = float(score[order[count - 1]]) if count else above(float(score[order[0]]) if len(score) else 0.0)
    return describe(threshold, score >= threshold, evidence, unit)


def threshold_for_mae(target: float, evidence: Evidence) -> float:
    """The highest threshold at which the cross-fitted MAE of the answered listings is at most `target`.

    Raises UsageError if no threshold reaches it.
    """
    order = np.argsort(-evidence.answered_scores, kind="stable")
    saved = np.cumsum((evidence.first_errors - evidence.hybrid_errors)[order])
    start = float(evidence.first_errors.sum())
    maes = (start - np.concatenate([[0.0], saved])) / len(order)
    reached = np.flatnonzero(maes <= target * (1 + 1e-12))
    if not len(reached):
        raise UsageError(
            "The cascade cannot reach this MAE",
            got=f"max_mae={target:g}",
            allowed=f"at least {maes.min():.4g}, the lowest MAE on validation",
            hint=f"Use max_mae={np.ceil(maes.min() * 100) / 100:g}, or share=1 to ask about every listing.",
        )
    count = int(reached[0])
    ordered = evidence.answered_scores[order]
    return float(ordered[count - 1]) if count else above(float(ordered[0]))


def above(score: float) -> float:
    """The next greater number: a threshold that no listing reaches."""
    return float(np.nextafter(score, np.inf))


def describe(
    threshold: float | None, asked: Mask, evidence: Evidence, unit: Literal["usd", "seconds", "listings"]
) -> CascadePolicy:
    """A policy with its share and cost on validation."""
    share = float(asked.mean()) if len(asked) else 0.0
    cost = float(evidence.costs[asked].sum() / len(asked) * 1000) if len(asked) and unit != "listings" else None
    return CascadePolicy(threshold=threshold, unit=unit, share=share, cost_per_1000=cost)


def rank_order(score: Sequence[float] | Array) -> npt.NDArray[np.int64]:
    """The positions of listings from the highest score to the lowest."""
    return np.asarray(np.argsort(-np.asarray(score), kind="stable"), dtype=np.int64)
