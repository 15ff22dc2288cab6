"""Overhead, efficiency and memory of `price --file --cluster` on a Ray cluster of one machine (Linux, root).

    python benchmarks/cluster.py --rows 400000 [--recipe ridge] [--shard-rows 50000] [--json FILE]

The same file of made rows is priced by one process without Ray, by one node with two cores, and by two nodes with one
core each, in two network namespaces with a token. All outputs must have the same bytes. Then 300 shards that do nothing
give the overhead of a shard. Memory is the sum of the proportional shares (PSS) of all processes of the nodes.

Two cores of one machine say nothing about speed on two machines; the ratio of the last two is the cost of the network
and of a second node.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "cluster"))
SHARDS = 300


def do_nothing(context: None, content: int) -> dict[str, Any]:
    """A shard without work."""
    return {"rows": content}


def drive(model_path: str, file: str, out: str, shard_rows: str, address: str) -> None:
    """On the first node: price the file, then run empty shards; one line of JSON."""
    from pricesmith.batch.price import price_file
    from pricesmith.cluster import price_file as module
    from pricesmith.cluster.shards import Shard, ShardResult
    from pricesmith.cluster.tasks import Cluster, open_cluster
    from pricesmith.pricers.model import load_model

    results: list[ShardResult] = []
    run = Cluster.run

    def record(self: Cluster, *rest: Any, **options: Any) -> Any:
        for result in run(self, *rest, **options):
            results.append(result)
            yield result

    Cluster.run = record  # type: ignore[method-assign]
    model = load_model(model_path)
    began = time.perf_counter()
    pricing = module.price_on_cluster(model, address, int(shard_rows))
    facts = price_file(model, model.info, file, Path(out), identity=model.identity, pricing=pricing)
    seconds, priced = time.perf_counter() - began, list(results)
    began = time.perf_counter()
    with open_cluster(address, folders=[Path(out).parent]) as cluster:
        opened = time.perf_counter() - began
        list(cluster.run(do_nothing, None, [Shard("first", 0)] * 4))  # a new job starts new processes
        began = time.perf_counter()
        list(cluster.run(do_nothing, None, (Shard(str(number), number) for number in range(SHARDS))))
        empty = time.perf_counter() - began
    print(
        json.dumps(
            {
                "rows": facts["rows"],
                "seconds": seconds,
                "shards": len(priced),
                "shard_seconds": [round(result.seconds, 2) for result in priced],
                "open_seconds": opened,
                "overhead_ms": 1000 * empty / SHARDS,
            }
        )
    )


class Memory(threading.Thread):
    """Samples the memory of all processes in some network namespaces until `stop`; bytes."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(daemon=True)
        self.names, self.ended = names, threading.Event()
        self.idle, self.peak = self.measure(), 0

    def measure(self) -> int:
        """The proportional shares of all processes now."""
        total = 0
        for name in self.names:
            listed = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
            for pid in listed.stdout.split():
                try:
                    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
                except OSError:
                    continue
                total += sum(1024 * int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
        return total

    def run(self) -> None:
        """Sample twice a second."""
        while not self.ended.wait(0.5):
            self.peak = max(self.peak, self.measure())

    def stop(self) -> None:
        """End the thread."""
        self.ended.set()
        self.join()


def measure_nodes(cores: tuple[int, int], words: list[str]) -> dict[str, Any]:
    """Price on nodes with so many cores."""
    from two_nodes import ADDRESS, start_two_nodes

    with tempfile.TemporaryDirectory(prefix="ps", ignore_cleanup_errors=True) as folder:
        with start_two_nodes(Path(folder), cores) as nodes:
            memory = Memory(nodes.names)
            memory.start()
            code, out, err = nodes.run([str(Path(__file__).resolve()), "--drive", *words, ADDRESS], seconds=7200)
            memory.stop()
        assert code == 0, err[-3000:]
    facts: dict[str, Any] = json.loads(out.splitlines()[-1])
    return {**facts, "idle_mb": round(memory.idle / 1e6), "peak_mb": round(memory.peak / 1e6)}


def measure_here(model_path: str, file: str, out: str) -> dict[str, Any]:
    """Price by one process, without Ray."""
    from pricesmith.batch.price import price_file
    from pricesmith.pricers.model import load_model

    model = load_model(model_path)
    began = time.perf_counter()
    facts = price_file(model, model.info, file, Path(out), identity=model.identity)
    return {"rows": facts["rows"], "seconds": time.perf_counter() - began}


def main() -> int:
    if sys.argv[1:2] == ["--drive"]:
        drive(*sys.argv[2:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--recipe", default="ridge")
    parser.add_argument("--shard-rows", type=int, default=50_000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    from pricesmith.cli import run
    from pricesmith.testing import make_catalog, make_csv

    with tempfile.TemporaryDirectory(prefix="pricesmith-cluster-") as name:
        folder = Path(name)
        catalog = str(make_catalog(folder / "catalog", 3_000))
        assert run(["fit", given.recipe, "--catalog", catalog, "--to", str(folder / "model"), "--quiet"]) == 0
        make_csv(folder / "new.csv", given.rows, seed=1)
        model, file = str(folder / "model"), str(folder / "new.csv")
        measured = {"one process, no Ray": measure_here(model, file, str(folder / "0.csv"))}
        for number, (title, cores) in enumerate((("1 node, 2 cores", (2, 0)), ("2 nodes, 1 core each", (1, 1))), 1):
            words = [model, file, str(folder / f"{number}.csv"), str(given.shard_rows)]
            measured[title] = measure_nodes(cores, words)
        digests = {hashlib.sha256((folder / f"{number}.csv").read_bytes()).hexdigest() for number in range(3)}
    assert len(digests) == 1, "the outputs differ"
    print(f"{given.rows:,} rows, {given.recipe}, shards of {given.shard_rows:,}; outputs equal: {digests.pop()[:12]}")
    for title, facts in measured.items():
        line = f"{title:22} {facts['seconds']:7.1f} s {1e6 * facts['seconds'] / facts['rows']:7.1f} us a row"
        if "shards" in facts:
            line += (
                f"  overhead {facts['overhead_ms']:.1f} ms a shard, {facts['open_seconds']:.1f} s to connect and check"
            )
            line += (
                f", memory {facts['idle_mb']} MB idle, {facts['peak_mb']} MB peak; shards: {facts['shard_seconds']} s"
            )
        print(line)
    one, two = (measured[title]["seconds"] for title in ("1 node, 2 cores", "2 nodes, 1 core each"))
    print(f"2 nodes x 1 core / 1 node x 2 cores: {two / one:.2f}")
    if given.json:
        given.json.write_text(json.dumps(measured, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
