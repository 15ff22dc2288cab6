"""The language model's part of the demo, with a tiny base that is tuned in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pricesmith import demo as demo_llm
from pricesmith.catalog.catalog import open_catalog
from pricesmith.core.progress import SILENT
from pricesmith.evaluation import folds
from pricesmith.evaluation.results import read_evals
from pricesmith.pricers import fitting, recipes
from pricesmith.pricers.recipes import read_recipe
from pricesmith.testing import make_catalog, make_model


def read_small_recipe(kind: str, settings: Mapping[str, Any]) -> Any:
    """The recipe; of the language model one that is tuned in seconds, however busy the machine is."""
    recipe: Any = read_recipe(kind, settings)
    small = {"minutes": 0, "epochs": 0.2, "lora_r": 4, "max_length": 64, "n_evals": 1, "head_init_rows": 100}
    return recipe.model_copy(update=small) if kind == demo_llm.TUNED else recipe


def test_the_base_is_evaluated_untuned_tuned_and_blended_on_the_same_items(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two evaluations: a few items for the untuned base and everyone, all items for everyone but the untuned base."""
    monkeypatch.setattr(demo_llm, "BASE", str(make_model(tmp_path / "base")))
    monkeypatch.setattr(recipes, "read_recipe", read_small_recipe)
    monkeypatch.setattr(demo_llm, "UNTUNED_ITEMS", 12)
    monkeypatch.setattr(folds, "MAX_ROWS_FOR_FOLDS", 0)
    catalog, to = open_catalog(make_catalog(tmp_path / "catalog", 900)), tmp_path / "demo"
    for kind in ("ridge", "sparse_mlp"):
        settings = {"ensemble_size": 1, "epochs": 1} if kind == "sparse_mlp" else {}
        fitting.fit_model(read_recipe(kind, settings), catalog, to / "models" / kind)
    result = demo_llm.tune_and_evaluate(to, catalog, [to / "models" / "ridge", to / "models" / "sparse_mlp"], SILENT)
    cheap = {"ridge", "sparse_mlp", demo_llm.TUNED, demo_llm.BLEND_WITH_LLM}
    few, all_items = read_evals(Path(result["evals_untuned"])), read_evals(to / "evals")
    names = {evaluation.pricer for evaluation in few.evaluations}
    assert cheap < names
    assert [name for name in names - cheap if "zero-shot" in name]
    assert {len(evaluation.rows) for evaluation in few.evaluations} == {12}
    assert {evaluation.pricer for evaluation in all_items.evaluations} == cheap
    assert {len(evaluation.rows) for evaluation in all_items.evaluations} == {len(catalog.items("test"))}
