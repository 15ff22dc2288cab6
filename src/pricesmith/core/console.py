"""The output of a command: text, progress on a terminal, one JSON object, errors."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any

from pricesmith.core.errors import PricesmithError
from pricesmith.core.launch import is_follower
from pricesmith.core.progress import Progress, Remaining

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

EVERY = 30.0  # seconds between lines of progress where no bar is drawn
INTERRUPTED_MESSAGE = "Interrupted. Run the same command again to resume."
# The text of a listing may hold anything; these would move a terminal's cursor or change its title.
CONTROL = dict.fromkeys((*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0)), "�")


class Console:
    """Prints a command's output. With `json`, the result goes to standard output and notes to standard error."""

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        self.json, self.quiet = json, quiet

    def say(self, what: Any = "") -> None:
        """Text or a rich table for a person; nothing with --json or --quiet."""
        if self.json or self.quiet:
            return
        if isinstance(what, str):
            print(what.translate(CONTROL))
            return
        from rich.console import Console as Rich

        # A pipe has no width: a table that was cut there could not be read by anything.
        Rich(width=None if sys.stdout.isatty() else 160, highlight=False).print(what)

    def result(self, value: Any) -> None:
        """The verb's result for a machine; nothing without --json."""
        if self.json:
            plain = not (sys.stdout.encoding or "").lower().startswith("utf")
            print(json.dumps(value, ensure_ascii=plain, allow_nan=False, default=str))

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Bars with time left on a terminal, notes as plain lines elsewhere and with --json, silence with --quiet."""
        if self.quiet:
            yield Progress()
        elif self.json or not sys.stderr.isatty():
            yield Notes(self)
        else:
            from rich import progress as bar

            columns = (
                bar.SpinnerColumn(),
                bar.TextColumn("{task.description}"),
                bar.BarColumn(bar_width=24),
                bar.TaskProgressColumn(),
                bar.TimeElapsedColumn(),
                bar.TextColumn("{task.fields[left]}"),
            )
            from rich.console import Console as Rich

            with bar.Progress(*columns, console=Rich(stderr=True), transient=True) as bars:
                yield LiveBar(bars)


class Notes(Progress):
    """Progress where nothing is drawn: the notes, and in long stages one line every EVERY seconds."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.stage, self.remaining = "", Remaining(0)
        self.spoke = time.monotonic()

    def start(self, what: str, total: int | None = None) -> None:
        self.stage, self.remaining = what, Remaining(total or 0)
        self.spoke = time.monotonic()

    def advance(self, steps: int = 1) -> None:
        self.remaining.advance(steps)
        done, total = self.remaining.done, self.remaining.total
        if done < total and time.monotonic() - self.spoke >= EVERY:
            self.note(f"{self.stage}: {done:,} of {total:,}, {self.remaining}")

    def note(self, text: str) -> None:
        self.spoke = time.monotonic()
        if self.console.json:  # the logs of machines get the estimate too
            print(text.translate(CONTROL), file=sys.stderr)
        else:
            self.console.say(text)


class LiveBar(Progress):
    """Progress on a terminal."""

    def __init__(self, bars: Bars) -> None:
        self.bars = bars
        self.task: TaskID | None = None
        self.remaining = Remaining(0)

    def start(self, what: str, total: int | None = None) -> None:
        if self.task is not None:
            self.bars.remove_task(self.task)
        self.remaining = Remaining(total or 0)
        self.task = self.bars.add_task(what, total=total, left=self.remaining)  # written anew at every refresh

    def advance(self, steps: int = 1) -> None:
        if self.task is None:
            return
        self.remaining.advance(steps)
        self.bars.advance(self.task, steps)

    def note(self, text: str) -> None:
        # Not markup: a listing's text may hold square brackets.
        self.bars.console.print(text.translate(CONTROL), markup=False, highlight=False)


def describe_error(error: BaseException) -> tuple[str, int] | None:
    """The text and exit code of an error that a user can meet; None for a defect of ours."""
    if isinstance(error, PricesmithError):
        return f"Error: {error}", error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED_MESSAGE, 130
    if isinstance(error, MemoryError):
        return "Error: There is not enough memory\n  next: Close other programs, or use fewer rows.", 1
    if isinstance(error, OSError) and error.errno is not None:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            where = f" ({error.filename})" if error.filename else ""
            return f"Error: The disk is full{where}\n  next: Free some space, then run the same command again.", 1
        reason = os.strerror(error.errno)
        return f"Error: {error.filename or 'A file'}: {reason}\n  next: Check the path and its permissions.", 1
    if "No space left on device" in str(error):  # duckdb and pyarrow have exceptions of their own
        return "Error: The disk is full\n  next: Free some space, then run the same command again.", 1
    return None


@contextmanager
def silent_followers() -> Iterator[None]:
    """In the block, a process that is not rank 0 prints nothing, so that a command is seen once."""
    if not is_follower():
        yield
        return
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        redirect_stdout(nowhere),
        redirect_stderr(nowhere),
    ):
        yield
