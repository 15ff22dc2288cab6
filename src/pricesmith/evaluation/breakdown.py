"""Compare the reference model with one competitor by price band and by category.

    for band in breakdown_by_price(reference, competitor):
        band.label, band.reference, band.competitor, band.difference

Both are measured on their common items. A table shows many bands, so its 95 % intervals are simultaneous: Bonferroni,
because bands share no items and a max-t correction would gain nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pricesmith.core.types import Evaluation
from pricesmith.evaluation.compare import common_ids, pair_rows
from pricesmith.evaluation.evaluate import EvalArrays, to_arrays
from pricesmith.evaluation.results import Evals
from pricesmith.metrics.bands import Mask, category_masks, price_edges, price_masks
from pricesmith.metrics.bootstrap import MIN_GROUPS, Interval, bootstrap_interval, encode_groups
from pricesmith.metrics.metrics import METRICS

CONFIDENCE = 0.95


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
