"""What the report shows of an evals folder, computed once: conclusion, leaderboard, bands, coverage, errors.

Only pricers evaluated on the same items are drawn together; the largest such group is the report's main group.
report.json, beside report.html and named after it, is part of it; the same evals and options give equal bytes:

    {"generator": "pricesmith report", "format": 2,
     "conclusion": ["On 2,915 items of goods (test split), blend has an MAE of $31.20 [29.90, 32.60], ...", ...],
     "catalog": {"name": "goods", "fingerprint": "9f86d0...", "split": "test", "folds": false, "currency": "USD"},
     "reference": {"name": "blend", "kind": "blend", "type": "own", "chosen": "own", "n_candidates": 4, "n": 2915,
                   "n_groups": 2810, "n_unanswered": 0, "mae": 31.2, "mae_low": 29.9, "mae_high": 32.6},
     "confidence": 0.95, "n_comparisons": 9, "pairwise_confidence": 0.9931, "machine_usd_per_hour": 0.4,
     "competitors": [{"name": "gpt", "kind": "api", "type": "hosted", "outcome": "better",
                      "mae_difference": 12.3, "low": 9.1, "high": 15.4, "n": 1000, "n_groups": 990,
                      "reference_mae": 30.9, "competitor_mae": 43.2, "n_needed": 150, "n_unanswered": 3,
                      "cost_ratio": 210.0,
                      "break_even": {"quotes": 12000, "status": "paid back", "machine_usd_per_hour": 88.0}}],
     "llm": {"state": "compared", "tuned": true, "comparisons": [...]},
     "leaderboard": [{"name": "blend", "kind": "blend", "rank": 1, "rank_to": 2, "mae": {...}, ...,
                      "asked": {"n": 2915, "asked": 612, "unanswered": 3, ...},
                      "cost_curve": {"first": "best", "second": "gpt", "points": [...], "chosen": {...}, ...}}],
     "coverage": [{"name": "blend", "scope": "category", "label": "lamps", "n": 212, "coverage": 0.84, "p": 0.012,
                   "is_significant": true, ...}],
     "age": {"sentences": ["blend: the MAE grows by $0.80 [0.20, 1.40] for every 30 days ..."],
             "pricers": [{"name": "blend", "bands": [{"label": "1 to 14 days", "n": 480, "mae": 28.1, ...}],
                          "trend": {"slope": 0.8, "low": 0.2, "high": 1.4, "is_significant": true, ...}}]},
     "costs": [{"name": "blend", "type": "own", "usd_per_1000": 0.0031, "usd_per_million": 3.1, ...}]}

`mae_difference` is the competitor's MAE minus the reference's, in the catalog's currency: above 0 the reference is more
accurate. `outcome` is the reference's: better, worse, no significant difference, too few items, other items. The
intervals of differences are simultaneous. `n_unanswered` of a competitor counts among the common items. A cost that is
unknown is null, never 0; `usd_per_...` are for quotes without fitting. `asked` counts the listings that an API model
was asked about, and `cost_curve` is that of a cascade (evaluation/cost_curve.py); both are null for other pricers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.types import Evaluation
from pricesmith.evaluation.aging import AgeTrend, adjust_trends, age_trend, ages_of, error_by_age
from pricesmith.evaluation.compare import (
    BreakdownBand,
    Difference,
    breakdown_by_category,
    breakdown_by_price,
    common_ids,
)
from pricesmith.evaluation.conclusion import MEDIAN, Comparison, Conclusion, LlmComparison, conclude
from pricesmith.evaluation.cost import BreakEven, Cost, get_pricer_type
from pricesmith.evaluation.cost_curve import CostCurve
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
from pricesmith.reporting.narrative import conclusion_paragraph, is_frontier
from pricesmith.text.formatting import join_names, to_single_line

N_COLORS = 7  # the palette of style.css without the gray of the median pricer
GRAY = "c7"
MAX_BARS = 4  # side by side, bars of more pricers cannot be distinguished on a phone; the tables have them all
MAX_CATEGORIES = 10
FORMAT = 2  # of report.json
GENERATOR = "pricesmith report"


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

    `coverage` is empty for pricers without intervals, and what goes by age unless the catalog is split by time;
    `median_mae` is the MAE of always quoting the training median.
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
    age_bands: dict[str, list[ErrorBand]] = field(default_factory=dict)
    age_trends: dict[str, AgeTrend] = field(default_factory=dict)

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
    def cost_curves(self) -> dict[str, CostCurve]:
        """The cost curves of cascades by name, most accurate first."""
        hybrids = self.conclusion.hybrids.items()
        return {name: hybrid.curve for name, hybrid in hybrids if hybrid.curve is not None}

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
    known = {name: days for name, data in arrays.items() if (days := ages_of(data, evals)) is not None}
    age_bands = {name: bands for name, days in known.items() if (bands := error_by_age(arrays[name], days))}
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
        age_bands=age_bands,
        age_trends=adjust_trends(
            {name: age_trend(arrays[name], known[name], bands) for name, bands in age_bands.items()}
        ),
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
    competitors.sort(key=lambda pair: (pair.competitor != name, not is_frontier(pair, conclusion), pair.kind == MEDIAN))
    if not competitors:
        return None
    both = evals.arrays[conclusion.reference], evals.arrays[competitors[0].competitor]
    categories = breakdown_by_category(*both, evals) if by_category else []
    return Breakdown(competitors[0].competitor, len(common_ids(*both)), breakdown_by_price(*both), categories)


def assign_colors(rows: tuple[LeaderboardRow, ...]) -> dict[str, str]:
    """Return each pricer's color, the same in every chart: by leaderboard position, gray for the median."""
    names = [row.name for row in rows if row.kind != MEDIAN]
    return {row.name: GRAY for row in rows} | {name: f"c{index % N_COLORS}" for index, name in enumerate(names)}


