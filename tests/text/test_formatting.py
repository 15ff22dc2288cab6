"""How figures read: signs, places, bands, names."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pricesmith.text.currency import CODES
from pricesmith.text.formatting import (
    format_band,
    format_band_short,
    format_chart_label,
    format_estimate,
    format_money,
    format_number,
    format_price,
    format_seconds,
    format_usd,
    join_names,
    to_single_line,
)


def test_an_amount_has_the_places_that_mean_something() -> None:
    """Cents up to ten thousand, none above and none in yen."""
    assert [format_price(38.213, "USD"), format_price(12400.4, "USD"), format_price(1200.0, "JPY")] == [
        "$38.21",
        "$12,400",
        "¥1,200",
    ]


def test_less_than_nothing_has_its_sign_in_front() -> None:
    """A difference below 0 reads so; zero does not."""
    assert [format_price(-1.5, "USD"), format_price(-0.001, "USD"), format_price(-0.0, "USD")] == [
        "−$1.50",
        "−$0.0010",
        "$0.00",
    ]


def test_a_positive_amount_is_never_shown_as_zero() -> None:
    """Below one unit two significant digits show."""
    values = (0.0042, 0.0000123, 0.05, 0.5, 0.999)
    assert [format_money(value, "USD") for value in values] == ["$0.0042", "$0.000012", "$0.05", "$0.50", "$1.00"]
    assert [format_money(0.4, "JPY"), format_money(0.0125, "KWD")] == ["¥0.40", "KWD 0.013"]


def test_an_amount_has_the_minor_digits_of_its_currency() -> None:
    """None for yen and won, three for dinars, two elsewhere and for codes that are not known."""
    shown = [format_money(1299.0, code) for code in ("JPY", "KRW", "IDR", "KWD", "USD", "XXX")]
    assert shown == ["¥1,299", "₩1,299", "IDR 1,299", "KWD 1,299.000", "$1,299.00", "XXX 1,299.00"]
    assert [format_number(1299.0, "JPY"), format_number(12.5, "KWD"), format_number(12.5, "USD")] == [
        "1,299",
        "12.500",
        "12.50",
    ]


@given(st.sampled_from(sorted(CODES)), st.floats(1e-11, 1e12))
def test_no_positive_amount_reads_as_nothing(code: str, value: float) -> None:
    """Whatever the currency and the size, a digit other than 0 shows."""
    assert set(format_number(value, code)) & set("123456789")
    assert set(format_price(value, code)) & set("123456789")


def test_a_currency_without_a_sign_goes_by_its_code() -> None:
    """No other currency's sign stands in for it."""
    assert format_price(5.0, "SEK") == "SEK 5.00"


def test_a_band_has_its_sign_at_each_price() -> None:
    """In words for a table, short and escaped for a picture."""
    labels = ("under 10", "10 to 20", "1,000 and over")
    assert [format_band(label, "GBP") for label in labels] == ["under £10", "£10 to £20", "£1,000 and over"]
    assert [format_band_short(label, "GBP") for label in labels] == ["&lt;£10", "£10–20", "£1,000+"]
    assert format_band_short("all", "GBP") == "all"


def test_an_estimate_has_two_digits() -> None:
    """Items that would tell two pricers apart are rounded up."""
    assert [format_estimate(5961), format_estimate(7), format_estimate(101), format_estimate(1234567)] == [
        "6,000",
        "7",
        "110",
        "1,300,000",
    ]


def test_names_are_listed_and_the_rest_counted() -> None:
    """A headline has room for two names."""
    assert [join_names(["a"]), join_names(["a", "b"]), join_names(["a", "b", "c", "d"], 2)] == [
        "a",
        "a and b",
        "a, b and 2 more",
    ]


def test_small_costs_and_times_are_not_nothing() -> None:
    """What is not 0 does not read 0."""
    assert [format_seconds(0.0042), format_seconds(310.2)] == ["0.0042", "310"]
    assert [format_usd(0.0), format_usd(0.000042), format_usd(0.0042), format_usd(1.5)] == [
        "US$0",
        "under US$0.0001",
        "US$0.0042",
        "US$1.50",
    ]


def test_a_cost_that_is_not_known_is_no_zero() -> None:
    """It says so in words."""
    assert format_usd(None) == "unknown"


@given(st.text(max_size=300))
@settings(max_examples=60)
def test_no_text_is_markup_in_a_picture(text: str) -> None:
    """Whatever a title holds, Plotly gets text and our line ends only."""
    shown = format_chart_label(text).replace("<br>", "")
    assert "<" not in shown
    assert ">" not in shown


@given(st.text(max_size=300))
@settings(max_examples=60)
def test_plain_text_is_one_line_without_controls(text: str) -> None:
    """Nothing that turns text round or hides it gets through."""
    shown = to_single_line(text)
    assert len(shown) <= 160
    assert not set(shown) & {"\n", "\t", "\x00", "\u202e", "\u2066"}
