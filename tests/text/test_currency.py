"""The table of currencies."""

from __future__ import annotations

import importlib.util
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from pricesmith.text.currency import (
    CODES,
    DOUBTFUL_SIGNS,
    OWN_NAMES,
    PREFERRED,
    PRICE_WORDS,
    SHOP_SIGNS,
    SLASH_DASH,
    display_sign,
    find_currencies,
    get_signs,
    groups_by_dot,
    minor_digits,
)
from pricesmith.text.currency_data import CLDR

TOOL = Path(__file__).parents[2] / "tools" / "currency_table.py"


def test_the_generated_table_is_what_babel_says() -> None:
    """Digits and signs come from CLDR, not from memory; another version of CLDR may know more signs."""
    pytest.importorskip("babel", reason="babel is in the extra dev")
    numbers: Any = importlib.import_module("babel.numbers")
    spec = importlib.util.spec_from_file_location("currency_table", TOOL)
    assert spec is not None
    assert spec.loader is not None
    tool: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    if f"babel {importlib.import_module('babel').__version__}" in (TOOL.parent / tool.TARGET).read_text():
        assert tool.render(tool.build_table()) == tool.TARGET.read_text(encoding="utf-8")
    assert {code: numbers.get_currency_precision(code) for code in CLDR} == {code: CLDR[code][0] for code in CLDR}


def test_every_hand_written_entry_is_of_a_known_currency() -> None:
    """A code with a slip in it would never be used."""
    listed = {code for codes in PREFERRED.values() for code in codes.split()}
    assert listed | {*SHOP_SIGNS, *OWN_NAMES, *PRICE_WORDS, *DOUBTFUL_SIGNS, *SLASH_DASH} <= CODES


def test_minor_digits_are_those_of_the_currency() -> None:
    """Three for dinars and rials, none for yen, won, rupiah and dong, two if nothing is known."""
    assert {minor_digits(code) for code in ("KWD", "BHD", "OMR", "JOD", "TND")} == {3}
    assert {minor_digits(code) for code in ("JPY", "KRW", "IDR", "VND", "CLP")} == {0}
    assert (minor_digits("USD"), minor_digits("???")) == (2, 2)


def test_a_dot_groups_thousands_only_where_every_user_writes_a_decimal_comma() -> None:
    """Ireland writes euros with a decimal point, and Ecuador dollars with a comma."""
    assert [groups_by_dot(code) for code in ("BRL", "TRY", "IDR", "EUR", "USD", "GBP")] == [True] * 3 + [False] * 3


def test_a_sign_means_every_currency_that_uses_it() -> None:
    """The first is meant if the catalog's currency is not among them."""
    assert find_currencies("rm") == ("MYR",)
    assert find_currencies("$")[:2] == ("USD", "CAD")
    assert find_currencies("kr")[0] == find_currencies("kr.")[0] == "SEK"
    assert {"SAR", "SCR"} <= {*find_currencies("sr")}
    assert find_currencies("chf") == ("CHF",)
    assert find_currencies("hose") == ()


def test_a_single_letter_behind_a_number_is_no_currency() -> None:
    """2 L and 5 K are sizes; R 120 is money in South Africa."""
    assert find_currencies("r") == ("ZAR",)
    assert [find_currencies(letter, behind=True) for letter in "rlkqp"] == [()] * 5
    assert "RUB" in find_currencies("р", behind=True)


def test_signs_have_no_direction_marks() -> None:
    """They would never be found in text, from which these marks are taken."""
    for code in CODES:
        for sign in get_signs(code):
            assert sign.text
            assert not {unicodedata.category(char) for char in sign.text} & {"Cf", "Cc"}


def test_a_currency_without_a_sign_of_its_own_is_shown_by_its_code() -> None:
    assert [display_sign(code) for code in ("EUR", "MYR", "XYZ")] == ["€", "MYR ", "XYZ "]
