"""Pricing with a small model imports neither torch nor scikit-learn, and the numpy path quotes what torch does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pricesmith.catalog.catalog import Catalog
from pricesmith.pricers.features.hashing import hash_to_buckets
from pricesmith.pricers.fitting import fit_model
from pricesmith.pricers.recipes import read_recipe
from pricesmith.pricers.sparse_mlp import FEW_ROWS, SparseMlpPricer, SparseMlpRecipe

HEAVY = ("torch", "scipy", "sklearn", "pandas", "transformers", "lightgbm", "duckdb")


@pytest.mark.parametrize("kind", ["ridge", "sparse_mlp"])
def test_pricing_one_listing_imports_no_heavy_library(kind: str, shop: Catalog, tmp_path: Path) -> None:
    """In a new process, as `pricesmith price MODEL TEXT` runs."""
    settings = {"ensemble_size": 1, "epochs": 1} if kind == "sparse_mlp" else {}
    fit_model(read_recipe(kind, settings), shop, tmp_path / "model")
    model = str(tmp_path / "model")
    code = (
        "import json, sys\nfrom pricesmith.cli import run\n"
        f"try: run(['price', {model!r}, 'Cobalt cordless drill, 12 kg', '--quiet'])\n"
        "except SystemExit as stop: assert not stop.code\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(process.stdout.splitlines()[-1]) == []


@pytest.mark.parametrize("count", [1, FEW_ROWS, FEW_ROWS + 1, 200])
def test_quotes_equal_the_torch_network(count: int, shop: Catalog, tmp_path: Path) -> None:
    """The network that was trained, computed by torch, gives the same prices within 1e-6."""
    import torch

    from pricesmith.pricers.sparse_training import TrainableNet, sum_embeddings

    recipe = SparseMlpRecipe(ensemble_size=2, embedding_dim=16, hidden_dim=16, epochs=1)
    recipe.fit(shop.items("train")[:400], [], tmp_path)
    pricer = recipe.load(tmp_path)
    assert isinstance(pricer, SparseMlpPricer)
    listings = [item.listing for item in shop.items("train")[:count]]
    rows, outputs = pricer.vocabulary.rows(hash_to_buckets(listings)), []
    for net in pricer.nets:
        torch_net = TrainableNet(**{name: torch.from_numpy(getattr(net, name)) for name in TrainableNet.NAMES})
        sums = sum_embeddings(rows.indices, rows.weights, rows.starts, torch_net.embedding.float())
        outputs.append(torch_net.forward(sums).double().numpy())
    expected = np.exp(np.mean(outputs, axis=0) * pricer.prices.spread + pricer.prices.mean)
    assert [quote.price for quote in pricer.price(listings)] == pytest.approx(expected, rel=1e-6)
