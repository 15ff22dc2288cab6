"""report.json: the conclusion as data, beside report.html and named after it. Plain values; the same evals and options
give the same bytes.

    {"generator": "pricesmith report", "format": 1,
     "words": ["On 2,915 items of goods (test split) blend, ... is off by $31.20 [29.90, 32.60] on average.", ...],
     "catalog": {"name": "goods", "fingerprint": "9f86d0...", "split": "test", "currency": "USD"},
     "reference": {"name": "blend", "kind": "blend", "side": "own", "chosen": "own", "among": 4, "items": 2915,
                  "unanswered": 0, "groups": 2810, "mae": 31.2, "low": 29.9, "high": 32.6},
     "confidence": 0.95, "comparisons": 9, "confidence_of_each": 0.9931, "box_usd_per_hour": 0.4,
     "versus": [{"competitor": "frontier-gpt", "kind": "api", "side": "hosted", "outcome": "better",
                 "difference": 12.3, "low": 9.1, "high": 15.4, "items": 1000, "groups": 990,
                 "reference_error": 30.9, "competitor_error": 43.2, "items_needed": 150, "unanswered": 3,
                 "cost_times": 210.0,
                 "break_even": {"quotes": 12000, "why": "paid back", "box_usd_per_hour": 88.0}}],
     "llm": {"state": "compared", "tuned": true, "pairs": [...]},
     "costs": [{"pricer": "blend", "side": "own", "usd_per_1000": 0.0031, "usd_per_million": 3.1, ...}]}

`difference` is the competitor's mean error minus the reference's, in the catalog's currency: above 0 the reference errs less.
`outcome` is the reference's: better, worse, not told apart, too few items, other items. The intervals of differences
hold all together. `unanswered` counts missing answers, a competitor's on the common items. A cost that is not known is null,
never 0; `usd_per_...` are for quotes, fitting not counted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pricesmith.evaluation.compare import Difference
from pricesmith.evaluation.conclusion import Conclusion
from pricesmith.evaluation.cost import BreakEven, Cost
from pricesmith.evaluation.leaderboard import LeaderboardRow

FORMAT = 1
GENERATOR = "pricesmith report"


def is_report(path: Path) -> bool:
    """Whether a file holds the data of a report. An empty file is no loss."""
    try:
        found = json.loads(path.read_text(encoding="utf-8") or "null")
    except (OSError, ValueError, RecursionError):
        return False
    return found is None or (isinstance(found, dict) and found.get("generator") == GENERATOR)


def report_dict(
    found: Conclusion, words: Sequence[str], catalog: Mapping[str, Any], rows: Sequence[LeaderboardRow] = ()
) -> dict[str, Any]:
    """The conclusion as plain values, ready for JSON; `catalog` says what was judged, `rows` are the leaderboard's."""
    error = found.error
    return {
        "generator": GENERATOR,
        "format": FORMAT,
        "words": list(words),
        "catalog": {**catalog, "currency": found.currency},
        "reference": {
            "name": found.reference,
            "kind": found.kind,
            "side": found.pricer_type,
            "chosen": found.chosen,
            "among": found.n_candidates,
            "items": error.n,
            "unanswered": found.unanswered,
            "groups": error.groups,
            "mae": error.point,
            "low": error.low,
            "high": error.high,
        },
        "confidence": found.confidence,
        "comparisons": found.n_comparisons,
        "confidence_of_each": found.pairwise_confidence,
        "box_usd_per_hour": found.machine_cost,
        "versus": [
            {
                "competitor": one.competitor,
                "kind": one.kind,
                "side": one.pricer_type,
                "outcome": one.outcome,
                **pair_dict(one.pair, "reference_error", "competitor_error"),
                "unanswered": one.unanswered,
                "cost_times": one.times,
                "break_even": break_even_dict(one.break_even),
            }
            for one in found.comparisons
        ],
        "llm": {
            "state": found.llm.state,
            "tuned": found.llm.tuned,
            "pairs": [
                {
                    "role": one.role,
                    "llm": one.llm,
                    "sparse_mlp": one.mlp,
                    "outcome": one.outcome,
                    **pair_dict(one.pair, "llm_error", "sparse_mlp_error"),
                    "seconds_times": one.seconds_times,
                }
                for one in found.llm.pairs
            ],
        },
        "intervals": [interval_facts(row) for row in rows if row.coverage is not None],
        "costs": [cost_dict(one, found.kinds[name]) for name, one in found.costs.items()],
    }


def interval_facts(row: LeaderboardRow) -> dict[str, Any]:
    """How often a pricer's intervals hold the price, how far they reach, and where that is significantly off."""
    return {
        "pricer": row.name,
        "coverage": row.coverage.point if row.coverage else None,
        "below": row.lower_factor,
        "above": row.upper_factor,
        "miscoverage": [asdict(one) for one in row.miscoverage],
    }


def pair_dict(pair: Difference | None, second: str, first: str) -> dict[str, Any]:
    """A paired difference, `first` minus `second`; all null where the two have no item in common."""
    return {
        "difference": pair.difference if pair else None,
        "low": pair.low if pair else None,
        "high": pair.high if pair else None,
        "items": pair.n if pair else 0,
        "groups": pair.groups if pair else 0,
        second: pair.b_value if pair else None,
        first: pair.a_value if pair else None,
        "items_needed": pair.n_needed if pair else None,
    }


def break_even_dict(meeting: BreakEven | None) -> dict[str, Any] | None:
    """Where the reference's own box becomes cheaper than the competitor's host; None where there is no such pair."""
    if meeting is None:
        return None
    return {"quotes": meeting.quotes, "why": meeting.why, "box_usd_per_hour": meeting.machine_cost}


def cost_dict(one: Cost, kind: str) -> dict[str, Any]:
    """What one pricer's quotes cost, and how long they take."""
    return {
        "pricer": one.pricer,
        "kind": kind,
        "side": one.pricer_type,
        "usd_per_1000": None if one.quote is None else 1_000 * one.quote,
        "usd_per_million": None if one.quote is None else 1_000_000 * one.quote,
        "usd_of_fees_per_1000": None if one.fees is None else 1_000 * one.fees,
        "usd_lost_per_1000_at_most": None if one.fees is None else 1_000 * one.lost,
        "seconds_per_quote_in_batches": one.seconds,
        "latency_seconds": None if one.latency is None else asdict(one.latency),
        "fit_seconds": one.fit_seconds,
        "fit_usd": one.fit,
    }
