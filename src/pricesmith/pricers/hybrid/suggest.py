"""How many answers of an API model to buy for a hybrid, about which listings, at what cost, and for what gain.

    order = asking_order(items, groups)                  the order in which `fit blend` and `fit cascade` ask
    costs = estimate_costs(pricer, listings)             of these listings, in that order; nothing is sent
    curve = measure_curve(answers, price_range)          the MAE by the number of answers, from those that exist
    choose_count(rows, curve, costs.n_free)              the number to have

The curve: hybrids are fitted on random subsets of the answered validation listings and scored on the other ones, and
MAE(n) = floor + slope / n is fitted by least squares. Each score is corrected by how hard its listings are for the
hybrid of all answers (a control variate, which leaves the mean as it is): otherwise most of the variance would come
from which listings are scored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.types import Item, Listing
from pricesmith.pricers.api.estimate import estimate_output_tokens, estimate_tokens
from pricesmith.pricers.api.eval_report import CHUNK
from pricesmith.pricers.api.pricer import ApiPricer
from pricesmith.pricers.hybrid.model import Answers, draw_key
from pricesmith.pricers.hybrid.shares import HybridInputs, ShareModel, fit_shares

FIRST_COUNT = 50  # the least number of answers in tables; the others are its doublings
SMALL_COUNT = 25  # the least subset of few answers, so that there are two points for the curve
MIN_MEASURED = 60  # answers below which no gain is measured
FIRST_PURCHASE = 100  # answers to buy if no gain is measured
MAX_SHARES = (0.5, 0.9)  # of the answers in a subset, the other ones are scored; larger subsets share most answers
REPEATS = 10  # random subsets of each size

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class AskingCosts:
    """What asking about listings [n] costs, in the order of asking. `cached`: their answers cost nothing; `usd` and
    `worst_usd` are the estimated and the highest US dollars of the others' requests, NaN if unknown."""

    cached: Mask
    usd: Array
    worst_usd: Array

    @property
    def n_free(self) -> int:
        """How many answers a fit can have without a request: the first ones that are cached."""
        return len(self.cached) if self.cached.all() else int(np.argmin(self.cached))


@dataclass(frozen=True)
class CostRow:
    """What the first `answers` listings cost: how many are `cached`, new `requests`, US dollars (None: unknown)."""

    answers: int
    cached: int
    requests: int
    usd: float | None
    worst_usd: float | None


@dataclass(frozen=True)
class SubsetScore:
    """The mean MAE of hybrids fitted on `subsets` random subsets of `answers` answers, and their standard deviation."""

    answers: int
    mae: float
    sd: float
    subsets: int


@dataclass(frozen=True)
class GainCurve:
    """The MAE of a hybrid by its number of answers: `floor` + `slope` / n, fitted on the `points`.

    `answers` exist; `own_mae` and `api_mae` are the members' MAE on their listings. Amounts are in the catalog's
    currency.
    """

    answers: int
    own_mae: float
    api_mae: float
    points: tuple[SubsetScore, ...]
    floor: float
    slope: float

    @property
    def noise(self) -> float:
        """The standard deviation between the largest subsets: how much depends on which listings are asked about."""
        return self.points[-1].sd

    def expected_mae(self, count: int) -> float:
        """The expected MAE of a hybrid that is fitted on `count` answers."""
        return self.floor + self.slope / count

    def expected_gain(self, count: int) -> float:
        """How much lower the MAE with `count` answers is expected to be than with those that exist."""
        return self.expected_mae(self.answers) - self.expected_mae(count)


def asking_order(items: Sequence[Item], groups: Sequence[str]) -> list[int]:
    """The rows in the order in which a fit asks an API model about them: with n_answers=N, about the first N."""
    return sorted(range(len(items)), key=lambda row: draw_key(groups[row], items[row].listing.id))


def estimate_costs(pricer: ApiPricer, listings: Sequence[Listing]) -> AskingCosts:
    """What asking an API model about listings costs. A reply to the same question about an earlier listing is free."""
    known: set[str] = set()
    cached, tokens, worst = [], [], []
    for start in range(0, len(listings), CHUNK):
        requests = pricer.requests(listings[start : start + CHUNK])
        known.update(pricer.cache.find(request.key for request in requests))
        for request in requests:
            cached.append(request.key in known)
            known.add(request.key)
            tokens.append(sum(estimate_tokens(message["content"]) for message in request.messages))
            worst.append(request.worst)
    price, free = pricer.price_today(), np.array(cached, dtype=np.bool_)
    if price is None:
        unknown = np.where(free, 0.0, np.nan)
        return AskingCosts(free, unknown, unknown)
    tokens_out = estimate_output_tokens(pricer).tokens
    usd = (np.array(tokens) * price.input + tokens_out * price.output) / 1e6
    return AskingCosts(free, np.where(free, 0.0, usd), np.where(free, 0.0, np.array(worst)))


