"""How fast `price --file` is, how much memory it holds on a long file, and whether it resumes after a kill.

    PRICESMITH_GOODS=goods.jsonl.gz python benchmarks/price_scale.py --rows 5000000
    python benchmarks/price_scale.py --source demo:goods --rows 20000

Writes a JSON Lines file of made listings (`made_catalog.py`), fits a recipe on a made catalog of 60,000 listings, and
prices the file by the command line in a process of its own, which is killed at a third of the parts and started again.
Prints a table: rows per second and per second of processor time (of the process and its children), the seconds that
joining the parts takes, and the highest memory of the process tree in each quarter of the parts: equal numbers show
that memory does not grow with the file.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from curate import tree_memory
from made_catalog import Row, made_rows, read_goods, write_catalog

COMMAND = str(Path(sys.executable).with_name("pricesmith"))
PART_ROWS = 5_000
MODEL_ROWS = 60_000
Figures = dict[str, Any]


def write_file(real: list[Row], rows: int, to: Path) -> None:
    """Write made listings without prices as JSON Lines; a file that is there already is left as it is."""
    if to.exists():
        return
    waiting = to.with_suffix(".tmp")
    with waiting.open("w", encoding="utf-8") as file:
        for row in made_rows(real, rows, seed=7):
            names = {"id": "id", "title": "title", "text": "description", "category": "category", "brand": "brand"}
            file.write(json.dumps({name: row[own] for own, name in names.items()}) + "\n")
    waiting.rename(to)


def run(command: list[str], parts: Path, wanted: int, kill_at: int | None = None) -> Figures:
    """Run a command that writes parts; its seconds, processor seconds, joining seconds and memory by quarter, in MB."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started, last, memory = time.perf_counter(), time.perf_counter(), [0.0] * 4
    count = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as child:
        while child.poll() is None:
            number = sum(1 for _ in parts.glob("part-*.parquet")) if parts.is_dir() else 0
            if number > count:
                count, last = number, time.perf_counter()
            quarter = min(3, 4 * count // wanted)
            memory[quarter] = max(memory[quarter], tree_memory(child.pid) / 1e6)
            if kill_at is not None and count >= kill_at:
                os.killpg(child.pid, signal.SIGKILL)
                break
            time.sleep(0.1)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if child.returncode and kill_at is None:
        raise SystemExit(child.returncode)
    return {
        "seconds": time.perf_counter() - started,
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "join": time.perf_counter() - last,
        "parts": count,
        "memory": memory,
    }


def measure(model: Path, file: Path, to: Path, rows: int) -> list[tuple[str, int, Figures]]:
    """Price the file in two runs, the first of which is killed at a third of the parts."""
    command = [COMMAND, "price", str(model), "--file", str(file), "--to", str(to), "--quiet"]
    parts, wanted = to.with_name(to.name + ".parts"), -(-rows // PART_ROWS)
    first = run(command, parts, wanted, kill_at=max(1, wanted // 3))
    done = first["parts"] * PART_ROWS
    second = run(command, parts, wanted)
    with to.open("rb") as file_handle:
        written = sum(1 for _ in file_handle)
    if written != rows:
        raise SystemExit(f"{written} rows in {to}, not {rows}")
    return [("until the kill", done, first), ("resumed", rows - done, second)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default=os.environ.get("PRICESMITH_GOODS", "demo:goods"))
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--recipe", default="ridge")
    parser.add_argument("--model-rows", type=int, default=MODEL_ROWS)
    parser.add_argument("--folder", type=Path, help="where the files are kept for the next run (default: deleted)")
    options = parser.parse_args()
    real = read_goods(options.source)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        model, file, to = folder / f"model-{options.recipe}", folder / f"in-{options.rows}.jsonl", folder / "out.jsonl"
        catalog = write_catalog(real, folder / f"catalog-{options.model_rows}", options.model_rows)
        fit = [COMMAND, "fit", options.recipe, "--catalog", str(catalog), "--to", str(model)]
        subprocess.run([*fit, "--quiet"], check=True)
        write_file(real, options.rows, file)
        print("| run | rows | seconds | rows/s | rows/s of processor time | join s | MB by quarter of the parts |")
        print("|---|--:|--:|--:|--:|--:|---|")
        for name, rows, figures in measure(model, file, to, options.rows):
            speed, own = rows / figures["seconds"], rows / figures["cpu"]
            memory = " ".join(f"{value:,.0f}" if value else "-" for value in figures["memory"])
            joined = f"{figures['join']:.0f}" if name == "resumed" else ""
            print(f"| {name} | {rows:,} | {figures['seconds']:.0f} | {speed:,.0f} | {own:,.0f} | {joined} | {memory} |")
        to.unlink()


if __name__ == "__main__":
    main()
