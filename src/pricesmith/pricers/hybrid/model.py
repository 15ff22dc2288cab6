"""Hybrid prices: fitted on all answered validation listings, stored as one file, quoted by one pricer.

    evidence = collect_answers(members, validation, groups, n_answers=1000, progress=progress)
    model = fit_hybrid(evidence)
    HybridPricer(members, model, policy).price(listings)

Without a policy every listing is asked about (a blend), with one only those where it pays (a cascade). A listing that
the other members do not answer has the quote of the first member, with its interval.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import model_validator

from pricesmith.core.atomic import write_json
from pricesmith.core.errors import UsageError
from pricesmith.core.model_files import read_settings
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.settings import Settings
from pricesmith.core.types import NOT_ASKED, Item, Listing, Pricer, Quote, render
from pricesmith.pricers.api.model_spec import CURRENT
from pricesmith.pricers.api.providers import user_prices_file
from pricesmith.pricers.hybrid.intervals import MIN_ROWS, HybridIntervals, fit_intervals
from pricesmith.pricers.hybrid.paid import BUDGET_SPENT, ApiMember, SavedAnswers, buy_answers, not_asked
from pricesmith.pricers.hybrid.policy import (
    CascadePolicy,
    ErrorModel,
    Mask,
    error_features,
    fit_error_model,
    reach,
    scores,
    within_allowance,
)
from pricesmith.pricers.hybrid.shares import (
    Array,
    Finite,
    HybridInputs,
    ShareModel,
    choose_penalty,
    fit_with_penalty,
)

HYBRID = "hybrid.json"
UNANSWERED_GAIN = 1e15  # what asking about a listing that the first member does not answer is expected to gain
TIE = 1e-9  # of the gain: listings of the same gain are asked about in a pseudo-random order
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

    @model_validator(mode="after")
    def check_members(self) -> HybridModel:
        """Raise ValueError unless all shares are of these members."""
        if {model.members for model in (self.shares, *self.intervals.shares)} != {len(self.members)}:
            raise ValueError(f"shares of {len(self.members)} members")
        return self

    def expected_gains(self, first: Sequence[Quote]) -> Array:
        """How much lower the absolute error is expected to be if the other members are asked [n], in money; very large
        if the first member did not answer."""
        price, width = price_and_width(first)
        known = np.isfinite(price)
        table = error_features(np.where(known, price, 1.0), width, self.typical_width)
        return np.where(known, self.first_error.predict(table) - self.hybrid_error.predict(table), UNANSWERED_GAIN)


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
    api_members = [member for member in others if isinstance(member, ApiMember)]
    asked = [
        row
        for row, listing in enumerate(listings)
        if all(member.has(listing) for member in others if isinstance(member, SavedAnswers))
    ]
    if api_members:  # in this order, because the budget may end before the last one
        asked = sorted(asked, key=lambda row: draw_key(groups[row], listings[row].id))[:n_answers]
    check_count(len(asked), members, len(items), "")
    chosen = [listings[row] for row in asked]
    bought = iter(buy_answers(api_members, chosen, progress) if api_members else ())
    quotes = [next(bought) if isinstance(member, ApiMember) else member.price(chosen) for member in others]
    answers = Answers(items, groups, first_quotes, asked, quotes, tuple(member.name for member in members))
    complete = int(answers.inputs.complete.sum())
    check_count(complete, members, len(items), describe_unanswered(members, quotes))
    progress.note(f"{complete:,} of {len(items):,} validation listings are answered by all members.")
    return answers


def check_count(count: int, members: Sequence[Pricer], rows: int, unanswered: str) -> None:
    """Raise UsageError if too few of the validation listings are answered; `unanswered` says why others are not."""
    if count >= MIN_ROWS:
        return
    api = next((member for member in members if isinstance(member, ApiMember)), None)
    saved = any(isinstance(member, SavedAnswers) for member in members)
    if NOT_ASKED in unanswered:
        hint = "Allow a higher --budget: all answers so far are cached and free."
    elif api is not None and unanswered:
        hint = f"See what it answers: pricesmith eval {api.spec.text.partition('@')[0]} --limit {MIN_ROWS} ..."
    else:
        hint = f"Add answers for {'more listings of ' if saved else ''}the validation split, or curate more rows."
    raise UsageError(
        f"Too few validation listings are answered by {', '.join(member.name for member in members)}",
        got=f"{count} of {rows:,}{unanswered}",
        allowed=f"at least {MIN_ROWS}",
        hint=hint,
    )


def describe_unanswered(members: Sequence[Pricer], quotes: Sequence[Sequence[Quote]]) -> str:
    """How many listings each member but the first was not asked about, or gave no price for."""
    parts = []
    for member, row in zip(members[1:], quotes, strict=True):
        missing = [quote for quote in row if quote.price is None]
        reasons = Counter(quote.note for quote in missing if quote.note.startswith(NOT_ASKED))
        parts += [f"{member.name}, {count:,} listings {reason}" for reason, count in reasons.items()]
        if count := len(missing) - reasons.total():
            parts.append(f"{member.name}, {count:,} listings without a price")
    return "".join(f"; {part}" for part in parts)


def draw_key(group: str, id: str) -> str:
    """A key that orders listings pseudo-randomly, the same in every run."""
    return hashlib.blake2b(f"{group}\n{id}".encode("utf-8", "replace"), digest_size=8).hexdigest()


def draw_numbers(listings: Sequence[Listing]) -> Array:
    """A pseudo-random number from 0 to 1 for each listing [n], by its words."""
    digests = (
        hashlib.blake2b(render(listing).encode("utf-8", "replace"), digest_size=4).digest() for listing in listings
    )
    return np.array([int.from_bytes(digest, "big") / 2**32 for digest in digests], dtype=np.float64)


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
    """What a hybrid knew about one listing: the first quote, its score, and the other quotes if it wanted to ask."""

    listing: Listing
    first: Quote
    score: float
    others: tuple[Quote, ...] | None

    @property
    def asked(self) -> bool:
        """Whether another member was asked."""
        return self.others is not None and not all(quote.note.startswith(NOT_ASKED) for quote in self.others)


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
    def nested(self) -> list[HybridPricer]:
        """The hybrids among the members, and those inside them."""
        direct = [hybrid for member in self.members if (hybrid := find_hybrid(member)) is not None]
        return [*direct, *(inner for hybrid in direct for inner in hybrid.nested)]

    @property
    def asks_api(self) -> bool:
        """Whether an API model is one of the members."""
        return any(isinstance(member, ApiMember) or getattr(member, "asks_api", False) for member in self.members)

    @property
    def is_paid(self) -> bool:
        """Whether an API model, or its saved answers, is a member, or a member of a member."""
        members = [member for hybrid in (self, *self.nested) for member in hybrid.members]
        return self.asks_api or any(isinstance(member, SavedAnswers) for member in members)

    @property
    def estimated_fees(self) -> bool:
        """Whether the costs of its quotes are estimated: those of saved answers."""
        members = [member for hybrid in (self, *self.nested) for member in hybrid.members]
        return any(isinstance(member, SavedAnswers) for member in members)

    def expected_gains(self, listings: Sequence[Listing], first: Sequence[Quote]) -> Array:
        """How much asking about each listing is expected to gain [n], in money. Equal gains differ in their last digits
        by the listings' words, so that a limit can fall between them."""
        return self.model.expected_gains(first) * (1 + TIE * draw_numbers(listings))

    def expected_costs(self, listings: Sequence[Listing]) -> Array:
        """What asking about each listing is expected to cost [n], in the unit of the policy.

        Raises UsageError if that is US dollars and a price is unknown.
        """
        unit = self.policy.unit if self.policy is not None else "listings"
        if unit != "usd":
            return np.full(len(listings), self.seconds or 0.0 if unit == "seconds" else 1.0)
        fees = self.expected_fees(listings)
        if not np.isfinite(fees).all():
            raise UsageError(
                f"The fee of {' and '.join(member.name for member in self.members[1:])} is unknown",
                got=f"no price in {user_prices_file()}",
                allowed="a price: this cascade asks where the expected gain for each dollar is high",
                hint="Put the price of the model into that file.",
            )
        return fees

    def expected_fees(self, listings: Sequence[Listing]) -> Array:
        """The expected fees of asking about each listing [n] in US dollars; NaN if unknown."""
        return expected_fees(self.members, listings)

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        """One quote for each listing, with an interval; `cost_usd` is the sum of the members' costs, and `note` says
        whether the expensive member was asked, or why not."""
        if not listings:
            return []
        first = self.members[0].price(listings)
        score = self.rate(listings, first)
        wanted = reach(score, self.policy.threshold if self.policy is not None else None)
        places = np.flatnonzero(wanted).tolist()
        affordable = self.afford(listings, score, wanted)[wanted].tolist()
        chosen = [listings[place] for place in places]
        others = [self.ask(member, chosen, affordable) for member in self.members[1:]]
        if self.records is not None:
            by_place = dict(zip(places, zip(*others, strict=True), strict=True))
            for place, listing in enumerate(listings):
                others_here = by_place.get(place)
                self.records[listing.id] = AskRecord(listing, first[place], float(score[place]), others_here)
        hybrid = dict(zip(places, self.combine(chosen, [[first[place] for place in places], *others]), strict=True))
        return [hybrid[place] if place in hybrid else first[place] for place in range(len(listings))]

    def rate(self, listings: Sequence[Listing], first: Sequence[Quote]) -> Array:
        """The expected gain of asking about each listing, for each unit of its cost [n]."""
        return scores(self.expected_gains(listings, first), self.expected_costs(listings))

    def afford(self, listings: Sequence[Listing], score: Array, wanted: Mask) -> Mask:
        """The wanted listings [n] that the allowance of the command's budget is enough for. Cached replies are free."""
        settings = CURRENT.get()
        members = [member for member in self.members[1:] if isinstance(member, ApiMember)]
        allowance = settings.allowance(len(listings)) if settings is not None and members else None
        if allowance is None:
            return wanted
        fees = np.zeros(len(listings))
        for member in members:
            fees += member.fees_now(listings)
        return within_allowance(score, wanted, fees, allowance)

    def ask(self, member: Pricer, listings: Sequence[Listing], affordable: Sequence[bool]) -> list[Quote]:
        """A member's quotes of listings; an API model is only asked about affordable ones."""
        if not listings:
            return []
        if not isinstance(member, ApiMember) or all(affordable):
            return member.price(listings)
        asked = [listing for listing, take in zip(listings, affordable, strict=True) if take]
        quotes = iter(member.price(asked) if asked else ())
        return [next(quotes) if take else not_asked(BUDGET_SPENT) for take in affordable]

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
                raw = parts[0].raw if parts[0].price is not None else note
                combined.append(replace(parts[0], cost_usd=cost, note=join_notes(parts[0].note, note), raw=raw))
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
            f"{name} was {part.note}" if part.note.startswith(NOT_ASKED) else f"{name} gave no price"
            for name, part in zip(names[1:], parts[1:], strict=True)
            if part.price is None
        ]
        if missing:
            return (
                f"{'; '.join(missing)}: priced by {names[0]}" if len(missing) == len(names) - 1 else "; ".join(missing)
            )
        return f"{', '.join(names[1:])} was asked" if self.policy is not None else ""

    def saved_ids(self) -> set[str] | None:
        """The ids that all files of saved answers have, those of hybrids inside included; None if there is no file."""
        members = [member for hybrid in (self, *self.nested) for member in hybrid.members]
        files = [set(member.pricer.quotes) for member in members if isinstance(member, SavedAnswers)]
        return set.intersection(*files) if files else None

    def free_quotes(self, listings: Sequence[Listing]) -> list[list[Quote]]:
        """The quotes of each member but the first that cost nothing now; others are unanswered, also all of a model
        folder that asks an API model."""
        quotes = []
        for member in self.members[1:]:
            if isinstance(member, ApiMember | SavedAnswers):
                quotes.append(member.free_quotes(listings))
            elif getattr(member, "asks_api", False):
                quotes.append([not_asked("its answers may cost money") for _ in listings])
            else:
                quotes.append(member.price(listings))
        return quotes

    def total_fees(self, listings: Sequence[Listing]) -> Array:
        """The expected fees of each listing [n] in US dollars: those of asking, as often as on validation, and those
        of a hybrid that is the first member; NaN if unknown."""
        share = self.policy.share if self.policy is not None else 1.0
        inner = find_hybrid(self.members[0])
        return share * self.expected_fees(listings) + (inner.total_fees(listings) if inner is not None else 0.0)


