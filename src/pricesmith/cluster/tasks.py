"""Run shards as tasks of a Ray cluster, or here.

    with open_cluster("10.0.0.1:6379", folders=[out.parent], progress=SILENT) as cluster:
        results = list(cluster.run(function, context, shards))

A task runs one shard (`shards.run_shard`) and sends back its facts; the result itself lies on the shared folder. A
shard whose process or node died is run again, up to `ATTEMPTS` times in all; one whose function failed is not. The
attempts are counted here, because Ray repeats a task that ran out of memory without end.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pricesmith.cluster.connection import NO_TOKEN, asks_for_token, connect
from pricesmith.cluster.nodes import NodeCheck, differing_node, shared_folders, silent_node
from pricesmith.cluster.shards import Shard, ShardFunction, ShardResult, run_here, run_shard
from pricesmith.core.atomic import MACHINE
from pricesmith.core.errors import PricesmithError
from pricesmith.core.progress import SILENT, Progress
from pricesmith.text.formatting import format_count

ATTEMPTS = 4
AHEAD = 2  # shards that wait on the cluster for a free core
POLL = 5.0  # seconds between two looks at the nodes
CHECK_SECONDS = 120.0  # until every node must have started its first process and answered
STALL_SECONDS = 120.0  # without a core, or with all of them idle, before the work is given up
CHECKED: dict[str, str] = {}  # in a process of a node: what is wrong with it, by the id of the check


@dataclass(frozen=True)
class Work:
    """What all shards of a run share."""

    id: str
    check: NodeCheck
    function: ShardFunction
    context: Any


def run_shards(
    function: ShardFunction,
    context: Any,
    shards: Iterable[Shard],
    *,
    address: str | None,
    folders: Sequence[Path] = (),
    progress: Progress = SILENT,
) -> list[ShardResult]:
    """The results of all shards, run on the cluster at `address`, or here without one. `folders` are written."""
    if address is None:
        return list(run_here(function, context, shards))
    with open_cluster(address, folders=folders, progress=progress) as cluster:
        return list(cluster.run(function, context, shards))


@contextmanager
def open_cluster(
    address: str, *, folders: Sequence[Path], files: Sequence[Path] = (), progress: Progress = SILENT
) -> Iterator[Cluster]:
    """The cluster at `address`, each of its nodes compared with this machine (`nodes`).

    `folders` are written by the nodes and `files` read. Raises UsageError if a node has other versions or does not
    share them.
    """
    with connect(address) as ray, shared_folders(folders, files) as check:
        cluster = Cluster(ray, check)
        progress.start("comparing the nodes of the cluster")
        names = cluster.check_nodes()
        cores = cluster.count_cores()
        progress.note(f"Cluster: {format_count(len(names), 'node')} with {format_count(cores, 'core')} in all.")
        if not asks_for_token():
            progress.note(NO_TOKEN)
        yield cluster


@dataclass
class Cluster:
    """A connected Ray cluster."""

    ray: Any
    check: NodeCheck
    id: str = field(default_factory=lambda: time.strftime("%H%M%S") + str(time.monotonic_ns()))

    def nodes(self) -> list[dict[str, Any]]:
        """The nodes that are alive, as Ray describes them."""
        return [node for node in self.ray.nodes() if node["Alive"]]

    def count_cores(self) -> int:
        """The cores of all nodes that are alive."""
        return sum(int(node["Resources"].get("CPU", 0)) for node in self.nodes())

    def is_working(self) -> bool:
        """Whether any core is busy."""
        total = self.ray.cluster_resources().get("CPU", 0.0)
        return bool(self.ray.available_resources().get("CPU", 0.0) < total)

    def check_nodes(self) -> list[str]:
        """Compare every node with this machine; their names. Raises UsageError with the name of one that differs.

        A node that has just died may be listed as alive for some seconds: it is asked again until it answers or is
        listed as dead.
        """
        task = self.ray.remote(num_cpus=0, max_retries=0)(check_node)
        checked: set[str] = set()
        until = time.monotonic() + CHECK_SECONDS
        while True:
            names = {node["NodeID"]: str(node["NodeManagerAddress"]) for node in self.nodes()}
            running = {
                node: task.options(scheduling_strategy=affinity(node)).remote(self.id, self.check)
                for node in names
                if node not in checked
            }
            if not running:
                return sorted(names.values())
            self.ray.wait(list(running.values()), num_returns=len(running), timeout=max(0.0, until - time.monotonic()))
            for node, ref in running.items():
                try:
                    difference = self.ray.get(ref, timeout=0.1)
                except self.ray.exceptions.RayTaskError as error:
                    difference = f"versions: {describe_ray_error(error)}"
                except self.ray.exceptions.RayError as error:
                    if time.monotonic() > until:
                        raise silent_node(names[node], describe_ray_error(error)) from None
                    continue
                if difference:
                    raise differing_node(names[node], difference)
                checked.add(node)
            time.sleep(0.0 if checked.issuperset(names) else 1.0)

    def run(
        self, function: ShardFunction, context: Any, shards: Iterable[Shard], *, actors: bool = False
    ) -> Iterator[ShardResult]:
        """Run shards on all cores; their results as they come. `shards` are taken as cores become free.

        With `actors` there is one process for each GPU, or for each node without one, which runs one shard after
        another: for models that fill a GPU or use all cores. After a full disk no further shard is begun. Raises
        PricesmithError if the cluster has no node left.
        """
        work = self.ray.put(Work(self.id, self.check, function, context))
        pool = ActorPool(self, work) if actors else TaskPool(self, work)
        waiting, source = deque[tuple[Shard, int]](), iter(shards)
        running: dict[Any, tuple[Shard, int]] = {}
        more, last_sign = True, time.monotonic()
        try:
            while True:
                while pool.has_room(len(running)) and (waiting or more):
                    if not waiting:
                        shard = next(source, None)
                        if shard is None:
                            more = False
                            break
                        waiting.append((shard, 1))
                    entry = waiting.popleft()
                    running[pool.submit(entry[0])] = entry
                    last_sign = time.monotonic()  # to read a shard may take long
                if not running and not waiting and not more:
                    return
                for ref in pool.wait(list(running), POLL):
                    last_sign = time.monotonic()
                    shard, attempt = running.pop(ref)
                    result = self.collect(ref, shard, attempt, pool)
                    if result is None:
                        waiting.append((shard, attempt + 1))
                        continue
                    yield result
                    if result.disk_full:
                        more = False
                        waiting.clear()
                if self.is_working():
                    last_sign = time.monotonic()
                elif time.monotonic() - last_sign > STALL_SECONDS:
                    raise PricesmithError(
                        "The cluster has stopped working",
                        got=f"no core that is busy for {STALL_SECONDS:.0f} seconds",
                        allowed="nodes that reach each other and this process on all ports",
                        hint="Look at `ray status`, start Ray again, then run the same command again: it resumes.",
                    )
        finally:
            pool.close(list(running))

    def collect(self, ref: Any, shard: Shard, attempt: int, pool: TaskPool | ActorPool) -> ShardResult | None:
        """The result of a finished task; None if it is to run again, because its process or node died."""
        try:
            result: ShardResult = self.ray.get(ref)
            pool.release(ref)
        except self.ray.exceptions.RayTaskError as error:  # before the function began: `run_shard` raises nothing
            pool.release(ref)
            return ShardResult(shard.name, failure=describe_ray_error(error))
        except self.ray.exceptions.RayError as error:
            pool.lose(ref)
            if attempt < ATTEMPTS:
                return None
            failure = f"its process died {ATTEMPTS} times, last with {describe_ray_error(error)}"
            return ShardResult(
                shard.name, failure=failure, hint="Look at `ray logs` on the nodes; memory may be short."
            )
        if difference := result.facts.get("difference"):
            raise differing_node(result.node, difference)
        return result


def run_on_node(work: Work, shard: Shard) -> ShardResult:
    """Run one shard in a process of a node, which is compared with the machine of the command before the first."""
    import ray

    context = ray.get_runtime_context()
    name = ray.util.get_node_ip_address()
    if difference := check_node(work.id, work.check):
        return ShardResult(shard.name, {"difference": difference}, node=name)
    token = MACHINE.set(context.get_node_id()[:12])
    try:
        return run_shard(work.function, work.context, shard, name)
    finally:
        MACHINE.reset(token)


def check_node(id: str, check: NodeCheck) -> str:
    """What is wrong with the node of this process, empty if nothing is; looked at once for each check."""
    import ray

    if id not in CHECKED:
        token = MACHINE.set(ray.get_runtime_context().get_node_id()[:12])
        try:
            CHECKED[id] = check.find_difference()
        finally:
            MACHINE.reset(token)
    return CHECKED[id]


def affinity(node: str) -> Any:
    """The strategy that runs a task on one node and no other."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node_id=node, soft=False)


