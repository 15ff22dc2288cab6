"""Reads the models of the table of providers: their prices, and how long they are served.

    read_model_entry({"input": 2.0, "output": 10.0, "date": "2026-11-29", "source": "the page"}, "MODEL").prices

A price is `input` and `output`, or a list of `prices` with the days and hours at which each applies.
"""

from __future__ import annotations

import datetime
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from pricesmith.core.errors import UsageError
from pricesmith.core.settings import Settings, parse_settings
from pricesmith.pricers.api.extra_fields import ExtraHeader, check_extra_body, check_extra_headers
from pricesmith.pricers.api.prices import (
    MILLION,
    PRICE_FIELDS,
    Hours,
    LongPromptFactors,
    PriceList,
    PricePeriod,
    TokenPrice,
)

ABOUT_PRICE = frozenset({*PRICE_FIELDS, "prices", "tiers", "long_prompt", "date", "source", "note"})
DAY_TEXT = re.compile(r"\d{4}-\d\d-\d\d")
HOURS_TEXT = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)")


def to_day(value: Any) -> Any:
    """Return a TOML date, or a text such as 2026-11-29, as a date; None for an empty text.

    Raises ValueError for anything else: pydantic would take a number for seconds since 1970.
    """
    if value == "" or value is None:
        return None
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value
    if isinstance(value, str) and DAY_TEXT.fullmatch(value):
        try:
            return datetime.date.fromisoformat(value)
        except ValueError:
            pass
    raise ValueError("an invalid date; write a day such as 2026-11-29")


Day = Annotated[datetime.date | None, BeforeValidator(to_day)]
Amount = Annotated[float, Field(ge=0, lt=MILLION)]


class LongPromptSettings(Settings):
    """`long_prompt` of a model: factors on all prices if the prompt is longer than `above` tokens."""

    above: int = Field(gt=0, description="tokens of the longest prompt at the ordinary price")
    input_factor: float = Field(ge=0, description="factor on the prices of input, such as 2")
    output_factor: float = Field(ge=0, description="factor on the price of output, such as 1.5")


class PriceSettings(Settings):
    """Prices in US dollars per million tokens."""

    input: Amount = Field(description="dollars per million input tokens")
    output: Amount = Field(description="dollars per million output tokens")
    cached_input: Amount | None = Field(None, description="input tokens read from the provider's prompt cache")
    cache_write: Amount | None = Field(None, description="input tokens written to the provider's prompt cache")

    def to_price(self, long_prompt: LongPromptFactors | None = None) -> TokenPrice:
        """Return the prices as they are used."""
        return TokenPrice(self.input, self.output, self.cached_input, self.cache_write, long_prompt)


class PeriodSettings(PriceSettings):
    """One entry of `prices`: prices, and when they apply, in UTC."""

    first: Day = Field(None, alias="from", description="the first day, such as 2026-12-01")
    last: Day = Field(None, alias="until", description="the last day, such as 2026-12-31")
    hours: tuple[str, ...] = Field((), description='hours of the day in UTC, such as ["01:00-04:00"]')
    days: Literal["all", "weekdays"] = "all"


class ModelSettings(Settings):
    """A model of the table of providers, with its prices in the simple form or in a list."""

    input: Amount | None = Field(None, description="dollars per million input tokens")
    output: Amount | None = Field(None, description="dollars per million output tokens")
    cached_input: Amount | None = None
    cache_write: Amount | None = None
    prices: tuple[dict[str, Any], ...] = Field((), description="prices by date: [{from = ..., input = ..., ...}, ...]")
    tiers: dict[str, Any] = Field({}, description="tiers: a factor on the price, such as {flex = 0.5}, or prices")
    long_prompt: dict[str, Any] = Field({}, description="{above = TOKENS, input_factor = 2, output_factor = 1.5}")
    date: Day = Field(None, description="when the price was read: 2026-11-29")
    source: str = Field("", description="page or file with the price")
    note: str = ""
    shutdown: Day = Field(None, description="the day on which the provider shuts the model down")
    replacement: str = Field("", description="the model that the provider names as its replacement")
    reasoning: bool = Field(True, description="whether the model may reason before it answers")
    extra_body: Any = Field({}, description="further fields of every request")
    extra_headers: Any = Field({}, description="further headers of every request")


@dataclass(frozen=True)
class ModelFacts:
    """A model of the table of providers: its prices (None if unknown), and how long it is served.

    `reasoning`: it may reason before it answers, which takes many output tokens. `extra_body` and `extra_headers` go
    with every request, beside those of the provider.
    """

    prices: PriceList | None = None
    shutdown: datetime.date | None = None
    replacement: str = ""
    reasoning: bool = True
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    extra_headers: tuple[ExtraHeader, ...] = ()


