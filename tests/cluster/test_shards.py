"""Shards that run in this process: a failure is named, and costs no other shard."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricesmith.cluster.shards import Shard, ShardsFailed, raise_failures, run_here, run_shard
from pricesmith.core.errors import InputError


def double(context: int, content: Any) -> dict[str, Any]:
    """Twice the content, unless it is an exception to raise."""
    if isinstance(content, BaseException):
        raise content
    return {"value": context * content}


def shards_of(*contents: Any) -> list[Shard]:
    return [Shard(f"shard {number}", content, "/shared/out") for number, content in enumerate(contents)]


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (ValueError("row 17"), "ValueError: row 17 (test_shards.py:"),
        (InputError("a.csv is damaged", got="half a row"), "a.csv is damaged (half a row)"),
        (MemoryError(), "not enough memory"),
        (PermissionError(errno.EACCES, "no", "/shared/a.csv"), "/shared/a.csv: Permission denied"),
        (OSError(errno.ENOSPC, "full", "/shared/b.csv"), "the disk is full: /shared/b.csv"),
        (OSError("Error writing: [errno 28] No space left on device"), "the disk is full: /shared/out"),
    ],
)
def test_what_a_function_raises_is_the_named_failure_of_its_shard(error: Exception, failure: str) -> None:
    """One line each, with the path if there is one."""
    result = run_shard(double, 2, shards_of(error)[0], "10.0.0.2")
    assert result.failure.startswith(failure)
    assert (result.name, result.node) == ("shard 0", "10.0.0.2")
    assert result.disk_full == ("disk is full" in failure)


def test_all_shards_but_the_broken_one_are_run() -> None:
    """In order, with their facts."""
    results = [*run_here(double, 2, shards_of(1, ValueError("broken"), 3))]
    assert [result.facts for result in results] == [{"value": 2}, {}, {"value": 6}]


def test_no_shard_is_begun_after_a_full_disk() -> None:
    """It would be computed and then lost."""
    full = OSError(errno.ENOSPC, "full", "/shared/x")
    assert len([*run_here(double, 2, shards_of(1, full, 3))]) == 2


def test_failed_shards_are_named_in_one_error_with_what_to_do() -> None:
    """The error says how many are kept, and that the same command resumes."""
    results = [*run_here(double, 2, shards_of(1, InputError("a.csv is damaged", hint="Repair a.csv."), 3))]
    with pytest.raises(ShardsFailed) as caught:
        raise_failures(results, "priced")
    assert caught.value.exit_code == 1
    assert str(caught.value).splitlines() == [
        "1 shard of 3 could not be priced; the others are kept",
        "  got: shard 1: a.csv is damaged",
        "  next: Repair a.csv. Then run the same command again: it does only what is missing.",
    ]
    raise_failures(results[:1], "priced")


@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_every_failure_counts_and_at_most_five_are_named(broken: list[bool]) -> None:
    """However many there are, the error fits on a screen."""
    results = [*run_here(double, 1, shards_of(*(ValueError("no") if wrong else 1 for wrong in broken)))]
    if not any(broken):
        raise_failures(results, "priced")
        return
    with pytest.raises(ShardsFailed) as caught:
        raise_failures(results, "priced")
    assert caught.value.what.startswith(f"{sum(broken)} shard")
    assert caught.value.got.count("ValueError") == min(5, sum(broken))
