"""How quotes differ from those at training time: by day, and tests over the whole period.

A listing that was priced several times counts once a day in the table, and once in the tests. Five things are tested
with Holm's correction (the distribution of quotes, their mean, the width of intervals, the share with nothing similar,
the length of listings), so that without any change at most 5 % of reports have an alarm. An alarm needs an effect of
some size too: among a million quotes a change of 1 % is significant.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pricesmith.metrics.bands import ALPHA, adjust_p_values
from pricesmith.metrics.metrics import Array
from pricesmith.metrics.stability import LARGE, MODERATE, Histogram, compare
from pricesmith.pricers.reference import Reference

MIN_LISTINGS = 30  # for tests of the period
MIN_OF_DAY = 20  # for the PSI of a day
QUOTE_COLUMNS = ("at", "identity", "listing_hash", "price", "low", "high", "nothing_similar", "chars")


@dataclass(frozen=True)
class DriftDay:
    """The quotes of one day (UTC). `listings` counts different ones that have a price; all figures are of these.

    `psi` is None for fewer than 20 listings or without a reference; `change` is "moderate" or "large" if it is over 0.1
    or 0.25 and significant, with Holm's correction over the days. `shift` is the mean change of quotes as a share,
    `width` the typical high ÷ low.
    """

    day: str
    quotes: int
    unanswered: int
    listings: int
    psi: float | None
    change: str
    shift: float | None
    width: float | None
    nothing_similar: float | None
    length: float | None


@dataclass(frozen=True)
class DriftTest:
    """One tested thing: its size now and at training time, in the unit of its name, and Holm's adjusted p-value."""

    name: str
    now: float
    reference: float
    p: float | None
    alarm: bool


@dataclass(frozen=True)
class QuoteDrift:
    """The quotes of the period. `tests` is empty with fewer than 30 listings or without a reference."""

    quotes: int
    unanswered: int
    listings: int
    psi: float | None
    shift: float | None
    tests: tuple[DriftTest, ...]
    days: tuple[DriftDay, ...]

    @property
    def alarm(self) -> bool:
        """Whether anything has changed, significantly and by some size."""
        return any(test.alarm for test in self.tests)


@dataclass
class QuoteColumns:
    """The quotes of one model, as columns; unanswered ones are only counted by day."""

    days: list[str] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    logs: list[float] = field(default_factory=list)
    widths: list[float] = field(default_factory=list)
    flags: list[float] = field(default_factory=list)
    chars: list[int] = field(default_factory=list)
    quotes_of_day: dict[str, int] = field(default_factory=dict)
    unanswered_of_day: dict[str, int] = field(default_factory=dict)
    others: int = 0

    def add(self, row: Sequence[Any], identity: str) -> None:
        """Count a row of the log."""
        at, own, key, price, low, high, flag, chars = row
        if own != identity:
            self.others += 1
            return
        day = at[:10]
        self.quotes_of_day[day] = self.quotes_of_day.get(day, 0) + 1
        if price is None or not price > 0:
            self.unanswered_of_day[day] = self.unanswered_of_day.get(day, 0) + 1
            return
        self.days.append(day)
        self.hashes.append(key or f"row {len(self.days)}")
        self.logs.append(math.log(price))
        self.widths.append(math.log(high / low) if low and high and 0 < low <= high else math.nan)
        self.flags.append(math.nan if flag is None else float(flag))
        self.chars.append(chars or 0)


def measure_quotes(rows: Iterable[Sequence[Any]], identity: str, reference: Reference | None) -> tuple[QuoteDrift, int]:
    """The drift of a model's quotes, and the number of quotes of other models. `rows` have the `QUOTE_COLUMNS`."""
    columns = QuoteColumns()
    for row in rows:
        columns.add(row, identity)
    arrays = {name: np.array(getattr(columns, name), dtype=np.float64) for name in ("logs", "widths", "flags", "chars")}
    latest = {key: index for index, key in enumerate(columns.hashes)}
    chosen = np.array(sorted(latest.values()), dtype=np.intp)
    period = {name: values[chosen] for name, values in arrays.items()}
    change = compare(reference.quotes, period["logs"]) if reference and len(chosen) >= MIN_LISTINGS else None
    drift = QuoteDrift(
        quotes=sum(columns.quotes_of_day.values()),
        unanswered=sum(columns.unanswered_of_day.values()),
        listings=len(chosen),
        psi=change.psi if change else None,
        shift=math.expm1(change.shift) if change else None,
        tests=compare_period(period, reference) if reference and change else (),
        days=measure_days(columns, arrays, reference),
    )
    return drift, columns.others


