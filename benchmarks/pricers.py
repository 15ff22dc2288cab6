"""The cheap pricers side by side: error, ratio to reference_ridge.py, seconds, listings/s and memory.

    python benchmarks/pricers.py --goods goods.jsonl.gz
    python benchmarks/pricers.py --demo --seeds 0 --only ridge,sparse_mlp

Each catalog is curated with split seeds 0, 1 and 2; every pricer and every peer is fitted on the same training rows and
judged on the same test rows, each in a fresh process, one after another. Prints a Markdown table; --json keeps figures.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

SHIPPED = ("median", "ridge", "sparse_mlp", "boosting", "knn")
REFERENCE = "reference_ridge"  # of every ratio; always among the pricers
PEERS = ("lightgbm_tfidf", "sklearn_mlp")
BLENDED = ("ridge", "sparse_mlp", "boosting", "knn")
SCORED = 4_000  # listings in the timing of scores: the test rows, again and again
DRAWS = 2_000


def peak_mb() -> float:
    """The most memory this process has held, in MB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def fit_job(name: str, catalog: Path, run: Path, members: list[str]) -> dict[str, Any]:
    """In a process of its own: fit one recipe into `run`."""
    from pricesmith.catalog.catalog import open_catalog
    from pricesmith.pricers.fitting import fit_model
    from pricesmith.pricers.recipes import read_recipe

    fit_model(read_recipe(name, {"members": members} if members else {}), open_catalog(catalog), run)
    manifest = json.loads((run / "manifest.json").read_text())
    return {"fit_seconds": manifest["fit_seconds"], "fit_mb": peak_mb()}


def score_job(catalog: Path, run: Path, quotes: Path) -> dict[str, Any]:
    """In a process of its own: load `run`, quote the test rows, and time quotes of 4,000 listings."""
    from pricesmith.catalog.catalog import open_catalog
    from pricesmith.pricers.model import load_model

    pricer = load_model(run)
    listings = [item.listing for item in open_catalog(catalog).items("test")]
    return timed(lambda wares: [quote.price for quote in pricer.price(wares)], listings, quotes)


def peer_job(name: str, catalog: Path, quotes: Path) -> dict[str, Any]:
    """In a process of its own: fit a peer, clip its quotes as everybody's, and time it."""
    from peers import PEERS as others
    from pricesmith.catalog.catalog import open_catalog
    from reference_ridge import fit_reference

    warnings.simplefilter("ignore")
    opened = open_catalog(catalog)
    low, high = opened.price_range
    train, listings = opened.items("train"), [item.listing for item in opened.items("test")]
    start = time.perf_counter()
    quote = fit_reference(train) if name == REFERENCE else others[name](train)
    seconds = round(time.perf_counter() - start, 3)
    fit_mb = peak_mb()
    return {
        "fit_seconds": seconds,
        "fit_mb": fit_mb,
        **timed(lambda wares: np.clip(quote(wares), low, high), listings, quotes),
    }


