"""Prices as files write them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricesmith.text import price_parser as money
from pricesmith.text.price_parser import parse_price, says_price

REASONS = {
    money.NO_PRICE,
    money.NOT_A_NUMBER,
    money.RANGE,
    money.ZERO,
    money.NEGATIVE,
    money.AMBIGUOUS,
    money.TWO_CURRENCIES,
    money.OTHER_DIGITS,
}

READ = [
    (1299, 1299.0, None),
    (12.5, 12.5, None),
    ("1299", 1299.0, None),
    ("$1,299.00", 1299.0, "USD"),
    ("1.299,00 €", 1299.0, "EUR"),
    ("15.00 USD", 15.0, "USD"),
    ("USD 15", 15.0, "USD"),
    ("CAD $5", 5.0, "CAD"),
    ("US$ 20", 20.0, "USD"),
    ("£5", 5.0, "GBP"),
    ("1 299,00 kr", 1299.0, "SEK"),
    ("1\u00a0299,00\u202fkr", 1299.0, "SEK"),
    ("CHF 1’299.50", 1299.5, "CHF"),
    ("15,- €", 15.0, "EUR"),
    ("₹1,00,000", 100_000.0, "INR"),
    ("1,299", 1299.0, None),
    ("12,50", 12.5, None),
    ("0,125", 0.125, None),
    ("1.299", 1.299, None),
    ("1.299.000", 1_299_000.0, None),
    (" .99 ", 0.99, None),
    ("1e3", 1000.0, None),
]

REFUSED = [
    (None, "no price"),
    ("", "no price"),
    ("  ", "no price"),
    ("None", "no price"),
    ("N/A", "no price"),
    ("-", "no price"),
    ("10-20", "price is a range"),
    ("$10 - $20", "price is a range"),
    ("10–20 €", "price is a range"),
    ("10 to 20", "price is a range"),
    ("from $10", "price is a range"),
    ("10+", "price is a range"),
    (0, "price is zero"),
    ("0.00", "price is zero"),
    ("-0", "price is zero"),
    (-0.0, "price is zero"),
    (-5, "price is negative"),
    ("-$5", "price is negative"),
    ("$-5.00", "price is negative"),
    ("(12.00)", "price is negative"),
    ("\u22125", "price is negative"),
    (float("nan"), "price is not a number"),
    ("NaN", "price is not a number"),
    ("Infinity", "price is not a number"),
    (float("inf"), "price is not a number"),
    ("1e309", "price is not a number"),
    (10**400, "price is not a number"),
    ("9" * 400, "price is not a number"),
    ("ten dollars", "price is not a number"),
    ("$", "price is not a number"),
    ("15 ABC", "price is not a number"),
    ("12.34.56", "price is not a number"),
    ("1,29,9", "price is not a number"),
    ("1,2345", "price is not a number"),
    ("2020-01-02", "price is not a number"),
    ("1_000", "price is not a number"),
    ("=5", "price is not a number"),
    (True, "price is not a number"),
    (["5"], "price is not a number"),
    ("١٢", "price has digits other than 0-9"),
    ("１２", "price has digits other than 0-9"),
    ("1.299 €", "price is ambiguous"),
    ("€15 USD", "price has two currencies"),
]


@pytest.mark.parametrize(("value", "amount", "currency"), READ)
def test_a_price_is_read_as_its_amount_and_currency(value: object, amount: float, currency: str | None) -> None:
    """The usual ways to write a price are understood."""
    assert parse_price(value) == (amount, currency)


@pytest.mark.parametrize(("value", "reason"), REFUSED)
def test_what_is_not_one_price_is_refused_by_name(value: object, reason: str) -> None:
    """A range, a word, nothing, zero: each has its stable reason."""
    assert parse_price(value) == reason
    assert reason in REASONS


def test_a_shared_sign_is_the_catalogs_currency_where_it_can_be() -> None:
    """A dollar sign in a Canadian catalog is a Canadian dollar; a euro sign never is."""
    assert parse_price("$5", "CAD") == (5.0, "CAD")
    assert parse_price("5 kr", "DKK") == (5.0, "DKK")
    assert parse_price("5 €", "CAD") == (5.0, "EUR")


cents = st.integers(1, 10**11)


@given(cents)
@settings(deadline=None, max_examples=200)
def test_an_amount_in_american_writing_comes_back(amount: int) -> None:
    """Thousands by comma, cents by dot, a dollar sign before."""
    assert parse_price(f"${amount // 100:,}.{amount % 100:02d}") == (amount / 100, "USD")


@given(cents)
@settings(deadline=None, max_examples=200)
def test_an_amount_in_german_writing_comes_back(amount: int) -> None:
    """Thousands by dot, cents by comma, a euro sign behind."""
    whole = f"{amount // 100:,}".replace(",", ".")
    assert parse_price(f"{whole},{amount % 100:02d} €") == (amount / 100, "EUR")


@given(cents)
@settings(deadline=None, max_examples=200)
def test_an_amount_in_swedish_writing_comes_back(amount: int) -> None:
    """Thousands by a space that does not break, cents by comma, kr behind."""
    whole = f"{amount // 100:,}".replace(",", "\u00a0")
    assert parse_price(f"{whole},{amount % 100:02d} kr", "NOK") == (amount / 100, "NOK")


@given(st.floats(min_value=1e-300, max_value=1e300))
@settings(deadline=None, max_examples=200)
def test_a_number_is_itself(amount: float) -> None:
    """A JSON number is the price, digit for digit, and so is its text."""
    assert parse_price(amount) == (amount, None)
    if len(repr(amount)) < money.LONGEST and "e" not in repr(amount):
        assert parse_price(repr(amount)) == (amount, None)


@given(st.one_of(st.text(max_size=80), st.text("0123456789.,'-+ $€kreusd()", max_size=70)))
@settings(deadline=None, max_examples=500)
def test_any_text_is_a_finite_price_or_a_known_reason(text: str) -> None:
    """Whatever a cell holds, the answer is an amount above zero or one of the listed reasons."""
    answer = parse_price(text)
    if isinstance(answer, str):
        assert answer in REASONS
    else:
        assert 0 < answer[0] < math.inf


@pytest.mark.parametrize(
    "name",
    ["price", "List Price", "listPrice", "sale_price", "MSRP", "price_per_gb", "Compare-at price", "Cost per item",
     "unit_cost", "saleprice", "discount", "discount_pct", "per_unit", "Price / International", "list", "sale"],
)  # fmt: skip
def test_a_name_that_says_money_is_known(name: str) -> None:
    """price, cost, msrp, list, discount, sale and per_, in any case and with any separator."""
    assert says_price(name)


@pytest.mark.parametrize(
    "name", ["listing", "wholesaler", "person", "percent", "super", "costume", "salesman", "upper", "capacity"]
)
def test_a_name_with_such_letters_inside_another_word_is_not(name: str) -> None:
    """The words count, not the letters."""
    assert not says_price(name)