def merge_models(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return a provider's entries of the shipped table, overridden model by model by the user's.

    All settings about the price belong together: one of them in the user's entry replaces them all.
    """
    merged = dict(old)
    for name, entry in new.items():
        known = old.get(name, {})
        if isinstance(entry, dict):
            replaced = ABOUT_PRICE if ABOUT_PRICE & entry.keys() else set()
            entry = {**{key: value for key, value in known.items() if key not in replaced}, **entry}
        merged[name] = entry
    return merged


def read_model_entry(values: Any, where: str) -> ModelFacts:
    """Return a model of the table of providers. `where` is what an error calls it.

    Raises UsageError if a setting is unknown or wrong, only half of a price is given, its date or source is missing, or
    two prices apply at the same time.
    """
    if not isinstance(values, dict):
        raise UsageError(
            f"{where} is not a table",
            got=repr(values)[:200],
            allowed="input, output, date and source, or other settings of a model",
            hint='For example { input = 1.00, output = 2.00, date = "2026-11-29", source = "the page with the price" }',
        )
    model = parse_settings(ModelSettings, values, where=where)
    return ModelFacts(
        read_price_list(model, where),
        model.shutdown,
        model.replacement,
        model.reasoning,
        check_extra_body(model.extra_body, where),
        check_extra_headers(model.extra_headers, where),
    )


def read_price_list(model: ModelSettings, where: str) -> PriceList | None:
    """Return the prices of a model, None if none is given. Raises UsageError as `read_model_entry`."""
    simple = {name: value for name in PRICE_FIELDS if (value := getattr(model, name)) is not None}
    if simple and model.prices:
        raise UsageError(
            f"{where} has its price in two forms",
            got=f"{', '.join(simple)} and prices",
            allowed="input and output, or a list of prices",
            hint="Move them into the list, each entry with from = or until =.",
        )
    if simple and not {"input", "output"} <= simple.keys():
        raise UsageError(
            f"{where} has only half of a price",
            got=", ".join(simple),
            allowed="input and output, dollars per million tokens",
            hint="Add the other half.",
        )
    if not simple and not model.prices:
        if model.tiers:
            raise UsageError(
                f"{where} has tiers without a price",
                got=", ".join(model.tiers),
                allowed="input and output, or a list of prices, and tiers",
                hint="Add input and output, dollars per million tokens.",
            )
        return None
    if not (model.date and model.source):
        raise UsageError(
            f"{where} has a price without its date or source",
            got=f"date = {str(model.date or '')!r}, source = {model.source!r}",
            allowed='date = "2026-11-29" and source = "the page with the price"',
            hint="Prices change: state when and where this one was read.",
        )
    long_prompt = read_long_prompt(model.long_prompt, where)
    entries = model.prices or (simple,)
    periods = tuple(read_period(entry, f"{where} prices, entry {n}", long_prompt) for n, entry in enumerate(entries, 1))
    check_overlaps(periods, where)
    return PriceList(periods, str(model.date), model.source, model.note, read_tiers(model.tiers, len(periods), where))


def read_period(values: Mapping[str, Any], where: str, long_prompt: LongPromptFactors | None) -> PricePeriod:
    """Return one entry of `prices`. Raises UsageError if it is wrong."""
    entry = parse_settings(PeriodSettings, values, where=where)
    if entry.first and entry.last and entry.last < entry.first:
        raise UsageError(
            f"{where} ends before it starts",
            got=f"from {entry.first} until {entry.last}",
            allowed="the first and the last day of the price",
            hint="Exchange them.",
        )
    hours = tuple(read_hours(text, where) for text in entry.hours)
    if entry.days != "all" and not hours:
        raise UsageError(
            f"{where} has days without hours",
            got=f"days = {entry.days!r}",
            allowed='hours = ["00:00-24:00"] with days = "weekdays"',
            hint="Add the hours.",
        )
    return PricePeriod(entry.to_price(long_prompt), entry.first, entry.last, hours, entry.days == "weekdays")


def read_hours(text: str, where: str) -> Hours:
    """Return hours such as 01:00-04:00. Raises UsageError if they do not end after they start."""
    match = HOURS_TEXT.fullmatch(text)
    start, end = (60 * int(match[n]) + int(match[n + 1]) for n in (1, 3)) if match else (0, 0)
    if not start < end <= 24 * 60:
        raise UsageError(
            f"{where} has invalid hours",
            got=text,
            allowed="START-END in UTC, within one day, such as 01:00-04:00",
            hint='Hours over midnight are two entries: ["22:00-24:00", "00:00-02:00"].',
        )
    return Hours(start, end)


def read_long_prompt(values: Mapping[str, Any], where: str) -> LongPromptFactors | None:
    """Return the factors for long prompts, None without any. Raises UsageError if they are wrong."""
    if not values:
        return None
    entry = parse_settings(LongPromptSettings, values, where=f"{where} long_prompt")
    return LongPromptFactors(entry.above, entry.input_factor, entry.output_factor)


def read_tiers(values: Mapping[str, Any], n_periods: int, where: str) -> dict[str, float | TokenPrice]:
    """Return the tiers of a model: factors, or prices if it has one period. Raises UsageError if one is wrong."""
    tiers: dict[str, float | TokenPrice] = {}
    for name, terms in values.items():
        if isinstance(terms, dict) and n_periods == 1:
            tiers[name] = parse_settings(PriceSettings, terms, where=f"{where} tiers.{name}").to_price()
        elif isinstance(terms, int | float) and not isinstance(terms, bool) and 0 <= terms <= 100:  # excludes NaN
            tiers[name] = float(terms)
        else:
            raise UsageError(
                f"{where}: the tier {name} cannot have this value",
                got=repr(terms)[:200],
                allowed="a factor on the price from 0 to 100; or input and output, if the model has one price",
                hint=f"For example tiers = {{ {name} = 0.5 }}",
            )
    return tiers


def check_overlaps(periods: Sequence[PricePeriod], where: str) -> None:
    """Raise UsageError if two prices apply at the same time."""
    for (first, left), (second, right) in itertools.combinations(enumerate(periods, 1), 2):
        if left.overlaps(right):
            raise UsageError(
                f"{where} has two prices for the same time",
                got=f"entries {first} and {second} of prices",
                allowed="periods that do not overlap (from and until are inclusive), and hours that do not",
                hint="End the earlier one with until = on the day before the later one starts.",
            )
