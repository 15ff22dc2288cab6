"""Cells that hold nothing although something is written in them: NaN, N/A, null, a dash, an error of a spreadsheet."""

from __future__ import annotations

# What pandas reads as missing, in the same letter case, so that the brand NAN and the symbol Na stay words; dashes; the
# errors of spreadsheets; what other languages print for nothing.
WORDS = """
#N/A #NA -NaN -nan <NA> N/A NA NULL NaN None n/a nan null none NONE Null NaT n.a. N.A. undefined
- -- --- – —
#VALUE! #REF! #DIV/0! #NAME? #NUM! #NULL! #SPILL! #CALC! #ERROR!
"""
MISSING = frozenset(WORDS.split())
LONGEST = 12  # characters with spaces around


def is_missing(text: str) -> bool:
    """Whether a whole cell says that there is nothing in it."""
    return len(text) <= LONGEST and text.strip() in MISSING
