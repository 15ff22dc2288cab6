"""Two pricers on their common items: the paired difference with an interval over families.

difference = compare(a, b, METRICS["mean error"])
difference.told_apart, difference.better, difference.needed
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pricesmith.errors import InputError, UsageError
from pricesmith.evaluation.evaluate import columns_of, only
from pricesmith.measures.metrics import Metric, metric_named
from pricesmith.measures.resample import RESAMPLES, codes_of, interval
from pricesmith.types import Evaluation

POWER = 0.80
SAME = 1e-6  # quotes nearer than this, as a share, are one quote: a pricer repeats itself to that precision only


@dataclass(frozen=True)
class Difference:
    """How far `a` is from `b` on their common items: `difference` = `a_value` - `b_value`, in the metric's
    unit.

    `told_apart` is True where the interval leaves 0 out; then `better` names the better of the two. `needed`
    is how many items, in families as here, would tell them apart in 80 of 100 tests if the true difference is
    the one seen here; None where none was seen. `low` and `high` are None below 5 common families.
    """

    metric: str
    unit: str
    a: str
    b: str
    n: int
    families: int
    a_value: float
    b_value: float
    difference: float
    low: float | None
    high: float | None
    told_apart: bool
    better: str | None
    needed: int | None
    confidence: float = 0.95


def compare(
    a: Evaluation,
    b: Evaluation,
    metric: Metric | str = "mean error",
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
    metric = metric_named(metric) if isinstance(metric, str) else metric
    metric.improves(0.0)
    check_comparable(a, b)
    theirs = {row.id for row in b.rows}
    common = [row.id for row in a.rows if row.id in theirs]
    if not common:
        raise UsageError(
            f"{a.pricer} and {b.pricer} have no item in common",
            got=f"{len(a.rows)} and {len(b.rows)} items",
            hint="Judge both on the same split and limit.",
        )
    one, two = columns_of(only(a, common)), columns_of(only(b, common))
    if not np.array_equal(one.truth, two.truth):
        wrong = common[int(np.argmax(one.truth != two.truth))]
        raise InputError(
            f"{a.pricer} and {b.pricer} disagree about the truth of item {wrong}", hint="Judge both again."
        )
    families = {**b.families, **a.families}
    codes = codes_of([families.get(id) or ("alone", id) for id in common])
    same = np.where(np.abs(one.quote - two.quote) <= SAME * np.maximum(one.quote, two.quote), one.quote, two.quote)
    values, minus = metric.per_item(one.truth, one.quote), metric.per_item(two.truth, same)
    found = interval(
        values, codes, metric.aggregate, minus=minus, confidence=confidence, resamples=resamples, seed=seed
    )
    told = found.low is not None and found.high is not None and (found.low > 0 or found.high < 0)
    better = (a if metric.improves(found.point) else b).pricer if told else None
    return Difference(
        metric.name,
        metric.unit,
        a.pricer,
        b.pricer,
        found.n,
        found.families,
        metric.value(one.truth, one.quote),
        metric.value(two.truth, two.quote),
        found.point,
        found.low,
        found.high,
        told,
        better,
        items_needed(found.n, found.point, found.se, confidence),
        confidence,
    )


def check_comparable(a: Evaluation, b: Evaluation) -> None:
    """Raises UsageError where two evaluations are not of the same catalog."""
    for what, mine, other in (
        ("catalogs", a.catalog, b.catalog),
        ("currencies", a.currency, b.currency),
        ("price ranges", a.price_range, b.price_range),
        ("quotes for items without an answer", a.constant, b.constant),
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

    n x ((z_confidence + z_power) x se / difference)^2. `se` is the family-robust standard error of the paired
    difference on `n` items, so n x se^2 carries both the spread within and between families; more items are
    taken to come in families of the same sizes. Source: Cohen 1988, chapter 2, for paired means; Miller 2024,
    "Adding error bars to evals", section 5, with clusters.
    """
    from scipy import stats

    if not difference or se is None:
        return None
    z = float(stats.norm.ppf(0.5 + confidence / 2) + stats.norm.ppf(POWER))
    needed = n * (z * se / difference) ** 2
    return max(2, math.ceil(needed)) if math.isfinite(needed) and needed < 1e15 else None
