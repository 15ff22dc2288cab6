"""Cuts requests into jobs that stay within every limit of a provider.

>>> limits = BatchLimits(requests=2, bytes=100)
>>> len(take_shard([SizedRequest("a", b"{}", 0.0)] * 5, limits))
2
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

BYTES_PER_TOKEN = 4.0  # of a request's line, its JSON included: a rule of thumb for the tokens that wait


@dataclass(frozen=True)
class BatchLimits:
    """The most that one job may have: requests and bytes; and the input tokens that may wait in all jobs together."""

    requests: int
    bytes: int
    tokens: float = math.inf


@dataclass(frozen=True)
class SizedRequest:
    """A request as a line of a job, and its worst-case cost in US dollars."""

    key: str
    data: bytes
    worst: float

    @property
    def tokens(self) -> float:
        """The approximate number of input tokens."""
        return len(self.data) / BYTES_PER_TOKEN


def take_shard(
    requests: Iterable[SizedRequest], limits: BatchLimits, *, room: float = math.inf, queued_tokens: float = 0.0
) -> list[SizedRequest]:
    """Return the longest beginning of `requests` that one job may have; no more of them are read than needed.

    `room` is what the job may cost at worst, `queued_tokens` the input tokens that wait in other jobs. Empty if the
    first request alone is over a limit.
    """
    shard: list[SizedRequest] = []
    size, tokens, worst = 0, queued_tokens, 0.0
    for request in requests:
        size, tokens, worst = size + len(request.data) + 1, tokens + request.tokens, worst + request.worst
        if len(shard) >= limits.requests or size > limits.bytes or tokens > limits.tokens or worst > room:
            break
        shard.append(request)
    return shard
