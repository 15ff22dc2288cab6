"""Estimates adapt to the speed seen. The clock here is made."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pricesmith.core import console, progress
from pricesmith.core.console import Console, Notes
from pricesmith.core.progress import Estimated, Progress, Remaining, format_duration


class Clock:
    def __init__(self) -> None:
        self.now = 100.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    fake = SimpleNamespace(monotonic=lambda: made.now)
    monkeypatch.setattr(progress, "time", fake)
    monkeypatch.setattr(console, "time", fake)
    return made


class Recorder(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 second"), (1, "1 second"), (40.4, "40 seconds"), (468, "8 minutes"), (9000, "2.5 hours")],
)
def test_a_duration_is_formatted_in_one_unit(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_what_remains_follows_the_speed(clock: Clock) -> None:
    """Nothing before the first step; then steps times seconds; a slower machine is noticed, and time passes."""
    left = Remaining(100)
    assert left.seconds() is None
    assert str(left) == ""
    for _ in range(30):
        clock.now += 1
        left.advance(1)
    assert left.seconds() == pytest.approx(70)
    clock.now += 5
    assert left.seconds() == pytest.approx(65), "between steps it counts down"
    clock.now -= 5
    for _ in range(30):
        clock.now += 4
        left.advance(1)
    whole, recent = 150 / 60, 4.0
    assert left.seconds() == pytest.approx(40 * (whole + recent) / 2)
    left.advance(40)
    assert left.seconds() == 0


def test_memory_does_not_grow_with_the_steps(clock: Clock) -> None:
    left = Remaining(10**5)
    for _ in range(5000):
        clock.now += 0.5
        left.advance(1)
    assert len(left.times) <= 201
    assert left.seconds() == pytest.approx(0.5 * 95_000, rel=0.01)


def test_a_long_stage_is_reported_if_no_bar_is_drawn(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """A line every half minute with what is done and what remains; a quick stage says nothing."""
    notes = Notes(Console())
    notes.start("reading listings", 50)
    for _ in range(50):
        clock.now += 2
        notes.advance()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "reading listings: 15 of 50, about 70 seconds left"
    assert len(lines) == 3
    notes.start("a quick one", 50)
    for _ in range(50):
        clock.now += 0.1
        notes.advance()
    notes.start("of unknown length")
    clock.now += 100
    notes.advance()
    assert capsys.readouterr().out == ""


STAGES = [("networks without part 1", 4.0), ("networks without part 2", 4.0), ("networks", 4.0), ("trees", 8.0)]


def worked(clock: Clock, seconds: list[float], expected: float) -> tuple[list[str], list[float]]:
    """The notes while four stages of two steps each take these seconds, and when they came."""
    recorder, times = Recorder(), list[float]()
    note = recorder.note
    recorder.note = lambda text: (times.append(clock.now - 100), note(text))[1]  # type: ignore[method-assign]
    estimated = Estimated(recorder, "best", STAGES, expected)
    for name, took in zip(
        ("networks without part 1", "networks without part 2", "networks", "trees"), seconds, strict=True
    ):
        estimated.start(name, 2)
        for _ in range(2):
            clock.now += took / 2
            estimated.advance()
    return recorder.notes, times


def test_a_busy_machine_gets_a_new_estimate(clock: Clock) -> None:
    """31 s estimated, 15 times slower: after the first steps the new length is known, and it is not repeated."""
    messages, times = worked(clock, [93, 93, 93, 186], expected=31)
    assert messages == ["best is slower than estimated: about 7 minutes left."]
    assert times[0] < 50


def test_a_machine_that_becomes_busy_later_is_noticed(clock: Clock) -> None:
    messages, _ = worked(clock, [20, 20, 200, 400], expected=100)
    assert messages
    assert all("slower" in line for line in messages)


def test_a_machine_as_fast_as_estimated_says_nothing(clock: Clock) -> None:
    assert worked(clock, [22, 19, 21, 45], expected=100)[0] == []


def test_a_faster_machine_is_reported_too(clock: Clock) -> None:
    messages, _ = worked(clock, [40, 40, 40, 80], expected=600)
    assert messages[0].startswith("best is faster than estimated: about")


def test_stages_kept_from_an_interrupted_run_say_nothing_about_speed(clock: Clock) -> None:
    """Two stages are over at once, the others take what was expected: no estimate of seconds is made of that."""
    assert worked(clock, [0.01, 0.01, 60, 120], expected=300)[0] == []


def test_stages_and_notes_are_passed_on(clock: Clock) -> None:
    calls: list[Any] = []

    class Inner(Progress):
        def start(self, what: str, total: int | None = None) -> None:
            calls.append((what, total))

        def advance(self, steps: int = 1) -> None:
            calls.append(steps)

        def note(self, text: str) -> None:
            calls.append(text)

    estimated = Estimated(Inner(), "best", STAGES, 100.0)
    estimated.start("something else")
    estimated.advance(3)
    estimated.note("hello")
    assert calls == [("something else", None), 3, "hello"]
