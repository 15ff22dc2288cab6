"""Compare two pricers on their common items: the paired difference, with an interval that resamples groups.

difference = compare(a, b, "MAE")
difference.is_significant, difference.better, difference.n_needed

`compare_simultaneously` compares many pairs at once, with simultaneous confidence intervals. `breakdown_by_price` and
`breakdown_by_category` compare two pricers band by band. A table shows many bands, so its 95 % intervals are
simultaneous: Bonferroni, because bands share no items and a max-t correction would gain nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.types import Evaluation
from pricesmith.evaluation.evaluate import EvalArrays, to_arrays
from pricesmith.evaluation.results import Evals
from pricesmith.metrics.bands import Mask, category_masks, price_edges, price_masks
from pricesmith.metrics.bootstrap import (
    MIN_GROUPS,
    RESAMPLES,
    Codes,
    Interval,
    bootstrap_interval,
    encode_groups,
    simultaneous_intervals,
)
from pricesmith.metrics.metrics import METRICS, Array, Metric, get_metric

POWER = 0.80
CONFIDENCE = 0.95  # of all bands of a breakdown together
SAME = 1e-6  # relative; quotes that differ by less are equal: the same pricer repeats a quote to this precision


@dataclass(frozen=True, repr=False)
class Difference:
    """The difference of two pricers on their common items: `a_value` - `b_value`, in the metric's unit.

    `is_significant` is True if the interval excludes 0; then `better` is the name of the better one. `n_needed` is
    the sample size, in groups of the same sizes, that has 80 % power to detect the observed difference; None if the
    observed difference is 0. `low` and `high` are None below 5 common groups.
    """

    metric: str
    unit: str
    a: str
    b: str
    n: int
    groups: int
    a_value: float
    b_value: float
    difference: float
    low: float | None
    high: float | None
    is_significant: bool
    better: str | None
    n_needed: int | None
    confidence: float = 0.95

    @property
    def conclusion(self) -> str:
        """Which pricer is better, or that the difference is not significant."""
        if self.better is not None:
            return f"{self.better} is better"
        needed = f", {self.n_needed:,} items would be needed" if self.n_needed is not None else ""
        return f"no significant difference{needed}"

    def __repr__(self) -> str:
        return f"Difference({self.metric}: {self.a} - {self.b} = {self.format_interval()}; {self.conclusion})"

    def _repr_html_(self) -> str:
        """The difference as a table, for notebooks."""
        from pricesmith.core.tables import html_facts

        facts = {
            self.a: f"{self.a_value:,.4g}",
            self.b: f"{self.b_value:,.4g}",
            "difference": self.format_interval(),
            "items": f"{self.n:,} in {self.groups:,} near-duplicate groups",
            "conclusion": self.conclusion,
        }
        return html_facts(f"{self.metric}: {self.a} - {self.b}", facts)

    def format_interval(self) -> str:
        """The difference with its confidence interval."""
        if self.low is None or self.high is None:
            return f"{self.difference:,.4g} (too few groups for an interval)"
        level = f"{100 * self.confidence:.3g} % CI"
        return f"{self.difference:,.4g} [{level}: {self.low:,.4g} to {self.high:,.4g}]"

    def mirrored(self) -> Difference:
        """The difference `b` - `a`."""
        low, high = (None if end is None else -end for end in (self.high, self.low))
        return replace(
            self, a=self.b, b=self.a, a_value=self.b_value, b_value=self.a_value, difference=-self.difference,
            low=low, high=high,
        )  # fmt: skip


def compare(
    a: Evaluation | EvalArrays,
    b: Evaluation | EvalArrays,
    metric: Metric | str = "MAE",
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """The paired difference of two evaluations on their common items; unanswered items are charged at the median.

    Raises UsageError if they are of different catalogs or have no item in common, InputError if they disagree about
    an item's truth.
    """
    metric = get_metric(metric) if isinstance(metric, str) else metric
    metric.improves(0.0)
    a, b = to_arrays(a), to_arrays(b)
    ids = common_ids(a, b)
    if not ids:
        raise UsageError(
            f"{a.pricer} and {b.pricer} have no item in common",
            got=f"{len(a.ids)} and {len(b.ids)} items",
            hint="Evaluate both on the same split with the same --limit.",
        )
    pair = pair_rows(a, b, ids, metric)
    interval = bootstrap_interval(
        pair.values,
        pair.codes,
        metric.aggregate,
        minus=pair.minus,
        confidence=confidence,
        resamples=resamples,
        seed=seed,
    )
    return pair.difference(interval, confidence)


def compare_simultaneously(
    pairs: Sequence[tuple[Evaluation | EvalArrays, Evaluation | EvalArrays]],
    metric: Metric | str = "MAE",
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Difference | None]:
    """The paired difference of each pair, with simultaneous intervals (`metrics.bootstrap`); None for a pair
    without common items.

    A difference's `confidence` is the pointwise one of its interval, which `n_needed` assumes too. Sets of pairs on
    different items share the error level in proportion to their number of pairs; a pair with under 5 common groups
    is not tested. Raises UsageError if two are not of the same catalog or the metric is a median, InputError if they
    disagree about a truth.
    """
    metric = get_metric(metric) if isinstance(metric, str) else metric
    metric.improves(0.0)
    if metric.aggregate == "median":
        raise UsageError(
            "Simultaneous intervals exist for means only", got=metric.name, hint="Compare by MAE, RMSLE or within 20 %."
        )
    by_items: dict[tuple[str, ...], list[tuple[int, PairedRows]]] = {}
    for index, (a, b) in enumerate(pairs):
        ids = tuple(sorted(common_ids(a, b)))  # one order for all, so that all draw the same groups
        if ids:
            by_items.setdefault(ids, []).append((index, pair_rows(a, b, ids, metric)))
    tested = sum(len(indexed) for indexed in by_items.values() if indexed[0][1].groups >= MIN_GROUPS)
    differences: list[Difference | None] = [None] * len(pairs)
    for indexed in by_items.values():
        share = len(indexed) / tested if tested else 1.0
        intervals, pointwise = simultaneous_intervals(
            [(pair.values, pair.minus) for _, pair in indexed],
            indexed[0][1].codes,
            metric.aggregate,
            confidence=1 - (1 - confidence) * min(1.0, share),
            resamples=resamples,
            seed=seed,
        )
        for (index, pair), interval in zip(indexed, intervals, strict=True):
            differences[index] = pair.difference(interval, pointwise)
    return differences


def common_ids(a: Evaluation | EvalArrays, b: Evaluation | EvalArrays) -> list[str]:
    """The ids of the common items, in `a`'s order. Raises UsageError if the two are not of the same catalog."""
    a, b = to_arrays(a), to_arrays(b)
    check_comparable(a.evaluation, b.evaluation)
    return [id for id in a.ids if id in b.positions]


