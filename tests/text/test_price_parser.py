"""Prices as files write them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricesmith.text import price_parser as money
from pricesmith.text.currency import CODES, minor_digits
from pricesmith.text.formatting import format_money as format_money
from pricesmith.text.price_parser import find_price_word, parse_price

REASONS = {
    money.NO_PRICE,
    money.NOT_A_NUMBER,
    money.RANGE,
    money.ZERO,
    money.NEGATIVE,
    money.AMBIGUOUS,
    money.TWO_CURRENCIES,
    money.OTHER_DIGITS,
    money.TWO_NUMBERS,
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
    (float("nan"), "no price"),
    ("NaN", "no price"),
    ("#VALUE!", "no price"),
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
    ("12⁹⁹", "price has digits other than 0-9"),
    ("199\n149", "price is more than one number"),
    ("199\t149", "price is more than one number"),
    ("199\u2028149", "price is more than one number"),
    ("[100, 200]", "price is more than one number"),
    ("100, 200", "price is more than one number"),
    ('["199", "149"]', "price is more than one number"),
    ("$12.99 $15.99", "price is more than one number"),
    ("12.99 / 15.99", "price is more than one number"),
    ("12.50-", "price is negative"),
    ("5 K", "price is not a number"),
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


# A cell, the catalog's currency, the file's decimal marks, and the amount.
LOCAL = [
    ("Rp 1.299.000", "IDR", ".", 1_299_000.0),
    ("Rp450.000", "IDR", ".", 450_000.0),
    ("450.000", "IDR", "", 450_000.0),
    ("99.000 VND", "VND", ".", 99_000.0),
    ("1299円", "JPY", ".", 1299.0),
    ("￥1,299", "JPY", ".", 1299.0),
    ("JPY 1,299", "JPY", ",", 1299.0),
    ("１２９９", "JPY", "", 1299.0),
    ("١٢٩٩", "SAR", "", 1299.0),
    ("١٢٫٥٠ ر.س", "SAR", "", 12.5),
    ("१२९९", "INR", "", 1299.0),
    ("129:-", "SEK", "", 129.0),
    ("1299,00:-", "SEK", ",", 1299.0),
    ("1,00,000/-", "INR", "", 100_000.0),
    ("MRP: ₹ 599", "INR", ".", 599.0),
    ("UVP: 12,50 €", "EUR", ",", 12.5),
    ("&euro;12,50", "EUR", ",", 12.5),
    ("&#36;12.50", "USD", ".", 12.5),
    ("\u200e$12.50\u200f", "USD", ".", 12.5),
    ("1.139,00TL", "TRY", ",", 1139.0),
    ("3 345,34 zł", "PLN", ",", 3345.34),
    ("719.", "USD", ".", 719.0),
    ("£147.59 –", "GBP", ".", 147.59),
    ("$\n12.99", "USD", ".", 12.99),
    ("KWD 12.500", "KWD", ".", 12.5),
    ("KD 1.250", "KWD", "", 1.25),
    ("4.250 د.ك.\u200f", "KWD", ".", 4.25),
    ("KWD 1,250.000", "KWD", ".", 1250.0),
    ("12,500 DT", "TND", "", 12.5),
    ("R 1 299.00", "ZAR", ".", 1299.0),
    ("S/.12.50", "PEN", ".", 12.5),
    ("12,50 лв.", "BGN", ",", 12.5),
    ("1 299 р.", "RUB", "", 1299.0),
    ("Tk 120", "BDT", "", 120.0),
    ("KSh 1,200", "KES", "", 1200.0),
    ("LE 500", "EGP", "", 500.0),
    ("45 SR", "SAR", "", 45.0),
    ("12 kn", "HRK", "", 12.0),
    ("RMB 120", "CNY", "", 120.0),
    ("120 Kčs", "CZK", "", 120.0),
    ("Dhs. 45", "AED", "", 45.0),
    ("R$ 1.299", "BRL", "", 1299.0),
    ("$ 12.990", "CLP", ".", 12_990.0),
    ("1.299", "EUR", ",", 1299.0),
]


@pytest.mark.parametrize(("value", "currency", "marks", "amount"), LOCAL)
def test_a_price_in_local_writing_is_read(value: str, currency: str, marks: str, amount: float) -> None:
    """Local signs, scripts, entities and minor digits are understood, and the currency is the catalog's."""
    result = parse_price(value, currency, marks)
    assert isinstance(result, tuple)
    assert result[0] == amount
    assert result[1] in (currency, None)


