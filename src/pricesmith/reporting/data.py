"""What the report shows of an evals folder, computed once: conclusion, leaderboard, bands, coverage, errors.

Only pricers evaluated on the same items are drawn together; the largest such group is the report's main group.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.types import Evaluation
from pricesmith.evaluation.compare import BreakdownBand, breakdown_by_category, breakdown_by_price, common_ids
from pricesmith.evaluation.conclusion import MEDIAN, Conclusion, conclude
from pricesmith.evaluation.leaderboard import (
    CoverageCheck,
    LeaderboardRow,
    RunningError,
    WorstItem,
    build_leaderboard,
    error_by_category,
    error_by_price,
    error_by_training,
    running_error,
    worst_items,
)
from pricesmith.evaluation.results import Evals, read_evals
from pricesmith.metrics.bands import ErrorBand
from pricesmith.reporting.narrative import conclusion_paragraph
from pricesmith.text.formatting import join_names, to_single_line

N_COLORS = 7  # the palette of style.css without the gray of the median pricer
GRAY = "c7"
MAX_BARS = 4  # side by side, bars of more pricers cannot be distinguished on a phone; the tables have them all
MAX_CATEGORIES = 10


@dataclass(frozen=True)
class Breakdown:
    """The reference and one competitor on their `n` common items, by band of the true price and by category."""

    competitor: str
    n: int
    price_bands: list[BreakdownBand]
    categories: list[BreakdownBand]


@dataclass(frozen=True)
class ReportData:
    """Everything a page needs. `leaderboard` has every pricer; the mappings are by name, for the main group's pricers.

    `coverage` is empty for pricers without intervals; `median_mae` is the MAE of always quoting the training median.
    """

    evals: Evals
    conclusion: Conclusion
    sentences: tuple[str, ...]
    leaderboard: tuple[LeaderboardRow, ...]
    breakdown: Breakdown | None
    evaluations: dict[str, Evaluation]
    colors: dict[str, str]
    price_bands: dict[str, list[ErrorBand]]
    categories: dict[str, list[ErrorBand]]
    training_bands: dict[str, list[ErrorBand]]
    coverage: dict[str, tuple[CoverageCheck, ...]]
    running_errors: dict[str, RunningError]
    worst: tuple[WorstItem, ...]
    median_mae: float

    @property
    def main_rows(self) -> list[LeaderboardRow]:
        """The leaderboard rows of the main group, best first."""
        return [row for row in self.leaderboard if row.group == 0]

    @property
    def best(self) -> LeaderboardRow:
        """The first row of the main group."""
        return self.leaderboard[0]

    @property
    def ties(self) -> set[str]:
        """Names of the main group without a significant difference from its best.

        Comparisons with the reference are read off the conclusion's simultaneous intervals; all others off the pair's
        own test.
        """
        significant = {pair.competitor: pair.outcome in ("better", "worse") for pair in self.conclusion.comparisons}
        reference, best = self.conclusion.reference, self.best.name
        ties = set()
        for row in self.main_rows[1:]:
            competitor = row.name if reference == best else best if reference == row.name else None
            if row.tied or (competitor is not None and not significant[competitor]):
                ties.add(row.name)
        return ties

    @property
    def currency(self) -> str:
        """The catalog's currency."""
        return self.evaluations[self.best.name].currency

    @property
    def meta(self) -> dict[str, Any]:
        """The meta file of the best pricer."""
        return self.evals.meta[self.best.name]

    @property
    def other_catalog_note(self) -> str:
        """A sentence on models fitted on another catalog, with a leading space; empty if there are none."""
        names = [
            name for name in self.evaluations if self.fitted_on(name) not in (None, self.evaluations[name].catalog)
        ]
        labels = [to_single_line(name, 40) for name in names]
        verb = "were" if len(names) > 1 else "was"
        return f" {join_names(labels, 4)} {verb} fitted on another catalog, not on these rows." if names else ""

    def fitted_on(self, name: str) -> str | None:
        """Return the fingerprint of the catalog that a pricer was fitted on; None if it was not fitted."""
        return dict(self.evals.meta[name].get("settings") or {}).get("fitted_on")

    def chart_names(self, most: int = MAX_BARS) -> list[str]:
        """Return the pricers to draw side by side: the best ones, and the median pricer only if there is room."""
        names = [row.name for row in self.main_rows if row.kind != MEDIAN] or [self.best.name]
        names += [row.name for row in self.main_rows if row.name not in names]
        return names[:most]