@dataclass(frozen=True)
class PairedRows:
    """Two evaluations on their common items: per-item values of `a` (`values`) and of `b` (`minus`), shape (n,),
    and the `codes` of their groups."""

    a: str
    b: str
    metric: Metric
    values: Array
    minus: Array
    codes: Codes
    a_value: float
    b_value: float

    @property
    def groups(self) -> int:
        """The number of groups."""
        return int(self.codes.max()) + 1

    def effective_se(self, interval: Interval, confidence: float) -> float | None:
        """The standard error that corresponds to the interval's half towards zero, at least the estimated one.

        With few groups the interval is wider than a normal one, so that a difference that is not significant never
        needs fewer items than there are.
        """
        from scipy import stats

        if interval.se is None or interval.low is None or interval.high is None:
            return None
        half = interval.point - interval.low if interval.point > 0 else interval.high - interval.point
        return max(interval.se, half / float(stats.norm.ppf(0.5 + confidence / 2)))

    def difference(self, interval: Interval, confidence: float) -> Difference:
        """The difference with its interval, its significance and the sample size needed."""
        low, high = interval.low, interval.high
        significant = low is not None and high is not None and (low > 0 or high < 0)
        better = (self.a if self.metric.improves(interval.point) else self.b) if significant else None
        se = self.effective_se(interval, confidence)
        needed = items_needed(interval.n, interval.point, se, confidence)
        names = (self.metric.name, self.metric.unit, self.a, self.b)
        counts_and_values = (interval.n, interval.groups, self.a_value, self.b_value)
        return Difference(
            *names, *counts_and_values, interval.point, low, high, significant, better, needed, confidence
        )


def pair_rows(a: Evaluation | EvalArrays, b: Evaluation | EvalArrays, ids: Sequence[str], metric: Metric) -> PairedRows:
    """Two evaluations on common items. Raises InputError if they disagree about a truth."""
    a, b = to_arrays(a), to_arrays(b)
    left, right = a.select(ids), b.select(ids)
    if not np.array_equal(left.truth, right.truth):
        wrong = ids[int(np.argmax(left.truth != right.truth))]
        raise InputError(
            f"{a.pricer} and {b.pricer} disagree about the truth of item {wrong}", hint="Evaluate both again."
        )
    groups = {**b.evaluation.groups, **a.evaluation.groups}
    codes = encode_groups([groups.get(id) or ("alone", id) for id in ids])
    close = np.abs(left.quote - right.quote) <= SAME * np.maximum(left.quote, right.quote)
    other_quote = np.where(close, left.quote, right.quote)
    values, minus = metric.per_item(left.truth, left.quote), metric.per_item(right.truth, other_quote)
    both = metric.value(left.truth, left.quote), metric.value(right.truth, right.quote)
    return PairedRows(a.pricer, b.pricer, metric, values, minus, codes, *both)


