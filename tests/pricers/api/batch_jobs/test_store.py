"""Batch jobs on disk: a key is open in one job at most, a line is settled once, and all of it survives the process."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from pricesmith.core.errors import InputError
from pricesmith.pricers.api.batch_jobs.store import BatchJob, BatchStore, Line, Outcome
from pricesmith.pricers.api.response_cache import Completion, ResponseCache

REPLY = Completion('{"price": 24}', "stop", 10, 5, 0.01, None, tier="batch")


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[ResponseCache]:
    """An empty response cache."""
    with ResponseCache(tmp_path / "a.sqlite") as cache:
        yield cache


def create(store: BatchStore, keys: str, run: str = "run") -> tuple[BatchJob, list[str]]:
    """A prepared job, and the keys of its lines."""
    created = store.create(run, "https://made/v1", "model", [Line(key, 0.5) for key in keys])
    assert created is not None
    return created[0], [line.key for line in created[1]]


def test_a_key_is_open_in_one_job_at_most(cache: ResponseCache) -> None:
    """A second job gets the other keys only, and none if no key is left."""
    store = BatchStore(cache)
    assert create(store, "abc")[1] == ["a", "b", "c"]
    assert create(store, "bcd")[1] == ["d"]
    assert store.create("run", "https://made/v1", "model", [Line("a", 0.5)]) is None


def test_the_database_itself_refuses_a_second_open_line(cache: ResponseCache) -> None:
    """Whatever a process does."""
    job, _ = create(BatchStore(cache), "a")
    with pytest.raises(InputError, match="UNIQUE"):
        cache.run("INSERT INTO batch_lines (job, number, key, worst_usd, state) VALUES ('x', 1, 'a', 0, 'open')")
    assert job.state == "prepared"


def test_answered_and_claimed_keys_are_left_out(cache: ResponseCache, tmp_path: Path) -> None:
    """They are, or will be, in the cache without a job."""
    cache.store("a", "https://made/v1", "model", REPLY)
    with ResponseCache(tmp_path / "a.sqlite") as other:
        assert other.claim("b") == "claimed"
        assert create(BatchStore(cache), "abc")[1] == ["c"]


def test_a_key_in_a_job_is_not_claimed(cache: ResponseCache) -> None:
    """Until the job ends; then it can be asked again."""
    store = BatchStore(cache)
    job, _ = create(store, "a")
    assert cache.claim("a") == "in a batch job"
    store.close(job.id, "void")
    assert cache.claim("a") == "claimed"


def test_a_line_is_settled_once(cache: ResponseCache) -> None:
    """The first outcome counts: its reply is stored with its cost in one step."""
    store = BatchStore(cache)
    job, _ = create(store, "ab")
    store.mark_submitted(job.id, "batch_1")
    first = [Outcome("a", "answered", 0.01, completion=REPLY)]
    assert store.settle(job.id, first) == first
    assert store.settle(job.id, [Outcome("a", "failed", 0.5), Outcome("unknown", "failed", 0.5)]) == []
    assert cache.find(["a"])["a"].text == REPLY.text
    assert store.spent("run") == 0.01
    assert [line.key for _, line in store.open_lines(job.id)] == ["b"]


def test_a_job_is_closed_with_its_last_line(cache: ResponseCache) -> None:
    """In the same step, so that a kill leaves no job that seems unfinished."""
    store = BatchStore(cache)
    job, _ = create(store, "ab")
    store.mark_submitted(job.id, "batch_1")
    store.settle(job.id, [Outcome("a", "answered", 0.01, completion=REPLY), Outcome("b", "expired")])
    assert store.get(job.id).state == "closed"
    assert store.find_unfinished("https://made/v1", "model") == []


def test_a_failed_transaction_stores_neither_reply_nor_cost(
    cache: ResponseCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both or none."""
    store = BatchStore(cache)
    job, _ = create(store, "ab")

    def fail(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("disk full")

    monkeypatch.setattr(cache, "insert", fail)
    with pytest.raises(InputError):
        store.settle(job.id, [Outcome("a", "answered", 0.01, completion=REPLY)])
    monkeypatch.undo()
    assert store.spent("run") == 0
    assert len(store.open_lines(job.id)) == 2


def test_the_state_is_there_for_the_next_process(tmp_path: Path) -> None:
    """The ids, the time of the submission, and the numbers of the lines."""
    with ResponseCache(tmp_path / "a.sqlite") as cache:
        store = BatchStore(cache)
        job, _ = create(store, "abc")
        store.mark_creating(job.id, 123.0, "file-1")
        store.mark_submitted(job.id, "batch_1")
    with ResponseCache(tmp_path / "a.sqlite") as cache:
        store = BatchStore(cache)
        (found,) = store.find_open("c")
        assert (found.state, found.sent, found.file, found.remote) == ("submitted", 123.0, "file-1", "batch_1")
        assert [(number, line.key) for number, line in store.open_lines(found.id)] == [(1, "a"), (2, "b"), (3, "c")]
        assert store.has_submitted("run")
        assert not store.has_submitted("another run")


def test_the_submission_of_a_living_process_is_left_to_it(cache: ResponseCache, tmp_path: Path) -> None:
    """Another process takes over when it has ended."""
    job, _ = create(BatchStore(cache), "a")
    with ResponseCache(tmp_path / "a.sqlite") as other:
        assert not BatchStore(other).adopt(job.id)
        cache.owner.close()
        assert BatchStore(other).adopt(job.id)


def test_an_id_that_turned_out_to_be_another_job_is_remembered(cache: ResponseCache) -> None:
    """It is not taken for this job again."""
    store = BatchStore(cache)
    job, _ = create(store, "a")
    store.mark_submitted(job.id, "batch_1", presumed=True)
    assert store.get(job.id).presumed
    store.mark_foreign(job.id)
    found = store.get(job.id)
    assert (found.state, found.remote, found.presumed, found.foreign_ids) == ("creating", "", False, ("batch_1",))


def test_a_cache_of_an_older_version_gets_the_tables(tmp_path: Path) -> None:
    """Its replies stay."""
    path = tmp_path / "a.sqlite"
    with ResponseCache(path) as cache:
        cache.store("a", "https://made/v1", "model", REPLY)
        for table in ("batch_jobs", "batch_lines"):
            cache.run(f"DROP TABLE {table}")
        cache.run("DROP VIEW open_batch_lines")
    with ResponseCache(path) as cache:
        assert create(BatchStore(cache), "ab")[1] == ["b"]


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM batch_jobs",
        "UPDATE batch_jobs SET foreign_ids = 'x'",
        "UPDATE batch_jobs SET foreign_ids = '1'",
        "UPDATE batch_jobs SET state = 'x'",
        "UPDATE batch_jobs SET sent = 'x'",
        "UPDATE batch_lines SET worst_usd = 'x'",
    ],
)
def test_a_damaged_state_is_reported_and_nothing_is_bought_again(damage: str, cache: ResponseCache) -> None:
    """Its requests may be at the provider."""
    store = BatchStore(cache)
    job, _ = create(store, "ab")
    cache.run(damage)
    with pytest.raises(InputError, match="is damaged"):
        for found in store.find_open("ab"):
            store.open_lines(found.id)
    assert cache.claim("a") == "in a batch job"
    assert job.id in {name for (name,) in cache.run("SELECT DISTINCT job FROM batch_lines")}
