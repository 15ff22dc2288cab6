"""What a base knows before it is tuned, on a sample of the user's validation items and within a time budget.

Two measures of each base, beside the reference ridge on the same rows and the constant:

* its untuned error: the price that it would write (`tokens`), asked as it will be asked when it is tuned;
* a ridge on its frozen last-token states: what a linear head finds in what the base makes of a listing.

The second is the better guide to which base to tune: it sees the states that an adapter starts from, and it does not
hang on whether the base happens to answer in numbers. Intervals resample groups. Two bases are compared on the items
that both had time for; under MIN_ITEMS of them there is no comparison, and an order that may be chance is not told.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pricesmith.catalog.catalog import Catalog
from pricesmith.core.errors import InputError, PricesmithError
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.types import Item
from pricesmith.evaluation.compare import items_needed
from pricesmith.metrics.bootstrap import Interval, bootstrap_interval, encode_groups
from pricesmith.metrics.metrics import Array, charge_unanswered
from pricesmith.pricers.llm.pricer import LlmPricer, pricing_batches, zero_shot_pricer
from pricesmith.pricers.llm.readout import check_finite, hidden_states_at
from pricesmith.pricers.ridge import RidgeRecipe

JUDGED = 300  # validation items, at most: tuned and untuned differ by more than what these cannot tell apart
TAUGHT = 4_000  # training rows for the two ridges, at most
MIN_ITEMS = 30  # in a comparison: an interval of fewer heavy-tailed errors is not to be trusted
CONFIDENCE = 0.95
CHUNK = 32
SHARES = (0.35, 0.15, 0.5)  # of a base's time: asked, its states of validation, its states of training
ALPHAS = tuple(float(alpha) for alpha in np.logspace(0, 6, 13))


@dataclass(frozen=True)
class MeasureSample:
    """Rows in a fixed random order, so that a base that has time for fewer gets the first of them."""

    judged: list[Item]
    groups: list[str]
    taught: list[Item]
    median_price: float
    price_range: tuple[float, float]
    currency: str


@dataclass(frozen=True)
class MeasuredBase:
    """One base's errors in money; a measure is None where there was no time for it, or the base cannot be read so.

    `untuned` is over the first `untuned.n` items of the sample, `states`, `ridge` and `median` over the first
    `states.n`, the two ridges being fitted on the same `taught` rows. `gain` is error(states) - error(ridge), paired;
    `needed` are the items that would make such a difference significant. `errors` and `yardstick` hold the absolute
    errors of the two ridges, item by item.
    """

    base: str
    untuned: Interval | None
    answered: float | None
    states: Interval | None
    ridge: Interval | None
    gain: Interval | None
    median: Interval | None
    taught: int
    seconds: float
    note: str = ""
    needed: int | None = None
    errors: tuple[float, ...] = ()
    yardstick: tuple[float, ...] = ()

    @property
    def ratio(self) -> float:
        """MAE of the ridge on states as a ratio to that of the reference ridge; infinite where it was not measured."""
        return self.states.point / self.ridge.point if self.states and self.ridge and self.ridge.point else np.inf

    def facts(self) -> dict[str, Any]:
        """Plain values, without the errors of single items."""
        whole = asdict(self)
        return {name: value for name, value in whole.items() if name not in ("errors", "yardstick")}


@dataclass(frozen=True)
class Compared:
    """The paired difference, ratio of `a` less ratio of `b`, of two bases on their common first `n` items, in an
    interval that allows for the number of pairs. `needed`: items that would make it significant."""

    a: str
    b: str
    n: int
    difference: float
    low: float | None
    high: float | None
    significant: bool
    needed: int | None


def draw_sample(catalog: Catalog, judged: int = JUDGED, taught: int = TAUGHT) -> MeasureSample:
    """The rows that every base is measured on: those with the smallest hashes of their ids."""

    def first(split: str, most: int) -> tuple[list[Item], list[str]]:
        items, groups = catalog.items_and_groups(split)
        order = sorted(range(len(items)), key=lambda place: hashlib.sha256(items[place].listing.id.encode()).digest())
        chosen = order[:most]
        return [items[place] for place in chosen], [groups[place] for place in chosen]

    items, groups = first("validation", judged)
    train, _ = first("train", taught)
    if not items or len(train) < 20:
        raise InputError(
            "This catalog is too small to measure on", got=f"{len(train)} training rows", allowed="20 or more"
        )
    median_price = float(np.median([item.price for item in train]))
    return MeasureSample(items, groups, train, median_price, catalog.price_range, catalog.currency)


def measure_bases(
    sample: MeasureSample, bases: Sequence[str], minutes: float = 10.0, progress: Progress = SILENT
) -> list[MeasuredBase]:
    """Measure each base in its share of `minutes`; time that one leaves goes to the next.

    By ratio to the reference ridge, since bases that had time for different numbers of rows have only that in common;
    those that were measured on too few items to be compared come last, in the order given.
    """
    ends = time.perf_counter() + 60 * minutes
    found = []
    for number, base in enumerate(bases):
        left = (ends - time.perf_counter()) / (len(bases) - number)
        found.append(measure_base(sample, base, max(1.0, left), progress))
    return sorted(found, key=lambda one: one.ratio if len(one.errors) >= MIN_ITEMS else np.inf)


def compare_bases(sample: MeasureSample, measured: Sequence[MeasuredBase]) -> list[Compared]:
    """Every pair of bases that were measured on enough items, in intervals that hold for all pairs together
    (Bonferroni: whoever looks at ten pairs would find one by chance)."""
    enough = [one for one in measured if len(one.errors) >= MIN_ITEMS and one.ridge and one.ridge.point]
    pairs = list(combinations(enough, 2))
    confidence = 1 - (1 - CONFIDENCE) / max(1, len(pairs))
    found = []
    for one, other in pairs:
        n = min(len(one.errors), len(other.errors))
        ratios = [np.array(each.errors[:n]) / np.mean(each.yardstick[:n]) for each in (one, other)]
        gap = bootstrap_interval(ratios[0], encode_groups(sample.groups[:n]), minus=ratios[1], confidence=confidence)
        known = gap.low is not None and gap.high is not None
        significant = known and not gap.low <= 0 <= gap.high  # type: ignore[operator]
        needed = items_needed(n, gap.point, gap.se, confidence)
        found.append(Compared(one.base, other.base, n, gap.point, gap.low, gap.high, significant, needed))
    return found


def measure_base(sample: MeasureSample, base: str, seconds: float, progress: Progress = SILENT) -> MeasuredBase:
    """One base in `seconds`, loading included. A base that cannot be used is told as a note, and the others go on."""
    began = time.perf_counter()
    try:
        pricer = zero_shot_pricer(base, price_range=sample.price_range, currency=sample.currency, progress=progress)
    except PricesmithError as error:
        told = " ".join(part for part in (error.what, error.got) if part)
        return MeasuredBase(base, None, None, None, None, None, None, 0, time.perf_counter() - began, told)
    left = max(1.0, seconds - (time.perf_counter() - began))
    progress.start(f"asking {base}", len(sample.judged))
    note = ""
    try:
        quotes = questions_in_time(pricer, sample, SHARES[0] * left, progress)
    except PricesmithError as error:  # numbers of several tokens cannot be read from every architecture
        quotes, note = [], error.what
    untuned = error_interval(quotes, sample) if quotes else None
    progress.start(f"states of {base}", len(sample.judged) + len(sample.taught))
    try:
        inputs = states_of(pricer, [item.listing for item in sample.judged], SHARES[1] * left, progress)
        rows = states_of(pricer, [item.listing for item in sample.taught], SHARES[2] * left, progress)
    except InputError as error:
        inputs, rows, note = np.zeros((0, 0)), np.zeros((0, 0)), error.what
    del pricer
    own, ridge, gain, median, errors, yardstick = states_error(rows, inputs, sample)
    needed = items_needed(gain.n, gain.point, gain.se, CONFIDENCE) if gain else None
    answered = sum(quote is not None for quote in quotes) / len(quotes) if quotes else None
    took = time.perf_counter() - began
    return MeasuredBase(
        base,
        untuned,
        answered,
        own,
        ridge,
        gain,
        median,
        taught=len(rows),
        seconds=took,
        note=note,
        needed=needed,
        errors=errors,
        yardstick=yardstick,
    )


def questions_in_time(
    pricer: LlmPricer, sample: MeasureSample, seconds: float, progress: Progress
) -> list[float | None]:
    """The untuned quotes of the first items, as many as there is time for, clipped to the range."""
    ends, quotes = time.perf_counter() + seconds, list[float | None]()
    low, high = sample.price_range
    for start, end in growing_samples(len(sample.judged), CHUNK):
        some = [item.listing for item in sample.judged[start:end]]
        prices = [quote.price for quote in pricer.price(some)]
        quotes += [None if price is None else float(np.clip(price, low, high)) for price in prices]
        progress.advance(len(some))
        if time.perf_counter() > ends:
            break
    return quotes


def growing_samples(rows: int, most: int) -> Iterator[tuple[int, int]]:
    """Where pieces of so many rows begin and end: two at first, then twice as many, for nobody knows yet how slow a
    base is, and the clock is read between pieces."""
    start, size = 0, 2
    while start < rows:
        yield start, min(start + size, rows)
        start, size = start + size, min(2 * size, most)


@torch.inference_mode()
def states_of(pricer: LlmPricer, listings: Sequence[Any], seconds: float, progress: Progress) -> Array:
    """The last-token states [n, hidden] of the prompts of the first listings, as many as there is time for."""
    ends, found = time.perf_counter() + seconds, []
    for start, end in growing_samples(len(listings), 4 * CHUNK):
        prompts = pricer.prompt.encode(pricer.tokenizer, listings[start:end])
        rows = [np.zeros(0)] * len(prompts)
        for places in pricing_batches([len(prompt) for prompt in prompts], pricer.tokens_per_batch):
            columns = max(len(prompts[place]) for place in places)
            ids = torch.tensor([[*prompts[place], *[pricer.pad] * (columns - len(prompts[place]))] for place in places])
            ask = torch.tensor([row * columns + len(prompts[place]) - 1 for row, place in enumerate(places)])
            states = check_finite(hidden_states_at(pricer.model, ids, ask).float()).cpu().numpy()
            for place, state in zip(places, states, strict=True):
                rows[place] = state
        found += rows
        progress.advance(len(rows))
        if time.perf_counter() > ends:
            break
    return np.asarray(found, dtype=np.float64)


def error_interval(quotes: Sequence[float | None], sample: MeasureSample) -> Interval:
    """Mean error of quotes of the first items; one without an answer is charged the constant."""
    charged, _ = charge_unanswered(quotes, sample.median_price)
    truth = np.array([item.price for item in sample.judged[: len(quotes)]])
    return bootstrap_interval(np.abs(charged - truth), encode_groups(sample.groups[: len(quotes)]))


def states_error(
    rows: Array, inputs: Array, sample: MeasureSample
) -> tuple[Interval | None, Interval | None, Interval | None, Interval | None, tuple[float, ...], tuple[float, ...]]:
    """Errors of the ridge on states, of the reference ridge, their paired difference, and of the constant; then the
    errors of both ridges item by item."""
    if len(rows) < 20 or not len(inputs):
        return None, None, None, None, (), ()
    from sklearn.linear_model import RidgeCV

    taught, judged = sample.taught[: len(rows)], sample.judged[: len(inputs)]
    truth = np.array([item.price for item in judged])
    codes = encode_groups(sample.groups[: len(inputs)])
    center, spread = rows.mean(0), rows.std(0) + 1e-6
    logs = np.log([item.price for item in taught])
    model = RidgeCV(alphas=ALPHAS).fit((rows - center) / spread, logs)
    # A line may leave the range of prices that it was taught: no further than the prices themselves go.
    guessed = np.exp(np.clip(model.predict((inputs - center) / spread), logs.min(), logs.max()))
    with tempfile.TemporaryDirectory() as folder:
        RidgeRecipe().fit(taught, [], Path(folder))
        quotes = RidgeRecipe().load(Path(folder)).price([item.listing for item in judged])
    reference = np.clip([quote.price or sample.median_price for quote in quotes], *sample.price_range)
    own, other = np.abs(guessed - truth), np.abs(reference - truth)
    return (
        bootstrap_interval(own, codes),
        bootstrap_interval(other, codes),
        bootstrap_interval(own, codes, minus=other),
        bootstrap_interval(np.abs(sample.median_price - truth), codes),
        tuple(own.tolist()),
        tuple(other.tolist()),
    )