def expected_fees(members: Sequence[Pricer], listings: Sequence[Listing]) -> Array:
    """The expected fees of asking all members but the first about each listing [n] in US dollars; NaN if unknown."""
    total = np.zeros(len(listings))
    for member in members[1:]:
        if isinstance(member, ApiMember | SavedAnswers):
            total = total + member.expected_fees(listings)
        elif (hybrid := find_hybrid(member)) is not None:
            total = total + hybrid.total_fees(listings)
    return total


def join_notes(*notes: str) -> str:
    """Notes as one text."""
    return "; ".join(note for note in notes if note)


def find_hybrid(pricer: object) -> HybridPricer | None:
    """The hybrid inside a pricer of a model folder, which clips its quotes and adds intervals; None if it is none."""
    while pricer is not None and not isinstance(pricer, HybridPricer | ApiMember | SavedAnswers):
        pricer = getattr(pricer, "pricer", None)
    return pricer if isinstance(pricer, HybridPricer) else None


def count_asked(records: Sequence[AskRecord]) -> dict[str, int]:
    """How many listings were priced, asked about, and asked about without an answer."""
    asked = [record.others for record in records if record.others is not None and record.asked]
    unanswered = sum(all(quote.price is None for quote in others) for others in asked)
    return {"n": len(records), "asked": len(asked), "unanswered": unanswered}
