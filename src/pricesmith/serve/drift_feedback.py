"""How quotes compare with what listings were sold for: MAE, bias and coverage, and tests against training time.

Feedback on one listing (the same `listing_hash`) is one group: intervals and tests resample groups. Holm's correction
keeps one level of 5 % over all tests of a report: the bias of all, of each category with enough listings, the MAE, and
the coverage.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pricesmith.metrics.bands import ALPHA, adjust_p_values, coverage_test
from pricesmith.metrics.bootstrap import Codes, Interval, bootstrap_interval, encode_groups
from pricesmith.metrics.metrics import Array, coverage
from pricesmith.pricers.conformal import LEVEL
from pricesmith.pricers.reference import Reference, ReferenceErrors
from pricesmith.serve.log_records import FeedbackRecord

MIN_SOLD = 30  # listings, for a judgement
RESAMPLES = 1_000


@dataclass(frozen=True)
class SoldBias:
    """How far quotes are from sold prices on a category ("" is all): the mean of log(quote / sold price) as a share,
    above 0 if quotes are too high.

    `low` to `high` is its 95 % interval, simultaneous over the categories. `reference` is the bias at training time, if
    it is known, and `p` the adjusted p-value of the difference from it, or from 0.
    """

    category: str
    listings: int
    share: float
    low: float | None
    high: float | None
    reference: float | None
    p: float | None

    @property
    def significant(self) -> bool:
        """Whether the bias differs from that at training time."""
        return self.p is not None and self.p < ALPHA


@dataclass(frozen=True)
class SoldMeasure:
    """MAE or coverage on sold listings, with its 95 % interval, its value at training time (for coverage: its nominal
    level) and the adjusted p-value of the difference."""

    point: float
    low: float | None
    high: float | None
    reference: float | None
    p: float | None

    @property
    def significant(self) -> bool:
        """Whether the value differs from that at training time."""
        return self.p is not None and self.p < ALPHA


@dataclass(frozen=True)
class SoldDrift:
    """Feedback on a model's quotes. `listings` counts different ones; `biases` starts with that of all listings and is
    empty below 30 listings.

    `other_model`, `other_currency` and `without_quote` count the feedback that was left out.
    """

    feedback: int
    listings: int
    other_model: int
    other_currency: int
    without_quote: int
    biases: tuple[SoldBias, ...] = ()
    mae: SoldMeasure | None = None
    coverage: SoldMeasure | None = None

    @property
    def alarm(self) -> bool:
        """Whether quotes are significantly worse than at training time, or biased."""
        worse = self.mae is not None and self.mae.significant and self.mae.point > (self.mae.reference or math.inf)
        missed = self.coverage is not None and self.coverage.significant
        return worse or missed or any(bias.significant for bias in self.biases)


def select_feedback(
    rows: Sequence[FeedbackRecord], identity: str, currency: str
) -> tuple[list[FeedbackRecord], Counter[str]]:
    """The sold prices of quotes of one model in its currency, and how many were left out for which reason."""
    chosen: list[FeedbackRecord] = []
    left_out: Counter[str] = Counter()
    for row in rows:
        if row.identity != identity:
            left_out["without_quote" if not row.identity and row.price is None else "other_model"] += 1
        elif row.price is None or not row.price > 0:
            left_out["without_quote"] += 1
        elif row.currency != currency or row.quote_currency not in ("", currency):
            left_out["other_currency"] += 1
        else:
            chosen.append(row)
    return chosen, left_out


def measure_feedback(
    rows: Sequence[FeedbackRecord], identity: str, currency: str, reference: Reference | None
) -> SoldDrift:
    """What sold prices say about a model's quotes."""
    chosen, left_out = select_feedback(rows, identity, currency)
    codes = encode_groups([row.listing_hash or row.feedback_id for row in chosen])
    listings = int(codes.max()) + 1 if len(codes) else 0
    counted = SoldDrift(
        len(chosen), listings, left_out["other_model"], left_out["other_currency"], left_out["without_quote"]
    )
    if listings < MIN_SOLD:
        return counted
    prices = np.array([row.price for row in chosen], dtype=np.float64)
    sold = np.array([row.sold_price for row in chosen], dtype=np.float64)
    residuals = np.log(prices) - np.log(sold)
    biases = measure_biases(residuals, codes, [row.category for row in chosen], reference)
    mae = measure_mae(np.abs(prices - sold), codes, reference)
    covered = measure_coverage(chosen, sold, codes, reference.level if reference else LEVEL)
    tests = [*(bias.p for bias in biases), mae.p, covered.p if covered else None]
    adjusted = adjust_p_values(tests)
    return replace(
        counted,
        biases=tuple(replace(bias, p=p) for bias, p in zip(biases, adjusted, strict=False)),
        mae=replace(mae, p=adjusted[-2]),
        coverage=replace(covered, p=adjusted[-1]) if covered else None,
    )


