"""Cleaning is a function of the listing alone, and every amount of money is masked."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricesmith.catalog.clean import CleanSettings, build_listing, clean_row, clean_text, is_too_short, mask_money
from pricesmith.catalog.columns import ColumnMap
from pricesmith.core.types import Listing

COLUMNS = ColumnMap(
    title="name", text="about", price="price", category="kind", brand="brand", extra=("weight", "old_name")
)
MONEY = (
    "$1,299.00", "15.00 USD", "€ 5", "1.299,00 €", "99 dollars", "usd 20", "$5k", "$.99", "USD15", "12.99USD", "99¢",
    "1 299 €", "5,- €", "US$ 5.99", "R$ 12,50", "CHF 20", "CAD 12.99", "100 kr", "Rs. 500", "₹1,00,000", "$5-10",
    "25 cents", "£12.50", "kr 500,00", "10-20 USD", "$1.2 million",
    "$-5", "20 quid", "twelve dollars", "One hundred and twenty-five Euros", "five thousand yen",
)  # fmt: skip
NOT_MONEY = (
    "5 pounds of steel", "Fisher-Price 3 in 1", "1.5 GB", "AutoCAD 2020", "try 2", "02G-P3-2619-KR", "Corsair 240 RS",
    "LEGO Porsche 911 GT3 RS", "AUD30131 headset", "costs 50% less", "ISO 9001", "12.5 x 3.4 in", "RTX 4090",
    "Million Dollar Baby", "one hundred sheets", "twelve of the dollars",
)  # fmt: skip
PIECES = st.sampled_from(
    [
        *(
            "5",
            "12.99",
            "1,299",
            "$",
            "€",
            "usd",
            " ",
            "price: ",
            "\n",
            "kr 5,00",
            "dollars",
            "twelve",
            "rs",
            "-",
            ";",
            "word",
        ),
        *("&amp;", "&lt;b&gt;", "<b>", "</p>", "<!--", "-->", "&#36;5", "&", "<", "AB12345678"),
        *("\u200b", "\x00", "\ud800", "e\u0301", "\u037e"),
    ]
)
ODD = st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=14).map("".join))


@pytest.mark.parametrize("amount", MONEY)
def test_an_amount_of_money_is_masked(amount: str) -> None:
    """Whatever its sign, code, place and separators."""
    masked, masked_amounts = mask_money(f"only {amount} today")
    assert masked == "only [amount] today"
    assert len(masked_amounts) == 1


@pytest.mark.parametrize("text", NOT_MONEY)
def test_a_measure_or_model_number_is_not_masked(text: str) -> None:
    """Sizes, weights and model numbers are what things are priced by."""
    assert mask_money(text) == (text, [])


def test_a_masked_amount_is_read() -> None:
    """So that those near to the price can be counted."""
    assert mask_money("$1,299.00 or 1.299,00 € or USD 12.5 or $3k")[1] == [1299.0, 1299.0, 12.5, 3000.0]


def test_a_number_that_the_word_price_introduces_is_masked() -> None:
    """An amount needs no sign where the word stands before it."""
    assert mask_money("Price: 24.99, MSRP 30.00")[0] == "Price: [amount], MSRP [amount]"


@pytest.mark.parametrize(
    ("currency", "amounts"),
    [
        ("HUF", "2400 Ft|2 400 Ft|Ft 990|990 HUF"),
        ("CAD", "24 CAD|CAD 24|CAD24|C$ 5"),
        ("INR", "Rs 500|500 rs|Rs. 500|₹5"),
        ("RON", "24,99 lei|24 lei"),
        ("PLN", "24,99 zł|24 PLN"),
        ("USD", "24 US$|24 (USD)|US $12.99|24 Kč|24,99 zł|2400円|1200 руб"),
    ],
)
def test_the_signs_of_the_catalogs_own_currency_are_money(currency: str, amounts: str) -> None:
    """Also those that are a length or a model's name elsewhere."""
    for amount in amounts.split("|"):
        assert mask_money(f"only {amount} today", currency)[0] == "only [amount] today"
    assert mask_money("a hose of 25 ft, 12 lei, 240 RS", "USD")[1] == []


@pytest.mark.parametrize("text", ["Price (USD): 24", "price - 24.99", "MSRP 24", "RRP: 30", "Cost = 5"])
def test_a_word_for_price_introduces_its_number(text: str) -> None:
    """Whatever stands between them."""
    assert mask_money(text, "USD")[0].endswith("[amount]")


@given(ODD, st.booleans(), st.sampled_from(["", "USD", "SEK", "HUF", "CAD"]))
def test_cleaning_clean_text_changes_nothing(text: str, drop_part_numbers: bool, currency: str) -> None:
    """clean(clean(x)) == clean(x), for markup, signs and characters of every kind."""
    how = CleanSettings(drop_part_numbers=drop_part_numbers, max_chars=40, currency=currency)
    once = clean_text(text, how)
    assert clean_text(once, how) == once


