"""The champion and one rival side by side, in bands of the price and by category: where one of them is the better.

    for line in beside_by_price(champion, rival):
        line.label, line.champion, line.rival, line.difference

Both on the items that both have. A table looks at many bands, so its intervals hold together at 95 % (Bonferroni: bands
have no item in common, so nothing is to be gained from what they share).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pricesmith.evaluation.compare import common_ids, paired
from pricesmith.evaluation.evaluate import columns_of, only
from pricesmith.evaluation.store import Evals
from pricesmith.measures.bands import Mask, label_masks, price_edges, price_masks
from pricesmith.measures.metrics import METRICS
from pricesmith.measures.resample import MIN_FAMILIES, Interval, codes_of, interval
from pricesmith.types import Evaluation

CONFIDENCE = 0.95


@dataclass(frozen=True)
class BesideBand:
    """One band: the mean errors of both on its `n` items, and rival minus champion with its interval."""

    label: str
    n: int
    champion: float
    rival: float
    difference: Interval

    @property
    def better(self) -> str:
        """Who errs less here, as far as the items tell: `champion`, `rival`, or nobody."""
        low, high = self.difference.low, self.difference.high
        if low is None or high is None:
            return ""
        return "champion" if low > 0 else "rival" if high < 0 else ""


def beside_by_price(champion: Evaluation, rival: Evaluation, *, seed: int = 0) -> list[BesideBand]:
    """By band of the true price."""
    truth = columns_of(only(champion, common_ids(champion, rival))).truth
    return beside(champion, rival, price_masks(truth, price_edges(truth)), seed)


def beside_by_category(
    champion: Evaluation, rival: Evaluation, evals: Evals, most: int = 10, *, seed: int = 0
) -> list[BesideBand]:
    """By category: the `most` commonest, then the others together."""
    labels = [evals.items[id].category for id in common_ids(champion, rival)]
    return beside(champion, rival, label_masks(labels, most), seed)


def beside(champion: Evaluation, rival: Evaluation, masks: Sequence[tuple[str, Mask]], seed: int) -> list[BesideBand]:
    """A line for each mask that holds an item; masks have shape (n,), in the champion's order of the common items."""
    pair = paired(champion, rival, common_ids(champion, rival), METRICS["mean error"])
    some = [(label, mask, codes_of(pair.codes[mask].tolist())) for label, mask in masks if mask.any()]
    tested = sum(int(codes.max()) + 1 >= MIN_FAMILIES for _, _, codes in some)
    each = 1 - (1 - CONFIDENCE) / max(1, tested)
    lines = []
    for label, mask, codes in some:
        mine, its = pair.values[mask], pair.minus[mask]
        found = interval(its, codes, minus=mine, confidence=each, seed=seed)
        lines.append(BesideBand(label, int(np.sum(mask)), float(mine.mean()), float(its.mean()), found))
    return lines
