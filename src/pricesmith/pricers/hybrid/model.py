"""Hybrid prices: fitted on all answered validation listings, stored as one file, quoted by one pricer.

    evidence = collect_answers(members, validation, groups, n_answers=1000, progress=progress)
    model = fit_hybrid(evidence)
    HybridPricer(members, model, policy).price(listings)

Without a policy every listing is asked about (a blend), with one only those where it pays (a cascade). A listing that
the other members do not answer has the quote of the first member, with its interval.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pricesmith.core.atomic import write_json
from pricesmith.core.errors import UsageError
from pricesmith.core.model_files import read_settings
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.settings import Settings
from pricesmith.core.types import Item, Listing, Pricer, Quote
from pricesmith.pricers.api.model_spec import CURRENT
from pricesmith.pricers.hybrid.intervals import MIN_ROWS, HybridIntervals, fit_intervals
from pricesmith.pricers.hybrid.members import NOT_ASKED, ApiMember, SavedAnswers
from pricesmith.pricers.hybrid.policy import CascadePolicy, ErrorModel, error_features, fit_error_model, scores
from pricesmith.pricers.hybrid.shares import (
    Array,
    Finite,
    HybridInputs,
    ShareModel,
    choose_penalty,
    fit_with_penalty,
)

HYBRID = "hybrid.json"
FIRST_PENALTY = 0.001  # of the error model of the first member, which all validation listings fit
HYBRID_PENALTY = 0.1  # of that of the hybrid, which only the answered ones fit
BATCH = 500  # listings that a local member prices between two steps of progress


class HybridModel(Settings):
    """A fitted hybrid: shares, intervals, and the expected absolute errors of the first member and of the hybrid, which
    only depend on the quote of the first member."""

    members: tuple[str, ...]
    shares: ShareModel
    intervals: HybridIntervals
    first_error: ErrorModel
    hybrid_error: ErrorModel
    typical_width: Finite

    def expected_gains(self, first: Sequence[Quote]) -> Array:
        """How much lower the absolute error is expected to be if the other members are asked [n], in money; infinite if
        the first member did not answer."""
        price, width = price_and_width(first)
        known = np.isfinite(price)
        table = error_features(np.where(known, price, 1.0), width, self.typical_width)
        return np.where(known, self.first_error.predict(table) - self.hybrid_error.predict(table), np.inf)


def price_and_width(quotes: Sequence[Quote]) -> tuple[Array, Array]:
    """Prices [n], and the logs of the intervals' upper ends over the lower ones [n]; NaN if there is none."""
    price = np.array([np.nan if quote.price is None else quote.price for quote in quotes], dtype=np.float64)
    width = [np.log(quote.high / quote.low) if quote.low and quote.high else np.nan for quote in quotes]
    return price, np.array(width, dtype=np.float64)


@dataclass(frozen=True)
class Answers:
    """What the members said about validation. `first` are the quotes of the first member for all items; `others` are
    those of each other member for the items at `asked`."""

    items: Sequence[Item]
    groups: Sequence[str]
    first: Sequence[Quote]
    asked: Sequence[int]
    others: Sequence[Sequence[Quote]]
    names: tuple[str, ...]

    @property
    def inputs(self) -> HybridInputs:
        """The quotes of the listings that were asked about."""
        listings = [self.items[row].listing for row in self.asked]
        return HybridInputs.build(listings, [[self.first[row] for row in self.asked], *self.others])

    @property
    def truth(self) -> Array:
        """The true prices of all items [n]."""
        return np.array([item.price for item in self.items], dtype=np.float64)


@dataclass(frozen=True)
class HybridFit:
    """A hybrid, with the errors that its policy is fitted on: of the first member and of cross-fitted hybrid prices
    [k], for the answered items at `rows`."""

    model: HybridModel
    rows: npt.NDArray[np.int64]
    first_errors: Array
    hybrid_errors: Array


def collect_answers(
    members: Sequence[Pricer], items: Sequence[Item], groups: Sequence[str], n_answers: int, progress: Progress = SILENT
) -> Answers:
    """Price validation with each member. An API model is asked about `n_answers` items at most, drawn by group, and
    within the budget of the command; of saved answers all are used.

    Raises UsageError if fewer than `MIN_ROWS` items are answered by all members.
    """
    first, *others = members
    progress.start(f"pricing with {first.name}", len(items))
    listings = [item.listing for item in items]
    first_quotes: list[Quote] = []
    for start in range(0, len(listings), BATCH):
        first_quotes += first.price(listings[start : start + BATCH])
        progress.advance(min(BATCH, len(listings) - start))
    asked = list(range(len(items)))
    for member in others:
        if isinstance(member, SavedAnswers):
            asked = [row for row in asked if member.has(listings[row])]
    if any(isinstance(member, ApiMember) for member in others):
        asked = sorted(sorted(asked, key=lambda row: draw_key(groups[row], listings[row].id))[:n_answers])
    quotes = []
    for member in others:
        part = [listings[row] for row in asked]
        progress.start(f"asking {member.name}", len(part))
        quotes.append(member.buy(part) if isinstance(member, ApiMember) else member.price(part))
    answers = Answers(items, groups, first_quotes, asked, quotes, tuple(member.name for member in members))
    complete = int(np.isfinite(answers.inputs.prices).all(axis=1).sum()) if asked else 0
    if complete < MIN_ROWS:
        raise UsageError(
            f"Too few validation listings are answered by {', '.join(answers.names)}",
            got=f"{complete} of {len(items):,}",
            allowed=f"at least {MIN_ROWS}",
            hint="Add answers for more listings of the validation split, or allow a higher --budget.",
        )
    progress.note(f"{complete:,} of {len(items):,} validation listings are answered by all members.")
    return answers


