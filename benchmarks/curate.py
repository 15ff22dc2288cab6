"""How fast curate is, and how much memory it holds: on the real rows, and on two million made from them.

    PRICESMITH_GOODS=goods.jsonl.gz python benchmarks/curate.py               # the real file once; prints JSON
    PRICESMITH_GOODS=goods.jsonl.gz python benchmarks/curate.py --rows 2000000
    python benchmarks/curate.py --source demo:goods [--rows 2000000]

With --rows the real rows are repeated, each time with 5 to 30 % of the words of title and description dropped and the
price jittered by about 10 %: near-duplicates are far more frequent there than in any real catalog. Peak memory is the
sum over the process and its children, sampled every 50 ms; pages of mapped files count.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

CHILD = """
import json, sys, time
from pathlib import Path
from pricesmith.catalog import curate
start = time.perf_counter()
catalog = curate([sys.argv[1]], Path(sys.argv[2]), **json.loads(sys.argv[3]))
ledger = catalog.ledger
print(json.dumps({"seconds": time.perf_counter() - start, "rows": ledger["rows"], "groups": ledger["groups"]}))
"""


def rows_of(source: str) -> list[dict[str, Any]]:
    """The real rows of a JSON Lines file, or of the demo goods."""
    if source.startswith("demo:"):
        from pricesmith.catalog.demo import read_goods
        from pricesmith.catalog.readers.sources import RawRow

        return [dict(row.values) for batch in read_goods() for row in batch if isinstance(row, RawRow)]
    with gzip.open(source, "rt", encoding="utf-8") as handle:
        return [json.loads(line) for line in handle]


def repeated(real: Sequence[dict[str, Any]], to: Path, rows: int, seed: int = 0) -> None:
    """Write `rows` rows: the real ones, again and again, with words dropped and prices jittered."""
    draw = random.Random(seed)
    with to.open("w", encoding="utf-8") as out:
        for number in range(rows):
            row = dict(real[number % len(real)])
            if number >= len(real):
                rate = draw.uniform(0.05, 0.3)
                row["id"] = f"{row.get('id', number % len(real))}-{number // len(real)}"
                for name in ("title", "description"):
                    lines = str(row[name]).split("\n")
                    kept = [" ".join(w for w in line.split(" ") if draw.random() > rate) for line in lines]
                    row[name] = "\n".join(kept)
                row["price"] = round(float(row["price"]) * draw.lognormvariate(0, 0.1), 2)
            out.write(json.dumps(row) + "\n")


def tree_memory(pid: int) -> int:
    """Bytes that a process and its descendants hold in memory."""
    total, waiting = 0, [pid]
    while waiting:
        one = waiting.pop()
        try:
            total += int(Path(f"/proc/{one}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            for task in Path(f"/proc/{one}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total


def measure(source: str, to: Path, price_range: dict[str, float]) -> dict[str, Any]:
    """Seconds, rows a second and peak memory of one curate in a process of its own."""
    command = [sys.executable, "-c", CHILD, source, str(to), json.dumps(price_range)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        peak = 0
        while child.poll() is None:
            peak = max(peak, tree_memory(child.pid))
            time.sleep(0.05)
        assert child.stdout is not None
        said = child.stdout.read()
    if child.returncode:
        raise SystemExit(child.returncode)
    found: dict[str, Any] = json.loads(said)
    return {
        "source": Path(source).name,
        "rows": found["rows"]["in"],
        "kept": found["rows"]["kept"],
        "seconds": round(found["seconds"], 1),
        "rows_per_second": round(found["rows"]["in"] / found["seconds"]),
        "peak_mb": round(peak / 1e6),
        "groups": found["groups"]["count"],
        "templates_split": found["groups"]["templates_split"],
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 1),
        "date": date.today().isoformat(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default=os.environ.get("PRICESMITH_GOODS", ""))
    parser.add_argument("--rows", type=int, default=0)
    options = parser.parse_args()
    if not options.source:
        raise SystemExit("Name the real rows by PRICESMITH_GOODS, or use --source.")
    with tempfile.TemporaryDirectory() as folder:
        source = options.source
        if options.rows:
            source = str(Path(folder) / f"repeated-{options.rows}.jsonl")
            repeated(rows_of(options.source), Path(source), options.rows)
        price_range = {} if options.source.startswith("demo:") else {"min_price": 0.5, "max_price": 999.49}
        print(json.dumps(measure(source, Path(folder) / "out", price_range)), flush=True)


if __name__ == "__main__":
    main()
