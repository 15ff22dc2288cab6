"""How curate scales: time, CPU, memory and disk on a million and on ten million rows, and whether it finds the groups.

    python benchmarks/scale.py make goods.jsonl.gz [MORE ...] --rows 10000000 --to rows.parquet
    python benchmarks/scale.py run rows.parquet [--to FOLDER]

`make` recombines real sentences: a title of two halves of real ones, and as many real lines and sentences as real
listings have; frequent ones stay frequent. Near-duplicate groups are planted with the sizes that `curate` finds in
the real listings (printed); the members differ in two words of the title and in price. A member has at least 60 words,
so that its similarity to the others is about 0.9. The id `17-2` is the third member of the planted group 17.

`run` measures one curate in a process of its own: seconds, CPU of the process and its children, the largest sum over
these processes of private memory and of mapped pages (every 0.2 s), the disk that the work takes, and the share of
planted groups that are found whole. It prints JSON; the scaling exponent between two runs is
log(seconds / seconds) / log(rows / rows).
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

CHUNK = 50_000  # planted groups that are made at once
MOST_SENTENCES = 40
LEAST_WORDS = 60  # of a listing in a group
COLORS = ("red", "blue", "green", "black", "white", "grey", "brown", "pink", "gold", "navy")
VARIANTS = [f"{color} {size}" for color in COLORS for size in range(100)]
CHILD = """
import json, sys
from pathlib import Path
from pricesmith.catalog import curate
ledger = curate([sys.argv[1]], Path(sys.argv[2])).ledger
print(json.dumps({"rows": ledger["rows"], "groups": ledger["groups"], "fingerprint": ledger["fingerprint"]}))
"""


@dataclass
class RealListings:
    """Parts of real listings, as arrays of text, and the sizes of their groups."""

    heads: pa.Array
    tails: pa.Array
    sentences: pa.Array
    words: Any  # of each sentence
    counts: Any  # sentences of each listing
    categories: pa.Array
    brands: pa.Array
    prices: Any
    sizes: Any


def read_listings(paths: Sequence[str], sizes: Any) -> RealListings:
    """The parts of the listings in JSON Lines files."""
    heads, tails, sentences, counts, categories, brands, prices = [], [], [], [], [], [], []
    for path in paths:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                words = str(row["title"]).split()
                heads.append(" ".join(words[: (len(words) + 1) // 2]))
                tails.append(" ".join(words[(len(words) + 1) // 2 :]))
                pieces = [piece.strip() for piece in re.split(r"\n|(?<=[.!?])\s", str(row.get("description") or ""))]
                pieces = [piece for piece in pieces if piece][:MOST_SENTENCES]
                sentences += pieces
                counts.append(len(pieces))
                categories.append(str(row.get("category") or ""))
                brands.append(str(row.get("brand") or ""))
                prices.append(float(row["price"]))
    lengths = np.array([len(sentence.split()) for sentence in sentences])
    texts = [pa.array(column, pa.string()) for column in (heads, tails, sentences, categories, brands)]
    return RealListings(*texts[:3], lengths, np.array(counts), *texts[3:], np.array(prices), sizes)


def group_sizes(paths: Sequence[str], catalog: Path | None = None) -> Any:
    """The size of each near-duplicate group of real listings, as curate finds them, or has found them in `catalog`."""
    from pricesmith.catalog import curate

    with tempfile.TemporaryDirectory() as folder:
        path = catalog or curate(list(paths), Path(folder) / "real").path
        groups = pq.read_table(path / "items.parquet", columns=["group"])
    return pc.value_counts(groups["group"]).field("counts").to_numpy()


def make_chunk(real: RealListings, first: int, draw: np.random.Generator) -> pa.Table:
    """The rows of `CHUNK` planted groups, which are numbered from `first`."""
    sizes = draw.choice(real.sizes, CHUNK)
    drawn = draw.integers(0, len(real.sentences), (CHUNK, MOST_SENTENCES))
    enough = (np.cumsum(real.words[drawn], axis=1) < LEAST_WORDS).sum(axis=1) + 1
    counts = np.maximum(draw.choice(real.counts, CHUNK), np.where(sizes > 1, enough, 1))
    counts = np.minimum(counts, MOST_SENTENCES)
    chosen = drawn[np.arange(MOST_SENTENCES) < counts[:, None]]
    offsets = pa.array(np.r_[0, np.cumsum(counts)].astype(np.int32))
    texts = pc.binary_join(pa.ListArray.from_arrays(offsets, real.sentences.take(pa.array(chosen))), "\n")
    head, tail, other = (draw.integers(0, len(real.heads), CHUNK) for _ in range(3))
    titles = pc.binary_join_element_wise(real.heads.take(pa.array(head)), real.tails.take(pa.array(tail)), " ")
    group = np.repeat(np.arange(CHUNK), sizes)
    member = np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    variant = pa.array(VARIANTS).take(
        pa.array((member + np.repeat(draw.integers(0, 1_000, CHUNK), sizes)) % len(VARIANTS))
    )
    varied = pc.binary_join_element_wise(titles.take(pa.array(group)), variant, ", ")
    alone = pa.array(sizes[group] == 1)
    prices = real.prices[other][group] * np.exp(draw.normal(0, 0.05, len(group)))
    ids = pc.binary_join_element_wise(
        pa.array(first + group).cast(pa.string()), pa.array(member).cast(pa.string()), "-"
    )
    return pa.table(
        {
            "id": ids,
            "title": pc.if_else(alone, titles.take(pa.array(group)), varied),
            "description": texts.take(pa.array(group)),
            "category": real.categories.take(pa.array(other[group])),
            "brand": real.brands.take(pa.array(other[group])),
            "price": pa.array(np.maximum(np.round(prices, 2), 0.01)),
        }
    )


def make(paths: Sequence[str], rows: int, to: Path, catalog: Path | None = None, seed: int = 0) -> dict[str, Any]:
    """Write a Parquet file of `rows` rows, and say which sizes the planted groups have."""
    sizes = group_sizes(paths, catalog)
    real, draw = read_listings(paths, sizes), np.random.default_rng(seed)
    left, first, writer = rows, 0, None
    while left:
        chunk = make_chunk(real, first, draw).slice(0, left)
        chunk = chunk.take(pa.array(draw.permutation(chunk.num_rows)))
        writer = writer or pq.ParquetWriter(to, chunk.schema, compression="zstd", compression_level=3)
        writer.write_table(chunk, row_group_size=20_000)
        left, first = left - chunk.num_rows, first + CHUNK
    assert writer is not None
    writer.close()
    edges = [1, 2, 3, 5, 10, 20, 50, 1_000_000]
    histogram = {
        f"{low}" if high - low == 1 else f"{low}-{high - 1}": int(((sizes >= low) & (sizes < high)).sum())
        for low, high in itertools.pairwise(edges)
    }
    facts = {"real_listings": int(sizes.sum()), "real_groups": len(sizes), "real_group_sizes": histogram}
    return {**facts, "rows": rows, "file_mb": round(to.stat().st_size / 1e6)}


def memory_of(pid: int) -> tuple[int, int]:
    """Private and mapped bytes that a process and its descendants hold in memory."""
    private, mapped, waiting = 0, 0, [pid]
    while waiting:
        process = waiting.pop()
        try:
            status = Path(f"/proc/{process}/status").read_text()
            sizes = {name: int(kb) for name, kb in re.findall(r"(Rss\w+):\s+(\d+) kB", status)}
            private, mapped = private + sizes["RssAnon"] * 1024, mapped + (sizes["RssFile"] + sizes["RssShmem"]) * 1024
            for task in Path(f"/proc/{process}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError, KeyError):
            continue
    return private, mapped


def unnamed_of(pid: int, folder: Path) -> int:
    """Bytes of the files under a folder that a process has mapped or open and that have no name any more."""
    sizes: dict[int, int] = {}
    try:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            if line.endswith("(deleted)") and str(folder) in line:
                span, _, _, _, number = line.split()[:5]
                start, stop = (int(end, 16) for end in span.split("-"))
                sizes[int(number)] = sizes.get(int(number), 0) + stop - start
        for link in Path(f"/proc/{pid}/fd").iterdir():
            target = os.readlink(link)
            if target.endswith("(deleted)") and target.startswith(str(folder)):
                status = os.stat(link)
                sizes[status.st_ino] = status.st_blocks * 512
    except (FileNotFoundError, ProcessLookupError):
        pass
    return sum(sizes.values())


def disk_of(folder: Path) -> int:
    """Bytes of the files under a folder."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(root, name)).st_blocks * 512
            except FileNotFoundError:
                continue
    return total


