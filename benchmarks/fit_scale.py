"""How long a fit takes and how much memory it holds as the catalog grows: is it linear?

    PRICESMITH_GOODS=goods.jsonl.gz python benchmarks/fit_scale.py --rows 400000,2000000 --recipes ridge,sparse_mlp
    python benchmarks/fit_scale.py --source demo:goods --rows 2000,4000 --recipes ridge

Each catalog of made listings (`made_catalog.py`) is written once; each fit is the command line in a process of its own.
Seconds and memory are those of the whole command, which calibrates the model and indexes comparables after the recipe;
`CPU s` are those of all its processes, `recipe s` is the fit time of the manifest. Memory is the highest of the process
and its children together, sampled 20 times a second; pages of mapped files count.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from curate import tree_memory
from made_catalog import read_goods, write_catalog

COMMAND = str(Path(sys.executable).with_name("pricesmith"))


def measure(recipe: str, catalog: Path, model: Path) -> tuple[float, float, float, float]:
    """Seconds of the command, its CPU seconds, seconds of the recipe, and the highest memory in MB, of one fit."""
    shutil.rmtree(model, ignore_errors=True)
    command = [COMMAND, "fit", recipe, "--catalog", str(catalog), "--to", str(model)]
    started, peak, cpu = time.perf_counter(), 0, children_cpu()
    with subprocess.Popen([*command, "--quiet"], stdout=subprocess.DEVNULL) as child:
        while child.poll() is None:
            peak = max(peak, tree_memory(child.pid))
            time.sleep(0.05)
    if child.returncode:
        raise SystemExit(child.returncode)
    manifest = json.loads((model / "manifest.json").read_text(encoding="utf-8"))
    seconds = time.perf_counter() - started
    return seconds, children_cpu() - cpu, float(manifest["fit_seconds"]), peak / 1e6


def children_cpu() -> float:
    """CPU seconds of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default=os.environ.get("PRICESMITH_GOODS", "demo:goods"))
    parser.add_argument("--rows", default="400000,2000000", help="sizes of the catalogs, separated by commas")
    parser.add_argument("--recipes", default="ridge,sparse_mlp", help="recipes, separated by commas")
    parser.add_argument("--folder", type=Path, help="where catalogs are kept for the next run (default: deleted)")
    options = parser.parse_args()
    real = read_goods(options.source)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        print("| recipe | rows | seconds | CPU s | CPU us a row | recipe s | peak MB | KB a row |")
        print("|---|--:|--:|--:|--:|--:|--:|--:|")
        for rows in map(int, options.rows.split(",")):
            catalog = write_catalog(real, folder / f"catalog-{rows}", rows)
            for recipe in options.recipes.split(","):
                seconds, cpu, fit, peak = measure(recipe, catalog, folder / "model")
                times = f"{seconds:.0f} | {cpu:.0f} | {1e6 * cpu / rows:.0f} | {fit:.0f}"
                figures = f"{times} | {peak:,.0f} | {1e3 * peak / rows:.1f}"
                print(f"| {recipe} | {rows:,} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
