"""Two pricers on their common items: the paired difference with an interval over groups.

difference = compare(a, b, METRICS["MAE"])
difference.is_significant, difference.better, difference.n_needed

`compare_together` does it for many pairs at once, with intervals that hold all together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.types import Evaluation
from pricesmith.evaluation.evaluate import select_ids, to_arrays
from pricesmith.metrics.bootstrap import MIN_GROUPS, RESAMPLES, Codes, Interval, bootstrap_interval, encode_groups
from pricesmith.metrics.metrics import Array, Metric, get_metric
from pricesmith.metrics.simultaneous import simultaneous_intervals

POWER = 0.80
SAME = 1e-6  # quotes nearer than this, as a share, are one quote: a pricer repeats itself to that precision only


@dataclass(frozen=True)
class Difference:
    """How far `a` is from `b` on their common items: `difference` = `a_value` - `b_value`, in the metric's
    unit.

    `is_significant` is True where the interval leaves 0 out; then `better` names the better of the two. `needed`
    is how many items, in groups as here, would tell them apart in 80 of 100 tests if the true difference is
    the one seen here; None where none was seen. `low` and `high` are None below 5 common groups.
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

    def mirrored(self) -> Difference:
        """`b` minus `a`."""
        low, high = (None if end is None else -end for end in (self.high, self.low))
        return replace(
            self, a=self.b, b=self.a, a_value=self.b_value, b_value=self.a_value, difference=-self.difference,
            low=low, high=high,
        )  # fmt: skip


