"""Run on the first node by `test_two_nodes.py`: prices a file slowly, or runs shards that go wrong.

    python driver.py price MODEL FILE OUT SECONDS
    python driver.py faults FOLDER OWN_FOLDER

Functions of this script are sent to the nodes as code; what they call of Pricesmith is imported there.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from pricesmith.batch.part_table import PartRows
from pricesmith.cluster import nodes, price_file, tasks
from pricesmith.cluster.shards import Shard, ShardResult
from pricesmith.core.errors import PricesmithError

ADDRESS = "10.231.7.1:6379"


def price(model_path: str, file: str, out: str, seconds: str) -> None:
    """Price a file in shards of 100 rows, each of which takes `seconds` longer; one line of JSON with the counts and
    the numbers of the parts that were sent."""
    from pricesmith.batch.price import price_file as price_rows
    from pricesmith.pricers.model import load_model

    wait, do = float(seconds), price_file.price_parts

    def slowly(work: Any, parts: Any) -> dict[str, Any]:
        time.sleep(wait)
        return do(work, parts)

    sent: list[int] = []
    make_shard = price_file.FileShards.shard

    def record(shards: price_file.FileShards, parts: list[tuple[int, PartRows]]) -> Shard:
        sent.extend(number for number, _ in parts)
        return make_shard(shards, parts)

    price_file.FileShards.shard = record  # type: ignore[assignment, method-assign]
    price_file.price_parts = slowly
    model = load_model(model_path)
    pricing = price_file.price_on_cluster(model, ADDRESS, shard_rows=100)
    facts = price_rows(
        model, model.info, file, Path(out), identity=model.identity, pricing=pricing, part_rows=100, comparables=1
    )
    print(json.dumps({**facts, "sent": sent}))


def misbehave(folders: tuple[str, str], number: int) -> dict[str, Any]:
    """Write a small file; shard 1 raises, shard 2 kills its process, those from 10 on fill the second node's disk."""
    if number == 1:
        raise ValueError("row 17 is broken")
    if number == 2:
        os.kill(os.getpid(), 9)
    if number >= 10:
        time.sleep(0.1)
        (Path(folders[1]) / "large").write_bytes(bytes(1_000_000))
    (Path(folders[0]) / f"{number}.txt").write_text("done")
    return {"number": number, "pid": os.getpid()}


def name_process(context: None, number: int) -> dict[str, Any]:
    """The process that has a shard."""
    return {"number": number, "pid": os.getpid()}


def describe(result: ShardResult) -> dict[str, Any]:
    return {"name": result.name, "failure": result.failure, "node": result.node, **result.facts}


def refused(folders: list[Path]) -> str:
    """The text of the error for these folders."""
    try:
        with tasks.open_cluster(ADDRESS, folders=folders):
            return "accepted"
    except PricesmithError as error:
        return f"exit code {error.exit_code}: {error}"


def faults(folder: str, own: str) -> None:
    """One line of JSON with what became of everything that went wrong."""
    from pricesmith.cluster.connection import connect

    here = Path(folder)
    facts: dict[str, Any] = {}
    with connect(ADDRESS):
        facts["not shared"] = refused([Path(own)])
        real = nodes.describe_programs
        nodes.describe_programs = lambda: real() | {"torch": "1.0.0"}
        facts["other version"] = refused([here])
        nodes.describe_programs = real
        with tasks.open_cluster(ADDRESS, folders=[here]) as cluster:
            shards = [Shard(f"shard {number}", number) for number in (0, 1, 2, 4, 5)]
            facts["poisoned"] = [describe(result) for result in cluster.run(misbehave, (folder, own), shards)]
            full = [Shard(f"shard {number}", number, own) for number in range(10, 90)]
            facts["disk full"] = [describe(result) for result in cluster.run(misbehave, (folder, own), full)]
            many = [Shard(f"shard {number}", number) for number in range(6)]
            facts["actors"] = [describe(result) for result in cluster.run(name_process, None, many, actors=True)]
    print(json.dumps(facts))


if __name__ == "__main__":
    {"price": price, "faults": faults}[sys.argv[1]](*sys.argv[2:])