def draw_key(group: str, id: str) -> str:
    """A key that orders listings pseudo-randomly by their near-duplicate group, the same in every run."""
    return hashlib.blake2b(f"{group}\n{id}".encode("utf-8", "replace"), digest_size=8).hexdigest()


def fit_hybrid(answers: Answers) -> HybridFit:
    """The hybrid of the members' answers; its errors are cross-fitted over near-duplicate groups."""
    inputs = answers.inputs
    asked = np.array(answers.asked, dtype=np.int64)
    complete = inputs.complete
    rows, inputs = asked[complete], inputs.rows(complete)
    truth, groups = answers.truth[rows], [answers.groups[row] for row in rows]
    penalty = choose_penalty(inputs, truth, groups)
    intervals, prices = fit_intervals(inputs, truth, groups, penalty)
    first_errors, hybrid_errors = np.abs(inputs.prices[:, 0] - truth), np.abs(prices - truth)
    price, width = price_and_width(answers.first)
    known = np.isfinite(price)
    typical = float(np.nanmedian(width)) if np.isfinite(width).any() else 0.0
    table = error_features(np.where(known, price, 1.0), width, typical)
    all_errors = np.abs(price - answers.truth)
    model = HybridModel(
        members=answers.names,
        shares=fit_with_penalty(inputs, truth, penalty),
        intervals=intervals,
        first_error=fit_error_model(table[known], all_errors[known], FIRST_PENALTY),
        hybrid_error=fit_error_model(table[rows], hybrid_errors, HYBRID_PENALTY),
        typical_width=typical,
    )
    return HybridFit(model, rows, first_errors, hybrid_errors)


def save_hybrid(model: HybridModel, folder: Path) -> None:
    """Write a hybrid into a model folder."""
    write_json(folder / HYBRID, model.model_dump(mode="json"))


def load_hybrid(folder: Path) -> HybridModel:
    """The hybrid of a model folder. Raises InputError if it is damaged."""
    return read_settings(folder / HYBRID, HybridModel)


@dataclass(frozen=True)
class AskRecord:
    """What a hybrid knew about one listing: the first quote, its score and fee, and the other quotes if it asked."""

    listing: Listing
    first: Quote
    score: float
    fee: float
    others: tuple[Quote, ...] | None


