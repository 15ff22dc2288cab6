"""What bases show on a catalog before tuning: how they write its prices and listings, and their errors on a sample.

The tokenizer audit: a number that is one token is read in one forward pass; digit by digit, a price takes a small tree
of passes. The audit shows why two bases of one size differ in speed.

Two measures of each base's error within a time budget, beside the reference ridge and the median price on the same
rows:

* its untuned MAE: of the prices that it would write (`tokens`), with the prompt that tuning uses;
* the MAE of a ridge on its frozen last-token states.

The second is the better guide to which base to tune: an adapter starts from these states, and the measure does not
depend on whether the untuned base happens to answer in numbers. Confidence intervals resample near-duplicate groups.
Two bases are compared on the items that both had time for; there is no comparison on fewer than MIN_ITEMS items, and
no ranking of bases whose difference is not significant.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from pricesmith.catalog.catalog import Catalog
from pricesmith.core.errors import InputError, PricesmithError
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.types import Item, Listing, Recipe, render
from pricesmith.evaluation.compare import items_needed
from pricesmith.metrics.bootstrap import Interval, bootstrap_interval, encode_groups
from pricesmith.metrics.metrics import Array, charge_unanswered
from pricesmith.pricers import recipe_class
from pricesmith.pricers.llm.pricer import LlmPricer, pricing_batches, zero_shot_pricer
from pricesmith.pricers.llm.readout import check_finite, hidden_states_at
from pricesmith.text.prompts import Prompt, encode_text, repair_unicode

MAX_ITEMS = 300  # validation items: the difference that tuning makes shows on as many
MAX_TRAIN = 4_000  # training rows for the two ridges
MIN_ITEMS = 30  # in a comparison: an interval of fewer heavy-tailed errors is not reliable
MIN_TRAIN = 20  # rows to fit a ridge on
CONFIDENCE = 0.95
CHUNK = 32  # listings between two looks at the clock
# Of a base's time: untuned quotes, states of the validation items, states of the training rows.
TIME_SHARES = (0.35, 0.15, 0.5)
ALPHAS = tuple(float(alpha) for alpha in np.logspace(0, 6, 13))
NumberStyle = Literal["one token", "digits", "mixed"]
HIGHEST = 999  # the whole prices whose tokens are counted end here
MAX_CHARACTERS = 20_000  # of a listing; a longer one says no more about the catalog
MAX_LISTINGS = 2_000  # whose tokens are counted


@dataclass(frozen=True)
class MeasureSample:
    """Validation items with their groups, and training rows, in a fixed random order: a base that has time for fewer
    takes the first of them."""

    items: list[Item]
    groups: list[str]
    train: list[Item]
    median_price: float
    price_range: tuple[float, float]
    currency: str


@dataclass(frozen=True)
class MeasuredBase:
    """One base's MAE in money; a measure is None if there was no time for it, or the base cannot be read so.

    `untuned` is over the first `untuned.n` items of the sample; `states`, `ridge` and `median` over the first
    `states.n`, with both ridges fitted on the same `train_rows` rows. `gain` is the paired difference MAE(states) less
    MAE(ridge); `needed` is the number of items that would make it significant. `errors` and `ridge_errors` hold the
    absolute errors of the ridge on states and of the reference ridge, item by item.
    """

    base: str
    untuned: Interval | None = None
    answered: float | None = None
    states: Interval | None = None
    ridge: Interval | None = None
    gain: Interval | None = None
    median: Interval | None = None
    train_rows: int = 0
    seconds: float = 0.0
    note: str = ""
    needed: int | None = None
    errors: tuple[float, ...] = ()
    ridge_errors: tuple[float, ...] = ()

    @property
    def ratio(self) -> float:
        """MAE of the ridge on states as a ratio to the reference ridge's; infinite if it was not measured."""
        return self.states.point / self.ridge.point if self.states and self.ridge and self.ridge.point else np.inf

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the errors of single items."""
        values = asdict(self)
        return {name: value for name, value in values.items() if name not in ("errors", "ridge_errors")}


@dataclass(frozen=True)
class BaseComparison:
    """The paired difference, ratio of `a` less ratio of `b`, on the first `n` items that both bases have, with a
    confidence interval for all pairs. `needed`: the number of items that would make it significant."""

    a: str
    b: str
    n: int
    difference: float
    low: float | None
    high: float | None
    significant: bool
    needed: int | None


def draw_sample(catalog: Catalog, max_items: int = MAX_ITEMS, max_train: int = MAX_TRAIN) -> MeasureSample:
    """The rows that every base is measured on: those with the smallest hashes of their ids."""

    def smallest_hashes(split: str, most: int) -> tuple[list[Item], list[str]]:
        items, groups = catalog.items_and_groups(split)
        order = sorted(range(len(items)), key=lambda index: hashlib.sha256(items[index].listing.id.encode()).digest())
        return [items[index] for index in order[:most]], [groups[index] for index in order[:most]]

    items, groups = smallest_hashes("validation", max_items)
    train, _ = smallest_hashes("train", max_train)
    if not items or len(train) < MIN_TRAIN:
        raise InputError(
            "This catalog is too small to measure on",
            got=f"{len(train)} training rows and {len(items)} validation items",
            allowed=f"{MIN_TRAIN} or more training rows",
            hint="Curate more rows.",
        )
    median_price = float(np.median([item.price for item in train]))
    return MeasureSample(items, groups, train, median_price, catalog.price_range, catalog.currency)


def measure_bases(
    sample: MeasureSample, bases: Sequence[str], minutes: float = 10.0, progress: Progress = SILENT
) -> list[MeasuredBase]:
    """Measure each base in its share of `minutes`; time that a base does not use goes to the next.

    The lowest ratio to the reference ridge comes first: it is comparable between bases that had time for different
    numbers of rows. Bases that were measured on too few items come last, in the order given.
    """
    end = time.perf_counter() + 60 * minutes
    measured = []
    for number, base in enumerate(bases):
        left = (end - time.perf_counter()) / (len(bases) - number)
        measured.append(measure_base(sample, base, max(1.0, left), progress))
    return sorted(measured, key=lambda base: base.ratio if len(base.errors) >= MIN_ITEMS else np.inf)


def compare_bases(sample: MeasureSample, measured: Sequence[MeasuredBase]) -> list[BaseComparison]:
    """Every pair of bases that were measured on enough items, with intervals that hold for all pairs simultaneously
    (Bonferroni correction)."""
    enough = [base for base in measured if len(base.errors) >= MIN_ITEMS and base.ridge and base.ridge.point]
    pairs = list(combinations(enough, 2))
    confidence = 1 - (1 - CONFIDENCE) / max(1, len(pairs))
    comparisons = []
    for a, b in pairs:
        n = min(len(a.errors), len(b.errors))
        ratios = [np.array(base.errors[:n]) / np.mean(base.ridge_errors[:n]) for base in (a, b)]
        gap = bootstrap_interval(ratios[0], encode_groups(sample.groups[:n]), minus=ratios[1], confidence=confidence)
        known = gap.low is not None and gap.high is not None
        significant = known and not gap.low <= 0 <= gap.high  # type: ignore[operator]
        needed = items_needed(n, gap.point, gap.se, confidence)
        comparisons.append(BaseComparison(a.base, b.base, n, gap.point, gap.low, gap.high, significant, needed))
    return comparisons


def measure_base(sample: MeasureSample, base: str, seconds: float, progress: Progress = SILENT) -> MeasuredBase:
    """Measure one base in `seconds`, loading included. If it cannot be used, the result has a note that says why."""
    began = time.perf_counter()
    try:
        pricer = zero_shot_pricer(base, price_range=sample.price_range, currency=sample.currency, progress=progress)
    except PricesmithError as error:
        note = " ".join(part for part in (error.what, error.got) if part)
        return MeasuredBase(base, seconds=time.perf_counter() - began, note=note)
    left = max(1.0, seconds - (time.perf_counter() - began))
    progress.start(f"pricing with {base} untuned", len(sample.items))
    note = ""
    try:
        quotes = price_in_time(pricer, sample, TIME_SHARES[0] * left, progress)
    except PricesmithError as error:  # numbers of several tokens cannot be read from every architecture
        quotes, note = [], error.what
    progress.start(f"reading states of {base}", len(sample.items) + len(sample.train))
    try:
        inputs = last_token_states(pricer, [item.listing for item in sample.items], TIME_SHARES[1] * left, progress)
        rows = last_token_states(pricer, [item.listing for item in sample.train], TIME_SHARES[2] * left, progress)
    except InputError as error:
        inputs, rows, note = np.zeros((0, 0)), np.zeros((0, 0)), error.what
    del pricer
    return MeasuredBase(
        base,
        untuned=untuned_mae(quotes, sample) if quotes else None,
        answered=sum(quote is not None for quote in quotes) / len(quotes) if quotes else None,
        train_rows=len(rows),
        note=note,
        **compare_ridges(rows, inputs, sample),
        seconds=time.perf_counter() - began,
    )


def price_in_time(pricer: LlmPricer, sample: MeasureSample, seconds: float, progress: Progress) -> list[float | None]:
    """The untuned prices of the first items, as many as there is time for, clipped to the range."""
    end, quotes = time.perf_counter() + seconds, list[float | None]()
    low, high = sample.price_range
    for start, stop in growing_chunks(len(sample.items), CHUNK):
        listings = [item.listing for item in sample.items[start:stop]]
        prices = [quote.price for quote in pricer.price(listings)]
        quotes += [None if price is None else float(np.clip(price, low, high)) for price in prices]
        progress.advance(len(listings))
        if time.perf_counter() > end:
            break
    return quotes


def growing_chunks(rows: int, most: int) -> Iterator[tuple[int, int]]:
    """Starts and ends of chunks of 2, 4, 8, ... rows, at most `most`: the clock is read between chunks, and the speed
    of a base is not known before the first."""
    start, size = 0, 2
    while start < rows:
        yield start, min(start + size, rows)
        start, size = start + size, min(2 * size, most)


@torch.inference_mode()
def last_token_states(pricer: LlmPricer, listings: Sequence[Listing], seconds: float, progress: Progress) -> Array:
    """The last-token states [n, hidden] of the prompts of the first listings, as many as there is time for."""
    end, states = time.perf_counter() + seconds, list[Any]()
    for start, stop in growing_chunks(len(listings), 4 * CHUNK):
        prompts = pricer.prompt.encode(pricer.tokenizer, listings[start:stop])
        rows = [np.zeros(0)] * len(prompts)
        for batch in pricing_batches([len(prompt) for prompt in prompts], pricer.tokens_per_batch):
            columns = max(len(prompts[index]) for index in batch)
            ids = torch.tensor([[*prompts[index], *[pricer.pad] * (columns - len(prompts[index]))] for index in batch])
            last = torch.tensor([row * columns + len(prompts[index]) - 1 for row, index in enumerate(batch)])
            batch_states = check_finite(hidden_states_at(pricer.model, ids, last).float()).cpu().numpy()
            for index, state in zip(batch, batch_states, strict=True):
                rows[index] = state
        states += rows
        progress.advance(len(rows))
        if time.perf_counter() > end:
            break
    return np.asarray(states, dtype=np.float64)


def untuned_mae(quotes: Sequence[float | None], sample: MeasureSample) -> Interval:
    """MAE of quotes of the first items; an unanswered one is charged the median price."""
    charged, _ = charge_unanswered(quotes, sample.median_price)
    truth = np.array([item.price for item in sample.items[: len(quotes)]])
    return bootstrap_interval(np.abs(charged - truth), encode_groups(sample.groups[: len(quotes)]))


def compare_ridges(rows: Array, inputs: Array, sample: MeasureSample) -> dict[str, Any]:
    """The fields of a MeasuredBase that come from the ridge on states: `rows` [n, hidden] of training rows, `inputs`
    [m, hidden] of validation items. Empty if there are too few of them."""
    if len(rows) < MIN_TRAIN or not len(inputs):
        return {}
    from sklearn.linear_model import RidgeCV

    train, items = sample.train[: len(rows)], sample.items[: len(inputs)]
    truth = np.array([item.price for item in items])
    codes = encode_groups(sample.groups[: len(inputs)])
    center, spread = rows.mean(0), rows.std(0) + 1e-6
    logs = np.log([item.price for item in train])
    model = RidgeCV(alphas=ALPHAS).fit((rows - center) / spread, logs)
    # A linear model may extrapolate: no further than the prices that it was fitted on.
    prices = np.exp(np.clip(model.predict((inputs - center) / spread), logs.min(), logs.max()))
    recipe: Recipe = recipe_class("ridge")()
    with tempfile.TemporaryDirectory() as folder:
        recipe.fit(train, [], Path(folder), SILENT)
        quotes = recipe.load(Path(folder)).price([item.listing for item in items])
    reference = np.clip([quote.price or sample.median_price for quote in quotes], *sample.price_range)
    errors, ridge_errors = np.abs(prices - truth), np.abs(reference - truth)
    gain = bootstrap_interval(errors, codes, minus=ridge_errors)
    return {
        "states": bootstrap_interval(errors, codes),
        "ridge": bootstrap_interval(ridge_errors, codes),
        "gain": gain,
        "median": bootstrap_interval(np.abs(sample.median_price - truth), codes),
        "needed": items_needed(gain.n, gain.point, gain.se, CONFIDENCE),
        "errors": tuple(errors.tolist()),
        "ridge_errors": tuple(ridge_errors.tolist()),
    }


@dataclass(frozen=True)
class TokenAudit:
    """How a tokenizer writes prices and listings.

    `numbers`: how it writes whole prices up to 999. `sign_apart`: whether the number's tokens are separate from the
    currency sign's. `longest`: tokens of the highest price of the range. Tokens of a listing: `mean`, `p95`, `cut` (the
    share of listings longer than `max_length`) and `prompt_tokens` (the mean of the whole prompt); None without
    listings.
    """

    base: str
    vocabulary: int
    numbers: NumberStyle
    sign_apart: bool
    longest: int
    listings: int = 0
    mean: float | None = None
    p95: float | None = None
    cut: float | None = None
    prompt_tokens: float | None = None


def audit_tokens(
    base: str, tokenizer: Any, prompt: Prompt, listings: Sequence[Listing] = (), top_price: float = HIGHEST
) -> TokenAudit:
    """The audit of one base's tokenizer. `top_price` is the highest of the catalog's range."""
    counts = [len(encode_text(tokenizer, str(number))) for number in range(HIGHEST + 1)]
    digits = [len(str(number)) for number in range(HIGHEST + 1)]
    numbers: NumberStyle = "mixed"
    if counts == digits:
        numbers = "digits"
    elif all(count == 1 for count in counts):
        numbers = "one token"
    sign = encode_text(tokenizer, prompt.ending)
    sign_apart = all(
        encode_text(tokenizer, f"{prompt.ending}{number}") == [*sign, *encode_text(tokenizer, str(number))]
        for number in (1, 7, 12, 45, 99, 128, 500, 750, 999)
    )
    longest = len(encode_text(tokenizer, str(int(min(top_price, 10**12)))))
    sample = listings[:: max(1, len(listings) // MAX_LISTINGS)][:MAX_LISTINGS]
    if not sample:
        return TokenAudit(base, len(tokenizer), numbers, sign_apart, longest)
    texts = [repair_unicode(render(listing)[:MAX_CHARACTERS]) for listing in sample]
    ids = tokenizer(texts, add_special_tokens=False, split_special_tokens=False, verbose=False)["input_ids"]
    lengths = sorted(map(len, ids))
    prompt_lengths = [len(prompt_ids) for prompt_ids in prompt.encode(tokenizer, sample)]
    return TokenAudit(
        base,
        len(tokenizer),
        numbers,
        sign_apart,
        longest,
        len(sample),
        sum(lengths) / len(lengths),
        float(lengths[min(len(lengths) - 1, int(0.95 * len(lengths)))]),
        sum(length > prompt.max_length for length in lengths) / len(lengths),
        sum(prompt_lengths) / len(prompt_lengths),
    )
