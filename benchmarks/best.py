"""The best pricer against the reference ridge: error, seconds, memory, and how narrow its intervals are.

    python benchmarks/best.py --goods goods.jsonl.gz
    python benchmarks/best.py --demo --seeds 0
    python benchmarks/best.py --goods goods.jsonl.gz --work DIR      # keeps what is fitted; a second call goes on

Each catalog is curated with split seeds 0, 1 and 2; both pricers are fitted on the same training rows and judged on the
same test rows, each in a fresh process. A listing's interval factor is sqrt(high / low): the interval is price x/÷
about that. "Typical" is the median over test listings; the surest half are the listings with the smaller factors.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from pricers import REFERENCE, job, peak_mb, ratio

NAMES = ("ridge", "best")
BANDS = (0.0, 16.0, 32.0, 64.0, 128.0, 256.0, float("inf"))
DECLINED = (1.5, 2.0, 3.0)
TIMED = 1_000  # listings in the timing of scores


def score_job(catalog: Path, run: Path, quotes: Path) -> dict[str, Any]:
    """In a process of its own: load `run`, quote the test rows with intervals, and time 1,000 listings."""
    from pricesmith.catalog.catalog import open_catalog
    from pricesmith.pricers.model import load_model

    pricer = load_model(run)
    listings = [item.listing for item in open_catalog(catalog).items("test")]
    told = pricer.price(listings)
    np.save(quotes, np.array([[quote.price, quote.low, quote.high] for quote in told], dtype=np.float64))
    many = (listings * (TIMED // len(listings) + 1))[:TIMED]
    start = time.perf_counter()
    pricer.price(many)
    return {"per_second": round(TIMED / (time.perf_counter() - start)), "score_mb": peak_mb()}


def scored(catalog: Path, run: Path, quotes: Path) -> dict[str, Any]:
    """`score_job` in a fresh process."""
    command = [sys.executable, "-W", "ignore", __file__, "--job", json.dumps([str(catalog), str(run), str(quotes)])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{run}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def one_seed(source: str, course: bool, seed: int, work: Path, overrides: list[str]) -> dict[str, Any]:
    """Both pricers on one split: their figures, quotes and errors, the truths and the groups of the test rows."""
    from pricesmith.catalog import curate

    folder = work / f"seed-{seed}"
    catalog = folder / "catalog"
    opened = curate(
        [source], catalog, min_price=0.5 if course else 0.01, max_price=999.49 if course else None, split_seed=seed
    )
    items, groups = opened.items_and_groups("test")
    truth = np.array([item.price for item in items])
    one: dict[str, Any] = {"seed": seed, "groups": groups, "truth": truth, "facts": {}, "errors": {}, "quotes": {}}
    reference = folder / f"{REFERENCE}.npy"
    if not reference.is_file():
        job("peer", REFERENCE, catalog, reference)
    one["errors"][REFERENCE] = np.abs(np.load(reference) - truth)
    for name in NAMES:
        facts = folder / f"{name}.json"
        if not facts.is_file():
            recipe = overrides[0] if overrides and name == "best" else name
            found = job("fit", recipe, catalog, folder / name, [])
            facts.write_text(json.dumps(found | scored(catalog, folder / name, folder / f"{name}.npy")))
        one["facts"][name] = json.loads(facts.read_text())
        one["quotes"][name] = np.load(folder / f"{name}.npy")
        one["errors"][name] = np.abs(one["quotes"][name][:, 0] - truth)
        told = f"{one['errors'][name].mean():.2f} {json.dumps(one['facts'][name])}"
        print(f"seed {seed} {name}: {told}", file=sys.stderr, flush=True)
    return one


def intervals(one: dict[str, Any], name: str) -> dict[str, Any]:
    """How often a pricer's intervals hold the truth and how narrow they are, on everything, by half and by band."""
    price, low, high = one["quotes"][name].T
    inside, factor = (low <= one["truth"]) & (one["truth"] <= high), np.sqrt(high / low)
    surest = factor <= np.median(factor)
    found: dict[str, Any] = {
        "coverage": inside.mean(),
        "typical": np.median(factor),
        "mean": np.exp(np.log(factor).mean()),
        "surest_coverage": inside[surest].mean(),
        "surest_typical": np.median(factor[surest]),
        "surest_mean": np.exp(np.log(factor[surest]).mean()),
    }
    for start, end in itertools.pairwise(BANDS):
        here = (price >= start) & (price < end)
        found[f"quotes from {start:g}"] = inside[here].mean() if here.any() else float("nan")
    error, reference = one["errors"][name], one["errors"][REFERENCE]
    for max_interval_ratio in DECLINED:
        kept = factor <= max_interval_ratio
        found[f"kept at {max_interval_ratio:g}"] = kept.mean()
        found[f"ratio at {max_interval_ratio:g}"] = (
            error[kept].mean() / reference[kept].mean() if kept.any() else float("nan")
        )
    return found


