"""How long the fits of a sweep take, and whether the next one fits into the minutes.

    clock = SweepClock(limit=600.0, rows=50_000)
    clock.expect(trial, part)         # seconds, None if nothing is known of its kind
    clock.record(trial, part, 12.5)

A fit is expected to take what was measured for its kind (`measured.toml`), corrected by what earlier fits of the sweep
took: those of the same settings on fewer rows, else those of the same kind. A kind that was never measured is expected
to take as long for each row as its slowest fit so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean

from pricesmith.pricers.recipes import measured_figures
from pricesmith.sweeping.search import Trial

LEAST_SECONDS = 0.1  # of a fit with its evaluation


@dataclass(frozen=True)
class TimedFit:
    """What a fit took: `seconds`, and their ratio to the measured figure (None if the kind has none)."""

    kind: str
    key: str
    rows: float
    seconds: float
    ratio: float | None


@dataclass
class SweepClock:
    """The seconds spent by a sweep, those of interrupted processes included; `limit` is None without a budget."""

    limit: float | None
    rows: int
    spent: float = 0.0
    fits: list[TimedFit] = field(default_factory=list)
    figures: dict[tuple[str, int], float | None] = field(default_factory=dict)

    def measured(self, kind: str, part: int) -> float | None:
        """The measured seconds of a kind on a part of the rows; None if it was not measured."""
        if (kind, part) not in self.figures:
            figure = measured_figures(kind, self.rows / part)
            self.figures[kind, part] = None if figure is None else max(figure[0], LEAST_SECONDS)
        return self.figures[kind, part]

    def expect(self, trial: Trial, part: int) -> float | None:
        """Seconds that a fit on a part of the rows will take; None if nothing is known."""
        rows, kind = self.rows / part, trial.recipe.kind
        limit = 60 * float(getattr(trial.recipe, "minutes", 0.0) or 0.0)  # of a recipe that stops by itself
        own = [fit for fit in self.fits if fit.key == trial.key]
        similar = own or [fit for fit in self.fits if fit.kind == kind]
        figure = self.measured(kind, part)
        if figure is not None:
            ratios = [fit.ratio for fit in similar if fit.ratio is not None]
            seconds = figure * (mean(ratios) if ratios else 1.0)
        elif similar:
            seconds = max(fit.seconds / fit.rows for fit in similar) * rows
        else:
            return limit or None
        return min(seconds, limit) if limit else seconds

    def record(self, trial: Trial, part: int, seconds: float) -> None:
        """Count a fit as done."""
        figure = self.measured(trial.recipe.kind, part)
        ratio = None if figure is None else seconds / figure
        self.fits.append(TimedFit(trial.recipe.kind, trial.key, self.rows / part, seconds, ratio))
        self.spent += seconds

    def allows(self, trial: Trial, part: int, reserve: float = 0.0) -> bool:
        """Whether a fit is expected to end within the limit, with `reserve` seconds for what must follow."""
        if self.limit is None:
            return True
        return self.spent + (self.expect(trial, part) or 0.0) + reserve <= self.limit

    def expect_all(self, trials: Sequence[Trial], part: int) -> float | None:
        """Seconds of the fits of several trials; None if nothing is known of one of them."""
        seconds = [self.expect(trial, part) for trial in trials]
        known = [value for value in seconds if value is not None]
        return sum(known) if len(known) == len(seconds) else None


def rung_sizes(trials: int, parts: Sequence[int], least: int) -> list[tuple[int, int]]:
    """The parts of a round of successive halving, each with the number of trials that are fitted on it."""
    sizes, left = [], trials
    for part in parts:
        if part != 1 and left <= least:  # nothing would be pruned
            continue
        sizes.append((part, left))
        left = max(least, (left + 1) // 2)
    return sizes
