"""How long work reports its progress. The default shows nothing; the command line draws it.

A stage is started with its length where that is known, then advanced; a note is one line for a person.
"""

from __future__ import annotations

import time
from collections.abc import Sequence


class Progress:
    """Silent progress, and the shape that others fill."""

    def start(self, what: str, total: int | None = None) -> None:
        """A new stage begins; it replaces the one before."""

    def advance(self, steps: int = 1) -> None:
        """`steps` more of the current stage are done."""

    def note(self, text: str) -> None:
        """One line that a person should see: an estimate, a decision, a count."""


SILENT = Progress()


def format_duration(seconds: float) -> str:
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
        return "" if seconds is None else f"about {format_duration(seconds)} left"

    def seconds(self) -> float | None:
        """Seconds to the end of the stage as of now; None before anything is done."""
        if not self.done:
            return None
        now, (began, _) = time.monotonic(), self.times[0]
        late, then = next(point for point in self.times if point[1] * 3 >= self.done * 2 or point[1] == self.done)
        last, _ = self.times[-1]
        whole = (last - began) / self.done
        recent = (last - late) / (self.done - then) if self.done > then else whole
        return max(0.0, (whole + recent) / 2 * (self.total - self.done) - (now - last))


class Estimated(Progress):
    """Passes progress on, and notes the time left when the work is slower or faster than the last estimate.

    `stages` are the beginnings of stages' names with their shares of the work, in any unit, in the order in which they
    come; `expected` is the whole work in seconds, as estimated before. Stages that are over at once (kept from an
    interrupted run) say nothing about the speed.
    """

    def __init__(self, inner: Progress, what: str, stages: Sequence[tuple[str, float]], expected: float) -> None:
        self.inner, self.what, self.stages = inner, what, list(stages)
        self.whole = sum(share for _, share in stages)
        self.expected = self.estimate = max(expected, 1e-9)
        self.place, self.total, self.done = -1, 0, 0
        self.counted = [0.0, 0.0]  # share of the work that was seen, and the seconds that it took
        self.began = self.spoke = time.monotonic()

    def start(self, what: str, total: int | None = None) -> None:
        self.close()
        later = range(self.place + 1, len(self.stages))
        self.place = next((n for n in later if what.startswith(self.stages[n][0])), self.place)
        self.began, self.total, self.done = time.monotonic(), total or 0, 0
        self.inner.start(what, total)

    def advance(self, steps: int = 1) -> None:
        self.done += steps
        self.inner.advance(steps)
        self.note_change(*self.measure_progress())

    def note(self, text: str) -> None:
        self.inner.note(text)

    def measure_progress(self) -> tuple[float, float]:
        """The share of the work that was seen so far, and the seconds that it took, the current stage included."""
        share, seconds = self.counted
        if self.place < 0 or not self.total:
            return share, seconds
        here = self.stages[self.place][1] / self.whole * min(1.0, self.done / self.total)
        took = time.monotonic() - self.began
        return (share, seconds) if self.is_kept(here, took) else (share + here, seconds + took)

    def is_kept(self, share: float, took: float) -> bool:
        """Whether a stage was over so quickly that it was kept from an earlier run."""
        return took < 0.02 * share * self.expected

    def close(self) -> None:
        """Count the current stage as done."""
        if self.place >= 0:
            share, took = self.stages[self.place][1] / self.whole, time.monotonic() - self.began
            self.total = self.done = 1
            if not self.is_kept(share, took):
                self.counted = [self.counted[0] + share, self.counted[1] + took]
                self.note_change(*self.counted)

    def note_change(self, share: float, seconds: float) -> None:
        """A note if the whole will take half as long again as estimated last, or two thirds of it."""
        now = time.monotonic()
        if share < 0.03 or seconds < 5 or now - self.spoke < 20:
            return
        whole = seconds / share
        if 2 / 3 < whole / self.estimate < 1.5:
            return
        behind = sum(share for _, share in self.stages[: self.place + 1]) / self.whole
        current = self.stages[self.place][1] / self.whole * (1 - (self.done / self.total if self.total else 0.0))
        left = whole * max(0.0, 1 - behind + current)
        pace = "slower" if whole > self.estimate else "faster"
        self.estimate, self.spoke = whole, now
        self.inner.note(f"{self.what} is {pace} than estimated: about {format_duration(left)} left.")
