"""Words in every script: plain text as `\\w+` finds them, other scripts by their own rules."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricesmith.text.words import (
    SPACELESS,
    UNUSUAL,
    break_before,
    count_letters,
    segment_text,
    split_pieces,
    split_words,
    text_patterns,
    unit_pattern,
)

# Western letters, digits and punctuation, with signs that shop texts have.
PLAIN = st.text(st.characters(max_codepoint=0x2FF) | st.sampled_from("ΩλДж„“–—•™€²½①★✓🙂"), max_size=80)
SCRIPTS = st.text(
    st.sampled_from(
        "小米手机の カナﾃﾞ한국ABc12５٣,.：é\u0301ิโทศ์ किताब\u200dခ\u1039ខ\u17d2İ\u0307_\n- ㎏ﷺ\ufe0f🙂\U00020000"
    ),
    max_size=30,
)


@given(PLAIN)
def test_plain_text_has_the_words_of_a_regular_expression(text: str) -> None:
    """Western text gives exactly the runs of `\\w`, and is not changed by segmentation."""
    text = text.replace("İ", "")  # its lower case has a combining dot
    assert split_words(text) == re.findall(r"\w+", text.lower())
    assert segment_text(text) == text.lower()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("白色陶瓷杯", ["白色", "色陶", "陶瓷", "瓷杯"]),
        ("杯", ["杯"]),
        ("蓝牙耳机Sony WH-1000XM5黑色", ["蓝牙", "牙耳", "耳机", "sony", "wh", "1000xm5", "黑色"]),
        ("128GB内存，红色。新", ["128gb", "内存", "红色", "新"]),
        ("コーヒーカップ・青い", ["コー", "ーヒ", "ヒー", "ーカ", "カッ", "ップ", "青い"]),
        ("กระเป๋าหนัง", ["กร", "ระ", "ะเ", "เป๋", "ป๋า", "าห", "หนั", "นัง"]),
        ("ເກີບ", ["ເກີ", "ກີບ"]),
        ("ស្បែកជើង", ["ស្បែក", "កជើ", "ជើង"]),
        ("ဖိနပ်", ["ဖိန", "နပ်"]),
        ("가죽 지갑 20cm", ["가죽", "지갑", "20cm"]),
    ],
)
def test_scripts_without_spaces_are_split_into_character_pairs(text: str, words: list[str]) -> None:
    """A letter and its marks are one character; Latin words and numbers beside it are words as ever; Korean has
    spaces."""
    assert split_words(text) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("चमड़े का बैग", ["चमड़े", "का", "बैग"]),
        ("தோல் பை", ["தோல்", "பை"]),
        ("حَقِيبَة جلد", ["حَقِيبَة", "جلد"]),
        ("תִּיק עור", ["תִּיק", "עור"]),
        ("E\u0301te\u0301 Ọlọ́run", ["été", "ọlọ́run"]),
        ("İNDİRİM indirim", ["indirim", "indirim"]),
        ("1\ufe0f\u20e3 ❤\ufe0f \u0301x", ["1", "x"]),
    ],
)
def test_a_mark_belongs_to_the_letter_before_it(text: str, words: list[str]) -> None:
    """Vowel signs, harakat, points and accents do not cut a word; selectors of emoji and marks without a letter are
    no part of one."""
    assert split_words(text) == [unicodedata.normalize("NFC", word) for word in words]


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("ＳＯＮＹ　ＷＨ", "sony　wh"),
        ("ﾊﾞｯｸﾞ", "バッ ッグ"),
        ("１２，５００ g", "12,500 g"),
        ("٣٤٫٥ x", "34.5 x"),
        ("१२ किलो", "12 किलो"),
        ("5㎏", "5kg"),
        ("颜色：red", "颜色:red"),
        ("尺寸100，200", "尺寸 100，200"),
    ],
)
def test_other_forms_of_letters_and_digits_are_read_as_the_usual_ones(text: str, plain: str) -> None:
    """Full-width, half-width and squared forms; digits of every script with their separators; a comma between clauses
    is no thousands separator."""
    assert segment_text(text) == plain


@given(SCRIPTS)
def test_segmenting_twice_changes_nothing(text: str) -> None:
    """The words of a segmented text are those of the text, each a run of letters, digits and marks."""
    segmented = segment_text(text)
    assert segment_text(segmented) == segmented
    assert split_words(segmented) == split_words(text) == text_patterns().word.findall(segmented)


@given(st.text(st.sampled_from("白色陶瓷杯子蓝"), min_size=2, max_size=20), st.integers(0, 19))
def test_one_character_more_or_less_leaves_most_words(text: str, position: int) -> None:
    """A character belongs to two pairs at most, so that near texts share the others."""
    shorter = text[: position % len(text)] + text[position % len(text) + 1 :]
    lost = len(split_words(text)) - sum(word in split_words(shorter) for word in split_words(text))
    assert lost <= 2


def test_the_quick_look_misses_no_special_character() -> None:
    """What it takes for usual has none of the characters that need more."""
    signs = "".join(map(chr, range(0x32000)))
    special = text_patterns().special.findall(signs)
    assert [sign for sign in special if UNUSUAL.search(sign) is None] == []


def test_the_ranges_hold_letters_alone() -> None:
    """Every assigned character of the scripts without spaces is a letter: a run of them is a run of `\\w`."""
    signs = "".join(map(chr, range(0x80, 0x32000)))
    others = [sign for sign in re.findall(f"[{SPACELESS}]", signs) if not sign.isalnum()]
    assert {unicodedata.category(sign) for sign in others} <= {"Cn"}


def test_a_unit_keeps_its_marks() -> None:
    """A number's unit is a whole word in any script."""
    assert unit_pattern("5 किलो").findall("5 किलो") == [("5", "किलो")]
    assert unit_pattern("5 kg").findall("16gb 5-kg 3") == [("16", "gb"), ("5", "kg"), ("3", "")]


@pytest.mark.parametrize(
    ("text", "count"),
    [("ab 12!", 4), ("电饭锅", 6), ("텀블러", 6), ("तकिया", 5), ("…—🙂", 0), ("ﾊﾟ", 2), ("x\u0301", 2)],
)
def test_wide_characters_count_twice(text: str, count: int) -> None:
    """Three Han characters say as much as six letters; vowel signs count, punctuation does not."""
    assert count_letters(text, 100) == count


@given(st.one_of(PLAIN, SCRIPTS))
def test_pieces_join_to_the_text(text: str) -> None:
    """Nothing is lost between pieces; plain text is cut after its spaces."""
    assert "".join(split_pieces(text)) == text
    assert split_pieces("red hose, 25 m") == ["red ", "hose, ", "25 ", "m"]


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("red hose for the garden", 10, "red hose"),
        ("red\nhoseforthegarden", 10, "red"),
        ("品牌 白色陶瓷杯子家用", 6, "品牌 白色陶"),
        ("品牌 abcdefghijk", 6, "品牌"),
        ("กระเป๋าหนัง", 5, "กระเ"),  # not between a letter and its tone mark
        ("abcdefghijk", 5, ""),
    ],
)
def test_a_line_breaks_at_spaces_and_beside_characters_without_spaces(text: str, limit: int, expected: str) -> None:
    """Never within a word of a script with spaces, nor between a letter and its mark."""
    assert text[: break_before(text, limit)].rstrip() == expected
