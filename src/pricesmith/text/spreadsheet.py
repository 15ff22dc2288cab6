"""Text that a spreadsheet would run as a formula, escaped by an apostrophe, and back."""

from __future__ import annotations

import re
from typing import Any

NUMBER = re.compile(r"[+-]?[0-9][0-9.,]*%?")
RISKY = ("=", "+", "-", "@", "\t", "\r")


def escape_formula(value: Any) -> Any:
    """Text with an apostrophe before it if a spreadsheet would run it as a formula (OWASP, CSV injection).

    A number such as -5 stays as it is. Text that begins so after apostrophes gets one more, so that `unescape_formula`
    gives every text back.
    """
    return "'" + value if isinstance(value, str) and is_formula(value) else value


def is_formula(value: str) -> bool:
    """Whether a spreadsheet would run a text, leaving out apostrophes before it."""
    return value.lstrip("'")[:1] in RISKY and not NUMBER.fullmatch(value)


def unescape_formula(value: str) -> str:
    """The text from which `escape_formula` made this one.

    >>> unescape_formula(escape_formula("=A1")), unescape_formula("'=A1"), unescape_formula("'tis")
    ('=A1', '=A1', "'tis")
    """
    return value[1:] if value[:1] == "'" and is_formula(value) else value