def measure_biases(
    residuals: Array, codes: Codes, categories: Sequence[str], reference: Reference | None
) -> list[SoldBias]:
    """The bias of all listings, and of each category with at least 30; p-values are not adjusted yet."""
    names = np.array(categories, dtype=object)
    masks = {name: names == name for name in sorted(set(categories)) if name}
    enough = {name: mask for name, mask in masks.items() if len(np.unique(codes[mask])) >= MIN_SOLD}
    confidence = 1 - 0.05 / max(1, len(enough))
    known = {name.casefold(): errors for name, errors in reference.categories.items()} if reference else {}
    everything = reference.errors if reference else None
    whole = bootstrap_interval(residuals, codes, resamples=RESAMPLES)
    biases = [to_bias("", whole, everything)]
    for name, mask in enough.items():
        part = encode_groups(codes[mask].tolist())
        interval = bootstrap_interval(residuals[mask], part, confidence=confidence, resamples=RESAMPLES)
        biases.append(to_bias(name, interval, known.get(name.casefold(), everything)))
    return biases


def to_bias(category: str, interval: Interval, errors: ReferenceErrors | None) -> SoldBias:
    """An interval of log ratios as shares, with its test."""
    before, before_se = (errors.bias, errors.bias_se) if errors else (0.0, 0.0)
    low, high = (None if end is None else math.expm1(end) for end in (interval.low, interval.high))
    p = difference_p(interval.point - before, interval.se, before_se, interval.groups)
    reference = math.expm1(errors.bias) if errors else None
    return SoldBias(category, interval.groups, math.expm1(interval.point), low, high, reference, p)


def difference_p(difference: float, se: float | None, reference_se: float, groups: int) -> float | None:
    """The two-sided p-value of a difference from training time; None without a standard error."""
    from scipy import stats

    spread = math.hypot(se or 0.0, reference_se)
    return float(2 * stats.t.sf(abs(difference) / spread, groups - 1)) if spread > 0 else None


def measure_mae(errors: Array, codes: Codes, reference: Reference | None) -> SoldMeasure:
    """The MAE; its p-value, not adjusted yet, is of the ratio to the MAE at training time."""
    interval = bootstrap_interval(errors, codes, resamples=RESAMPLES)
    p, before = None, reference.errors if reference else None
    if before is not None and before.mae > 0 and interval.point > 0 and interval.se:
        relative = interval.se / interval.point
        p = difference_p(math.log(interval.point / before.mae), relative, before.mae_se / before.mae, interval.groups)
    return SoldMeasure(interval.point, interval.low, interval.high, before.mae if before else None, p)


def measure_coverage(rows: Sequence[FeedbackRecord], sold: Array, codes: Codes, level: float) -> SoldMeasure | None:
    """How often sold prices are inside the intervals; None unless at least 30 listings have one."""
    low, high = (
        np.array([np.nan if value is None else value for value in values], dtype=np.float64)
        for values in ([row.low for row in rows], [row.high for row in rows])
    )
    bounded = np.isfinite(low) & np.isfinite(high)
    if len(np.unique(codes[bounded])) < MIN_SOLD:
        return None
    part, inside = encode_groups(codes[bounded].tolist()), coverage(sold[bounded], low[bounded], high[bounded])
    interval = bootstrap_interval(inside, part, share=True, resamples=RESAMPLES)
    return SoldMeasure(interval.point, interval.low, interval.high, level, coverage_test(inside, part, level).p)
