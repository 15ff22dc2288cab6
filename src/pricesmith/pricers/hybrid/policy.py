"""When to ask the second model of a cascade: in order of the expected gain for each dollar, within a limit.

    policy = fit_policy(Constraint("max_cost_per_1000", 0.5), evidence)
    policy.choose(gains, costs)                               # [n] bool

The expected error of the first model and that of the hybrid are predicted from what the first model says, by Poisson
regressions of the absolute error (scikit-learn's PoissonRegressor; the mean of a non-negative variable on the log
scale: Gourieroux, Monfort & Trognon 1984). Their difference is the expected gain of asking. This module reads and
writes no files, so that a server can use a policy with a limit for each day.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from pricesmith.core.errors import UsageError
from pricesmith.core.settings import Settings
from pricesmith.pricers.hybrid.shares import Array, Finite

ConstraintName = Literal["share", "max_cost_per_1000", "max_seconds_per_1000", "max_mae"]
Unit = Literal["usd", "seconds", "listings"]
Mask = npt.NDArray[np.bool_]
N_FEATURES = 2  # of `error_features`
SMALLEST_ERROR = 1e-9  # the expected error of a model without errors
NEVER = 1e300  # a threshold that no score reaches


class ErrorModel(Settings):
    """The expected absolute error in money: exp(intercept + slopes . standardized features)."""

    intercept: Finite
    slopes: tuple[Finite, ...]
    mean: tuple[Finite, ...]
    scale: tuple[Annotated[float, Field(gt=0)], ...]

    @model_validator(mode="after")
    def check_features(self) -> ErrorModel:
        """Raise ValueError unless there is one slope, mean and scale for each feature."""
        if not len(self.slopes) == len(self.mean) == len(self.scale) == N_FEATURES:
            raise ValueError(f"{N_FEATURES} slopes, means and scales")
        return self

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
    unit = float(errors.mean())
    if unit <= SMALLEST_ERROR:
        values = {"intercept": float(np.log(SMALLEST_ERROR)), "slopes": (0.0,) * table.shape[1]}
        return ErrorModel(**values, mean=tuple(mean.tolist()), scale=tuple(scale.tolist()))
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
    """Ask where the expected gain for each unit of cost is above 0 and at least `threshold`; None: everywhere.

    `share` and `cost_per_1000` are what that means on validation; `unit` is what costs are in.
    """

    threshold: float | None
    unit: Unit
    share: float = Field(ge=0, le=1)
    cost_per_1000: float | None = Field(None, ge=0)

    def choose(self, gains: Array, costs: Array) -> Mask:
        """Which of n listings to ask about, by their expected gains and costs."""
        score = scores(gains, costs)
        return reach(score, self.threshold)


def within_allowance(score: Array, asked: Mask, fees: Array, allowance: float) -> Mask:
    """The listings [n] of `asked` with the highest score whose fees in US dollars sum to at most the allowance, and
    those without a fee."""
    order = np.argsort(-score, kind="stable")
    order = order[asked[order]]
    affordable = np.zeros(len(score), dtype=np.bool_)
    affordable[order[(np.cumsum(fees[order]) <= allowance * (1 + 1e-9)) | (fees[order] == 0)]] = True
    return affordable


def scores(gains: Array, costs: Array) -> Array:
    """The expected gain for each unit of cost [n]; a free answer is worth asking for if it gains anything."""
    return np.asarray(gains / np.maximum(costs, 1e-12))


def reach(score: Array, threshold: float | None) -> Mask:
    """The scores that are above 0 and at least the threshold; all if it is None."""
    return np.ones(len(score), dtype=np.bool_) if threshold is None else (score > 0) & (score >= threshold)


def fit_policy(constraint: Constraint, evidence: Evidence, unit: Unit) -> CascadePolicy:
    """The policy that asks about as many listings as the constraint allows, those of the highest score first.

    Listings without an expected gain are asked about only if the constraint is a share of 1. Listings of the same score
    are all asked about, or none. Raises UsageError if the MAE cannot be reached.
    """
    score = scores(evidence.gains, evidence.costs)
    if constraint.name == "share" and constraint.value >= 1:
        return describe(None, score, evidence, unit)
    if constraint.name == "max_mae":
        threshold = threshold_for_mae(constraint.value, evidence)
    elif constraint.name == "share":
        threshold = threshold_for_count(int(np.floor(constraint.value * len(score) + 1e-9)), score)
    else:
        costs = evidence.costs[np.argsort(-score, kind="stable")]
        limit = constraint.value / 1000 * len(score)
        threshold = threshold_for_count(int((np.cumsum(costs) <= limit * (1 + 1e-9)).sum()), score)
    return describe(threshold, score, evidence, unit)


def threshold_for_count(count: int, score: Array) -> float:
    """The lowest threshold above 0 that at most `count` scores reach."""
    ordered = -np.sort(-score[score > 0])
    if count < len(ordered):  # of equal scores all or none
        count = int((ordered > ordered[count]).sum())
    return float(ordered[min(count, len(ordered)) - 1]) if count and len(ordered) else NEVER


def threshold_for_mae(target: float, evidence: Evidence) -> float:
    """The highest threshold at which the cross-fitted MAE of the answered listings is at most `target`.

    Raises UsageError if no threshold above 0 reaches it.
    """
    order = np.argsort(-evidence.answered_scores, kind="stable")
    ordered = evidence.answered_scores[order]
    saved = np.cumsum((evidence.first_errors - evidence.hybrid_errors)[order])
    maes = (float(evidence.first_errors.sum()) - np.concatenate([[0.0], saved])) / len(order)
    counts = np.flatnonzero(np.append(ordered[:-1] > ordered[1:], True) & (ordered > 0)) + 1
    counts = np.concatenate([[0], counts])  # of listings that a threshold separates from the others
    reached = counts[maes[counts] <= target * (1 + 1e-12)]
    if not len(reached):
        lowest = float(maes[counts].min())
        raise UsageError(
            "The cascade cannot reach this MAE",
            got=f"max_mae={target:g}",
            allowed=f"at least {lowest:.6g}, the lowest MAE on validation",
            hint=f"Use max_mae={round_up(lowest)}, or share=1 to ask about every listing.",
        )
    count = int(reached[0])
    return float(ordered[count - 1]) if count else NEVER


def round_up(value: float) -> str:
    """The next number with 4 significant digits that is not below `value`, as a text."""
    digits = 3 - int(np.floor(np.log10(value))) if value > 0 else 0
    text = f"{np.ceil(value * 10.0**digits) / 10.0**digits:.{max(digits, 0)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def describe(threshold: float | None, score: Array, evidence: Evidence, unit: Unit) -> CascadePolicy:
    """A policy with its share and cost on validation."""
    asked = reach(score, threshold)
    share = float(asked.mean()) if len(asked) else 0.0
    cost = float(evidence.costs[asked].sum() / len(asked) * 1000) if len(asked) and unit != "listings" else None
    return CascadePolicy(threshold=threshold, unit=unit, share=share, cost_per_1000=cost)
