"""The share of each member in a hybrid price, as a function of what is known about a listing.

    model = fit_shares(inputs, truths, groups)
    model.combine(inputs)                                     # prices [n]

The price is the mean of the members' prices, weighted by a softmax of linear functions of the log quote of the first
member, the width of its interval, how far the other members are from it, and the category (a mixture of experts with a
linear gate: Jacobs et al. 1991). The weights minimize the mean of the absolute error in money and on the log scale,
with a ridge penalty that shrinks the slopes towards 0, that is, towards constant shares. Its strength is chosen by
cross-validation over near-duplicate groups; constant shares are one of the candidates, and the only one if few listings
are answered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from pricesmith.core.settings import Settings
from pricesmith.core.types import Listing, Quote

PENALTIES = (0.003, 0.01, 0.03, 0.1)  # of the squared slopes; constant shares are one more candidate
FOLDS = 10
REPEATS = 3  # of the cross-validation that chooses the penalty
MIN_SLOPES = 60  # answered listings; with fewer, shares are constant
MIN_CATEGORY = 30  # answered listings of a category that has a slope of its own
CONSTANT_PENALTY = 0.001  # keeps the shares of members that always agree finite
SMOOTH = 0.02  # the absolute error is smooth within this share of the median price
SLACK = 0.002  # a weaker penalty must be better by this share of the error
Array = npt.NDArray[np.float64]
Finite = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True)
class HybridInputs:
    """What the members said about n listings: `prices` [n, members] in money, NaN if unanswered; `width` [n], the log
    of the interval's upper end over the lower one of the first member, NaN if it has none; `category` of each
    listing."""

    prices: Array
    width: Array
    category: tuple[str, ...]

    @classmethod
    def build(cls, listings: Sequence[Listing], quotes: Sequence[Sequence[Quote]]) -> HybridInputs:
        """The inputs from each member's quotes of the listings."""
        prices = np.array([[np.nan if quote.price is None else quote.price for quote in row] for row in quotes]).T
        width = [np.log(quote.high / quote.low) if quote.low and quote.high else np.nan for quote in quotes[0]]
        category = tuple(listing.category for listing in listings)
        return cls(prices.reshape(len(listings), len(quotes)), np.array(width, dtype=np.float64), category)

    @property
    def complete(self) -> npt.NDArray[np.bool_]:
        """Whether all members answered [n]."""
        return np.asarray(np.isfinite(self.prices).all(axis=1), dtype=np.bool_)

    def rows(self, which: npt.NDArray[np.bool_]) -> HybridInputs:
        """The inputs of some listings."""
        category = tuple(name for name, take in zip(self.category, which, strict=True) if take)
        return HybridInputs(self.prices[which], self.width[which], category)


class ShareModel(Settings):
    """Shares of M members: `constant` [M - 1] and `slopes` [M - 1, features] of the softmax's scores; the first
    member's score is 0. Features are standardized by `mean` and `scale`; `categories` have a feature each. `penalty`
    is None for constant shares; `rows` is the number of listings that it was fitted on."""

    constant: tuple[Finite, ...] = Field(min_length=1)
    slopes: tuple[tuple[Finite, ...], ...]
    mean: tuple[Finite, ...]
    scale: tuple[Annotated[float, Field(gt=0)], ...]
    categories: tuple[str, ...] = ()
    typical_width: Finite = 0.0
    penalty: float | None = None
    rows: int = Field(0, ge=0)

    @property
    def members(self) -> int:
        """The number of members, the first one included."""
        return len(self.constant) + 1

    @model_validator(mode="after")
    def check_features(self) -> ShareModel:
        """Raise ValueError unless each member but the first has a slope for each feature."""
        count = 2 + 2 * len(self.constant) + len(self.categories)
        lengths = {len(self.mean), len(self.scale), *(len(row) for row in self.slopes)}
        if len(self.slopes) != len(self.constant) or lengths != {count}:
            raise ValueError(f"{count} slopes for each of {len(self.constant)} members")
        return self

    def shares(self, inputs: HybridInputs) -> Array:
        """The shares [n, M], which sum to 1; a member that did not answer has none; NaN if no member answered."""
        table = (features(inputs, self.categories, self.typical_width) - np.array(self.mean)) / np.array(self.scale)
        scores = np.array(self.constant) + table @ np.array(self.slopes).reshape(len(self.constant), -1).T
        return softmax_answered(np.column_stack([np.zeros(len(table)), scores]), np.isfinite(inputs.prices))

    def combine(self, inputs: HybridInputs) -> Array:
        """The hybrid prices [n]; NaN if no member answered."""
        shares = self.shares(inputs)
        return np.asarray((np.where(np.isfinite(inputs.prices), inputs.prices, 0.0) * shares).sum(axis=1))