def measure_days(
    columns: QuoteColumns, arrays: Mapping[str, Array], reference: Reference | None
) -> tuple[DriftDay, ...]:
    """Every day that has quotes, in order."""
    latest: dict[str, dict[str, int]] = {day: {} for day in sorted(columns.quotes_of_day)}
    for index, (day, key) in enumerate(zip(columns.days, columns.hashes, strict=True)):
        latest[day][key] = index
    parts = {
        day: {name: values[sorted(places.values())] for name, values in arrays.items()}
        for day, places in latest.items()
    }
    changes = {
        day: compare(reference.quotes, part["logs"]) if reference and len(part["logs"]) >= MIN_OF_DAY else None
        for day, part in parts.items()
    }
    adjusted = dict(
        zip(changes, adjust_p_values([change.p if change else None for change in changes.values()]), strict=True)
    )
    days = []
    for day, part in parts.items():
        change, p, logs = changes[day], adjusted[day], part["logs"]
        days.append(
            DriftDay(
                day=day,
                quotes=columns.quotes_of_day[day],
                unanswered=columns.unanswered_of_day.get(day, 0),
                listings=len(logs),
                psi=change.psi if change else None,
                change=describe_size(change.psi) if change and p is not None and p < ALPHA else "",
                shift=math.expm1(float(logs.mean()) - reference.quotes.mean) if reference and len(logs) else None,
                width=mean_or_none(part["widths"], math.exp),
                nothing_similar=mean_or_none(part["flags"]),
                length=mean_or_none(part["chars"]),
            )
        )
    return tuple(days)


def describe_size(psi: float) -> str:
    """ "moderate" from a PSI of 0.1, "large" from 0.25, else nothing."""
    return "large" if psi >= LARGE else "moderate" if psi >= MODERATE else ""


def mean_or_none(values: Array, transform: Any = float) -> float | None:
    """The transformed mean of the values that are known; None if none is."""
    known = values[np.isfinite(values)]
    return float(transform(float(known.mean()))) if len(known) else None


def compare_period(period: Mapping[str, Array], reference: Reference) -> tuple[DriftTest, ...]:
    """The tests of a period's listings, with adjusted p-values."""
    quotes = compare(reference.quotes, period["logs"])
    raw: list[tuple[str, float, float, float | None, bool]] = [
        ("distribution of quotes (PSI)", quotes.psi, 0.0, quotes.p, quotes.psi >= MODERATE),
        mean_test("typical quote", reference.quotes, period["logs"], 0.05),
    ]
    widths = period["widths"][np.isfinite(period["widths"])]
    if reference.widths is not None and len(widths) >= MIN_LISTINGS:
        raw.append(mean_test("typical interval (high ÷ low)", reference.widths, widths, 0.1))
    flags = period["flags"][np.isfinite(period["flags"])]
    if reference.checked and len(flags) >= MIN_LISTINGS:
        share, before = float(flags.mean()), reference.flagged / reference.checked
        p = flag_p(int(flags.sum()), len(flags), reference)
        raw.append(("share with nothing similar", share, before, p, abs(share - before) >= 0.02))
    raw.append(mean_test("typical length in characters", reference.lengths, np.log1p(period["chars"]), 0.2))
    adjusted = adjust_p_values([p for _, _, _, p, _ in raw])
    return tuple(
        DriftTest(name, now, before, p, p is not None and p < ALPHA and sizable)
        for (name, now, before, _, sizable), p in zip(raw, adjusted, strict=True)
    )


def mean_test(
    name: str, reference: Histogram, logs: Array, least: float
) -> tuple[str, float, float, float | None, bool]:
    """The test of a geometric mean, which counts from a change by the share `least`."""
    change = compare(reference, logs)
    now = math.exp(float(logs.mean()))
    return name, now, math.exp(reference.mean), change.shift_p, abs(math.expm1(change.shift)) >= least


def flag_p(flagged: int, n: int, reference: Reference) -> float:
    """Fisher's exact test of two shares."""
    from scipy import stats

    table = [[flagged, n - flagged], [reference.flagged, reference.checked - reference.flagged]]
    return float(stats.fisher_exact(table)[1])
