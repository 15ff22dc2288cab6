"""Values are computed in threads, in order, and not read long before they are needed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pricesmith.core.threads import AHEAD, map_ahead


def test_results_come_in_the_order_of_the_values() -> None:
    """All of them, also if there are fewer than are read ahead."""
    for count in (0, 1, AHEAD, 100):
        assert list(map_ahead(lambda value: value * 2, range(count))) == [2 * value for value in range(count)]


def test_few_values_are_read_ahead() -> None:
    """A generator that reads a file is not read to its end at once."""
    read = []

    def values() -> Iterator[int]:
        for value in range(1000):
            read.append(value)
            yield value

    results = map_ahead(str, values())
    for number in range(10):
        assert next(results) == str(number)
        assert len(read) <= number + AHEAD
    results.close()
    assert len(read) < 20


def test_an_error_is_raised_where_its_result_is_due() -> None:
    """Of the function, and of what yields the values."""

    def fail(value: int) -> int:
        if value == 3:
            raise ValueError("three")
        return value

    results = map_ahead(fail, range(10))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)

    def values() -> Iterator[int]:
        yield 1
        raise OSError("unreadable")

    with pytest.raises(OSError, match="unreadable"):
        list(map_ahead(str, values()))
