"""Prices of tokens in US dollars: by date, time of day, service tier and length of the prompt.

    prices = PriceList.flat(2.0, 10.0, "2026-11-29", "the page with the price")
    prices.at(datetime.now(UTC)).cost(Usage(1_000_000, 1_000_000))          12.0
    prices.at(datetime.now(UTC), "flex")                                    None: no price of this tier is known

An answer is priced at its own date, an estimate at today's. Days and hours are in UTC. An unknown price is None, never
0.
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pricesmith.pricers.api.usage import STANDARD, Usage

MILLION = 1_000_000
PRICE_FIELDS = ("input", "output", "cached_input", "cache_write")
WORST_CASE_DAYS = 2  # after today, on which a request that is sent now may still be answered: a batch job takes one


@dataclass(frozen=True)
class LongPromptFactors:
    """What all tokens cost more if the prompt has over `above` tokens."""

    above: int
    input_factor: float
    output_factor: float


@dataclass(frozen=True)
class TokenPrice:
    """Prices of a model at one time on one tier, in US dollars per million tokens.

    Without a price for cached input or for cache writes, these tokens cost as much as other input.
    """

    input: float
    output: float
    cached_input: float | None = None
    cache_write: float | None = None
    long_prompt: LongPromptFactors | None = None

    def cost(self, usage: Usage) -> float | None:
        """Return the cost of these tokens in US dollars, None if their number is unknown."""
        if usage.tokens_in is None or usage.tokens_out is None:
            return None
        cached = min(usage.tokens_cached or 0, usage.tokens_in)
        written = min(usage.tokens_cache_write or 0, usage.tokens_in - cached)
        cached_price = self.input if self.cached_input is None else self.cached_input
        write_price = self.input if self.cache_write is None else self.cache_write
        input_usd = (usage.tokens_in - cached - written) * self.input + cached * cached_price + written * write_price
        output_usd = usage.tokens_out * self.output
        if self.long_prompt is not None and usage.tokens_in > self.long_prompt.above:
            input_usd, output_usd = (
                input_usd * self.long_prompt.input_factor,
                output_usd * self.long_prompt.output_factor,
            )
        return (input_usd + output_usd) / MILLION

    def cost_of_many(self, usage: Usage, count: int) -> float | None:
        """Return the cost of `count` requests that have these tokens together, None if their number is unknown.

        Each prompt counts as long as their mean: the sum of many short prompts is not a long one.
        """
        is_long = self.long_prompt is not None and (usage.tokens_in or 0) > self.long_prompt.above * count
        return (self if is_long else replace(self, long_prompt=None)).cost(usage)

    def scale(self, factor: float) -> TokenPrice:
        """Return these prices times a factor."""
        cached, write = (None if price is None else price * factor for price in (self.cached_input, self.cache_write))
        return replace(
            self, input=self.input * factor, output=self.output * factor, cached_input=cached, cache_write=write
        )

    def to_dict(self) -> dict[str, float]:
        """Return the known prices by name."""
        return {name: value for name in PRICE_FIELDS if (value := getattr(self, name)) is not None}


@dataclass(frozen=True)
class Hours:
    """Hours of a day in UTC: from `start` to before `end`, in minutes since midnight."""

    start: int
    end: int


@dataclass(frozen=True)
class PricePeriod:
    """Prices, and when they apply: from the day `first` to the day `last` (None: without a bound), both inclusive.

    With `hours`, only then, and only on weekdays if `weekdays`; such a price replaces the one without hours.
    """

    price: TokenPrice
    first: datetime.date | None = None
    last: datetime.date | None = None
    hours: tuple[Hours, ...] = ()
    weekdays: bool = False

    def covers(self, first: datetime.date, last: datetime.date) -> bool:
        """Return whether the period includes one of the days from `first` to `last`."""
        return (self.first is None or self.first <= last) and (self.last is None or self.last >= first)

    def applies(self, moment: datetime.datetime) -> bool:
        """Return whether these prices apply at a moment in UTC."""
        if not self.covers(moment.date(), moment.date()) or (self.weekdays and moment.weekday() > 4):
            return False
        minute = 60 * moment.hour + moment.minute
        return not self.hours or any(hours.start <= minute < hours.end for hours in self.hours)

    def overlaps(self, other: PricePeriod) -> bool:
        """Return whether both prices would apply at the same time, and neither replaces the other."""
        if bool(self.hours) != bool(other.hours):
            return False
        if not self.covers(other.first or datetime.date.min, other.last or datetime.date.max):
            return False
        pairs = itertools.product(self.hours, other.hours)
        return not self.hours or any(left.start < right.end and right.start < left.end for left, right in pairs)


@dataclass(frozen=True)
class PriceList:
    """All known prices of a model, with the day on which they were read and their source.

    `tiers` has the other service tiers: a factor on the standard price, or prices of their own.
    """

    periods: tuple[PricePeriod, ...]
    date: str = ""
    source: str = ""
    note: str = ""
    tiers: Mapping[str, float | TokenPrice] = field(default_factory=dict)

    @classmethod
    def flat(cls, input: float, output: float, date: str = "", source: str = "", note: str = "") -> PriceList:
        """Return one price for all times, in US dollars per million tokens."""
        return cls((PricePeriod(TokenPrice(input, output)),), date, source, note)

    def at(self, moment: datetime.datetime, tier: str = "") -> TokenPrice | None:
        """Return the prices at a moment; None if none is known for it or for the tier (empty: standard)."""
        moment = moment.astimezone(datetime.UTC)
        known = [period for period in self.periods if period.applies(moment)]
        period = max(known, key=lambda period: bool(period.hours), default=None)
        return None if period is None else self.on_tier(period.price, tier)

    def on_tier(self, price: TokenPrice, tier: str) -> TokenPrice | None:
        """Return the prices on a service tier, None if unknown."""
        if tier in ("", STANDARD):
            return price
        terms = self.tiers.get(tier)
        if isinstance(terms, TokenPrice):
            return replace(terms, long_prompt=price.long_prompt)
        return None if terms is None else price.scale(terms)

    def on_days(self, first: datetime.date, last: datetime.date, tier: str = "") -> list[TokenPrice]:
        """Return all known prices that apply at any hour from one day to another."""
        listed = [self.on_tier(period.price, tier) for period in self.periods if period.covers(first, last)]
        return [price for price in listed if price is not None]

    def highest_today(self, moment: datetime.datetime, tier: str = "") -> TokenPrice | None:
        """Return the highest prices at any hour of a moment's day in UTC, None if none is known."""
        day = moment.astimezone(datetime.UTC).date()
        prices = self.on_days(day, day, tier)
        return max(prices, key=lambda price: price.input + price.output, default=None)

    def worst_case(self, moment: datetime.datetime, tier: str = "") -> TokenPrice | None:
        """Return the highest prices at which a request that is sent at this moment may be charged, None if unknown.

        It may be answered on a later day, and all of its input may be written to a prompt cache.
        """
        day = moment.astimezone(datetime.UTC).date()
        prices = self.on_days(day, day + datetime.timedelta(days=WORST_CASE_DAYS), tier)
        if not prices:
            return None
        inputs = [amount for price in prices for amount in (price.input, price.cached_input, price.cache_write)]
        long_prompts = [price.long_prompt for price in prices if price.long_prompt is not None]
        return TokenPrice(
            max(amount for amount in inputs if amount is not None),
            max(price.output for price in prices),
            long_prompt=LongPromptFactors(
                min(factors.above for factors in long_prompts),
                max(1.0, *(factors.input_factor for factors in long_prompts)),
                max(1.0, *(factors.output_factor for factors in long_prompts)),
            )
            if long_prompts
            else None,
        )

    def describe(self, moment: datetime.datetime, tier: str = "") -> str:
        """Return the prices at a moment in words, with their date and source."""
        price = self.at(moment, tier)
        if price is None:
            return "no price is known"
        parts = [f"${price.input:g} in, ${price.output:g} out for a million tokens"]
        parts += [f"tier {tier}"] if tier not in ("", STANDARD) else []
        parts += [f"as of {self.date}"] if self.date else []
        parts += [f"until {last}"] if (last := self.last_day(moment)) else []
        return ", ".join([*parts, *([self.source] if self.source else [])])

    def last_day(self, moment: datetime.datetime) -> datetime.date | None:
        """Return the last day of the prices that apply at a moment, None if they have no end."""
        moment = moment.astimezone(datetime.UTC)
        return min((period.last for period in self.periods if period.applies(moment) and period.last), default=None)

    def last_known(self) -> datetime.date | None:
        """Return the last day of the latest price, None if one has no end."""
        ends = [period.last for period in self.periods]
        return None if None in ends else max((end for end in ends if end is not None), default=None)

    def identity(self) -> list[Any]:
        """Return the standard prices as plain values: [input, output] if there is one for all times.

        It tells two evaluations with different prices apart.
        """
        if len(self.periods) == 1 and not (self.periods[0].first or self.periods[0].last):
            return [self.periods[0].price.input, self.periods[0].price.output]
        return [
            [str(period.first or ""), str(period.last or ""), period.price.input, period.price.output]
            for period in self.periods
        ]
