"""A key is masked in every form in which an endpoint may send it back, and nothing else is."""

from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricesmith.pricers.api.redaction import mask_key

KEY = "sk-Made-0123456789/Ab+C"
PRINTABLE = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=80)
LETTERS = st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="%&\\")
KEYS = st.text(LETTERS, min_size=8, max_size=80).filter(lambda key: len(set(key)) > 4)
FORMS = {
    "plain": lambda key: key,
    "capitals": str.upper,
    "URL-encoded": lambda key: quote(key, safe=""),
    "URL-encoded in part": lambda key: quote(key, safe="-/"),
    "URL-encoded twice": lambda key: quote(quote(key, safe=""), safe=""),
    "every letter URL-encoded": lambda key: "".join(f"%{ord(letter):02x}" for letter in key),
    "JSON": lambda key: json.dumps(key)[1:-1].replace("/", "\\/"),
    "JSON escapes": lambda key: "".join(f"\\u{ord(letter):04X}" for letter in key),
    "Python escapes": lambda key: "".join(f"\\x{ord(letter):02x}" for letter in key),
    "HTML": html.escape,
    "HTML numbers": lambda key: "".join(f"&#{ord(letter)};" for letter in key),
    "lines": lambda key: "\n".join(key[start : start + 5] for start in range(0, len(key), 5)),
    "escaped lines": lambda key: "\\n".join(key[start : start + 5] for start in range(0, len(key), 5)),
    "blanks": " ".join,
    "zero-width": "\u200b".join,
    "hexadecimal": lambda key: key.encode().hex(),
    "HEXADECIMAL": lambda key: key.encode().hex(":").upper(),
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "base64 for URLs": lambda key: base64.urlsafe_b64encode(key.encode()).decode().rstrip("="),
    "base64 of the header": lambda key: base64.b64encode(f"Bearer {key}".encode()).decode(),
    "base64 of user and password": lambda key: base64.b64encode(f"ab:{key}:xyz".encode()).decode(),
    "base64 in lines": lambda key: base64.encodebytes(f"{'x' * 50}{key}{'y' * 50}".encode()).decode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_key_is_masked_in_every_form(form: str) -> None:
    """At the start, in the middle and at the end of a text; nothing of the words round it goes."""
    form_of_key = FORMS[form](KEY)
    masked = mask_key(f"before {form_of_key} after", KEY)
    assert masked.startswith("before ")
    assert masked.rstrip().endswith(" after")
    assert "[key]" in masked
    assert len(masked) < len("before [key] after") + (90 if form == "base64 in lines" else 8)
    assert mask_key(form_of_key, KEY).count("[key]") == 1


@given(KEYS, st.sampled_from(sorted(FORMS)), st.text(max_size=20), st.text(max_size=20))
def test_no_form_of_any_key_is_left(key: str, form: str, before: str, after: str) -> None:
    """Whatever letters it has and whatever stands round it; no key has the signs that begin an escape."""
    form_of_key = FORMS[form](key)
    assert form_of_key not in mask_key(f"{before} {form_of_key} {after}", key)


@given(PRINTABLE, st.text(max_size=20), st.text(max_size=20))
def test_no_key_is_left_as_it_is(key: str, before: str, after: str) -> None:
    """Also one that holds escapes, and right after the sign that begins one."""
    if key not in "[key]" * 20:
        assert key not in mask_key(f"{before}{key}%{key}\\{key}&#{key}{after}", key).replace("[key]", " ")


@pytest.mark.parametrize("part", [KEY[:12], KEY[:-1], KEY[-12:], KEY[1:]])
def test_half_of_a_key_is_masked(part: str) -> None:
    """As a cut leaves it, or an endpoint that shows a part."""
    assert mask_key(f"it ran {part}", KEY) == "it ran [key]"


@pytest.mark.parametrize("text", ["", "24", '{"price": 24.5}', "sk-Made is how they begin", "0123456", "Ab+C", "[key]"])
def test_other_words_stay(text: str) -> None:
    """Also the beginning that all keys of a provider share."""
    assert mask_key(text, KEY) == text


@pytest.mark.parametrize(
    ("key", "text", "masked"),
    [
        ("", "24", "24"),
        ("7", "It is 7", "It is 7"),
        ("abc", "abc 24", "abc 24"),
        ("1299", "$1299", "$1299"),
        ("1234567", "$1234567", "$1234567"),
        ("token", "your token: 24", "your [key]: 24"),
        ("token", "tokens: 24", "tokens: 24"),
        ("EMPTY", "Bearer EMPTY", "Bearer [key]"),
        ("12345678", "12345678", "[key]"),
    ],
)
def test_a_short_key_changes_no_price(key: str, text: str, masked: str) -> None:
    """Up to 3 characters and short numbers are no secret; up to 7 a key is masked as a whole word only."""
    assert mask_key(text, key) == masked


def test_a_long_text_is_masked_quickly() -> None:
    """Tokens of a thousand letters, in a text of a hundred thousand."""
    key = "eyJ" + "0123456789abcdef" * 64
    assert mask_key("x " * 20_000 + key + " y" * 20_000, key).count("[key]") == 1