def answer_counts(n_listings: int, wanted: int | None = None) -> list[int]:
    """The numbers of answers to compare: 50, 100, 200, ... up to all listings, and the wanted one."""
    counts = {n_listings} | ({wanted} if wanted is not None else set())
    count = FIRST_COUNT
    while count < n_listings:
        counts.add(count)
        count *= 2
    return sorted(counts)


def cost_rows(costs: AskingCosts, counts: Sequence[int]) -> list[CostRow]:
    """What the first listings cost, for each of the counts."""
    return [
        CostRow(
            count,
            n_cached := int(costs.cached[:count].sum()),
            count - n_cached,
            known_or_none(float(costs.usd[:count].sum())),
            known_or_none(float(costs.worst_usd[:count].sum())),
        )
        for count in counts
    ]


def known_or_none(value: float) -> float | None:
    """A number, or None for NaN."""
    return None if math.isnan(value) else value


def subset_sizes(n_answers: int) -> list[int]:
    """The sizes of random subsets of the answers: 50, 100, 200, ..., and 25 if only one of these is small enough."""
    for share in MAX_SHARES:
        sizes = [size for size in answer_counts(n_answers) if size <= share * n_answers]
        if len(sizes) > 1:
            return sizes
    return [SMALL_COUNT, *sizes]


def measure_curve(
    answers: Answers,
    price_range: tuple[float, float],
    *,
    repeats: int = REPEATS,
    seed: int = 0,
    progress: Progress = SILENT,
) -> GainCurve | None:
    """The curve of the answers that exist, those with a price by all members; None if they are too few.

    `answers` has two members, and prices are clipped to `price_range`, as those of a hybrid are.
    """
    inputs = answers.inputs
    complete = inputs.complete
    if int(complete.sum()) < MIN_MEASURED:
        return None
    rows = np.array(answers.asked, dtype=np.int64)[complete]
    inputs, truth = inputs.rows(complete), answers.truth[rows]
    groups = [answers.groups[row] for row in rows]
    own_mae, api_mae = np.abs(np.clip(inputs.prices, *price_range) - truth[:, None]).mean(axis=0).tolist()
    reference = hybrid_errors(fit_shares(inputs, truth, groups), inputs, truth, price_range)
    sizes = subset_sizes(len(rows))
    progress.start("measuring the gain of more answers", len(sizes) * repeats)
    draws = np.random.default_rng(seed)
    scores = np.empty((len(sizes), repeats))
    for size_row, size in enumerate(sizes):
        for repeat in range(repeats):
            inside = np.zeros(len(rows), dtype=np.bool_)
            inside[draws.permutation(len(rows))[:size]] = True
            inside_groups = [group for group, take in zip(groups, inside, strict=True) if take]
            shares = fit_shares(inputs.rows(inside), truth[inside], inside_groups)
            errors = hybrid_errors(shares, inputs.rows(~inside), truth[~inside], price_range)
            scores[size_row, repeat] = (errors - reference[~inside]).mean() + reference.mean()
            progress.advance()
    floor, slope = fit_curve(np.repeat(sizes, repeats), scores.ravel())
    points = tuple(
        SubsetScore(size, float(row.mean()), float(row.std(ddof=1)), repeats)
        for size, row in zip(sizes, scores, strict=True)
    )
    return GainCurve(len(rows), own_mae, api_mae, points, floor, slope)


def hybrid_errors(shares: ShareModel, inputs: HybridInputs, truth: Array, price_range: tuple[float, float]) -> Array:
    """The absolute errors [n] of hybrid prices."""
    return np.asarray(np.abs(np.clip(shares.combine(inputs), *price_range) - truth))


def fit_curve(counts: npt.NDArray[np.int64], scores: Array) -> tuple[float, float]:
    """Floor and slope of MAE(n) = floor + slope / n by least squares; the slope is not negative."""
    inverse = 1.0 / counts
    centered = inverse - inverse.mean()
    slope = max(0.0, float((centered * (scores - scores.mean())).sum() / (centered**2).sum()))
    return float(scores.mean() - slope * inverse.mean()), slope


def is_worthwhile(row: CostRow, curve: GainCurve) -> bool:
    """Whether a number of answers lowers the expected MAE by more than the noise."""
    return row.requests > 0 and row.answers > curve.answers and curve.expected_gain(row.answers) > curve.noise


def choose_count(rows: Sequence[CostRow], curve: GainCurve | None, n_free: int) -> int:
    """The number of answers to have: without a curve the first purchase; with one, the least number with a gain above
    the noise, or, if there is none, as many as cost nothing."""
    n_listings = rows[-1].answers
    if curve is None:
        return min(FIRST_PURCHASE, n_listings)
    for row in rows:
        if is_worthwhile(row, curve):
            return row.answers
    return n_free if n_free >= FIRST_COUNT else min(curve.answers, n_listings)
