"""Error by price and category, and which categories need more rows.

The error by price and category is the one of the fit on all rows, on the evaluated items. Whether a category needs rows
is read off its own learning curve: training rows that a fit left out, priced by the fits on a quarter and on half of
the rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from pricesmith.learning_curve.curve import CategoryGain, ErrorRange, SegmentShare
from pricesmith.learning_curve.fits import FitMaterial, FitResult, FitTask, left_out_rows
from pricesmith.metrics.bands import Mask, error_bands, price_edges, price_masks
from pricesmith.metrics.bootstrap import Codes, Interval, bootstrap_interval, encode_groups
from pricesmith.metrics.metrics import Array

NEEDS_ROWS_RULE = (
    "A category needs rows if its own MAE fell by more money than the MAE of all rows together when the training rows "
    "grew from a quarter to half: there, a new row reduces the MAE more than a new row at random. The difference must "
    "be significant (simultaneously over all categories) and must occur in every repeat."
)
MIN_ROWS, MIN_GROUPS = 30, 10
MAX_CATEGORIES = 8
NO_CATEGORY = "(none)"
ALPHA = 0.05


def segment_shares(
    truth: Array, quote: Array, groups: Codes, masks: Sequence[tuple[str, Mask]]
) -> tuple[SegmentShare, ...]:
    """Return the MAE on each mask of shape (n,), in their order."""
    return tuple(
        SegmentShare(
            label=band.label,
            n=band.n,
            share_of_items=band.share_of_items,
            share_of_error=band.share_of_error,
            mae=to_error_range(band.mae),
            ratio=band.ratio,
        )
        for band in error_bands(truth, quote, groups, masks)
    )


def to_error_range(interval: Interval) -> ErrorRange:
    """Return an interval as a plain value."""
    return ErrorRange(point=interval.point, low=interval.low, high=interval.high)


def shares_by_price(truth: Array, quote: Array, groups: Codes) -> tuple[SegmentShare, ...]:
    """Return the MAE by band of the true price; all arrays have shape (n,)."""
    return segment_shares(truth, quote, groups, price_masks(truth, price_edges(truth)))


def shares_by_category(truth: Array, quote: Array, groups: Codes, labels: Sequence[str]) -> tuple[SegmentShare, ...]:
    """Return the MAE of the categories with the largest total error, then of all others together; empty for a single
    category. Arrays and `labels` have length n.
    """
    named = np.array([label or NO_CATEGORY for label in labels], dtype=object)
    totals: Counter[str] = Counter()
    for label, error in zip(named, np.abs(quote - truth).tolist(), strict=True):
        totals[label] += error
    if len(totals) < 2:
        return ()
    ordered = sorted(totals, key=lambda label: (-totals[label], label))
    masks: list[tuple[str, Mask]] = [(label, named == label) for label in ordered[:MAX_CATEGORIES]]
    rest = set(ordered[MAX_CATEGORIES:])
    if rest:
        masks.append((f"{len(rest):,} others", np.array([label in rest for label in named], dtype=bool)))
    return segment_shares(truth, quote, groups, masks)


class LeftOutErrors:
    """Absolute errors on training rows by fits that left them out: `errors[part]` of shape (rows,) is the mean over
    repeats, NaN for rows that no fit left out; `evaluated` of shape (rows,) is False for those.
    """

    def __init__(self, material: FitMaterial, results: Mapping[FitTask, FitResult], parts: Sequence[int]) -> None:
        self.truth = np.array([item.price for item in material.train])
        n_rows = len(self.truth)
        self.labels = np.array([item.listing.category or NO_CATEGORY for item in material.train], dtype=object)
        self.groups = encode_groups(material.train_groups)
        self.repeats = sorted({task.repeat for task in results if task.part > 1})
        self.rows = {repeat: left_out_rows(material, repeat) for repeat in self.repeats}
        self.by_repeat: dict[tuple[int, int], Array] = {}
        self.errors: dict[int, Array] = {}
        self.log_errors = np.zeros(n_rows)
        counts = np.zeros(n_rows)
        for part in parts:
            total, counts = np.zeros(n_rows), np.zeros(n_rows)
            self.log_errors = np.zeros(n_rows)
            for repeat in self.repeats:
                rows, quote = self.rows[repeat], results[FitTask(part, repeat)].left_out
                self.by_repeat[part, repeat] = np.abs(quote - self.truth[rows])
                total[rows] += self.by_repeat[part, repeat]
                self.log_errors[rows] += np.abs(np.log(quote) - np.log(self.truth[rows]))
                counts[rows] += 1
            with np.errstate(invalid="ignore"):
                self.errors[part] = total / counts
        self.evaluated = counts > 0
        self.log_errors[self.evaluated] /= counts[self.evaluated]

    def gain(self, mask: Mask, confidence: float = 1 - ALPHA) -> ErrorRange:
        """Return the reduction of the MAE on some rows from a quarter to half of the training rows."""
        codes = encode_groups(self.groups[mask].tolist())
        return to_error_range(
            bootstrap_interval(self.errors[4][mask], codes, minus=self.errors[2][mask], confidence=confidence)
        )

    def excess_gain(self, mask: Mask, confidence: float) -> ErrorRange:
        """Return by how much the reduction on some rows exceeds the reduction on all rows.

        The interval is the one of the linearized difference of two means over the same groups: the influence of each
        row on it.
        """
        reduction = self.errors[4][self.evaluated] - self.errors[2][self.evaluated]
        inside = mask[self.evaluated]
        mean_inside, mean_all = reduction[inside].mean(), reduction.mean()
        influence = np.where(inside, (reduction - mean_inside) / inside.mean(), 0.0) - (reduction - mean_all)
        codes = encode_groups(self.groups[self.evaluated].tolist())
        return to_error_range(bootstrap_interval(mean_inside - mean_all + influence, codes, confidence=confidence))

    def falls_in_every_repeat(self, mask: Mask) -> bool:
        """Return whether the MAE on some rows fell in each repeat on its own."""
        falls = []
        for repeat in self.repeats:
            inside = mask[self.rows[repeat]]
            if inside.any():
                falls.append(self.by_repeat[4, repeat][inside].mean() > self.by_repeat[2, repeat][inside].mean())
        return len(falls) == len(self.repeats) and all(falls)


def measure_category_gains(
    errors: LeftOutErrors,
) -> tuple[tuple[CategoryGain, ...], ErrorRange | None, SegmentShare | None]:
    """Return the gains of all categories with enough rows for a curve (those that need rows first), the gain of all
    rows together, and the share of the categories that are too small.
    """
    if not errors.evaluated.any():
        return (), None, None
    overall = errors.gain(errors.evaluated)
    counts = Counter(errors.labels.tolist())
    evaluated_counts = Counter(errors.labels[errors.evaluated].tolist())
    measured = [
        label for label in sorted(counts) if evaluated_counts[label] >= MIN_ROWS and has_enough_groups(errors, label)
    ]
    if len(counts) < 2:
        return (), overall, None
    total = float(errors.errors[2][errors.evaluated].sum())
    gains = []
    for label in measured:
        mask = (errors.labels == label) & errors.evaluated
        confidence = 1 - ALPHA / len(measured)
        gain, excess = errors.gain(mask, confidence), errors.excess_gain(mask, confidence)
        in_every_repeat = errors.falls_in_every_repeat(mask)
        category_errors = errors.errors[2][mask]
        gains.append(
            CategoryGain(
                category=label,
                rows=counts[label],
                n=evaluated_counts[label],
                share_of_rows=counts[label] / len(errors.labels),
                share_of_error=float(category_errors.sum()) / total if total else 0.0,
                mae=float(category_errors.mean()),
                ratio=float(np.exp(errors.log_errors[mask].mean())),
                gain=gain,
                in_every_repeat=in_every_repeat,
                needs_rows=in_every_repeat and min(bound.low or 0.0 for bound in (gain, excess)) > 0,
            )
        )
    gains.sort(key=gain_order)
    small = errors.evaluated & ~np.isin(errors.labels, measured)
    return tuple(gains), overall, small_category_share(errors, small, len(counts) - len(measured), total)


def gain_order(gain: CategoryGain) -> tuple[bool, float, str]:
    """Return the sort key of a category: those that need rows first, then by the lower bound of the gain."""
    low = gain.gain.low if gain.gain.low is not None else -1.0
    return not gain.needs_rows, -low, gain.category


def has_enough_groups(errors: LeftOutErrors, label: str) -> bool:
    """Return whether a category's evaluated rows are in enough near-duplicate groups."""
    return len(np.unique(errors.groups[(errors.labels == label) & errors.evaluated])) >= MIN_GROUPS


def small_category_share(errors: LeftOutErrors, mask: Mask, categories: int, total: float) -> SegmentShare | None:
    """Return the share of the categories that are too small for a curve; None without any."""
    if not mask.any():
        return None
    category_errors = errors.errors[2][mask]
    return SegmentShare(
        label=f"{categories:,} categories" if categories > 1 else "1 category",
        n=int(mask.sum()),
        share_of_items=float(mask.sum() / errors.evaluated.sum()),
        share_of_error=float(category_errors.sum()) / total if total else 0.0,
        mae=to_error_range(bootstrap_interval(category_errors, encode_groups(errors.groups[mask].tolist()))),
        ratio=float(np.exp(errors.log_errors[mask].mean())),
    )
