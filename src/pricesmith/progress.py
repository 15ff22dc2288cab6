"""How long work tells what it is doing. The default says nothing; the command line draws it.

A stage is started with its length where that is known, then advanced; a note is one line for a person.
"""

from __future__ import annotations


class Progress:
    """Silent progress, and the shape that others fill."""

    def start(self, what: str, total: int | None = None) -> None:
        """A new stage begins; it replaces the one before."""

    def advance(self, steps: int = 1) -> None:
        """`steps` more of the current stage are done."""

    def note(self, text: str) -> None:
        """One line that a person should see: an estimate, a decision, a count."""


SILENT = Progress()
