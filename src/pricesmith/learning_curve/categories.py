"""Where the error sits, and which categories need rows.

The error by price and category is that of the fit on all rows, on the judged items. A category's need is read from its
own learning curve: training rows that a fit left out, judged by the fits on a quarter and on half of the rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from pricesmith.learning_curve.fits import FitMaterial, FitResult, FitTask, exclude_category
from pricesmith.learning_curve.schema import CategoryGain, ErrorRange, SegmentShare
from pricesmith.metrics.bands import Mask, error_bands, price_edges, price_masks
from pricesmith.metrics.bootstrap import Codes, Interval, bootstrap_interval, encode_groups
from pricesmith.metrics.metrics import Array

MAX_GAINS = (
    "A category needs rows where its own error fell by more money than that of all rows together when a quarter of the "
    "training rows became half of them: there a new row buys more than a new row at random. The fall must be told "
    "apart from that of all rows, for all categories at once, and be there in every draw."
)
LEAST_ROWS, LEAST_GROUPS = 30, 10
MOST = 8
NAMELESS = "(none)"


def error_shares(
    truth: Array, quote: Array, groups: Codes, masks: Sequence[tuple[str, Mask]]
) -> tuple[SegmentShare, ...]:
    """The error on each mask, in their order."""
    return tuple(
        SegmentShare(
            label=band.label,
            n=band.n,
            share_of_items=band.share_of_items,
            share_of_error=band.share_of_error,
            error=share_range(band.mae),
            ratio=band.ratio,
        )
        for band in error_bands(truth, quote, groups, masks)
    )


def share_range(found: Interval) -> ErrorRange:
    """An interval as a plain value."""
    return ErrorRange(point=found.point, low=found.low, high=found.high)


def by_price(truth: Array, quote: Array, groups: Codes) -> tuple[SegmentShare, ...]:
    """The error by band of the truth."""
    return error_shares(truth, quote, groups, price_masks(truth, price_edges(truth)))


def by_category(truth: Array, quote: Array, groups: Codes, labels: Sequence[str]) -> tuple[SegmentShare, ...]:
    """The error by category: those with most of the error first, then the others together; empty for one category."""
    named = np.array([label or NAMELESS for label in labels], dtype=object)
    errors: Counter[str] = Counter()
    for label, error in zip(named, np.abs(quote - truth).tolist(), strict=True):
        errors[label] += error
    if len(errors) < 2:
        return ()
    ordered = sorted(errors, key=lambda label: (-errors[label], label))
    masks: list[tuple[str, Mask]] = [(label, named == label) for label in ordered[:MOST]]
    rest = set(ordered[MOST:])
    if rest:
        masks.append((f"{len(rest):,} others", np.array([label in rest for label in named], dtype=bool)))
    return error_shares(truth, quote, groups, masks)


class LeftOut:
    """Training rows judged by fits that left them out. `errors` by part are means over draws, NaN where none did."""

    def __init__(self, material: FitMaterial, done: Mapping[FitTask, FitResult], parts: Sequence[int]) -> None:
        self.truth = np.array([item.price for item in material.train])
        rows = len(self.truth)
        self.labels = np.array([item.listing.category or NAMELESS for item in material.train], dtype=object)
        self.groups = encode_groups(material.names)
        self.draws = sorted({task.draw for task in done if task.part > 1})
        self.places = {draw: exclude_category(material, draw) for draw in self.draws}
        self.by_draw: dict[tuple[int, int], Array] = {}
        self.errors: dict[int, Array] = {}
        self.logs = np.zeros(rows)
        counts = np.zeros(rows)
        for part in parts:
            total, counts = np.zeros(rows), np.zeros(rows)
            self.logs = np.zeros(rows)
            for draw in self.draws:
                at, quote = self.places[draw], done[FitTask(part, draw)].left_out
                self.by_draw[part, draw] = np.abs(quote - self.truth[at])
                total[at] += self.by_draw[part, draw]
                self.logs[at] += np.abs(np.log(quote) - np.log(self.truth[at]))
                counts[at] += 1
            with np.errstate(invalid="ignore"):
                self.errors[part] = total / counts
        self.judged = counts > 0
        self.logs[self.judged] /= counts[self.judged]

    def gain(self, mask: Mask, confidence: float = 0.95) -> ErrorRange:
        """What going from a quarter to half of the rows took off the mean error on some of the rows."""
        codes = encode_groups(self.groups[mask].tolist())
        return share_range(
            bootstrap_interval(self.errors[4][mask], codes, minus=self.errors[2][mask], confidence=confidence)
        )

    def more_than_all(self, mask: Mask, confidence: float) -> ErrorRange:
        """By how much the fall on some of the rows is larger than that on all of them.

        The interval is of the linearised difference of two means over the same groups: each row's influence on it.
        """
        fall = self.errors[4][self.judged] - self.errors[2][self.judged]
        some = mask[self.judged]
        here, every = fall[some].mean(), fall.mean()
        influence = np.where(some, (fall - here) / some.mean(), 0.0) - (fall - every)
        codes = encode_groups(self.groups[self.judged].tolist())
        return share_range(bootstrap_interval(here - every + influence, codes, confidence=confidence))

    def every_draw(self, mask: Mask) -> bool:
        """Whether the error fell in each draw on its own."""
        falls = []
        for draw in self.draws:
            some = mask[self.places[draw]]
            if some.any():
                falls.append(self.by_draw[4, draw][some].mean() > self.by_draw[2, draw][some].mean())
        return len(falls) == len(self.draws) and all(falls)


def category_gains(rows: LeftOut) -> tuple[tuple[CategoryGain, ...], ErrorRange | None, SegmentShare | None]:
    """The categories with rows enough for a curve, those that need rows first; the gain of all rows together; and what
    is in categories too small for a curve."""
    if not rows.judged.any():
        return (), None, None
    overall = rows.gain(rows.judged)
    counts, judged = Counter(rows.labels.tolist()), Counter(rows.labels[rows.judged].tolist())
    measured = [label for label in sorted(counts) if judged[label] >= LEAST_ROWS and count_groups(rows, label)]
    if len(counts) < 2:
        return (), overall, None
    total = float(rows.errors[2][rows.judged].sum())
    found = []
    for label in measured:
        mask = (rows.labels == label) & rows.judged
        confidence = 1 - 0.05 / len(measured)
        gain, more, every = rows.gain(mask, confidence), rows.more_than_all(mask, confidence), rows.every_draw(mask)
        errors = rows.errors[2][mask]
        need = CategoryGain(
            category=label,
            rows=counts[label],
            judged=judged[label],
            share_of_rows=counts[label] / len(rows.labels),
            share_of_error=float(errors.sum()) / total if total else 0.0,
            error=float(errors.mean()),
            ratio=float(np.exp(rows.logs[mask].mean())),
            gain=gain,
            every_fit=every,
            needs=every and min(one.low or 0.0 for one in (gain, more)) > 0,
        )
        found.append(need)
    found.sort(key=lambda one: (not one.needs, -(one.gain.low if one.gain.low is not None else -1.0), one.category))
    small = rows.judged & ~np.isin(rows.labels, measured)
    return tuple(found), overall, small_share_note(rows, small, len(counts) - len(measured), total)


def count_groups(rows: LeftOut, label: str) -> bool:
    """Whether a category's judged rows are of groups enough."""
    return len(np.unique(rows.groups[(rows.labels == label) & rows.judged])) >= LEAST_GROUPS


def small_share_note(rows: LeftOut, mask: Mask, categories: int, total: float) -> SegmentShare | None:
    """The rows of categories too small for a curve; None without any."""
    if not mask.any():
        return None
    errors = rows.errors[2][mask]
    return SegmentShare(
        label=f"{categories:,} categories" if categories > 1 else "1 category",
        n=int(mask.sum()),
        share_of_items=float(mask.sum() / rows.judged.sum()),
        share_of_error=float(errors.sum()) / total if total else 0.0,
        error=share_range(bootstrap_interval(errors, encode_groups(rows.groups[mask].tolist()))),
        ratio=float(np.exp(rows.logs[mask].mean())),
    )
