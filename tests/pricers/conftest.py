"""One fitted model of every kind, on a simulated catalog, shared by the tests of this folder in all processes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from pricesmith.catalog.catalog import Catalog, open_catalog
from pricesmith.pricers import KINDS
from pricesmith.pricers.fitting import fit_model
from pricesmith.pricers.recipes import read_recipe
from pricesmith.testing import make_catalog, make_encoder, make_model

SMALL: dict[str, dict[str, Any]] = {"sparse_mlp": {"ensemble_size": 1, "embedding_dim": 16, "hidden_dim": 16}}
ONE_EACH = {"folds": 2, "ensemble_size": 1, "fold_ensemble_size": 1, "n_forests": 1, "n_estimators": 30}
SMALL["best"] = {**ONE_EACH, **SMALL["sparse_mlp"], "key_dim": 8, "epochs": 2}
SMALL["best"] |= {"tree_learning_rate": 0.1, "num_leaves": 31, "estimators": ("ridge",)}
# Members of the blend in every run; with --run-slow each other kind is one.
MEMBERS = ("median", "precomputed", "ridge", "boosting", "sparse_mlp")
TUNED: dict[str, Any] = {
    "tokens_per_batch": 1024,
    "max_length": 64,
    "learning_rate": 1e-2,
    "minutes": 0,
    "n_evals": 1,
    "lora_r": 8,
}
TUNED["dtype"] = "float32"  # in bf16, how much a batch is padded moves the last digits of a quote


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of one test run share (pytest-xdist gives each a temporary folder below it)."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if os.environ.get("PYTEST_XDIST_WORKER") else own) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def shop(shared_folder: Path) -> Catalog:
    """The made catalog: 2,000 items in groups, prices of a known law."""
    with FileLock(shared_folder / "catalog.lock"):
        if not (shared_folder / "catalog").exists():
            make_catalog(shared_folder / "part" / "catalog", 2000).rename(shared_folder / "catalog")
    return open_catalog(shared_folder / "catalog")


@pytest.fixture(scope="session")
def guesses(shop: Catalog, shared_folder: Path) -> Path:
    """A person's prices for most of the validation and test items, 10 % too high."""
    path = shared_folder / "guesses.csv"
    items = [*shop.items("validation"), *shop.items("test")]
    lines = [f"{item.listing.id},{item.price * 1.1:.2f}" for item in items[::2]]
    with FileLock(shared_folder / "guesses.lock"):
        if not path.exists():
            part = path.with_suffix(".part")
            part.write_text("\n".join(["id,price", *lines, "unreadable,about ten", "made-none,"]), encoding="utf-8")
            part.rename(path)
    return path


class FittedModels(Mapping[str, Path]):
    """A model folder of each kind, fitted when it is first asked for, by one of the processes that run the tests.

    The others wait for it. The folders are not to be changed.
    """

    def __init__(self, shop: Catalog, guesses: Path, folder: Path, members: Sequence[str]) -> None:
        self.shop, self.guesses, self.folder, self.members = shop, guesses, folder, members
        folder.mkdir(exist_ok=True)

    def settings(self, kind: str) -> dict[str, Any]:
        """The settings that make a kind small."""
        if kind in ("lora_tokens", "lora_bins"):
            more = {"epochs": 0.1} if kind == "lora_tokens" else {"epochs": 1.2, "bins": 32}
            return {**TUNED, "base": str(self.base()), **more}
        if kind == "encoder":
            small = {
                "hidden_dim": 64,
                "bins": 32,
                "epochs": 6,
                "head_learning_rate": 5e-3,
                "n_evals": 1,
                "minutes": 0,
                "dtype": "float32",
            }
            return {**small, "base": str(self.encoder()), "tokens_per_batch": 1024, "learning_rate": 1e-3}
        if kind == "precomputed":
            return {"file": str(self.guesses)}
        if kind == "blend":
            return {"members": [str(self[name]) for name in self.members]}
        if kind == "cascade":
            return {"first": str(self["ridge"]), "second": str(self.guesses), "share": 0.3, "api_cost_per_1000": 2}
        return SMALL.get(kind, {})

    def base(self) -> Path:
        """The tiny base of the language models."""
        with FileLock(f"{self.folder}/base.lock"):
            if not (self.folder / "base").exists():
                make_model(self.folder / "part", numbers="single").rename(self.folder / "base")
        return self.folder / "base"

    def encoder(self) -> Path:
        """The tiny bidirectional encoder."""
        with FileLock(f"{self.folder}/bidirectional.lock"):
            if not (self.folder / "bidirectional").exists():
                make_encoder(self.folder / "part-bidirectional").rename(self.folder / "bidirectional")
        return self.folder / "bidirectional"

    def __getitem__(self, kind: str) -> Path:
        if kind not in KINDS:
            raise KeyError(kind)
        settings = self.settings(kind)
        with FileLock(f"{self.folder}/{kind}.lock"):
            if not (self.folder / kind / "manifest.json").exists():
                fit_model(read_recipe(kind, settings), self.shop, self.folder / kind)
        return self.folder / kind

    def __iter__(self) -> Iterator[str]:
        return iter(KINDS)

    def __len__(self) -> int:
        return len(KINDS)


@pytest.fixture(scope="session")
def runs(shop: Catalog, guesses: Path, shared_folder: Path, is_thorough: bool) -> Mapping[str, Path]:
    """A model folder of each kind; not to be changed."""
    members = [name for name in KINDS if name not in ("blend", "cascade")] if is_thorough else MEMBERS
    return FittedModels(shop, guesses, shared_folder / "models", members)
