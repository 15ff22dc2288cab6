"""Amounts of money in texts."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pricesmith.text.currency import CODES, SHOP_SIGNS
from pricesmith.text.masking import FEWEST_TEXTS, build_patterns, mask_amounts, mask_money, mask_texts, parse_amount

MASKED = [
    ("MYR", "now RM 124.92 only", "now [amount] only", [124.92]),
    ("MYR", "RM99 or 99 ringgit", "[amount] or [amount]", [99.0, 99.0]),
    ("IDR", "Harga: 450.000, Rp450.000", "Harga: [amount], [amount]", [450_000.0, 450_000.0]),
    ("TRY", "1.139,00TL ve 120 TL", "[amount] ve [amount]", [1139.0, 120.0]),
    ("ZAR", "R1 299.00, R 120.50 or R1,299", "[amount], [amount] or [amount]", [1299.0, 120.5, 1299.0]),
    ("VND", "1.299.000đ", "[amount]", [1_299_000.0]),
    ("AED", "Dhs. 45, Dhs45, 45 dirhams", "[amount], [amount], [amount]", [45.0] * 3),
    ("SAR", "SR 45, 45 SR, 45 ريال", "[amount], [amount], [amount]", [45.0] * 3),
    ("PEN", "S/ 12.50, S/.12", "[amount], [amount]", [12.5, 12.0]),
    ("BGN", "12,50лв", "[amount]", [12.5]),
    ("RUB", "1299р, цена: 1299", "[amount], цена: [amount]", [1299.0, 1299.0]),
    ("BDT", "Tk 120, ৳120", "[amount], [amount]", [120.0, 120.0]),
    ("KES", "KSh 1,200", "[amount]", [1200.0]),
    ("EGP", "LE 500", "[amount]", [500.0]),
    ("HRK", "120 kn", "[amount]", [120.0]),
    ("SEK", "129:- nu", "[amount] nu", [129.0]),
    ("INR", "599/- only, MRP: 599", "[amount] only, MRP: [amount]", [599.0, 599.0]),
    ("EUR", "UVP: 12,50", "UVP: [amount]", [12.5]),
    ("CNY", "RMB 120, 120元", "[amount], [amount]", [120.0, 120.0]),
    ("CZK", "120 Kčs", "[amount]", [120.0]),
    ("JPY", "1299円です", "[amount]です", [1299.0]),
    ("KWD", "KD 1.250, KWD 12.500", "[amount], [amount]", [1.25, 12.5]),
    ("USD", "$5 $10", "[amount] [amount]", [5.0, 10.0]),
]


@pytest.mark.parametrize(("currency", "text", "masked", "amounts"), MASKED)
def test_the_catalogs_own_signs_and_words_are_money(
    currency: str, text: str, masked: str, amounts: list[float]
) -> None:
    """A listing that names its price in the local way would give it away."""
    assert mask_money(text, currency) == (masked, amounts)


@pytest.mark.parametrize(
    ("currency", "text"),
    [
        ("ZAR", "R134a gas, tyre 195/65 R15, model R 120"),
        ("TRY", "TL071 op-amp, 120 tl of"),
        ("SAR", "SR626SW battery"),
        ("PEN", "size S/M, 32 S/M"),
        ("EGP", "LED 500 lumen, 500 le"),
        ("HRK", "carabiner 22 kN"),
        ("HUF", "a 5 ft cable"),
        ("BAM", "a range of 120 km"),
        ("SEK", "mixed 4:3, 16:9"),
        ("INR", "thread 12/-3"),
        ("RUB", "RS232, 5 разъемов"),
        ("HNL", "a tank of 120 L, size L 120"),
    ],
)
def test_units_sizes_and_part_numbers_stay(currency: str, text: str) -> None:
    """Things are priced by them, also in the catalog whose currency is written alike."""
    assert mask_money(text, currency) == (text, [])


def test_without_a_currency_no_letters_are_its_sign() -> None:
    """XXX is the code for no currency, and no sign: a jacket of size XXX 5 keeps its size."""
    assert mask_money("Jacket, size XXX 5", "") == ("Jacket, size XXX 5", [])


def test_signs_of_other_currencies_that_are_also_words_stay() -> None:
    """Only the catalog's own currency gets its doubtful signs."""
    text = "R 120 LE 500 S/ 12 kn 120 RM 5 TL 120 599/- 129:- MRP: 5"
    assert mask_money(text, "USD") == (text, [])


@given(
    st.sampled_from(["", *sorted(CODES)]),
    st.lists(
        st.sampled_from(
            [
                "12",
                "1.299",
                "12,50",
                " ",
                " ",
                "/-",
                ":-",
                "$",
                "R",
                "LE",
                "S/",
                "Price:",
                "MRP",
                "x",
                ".",
                "٫",
                "р.",
                "円",
            ]
        ),
        max_size=12,
    ),
)
def test_masking_what_is_masked_changes_nothing(currency: str, parts: list[str]) -> None:
    """Whatever stands side by side, one call is enough."""
    signs = SHOP_SIGNS.get(currency, "").replace("#", "").split()
    once = mask_money("".join([*parts, *signs[:2], "12.50"]), currency)[0]
    assert mask_money(once, currency) == (once, [])


def test_three_digits_behind_a_point_are_minor_digits_of_some_currencies() -> None:
    assert (parse_amount("12.500", "KWD"), parse_amount("12.500", "IDR"), parse_amount("1.299,00")) == (
        12.5,
        12_500.0,
        1299.0,
    )


PIECES = [
    *[
        "12",
        "1.299",
        "12,50",
        "१२",
        "3 000",
        " ",
        " ",
        "\n",
        "\u00a0",
        ".",
        ",",
        "-",
        "–",
        "(",
        ")",
        ":",
        "/-",
        ":-",
        ",-",
    ],
    *[
        "$",
        "€",
        "US$",
        "R",
        "LE",
        "S/",
        "Price",
        "price:",
        "Cost",
        "MRP",
        "was",
        "now",
        "usd",
        "EUR",
        "Rs",
        "kr",
        "CAD",
    ],
    *["European", "euros", "scents", "cents", "rs."],
    *["try", "yen", "quid", "liquid", "country", "five", "hundred", "dollars", "thousand", "million", "k", "bn", "円"],
    *["Ft", "zł", "руб", "K", "İ", "ß", "a", "x", "colors", "[amount]"],
]


@given(st.sampled_from(["", *sorted(CODES)]), st.lists(st.lists(st.sampled_from(PIECES), max_size=9), max_size=6))
def test_many_texts_are_masked_as_each_of_them_is(currency: str, parts: list[list[str]]) -> None:
    signs = SHOP_SIGNS.get(currency, "").replace("#", "").split()
    texts = ["".join([*pieces, *signs[:1]]) for pieces in parts] + ["".join(pieces) for pieces in parts]
    alone = [mask_money(text, currency) for text in texts]
    filler = ["a garden hose"] * FEWEST_TEXTS
    masked, amounts = mask_texts([*texts, *filler], currency)
    assert repr([(text, amounts.get(place, [])) for place, text in enumerate(masked)][: len(texts)]) == repr(alone)


@given(st.sampled_from(["", *sorted(CODES)]), st.lists(st.sampled_from(PIECES), max_size=9))
@example("ARS", ["12", "yen"])
def test_the_quick_look_misses_no_amount(currency: str, pieces: list[str]) -> None:
    """But for the dotted capital I, which no word of money has."""
    text = "".join(pieces).replace("İ", "I")
    assert repr(mask_amounts(text, build_patterns(currency), currency)) == repr(mask_money(text, currency))