def compare(
    a: Evaluation,
    b: Evaluation,
    metric: Metric | str = "MAE",
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """The paired difference of two evaluations on the items that both have; no answer is charged at the
    constant.

    Raises UsageError where they are of different catalogs or have no item in common, InputError where they
    disagree about an item's truth.
    """
    metric = get_metric(metric) if isinstance(metric, str) else metric
    metric.improves(0.0)
    ids = common_ids(a, b)
    if not ids:
        raise UsageError(
            f"{a.pricer} and {b.pricer} have no item in common",
            got=f"{len(a.rows)} and {len(b.rows)} items",
            hint="Judge both on the same split and limit.",
        )
    pair = pair_rows(a, b, ids, metric)
    found = bootstrap_interval(
        pair.values,
        pair.codes,
        metric.aggregate,
        minus=pair.minus,
        confidence=confidence,
        resamples=resamples,
        seed=seed,
    )
    return pair.difference(found, confidence)


def compare_simultaneously(
    pairs: Sequence[tuple[Evaluation, Evaluation]],
    metric: Metric | str = "MAE",
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Difference | None]:
    """The paired difference of each pair, in intervals that hold all together (`measures.together`); None for a pair
    without an item in common.

    A difference's `confidence` is what its interval takes by itself, and `needed` is for that. Pairs on different items
    share the chance of a miss by their number; a pair with under 5 common groups takes no part. Raises UsageError
    where two are not of the same catalog or the metric is a median, InputError where they disagree about a truth.
    """
    metric = get_metric(metric) if isinstance(metric, str) else metric
    metric.improves(0.0)
    if metric.aggregate == "median":
        raise UsageError("Many comparisons are corrected for means only", got=metric.name, hint="Take another metric.")
    asked: dict[tuple[str, ...], list[tuple[int, PairedRows]]] = {}
    for place, (a, b) in enumerate(pairs):
        ids = tuple(sorted(common_ids(a, b)))  # one order for all, so that all draw the same groups
        if ids:
            asked.setdefault(ids, []).append((place, pair_rows(a, b, ids, metric)))
    tested = sum(len(some) for some in asked.values() if some[0][1].groups >= MIN_GROUPS)
    found: list[Difference | None] = [None] * len(pairs)
    for some in asked.values():
        share = len(some) / tested if tested else 1.0
        intervals, each = simultaneous_intervals(
            [(pair.values, pair.minus) for _, pair in some],
            some[0][1].codes,
            metric.aggregate,
            confidence=1 - (1 - confidence) * min(1.0, share),
            resamples=resamples,
            seed=seed,
        )
        for (place, pair), one in zip(some, intervals, strict=True):
            found[place] = pair.difference(one, each)
    return found


def common_ids(a: Evaluation, b: Evaluation) -> list[str]:
    """The items that both have, in `a`'s order. Raises UsageError where they are not of the same catalog."""
    check_comparable(a, b)
    theirs = {row.id for row in b.rows}
    return [row.id for row in a.rows if row.id in theirs]


@dataclass(frozen=True)
class PairedRows:
    """Two evaluations on their common items, item by item: `values` and `minus` of a metric, `codes` of groups."""

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
        return int(self.codes.max()) + 1

    def error(self, found: Interval, confidence: float) -> float | None:
        """The standard error that its interval speaks of, on the side of zero: with few groups it is wider than the
        normal one, and what is not told apart needs more items than there are."""
        from scipy import stats

        if found.se is None or found.low is None or found.high is None:
            return None
        half = found.point - found.low if found.point > 0 else found.high - found.point
        return max(found.se, half / float(stats.norm.ppf(0.5 + confidence / 2)))

    def difference(self, found: Interval, confidence: float) -> Difference:
        """The difference with its interval, and whether it tells the two apart."""
        told = found.low is not None and found.high is not None and (found.low > 0 or found.high < 0)
        better = (self.a if self.metric.improves(found.point) else self.b) if told else None
        needed = items_needed(found.n, found.point, self.error(found, confidence), confidence)
        who = (self.metric.name, self.metric.unit, self.a, self.b, found.n, found.groups, self.a_value, self.b_value)
        return Difference(*who, found.point, found.low, found.high, told, better, needed, confidence)


def pair_rows(a: Evaluation, b: Evaluation, ids: Sequence[str], metric: Metric) -> PairedRows:
    """Two evaluations on `ids`, which both have. Raises InputError where they disagree about a truth."""
    one, two = to_arrays(select_ids(a, ids)), to_arrays(select_ids(b, ids))
    if not np.array_equal(one.truth, two.truth):
        wrong = ids[int(np.argmax(one.truth != two.truth))]
        raise InputError(
            f"{a.pricer} and {b.pricer} disagree about the truth of item {wrong}", hint="Judge both again."
        )
    groups = {**b.groups, **a.groups}
    codes = encode_groups([groups.get(id) or ("alone", id) for id in ids])
    same = np.where(np.abs(one.quote - two.quote) <= SAME * np.maximum(one.quote, two.quote), one.quote, two.quote)
    values, minus = metric.per_item(one.truth, one.quote), metric.per_item(two.truth, same)
    both = metric.value(one.truth, one.quote), metric.value(two.truth, two.quote)
    return PairedRows(a.pricer, b.pricer, metric, values, minus, codes, *both)


def check_comparable(a: Evaluation, b: Evaluation) -> None:
    """Raises UsageError where two evaluations are not of the same catalog."""
    for what, mine, other in (
        ("catalogs", a.catalog, b.catalog),
        ("currencies", a.currency, b.currency),
        ("price ranges", a.price_range, b.price_range),
        ("quotes for items without an answer", a.median, b.median),
    ):
        if mine != other:
            raise UsageError(
                f"{a.pricer} and {b.pricer} were judged with different {what}",
                got=f"{mine} and {other}",
                hint="Judge both on one catalog.",
            )


def items_needed(n: int, difference: float, se: float | None, confidence: float = 0.95) -> int | None:
    """How many items would tell two pricers apart at the difference seen, with 80 % power; None where none
    was seen.

    n x ((z_confidence + z_power) x se / difference)^2. `se` is the group-robust standard error of the paired
    difference on `n` items, so n x se^2 carries both the spread within and between groups; more items are
    taken to come in groups of the same sizes. Source: Cohen 1988, chapter 2, for paired means; Miller 2024,
    "Adding error bars to evals", section 5, with clusters.
    """
    from scipy import stats

    if not difference or se is None:
        return None
    z = float(stats.norm.ppf(0.5 + confidence / 2) + stats.norm.ppf(POWER))
    needed = n * (z * se / difference) ** 2
    return max(2, math.ceil(needed)) if math.isfinite(needed) and needed < 1e15 else None
