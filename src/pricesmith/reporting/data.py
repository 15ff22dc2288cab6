"""What the report shows of an evals folder, worked out once: conclusion, leaderboard, bands, coverage, running error, worst.

Only pricers judged on the same items are drawn together; the largest such group is the report's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.types import Evaluation
from pricesmith.evaluation.breakdown import BreakdownBand, breakdown_by_category, breakdown_by_price
from pricesmith.evaluation.compare import common_ids
from pricesmith.evaluation.conclusion import MEDIAN, Conclusion, conclude
from pricesmith.evaluation.evaluate import to_arrays
from pricesmith.evaluation.leaderboard import (
    LeaderboardRow,
    RunningError,
    WorstItem,
    build_leaderboard,
    coverage_by_quote,
    error_by_category,
    error_by_price,
    error_by_training,
    running_error,
    worst_items,
)
from pricesmith.evaluation.results import Evals, read_evals
from pricesmith.metrics.bands import CoverageBand, ErrorBand
from pricesmith.reporting.narrative import conclusion_paragraph
from pricesmith.text.formatting import join_names, to_single_line

HUES = 7  # the palette of style.css, without the grey that a constant is drawn in
GREY = "c7"
DRAWN = 4  # bars of more pricers than this cannot be told apart on a phone; the tables have them all
NOMINAL = 0.90


@dataclass(frozen=True)
class SideBySide:
    """The reference and one competitor on their `n` common items, by band of the price and by category."""

    competitor: str
    n: int
    prices: list[BreakdownBand]
    categories: list[BreakdownBand]


@dataclass(frozen=True)
class ReportData:
    """Everything a page needs. `rows` is the whole leaderboard; what follows `beside` is by name, for the first group's
    pricers.
    """

    evals: Evals
    conclusion: Conclusion
    words: tuple[str, ...]
    rows: tuple[LeaderboardRow, ...]
    beside: SideBySide | None
    pricers: dict[str, Evaluation]
    hues: dict[str, str]
    bands: dict[str, list[ErrorBand]]
    categories: dict[str, list[ErrorBand]]
    close: dict[str, list[ErrorBand]]
    coverage: dict[str, list[CoverageBand]]
    running: dict[str, RunningError]
    worst: tuple[WorstItem, ...]
    constant_error: float

    @property
    def main(self) -> list[LeaderboardRow]:
        """The rows of the first group, best first."""
        return [row for row in self.rows if row.group == 0]

    @property
    def best(self) -> LeaderboardRow:
        return self.rows[0]

    @property
    def ties(self) -> set[str]:
        """Who is not told apart from the best of the first group. What the reference has to do with is read off the
        conclusion's intervals, which are corrected for many comparisons; all else off the pair's own test.
        """
        apart = {one.competitor: one.outcome in ("better", "worse") for one in self.conclusion.comparisons}
        reference, best = self.conclusion.reference, self.best.name
        ties = set()
        for row in self.main[1:]:
            competitor = row.name if reference == best else best if reference == row.name else None
            if row.tied or (competitor is not None and not apart[competitor]):
                ties.add(row.name)
        return ties

    @property
    def currency(self) -> str:
        return self.pricers[self.best.name].currency

    @property
    def meta(self) -> dict[str, Any]:
        """The meta file of the best pricer."""
        return self.evals.meta[self.best.name]

    @property
    def nominal(self) -> float:
        """The share of truths that the intervals promise to hold."""
        return float(self.meta.get("confidence") or NOMINAL)

    @property
    def elsewhere(self) -> str:
        """A sentence on runs of another catalog, which learnt from other rows; empty where there are none."""
        foreign = [name for name in self.pricers if self.fitted_on(name) not in (None, self.pricers[name].catalog)]
        learnt = "learnt from the rows of another catalog, not from these"
        return f" {join_names([to_single_line(name, 40) for name in foreign], 4)} {learnt}." if foreign else ""

    def fitted_on(self, name: str) -> str | None:
        """The fingerprint of the catalog that a pricer was fitted on; None where it was not fitted."""
        return dict(self.evals.meta[name].get("settings") or {}).get("fitted_on")

    def drawn(self, most: int = DRAWN) -> list[str]:
        """The names to draw side by side: the best few, and the constant only where there is room."""
        names = [row.name for row in self.main if row.kind != "median"] or [self.best.name]
        names += [row.name for row in self.main if row.name not in names]
        return names[:most]


def build_report_data(
    folder: Path, *, reference: str | None = None, competitor: str | None = None, machine_cost: float | None = None
) -> ReportData:
    """The findings of an evals folder; `machine_cost` is US dollars an hour. Raises InputError where there is nothing to
    report, UsageError where reference or competitor is nobody's name, or the price is none.
    """
    evals = read_evals(folder)
    if not any(one.rows for one in evals.evaluations):
        raise InputError(
            f"There is no finished evaluation in {folder}",
            got=f"unfinished: {', '.join(evals.unfinished)}" if evals.unfinished else "no NAME.meta.json",
            hint=f"Run `pricesmith eval RUN --catalog CATALOG --to {folder}`.",
        )
    found = conclude(evals, reference=reference, machine_cost=machine_cost)
    rows = tuple(build_leaderboard(evals))
    by_name = {one.pricer: one for one in evals.evaluations}
    pricers = {row.name: by_name[row.name] for row in rows if row.group == 0}
    best = pricers[rows[0].name]
    with_category = any(item.category for item in evals.items.values())
    categories = {name: error_by_category(one, evals, 10) for name, one in pricers.items()} if with_category else {}
    charged = to_arrays(best)
    return ReportData(
        evals=evals,
        conclusion=found,
        words=tuple(conclusion_paragraph(found, evals.meta[found.reference])),
        rows=rows,
        beside=build_side_by_side(found, evals, competitor, with_category=with_category),
        pricers=pricers,
        hues=assign_colors(rows),
        bands={name: error_by_price(one) for name, one in pricers.items()},
        categories=categories,
        close={name: error_by_training(one, evals) for name, one in pricers.items()},
        coverage={name: bands for name, one in pricers.items() if (bands := coverage_by_quote(one))},
        running={name: running_error(one) for name, one in pricers.items()},
        worst=tuple(worst_items(best, evals)),
        constant_error=float(abs(charged.truth - best.median).mean()),
    )


def build_side_by_side(found: Conclusion, evals: Evals, name: str | None, *, with_category: bool) -> SideBySide | None:
    """The reference beside the competitor of this name; without one, beside the most accurate hosted model, else pricer, that
    has items in common. None where there is nobody.
    """
    competitors = [one for one in found.comparisons if one.pair is not None]
    if name is not None and name not in [one.competitor for one in competitors]:
        raise UsageError(
            f"{name!r} is no competitor of {found.reference} here",
            got=f"--competitor {name}",
            allowed=", ".join(one.competitor for one in competitors) or "nobody: it is alone on its items",
            hint="Name somebody who was judged on items that the reference was judged on.",
        )
    competitors.sort(key=lambda one: (one.competitor != name, one.pricer_type != "hosted", one.kind == MEDIAN))
    if not competitors:
        return None
    by_name = {one.pricer: one for one in evals.evaluations}
    both = by_name[found.reference], by_name[competitors[0].competitor]
    categories = breakdown_by_category(*both, evals) if with_category else []
    return SideBySide(competitors[0].competitor, len(common_ids(*both)), breakdown_by_price(*both), categories)


def assign_colors(rows: tuple[LeaderboardRow, ...]) -> dict[str, str]:
    """A color for each pricer, the same in every picture: by place in the leaderboard, grey for a constant."""
    colored = [row.name for row in rows if row.kind != "median"]
    return {row.name: GREY for row in rows} | {name: f"c{place % HUES}" for place, name in enumerate(colored)}