class Peaks(threading.Thread):
    """Samples the memory of a process tree and the disk of a folder until it is stopped."""

    def __init__(self, pid: int, folder: Path) -> None:
        super().__init__(daemon=True)
        self.pid, self.folder, self.stopped = pid, folder, threading.Event()
        self.private = self.mapped = self.both = self.disk = 0

    def run(self) -> None:
        count = 0
        while not self.stopped.wait(0.2):
            private, mapped = memory_of(self.pid)
            self.private, self.mapped = max(self.private, private), max(self.mapped, mapped)
            self.both = max(self.both, private + mapped)
            if count % 10 == 0:
                self.disk = max(self.disk, disk_of(self.folder) + unnamed_of(self.pid, self.folder.resolve()))
            count += 1


def run(source: Path, folder: Path) -> dict[str, Any]:
    """Curate a file in a process of its own, and what it cost."""
    command = [sys.executable, "-c", CHILD, str(source), str(folder / "catalog")]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        peaks = Peaks(child.pid, folder)
        peaks.start()
        output, _ = child.communicate()
        peaks.stopped.set()
    if child.returncode:
        raise SystemExit(child.returncode)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    result = json.loads(output)
    rows, cpu = result["rows"]["in"], after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "rows": rows,
        "kept": result["rows"]["kept"],
        "seconds": round(seconds, 1),
        "rows_per_second": round(rows / seconds),
        "cpu_seconds": round(cpu, 1),
        "cpu_us_per_row": round(cpu / rows * 1e6, 1),
        "peak_private_mb": round(peaks.private / 1e6),
        "peak_mapped_mb": round(peaks.mapped / 1e6),
        "peak_both_mb": round(peaks.both / 1e6),
        "input_mb": round(source.stat().st_size / 1e6),
        "peak_disk_mb": round(peaks.disk / 1e6),
        "catalog_mb": round(disk_of(folder / "catalog") / 1e6),
        **compare_groups(folder / "catalog" / "items.parquet"),
        "groups": result["groups"],
        "fingerprint": result["fingerprint"],
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "date": date.today().isoformat(),
    }


