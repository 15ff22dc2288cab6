"""The reference and one competitor side by side, in bands of the price and by category: where one of them is the better.

    for line in beside_by_price(reference, competitor):
        line.label, line.reference, line.competitor, line.difference

Both on the items that both have. A table looks at many bands, so its intervals hold together at 95 % (Bonferroni: bands
have no item in common, so nothing is to be gained from what they share).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pricesmith.core.types import Evaluation
from pricesmith.evaluation.compare import common_ids, pair_rows
from pricesmith.evaluation.evaluate import select_ids, to_arrays
from pricesmith.evaluation.results import Evals
from pricesmith.metrics.bands import Mask, category_masks, price_edges, price_masks
from pricesmith.metrics.bootstrap import MIN_GROUPS, Interval, bootstrap_interval, encode_groups
from pricesmith.metrics.metrics import METRICS

CONFIDENCE = 0.95


@dataclass(frozen=True)
class BreakdownBand:
    """One band: the mean errors of both on its `n` items, and competitor minus reference with its interval."""

    label: str
    n: int
    reference: float
    competitor: float
    difference: Interval

    @property
    def better(self) -> str:
        """Who errs less here, as far as the items tell: `reference`, `competitor`, or nobody."""
        low, high = self.difference.low, self.difference.high
        if low is None or high is None:
            return ""
        return "reference" if low > 0 else "competitor" if high < 0 else ""


def breakdown_by_price(reference: Evaluation, competitor: Evaluation, *, seed: int = 0) -> list[BreakdownBand]:
    """By band of the true price."""
    truth = to_arrays(select_ids(reference, common_ids(reference, competitor))).truth
    return breakdown(reference, competitor, price_masks(truth, price_edges(truth)), seed)


def breakdown_by_category(
    reference: Evaluation, competitor: Evaluation, evals: Evals, most: int = 10, *, seed: int = 0
) -> list[BreakdownBand]:
    """By category: the `most` commonest, then the others together."""
    labels = [evals.items[id].category for id in common_ids(reference, competitor)]
    return breakdown(reference, competitor, category_masks(labels, most), seed)


def breakdown(
    reference: Evaluation, competitor: Evaluation, masks: Sequence[tuple[str, Mask]], seed: int
) -> list[BreakdownBand]:
    """A line for each mask that holds an item; masks have shape (n,), in the reference's order of the common items."""
    pair = pair_rows(reference, competitor, common_ids(reference, competitor), METRICS["MAE"])
    some = [(label, mask, encode_groups(pair.codes[mask].tolist())) for label, mask in masks if mask.any()]
    tested = sum(int(codes.max()) + 1 >= MIN_GROUPS for _, _, codes in some)
    each = 1 - (1 - CONFIDENCE) / max(1, tested)
    lines = []
    for label, mask, codes in some:
        mine, its = pair.values[mask], pair.minus[mask]
        found = bootstrap_interval(its, codes, minus=mine, confidence=each, seed=seed)
        lines.append(BreakdownBand(label, int(np.sum(mask)), float(mine.mean()), float(its.mean()), found))
    return lines
