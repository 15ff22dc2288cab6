"""Limits of requests per minute."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricesmith.serve import rate_limit
from pricesmith.serve.rate_limit import RateLimiter, retry_after


class Clock:
    """Seconds, set by hand."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.mark.parametrize("per_minute", [1, 7, 60, 600])
def test_requests_are_accepted_up_to_the_limit(per_minute: int) -> None:
    """At once as many as a minute has; in each following minute as many again, give or take one."""
    clock = Clock()
    limiter = RateLimiter(clock)
    assert sum(limiter.take("a", per_minute) == 0 for _ in range(per_minute * 3)) == per_minute
    for _ in range(3):
        accepted = 0
        for _ in range(3000):
            clock.time += 60 / 3000
            accepted += limiter.take("a", per_minute) == 0
        assert abs(accepted - per_minute) <= 1


@given(st.integers(1, 100), st.lists(st.floats(0, 30), max_size=200))
@settings(max_examples=50)
def test_no_more_than_the_limit_is_ever_accepted(per_minute: int, pauses: list[float]) -> None:
    clock = Clock()
    limiter = RateLimiter(clock)
    accepted = 0
    for pause in pauses:
        clock.time += pause
        accepted += limiter.take("a", per_minute) == 0
    assert accepted <= per_minute + sum(pauses) * per_minute / 60 + 1


def test_after_the_time_to_wait_the_next_request_is_accepted() -> None:
    clock = Clock()
    limiter = RateLimiter(clock)
    for _ in range(7):
        assert limiter.take("a", 7) == 0
    wait = limiter.take("a", 7)
    assert wait == pytest.approx(60 / 7)
    clock.time += wait - 0.01
    assert limiter.take("a", 7) > 0
    clock.time += 0.011
    assert limiter.take("a", 7) == 0


def test_names_do_not_affect_each_other() -> None:
    limiter = RateLimiter(Clock())
    assert limiter.take("a", 1) == 0
    assert limiter.take("a", 1) > 0
    assert limiter.take("b", 1) == 0


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    clock = Clock()
    limiter = RateLimiter(clock)
    limiter.take("a", 1)
    clock.time -= 500
    assert limiter.take("a", 1) > 0
    clock.time += 500
    assert limiter.take("a", 1) > 0


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limit, "MAX_NAMES", 100)
    limiter = RateLimiter(Clock())
    for number in range(1000):
        limiter.take(f"name {number}", 5)
    assert len(limiter.buckets) == 100


def test_a_header_has_whole_seconds() -> None:
    assert [retry_after(seconds) for seconds in (0.01, 1.0, 1.2, 60)] == ["1", "1", "2", "60"]