@dataclass
class HybridPricer:
    """Quotes the members' prices, weighted by the fitted shares.

    `seconds` is how long a local second member takes for a listing. `records`, if it is a dictionary, receives what was
    known about each listing, by its id.
    """

    members: Sequence[Pricer]
    model: HybridModel
    kind: str
    policy: CascadePolicy | None = None
    seconds: float | None = None
    records: dict[str, AskRecord] | None = field(default=None)

    @property
    def name(self) -> str:
        return self.kind

    @property
    def asks_api(self) -> bool:
        """Whether an API model is one of the members."""
        return any(isinstance(member, ApiMember) or getattr(member, "asks_api", False) for member in self.members)

    @property
    def estimated_fees(self) -> bool:
        """Whether the costs of its quotes are estimated: those of saved answers."""
        return any(isinstance(member, SavedAnswers) for member in self.members)

    def expected_costs(self, listings: Sequence[Listing]) -> Array:
        """What asking about each listing is expected to cost [n], in the unit of the policy."""
        unit = self.policy.unit if self.policy is not None else "usd"
        if unit != "usd":
            return np.full(len(listings), self.seconds or 0.0 if unit == "seconds" else 1.0)
        return self.expected_fees(listings)

    def expected_fees(self, listings: Sequence[Listing]) -> Array:
        """The expected fees of asking about each listing [n] in US dollars; NaN if unknown."""
        return expected_fees(self.members, listings)

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        """One quote for each listing, with an interval; `cost_usd` is the sum of the members' costs, and `note` says
        whether the expensive member was asked."""
        if not listings:
            return []
        first = self.members[0].price(listings)
        score, asked = self.decide(listings, first)
        places = np.flatnonzero(asked).tolist()
        chosen = [listings[place] for place in places]
        others = [member.price(chosen) if chosen else [] for member in self.members[1:]]
        by_place = dict(zip(places, zip(*others, strict=True), strict=True)) if places else {}
        if self.records is not None:
            fees = self.expected_fees(listings)
            for place, listing in enumerate(listings):
                self.records[listing.id] = AskRecord(
                    listing, first[place], float(score[place]), float(fees[place]), by_place.get(place)
                )
        hybrid = dict(zip(places, self.combine(chosen, [[first[place] for place in places], *others]), strict=True))
        return [hybrid[place] if place in hybrid else first[place] for place in range(len(listings))]

    def decide(self, listings: Sequence[Listing], first: Sequence[Quote]) -> tuple[Array, npt.NDArray[np.bool_]]:
        """The expected gain of each listing for each unit of cost [n], and whether to ask about it [n]: where the
        policy says so, within the allowance of the command's budget."""
        settings = CURRENT.get()
        allowance = settings.allowance(len(listings)) if settings is not None and self.asks_api else None
        if self.policy is None and allowance is None:
            return np.ones(len(listings)), np.ones(len(listings), dtype=np.bool_)
        gains, costs = self.model.expected_gains(first), self.expected_costs(listings)
        policy = self.policy or CascadePolicy(threshold=None, unit="usd", share=1.0)
        return scores(gains, costs), policy.choose(gains, costs, allowance)

    def combine(self, listings: Sequence[Listing], quotes: Sequence[Sequence[Quote]]) -> list[Quote]:
        """The hybrid quotes of listings from each member's quotes; the first member's if no other one answered."""
        if not listings:
            return []
        inputs = HybridInputs.build(listings, quotes)
        prices = self.model.shares.combine(inputs)
        low, high = self.model.intervals.bounds(inputs)
        answered = np.asarray(np.isfinite(inputs.prices[:, 1:]).any(axis=1))
        combined = []
        for row, parts in enumerate(zip(*quotes, strict=True)):
            cost = None if any(part.cost_usd is None for part in parts) else sum(part.cost_usd or 0.0 for part in parts)
            note = self.describe(parts)
            if not answered[row]:
                combined.append(
                    replace(parts[0], cost_usd=cost, note=join_notes(parts[0].note, note), raw=parts[1].raw)
                )
                continue
            price = float(prices[row])
            raw = "" if isinstance(self.members[1], SavedAnswers) else parts[1].raw
            quote = Quote(price, raw=raw, cost_usd=cost, note=join_notes(parts[0].note, note))
            if np.isfinite(low[row]):
                quote = replace(quote, low=min(float(low[row]), price), high=max(float(high[row]), price))
            combined.append(quote)
        return combined

    def describe(self, parts: Sequence[Quote]) -> str:
        """What a note says of the members that were asked: that a cascade asked, or why an answer is missing."""
        names = [member.name for member in self.members]
        missing = [
            f"{name} was {part.raw}" if part.raw.startswith(NOT_ASKED) else f"{name} gave no price"
            for name, part in zip(names[1:], parts[1:], strict=True)
            if part.price is None
        ]
        if missing:
            return (
                f"{'; '.join(missing)}: priced by {names[0]}" if len(missing) == len(names) - 1 else "; ".join(missing)
            )
        return f"{', '.join(names[1:])} was asked" if self.policy is not None else ""

    def saved_ids(self) -> set[str] | None:
        """The ids that all files of saved answers have; None if no member is one."""
        files = [set(member.pricer.quotes) for member in self.members if isinstance(member, SavedAnswers)]
        return set.intersection(*files) if files else None

    def free_quotes(self, listings: Sequence[Listing]) -> list[list[Quote]]:
        """The quotes of each member but the first that cost nothing now; others are unanswered."""
        return [
            member.free_quotes(listings) if isinstance(member, ApiMember | SavedAnswers) else member.price(listings)
            for member in self.members[1:]
        ]


def expected_fees(members: Sequence[Pricer], listings: Sequence[Listing]) -> Array:
    """The expected fees of asking all paid members about each listing [n] in US dollars; NaN if unknown."""
    total = np.zeros(len(listings))
    for member in members[1:]:
        if isinstance(member, ApiMember | SavedAnswers):
            total = total + member.expected_fees(listings)
    return total


def join_notes(*notes: str) -> str:
    """Notes as one text."""
    return "; ".join(note for note in notes if note)


def find_hybrid(pricer: object) -> HybridPricer | None:
    """The hybrid inside a pricer of a model folder, which clips its quotes and adds intervals; None if it is none."""
    while pricer is not None and not isinstance(pricer, HybridPricer):
        pricer = getattr(pricer, "pricer", None)
    return pricer


def count_asked(records: Mapping[str, AskRecord]) -> dict[str, int]:
    """How many listings were priced, asked about, and asked about without an answer."""
    asked = [record.others for record in records.values() if record.others is not None]
    unanswered = sum(all(quote.price is None for quote in others) for others in asked)
    return {"n": len(records), "asked": len(asked), "unanswered": unanswered}
