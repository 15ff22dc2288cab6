"""How shards are handed to a cluster, with tasks that end at once and a clock that the test sets."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pricesmith.cluster import tasks
from pricesmith.cluster.nodes import NodeCheck
from pricesmith.cluster.shards import Shard, ShardResult
from pricesmith.core.errors import PricesmithError


class IdleCluster(tasks.Cluster):
    """A cluster that is never seen working: its tasks are done when they are looked at, or never."""

    def __init__(self, *, ends: bool) -> None:
        ray = SimpleNamespace(put=lambda work: work, get=lambda ref: ShardResult(ref), exceptions=ERRORS)
        super().__init__(ray, NodeCheck({}, {}, {}))
        self.ends, self.seconds = ends, 0.0

    def is_working(self) -> bool:
        return False


class Pool:
    """Room for three tasks."""

    def __init__(self, cluster: IdleCluster, work: Any) -> None:
        self.cluster = cluster

    def has_room(self, running: int) -> bool:
        return running < 3

    def submit(self, shard: Shard) -> str:
        return shard.name

    def wait(self, running: list[str], seconds: float) -> list[str]:
        self.cluster.seconds += 0.0 if self.cluster.ends else seconds
        return running if self.cluster.ends else []

    def release(self, ref: str) -> None:
        pass

    def close(self, running: list[str]) -> None:
        pass


class NeverRaised(Exception):
    pass


ERRORS = SimpleNamespace(RayTaskError=NeverRaised, RayError=NeverRaised)


def run_shards(monkeypatch: pytest.MonkeyPatch, *, ends: bool) -> list[str]:
    """The names of the results of ten shards, each of which takes 200 seconds to read."""
    cluster = IdleCluster(ends=ends)
    monkeypatch.setattr(tasks, "TaskPool", Pool)
    monkeypatch.setattr(tasks, "time", SimpleNamespace(monotonic=lambda: cluster.seconds))

    def read() -> Iterator[Shard]:
        for number in range(10):
            cluster.seconds += 200
            yield Shard(str(number), number)

    return [result.name for result in cluster.run(lambda context, content: {}, None, read())]


def test_a_cluster_that_waits_for_slow_reading_has_not_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """All shards are done, although the cores were idle for longer than a stall may last."""
    assert run_shards(monkeypatch, ends=True) == [str(number) for number in range(10)]


def test_a_cluster_whose_cores_stay_idle_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an error that says how to resume."""
    with pytest.raises(PricesmithError, match="has stopped working") as caught:
        run_shards(monkeypatch, ends=False)
    assert "resumes" in caught.value.hint