def describe_ray_error(error: Exception) -> str:
    """A Ray error in one line: that of the cause, without Ray's own stack."""
    cause = getattr(error, "cause", None)
    shown = cause if isinstance(cause, BaseException) else error
    lines = [line for line in str(shown).splitlines() if line.strip()]
    return f"{type(shown).__name__}: {lines[-1].strip() if lines else ''}"[:300]


class TaskPool:
    """One task for each shard, on one core; any free process of the cluster runs it."""

    def __init__(self, cluster: Cluster, work: Any) -> None:
        self.cluster, self.work = cluster, work
        self.task = cluster.ray.remote(num_cpus=1, max_retries=0, scheduling_strategy="SPREAD")(run_on_node)

    def has_room(self, running: int) -> bool:
        """Whether another shard may be sent, with so many on the cluster already."""
        return running < self.cluster.count_cores() + AHEAD

    def submit(self, shard: Shard) -> Any:
        """Send a shard; the reference of its result."""
        return self.task.remote(self.work, shard)

    def wait(self, running: list[Any], seconds: float) -> list[Any]:
        """Those of the running tasks that have ended, after at most so many seconds."""
        if not running:
            time.sleep(min(seconds, 1.0))
            return []
        ended, _ = self.cluster.ray.wait(running, num_returns=1, timeout=seconds)
        return list(ended)

    def release(self, ref: Any) -> None:
        """A task has ended."""

    def lose(self, ref: Any) -> None:
        """The process of a task has died."""

    def close(self, running: list[Any]) -> None:
        """Stop what still runs."""
        for ref in running:
            self.cluster.ray.cancel(ref, force=True)