def compare_groups(items: Path) -> dict[str, Any]:
    """How many planted groups of several rows there are, and the share of which a catalog's group is the same rows."""
    numbers, names = [], []
    with pq.ParquetFile(items) as file:
        for batch in file.iter_batches(columns=["id", "group"]):  # all of ten million rows would need a gigabyte
            planted = pc.list_element(pc.split_pattern(batch["id"], "-"), 0)
            numbers.append(planted.cast(pa.int32()).to_numpy())
            names.append(np.array([int(name, 16) for name in batch["group"].to_pylist()], dtype=np.uint64))
    planted = np.concatenate(numbers)
    groups = np.unique(np.concatenate(names), return_inverse=True)[1].astype(np.int32)
    sizes = np.bincount(planted)
    pairs = np.unique(planted.astype(np.int64) << 32 | groups.astype(np.int64), return_counts=True)
    whole = pairs[1] == sizes[pairs[0] >> 32]
    pure = np.bincount(groups)[pairs[0] & 0xFFFFFFFF] == pairs[1]
    several = sizes[pairs[0] >> 32] > 1
    count = int((sizes > 1).sum())
    alone = int((sizes == 1).sum())
    return {
        "planted_groups_of_several": count,
        "share_found_whole": round(float((whole & pure & several).sum() / max(1, count)), 5),
        "share_of_single_rows_left_alone": round(float((whole & pure & ~several).sum() / max(1, alone)), 5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make")
    making.add_argument("files", nargs="*", default=[os.environ.get("PRICESMITH_GOODS", "")])
    making.add_argument("--rows", type=int, default=1_000_000)
    making.add_argument("--to", type=Path, required=True)
    making.add_argument("--catalog", type=Path, help="the catalog of these files, if there is one")
    running = commands.add_parser("run")
    running.add_argument("file", type=Path)
    running.add_argument("--to", type=Path, help="an empty folder on the disk to measure; default: a temporary one")
    options = parser.parse_args()
    if options.command == "make":
        if not all(options.files):
            raise SystemExit("Name the files of real rows, or one by PRICESMITH_GOODS.")
        print(json.dumps(make(options.files, options.rows, options.to, options.catalog)), flush=True)
        return
    with tempfile.TemporaryDirectory(dir=options.to) as folder:
        print(json.dumps(run(options.file, Path(folder))), flush=True)


if __name__ == "__main__":
    main()
