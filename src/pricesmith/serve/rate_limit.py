"""Limits of requests per minute, one for each name.

limiter = RateLimiter()
wait = limiter.take("website", per_minute=60)     0.0: accepted; else the seconds until the next one is
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

MAX_NAMES = 10_000  # whose state is kept; with more, the one that was used least recently starts anew


class RateLimiter:
    """Token buckets. A bucket holds as many tokens as a minute brings: after a pause that many requests are accepted at
    once, then one for each token that comes in. `clock` gives seconds and never goes back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, and when they were counted
        self.lock = threading.Lock()

    def take(self, name: str, per_minute: float) -> float:
        """Take a token: 0.0 if there is one, else the seconds until there is, for Retry-After (rounded up)."""
        now = self.clock()
        with self.lock:
            tokens, counted = self.buckets.pop(name, (per_minute, now))
            tokens = min(per_minute, tokens + max(0.0, now - counted) * per_minute / 60)
            accepted = tokens >= 1 - 1e-9  # sums of times in floating point
            self.buckets[name] = (max(0.0, tokens - 1) if accepted else tokens, max(now, counted))
            if len(self.buckets) > MAX_NAMES:
                self.buckets.popitem(last=False)
        return 0.0 if accepted else (1 - tokens) * 60 / per_minute


def retry_after(seconds: float) -> str:
    """The value of a Retry-After header: whole seconds, at least 1."""
    return str(max(1, math.ceil(seconds)))
