"""Members of a blend or a cascade whose answers cost money, called paid: API models, and their saved answers.

An API model that cannot be asked (the budget is spent, the endpoint does not answer) leaves its listings unanswered,
with the reason in `note`, if the settings of the command allow it (`ApiSettings.fallback`); otherwise its error is
raised.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pricesmith.core.errors import PricesmithError, UsageError
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.types import NOT_ASKED, Listing, Quote, render
from pricesmith.pricers.api.client import RequestFailed
from pricesmith.pricers.api.estimate import estimate_output_tokens, estimate_tokens, first_estimate
from pricesmith.pricers.api.eval_report import ApiCostReporter
from pricesmith.pricers.api.limits import BudgetExceeded
from pricesmith.pricers.api.model_spec import API_PREFIX, CURRENT, ApiSettings, parse_api_model
from pricesmith.pricers.api.pricer import ApiPricer, ApiRequest
from pricesmith.pricers.api.prices import TokenPrice
from pricesmith.pricers.api.providers import find_endpoint
from pricesmith.pricers.api.response_cache import Completion
from pricesmith.pricers.hybrid.member_spec import MemberSpec
from pricesmith.pricers.precomputed import PrecomputedPricer, read_prices
from pricesmith.text.prompts import SYSTEM_PROMPT, Prompt

RETRY_SECONDS = 60.0  # between two tries of an endpoint that did not answer
NOT_SAVED = "no saved answer"
BUDGET_SPENT = "the budget is spent"
PriceRange = tuple[float, float]
ANY_PRICE = (0.0, float("inf"))
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FeeSettings:
    """What saved answers cost: US dollars for 1,000, or the tokens of the prompt at the price of an API model."""

    api_model: str = ""
    cost_per_1000: float | None = None

    def answer_terms(self) -> tuple[TokenPrice, float] | None:
        """The price of the named API model, and the expected output tokens of an answer.

        Raises UsageError if the price is unknown.
        """
        if not self.api_model:
            return None
        parsed = parse_api_model(f"{API_PREFIX}{self.api_model.removeprefix(API_PREFIX)}")
        options = parsed.options
        endpoint = find_endpoint(parsed.model, url=options.url, price=options.price, keyless=True)
        price = endpoint.price.highest_today(datetime.now(UTC), options.tier) if endpoint.price else None
        if price is None:
            raise UsageError(
                f"The price of {self.api_model} is unknown",
                got=self.api_model,
                allowed="a model with a known price, or MODEL@price=IN/OUT in dollars per million tokens",
                hint=f"Use {self.api_model}@price=2/10 (your price) in its place, or what 1,000 answers cost: "
                "--set api_cost_per_1000=USD, and --api-cost-per-1000 USD of build.",
            )
        return price, first_estimate(endpoint, options.reasoning_effort, options.max_output_tokens).tokens


class PaidMember(Protocol):
    """A member whose answers cost money. `estimated_fees`: its costs are estimated, not charged by an endpoint.

    `expected_fees` are US dollars for each listing [n], NaN if unknown. `free_quotes` are the answers that cost nothing
    now: saved or cached ones; others are unanswered.
    """

    estimated_fees: bool

    @property
    def name(self) -> str: ...

    def price(self, listings: Sequence[Listing]) -> list[Quote]: ...

    def expected_fees(self, listings: Sequence[Listing]) -> Array: ...

    def free_quotes(self, listings: Sequence[Listing]) -> list[Quote]: ...


class SavedAnswers:
    """Answers in a file, by id; each costs what its prompt would cost at the price of the API model, if that is known.

    A listing that is not in the file is unanswered and costs nothing.
    """

    estimated_fees = True

    def __init__(
        self,
        quotes: Mapping[str, Quote],
        name: str,
        fees: FeeSettings,
        currency: str,
        price_range: PriceRange = ANY_PRICE,
    ) -> None:
        self.pricer = PrecomputedPricer({id: clip(quote, price_range) for id, quote in quotes.items()}, name)
        self.fees, self.terms = fees, fees.answer_terms()
        self.prompt = Prompt(style="chat", currency=currency)

    @property
    def name(self) -> str:
        return self.pricer.name

    def has(self, listing: Listing) -> bool:
        """Whether the file has a line for the listing."""
        return listing.id in self.pricer.quotes

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        """The saved answers, with their costs."""
        fees = self.expected_fees(listings)
        return [
            Quote(quote.price, raw=quote.raw, cost_usd=None if np.isnan(fee) else float(fee))
            if self.has(listing)
            else Quote(None, raw=NOT_SAVED)
            for listing, quote, fee in zip(listings, self.pricer.price(listings), fees, strict=True)
        ]

    def expected_fees(self, listings: Sequence[Listing]) -> Array:
        """The estimated fee of each listing [n] in US dollars; NaN if no price is known."""
        if self.fees.cost_per_1000 is not None:
            return np.full(len(listings), self.fees.cost_per_1000 / 1000)
        if self.terms is None:
            return np.full(len(listings), np.nan)
        return prompt_fees(listings, self.prompt, *self.terms)

    def free_quotes(self, listings: Sequence[Listing]) -> list[Quote]:
        """The saved answers: all are paid already."""
        return self.price(listings)


def check_saved_answers(file: Path, api_model: str, currency: str) -> None:
    """Check saved answers before anything is fitted that is combined with them.

    Raises InputError if the file cannot be read as answers in this currency, UsageError if the price of the API model
    is unknown.
    """
    FeeSettings(api_model).answer_terms()
    read_prices(file, currency)


def clip(quote: Quote, price_range: PriceRange) -> Quote:
    """An answer inside the price range of the catalog: one far outside would outweigh the other members."""
    low, high = price_range
    return quote if quote.price is None else replace(quote, price=min(max(quote.price, low), high))


def prompt_fees(listings: Sequence[Listing], prompt: Prompt, price: TokenPrice, tokens_out: float) -> Array:
    """The estimated fees [n] in US dollars of asking for one price each, with `tokens_out` output tokens."""
    system = estimate_tokens(SYSTEM_PROMPT)
    tokens = [system + estimate_tokens(prompt.asked(render(listing))) for listing in listings]
    return np.array([(count * price.input + tokens_out * price.output) / 1e6 for count in tokens], dtype=np.float64)


@dataclass
class ApiMember:
    """An API model, opened when it is first asked, under the settings of the command (`current_settings`).

    `output_tokens` is the expected number of output tokens of a reply; None: as in the replies of this machine's cache.
    """

    spec: MemberSpec
    currency: str
    progress: Progress = SILENT
    price_range: PriceRange = ANY_PRICE
    output_tokens: float | None = None
    estimated_fees: bool = False
    _pricer: ApiPricer | None = field(default=None, init=False)
    _settings: ApiSettings | None = field(default=None, init=False)
    _own_settings: ApiSettings | None = field(default=None, init=False)  # outside any block of settings
    _silent_until: float = field(default=float("-inf"), init=False)
    _reason: str = field(default="", init=False)

    def __post_init__(self) -> None:
        options = parse_api_model(self.spec.text).options
        if options.shots or options.comparables:
            raise UsageError(
                "A member of a blend or cascade cannot be shown training listings",
                got=self.spec.text,
                allowed="an API model without shots= and comparables=",
                hint="Leave them out.",
            )

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def pricer(self) -> ApiPricer:
        """The pricer of the API model under the current settings."""
        settings = CURRENT.get() or self._own_settings
        if settings is None:
            settings = self._own_settings = ApiSettings()
            weakref.finalize(self, settings.exit_stack.close)  # no block of settings closes them
        if self._pricer is None or self._settings is not settings:
            model = parse_api_model(self.spec.text)
            self._pricer = settings.build_pricer(model, self.currency, progress=self.progress)
            self._settings, self._silent_until = settings, float("-inf")
        return self._pricer

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        """One quote for each listing; unanswered with a reason in `raw` if it could not be asked.

        Raises PricesmithError instead if the settings do not allow a fallback, and UsageError if a key or a price is
        missing.
        """
        pricer = self.pricer
        requests = pricer.requests(listings)
        if time.monotonic() < self._silent_until:
            return self.cached_quotes(requests)
        try:
            results = pricer.complete(requests)
        except UsageError:
            raise
        except PricesmithError as error:
            if self._settings is None or not self._settings.fallback:
                raise
            spent = isinstance(error, BudgetExceeded) and not pricer.budget.overrun
            self._reason = BUDGET_SPENT if spent else error.what
            # A budget may be renewed, as a server's is at midnight; without one nothing is sent.
            self._silent_until = time.monotonic() + (0.0 if isinstance(error, BudgetExceeded) else RETRY_SECONDS)
            return self.cached_quotes(requests)
        if pricer.is_down and self._settings is not None and self._settings.fallback:  # the next would wait as long
            self._reason = f"{pricer.endpoint.host} does not answer"
            self._silent_until = time.monotonic() + RETRY_SECONDS
        return [self.quote(results[request.key]) for request in requests]

    def quote(self, result: Completion | RequestFailed) -> Quote:
        """A reply as a quote inside the price range."""
        return clip(self.pricer.quote(result), self.price_range)

    def cached_quotes(self, requests: Sequence[ApiRequest]) -> list[Quote]:
        """The quotes of cached replies; other listings are unanswered, with the reason why they were not asked in
        `note`."""
        results = self.pricer.find_cached(request.key for request in requests)
        return [
            self.quote(results[request.key]) if request.key in results else not_asked(self._reason)
            for request in requests
        ]

    def buy(self, listings: Sequence[Listing]) -> list[Quote] | None:
        """Ask about a few listings; None if the budget ended meanwhile.

        Raises PricesmithError if the endpoint does not answer.
        """
        requests = self.pricer.requests(listings)
        try:
            results = self.pricer.complete(requests)
        except BudgetExceeded:
            self._reason = BUDGET_SPENT
            return None
        return [self.quote(results[request.key]) for request in requests]

    def free_quotes(self, listings: Sequence[Listing]) -> list[Quote]:
        """The quotes of cached replies; other listings are unanswered."""
        self._reason = self._reason or "not in the response cache"
        return self.cached_quotes(self.pricer.requests(listings))

    def fees_now(self, listings: Sequence[Listing]) -> Array:
        """The expected fee of each listing [n] in US dollars if it is asked about now: 0 if its reply is cached."""
        requests = self.pricer.requests(listings)
        cached = self.pricer.cache.find(request.key for request in requests)
        fees = self.expected_fees(listings)
        return np.where([request.key in cached for request in requests], 0.0, fees)

    def expected_fees(self, listings: Sequence[Listing]) -> Array:
        """The estimated fee of each listing [n] in US dollars; NaN if the model has no known price."""
        pricer = self.pricer
        price = pricer.price_today()
        if price is None:
            return np.full(len(listings), np.nan)
        return prompt_fees(listings, pricer.prompt, price, self.expected_output_tokens())

    def expected_output_tokens(self) -> float:
        """The expected number of output tokens of a reply."""
        if self.output_tokens is not None:
            return self.output_tokens
        return estimate_output_tokens(self.pricer).tokens


def not_asked(reason: str) -> Quote:
    """The quote of a listing that an API model was not asked about, at no cost."""
    return Quote(None, note=f"{NOT_ASKED}: {reason}")


def buy_answers(members: Sequence[ApiMember], listings: Sequence[Listing], progress: Progress) -> list[list[Quote]]:
    """Ask all members about listings, a few at a time, until the budget ends; the quotes of each member. Listings that
    were not asked about are unanswered, with the reason in `note`.

    Raises PricesmithError if an endpoint does not answer.
    """
    for member in members:
        ApiCostReporter(member.pricer, dict).before(listings)
    progress.start(f"asking {', '.join(member.name for member in members)}", len(listings))
    quotes: list[list[Quote]] = [[] for _ in members]
    size = 8 * min(member.pricer.concurrency for member in members)
    for start in range(0, len(listings), size):
        part = listings[start : start + size]
        for member, bought in zip(members, quotes, strict=True):
            answers = member.buy(part)
            if answers is None:
                rest = [member.free_quotes(listings) for member in members]
                known = sum(not any(quote.note for quote in row) for row in zip(*rest, strict=True))
                progress.note(f"The budget is spent: {known:,} of {len(listings):,} listings were asked about.")
                return rest
            bought += answers
        progress.advance(len(part))
    return quotes
