"""How long work tells what it is doing. The default says nothing; the command line draws it.

A stage is started with its length where that is known, then advanced; a note is one line for a person.
"""

from __future__ import annotations

import time


class Progress:
    """Silent progress, and the shape that others fill."""

    def start(self, what: str, total: int | None = None) -> None:
        """A new stage begins; it replaces the one before."""

    def advance(self, steps: int = 1) -> None:
        """`steps` more of the current stage are done."""

    def note(self, text: str) -> None:
        """One line that a person should see: an estimate, a decision, a count."""


SILENT = Progress()


def duration(seconds: float) -> str:
    """`40 seconds`, `7 minutes`, `2.5 hours`."""
    if seconds < 100:
        return f"{max(1, round(seconds))} second{'s' if round(seconds) > 1 else ''}"
    return f"{seconds / 60:.0f} minutes" if seconds < 100 * 60 else f"{seconds / 3600:.1f} hours"


class Remaining:
    """How long a stage will still take, from the speed seen so far.

    Half of the estimate is the mean over the whole stage, half the speed of its last third, so that a machine that
    becomes busy is noticed and one slow step does not double the estimate.
    """

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self.times = [(time.monotonic(), 0)]

    def advance(self, steps: int) -> None:
        """Count `steps` more as done now."""
        self.done += steps
        self.times.append((time.monotonic(), self.done))
        if len(self.times) > 200:  # every other one: the shape of the curve is enough
            self.times = [self.times[0], *self.times[1:-1:2], self.times[-1]]

    def __str__(self) -> str:
        seconds = self.seconds() if self.total else None
        return "" if seconds is None else f"about {duration(seconds)} left"

    def seconds(self) -> float | None:
        """Seconds to the end of the stage as of now; None before anything is done."""
        if not self.done:
            return None
        now, (began, _) = time.monotonic(), self.times[0]
        late, then = next(one for one in self.times if one[1] * 3 >= self.done * 2 or one[1] == self.done)
        last, _ = self.times[-1]
        whole = (last - began) / self.done
        recent = (last - late) / (self.done - then) if self.done > then else whole
        return max(0.0, (whole + recent) / 2 * (self.total - self.done) - (now - last))
