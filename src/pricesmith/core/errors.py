"""Every error that a user can see. It has four parts: what, got, allowed, what to do next.

>>> print(UsageError("--limit is not a number of items", got="-1", allowed="1 or more"))
--limit is not a number of items
  got: -1
  allowed: 1 or more

PricesmithError          exit 1: the work failed
├── UsageError           exit 2: the command or a setting is wrong; nothing was started
├── InputError           exit 1: a file that was given cannot be used
└── MissingExtra         exit 2: an optional library is not installed
"""

from __future__ import annotations


class PricesmithError(Exception):
    """An error with its four parts. `str(error)` is the text for a terminal."""

    exit_code = 1
    keeps_work = False  # whether what was done before is kept for the same command, however little

    def __init__(self, what: str, *, got: str = "", allowed: str = "", hint: str = "") -> None:
        self.what, self.got, self.allowed, self.hint = what, got, allowed, hint
        super().__init__(what)

    def __str__(self) -> str:
        facts = (("got", self.got), ("allowed", self.allowed), ("next", self.hint))
        return "\n".join([self.what, *(f"  {name}: {fact}" for name, fact in facts if fact)])


class UsageError(PricesmithError):
    """The command, a setting or a folder's state does not allow the work to start."""

    exit_code = 2


class InputError(PricesmithError):
    """A file that was given cannot be used."""


class MissingExtra(UsageError):
    """An optional library is needed. `extra` names the one that brings it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(what, hint=f"pip install 'pricesmith[{extra}]'")