@pytest.mark.parametrize(
    ("value", "currency", "marks"),
    [("1.299", "EUR", ""), ("1.299", "EUR", ",."), ("1,299", "EUR", ","), ("R$ 1.299", "BRL", ".")],
)
def test_a_number_that_can_be_read_in_two_ways_is_refused(value: str, currency: str, marks: str) -> None:
    """No rule decides between a thousand and a thousandth part."""
    assert parse_price(value, currency, marks) == "price is ambiguous"


@pytest.mark.parametrize(
    ("values", "marks"),
    [
        (["1.299", "62,39"], ","),
        (["62,39"] * 30 + ["1.50"], ","),
        (["62,39"] * 5 + ["1.50"], ",."),
        (["1299", "1.299", "12 345"], ""),
        (["1.299.000"], ","),
        (["1,299,000"], "."),
        (["1.299,00 €"], ","),
        (["0,125"], ","),
        (["1299.000"], "."),
        (["1\u202f299,00"], ","),
        ([12.5, None, True], ""),
        (["١٢٫٥٠"], "."),
    ],
)
def test_the_decimal_marks_of_a_file_come_from_all_its_prices(values: list[object], marks: str) -> None:
    """What leaves no doubt counts, and a mark that fewer than one in twenty show does not."""
    assert money.find_decimal_marks(values) == marks


def test_one_slip_among_thousands_does_not_change_the_rule() -> None:
    """One American price in a German file leaves 1.299 at 1299."""
    values = ["899"] * 5000 + ["62,39"] * 100 + ["14.95"]
    assert parse_price("1.299", "EUR", money.find_decimal_marks(values)) == (1299.0, None)


@given(st.sampled_from(sorted(CODES)), st.integers(1, 10**9))
def test_a_shown_amount_is_read_as_itself_in_every_currency(code: str, units: int) -> None:
    """Formatting an amount in minor units and parsing the text gives the amount back."""
    amount = units / 10 ** minor_digits(code)
    assert parse_price(format_money(amount, code), code, ".") == (amount, code)


cents = st.integers(1, 10**11)


@given(cents)
def test_an_amount_in_american_writing_comes_back(amount: int) -> None:
    """Thousands by comma, cents by dot, a dollar sign before."""
    assert parse_price(f"${amount // 100:,}.{amount % 100:02d}") == (amount / 100, "USD")


@given(cents)
def test_an_amount_in_german_writing_comes_back(amount: int) -> None:
    """Thousands by dot, cents by comma, a euro sign behind."""
    whole = f"{amount // 100:,}".replace(",", ".")
    assert parse_price(f"{whole},{amount % 100:02d} €") == (amount / 100, "EUR")


@given(cents)
def test_an_amount_in_swedish_writing_comes_back(amount: int) -> None:
    """Thousands by a space that does not break, cents by comma, kr behind."""
    whole = f"{amount // 100:,}".replace(",", "\u00a0")
    assert parse_price(f"{whole},{amount % 100:02d} kr", "NOK") == (amount / 100, "NOK")


@given(st.floats(min_value=1e-300, max_value=1e300))
def test_a_number_is_itself(amount: float) -> None:
    """A JSON number is the price, digit for digit, and so is its text."""
    assert parse_price(amount) == (amount, None)
    if len(repr(amount)) < money.LONGEST and "e" not in repr(amount):
        assert parse_price(repr(amount)) == (amount, None)


@given(st.one_of(st.text(max_size=80), st.text("0123456789.,'-+ $€kreusd()", max_size=70)))
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
    assert find_price_word(name)


@pytest.mark.parametrize(
    "name", ["listing", "wholesaler", "person", "percent", "super", "costume", "salesman", "upper", "capacity"]
)
def test_a_name_with_such_letters_inside_another_word_is_not(name: str) -> None:
    """The words count, not the letters."""
    assert not find_price_word(name)