@given(ODD)
def test_clean_text_is_nfc_and_visible(text: str) -> None:
    """No control, format or surrogate characters but line breaks; NFC; no space at an end."""
    clean = clean_text(text)
    assert unicodedata.is_normalized("NFC", clean)
    assert not [sign for sign in clean if sign != "\n" and unicodedata.category(sign) in ("Cc", "Cs")]
    assert clean == clean.strip()
    clean.encode("utf-8")


def test_html_becomes_text() -> None:
    """Tags go, blocks become line breaks, entities are read, scripts and comments go with what they hold."""
    raw = "<p>Hose&nbsp;&amp; reel</p><ul><li>25&Prime; m<li>brass</ul><script>var p = 1;</script><!-- x --> <b>new</b>"
    assert clean_text(raw) == "Hose & reel\n25″ m\nbrass\nnew"


def test_markup_that_was_escaped_twice_becomes_text() -> None:
    """As shops that copy from each other write it."""
    assert clean_text("Hose &amp;lt;b&amp;gt;new&amp;lt;/b&amp;gt; 5 &lt; 6") == "Hose new 5 < 6"


def test_a_less_than_sign_is_not_a_tag() -> None:
    """`<` before a space or a digit is what it says."""
    assert clean_text("weight < 5 kg and >3") == "weight < 5 kg and >3"


@pytest.mark.parametrize(
    "piece", ["<!--", "&amp;", "&#38;", "<", "<script", "5usd", "1 ", "$1", "price: 5", "<b", "a$", "&amp;lt;"]
)
def test_a_made_text_of_a_megabyte_is_cleaned_at_once(piece: str) -> None:
    """No pattern takes more than linear time."""
    begin = time.process_time()
    assert len(clean_text("€" + piece * (1_000_000 // len(piece)))) <= 4_000
    assert time.process_time() - begin < 60  # of CPU time; quadratic time would be hours


def test_line_breaks_between_fields_stay() -> None:
    """A text keeps its lines; a title is one line."""
    listing = build_listing({"name": "a\nb", "about": "one \r\n\r\n two\ttwo"}, COLUMNS, CleanSettings())
    assert (listing.title, listing.text) == ("a b", "one\ntwo two")


def test_other_columns_become_lines_in_the_order_of_the_row() -> None:
    """`Name: value`, empty ones left out, numbers as people write them."""
    row = {"old_name": True, "price": 3, "about": "steel", "weight": 8.0, "left": "x"}
    assert build_listing(row, COLUMNS, CleanSettings()).text == "steel\nold name: true\nweight: 8"
    assert build_listing({"about": "a", "weight": None, "old_name": ""}, COLUMNS, CleanSettings()).text == "a"


def test_a_long_text_is_cut_at_a_word() -> None:
    """At most `max_chars` characters."""
    assert clean_text("steel hose " * 20, CleanSettings(max_chars=27)) == "steel hose steel hose steel"


def test_scrub_takes_part_numbers_out() -> None:
    """Words of seven characters or more with a digit in them."""
    assert (
        clean_text("Bosch GSR12V-15 drill 12 V, 06019F6020", CleanSettings(drop_part_numbers=True))
        == "Bosch drill 12 V,"
    )


def test_amounts_that_scrubbing_brings_together_are_masked() -> None:
    """`USD X1234567 50` is an amount once the part-number is gone."""
    assert clean_text("now USD X1234567 50 each", CleanSettings(drop_part_numbers=True)) == "now [amount] each"


def test_the_amounts_of_all_fields_are_reported() -> None:
    """Title and text alike."""
    assert clean_row({"name": "$5 hose", "about": "was $6"}, COLUMNS, CleanSettings())[1] == [5.0, 6.0]


def test_the_category_of_the_file_stands_in_for_none() -> None:
    """And never for one that the row has."""
    assert build_listing({"name": "a"}, COLUMNS, CleanSettings(), category="mouse").category == "mouse"
    assert build_listing({"name": "a", "kind": "pad"}, COLUMNS, CleanSettings(), category="mouse").category == "pad"


def test_a_listing_of_signs_is_too_short() -> None:
    """Letters and digits of title and text count, signs do not."""
    assert is_too_short(Listing("", "-----", "a b c d"), CleanSettings())
    assert not is_too_short(Listing("", "SSD", "1 TB"), CleanSettings())


@pytest.mark.parametrize(
    ("title", "refused"),
    [("电饭锅", False), ("茶杯", True), ("텀블러", False), ("ปากกา", False), ("किताब", False), ("cup", True)],
)
def test_a_title_in_any_script_is_long_enough_when_it_says_as_much(title: str, refused: bool) -> None:
    """Three Chinese characters say as much as a word of six letters; vowel signs are letters."""
    assert is_too_short(Listing("", title, ""), CleanSettings()) is refused


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("品牌 " + "陶瓷杯" * 20, "品牌 " + ("陶瓷杯" * 20)[:17]),
        ("กระเป๋า" * 5, ("กระเป๋า" * 5)[:20]),
        ("brand " + "x" * 40, "brand"),
    ],
)
def test_text_without_spaces_is_cut_between_characters(text: str, cut: str) -> None:
    """One early space does not cost all that follows it."""
    shortened = clean_text(text, CleanSettings(max_chars=20))
    assert shortened == cut
    assert unicodedata.category(text[len(shortened)])[0] != "M"