def build_report_data(
    folder: Path, *, reference: str | None = None, competitor: str | None = None, machine_cost: float | None = None
) -> ReportData:
    """Read an evals folder and compute everything that its report shows; `machine_cost` is US dollars an hour.

    Raises InputError if there is no finished evaluation, UsageError for an unknown reference or competitor or an
    invalid machine cost.
    """
    evals = read_evals(folder)
    if not any(evaluation.rows for evaluation in evals.evaluations):
        raise InputError(
            f"There is no finished evaluation in {folder}",
            got=f"unfinished: {', '.join(evals.unfinished)}" if evals.unfinished else "no NAME.meta.json",
            hint=f"Run `pricesmith eval MODEL --catalog CATALOG --to {folder}`.",
        )
    conclusion = conclude(evals, reference=reference, machine_cost=machine_cost)
    rows = tuple(build_leaderboard(evals))
    by_name = {evaluation.pricer: evaluation for evaluation in evals.evaluations}
    main = {row.name: by_name[row.name] for row in rows if row.group == 0}
    arrays = {name: evals.arrays[name] for name in main}
    best = arrays[rows[0].name]
    has_categories = any(item.category for item in evals.items.values())
    categories = {}
    if has_categories:
        categories = {name: error_by_category(data, evals, MAX_CATEGORIES) for name, data in arrays.items()}
    return ReportData(
        evals=evals,
        conclusion=conclusion,
        sentences=tuple(conclusion_paragraph(conclusion, evals.meta[conclusion.reference])),
        leaderboard=rows,
        breakdown=build_breakdown(conclusion, evals, competitor, by_category=has_categories),
        evaluations=main,
        colors=assign_colors(rows),
        price_bands={name: error_by_price(data) for name, data in arrays.items()},
        categories=categories,
        training_bands={name: error_by_training(data, evals) for name, data in arrays.items()},
        coverage={row.name: row.coverage_checks for row in rows if row.group == 0 and row.coverage_checks},
        running_errors={name: running_error(data) for name, data in arrays.items()},
        worst=tuple(worst_items(best, evals)),
        median_mae=float(abs(best.truth - best.evaluation.median).mean()),
    )


def build_breakdown(conclusion: Conclusion, evals: Evals, name: str | None, *, by_category: bool) -> Breakdown | None:
    """Compare the reference with the named competitor by price and category; None if it has no competitor.

    Without a name, the most accurate hosted model is taken, else the most accurate other pricer. Raises UsageError if
    the name is not a competitor's.
    """
    competitors = [comparison for comparison in conclusion.comparisons if comparison.pair is not None]
    names = [comparison.competitor for comparison in competitors]
    if name is not None and name not in names:
        raise UsageError(
            f"{name!r} is not a competitor of {conclusion.reference} here",
            got=f"--competitor {name}",
            allowed=", ".join(names) or "none: no other pricer was evaluated on the reference model's items",
            hint="Name a pricer that was evaluated on items of the reference model.",
        )
    competitors.sort(key=lambda pair: (pair.competitor != name, pair.pricer_type != "hosted", pair.kind == MEDIAN))
    if not competitors:
        return None
    both = evals.arrays[conclusion.reference], evals.arrays[competitors[0].competitor]
    categories = breakdown_by_category(*both, evals) if by_category else []
    return Breakdown(competitors[0].competitor, len(common_ids(*both)), breakdown_by_price(*both), categories)


def assign_colors(rows: tuple[LeaderboardRow, ...]) -> dict[str, str]:
    """Return each pricer's color, the same in every chart: by leaderboard position, gray for the median."""
    names = [row.name for row in rows if row.kind != MEDIAN]
    return {row.name: GRAY for row in rows} | {name: f"c{index % N_COLORS}" for index, name in enumerate(names)}
