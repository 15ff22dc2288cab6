"""Intervals of hybrid prices by CV+, from all answered listings.

    intervals = fit_intervals(inputs, truths, groups, penalty)
    low, high = intervals.bounds(inputs)                      # [n] each

Answers cost money, so no listings are held out: the residual of each answered listing is that of shares fitted without
its fold, and the bounds for a new listing are quantiles over all answered listings of the fold's price, moved by the
residual of that listing (CV+: Barber, Candès, Ramdas & Tibshirani 2021, with 5 % on each side of a 90 % interval).
Residuals are on the log scale, in units of a predicted scale, which is fitted without the fold too: it depends on the
width of the first member's interval, the price, and how far the members are apart (normalized conformal prediction:
Papadopoulos et al. 2008).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from pricesmith.core.settings import Settings
from pricesmith.pricers.hybrid.shares import (
    Array,
    Finite,
    HybridInputs,
    ShareModel,
    combine_folds,
    fit_folds,
    group_folds,
)

LEVEL = 0.9
MIN_ROWS = 19  # answered listings: the least number for a 5 % quantile
N_FEATURES = 3  # of `scale_features`
SCALE_PENALTY = 0.01
SMALLEST_SCALE = 1e-3
CHUNK = 1_000  # listings whose bounds are computed at once


class ScaleModel(Settings):
    """The predicted scale of a log residual: exp(intercept + slopes . standardized features)."""

    intercept: Finite
    slopes: tuple[Finite, ...]
    mean: tuple[Finite, ...]
    scale: tuple[Annotated[float, Field(gt=0)], ...]

    @model_validator(mode="after")
    def check_features(self) -> ScaleModel:
        """Raise ValueError unless there is one slope, mean and scale for each feature."""
        if not len(self.slopes) == len(self.mean) == len(self.scale) == N_FEATURES:
            raise ValueError(f"{N_FEATURES} slopes, means and scales")
        return self

    def predict(self, table: Array) -> Array:
        """The scale [n] from the features [n, features]."""
        logs = self.intercept + (table - np.array(self.mean)) / np.array(self.scale) @ np.array(self.slopes)
        return np.asarray(np.maximum(np.exp(np.clip(logs, -20.0, 20.0)), SMALLEST_SCALE))


def scale_features(inputs: HybridInputs, typical_width: float) -> Array:
    """The features [n, 3] of the scale: the log of the mean price, the log width of the first member's interval, and
    the largest log distance between two members."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(inputs.prices)
    answered = np.isfinite(logs)
    highest, lowest = np.where(answered, logs, -np.inf).max(axis=1), np.where(answered, logs, np.inf).min(axis=1)
    spread = np.where(answered.any(axis=1), highest - lowest, 0.0)
    mean = np.where(answered, logs, 0.0).sum(axis=1) / np.maximum(answered.sum(axis=1), 1)
    width = np.where(np.isfinite(inputs.width), inputs.width, typical_width)
    return np.column_stack([mean, np.log(np.maximum(width, 0.0) + 0.05), np.log(spread + 0.05)])


def fit_scale(table: Array, residuals: Array) -> ScaleModel:
    """The scale that maximizes the likelihood of Laplace residuals [n], with a small ridge penalty."""
    from scipy.optimize import minimize

    mean, scale = table.mean(axis=0), table.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    columns = np.column_stack([np.ones(len(table)), (table - mean) / scale])
    sizes = np.abs(residuals) + SMALLEST_SCALE

    def loss(weights: Array) -> tuple[float, Array]:
        logs = columns @ weights
        ratio = sizes * np.exp(-logs)
        gradient = columns.T @ (1 - ratio) / len(ratio)
        gradient[1:] += 2 * SCALE_PENALTY * weights[1:]
        return float((logs + ratio).mean() + SCALE_PENALTY * (weights[1:] ** 2).sum()), gradient

    start = np.zeros(columns.shape[1])
    start[0] = np.log(sizes.mean())
    weights = minimize(loss, start, jac=True, method="L-BFGS-B").x
    return ScaleModel(
        intercept=float(weights[0]), slopes=tuple(weights[1:].tolist()), mean=tuple(mean.tolist()), scale=tuple(scale)
    )


class HybridIntervals(Settings):
    """The parts of CV+ intervals: shares and scales fitted without each fold, and the scores of each fold's listings,
    which are the log of the truth over the price, in units of the scale. `typical_width` replaces an unknown width."""

    level: float = Field(LEVEL, gt=0, lt=1)
    typical_width: Finite = 0.0
    shares: tuple[ShareModel, ...]
    scales: tuple[ScaleModel, ...]
    scores: tuple[tuple[Finite, ...], ...]

    @model_validator(mode="after")
    def check_folds(self) -> HybridIntervals:
        """Raise ValueError if a fold lacks its shares, its scale or its scores."""
        if not len(self.shares) == len(self.scales) == len(self.scores):
            raise ValueError("shares, a scale and scores for each fold")
        if len({model.members for model in self.shares}) > 1:
            raise ValueError("shares of the same members in each fold")
        return self

    @property
    def rows(self) -> int:
        """The number of answered listings."""
        return sum(len(part) for part in self.scores)

    def bounds(self, inputs: HybridInputs) -> tuple[Array, Array]:
        """The lower and upper bounds [n] of the prices; NaN if there are too few answered listings for the level."""
        count = len(inputs.prices)
        low, high = np.full(count, np.nan), np.full(count, np.nan)
        rank = int(np.floor((self.rows + 1) * (1 - self.level) / 2 + 1e-9))
        if rank < 1:
            return low, high
        for start in range(0, count, CHUNK):
            which = np.zeros(count, dtype=np.bool_)
            which[start : start + CHUNK] = True
            part = inputs.rows(which)
            table = scale_features(part, self.typical_width)
            reach = [
                np.log(shares.combine(part))[:, None] + scale.predict(table)[:, None] * np.array(scores)[None, :]
                for shares, scale, scores in zip(self.shares, self.scales, self.scores, strict=True)
            ]
            values = np.sort(np.column_stack(reach), axis=1)
            low[which], high[which] = np.exp(values[:, rank - 1]), np.exp(values[:, -rank])
        return low, high


def fit_intervals(
    inputs: HybridInputs, truth: Array, groups: Sequence[str], penalty: float | None
) -> tuple[HybridIntervals, Array]:
    """The intervals, and the cross-fitted price of each listing [n], NaN if no member answered. Shares have the given
    penalty; listings with an unanswered member do not count for the intervals."""
    fold = group_folds(groups)
    models = fit_folds(inputs, truth, fold, penalty)
    prices = combine_folds(models, inputs, fold)
    complete = inputs.complete
    known = inputs.width[np.isfinite(inputs.width)]
    typical = float(np.median(known)) if len(known) else 0.0
    table = scale_features(inputs, typical)
    residuals = np.log(truth / np.where(complete, prices, truth))
    scales, scores = [], []
    for number in range(len(models)):
        rest, own = complete & (fold != number), complete & (fold == number)
        scale = fit_scale(table[rest], residuals[rest]) if rest.any() else fit_scale(table, residuals)
        scales.append(scale)
        scores.append(tuple((residuals[own] / scale.predict(table[own])).tolist()))
    intervals = HybridIntervals(typical_width=typical, shares=tuple(models), scales=tuple(scales), scores=tuple(scores))
    return intervals, prices


def mean_coverage(truth: Array, low: Array, high: Array) -> float:
    """The share of truths within their bounds."""
    covered: npt.NDArray[np.bool_] = (low <= truth) & (truth <= high)
    return float(covered.mean())
