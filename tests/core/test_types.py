"""What every pricer reads of a listing: each line once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricesmith.core.types import Listing, bare, line_key, render


def text_of(text: str, title: str = "Garden hose", category: str = "Garden", brand: str = "Aster") -> str:
    return render(Listing("1", title, text, category, brand))


HEAD = "Garden hose\nCategory: Garden\nBrand: Aster"


@pytest.mark.parametrize(
    "repeated",
    [
        "Brand: Aster",
        "brand:  ASTER",
        "BRAND: Aster.",
        "Category: garden",
        "Garden hose",
        "garden  HOSE!",
        "Name: Garden hose",
        "title: garden hose",
    ],
)
@pytest.mark.parametrize("template", ["{}\n25 m", "25 m\n{}", "{0}\n25 m\n{0}"])
def test_title_category_and_brand_are_not_repeated(repeated: str, template: str) -> None:
    """A column that the text also carries, whatever its case, spaces and closing punctuation."""
    assert text_of(template.format(repeated)) == f"{HEAD}\n25 m"


def test_a_text_that_says_nothing_new_leaves_the_head() -> None:
    """No empty line stands where the text was."""
    assert text_of("Garden hose") == text_of("Brand: Aster\nGarden hose") == text_of("") == HEAD


def test_a_line_with_a_name_and_a_sentence_are_printed_once() -> None:
    """The first stays where it is."""
    text = "Weight: 2 kg\nBrass fittings at both ends\nweight: 2 kg\nLength: 2 kg\nBrass fittings at both ends."
    assert text_of(text) == f"{HEAD}\nWeight: 2 kg\nBrass fittings at both ends\nLength: 2 kg"


def test_short_values_may_repeat() -> None:
    """The cells of a table are lines of their own: both sizes count."""
    table = "Width\n10 cm\nHeight\n10 cm\nIndoor\nyes\nOutdoor\nyes"
    assert text_of(table) == f"{HEAD}\n{table}"


def test_another_brand_is_another_line() -> None:
    """Only what is equal is a repeat."""
    assert text_of("Brand: Asters\nBrand: Aster Pro") == f"{HEAD}\nBrand: Asters\nBrand: Aster Pro"


def test_a_title_is_taken_off_the_text_but_not_off_a_longer_word() -> None:
    """ "Lamp" does not cut "Lampshade" in two; Chinese has no spaces between words."""
    assert text_of("Lamp, tall", "Lamp", "", "") == "Lamp\n, tall"
    assert text_of("Lampshade of linen", "Lamp", "", "") == "Lamp\nLampshade of linen"
    assert text_of("Hose 255 m", "Hose 25", "", "") == "Hose 25\nHose 255 m"
    assert text_of("红色水管长度", "红色水管", "", "") == "红色水管\n长度"


@given(st.lists(st.sampled_from(["Brand: Aster", "brand: aster ", "a: b", "A:  b.", "two words", "", "one two 3 4"])))
def test_lines_stay_in_order_and_none_is_lost(lines: list[str]) -> None:
    """What is left out stands elsewhere, and leaving out twice is leaving out once."""
    text = "\n".join(lines)
    once = render(Listing("1", "", text))
    source = iter(lines)
    assert all(any(line == other for other in source) for line in once.split("\n") if line)
    assert {line_key(line) for line in lines} - {""} <= {line_key(line) for line in once.split("\n")}
    assert render(Listing("1", "", once)) == once


@given(st.text(st.sampled_from("aA: \t.,ß1"), max_size=12), st.text(st.sampled_from("aA: \t.,ß1"), max_size=12))
def test_lines_that_are_equal_are_equal_without_spaces(first: str, other: str) -> None:
    """The quick comparison finds every repeat that the exact one confirms."""
    assert bare(first) == line_key(first).replace(" ", "")
    assert line_key(first) != line_key(other) or bare(first) == bare(other)