def table(seeds: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """The Markdown tables, and their figures."""
    lines = [
        "| pricer | mean error | median | x ridge (95 %) | by seed | fit s | listings/s | fit MB | score MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    figures: dict[str, Any] = {}
    for name in NAMES:
        point, low, high = ratio(seeds, name)
        own = [float(one["errors"][name].mean() / one["errors"][REFERENCE].mean()) for one in seeds]
        error, middle = (float(np.mean([how(one["errors"][name]) for one in seeds])) for how in (np.mean, np.median))
        facts = [one["facts"][name] for one in seeds]
        seconds, speed = (float(np.mean([fact[key] for fact in facts])) for key in ("fit_seconds", "per_second"))
        fit_mb, score_mb = (max(fact[key] for fact in facts) for key in ("fit_mb", "score_mb"))
        each = [intervals(one, name) for one in seeds]
        figures[name] = {"mae": error, "ratio": point, "low": low, "high": high, "ratio_by_seed": own}
        figures[name] |= {"fit_seconds": seconds, "per_second": speed, "fit_mb": fit_mb, "score_mb": score_mb}
        figures[name]["intervals"] = {key: float(np.nanmean([one[key] for one in each])) for key in each[0]}
        told = " ".join(f"{value:.3f}" for value in own)
        lines.append(
            f"| {name} | {error:.2f} | {middle:.2f} | {point:.3f} ({low:.3f} to {high:.3f}) | {told} | {seconds:,.0f} "
            f"| {speed:,.0f} | {fit_mb:,.0f} | {score_mb:,.0f} |"
        )
    lines += ["", "| 90 % intervals | " + " | ".join(NAMES) + " |", "|---|" + "--:|" * len(NAMES)]
    for key in figures["best"]["intervals"]:
        values = [figures[name]["intervals"][key] for name in NAMES]
        is_factor = key.endswith(("typical", "mean"))
        lines.append(f"| {key} | " + " | ".join(f"{v:.2f}" if is_factor else f"{v:.3f}" for v in values) + " |")
    return "\n".join(lines), figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--goods", help="a file to curate, with --min-price 0.5 --max-price 999.49")
    parser.add_argument("--demo", action="store_true", help="the demo goods instead, with their whole price range")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--recipe", help="a .toml file instead of the shipped recipe")
    parser.add_argument("--work", help="a folder to work in and keep; none: a temporary one")
    parser.add_argument("--json", help="a file for the figures")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.job:
        print(json.dumps(score_job(*map(Path, json.loads(asked.job)))))
        return
    if bool(asked.goods) == asked.demo:
        parser.error("give --goods FILE or --demo")
    with tempfile.TemporaryDirectory() as folder:
        work, source = Path(asked.work or folder), "demo:goods" if asked.demo else asked.goods
        own = [asked.recipe] if asked.recipe else []
        seeds = [one_seed(source, not asked.demo, int(seed), work, own) for seed in asked.seeds.split(",")]
    text, figures = table(seeds)
    machine = f"{platform.processor() or platform.machine()}, Python {platform.python_version()}"
    tested = " ".join(str(len(one["groups"])) for one in seeds)
    print(f"{time.strftime('%Y-%m-%d')}, {machine}; split seeds {asked.seeds}, test rows {tested}\n\n{text}")
    if asked.json:
        Path(asked.json).write_text(
            json.dumps({"date": time.strftime("%Y-%m-%d"), "machine": machine, **figures}) + "\n"
        )


if __name__ == "__main__":
    main()