def softmax_answered(scores: Array, answered: npt.NDArray[np.bool_]) -> Array:
    """The softmax [n, M] over the members that answered; NaN in a row without any."""
    scores = np.where(answered, scores, -np.inf)
    highest = np.where(answered.any(axis=1), scores.max(axis=1), 0.0)
    weights = np.exp(scores - highest[:, None])
    with np.errstate(invalid="ignore"):
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def features(inputs: HybridInputs, categories: Sequence[str], typical_width: float) -> Array:
    """The features [n, 2 + 2 (M - 1) + categories]: the log quote of the first member, the width of its interval, the
    signed and absolute log distance of each other member, and the category. Unknown values are neutral."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(inputs.prices)
    answered = np.isfinite(logs)
    mean = np.where(answered, logs, 0.0).sum(axis=1) / np.maximum(answered.sum(axis=1), 1)
    first = np.where(answered[:, 0], logs[:, 0], mean)
    distance = np.nan_to_num(logs[:, 1:] - first[:, None])
    width = np.where(np.isfinite(inputs.width), inputs.width, typical_width)
    labels = np.array(inputs.category, dtype=object)
    columns = [(labels == name).astype(np.float64) for name in categories]
    return np.column_stack([first, width, distance, np.abs(distance), *columns])


def frequent_categories(category: Sequence[str]) -> tuple[str, ...]:
    """The categories with enough listings for a slope of their own, without the empty one."""
    counts = Counter(name for name in category if name)
    return tuple(sorted(name for name, count in counts.items() if count >= MIN_CATEGORY))


def fit_with_penalty(inputs: HybridInputs, truth: Array, penalty: float | None) -> ShareModel:
    """The shares with a given penalty; None: constant shares. Listings with an unanswered member are ignored.

    Equal shares if no listing is answered by all members.
    """
    from scipy.optimize import minimize

    inputs, truth = inputs.rows(inputs.complete), truth[inputs.complete]
    members = inputs.prices.shape[1] - 1
    categories = frequent_categories(inputs.category)
    known = inputs.width[np.isfinite(inputs.width)]
    typical = float(np.median(known)) if len(known) else 0.0
    if not len(truth):
        count = 2 + 2 * members
        return ShareModel(
            constant=(0.0,) * members, slopes=((0.0,) * count,) * members, mean=(0.0,) * count, scale=(1.0,) * count
        )
    table = features(inputs, categories, typical)
    mean, scale = table.mean(axis=0), table.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    columns = np.column_stack([np.ones(len(table)), (table - mean) / scale])
    if penalty is None:
        columns = columns[:, :1]
    loss = ShareLoss(columns, inputs.prices, truth, penalty or 0.0)
    solution = minimize(loss, np.zeros(members * columns.shape[1]), jac=True, method="L-BFGS-B")
    weights = solution.x.reshape(members, -1)
    slopes = weights[:, 1:] if penalty is not None else np.zeros((members, table.shape[1]))
    return ShareModel(
        constant=tuple(weights[:, 0].tolist()),
        slopes=tuple(tuple(row) for row in slopes.tolist()),
        mean=tuple(mean.tolist()),
        scale=tuple(scale.tolist()),
        categories=categories,
        typical_width=typical,
        penalty=penalty,
        rows=len(truth),
    )


@dataclass(frozen=True)
class ShareLoss:
    """The loss of the weights of a softmax over members, and its gradient: the smoothed absolute error, half of it in
    units of the median price and half on the log scale, plus the penalty. `columns` is [n, features] with a first
    column of ones, `prices` [n, M]."""

    columns: Array
    prices: Array
    truth: Array
    penalty: float

    @cached_property
    def by_member(self) -> Array:
        """The prices [M, n]: sums over the first axis are several times as fast."""
        return np.ascontiguousarray(self.prices.T)

    @cached_property
    def unit(self) -> float:
        """The median price."""
        return float(np.median(self.truth))

    def __call__(self, weights: Array) -> tuple[float, Array]:
        matrix = weights.reshape(len(self.by_member) - 1, -1)
        scores = np.zeros_like(self.by_member)
        np.dot(matrix, self.columns.T, out=scores[1:])
        shares = np.exp(scores - scores.max(axis=0))
        shares /= shares.sum(axis=0)
        price = (shares * self.by_member).sum(axis=0)
        money, log = (price - self.truth) / self.unit, np.log(price / self.truth)
        smooth_money, smooth_log = np.hypot(money, SMOOTH), np.hypot(log, SMOOTH)
        loss = 0.5 * (smooth_money.sum() + smooth_log.sum()) / len(price)
        slope = 0.5 * (money / smooth_money / self.unit + log / smooth_log / price) / len(price)
        by_score = shares[1:] * (self.by_member[1:] - price) * slope
        gradient = by_score @ self.columns
        loss += self.penalty * float((matrix[:, 1:] ** 2).sum()) + CONSTANT_PENALTY * float((matrix[:, 0] ** 2).sum())
        gradient[:, 1:] += 2 * self.penalty * matrix[:, 1:]
        gradient[:, 0] += 2 * CONSTANT_PENALTY * matrix[:, 0]
        return float(loss), gradient.ravel()


def choose_penalty(inputs: HybridInputs, truth: Array, groups: Sequence[str]) -> float | None:
    """The penalty with the lowest MAE in repeated cross-validation; None (constant shares) with few answered listings,
    or if no slopes lower the error by more than `SLACK`."""
    if int(inputs.complete.sum()) < MIN_SLOPES:
        return None
    folds = [group_folds(groups, seed=seed + 1) for seed in range(REPEATS)]

    def mean_error(penalty: float | None) -> float:
        return float(
            np.mean([np.nanmean(np.abs(cross_fitted(inputs, truth, fold, penalty) - truth)) for fold in folds])
        )

    errors = {penalty: mean_error(penalty) for penalty in (None, *sorted(PENALTIES, reverse=True))}
    best: float | None = None
    for penalty, error in errors.items():  # from the strongest to the weakest
        if error < errors[best] * (1 - SLACK):
            best = penalty
    return best


def fit_shares(inputs: HybridInputs, truth: Array, groups: Sequence[str]) -> ShareModel:
    """The shares fitted on listings with true prices [n] and their near-duplicate groups."""
    return fit_with_penalty(inputs, truth, choose_penalty(inputs, truth, groups))


def cross_fitted(inputs: HybridInputs, truth: Array, fold: npt.NDArray[np.int64], penalty: float | None) -> Array:
    """The hybrid price of each listing [n] by shares that were fitted without its fold."""
    return combine_folds(fit_folds(inputs, truth, fold, penalty), inputs, fold)


def fit_folds(
    inputs: HybridInputs, truth: Array, fold: npt.NDArray[np.int64], penalty: float | None
) -> list[ShareModel]:
    """The shares fitted without each fold."""
    return [
        fit_with_penalty(inputs.rows(fold != number), truth[fold != number], penalty) for number in range(n_folds(fold))
    ]


def combine_folds(models: Sequence[ShareModel], inputs: HybridInputs, fold: npt.NDArray[np.int64]) -> Array:
    """The price of each listing [n] by the shares of its fold."""
    prices = np.full(len(fold), np.nan)
    for number, model in enumerate(models):
        prices[fold == number] = model.combine(inputs.rows(fold == number))
    return prices


def n_folds(fold: npt.NDArray[np.int64]) -> int:
    return int(fold.max()) + 1 if len(fold) else 0


def group_folds(groups: Sequence[str], count: int = FOLDS, seed: int = 0) -> npt.NDArray[np.int64]:
    """The fold of each listing [n], at most `count`; a near-duplicate group is in one fold, whatever the order of
    rows."""
    names, group = np.unique(np.array(groups, dtype=object).astype(str), return_inverse=True)
    places = np.random.default_rng(seed).permutation(len(names))
    return np.asarray(places[group] % min(count, max(1, len(names))), dtype=np.int64)
