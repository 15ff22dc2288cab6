"""Threads that compute a stream of values: what is read ahead stays small.

for bags in map_ahead(build_bags, chunks(listings)):
    ...
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
N_CORES = 2
AHEAD = 4  # values that are read before they are needed


def map_ahead(function: Callable[[T], R], values: Iterable[T]) -> Generator[R, None, None]:
    """The function of each value, in order, computed in `N_CORES` threads.

    Unlike those of an executor's `map`, values are read shortly before they are computed: a generator may read a file.
    """
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(N_CORES) as pool:
        for value in values:
            waiting.append(pool.submit(function, value))
            del value  # not held until the next one is read
            if len(waiting) >= AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