def is_report(path: Path) -> bool:
    """Return whether a file holds the data of a report. An empty file counts as one: nothing is lost with it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8") or "null")
    except (OSError, ValueError, RecursionError):
        return False
    return content is None or (isinstance(content, dict) and content.get("generator") == GENERATOR)


def report_dict(
    conclusion: Conclusion,
    sentences: Sequence[str],
    catalog: Mapping[str, Any],
    rows: Sequence[LeaderboardRow] = (),
) -> dict[str, Any]:
    """Return the report as plain values, ready for JSON; `catalog` describes the evaluated items."""
    return {
        "generator": GENERATOR,
        "format": FORMAT,
        "conclusion": list(sentences),
        "catalog": {**catalog, "currency": conclusion.currency},
        "reference": {
            "name": conclusion.reference,
            "kind": conclusion.kind,
            "type": conclusion.pricer_type,
            "chosen": conclusion.chosen,
            "n_candidates": conclusion.n_candidates,
            "n": conclusion.error.n,
            "n_groups": conclusion.error.groups,
            "n_unanswered": conclusion.unanswered,
            "mae": conclusion.error.point,
            "mae_low": conclusion.error.low,
            "mae_high": conclusion.error.high,
        },
        "confidence": conclusion.confidence,
        "n_comparisons": conclusion.n_comparisons,
        "pairwise_confidence": conclusion.pairwise_confidence,
        "machine_usd_per_hour": conclusion.machine_cost,
        "competitors": [competitor_dict(comparison) for comparison in conclusion.comparisons],
        "llm": llm_dict(conclusion.llm),
        "leaderboard": [leaderboard_row_dict(row) for row in rows],
        "coverage": [{"name": row.name, **coverage_dict(check)} for row in rows for check in row.coverage_checks],
        "costs": [cost_dict(cost, conclusion.kinds[name]) for name, cost in conclusion.costs.items()],
    }


def competitor_dict(comparison: Comparison) -> dict[str, Any]:
    """Return one competitor with its paired difference to the reference and its cost relative to it."""
    return {
        "name": comparison.competitor,
        "kind": comparison.kind,
        "type": comparison.pricer_type,
        "outcome": comparison.outcome,
        **pair_dict(comparison.pair, "reference_mae", "competitor_mae"),
        "n_unanswered": comparison.unanswered,
        "cost_ratio": comparison.times,
        "break_even": break_even_dict(comparison.break_even),
    }


def llm_dict(question: LlmComparison) -> dict[str, Any]:
    """Return the comparisons of language models with the sparse MLP."""
    return {
        "state": question.state,
        "tuned": question.tuned,
        "comparisons": [
            {
                "role": comparison.role,
                "llm": comparison.llm,
                "sparse_mlp": comparison.mlp,
                "outcome": comparison.outcome,
                **pair_dict(comparison.pair, "llm_mae", "sparse_mlp_mae"),
                "seconds_ratio": comparison.seconds_times,
            }
            for comparison in question.pairs
        ],
    }


def leaderboard_row_dict(row: LeaderboardRow) -> dict[str, Any]:
    """Return a leaderboard row with the coverage checks that are significant; unknown fees are None."""
    values = asdict(row)
    del values["coverage_checks"], values["hybrid"]
    fees = values.pop("dollars_per_1000")
    is_paid = get_pricer_type(row.kind) in ("own", "hosted")
    values["fees_usd_per_1000"] = fees if is_paid else None
    asked, curve = (row.hybrid.asked, row.hybrid.curve) if row.hybrid is not None else (None, None)
    return {
        **values,
        "miscoverage": [coverage_dict(check) for check in row.miscoverage],
        "asked": None if asked is None else asked.model_dump(mode="json"),
        "cost_curve": None if curve is None else curve.to_dict(),
    }


def coverage_dict(check: CoverageCheck) -> dict[str, Any]:
    """Return one coverage test: on all items, in a band of the quote or in a category."""
    return {
        "scope": check.scope,
        "label": check.label,
        "n": check.n,
        "level": check.level,
        "coverage": check.coverage.point,
        "low": check.coverage.low,
        "high": check.coverage.high,
        "lower_factor": check.band.lower_factor,
        "upper_factor": check.band.upper_factor,
        "p": check.p,
        "is_significant": check.is_significant,
    }


def pair_dict(pair: Difference | None, second: str, first: str) -> dict[str, Any]:
    """Return a paired difference, `first` minus `second`; all null if the two have no item in common."""
    return {
        "mae_difference": pair.difference if pair else None,
        "low": pair.low if pair else None,
        "high": pair.high if pair else None,
        "n": pair.n if pair else 0,
        "n_groups": pair.groups if pair else 0,
        second: pair.b_value if pair else None,
        first: pair.a_value if pair else None,
        "n_needed": pair.n_needed if pair else None,
    }


def break_even_dict(break_even: BreakEven | None) -> dict[str, Any] | None:
    """Return from how many quotes the reference is cheaper than a hosted competitor; None for other pairs."""
    if break_even is None:
        return None
    return {
        "quotes": break_even.quotes,
        "status": break_even.why,
        "machine_usd_per_hour": break_even.machine_cost,
    }


def cost_dict(cost: Cost, kind: str) -> dict[str, Any]:
    """Return what one pricer's quotes cost and how long they take; unknown values are None."""
    return {
        "name": cost.pricer,
        "kind": kind,
        "type": cost.pricer_type,
        "usd_per_1000": None if cost.quote is None else 1_000 * cost.quote,
        "usd_per_million": None if cost.quote is None else 1_000_000 * cost.quote,
        "fees_usd_per_1000": None if cost.fees is None else 1_000 * cost.fees,
        "estimated_fees": cost.estimated_fees,
        "lost_replies_max_usd_per_1000": None if cost.fees is None else 1_000 * cost.lost,
        "seconds_per_quote_in_batches": cost.seconds,
        "latency_seconds": None if cost.latency is None else asdict(cost.latency),
        "fit_seconds": cost.fit_seconds,
        "fit_usd": cost.fit,
    }
