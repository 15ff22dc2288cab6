"""The models of the table of providers: prices in two forms, tiers, shutdown dates; the shipped prices are right."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import pytest

from pricesmith.core.errors import UsageError
from pricesmith.pricers.api.model_table import merge_models, read_model_entry
from pricesmith.pricers.api.prices import TokenPrice
from pricesmith.pricers.api.providers import read_provider_table

READ = {"date": "2026-11-29", "source": "the page"}
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


def test_a_simple_price_and_a_list_of_prices_are_read() -> None:
    """Dates as text or as TOML dates."""
    simple = read_model_entry({"input": 2, "output": 10, "cached_input": 0.2} | READ, "MODEL").prices
    assert simple is not None
    assert simple.at(NOW) == TokenPrice(2, 10, 0.2)
    assert simple.identity() == [2, 10]
    entries = [
        {"until": date(2026, 11, 30), "input": 2, "output": 10},
        {"from": "2026-12-01", "input": 4, "output": 20},
    ]
    dated = read_model_entry({"prices": entries, "tiers": {"flex": 0.5}} | READ, "MODEL").prices
    assert dated is not None
    assert dated.at(NOW) == TokenPrice(2, 10)
    assert dated.at(datetime(2026, 12, 1, tzinfo=UTC), "flex") == TokenPrice(2, 10)
    assert dated.identity() == [["", "2026-11-30", 2, 10], ["2026-12-01", "", 4, 20]]


def test_a_shutdown_and_its_replacement_are_read() -> None:
    """An empty date takes a shutdown back."""
    entry = read_model_entry({"shutdown": "2027-01-14", "replacement": "made-2", "reasoning": False}, "MODEL")
    assert (entry.prices, entry.shutdown, entry.replacement) == (None, date(2027, 1, 14), "made-2")
    assert not entry.reasoning
    assert read_model_entry({"shutdown": ""}, "MODEL").shutdown is None


def test_an_own_price_replaces_all_of_a_shipped_price_and_nothing_else() -> None:
    """A shipped discount need not hold for another price; a shutdown does."""
    shipped = {"made": {"input": 1, "output": 2, "tiers": {"flex": 0.5}, "shutdown": "2027-01-14"} | READ}
    merged = merge_models(shipped, {"made": {"input": 3, "output": 4} | READ})
    assert merged["made"] == {"input": 3, "output": 4, "shutdown": "2027-01-14"} | READ
    merged = merge_models(shipped, {"made": {"shutdown": ""}, "other": 3})
    assert merged == {"made": shipped["made"] | {"shutdown": ""}, "other": 3}


ENTRY = {"input": 1, "output": 2}


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"input": 1} | READ, "only half of a price"),
        ({"cached_input": 1} | READ, "only half of a price"),
        (ENTRY, "without its date or source"),
        (ENTRY | {"source": "s", "date": "2026-13-45"}, "invalid date"),
        (ENTRY | {"source": "s", "date": 20261129}, "invalid date"),
        (ENTRY | {"prices": [ENTRY]} | READ, "in two forms"),
        ({"prices": [ENTRY | {"form": "2026-12-01"}]} | READ, "no setting 'form'"),
        ({"prices": [ENTRY | {"from": "soon"}]} | READ, "'from' cannot have this value"),
        ({"prices": [{"input": 1}]} | READ, "no 'output', which it needs"),
        ({"prices": [ENTRY | {"input": -1}]} | READ, "'input' cannot have this value"),
        ({"prices": [ENTRY | {"input": float("nan")}]} | READ, "'input' cannot have this value"),
        ({"prices": [ENTRY | {"from": "2026-12-02", "until": "2026-12-01"}]} | READ, "ends before it starts"),
        ({"prices": [ENTRY, ENTRY | {"from": "2026-12-01"}]} | READ, "two prices for the same time"),
        ({"prices": [ENTRY | {"hours": ["04:00-01:00"]}]} | READ, "invalid hours"),
        ({"prices": [ENTRY | {"hours": ["noon"]}]} | READ, "invalid hours"),
        ({"prices": [ENTRY | {"hours": ["23:00-24:30"]}]} | READ, "invalid hours"),
        ({"prices": [ENTRY | {"days": "weekdays"}]} | READ, "days without hours"),
        (ENTRY | {"tiers": {"flex": "half"}} | READ, "the tier flex cannot have this value"),
        (ENTRY | {"tiers": {"flex": True}} | READ, "the tier flex cannot have this value"),
        ({"tiers": {"flex": 0.5}} | READ, "tiers without a price"),
        (ENTRY | {"long_prompt": {"above": 0, "input_factor": 2, "output_factor": 2}} | READ, "cannot have this value"),
        (3, "is not a table"),
    ],
)
def test_a_wrong_entry_is_refused(values: Any, what: str) -> None:
    """With what is wrong, and what is allowed."""
    with pytest.raises(UsageError, match=what) as caught:
        read_model_entry(values, "own.toml [made] made-1")
    assert "own.toml [made] made-1" in caught.value.what
    assert caught.value.allowed
    assert caught.value.hint


# The shipped table against genai-prices


GENAI_PROVIDERS = {
    "openai": "openai",
    "anthropic": "anthropic",
    "google": "google",
    "xai": "x-ai",
    "deepseek": "deepseek",
    "mistral": "mistral",
}
NOT_IN_GENAI_PRICES = {"gpt-6.2-sol", "gpt-6.2-astra"}  # newer than version 0.2.3
MOMENTS = [
    datetime(2026, 10, 25, 12, tzinfo=UTC),
    datetime(2026, 11, 29, 8, tzinfo=UTC),
    datetime(2026, 11, 30, 2, tzinfo=UTC),
    datetime(2026, 11, 30, 23, 59, tzinfo=UTC),
    datetime(2026, 12, 1, 7, tzinfo=UTC),
    datetime(2027, 1, 1, tzinfo=UTC),
]
CONTEXTS = {
    "standard": {},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
    "batch": {"processing": "batch"},
}
# Differences that are meant, by the component (and the model).
NO_BATCH_PRICE_OF_CACHED_INPUT = "the page has none: counted like other input of the batch, an upper bound"
GEMINI_TIERS = "genai-prices has them in a comment only (batch and flex 50 %, priority 1.8 times)"
WEEKEND = "genai-prices has no days of the week: the peak prices do not apply on Sundays"
FIRST_LIST_PRICE = "its batch price on the nine days of the first list price was the promotional one"


@dataclass(frozen=True)
class Rate:
    """One component of a price: what is shipped, and what genai-prices has; None if unknown."""

    shipped: float | None
    other: float | None


def known_difference(provider: str, model: str, tier: str, name: str, moment: datetime, rate: Rate) -> str:
    """Return the reason for a difference between the two tables, empty if there should be none."""
    if name == "cached_input" and tier == "batch" and provider == "openai" and rate.shipped is None:
        return NO_BATCH_PRICE_OF_CACHED_INPUT
    if provider == "google" and tier in ("flex", "priority"):
        return GEMINI_TIERS
    if model == "mistral-large-4" and tier == "batch" and moment < datetime(2026, 10, 29, tzinfo=UTC):
        return FIRST_LIST_PRICE
    if provider == "deepseek" and moment.weekday() == 6:
        return WEEKEND
    return ""


def genai_rates(price: Any) -> dict[str, float | None]:
    """Return a price of genai-prices by our names, for short prompts."""
    names = {
        "input": "input_mtok",
        "output": "output_mtok",
        "cached_input": "cache_read_mtok",
        "cache_write": "cache_write_mtok",
    }
    values = {name: getattr(price, other) for name, other in names.items()}
    return {name: None if value is None else float(getattr(value, "base", value)) for name, value in values.items()}


def genai_long_prompt(price: Any) -> tuple[int, float, float] | None:
    """Return the limit of a long prompt and the factors on input and output."""
    value, out = price.input_mtok, price.output_mtok
    if not hasattr(value, "tiers"):
        return None
    return (
        value.tiers[0].start,
        float(value.tiers[0].price / value.base),
        float(out.tiers[0].price / out.base),
    )


def shipped_models() -> list[tuple[str, str]]:
    """Return every shipped model with a price, with its provider."""
    _, models = read_provider_table()
    return [(provider, name) for provider in models for name, entry in models[provider].items() if entry.prices]


@pytest.mark.parametrize(("provider", "model"), shipped_models())
def test_the_shipped_prices_are_those_of_genai_prices(provider: str, model: str) -> None:
    """On several days, at night and at noon, on every tier, with cached input, cache writes and long prompts."""
    from genai_prices import data

    prices = read_provider_table()[1][provider][model].prices
    assert prices is not None
    known = next(entry for entry in data.providers if entry.id == GENAI_PROVIDERS[provider])
    other = next((entry for entry in known.models if entry.id == model), None)
    if other is None:
        assert model in NOT_IN_GENAI_PRICES
        return
    assert model not in NOT_IN_GENAI_PRICES, "it can be compared now"
    for moment in MOMENTS:
        for tier, context in CONTEXTS.items():
            ours = prices.at(moment, tier)
            variants = other.price_variants or ()
            listed = any(variant.when == context for variant in variants) or tier == "standard"
            assert ours is not None or not listed, f"{tier} is missing"
            if ours is None or not listed:
                assert ours is None or known_difference(provider, model, tier, "", moment, Rate(None, None)), tier
                continue
            expected = other.get_prices(moment, context)
            for name, rate in genai_rates(expected).items():
                pair = Rate(getattr(ours, name), rate)
                if known_difference(provider, model, tier, name, moment, pair):
                    continue
                assert pair.shipped == pytest.approx(pair.other), (moment, tier, name)
            factors = ours.long_prompt
            if model == "claude-sonnet-4-5":  # longer prompts than the limit have been refused since 2026-04-30
                continue
            assert (factors and (factors.above, factors.input_factor, factors.output_factor)) == genai_long_prompt(
                expected
            )