class ActorPool:
    """One process for each GPU of the cluster, or for each node if no node has any; each runs one shard at a time."""

    def __init__(self, cluster: Cluster, work: Any) -> None:
        self.cluster, self.work = cluster, work
        self.actors: dict[Any, str] = {}  # every actor -> its node
        self.starting: dict[Any, Any] = {}  # reference -> an actor that is not ready yet
        self.idle: list[Any] = []
        self.busy: dict[Any, Any] = {}  # reference -> the actor that runs it

    def start_missing(self) -> None:
        """Start actors on nodes that have room for more."""
        nodes = self.cluster.nodes()
        gpus = any(node["Resources"].get("GPU", 0) >= 1 for node in nodes)
        alive = {node["NodeID"] for node in nodes}
        for actor in [actor for actor, node in self.actors.items() if node not in alive]:
            self.forget(actor)
        for node in nodes:
            resources, name = node["Resources"], node["NodeID"]
            wanted = int(resources.get("GPU", 0)) if gpus else min(1, int(resources.get("CPU", 0)))
            needs = {"num_gpus": 1, "num_cpus": 1} if gpus else {"num_cpus": int(resources.get("CPU", 0))}
            for _ in range(wanted - sum(place == name for place in self.actors.values())):
                actor_class = self.cluster.ray.remote(max_restarts=0, max_task_retries=0, **needs)(ShardActor)
                actor = actor_class.options(scheduling_strategy=affinity(name)).remote()
                self.actors[actor] = name
                self.starting[actor.is_ready.remote()] = actor

    def has_room(self, running: int) -> bool:
        """Whether an actor waits for a shard."""
        self.start_missing()
        return bool(self.idle)

    def submit(self, shard: Shard) -> Any:
        """Send a shard to an idle actor; the reference of its result."""
        actor = self.idle.pop()
        ref = actor.run.remote(self.work, shard)
        self.busy[ref] = actor
        return ref

    def wait(self, running: list[Any], seconds: float) -> list[Any]:
        """Those of the running tasks that have ended, after at most so many seconds. Actors that became ready are
        idle from then on."""
        watched = [*running, *self.starting]
        if not watched:
            time.sleep(min(seconds, 1.0))
            return []
        ended, _ = self.cluster.ray.wait(watched, num_returns=1, timeout=seconds)
        for ref in [ref for ref in ended if ref in self.starting]:
            actor = self.starting.pop(ref)
            try:
                self.cluster.ray.get(ref)
                self.idle.append(actor)
            except self.cluster.ray.exceptions.RayError:
                self.forget(actor)
        return [ref for ref in ended if ref in self.busy]

    def release(self, ref: Any) -> None:
        """A task has ended: its actor is idle."""
        self.idle.append(self.busy.pop(ref))

    def lose(self, ref: Any) -> None:
        """The actor of a task has died."""
        self.forget(self.busy.pop(ref))

    def forget(self, actor: Any) -> None:
        """Count an actor no longer; another is started if there is room."""
        self.actors.pop(actor, None)
        self.idle = [other for other in self.idle if other != actor]

    def close(self, running: list[Any]) -> None:
        """End all actors."""
        for actor in self.actors:
            self.cluster.ray.kill(actor)


class ShardActor:
    """A process that runs shards one after another and keeps its model."""

    def is_ready(self) -> bool:
        """True, once the process has started."""
        return True

    def run(self, work: Work, shard: Shard) -> ShardResult:
        """Run one shard."""
        return run_on_node(work, shard)
