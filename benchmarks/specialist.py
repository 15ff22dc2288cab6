"""The specialist's experiment: small real models tuned for the same minutes, judged on the same items.

    python benchmarks/specialist.py --goods goods.jsonl.gz --minutes 20 --work out/specialist
    python benchmarks/specialist.py --goods goods.jsonl.gz --only ridge,sparse_mlp,llama-3b-base,llama-3b-instruct
    python benchmarks/specialist.py --goods goods.jsonl.gz --epochs 3 --items 3000 --work out/epochs      on a GPU

Plain prompt against chat template (SmolLM2 Instruct), `tokens` against `bins` (Gemma 3 270M), tuned against a ridge on
frozen states, Gemma base against SmolLM2 instruct, and what the cheap pricers make of the same items. Every arm is a
model folder under --work, so the same command resumes after an interruption. Prints the leaderboard and the paired
differences.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np

GEMMA, SMOL = "gemma-3-270m", "smollm2-135m-instruct"
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "ridge": ("ridge", {}),
    "sparse_mlp": ("sparse_mlp", {}),
    "gemma-bins": ("lora_bins", {"base": GEMMA}),
    "gemma-tokens": ("lora_tokens", {"base": GEMMA}),
    "smollm2-bins-plain": ("lora_bins", {"base": SMOL, "style": "plain"}),
    "smollm2-bins-chat": ("lora_bins", {"base": SMOL, "style": "chat"}),
}
# Which variant of a larger group tunes better: for a GPU of 24 GB, one pass over all rows, named in --only.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama-3b-base": ("lora_tokens_3b", {}),
    "llama-3b-instruct": ("lora_tokens_3b_instruct", {}),
}
FROZEN = {"frozen-gemma": GEMMA}
PAIRS = (
    ("smollm2-bins-plain", "smollm2-bins-chat"),
    ("gemma-tokens", "gemma-bins"),
    ("frozen-gemma", "gemma-bins"),
    ("gemma-bins", "smollm2-bins-chat"),
    ("gemma-bins", "sparse_mlp"),
    ("llama-3b-base", "llama-3b-instruct"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--goods", required=True, help="a file to curate, with --min-price 0.5 --max-price 999.49")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--epochs", type=float, help="passes over all rows instead of minutes: for a GPU")
    parser.add_argument("--items", type=int, default=1000, help="test items, in an order drawn by group")
    parser.add_argument("--untuned", type=int, default=200, help="test items for the untuned bases, which are slow")
    parser.add_argument("--work", type=Path, default=Path("out/specialist"))
    parser.add_argument("--only", default=",".join((*ARMS, *FROZEN, "untuned")))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--cpu-clock", action="store_true", help="for a busy machine: minutes of one core, not wall")
    asked = parser.parse_args()

    import torch

    from pricesmith.candidates import run_candidates
    from pricesmith.catalog import curate
    from pricesmith.core.console import Console
    from pricesmith.evaluation.leaderboard import build_leaderboard
    from pricesmith.evaluation.results import read_evals
    from pricesmith.pricers import fitting, model
    from pricesmith.pricers.recipes import read_recipe
    from pricesmith.reporting.tables import leaderboard_table

    torch.set_num_threads(asked.threads)
    if asked.cpu_clock:
        by_cpu()
    console, names = Console(), asked.only.split(",")
    started = time.strftime("%Y-%m-%d %H:%M")
    with console.progress() as progress:
        catalog = curate([asked.goods], asked.work / "catalog", min_price=0.5, max_price=999.49)
        for name, (kind, settings) in {**ARMS, **VARIANTS}.items():
            if name not in names:
                continue
            length = {"minutes": 0, "epochs": asked.epochs} if asked.epochs else {"minutes": asked.minutes}
            timed = {**length, **settings} if kind in ("lora_bins", "lora_tokens") else settings
            fitting.fit_model(read_recipe(kind, timed), catalog, asked.work / name, progress=progress)
            progress.note(f"{name}: {model.format_model(model.load_model(asked.work / name))}")
        who = [str(asked.work / name) for name in (*ARMS, *VARIANTS) if name in names]
        run_candidates(who, catalog, asked.work / "evals", limit=asked.items, progress=progress)
        for name, base in FROZEN.items():
            if name in names:
                judge_frozen(name, base, catalog, asked, progress)
        if "untuned" in names:
            few = [*who, *(f"zero-shot:{base}" for base in (GEMMA, SMOL))]
            run_candidates(few, catalog, asked.work / "evals-untuned", limit=asked.untuned, progress=progress)
    clock = f"{asked.minutes} {'CPU minutes' if asked.cpu_clock else 'minutes'}"
    clock = f"{asked.epochs} passes" if asked.epochs else clock
    print(f"{started}, {platform.machine()}, {asked.threads} threads, {clock} of tuning each\n")
    for folder in ("evals", "evals-untuned"):
        if (asked.work / folder).is_dir():
            evals = read_evals(asked.work / folder)
            console.say(leaderboard_table(evals, build_leaderboard(evals)))
    print_pairs(read_evals(asked.work / "evals"))


def by_cpu() -> None:
    """Let the minutes of an arm be CPU time of its one thread: other work on the machine does not shorten it."""
    from types import SimpleNamespace

    from pricesmith.base_models import measure
    from pricesmith.pricers.llm import checkpoints, lora, trainer

    for module in (checkpoints, trainer, lora, measure):
        module.time = SimpleNamespace(perf_counter=time.process_time)  # type: ignore[attr-defined]


def judge_frozen(name: str, base: str, catalog: Any, asked: Any, progress: Any) -> None:
    """A ridge on frozen last-token states of as many training rows as the minutes allow, judged on the same items."""
    from sklearn.linear_model import RidgeCV

    from pricesmith.base_models.measure import ALPHAS, last_token_states
    from pricesmith.core.progress import SILENT
    from pricesmith.core.types import Quote
    from pricesmith.evaluation.run_eval import Candidate, run_eval
    from pricesmith.pricers.llm.pricer import zero_shot_pricer

    low, high = catalog.price_range
    rows = catalog.items("train")
    np.random.default_rng(0).shuffle(rows)  # type: ignore[arg-type]
    model = zero_shot_pricer(base, price_range=(low, high), currency=catalog.currency)
    progress.start(f"states of {base}", len(rows))
    states = last_token_states(model, [item.listing for item in rows], 60 * asked.minutes, progress)
    center, spread = states.mean(0), states.std(0) + 1e-6
    logs = np.log([item.price for item in rows[: len(states)]])
    ridge = RidgeCV(alphas=ALPHAS).fit((states - center) / spread, logs)
    progress.note(f"{name}: a ridge on the states of {len(states):,} training rows")

    class Frozen:
        name = "frozen states + ridge"

        def price(self, listings: Any) -> list[Quote]:
            found = last_token_states(model, listings, math.inf, SILENT)
            prices = np.exp(ridge.predict((found - center) / spread)) if len(found) else []
            return [Quote(float(price)) for price in np.clip(prices, low, high)]

    facts = {"manifest": f"{base} {asked.minutes} minutes", "rows": len(states)}
    run_eval([Candidate(name, "frozen", Frozen(), facts=facts)], catalog, asked.work / "evals", limit=asked.items)


def print_pairs(evals: Any) -> None:
    """The paired differences that the experiment asks about."""
    from pricesmith.evaluation.compare import compare

    named = {one.pricer: one for one in evals.evaluations}
    print("\n| a | b | a - b, MAE (95 % CI) | significant | items needed |\n|---|---|---|---|---|")
    for one, other in PAIRS:
        if one in named and other in named:
            found = compare(named[one], named[other])
            between = f"{found.difference:+.2f} ({found.low:+.2f} to {found.high:+.2f})"
            print(f"| {one} | {other} | {between} | {'yes' if found.is_significant else 'no'} | {found.n_needed} |")
    print(json.dumps({"pricers": sorted(named), "items": len(next(iter(named.values())).rows)}))


if __name__ == "__main__":
    main()
