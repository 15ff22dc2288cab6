"""Error and coverage by band: of the truth, of the quote, by category, with and without near-repeats in
training.

    >>> import numpy as np
    >>> prices = np.array([5, 15, 40, 80, 150, 300, 700] * 20, dtype=float)
    >>> [band_label(*ends) for ends in band_ends(price_edges(prices))][:3]
    ['under 10', '10 to 20', '20 to 50']

A band holds its lower edge and not its upper one.

`coverage_test` says whether the coverage of a band's intervals is significantly off its level, two-sided, counting
near-duplicate groups; `adjust_p_values` (Holm) keeps one level of error over all bands. The exact binomial test needs
independent items; those of one group are covered or missed together. So the number of items is divided by the design
effect: the group-robust variance of the coverage over that of independent items, 1 at least (Korn & Graubard 1998, who
do the same for the Clopper-Pearson interval). If all items are covered or all are missed, nothing shows how groups
agree, and each group counts as one item.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pricesmith.metrics.bootstrap import MIN_GROUPS, Codes, Interval, bootstrap_interval, encode_groups
from pricesmith.metrics.metrics import Array, coverage, error, interval_factors

ROUND = (1, 2, 5)
ALPHA = 0.05
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ErrorBand:
    """The error on some of the items. `share_of_error` is theirs of the sum of all errors, `ratio` the
    typical
    factor between quote and truth: exp of the mean |log quote - log truth|."""

    label: str
    n: int
    share_of_items: float
    share_of_error: float
    mae: Interval
    ratio: float
    bias: float


@dataclass(frozen=True)
class CoverageBand:
    """The coverage of the intervals in a band of quotes, and their typical width: price ÷ `lower_factor` to
    × `upper_factor`.

    `test` compares the coverage with its nominal level.
    """

    label: str
    n: int
    coverage: Interval
    lower_factor: float
    upper_factor: float
    test: CoverageTest


def price_edges(prices: Array, most: int = 8, least: float = 0.03) -> list[float]:
    """Round inner edges (1, 2, 5 x a power of ten) that cut prices, shape (n,), into bands.

    Every round price is an edge, until bands with under a share `least` of the prices, or the smallest of more
    than `most`, have joined the smaller neighbor. So the expensive tail, where most of the error is, keeps bands of its
    own. Where all prices are one there is nothing to cut.
    """
    if not len(prices) or prices.min() == prices.max():
        return []
    powers = np.arange(np.floor(np.log10(prices.min())), np.ceil(np.log10(prices.max())) + 1)
    rounds = [float(f"{digit}e{int(power)}") for power in powers for digit in ROUND]
    edges = [edge for edge in rounds if prices.min() < edge <= prices.max()]
    while edges:
        counts = np.histogram(prices, [0.0, *edges, np.inf])[0]
        small = int(counts.argmin())
        if counts[small] >= least * len(prices) and len(counts) <= most:
            break
        last = len(edges)
        with_next = small == 0 or (small < last and counts[small + 1] < counts[small - 1])
        del edges[small if with_next else small - 1]
    return edges


def band_ends(edges: Sequence[float]) -> list[tuple[float, float]]:
    """The bands that inner edges cut, from 0 to infinity."""
    ends = [0.0, *edges, float("inf")]
    return list(pairwise(ends))


def band_label(low: float, high: float) -> str:
    """A band in words: `under 10`, `10 to 25`, `400 and over`, `all`."""
    if low == 0.0:
        return "all" if high == float("inf") else f"under {high:,g}"
    return f"{low:,g} and over" if high == float("inf") else f"{low:,g} to {high:,g}"


def price_masks(prices: Array, edges: Sequence[float]) -> list[tuple[str, Mask]]:
    """The bands of `prices` by label, as masks of shape (n,); together they hold every item once."""
    return [(band_label(low, high), (prices >= low) & (prices < high)) for low, high in band_ends(edges)]


def category_masks(labels: Sequence[str], most: int = 8) -> list[tuple[str, Mask]]:
    """The `most` commonest labels, commonest first, then `other`; an empty label reads `(none)`."""
    named = [label or "(none)" for label in labels]
    counts = sorted(Counter(named).items(), key=lambda pair: (-pair[1], pair[0]))
    array = np.array(named, dtype=object)
    masks: list[tuple[str, Mask]] = [(label, array == label) for label, _ in counts[:most]]
    if len(counts) > most:
        rest = {label for label, _ in counts[most:]}
        masks.append((f"{len(rest)} others", np.array([label in rest for label in named])))
    return masks


def error_bands(
    truth: Array, quote: Array, groups: Codes, masks: Sequence[tuple[str, Mask]], *, seed: int = 0
) -> list[ErrorBand]:
    """The error on each mask that holds an item. `truth`, `quote` (charged), `groups` have shape (n,)."""
    errors = error(truth, quote)
    total = float(errors.sum())
    bands = []
    for label, mask in masks:
        if not mask.any():
            continue
        band_errors = errors[mask]
        interval = bootstrap_interval(band_errors, encode_groups(groups[mask].tolist()), seed=seed)
        ratio = float(np.exp(np.abs(np.log(quote[mask]) - np.log(truth[mask])).mean()))
        share = float(band_errors.sum()) / total if total else 0.0
        bias = float((quote[mask] - truth[mask]).mean())
        bands.append(ErrorBand(label, len(band_errors), len(band_errors) / len(truth), share, interval, ratio, bias))
    return bands


def coverage_bands(
    truth: Array,
    quote: Array,
    low: Array,
    high: Array,
    groups: Codes,
    masks: Sequence[tuple[str, Mask]],
    *,
    level: float = 0.9,
    seed: int = 0,
) -> list[CoverageBand]:
    """How often [low, high] holds the truth on each mask that has an interval; NaN bounds are no interval.

    All arrays have shape (n,). A mask by bands of the *quote* shows whether intervals hold where they are
    used: the truth is not known then.
    """
    bounded = np.isfinite(low) & np.isfinite(high)
    bands = []
    for label, mask in masks:
        selected = mask & bounded
        if not selected.any():
            continue
        covered = coverage(truth[selected], low[selected], high[selected])
        codes = encode_groups(groups[selected].tolist())
        interval = bootstrap_interval(covered, codes, share=True, seed=seed)
        reach = interval_factors(quote[selected], low[selected], high[selected])
        bands.append(CoverageBand(label, int(selected.sum()), interval, *reach, coverage_test(covered, codes, level)))
    return bands


@dataclass(frozen=True)
class CoverageTest:
    """The two-sided test of a coverage against `level`. `p` is None below 5 groups; `effective` is the number of
    independent items that these say as much as."""

    level: float
    p: float | None
    effective: float


def coverage_test(held: Array, groups: Codes, level: float) -> CoverageTest:
    """Test 0s and 1s of shape (n,), in groups 0..G-1 of shape (n,), against a coverage of `level`."""
    count = int(groups.max()) + 1
    effective = effective_items(held, groups)
    if count < MIN_GROUPS:
        return CoverageTest(level, None, effective)
    return CoverageTest(level, binomial_p(effective * float(held.mean()), effective, level), effective)


def effective_items(held: Array, groups: Codes) -> float:
    """How many independent items say as much as these, between the number of groups and of items at most."""
    n, count, share = len(held), int(groups.max()) + 1, float(held.mean())
    if share in (0.0, 1.0) or count < 2:
        return float(count)
    sums = np.bincount(groups, held - share)
    robust = float(np.square(sums).sum()) * count / (count - 1) / n**2
    return n / max(1.0, robust / (share * (1 - share) / n))


def binomial_p(successes: float, trials: float, level: float) -> float:
    """The two-sided exact binomial p-value, twice the smaller tail, for numbers that need not be whole."""
    from scipy.special import betainc

    at_least = float(betainc(successes, trials - successes + 1, level)) if successes > 0 else 1.0
    at_most = 1 - float(betainc(successes + 1, trials - successes, level)) if successes < trials else 1.0
    return min(1.0, 2 * min(at_least, at_most))


def adjust_p_values(values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p-values, in the order given; None stays None and does not count as a test."""
    order = sorted((index for index, p in enumerate(values) if p is not None), key=lambda index: values[index] or 0.0)
    adjusted: list[float | None] = [None] * len(values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * (values[index] or 0.0)))
        adjusted[index] = highest
    return adjusted