def timed(quote: Any, listings: list[Any], quotes: Path) -> dict[str, Any]:
    """Quotes of the listings to a file; listings quoted in a second, the better of two times, and peak memory."""
    np.save(quotes, np.array(quote(listings), dtype=np.float64))
    many = (listings * (SCORED // len(listings) + 1))[:SCORED]
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        quote(many)
        seconds.append(time.perf_counter() - start)
    return {"per_second": round(len(many) / min(seconds)), "score_mb": peak_mb()}


def job(what: str, *arguments: Any) -> dict[str, Any]:
    """Run one of the jobs in a fresh process."""
    command = [sys.executable, "-W", "ignore", __file__, "--job", json.dumps([what, *map(plain, arguments)])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{what} {arguments}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def run_job(text: str) -> dict[str, Any]:
    """The job that a parent process has asked for."""
    what, *rest = json.loads(text)
    if what == "fit":
        return fit_job(rest[0], Path(rest[1]), Path(rest[2]), rest[3])
    if what == "score":
        return score_job(Path(rest[0]), Path(rest[1]), Path(rest[2]))
    return peer_job(rest[0], Path(rest[1]), Path(rest[2]))


def one_seed(source: str, course: bool, seed: int, work: Path, names: list[str]) -> dict[str, Any]:
    """Every pricer and peer on one split: their figures, their errors, and the groups of the test rows."""
    from pricesmith.catalog import curate

    folder = work / f"seed-{seed}"
    catalog = folder / "catalog"
    opened = curate(
        [source], catalog, min_price=0.5 if course else 0.01, max_price=999.49 if course else None, split_seed=seed
    )
    items, groups = opened.items_and_groups("test")
    truth = np.array([item.price for item in items])
    facts: dict[str, Any] = {}
    errors: dict[str, Any] = {}
    for name in names:
        quotes = folder / f"{name}.npy"
        if name in (*PEERS, REFERENCE):
            facts[name] = job("peer", name, catalog, quotes)
        else:
            members = [str(folder / one) for one in BLENDED if one in names] if name == "blend" else []
            facts[name] = job("fit", name, catalog, folder / name, members)
            facts[name] |= job("score", catalog, folder / name, quotes)
            if members:
                facts[name]["fit_seconds"] += sum(facts[Path(one).name]["fit_seconds"] for one in members)
        errors[name] = np.abs(np.load(quotes) - truth)
        print(f"seed {seed} {name}: {errors[name].mean():.2f} {json.dumps(facts[name])}", file=sys.stderr, flush=True)
    return {"seed": seed, "rows": opened.ledger["rows"], "facts": facts, "errors": errors, "groups": groups}


def ratio(seeds: list[dict[str, Any]], name: str) -> tuple[float, float, float]:
    """Mean over the seeds of error / the reference's error, with a 95 % interval that resamples groups, paired."""
    draw = np.random.default_rng(0)
    points, draws = [], []
    for one in seeds:
        _, codes = np.unique(one["groups"], return_inverse=True)
        sums = [np.bincount(codes, one["errors"][who]) for who in (name, REFERENCE)]
        points.append(sums[0].sum() / sums[1].sum())
        groups = len(sums[0])
        drawn = []
        for _ in range(DRAWS):
            weights = np.bincount(draw.integers(0, groups, groups), minlength=groups)
            drawn.append((weights @ sums[0]) / (weights @ sums[1]))
        draws.append(drawn)
    low, high = np.quantile(np.mean(draws, axis=0), [0.025, 0.975])
    return float(np.mean(points)), float(low), float(high)


def table(seeds: list[dict[str, Any]], names: list[str]) -> tuple[str, list[dict[str, Any]]]:
    """The Markdown table, and its rows as values: means over the seeds, of memory the highest."""
    lines = [
        "| pricer | mean error | x ridge (95 %) | x ridge by seed | fit s | listings/s | fit MB | score MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rows = []
    for name in names:
        error = float(np.mean([one["errors"][name].mean() for one in seeds]))
        point, low, high = ratio(seeds, name)
        own = [float(one["errors"][name].mean() / one["errors"][REFERENCE].mean()) for one in seeds]
        facts = [one["facts"][name] for one in seeds]
        seconds, speed = (float(np.mean([fact[key] for fact in facts])) for key in ("fit_seconds", "per_second"))
        fit_mb, score_mb = (max(fact[key] for fact in facts) for key in ("fit_mb", "score_mb"))
        row = {"pricer": name, "mae": error, "ratio": point, "low": low, "high": high, "ratio_by_seed": own}
        rows.append({**row, "fit_seconds": seconds, "per_second": speed, "fit_mb": fit_mb, "score_mb": score_mb})
        told = " ".join(f"{value:.3f}" for value in own)
        lines.append(
            f"| {name} | {error:.2f} | {point:.3f} ({low:.3f} to {high:.3f}) | {told} "
            f"| {seconds:.1f} | {speed:,.0f} | {fit_mb:,.0f} | {score_mb:,.0f} |"
        )
    return "\n".join(lines), rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--goods", help="a file to curate, with --min-price 0.5 --max-price 999.49")
    parser.add_argument("--demo", action="store_true", help="the demo goods instead, with their whole price range")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--only", default=",".join((*SHIPPED, "blend", *PEERS)), help="pricers and peers, with commas")
    parser.add_argument("--work", help="a folder to work in and keep; none: a temporary one")
    parser.add_argument("--json", help="a file for the figures")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.job:
        print(json.dumps(run_job(asked.job)))
        return
    if bool(asked.goods) == asked.demo:
        parser.error("give --goods FILE or --demo")
    names = [REFERENCE, *(name for name in asked.only.split(",") if name != REFERENCE)]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(asked.work or folder)
        source = "demo:goods" if asked.demo else asked.goods
        seeds = [one_seed(source, not asked.demo, int(seed), work, names) for seed in asked.seeds.split(",")]
    text, rows = table(seeds, names)
    machine = f"{platform.processor() or platform.machine()}, Python {platform.python_version()}"
    tested = " ".join(str(len(one["groups"])) for one in seeds)
    print(f"{time.strftime('%Y-%m-%d')}, {machine}; split seeds {asked.seeds}, test rows {tested}\n\n{text}")
    if asked.json:
        kept = {"date": time.strftime("%Y-%m-%d"), "machine": machine, "source": Path(source).name, "rows": rows}
        Path(asked.json).write_text(json.dumps(kept, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