def check_comparable(a: Evaluation, b: Evaluation) -> None:
    """Raises UsageError if two evaluations are not of the same catalog."""
    for what, left, right in (
        ("catalogs", a.catalog, b.catalog),
        ("currencies", a.currency, b.currency),
        ("price ranges", a.price_range, b.price_range),
        ("prices for unanswered items", a.median, b.median),
    ):
        if left != right:
            raise UsageError(
                f"{a.pricer} and {b.pricer} were evaluated with different {what}",
                got=f"{left} and {right}",
                hint="Evaluate both on one catalog.",
            )


def items_needed(n: int, difference: float, se: float | None, confidence: float = 0.95) -> int | None:
    """The sample size that has 80 % power to detect the observed difference; None if that is 0.

    n x ((z_confidence + z_power) x se / difference)^2. `se` is the group-robust standard error of the paired
    difference on `n` items, so n x se^2 covers the variance within and between groups; further items are assumed to
    come in groups of the same sizes. Sources: Cohen 1988, chapter 2, for paired means; Miller 2024, "Adding error
    bars to evals", section 5, with clusters.
    """
    from scipy import stats

    if not difference or se is None:
        return None
    z = float(stats.norm.ppf(0.5 + confidence / 2) + stats.norm.ppf(POWER))
    needed = n * (z * se / difference) ** 2
    return max(2, math.ceil(needed)) if math.isfinite(needed) and needed < 1e15 else None


# Breakdown of a comparison by price band and by category


@dataclass(frozen=True)
class BreakdownBand:
    """One band: the MAE of both on its `n` items, and competitor minus reference with its interval."""

    label: str
    n: int
    reference: float
    competitor: float
    difference: Interval

    @property
    def better(self) -> str:
        """The one with the significantly lower error, `reference` or `competitor`; empty if there is none."""
        low, high = self.difference.low, self.difference.high
        if low is None or high is None:
            return ""
        return "reference" if low > 0 else "competitor" if high < 0 else ""


def breakdown_by_price(
    reference: Evaluation | EvalArrays, competitor: Evaluation | EvalArrays, *, seed: int = 0
) -> list[BreakdownBand]:
    """The comparison by band of the true price."""
    reference, competitor = to_arrays(reference), to_arrays(competitor)
    truth = reference.select(common_ids(reference, competitor)).truth
    return breakdown(reference, competitor, price_masks(truth, price_edges(truth)), seed)


def breakdown_by_category(
    reference: Evaluation | EvalArrays,
    competitor: Evaluation | EvalArrays,
    evals: Evals,
    most: int = 10,
    *,
    seed: int = 0,
) -> list[BreakdownBand]:
    """The comparison by category: the `most` frequent ones, then all others together."""
    reference, competitor = to_arrays(reference), to_arrays(competitor)
    labels = [evals.items[id].category for id in common_ids(reference, competitor)]
    return breakdown(reference, competitor, category_masks(labels, most), seed)


def breakdown(
    reference: EvalArrays, competitor: EvalArrays, masks: Sequence[tuple[str, Mask]], seed: int
) -> list[BreakdownBand]:
    """A band for each mask that is not empty; masks have shape (n,), in the reference's order of the common items."""
    pair = pair_rows(reference, competitor, common_ids(reference, competitor), METRICS["MAE"])
    bands = [(label, mask, encode_groups(pair.codes[mask].tolist())) for label, mask in masks if mask.any()]
    tested = sum(int(codes.max()) + 1 >= MIN_GROUPS for _, _, codes in bands)
    confidence = 1 - (1 - CONFIDENCE) / max(1, tested)
    rows = []
    for label, mask, codes in bands:
        errors, competitor_errors = pair.values[mask], pair.minus[mask]
        interval = bootstrap_interval(competitor_errors, codes, minus=errors, confidence=confidence, seed=seed)
        means = float(errors.mean()), float(competitor_errors.mean())
        rows.append(BreakdownBand(label, int(np.sum(mask)), *means, interval))
    return rows
