"""Where the seconds of tuning and of scoring a language model go, against the operations that they need.

    python benchmarks/llm_profile.py --goods goods.jsonl.gz --base gemma-3-270m

torch's profiler over a few steps of the product's own trainer, and over a few listings of its own pricer. A part
is a kind of operation; its time is the operation's own, on all threads. FLOPs are the profiler's count of matrix
products. The ceiling is the bf16 matmul of this machine in the same call.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from llm_speed import job_of, matmul_tflops
from pricesmith.catalog import curate
from pricesmith.catalog import open as open_catalog
from pricesmith.pricers.llm.batching import Schedule

# The first part whose word is in an operation's name has it.
PARTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("matrix products", ("aten::mm", "aten::bmm", "aten::addmm", "mkldnn_linear", "aten::baddbmm", "dnnl")),
    ("attention", ("attention",)),
    ("optimizer and clipping", ("adam", "_foreach", "lerp", "addcdiv", "addcmul", "linalg_vector_norm")),
    ("softmax and its gradient", ("softmax", "logsumexp", "nll_loss", "cross_entropy")),
    ("casts and copies", ("copy_", "to_copy", "aten::cat", "clone", "contiguous", "index", "gather", "embedding")),
)

OTHER, REST = "norms, activations, sums", "Python and the rest"


def part_of(name: str) -> str:
    """The part that an operation belongs to."""
    return next((part for part, words in PARTS if any(word in name for word in words)), OTHER)


@dataclass
class Seen:
    """What two runs of one work took: `plain` seconds without the profiler, `seconds` and `parts` under it."""

    plain: float
    seconds: float
    parts: Counter[str]
    flops: float


def profiled(work: Callable[[], Any]) -> Seen:
    """Do `work` twice: once by the clock alone, once under the profiler."""
    began = time.perf_counter()
    work()
    plain = time.perf_counter() - began
    with profile(activities=[ProfilerActivity.CPU], with_flops=True) as seen:
        began = time.perf_counter()
        work()
        seconds = time.perf_counter() - began
    parts: Counter[str] = Counter()
    flops = 0.0
    for event in seen.key_averages():
        if event.key.startswith("aten::") or "dnnl" in event.key:
            parts[part_of(event.key)] += event.self_cpu_time_total / 1e6
            flops += event.flops
    parts[REST] = seconds - sum(parts.values())
    return Seen(plain, seconds, parts, flops)


def tuning(what: str, asked: Any, run: Path) -> Seen:
    """Whole optimizer steps of the product's trainer."""
    job = job_of(what, asked, run)
    never = {"epochs": 1.0, "log_every": 10**6, "save_every": 10**6, "n_evals": 1, "eval_items": 0}
    job.trainer.set_schedule(
        Schedule(steps=asked.steps, **never, seconds=0.0, memory_gb=0.0, padding=0.0), 0, warmup_ratio=0.0
    )
    return profiled(job.trainer.train)


def scoring(what: str, asked: Any, run: Path) -> Seen:
    """Listings through the product's pricer, its adapter merged as a run is loaded."""
    job = job_of(what, asked, run)
    job.pricer.model = job.model.merge_and_unload().eval()
    wares = [item.listing for item in open_catalog(asked.catalog).items("validation")[: asked.scored]]
    job.pricer.price(wares[:8])
    return profiled(lambda: job.pricer.price(wares))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--goods", help="a file to curate, with --min-price 0.5 --max-price 999.49; none: the demo goods"
    )
    parser.add_argument("--catalog", help="a finished catalog, instead")
    parser.add_argument("--base", default="gemma-3-270m")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--scored", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    with tempfile.TemporaryDirectory() as folder:
        if asked.catalog is None:
            asked.catalog = str(Path(folder) / "catalog")
            price_range = {"min_price": 0.5, "max_price": 999.49} if asked.goods else {}
            curate([asked.goods or "demo:goods"], Path(asked.catalog), **price_range)  # type: ignore[arg-type]
        ceiling = matmul_tflops("bfloat16")
        print(
            f"{time.strftime('%Y-%m-%d')}, {asked.base}, {asked.threads} threads, bf16 matmul {ceiling:.3f} TFLOP/s\n"
        )
        names = [*(part for part, _ in PARTS), OTHER, REST]
        print(f"| work | seconds | TFLOP | at the ceiling | {' | '.join(names)} |\n|---|{'--:|' * (3 + len(names))}")
        # The first profile of a process makes what it watches three times slower, so one is thrown away.
        for what in ("", "tune tokens", "tune bins", "score tokens", "score bins"):
            run = Path(folder) / what.replace(" ", "-")
            run.mkdir(exist_ok=True)
            seen = (scoring if what.startswith("score") else tuning)(what or "tune tokens", asked, run)
            if not what:
                continue
            shares = " | ".join(f"{seen.parts[name] / seen.seconds:.0%}" for name in names)
            least = seen.flops / 1e12 / ceiling / seen.plain
            print(f"| {what} | {seen.plain:.1f} | {seen.flops / 1e12:.2f} | {least:.0%} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
