"""Settings: declared once, unknown keys refused with a suggestion."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import Field

from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.settings import Settings, parse_settings, read_toml, read_value, write_toml


class Shop(Settings):
    alpha: float = 1.0
    name: str = ""


def test_an_unknown_key_is_refused_with_a_suggestion() -> None:
    """A misspelt setting is never silently ignored."""
    with pytest.raises(UsageError) as caught:
        parse_settings(Shop, {"alhpa": 2}, where="shop.toml")
    assert "Did you mean 'alpha'?" in str(caught.value)


def test_a_wrong_value_names_its_key() -> None:
    """The message has what, got and allowed."""
    with pytest.raises(UsageError) as caught:
        parse_settings(Shop, {"alpha": "many"}, where="shop.toml")
    assert "'alpha'" in str(caught.value)
    assert "many" in str(caught.value)


class Account(Settings):
    url: str = Field(description="the address")
    secret: str = ""


def test_a_missing_setting_is_named_and_no_other_value_is_shown() -> None:
    """The values beside it may be secrets."""
    with pytest.raises(UsageError, match=r"shop\.toml has no 'url', which it needs") as caught:
        parse_settings(Account, {"secret": "hidden-value"}, where="shop.toml")
    assert (caught.value.got, caught.value.allowed) == ("secret", "the address")
    assert "hidden-value" not in str(caught.value)


def test_infinity_is_not_a_setting() -> None:
    """A number that cannot be computed with is refused."""
    with pytest.raises(UsageError):
        parse_settings(Shop, {"alpha": float("inf")}, where="shop.toml")


def test_a_file_that_is_not_toml_is_named(tmp_path: Path) -> None:
    """A broken file is an input error."""
    (tmp_path / "a.toml").write_text("alpha = = 1")
    with pytest.raises(InputError, match="not a TOML file"):
        read_toml(tmp_path / "a.toml")


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-5", 1e-5), ("3", 3), ("true", True), ("[1, 2]", [1, 2]), ("out/a", "out/a"), ('"7"', "7")],
)
def test_a_command_line_value_is_toml_or_bare_text(text: str, value: object) -> None:
    """`--set` reads numbers, lists and truth values; anything else is text."""
    assert read_value(text) == value


@given(
    st.dictionaries(
        st.from_regex(r"[a-z_]{1,8}", fullmatch=True),
        st.one_of(
            st.booleans(),
            st.integers(-(2**53), 2**53),
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(st.characters(blacklist_categories=["Cs", "Cc"])),
            st.lists(st.integers(-9, 9)),
        ),
    )
)
@hypothesis_settings(max_examples=50)
def test_what_is_written_is_read_back(values: dict[str, object]) -> None:
    """write_toml and read_toml are inverse."""
    import tomllib

    assert tomllib.loads(write_toml(values)) == values
