"""report.json: the report as data, beside report.html and named after it. The same evals and options give equal bytes.

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
     "leaderboard": [{"name": "blend", "kind": "blend", "rank": 1, "rank_to": 2, "mae": {...}, ...}],
     "coverage": [{"name": "blend", "scope": "category", "label": "lamps", "n": 212, "coverage": 0.84, "p": 0.012,
                   "is_significant": true, ...}],
     "costs": [{"name": "blend", "type": "own", "usd_per_1000": 0.0031, "usd_per_million": 3.1, ...}]}

`mae_difference` is the competitor's MAE minus the reference's, in the catalog's currency: above 0 the reference is more
accurate. `outcome` is the reference's: better, worse, no significant difference, too few items, other items. The
intervals of differences are simultaneous. `n_unanswered` of a competitor counts among the common items. A cost that is
unknown is null, never 0; `usd_per_...` are for quotes without fitting.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pricesmith.evaluation.compare import Difference
from pricesmith.evaluation.conclusion import Comparison, Conclusion, LlmComparison
from pricesmith.evaluation.cost import BreakEven, Cost, get_pricer_type
from pricesmith.evaluation.leaderboard import CoverageCheck, LeaderboardRow

FORMAT = 2
GENERATOR = "pricesmith report"


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
    del values["coverage_checks"]
    fees = values.pop("dollars_per_1000")
    is_paid = get_pricer_type(row.kind) in ("own", "hosted")
    values["fees_usd_per_1000"] = fees if is_paid else None
    return {**values, "miscoverage": [coverage_dict(check) for check in row.miscoverage]}


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
        "lost_replies_max_usd_per_1000": None if cost.fees is None else 1_000 * cost.lost,
        "seconds_per_quote_in_batches": cost.seconds,
        "latency_seconds": None if cost.latency is None else asdict(cost.latency),
        "fit_seconds": cost.fit_seconds,
        "fit_usd": cost.fit,
    }
