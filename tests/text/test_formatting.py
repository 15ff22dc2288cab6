"""How figures read: signs, places, bands, names."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pricesmith.text.currency import CODES
from pricesmith.text.formatting import (
    about,
    amount,
    in_chart,
    listed,
    money,
    number,
    plain,
    priced_band,
    seconds,
    short_band,
    usd,
)


def test_an_amount_has_the_places_that_mean_something() -> None:
    """Cents up to ten thousand, none above and none in yen."""
    assert [amount(38.213, "USD"), amount(12400.4, "USD"), amount(1200.0, "JPY")] == ["$38.21", "$12,400", "¥1,200"]


def test_less_than_nothing_has_its_sign_in_front() -> None:
    """A difference below 0 reads so; zero does not."""
    assert [amount(-1.5, "USD"), amount(-0.001, "USD"), amount(-0.0, "USD")] == ["−$1.50", "−$0.0010", "$0.00"]


def test_a_positive_amount_is_never_shown_as_zero() -> None:
    """Below one unit two significant digits show."""
    values = (0.0042, 0.0000123, 0.05, 0.5, 0.999)
    assert [money(value, "USD") for value in values] == ["$0.0042", "$0.000012", "$0.05", "$0.50", "$1.00"]
    assert [money(0.4, "JPY"), money(0.0125, "KWD")] == ["¥0.40", "KWD 0.013"]


def test_an_amount_has_the_minor_digits_of_its_currency() -> None:
    """None for yen and won, three for dinars, two elsewhere and for codes that are not known."""
    shown = [money(1299.0, code) for code in ("JPY", "KRW", "IDR", "KWD", "USD", "XXX")]
    assert shown == ["¥1,299", "₩1,299", "IDR 1,299", "KWD 1,299.000", "$1,299.00", "XXX 1,299.00"]
    assert [number(1299.0, "JPY"), number(12.5, "KWD"), number(12.5, "USD")] == ["1,299", "12.500", "12.50"]


@given(st.sampled_from(sorted(CODES)), st.floats(1e-11, 1e12))
@settings(deadline=None, max_examples=300)
def test_no_positive_amount_reads_as_nothing(code: str, value: float) -> None:
    """Whatever the currency and the size, a digit other than 0 shows."""
    assert set(number(value, code)) & set("123456789")
    assert set(amount(value, code)) & set("123456789")


def test_a_currency_without_a_sign_goes_by_its_code() -> None:
    """No other currency's sign stands in for it."""
    assert amount(5.0, "SEK") == "SEK 5.00"


def test_a_band_has_its_sign_at_each_price() -> None:
    """In words for a table, short and escaped for a picture."""
    labels = ("under 10", "10 to 20", "1,000 and over")
    assert [priced_band(label, "GBP") for label in labels] == ["under £10", "£10 to £20", "£1,000 and over"]
    assert [short_band(label, "GBP") for label in labels] == ["&lt;£10", "£10–20", "£1,000+"]
    assert short_band("all", "GBP") == "all"


def test_an_estimate_has_two_digits() -> None:
    """Items that would tell two pricers apart are rounded up."""
    assert [about(5961), about(7), about(101), about(1234567)] == ["6,000", "7", "110", "1,300,000"]


def test_names_are_listed_and_the_rest_counted() -> None:
    """A headline has room for two names."""
    assert [listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c", "d"], 2)] == ["a", "a and b", "a, b and 2 more"]


def test_small_costs_and_times_are_not_nothing() -> None:
    """What is not 0 does not read 0."""
    assert [seconds(0.0042), seconds(310.2)] == ["0.0042", "310"]
    assert [usd(0.0), usd(0.000042), usd(0.0042), usd(1.5)] == ["US$0", "under US$0.0001", "US$0.0042", "US$1.50"]


def test_a_cost_that_is_not_known_is_no_zero() -> None:
    """It says so in words."""
    assert usd(None) == "unknown"


@given(st.text(max_size=300))
@settings(deadline=None, max_examples=60)
def test_no_text_is_markup_in_a_picture(text: str) -> None:
    """Whatever a title holds, Plotly gets text and our line ends only."""
    shown = in_chart(text).replace("<br>", "")
    assert "<" not in shown
    assert ">" not in shown


@given(st.text(max_size=300))
@settings(deadline=None, max_examples=60)
def test_plain_text_is_one_line_without_controls(text: str) -> None:
    """Nothing that turns text round or hides it gets through."""
    shown = plain(text)
    assert len(shown) <= 160
    assert not set(shown) & {"\n", "\t", "\x00", "\u202e", "\u2066"}
