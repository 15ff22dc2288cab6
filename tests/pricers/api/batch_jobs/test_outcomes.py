"""Results of a job are not trusted: whatever they are, each line has one outcome."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pricesmith.pricers.api.batch_jobs.outcomes import ResultReader
from pricesmith.pricers.api.batch_jobs.protocol import LineResult
from pricesmith.pricers.api.batch_jobs.store import Line
from pricesmith.pricers.api.formats.base import ApiError
from pricesmith.pricers.api.response_cache import Completion

LINES = {key: Line(key, 0.5) for key in "abcde"}


def read_reply(status: int, body: bytes) -> tuple[Completion, float | None] | ApiError:
    """Status 200 is an answer for a cent, 400 a refusal, 429 to be tried again; an empty body cannot be read."""
    if status == 200:
        reply = Completion("24", "stop", 1, 1, 0.01, None)
        return ApiError("retry", "empty", billed=True) if body == b"null" else (reply, None if body == b"{}" else 0.02)
    return ApiError("retry" if status == 429 else "skip", f"HTTP {status}")


results = st.lists(
    st.builds(
        LineResult,
        key=st.sampled_from([*"abcdefg", ""]),
        state=st.sampled_from(["done", "expired", "cancelled", "unreadable"]),
        status=st.sampled_from([200, 400, 429]),
        body=st.sampled_from([None, {}, [1], "text"]),
    ),
    max_size=20,
)


@given(results, st.booleans())
def test_each_line_has_exactly_one_outcome(listed: list[LineResult], charged: bool) -> None:
    """Also with unknown keys, repeated ones, and lines that cannot be read."""
    reader = ResultReader(LINES, read_reply)
    outcomes = [*reader.read(listed)]
    outcomes += reader.missing(charged=charged)
    assert sorted(outcome.key for outcome in outcomes) == sorted(LINES)
    assert all(0 <= outcome.cost <= 0.5 for outcome in outcomes)
    assert all((outcome.state == "answered") == (outcome.completion is not None) for outcome in outcomes)
    assert len(listed) == len(reader.seen) + sum(reader.counts.values())


def outcome(result: LineResult) -> tuple[Any, ...]:
    """The outcome of one result."""
    (found,) = ResultReader(LINES, read_reply).read([result])
    return found.state, found.cost, found.reason


def test_an_answer_costs_what_counts_against_the_budget() -> None:
    """The worst case if that is unknown."""
    assert outcome(LineResult("a", "done", 200, [1])) == ("answered", 0.02, "")
    assert outcome(LineResult("a", "done", 200, {})) == ("answered", 0.5, "")


def test_what_was_not_processed_costs_nothing_and_can_be_asked_again() -> None:
    """Expired and cancelled lines, and those that failed at the provider."""
    assert outcome(LineResult("a", "expired")) == ("expired", 0.0, "expired in a batch job")
    assert outcome(LineResult("a", "cancelled")) == ("expired", 0.0, "cancelled in a batch job")
    assert outcome(LineResult("a", "done", 429)) == ("expired", 0.0, "HTTP 429")


def test_what_would_fail_again_is_not_asked_again() -> None:
    """A refused request costs nothing; a reply that cannot be read was charged."""
    assert outcome(LineResult("a", "done", 400)) == ("failed", 0.0, "HTTP 400")
    assert outcome(LineResult("a", "done", 200, None)) == ("failed", 0.5, "empty")
