"""An answer costs what its endpoint reported, or its tokens at its own date; the budget counts the higher cost."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricesmith.pricers.api.costs import answer_cost
from pricesmith.pricers.api.eval_report import ApiCostReporter
from pricesmith.pricers.api.limits import Budget
from pricesmith.pricers.api.pricer import ApiPricer, PromptOptions
from pricesmith.pricers.api.prices import PriceList, PricePeriod, TokenPrice
from pricesmith.pricers.api.providers import read_provider_table
from pricesmith.pricers.api.response_cache import Completion, ResponseCache
from pricesmith.testing import FakeEndpoint, make_items

LISTINGS = [item.listing for item in make_items(4, seed=9)[0]]
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
REPLY = Completion("$24", "stop", 1_000_000, 0, None, 0.5)
DATED = PriceList(
    (PricePeriod(TokenPrice(2, 10), last=date(2026, 11, 30)), PricePeriod(TokenPrice(4, 20), first=date(2026, 12, 1)))
)


def test_an_answer_is_priced_at_its_own_date() -> None:
    """Not at today's: 2026-12-02 is after the change. One that is not stored yet is priced now."""
    later = datetime(2026, 12, 2, tzinfo=UTC)
    assert answer_cost(DATED, replace(REPLY, answered_at=NOW.timestamp()), moment=later).report == 2
    assert answer_cost(DATED, replace(REPLY, answered_at=later.timestamp()), moment=NOW).report == 4
    assert answer_cost(DATED, REPLY, moment=NOW).report == 2


@pytest.mark.parametrize(
    ("reported", "prices", "report", "budget"),
    [
        (0.5, DATED, 0.5, 2.0),
        (3.0, DATED, 3.0, 3.0),
        (None, DATED, 2.0, 2.0),
        (0.5, None, 0.5, 0.5),
        (0.0, DATED, 0.0, 2.0),
        (None, None, None, None),
    ],
)
def test_a_reported_cost_wins_in_reports_and_the_higher_one_counts(
    reported: float | None, prices: PriceList | None, report: float | None, budget: float | None
) -> None:
    """Without either the cost is unknown."""
    cost = answer_cost(prices, replace(REPLY, reported_usd=reported), moment=NOW)
    assert (cost.report, cost.budget) == (report, budget)


@given(st.none() | st.floats(0, 10), st.none() | st.integers(0, 10**7), st.sampled_from(["", "standard", "odd"]))
def test_the_budget_never_counts_less_than_a_report(reported: float | None, tokens: int | None, tier: str) -> None:
    """And an unknown cost is unknown to both."""
    cost = answer_cost(DATED, replace(REPLY, reported_usd=reported, tokens_in=tokens, tier=tier), moment=NOW)
    assert (cost.report is None) is (cost.budget is None)
    assert cost.report is None or (cost.budget is not None and cost.budget >= cost.report)


BYOK = {"is_byok": True, "cost_details": {"upstream_inference_cost": 0.02}}


@pytest.mark.parametrize(
    ("usage", "report", "known"),
    [
        ({"cost": 0.03}, 0.03, True),
        ({"cost": 0.001, **BYOK}, 0.021, True),
        ({"cost": 0.0, **BYOK}, 0.02, True),
        ({"cost": 0.0, "is_byok": True}, None, False),
        ({"cost": 0.0}, None, False),
        ({"cost_in_usd_ticks": 300_000_000}, 0.03, True),
    ],
)
def test_the_reported_cost_is_in_quotes_and_facts(
    tmp_path: Path, usage: dict[str, Any], report: float | None, known: bool
) -> None:
    """At OpenRouter, with and without the user's own key for the vendor, and at xAI; also from the cache later."""
    with FakeEndpoint(usage_fields=usage) as fake, ResponseCache(tmp_path / "a.sqlite") as cache:
        for _ in range(2):
            pricer = ApiPricer(fake.endpoint(None), PromptOptions(), cache, Budget(), currency="USD")
            costs = [quote.cost_usd for quote in pricer.price(LISTINGS)]
            assert costs == [None if report is None else pytest.approx(report)] * 4
            facts = ApiCostReporter(pricer, dict).after()
            assert facts["cost_known"] is known
            assert facts["reported_costs"] == (4 if known else 0)
            pricer.close()
        assert len(fake.requests) == 4


def test_a_reported_zero_leaves_the_list_price(tmp_path: Path) -> None:
    """If a price is known, the tokens cost it; the report is never $0."""
    with FakeEndpoint(cost=0.0) as fake, ResponseCache(tmp_path / "a.sqlite") as cache:
        pricer = ApiPricer(fake.endpoint(), PromptOptions(), cache, Budget(1.0), currency="USD")
        quotes = pricer.price(LISTINGS)
        assert sum(quote.cost_usd or 0 for quote in quotes) == pytest.approx(fake.billed_usd(1, 2))
        pricer.close()


def test_the_budget_counts_the_list_price_of_an_answer_that_reports_less(tmp_path: Path) -> None:
    """The report shows the reported cost."""
    with FakeEndpoint(cost=1e-9) as fake, ResponseCache(tmp_path / "a.sqlite") as cache:
        budget = Budget(1.0)
        pricer = ApiPricer(fake.endpoint(), PromptOptions(), cache, budget, currency="USD")
        assert [quote.cost_usd for quote in pricer.price(LISTINGS)] == [1e-9] * 4
        assert budget.spent == pytest.approx(fake.billed_usd(1, 2))
        pricer.close()


def test_cached_answers_of_deepseek_cost_what_their_hour_costs(tmp_path: Path) -> None:
    """Its counts of cached tokens have names of their own; peak hours are on weekdays from 01:00 and 06:00 UTC."""
    prices = read_provider_table()[1]["deepseek"]["deepseek-flash"].prices
    assert prices is not None
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 0, "total_tokens": 1_000_000}
    usage |= {"prompt_cache_hit_tokens": 400_000, "prompt_cache_miss_tokens": 600_000}
    moments = {
        datetime(2026, 11, 30, 2, tzinfo=UTC): 0.6 * 0.30 + 0.4 * 0.006,
        datetime(2026, 11, 30, 5, tzinfo=UTC): 0.6 * 0.15 + 0.4 * 0.003,
        datetime(2026, 11, 29, 2, tzinfo=UTC): 0.6 * 0.15 + 0.4 * 0.003,
    }
    with FakeEndpoint(reasoning_tokens=1, usage_fields=usage | {"completion_tokens": 1}) as fake:
        for number, (moment, usd) in enumerate(moments.items()):
            path = tmp_path / f"{number}.sqlite"
            endpoint = replace(fake.endpoint(), price=prices)
            with ResponseCache(path, clock=moment.timestamp) as cache:
                pricer = ApiPricer(endpoint, PromptOptions(), cache, Budget(), currency="USD")
                pricer.price(LISTINGS[:1])
                pricer.close()
            with ResponseCache(path, clock=lambda: datetime(2027, 6, 1, 12, tzinfo=UTC).timestamp()) as cache:
                pricer = ApiPricer(endpoint, PromptOptions(), cache, Budget(), currency="USD")
                assert pricer.price(LISTINGS[:1])[0].cost_usd == pytest.approx(usd, rel=1e-4)
                pricer.close()
        assert len(fake.requests) == 3
