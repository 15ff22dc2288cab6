"""Quotes in words: rounding in several currencies, and what a quote rests on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricesmith.serve.pages.strip import build_strip
from pricesmith.serve.pages.wording import describe_level, describe_note, describe_width, format_day, format_rounded
from pricesmith.serve.schemas import PriceOutput
from pricesmith.text.currency import currency_name


def quote(low: float | None, high: float | None, note: str = "") -> PriceOutput:
    """A quote with this interval."""
    return PriceOutput(
        id="q1",
        price=20.0,
        low=low,
        high=high,
        level=0.9,
        currency="USD",
        note=note,
        nothing_similar=False,
        not_given=[],
        model="ridge",
        cost_usd=0.0,
    )


@pytest.mark.parametrize(
    ("value", "currency", "shown"),
    [
        (107.61, "USD", "$108"),
        (71.4, "USD", "$71"),
        (1_234.5, "USD", "$1,230"),
        (999.6, "USD", "$1,000"),
        (99.7, "USD", "$100"),
        (9.97, "USD", "$10"),
        (4.23, "USD", "$4.20"),
        (0.423, "USD", "$0.42"),
        (0.00423, "USD", "$0.0042"),
        (0.0, "USD", "$0.00"),
        (12_345, "EUR", "€12,300"),
        (4.6, "JPY", "¥5"),
        (12_345, "JPY", "¥12,300"),
        (4.23, "KWD", "KWD 4.200"),
        (71.4, "KWD", "KWD 71"),
    ],
)
def test_amounts_have_two_or_three_significant_figures(value: float, currency: str, shown: str) -> None:
    assert format_rounded(value, currency).replace("\N{NO-BREAK SPACE}", " ") == shown


@given(st.floats(0.01, 1e9), st.floats(0.01, 1e9), st.sampled_from(["USD", "JPY", "KWD"]))
def test_a_larger_amount_is_never_shown_smaller(first: float, second: float, currency: str) -> None:
    def shown(value: float) -> float:
        return float(format_rounded(value, currency).strip("$¥KWD \N{NO-BREAK SPACE}").replace(",", ""))

    low, high = sorted((first, second))
    assert shown(low) <= shown(high)
    if high >= 10:
        assert shown(high) == pytest.approx(high, rel=0.051)


def test_a_level_is_a_count_of_things() -> None:
    assert [describe_level(level) for level in (0.9, 0.8, 0.95, 0.93)] == [
        "9 of 10 things",
        "8 of 10 things",
        "19 of 20 things",
        "93\N{NO-BREAK SPACE}% of things",
    ]


def test_currencies_have_names() -> None:
    assert [currency_name(code) for code in ("USD", "EUR", "JPY", "KWD", "???")] == [
        "US dollars",
        "euros",
        "Japanese yen",
        "Kuwaiti dinars",
        "???",
    ]


def test_only_a_real_day_is_shown() -> None:
    assert [format_day(text) for text in ("2026-11-03", "", "yesterday")] == ["3 November 2026", "", ""]


def test_a_wide_interval_is_said_in_words() -> None:
    prices = (1.0, 900.0)
    assert describe_width(quote(15, 30), prices) == ""
    assert describe_width(quote(10, 70), prices).startswith("This is a wide range: its top is 7 times its bottom.")
    assert describe_width(quote(1, 900), prices).startswith("The range is that of all prices")
    assert describe_width(quote(None, None), prices) == ""


def test_the_note_of_a_model_that_asks_another_is_a_sentence() -> None:
    unlike = "nothing similar in the training data: the price is a guess"
    assert describe_note(unlike) == ""
    assert describe_note("not asked: the budget is spent") == "The API model was not asked: the budget is spent."
    assert describe_note(f"{unlike}; gpt-6-luna was asked") == "gpt-6-luna was asked."
    assert describe_note("gpt-6-luna was not asked: the budget is spent: priced by ridge") == (
        "gpt-6-luna was not asked: the budget is spent. The price is that of ridge."
    )


@given(st.floats(0.01, 1e6), st.floats(1.0001, 1e4), st.lists(st.floats(0.01, 1e6), max_size=5))
def test_a_drawing_stays_inside_the_page(low: float, ratio: float, near: list[float]) -> None:
    price, high = low * ratio**0.5, low * ratio
    drawing = build_strip(price, low, high, near, "USD")
    assert drawing is not None
    places = [float(text.rstrip("%")) for text in (drawing.price, drawing.low, *drawing.dots)]
    assert all(0 <= place <= 100 for place in places)
    assert float(drawing.low.rstrip("%")) + float(drawing.width.rstrip("%")) <= 100


def test_a_drawing_says_its_numbers_in_words() -> None:
    drawing = build_strip(108, 71, 164, [60, 100, 200], "USD")
    assert drawing is not None
    assert drawing.words == (
        "Price $108, range $71 to $164; 3 similar listings cost $60 to $200, 1 of them inside the range."
    )
    assert build_strip(108, None, None, [], "USD") is None
    assert build_strip(108, 108, 108, [], "USD") is None
