"""Split text into words, in every script: the one tokenization for features, sketches, length checks and comparables.

    >>> split_words("Xiaomi 13 Pro, 256GB")
    ['xiaomi', '13', 'pro', '256gb']
    >>> split_words("小米手机 Xiaomi 13 Pro")
    ['小米', '米手', '手机', 'xiaomi', '13', 'pro']

A word is a run of letters, digits and underscores in lower case, as `\\w+` finds it, with three additions:

* Scripts that put no spaces between words (Han, Japanese kana, Thai, Lao, Khmer, Burmese and a few others) are split
  into overlapping character bigrams, as Lucene's CJKAnalyzer does. Pairs of such words are character trigrams, and
  three in a row, a shingle of a sketch, are four characters.
* A combining mark (vowel signs of Indic scripts and Thai, Arabic harakat, accents) belongs to the letter before it.
* Full-width letters, half-width kana, Arabic presentation forms, squared units and the digits of every script are
  read as the usual ones; text is composed (NFC) first.

Text without any of these, such as every Western language after NFC, takes a fast path that is `\\w+` alone.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

__all__ = [
    "break_before",
    "count_letters",
    "is_wide",
    "segment_text",
    "split_pieces",
    "split_words",
    "text_patterns",
    "unit_pattern",
]

WORD, NOT_WORD = re.compile(r"\w+"), re.compile(r"\W")
# Anything but Latin, Greek and Cyrillic letters, punctuation and symbols: a first look that is quicker than `special`.
UNUSUAL = re.compile("[^\0-\u02ff\u0370-\u0482\u048a-\u052f\u1e00-\u20cf\u2100-\u2bff\ufe0f\ufffd]")
# Letters of scripts that put no spaces between words.
SPACELESS = (
    "\u3005\u3007\u3021-\u3029\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"  # Han
    "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\U0001aff0-\U0001b16f"  # kana
    "\u3105-\u312f\u31a0-\u31bf"  # Bopomofo
    "\u0e01-\u0e30\u0e32\u0e33\u0e40-\u0e46"  # Thai
    "\u0e81-\u0eb0\u0eb2\u0eb3\u0ebd-\u0ec6\u0edc-\u0edf"  # Lao
    "\u1780-\u17b3\u17d7\u17dc"  # Khmer
    "\u1000-\u102a\u103f\u1050-\u1055\u105a-\u105d\u1061\u1065\u1066\u106e-\u1070\u1075-\u1081\u108e"  # Burmese
    "\ua9e0-\ua9e4\ua9e6-\ua9ef\ua9fa-\ua9fe\uaa60-\uaa76\uaa7a\uaa7e\uaa7f"  # Burmese, extended
    "\u1950-\u1974\u1980-\u19c9\u1a20-\u1a54\uaa80-\uaaaf"  # Tai Le, New Tai Lue, Tai Tham, Tai Viet
    "\u1b05-\u1b33\u1b45-\u1b4c\ua984-\ua9b2"  # Balinese, Javanese
)
STACKERS = "\u17d2\u1039\u1a60\u1b44\ua9c0"  # marks that put the next consonant under the one before
JAMO = "\u1100-\u11ff\ua960-\ua97c\ud7b0-\ud7fb"  # parts of Hangul syllables, which NFC puts together
# Compatibility forms: squared units, Arabic presentation forms, full-width Latin, half-width kana and Hangul.
FORMS = "\u3300-\u33ff\ufb50-\ufdff\ufe70-\ufefc\uff21-\uff3a\uff41-\uff5a\uff66-\uff9f\uffa1-\uffdc"
DIGIT = re.compile(r"[^\D0-9]")  # a decimal digit of another script
THOUSANDS = re.compile(r"(?<=[０-９])，(?=[０-９]{3}(?![０-９]))")
INSIDE_NUMBER = {"．": ".", "٫": ".", "٬": ","}
SEPARATOR = re.compile(r"(?<=[0-9])[．٫٬](?=[0-9])")
LETTERS = r"[^\W\d_]+"
PLAIN_UNIT = re.compile(r"(?<![\w.])([0-9]+(?:\.[0-9]+)?)(?:[\s-]?(" + LETTERS + "))?")
WIDE = "WF"  # East Asian widths of characters that take the room of two letters
LAST = 0x20000  # marks and digits beyond this code point are variation selectors, which are no part of a word


@dataclass(frozen=True, slots=True)
class TextPatterns:
    """Compiled patterns for text that is not plain ASCII."""

    special: re.Pattern[str]  # any character for which a text needs more than `\w+`
    word: re.Pattern[str]
    run: re.Pattern[str]
    cluster: re.Pattern[str]
    mark: re.Pattern[str]
    spaceless: re.Pattern[str]
    stray_marks: re.Pattern[str]
    forms: re.Pattern[str]
    colon: re.Pattern[str]
    piece: re.Pattern[str]
    unit: re.Pattern[str]


@functools.cache
def text_patterns() -> TextPatterns:
    """The patterns, compiled at the first text that is not plain ASCII (some 20 ms)."""
    signs = "".join(map(chr, range(0x80, LAST)))
    marks = character_class(filter(is_mark, NOT_WORD.findall(signs)))
    digits = character_class(DIGIT.findall(signs))
    base = f"[{SPACELESS}][{marks}]*"
    cluster = f"{base}(?:(?<=[{STACKERS}]){base})*"
    return TextPatterns(
        special=re.compile(f"[{SPACELESS}{marks}{JAMO}{FORMS}{digits}]"),
        word=re.compile(rf"[\w{marks}]+"),
        run=re.compile(f"[{SPACELESS}][{SPACELESS}{marks}]*"),
        cluster=re.compile(cluster),
        mark=re.compile(f"[{marks}]"),
        spaceless=re.compile(f"[{SPACELESS}]"),
        stray_marks=re.compile(rf"(?<![\w{marks}])[{marks}]+"),
        forms=re.compile(f"[{FORMS}]+"),
        colon=re.compile(f"(?<=[{SPACELESS}{marks}])："),
        piece=re.compile(rf"{cluster}\s*|[^\s{SPACELESS}]+\s*|\s+"),
        unit=re.compile(PLAIN_UNIT.pattern.replace(LETTERS, rf"{LETTERS}(?:[{marks}]+[^\W\d_]*)*")),
    )


def is_mark(sign: str) -> bool:
    """Whether a character is a combining mark of letters: not a variation selector or a frame around a sign."""
    return unicodedata.category(sign) in ("Mn", "Mc") and not (
        "\ufe00" <= sign <= "\ufe0f" or "\u20d0" <= sign <= "\u20ff"
    )


def character_class(signs: Iterable[str]) -> str:
    """Ascending characters as the ranges of a character class."""
    ranges: list[list[int]] = []
    for point in map(ord, signs):
        if ranges and point == ranges[-1][1] + 1:
            ranges[-1][1] = point
        else:
            ranges.append([point, point])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


def split_words(text: str) -> list[str]:
    """The words of a text, in order, in lower case."""
    text = text.lower()
    if text.isascii():
        return WORD.findall(text)
    if not is_special(text):
        return WORD.findall(text)
    return text_patterns().word.findall(segment_special(text))


def segment_text(text: str) -> str:
    """The text in lower case with its words set apart: a run of letters, digits and marks in it is one word.

    Plain text is only put into lower case. Segmenting a text twice changes nothing.
    """
    text = text.lower()
    return segment_special(text) if is_special(text) else text


def is_special(text: str) -> bool:
    """Whether a text needs more than `\\w+`: it has characters of `special`."""
    return not text.isascii() and UNUSUAL.search(text) is not None and text_patterns().special.search(text) is not None


def segment_special(text: str) -> str:
    """`segment_text` of a lower-case text that has characters of `special`."""
    patterns = text_patterns()
    text = re.sub("i\u0307+", "i", text)  # the lower case of the Turkish capital İ
    text = THOUSANDS.sub(",", unicodedata.normalize("NFC", text))
    text = patterns.forms.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
    text = unicodedata.normalize("NFC", text).lower()
    text = DIGIT.sub(lambda match: str(unicodedata.decimal(match[0])), text)
    text = SEPARATOR.sub(lambda match: INSIDE_NUMBER[match[0]], text)
    text = patterns.stray_marks.sub("", patterns.colon.sub(":", text))

    def bigrams(match: re.Match[str]) -> str:
        clusters = patterns.cluster.findall(match[0])
        words = " ".join(map("".join, pairwise(clusters))) if len(clusters) > 1 else match[0]
        before, after = match.start() and text[match.start() - 1], text[match.end() : match.end() + 1]
        left = " " if before and patterns.word.match(before) else ""
        return left + words + (" " if after and patterns.word.match(after) else "")

    return patterns.run.sub(bigrams, text)


def unit_pattern(text: str) -> re.Pattern[str]:
    """The pattern of a number and the word after it, as its two groups, in a text from `segment_text`."""
    return PLAIN_UNIT if text.isascii() else text_patterns().unit


def count_letters(text: str, enough: int) -> int:
    """How much there is to read: letters, digits and marks of letters; the count may stop at `enough`.

    A character of double width (Han, kana, Hangul) stands for about as much as two letters and counts twice.
    """
    count = 0
    for sign in text:
        if sign.isalnum():
            count += 2 if is_wide(sign) else 1
        elif not sign.isascii() and is_mark(sign):
            count += 1
        if count >= enough:
            break
    return count


def is_wide(sign: str) -> bool:
    """Whether a character takes the room of two letters."""
    return not sign.isascii() and unicodedata.east_asian_width(sign) in WIDE


def split_pieces(text: str) -> list[str]:
    """The text in pieces that join to it: words with their punctuation and the space after them, and single characters
    of scripts without spaces."""
    return text_patterns().piece.findall(text)


def break_before(text: str, limit: int) -> int:
    """The last place up to `limit` where a line may break: after a space or beside a character of a script without
    spaces, never between a letter and its mark; 0 where there is none. `text` is longer than `limit`."""
    space = max(text.rfind(" ", 0, limit + 1), text.rfind("\n", 0, limit + 1))
    if not is_special(text):
        return max(space, 0)
    patterns = text_patterns()
    for place in range(limit, max(space, 0), -1):
        if patterns.mark.match(text[place]) or text[place - 1] in STACKERS:
            continue
        base = place - 1
        while base > 0 and patterns.mark.match(text[base]):
            base -= 1
        if patterns.spaceless.match(text[place]) or patterns.spaceless.match(text[base]):
            return place
    return max(space, 0)
