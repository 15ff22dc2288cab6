"""How unusual an asked price is: p-values of its distance from a model's quote.

    scores = log_scores(quotes, prices, price_range)  # signed, in half-widths of the interval
    errors = ErrorSample.from_scores(scores, groups)
    errors.p_values(new_scores)                      # conformal
    errors.tail_p_values(new_scores)                 # conformal, with a fitted tail

The score of a price is log price - log quote in units of the half-width of the quote's interval on that side: below -1
or above 1 it is outside the interval. So scores of precise and of vague quotes can be compared.

**Conformal p-value.** The share of held-out prices with a score at least as far from 0, the price itself counted: p =
(1 + W) / (1 + n), where n is the number of near-duplicate groups and W the number of those with a score as far from 0;
a group of k listings counts 1/k for each (Lee, Barber & Willett 2023, "Distribution-free inference with hierarchical
data"). If the price is exchangeable with the held-out ones, P(p <= t) <= t for every t; ties only make p larger. It is
never below 1 / (1 + n).

**Fitted tail.** Held-out prices of the same shop contain wrong prices too, at the same rate, and these make every wrong
price look usual: with conformal p-values alone, nothing would be found at a false discovery rate of 10 %, unless the
held-out prices were ten times cleaner than the audited ones. So beyond the interval p is read from an exponential
distribution of the scores there, which is a power law of prices. The `MAX_WRONG_SHARE` of farthest scores is censored:
its number counts, its distances do not. With k uncensored scores and a total T of all distances beyond the interval,
p = mass (T / (T + y))^k for a price y beyond it: exact for an exponential tail, also from few scores (2 T times the
rate is chi-squared with 2 k degrees of freedom). That right prices have such a tail is an assumption, which no data
without checked prices can prove; benchmarks/audit.py shows what comes of it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pricesmith.core.types import Quote
from pricesmith.metrics.metrics import Array
from pricesmith.pricers.conformal import MIN_HALF_WIDTH
from pricesmith.text.currency import minor_digits
from pricesmith.text.formatting import format_money

MAX_WRONG_SHARE = 0.02  # share of held-out prices that may be wrong: their distances do not shape the tail
TAIL_START = 1.0  # scores beyond the interval are the tail
MIN_TAIL = 20  # groups in the tail: with fewer beyond the interval it begins inside; fewer than twice as many have none
OVER, UNDER, PLAUSIBLE = "over", "under", "plausible"
FACTORS = {10.0: "10 times", 100.0: "100 times", 0.1: "a tenth of", 0.01: "a hundredth of"}
SWAPPED = "two digits exchanged:"


@dataclass(frozen=True)
class Tail:
    """An exponential distribution of scores beyond `start`: the share of scores there (`mass`), the weight of those
    whose distance counts (`events`), and the total distance of all of them beyond `start`."""

    start: float
    mass: float
    events: float
    total: float

    def survival(self, distances: Array) -> Array:
        """The p-value of scores at these distances [n] from 0, all at least `start`."""
        return np.asarray(self.mass * np.exp(-self.events * np.log1p((distances - self.start) / self.total)))


@dataclass(frozen=True)
class ErrorSample:
    """Distances from 0 of held-out scores [n], smallest first, and the weight of each [n]: one for every group."""

    distances: Array
    weights: Array

    @classmethod
    def from_scores(cls, scores: Array, groups: Sequence[str]) -> ErrorSample:
        """The sample of scores [n] with their near-duplicate groups; scores that are NaN are left out."""
        known = np.flatnonzero(np.isfinite(scores)).tolist()
        sizes = Counter(groups[place] for place in known)
        weights = np.array([1 / sizes[groups[place]] for place in known], dtype=np.float64)
        distances = np.abs(scores[known])
        order = np.argsort(distances, kind="stable")
        return cls(distances[order], weights[order])

    @property
    def total(self) -> float:
        """The number of near-duplicate groups."""
        return float(self.weights.sum())

    def weight_beyond(self, distances: Array) -> Array:
        """The weight of held-out scores at least as far from 0 as each distance [n]."""
        sums = np.concatenate([np.cumsum(self.weights[::-1])[::-1], [0.0]])
        return np.asarray(sums[np.searchsorted(self.distances, distances, side="left")])

    def p_values(self, scores: Array) -> Array:
        """The conformal p-value of each score [n]; NaN for a score that is NaN."""
        distances = np.abs(scores)
        p = np.minimum(1.0, (1 + self.weight_beyond(distances)) / (1 + self.total))
        return np.where(np.isfinite(distances), p, np.nan)

    def fit_tail(self, max_wrong_share: float = MAX_WRONG_SHARE) -> Tail | None:
        """The tail of the scores; None with fewer than twice `MIN_TAIL` groups, or if all scores there are equal."""
        if self.total < 2 * MIN_TAIL:
            return None
        beyond = np.cumsum(self.weights[::-1])[::-1]  # of each score, the weight at least as far
        start = min(TAIL_START, float(self.distances[beyond >= MIN_TAIL].max()))
        inside = self.distances > start
        excess, weights = self.distances[inside] - start, self.weights[inside]
        trusted = beyond[inside] > min(max_wrong_share * self.total, weights.sum() / 2)
        if not trusted.any():
            return None
        total = float(np.minimum(excess, excess[trusted].max()) @ weights)
        mass = (1 + float(weights.sum())) / (1 + self.total)
        return Tail(start, mass, float(weights[trusted].sum()), total)

    def tail_p_values(self, scores: Array, max_wrong_share: float = MAX_WRONG_SHARE) -> Array:
        """The p-value of each score [n]: conformal, and read from the fitted tail where it begins; NaN stays NaN.

        Without a tail all are conformal.
        """
        p, tail = self.p_values(scores), self.fit_tail(max_wrong_share)
        if tail is None:
            return p
        beyond = np.flatnonzero(np.abs(scores) > tail.start)
        p[beyond] = tail.survival(np.abs(scores[beyond]))
        return p

    def find_p_values(self, scores: Array, kind: str, max_wrong_share: float) -> Array:
        """The p-values [n] of a kind, `tail` or `conformal`."""
        return self.tail_p_values(scores, max_wrong_share) if kind == "tail" else self.p_values(scores)


def log_scores(quotes: Sequence[Quote], prices: Sequence[float | None], price_range: tuple[float, float]) -> Array:
    """The signed score of each price [n]; NaN without a price, a quote or an interval.

    An end of an interval that was clipped to the catalog's price range says nothing about the quote's precision: the
    half-width on that side is then at least that of the other side.
    """
    scores = np.full(len(quotes), np.nan)
    for place, (quote, price) in enumerate(zip(quotes, prices, strict=True)):
        if not (price and quote.price and quote.low and quote.high):
            continue
        here = math.log(quote.price)
        below, above = here - math.log(quote.low), math.log(quote.high) - here
        if quote.low <= price_range[0]:
            below = max(below, above)
        if quote.high >= price_range[1]:
            above = max(below, above)
        distance = math.log(price) - here
        scores[place] = distance / max(below if distance < 0 else above, MIN_HALF_WIDTH)
    return scores


def assess_prices(scores: Array, adjusted: Array, fdr: float) -> list[str]:
    """`over`, `under` or `plausible` for each price [n] by its score and its adjusted p-value; empty without one."""
    names = np.where(scores > 0, OVER, UNDER)
    chosen = np.where(adjusted <= fdr, names, PLAUSIBLE)
    return [str(name) for name in np.where(np.isfinite(adjusted), chosen, "")]


def suggest_error(price: float, quote: Quote, currency: str) -> str:
    """What may have gone wrong if the price is outside the interval and a usual slip would put it inside; else empty.

    Of several slips the one with the price nearest to the quote is named. Without a decimal point, cents are lost and
    the price is 100 times too high. Two digits side by side are considered only if no factor explains the price.
    """
    if not (quote.price and quote.low and quote.high) or quote.low <= price <= quote.high:
        return ""
    slips = [(name, price / factor) for factor, name in FACTORS.items()]
    right = [slip for slip in slips if quote.low <= slip[1] <= quote.high]
    if not right:
        swapped = [(SWAPPED, value) for value in swap_digits(price, minor_digits(currency))]
        right = [slip for slip in swapped if quote.low <= slip[1] <= quote.high]
    if not right:
        return ""
    here = math.log(quote.price)
    name, value = min(right, key=lambda slip: abs(math.log(slip[1]) - here))
    return f"{name} {format_money(value, currency)}"


def swap_digits(price: float, digits: int) -> list[float]:
    """The prices from which this one is made by exchanging two digits side by side."""
    text = f"{round(price * 10**digits)}"
    swaps = [text[:place] + text[place + 1] + text[place] + text[place + 2 :] for place in range(len(text) - 1)]
    return [int(swap) / 10**digits for swap in dict.fromkeys(swaps) if swap != text and swap[0] != "0"]
