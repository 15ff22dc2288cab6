"""One fitted run of every kind, on the made catalog, shared by the tests of this folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pricesmith.catalog.catalog import Catalog, open_catalog
from pricesmith.pricers import KINDS
from pricesmith.pricers.fitting import fit_model
from pricesmith.pricers.recipes import read_recipe
from pricesmith.testing import make_catalog, make_model

SMALL: dict[str, dict[str, Any]] = {"sparse_mlp": {"ensemble_size": 1, "embedding_dim": 16, "hidden_dim": 16}}
ONE_EACH = {"folds": 2, "ensemble_size": 1, "fold_ensemble_size": 1, "n_forests": 1, "n_estimators": 60}
SMALL["best"] = {**ONE_EACH, **SMALL["sparse_mlp"], "key_dim": 8, "epochs": 3}
SMALL["best"] |= {"tree_learning_rate": 0.1, "num_leaves": 31}
TUNED: dict[str, Any] = {
    "tokens_per_batch": 1024,
    "max_length": 64,
    "learning_rate": 1e-2,
    "minutes": 0,
    "n_evals": 2,
    "lora_r": 8,
}
TUNED["dtype"] = "float32"  # in bf16, how much a batch is padded moves the last digits of a quote


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """The made catalog: 2,000 items in groups, prices of a known law."""
    return open_catalog(make_catalog(tmp_path_factory.mktemp("shop") / "catalog", 2000))


@pytest.fixture(scope="session")
def guesses(shop: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A person's prices for most of the validation and test items, 10 % too high."""
    path = tmp_path_factory.mktemp("person") / "guesses.csv"
    items = [*shop.items("validation"), *shop.items("test")]
    lines = [f"{item.listing.id},{item.price * 1.1:.2f}" for item in items[::2]]
    path.write_text("\n".join(["id,price", *lines, "unreadable,about ten", "made-none,"]), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def runs(shop: Catalog, guesses: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run folder of each kind."""
    folder = tmp_path_factory.mktemp("runs")
    made: dict[str, Path] = {}
    base = make_model(folder / "tiny", numbers="single")
    tuned = {**TUNED, "base": str(base)}
    for kind in sorted(KINDS, key=lambda name: name in ("blend", "cascade")):
        wanted = {
            "lora_tokens": {**tuned, "epochs": 0.5},
            "lora_bins": {**tuned, "epochs": 2, "bins": 32},
            "precomputed": {"file": str(guesses)},
            "blend": {"members": [str(p) for p in made.values()]},
            "cascade": {
                "first": str(made.get("ridge", "")),
                "second": str(guesses),
                "share": 0.3,
                "api_cost_per_1000": 2,
            },
            **SMALL,
        }
        fit_model(read_recipe(kind, wanted.get(kind, {})), shop, folder / kind)
        made[kind] = folder / kind
    return made
