"""Tokens are priced by date, hour, tier and length of the prompt; what is not known is None."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricesmith.pricers.api.prices import Hours, LongPromptFactors, PriceList, PricePeriod, TokenPrice
from pricesmith.pricers.api.usage import Usage

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
DATED = PriceList(
    (PricePeriod(TokenPrice(2, 10), last=date(2026, 11, 30)), PricePeriod(TokenPrice(4, 20), first=date(2026, 12, 1))),
    tiers={"flex": 0.5},
)
DAY_AND_NIGHT = PriceList(
    (
        PricePeriod(TokenPrice(1, 2)),
        PricePeriod(TokenPrice(2, 4), hours=(Hours(60, 240), Hours(360, 600)), weekdays=True),
    )
)


def test_tokens_cost_what_their_kind_costs() -> None:
    """Cached input, cache writes and other input; a kind without a price of its own costs as much as other input."""
    price = TokenPrice(1.0, 10.0, cached_input=0.1, cache_write=1.25)
    usage = Usage(1_000_000, 100_000, tokens_cached=400_000, tokens_cache_write=200_000)
    assert price.cost(usage) == pytest.approx(0.4 + 0.04 + 0.25 + 1.0)
    assert TokenPrice(1.0, 10.0).cost(usage) == pytest.approx(2.0)
    assert price.cost(Usage(None, 5)) is price.cost(Usage(5, None)) is None


def test_a_long_prompt_costs_more_for_all_of_its_tokens() -> None:
    """Above the limit, not from it on."""
    price = TokenPrice(1.0, 10.0, long_prompt=LongPromptFactors(100, 2.0, 1.5))
    assert price.cost(Usage(100, 10)) == pytest.approx(200e-6)
    assert price.cost(Usage(101, 10)) == pytest.approx((202 + 150) * 1e-6)


def test_the_last_day_of_all_prices_is_known() -> None:
    """None if one of them has no end."""
    ended = PriceList(
        (PricePeriod(TokenPrice(2, 10), last=date(2026, 10, 1)), PricePeriod(TokenPrice(1, 5), last=date(2026, 9, 1)))
    )
    assert ended.last_known() == date(2026, 10, 1)
    assert DATED.last_known() is None


@given(st.integers(1, 10_000), st.integers(1, 200), st.integers(0, 50))
def test_many_requests_cost_as_much_as_each_of_them(count: int, tokens_in: int, tokens_out: int) -> None:
    """The prompts of all of them are not one long prompt."""
    price = TokenPrice(1.0, 10.0, long_prompt=LongPromptFactors(100, 2.0, 1.5))
    one = price.cost(Usage(tokens_in, tokens_out))
    assert one is not None
    assert price.cost_of_many(Usage(count * tokens_in, count * tokens_out), count) == pytest.approx(count * one)
    assert price.cost_of_many(Usage(None, 5), count) is None


@pytest.mark.parametrize(
    ("moment", "price_in"),
    [
        (datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC), 2),
        (datetime(2026, 12, 1, tzinfo=UTC), 4),
        (datetime(2026, 12, 1, 1, tzinfo=timezone(timedelta(hours=2))), 2),
    ],
)
def test_a_dated_price_changes_at_midnight_utc(moment: datetime, price_in: float) -> None:
    """The first and the last day belong to the period."""
    price = DATED.at(moment)
    assert price is not None
    assert price.input == price_in


@pytest.mark.parametrize(
    ("moment", "price_in"),
    [
        (datetime(2026, 11, 30, 0, 59, tzinfo=UTC), 1),
        (datetime(2026, 11, 30, 1, 0, tzinfo=UTC), 2),
        (datetime(2026, 11, 30, 4, 0, tzinfo=UTC), 1),
        (datetime(2026, 11, 30, 9, 59, tzinfo=UTC), 2),
        (datetime(2026, 11, 29, 2, 0, tzinfo=UTC), 1),
    ],
)
def test_a_price_by_the_hour_replaces_the_other_on_weekdays(moment: datetime, price_in: float) -> None:
    """2026-11-29 is a Sunday."""
    price = DAY_AND_NIGHT.at(moment)
    assert price is not None
    assert price.input == price_in


def test_a_date_or_a_tier_without_a_price_is_unknown() -> None:
    """Not the price of the nearest date, and not the standard price."""
    assert DATED.at(NOW, "priority") is None
    assert DATED.at(NOW, "flex") == TokenPrice(1, 5)
    assert DATED.at(NOW, "standard") == DATED.at(NOW) == TokenPrice(2, 10)
    ended = PriceList(DATED.periods[:1])
    assert ended.at(NOW + timedelta(days=2)) is None
    assert ended.worst_case(NOW + timedelta(days=2)) is None


def test_a_tier_may_have_prices_of_its_own() -> None:
    """Some providers discount input and output by different shares."""
    prices = replace(PriceList.flat(2, 10), tiers={"batch": TokenPrice(1, 4)})
    assert prices.at(NOW, "batch") == TokenPrice(1, 4)


def test_prices_are_described_with_their_date_and_their_end() -> None:
    """As the estimate shows them."""
    dated = replace(DATED, date="2026-11-29", source="the page")
    text = "$2 in, $10 out for a million tokens, as of 2026-11-29, until 2026-11-30, the page"
    assert dated.describe(NOW) == text
    assert dated.describe(NOW, "flex").startswith("$1 in, $5 out for a million tokens, tier flex")
    assert dated.describe(NOW, "priority") == "no price is known"


AMOUNTS = st.floats(0, 1000)
OPTIONAL = st.none() | AMOUNTS
PRICES = st.builds(
    TokenPrice,
    AMOUNTS,
    AMOUNTS,
    OPTIONAL,
    OPTIONAL,
    st.none() | st.builds(LongPromptFactors, st.integers(1, 1000), st.floats(0, 5), st.floats(0, 5)),
)
HOURS = st.tuples(st.integers(0, 1439), st.integers(1, 1440)).filter(lambda pair: pair[0] < pair[1])
DAYS = st.dates(date(2026, 11, 20), date(2026, 12, 10))
PERIODS = st.builds(
    PricePeriod,
    PRICES,
    st.none() | DAYS,
    st.none() | DAYS,
    st.lists(HOURS.map(lambda pair: Hours(*pair)), max_size=2).map(tuple),
    st.booleans(),
)
COUNTS = st.integers(0, 2000)


@given(
    st.lists(PERIODS, min_size=1, max_size=3),
    st.datetimes(datetime(2026, 11, 20), datetime(2026, 12, 10), timezones=st.just(UTC)),
    st.timedeltas(timedelta(0), timedelta(days=1)),
    st.tuples(COUNTS, COUNTS, COUNTS, COUNTS),
    st.tuples(COUNTS, COUNTS),
)
def test_no_answer_costs_more_than_the_worst_case(
    periods: list[PricePeriod],
    moment: datetime,
    wait: timedelta,
    counts: tuple[int, int, int, int],
    more: tuple[int, int],
) -> None:
    """Whenever it is answered, whatever of it is cached, with at most as many tokens as were reserved."""
    prices = PriceList(tuple(periods))
    tokens_in, tokens_out, cached, written = counts
    price, worst = prices.at(moment + wait), prices.worst_case(moment)
    if price is None:
        return
    assert worst is not None
    reserved = worst.cost(Usage(tokens_in + more[0], tokens_out + more[1]))
    cost = price.cost(Usage(tokens_in, tokens_out, cached, written))
    assert cost is not None
    assert reserved is not None
    assert cost <= reserved * (1 + 1e-9)


@given(st.lists(PERIODS, min_size=2, max_size=2), st.datetimes(datetime(2026, 11, 20), datetime(2026, 12, 10)))
def test_prices_that_do_not_overlap_never_apply_at_the_same_time(periods: list[PricePeriod], moment: datetime) -> None:
    """So that the price of a moment is one price."""
    first, second = periods
    if not first.overlaps(second) and bool(first.hours) == bool(second.hours):
        assert not (first.applies(moment) and second.applies(moment))
    assert first.overlaps(second) == second.overlaps(first)
