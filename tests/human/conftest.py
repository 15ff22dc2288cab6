"""A made catalog, evaluated models of it, and a person whose lines come from a pipe."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from pricesmith.candidates import run_candidates
from pricesmith.catalog.catalog import Catalog, open_catalog
from pricesmith.cli import run
from pricesmith.pricers.fitting import fit_model
from pricesmith.pricers.recipes import read_recipe
from pricesmith.testing import make_catalog


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a catalog, a median and a ridge model, and their evaluations."""
    folder = tmp_path_factory.mktemp("people")
    catalog = open_catalog(make_catalog(folder / "shop", 2400))
    for kind in ("median", "ridge"):
        fit_model(read_recipe(kind), catalog, folder / kind)
    run_candidates([str(folder / "median"), str(folder / "ridge")], catalog, folder / "evals")
    return folder


@pytest.fixture
def shop(folder: Path) -> Catalog:
    return open_catalog(folder / "shop")


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs `pricesmith` with lines on its standard input; its exit code."""

    def call(lines: list[str], *words: object) -> int:
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        return run([str(word) for word in words])

    return call
