"""Requests are cut into jobs that stay within every limit, and none is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pricesmith.pricers.api.batch_jobs.sharding import BatchLimits, SizedRequest, take_shard

requests = st.lists(
    st.builds(
        SizedRequest,
        key=st.uuids().map(str),
        data=st.binary(max_size=60),
        worst=st.floats(0.0, 2.0),
    ),
    max_size=30,
)


@given(requests, st.integers(1, 8), st.integers(1, 200), st.floats(1.0, 60.0), st.floats(0.0, 8.0))
def test_jobs_stay_within_all_limits_and_lose_no_request(
    waiting: list[SizedRequest], n_requests: int, n_bytes: int, tokens: float, room: float
) -> None:
    """Each is the longest beginning that fits; what fits into no job is left to the caller."""
    limits = BatchLimits(n_requests, n_bytes, tokens)
    rest, taken = list(waiting), []
    while rest and (shard := take_shard(iter(rest), limits, room=room)):
        assert len(shard) <= n_requests
        assert sum(len(request.data) + 1 for request in shard) <= n_bytes
        assert sum(request.tokens for request in shard) <= tokens
        assert sum(request.worst for request in shard) <= room
        taken += shard
        rest = rest[len(shard) :]
    assert taken + rest == waiting
    if rest:
        alone = rest[0]
        assert len(alone.data) + 1 > n_bytes or alone.tokens > tokens or alone.worst > room


@given(requests, st.floats(0.0, 100.0))
def test_tokens_that_wait_in_other_jobs_count(waiting: list[SizedRequest], queued: float) -> None:
    """The limit is for all jobs of the model together."""
    limits = BatchLimits(100, 10_000, 50.0)
    shard = take_shard(waiting, limits, queued_tokens=queued)
    assert queued + sum(request.tokens for request in shard) <= 50.0 or not shard


def test_no_more_requests_are_read_than_needed() -> None:
    """They are written one by one, and a day's worth of them may not fit into memory."""
    read = []

    def write(number: int) -> SizedRequest:
        read.append(number)
        return SizedRequest(str(number), b"1234", 0.0)

    take_shard(map(write, range(1_000_000)), BatchLimits(5, 1_000))
    assert len(read) == 6
