"""Simulated evaluations of every kind, as a folder or read back from one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pricesmith.core.types import EvalRow, Evaluation
from pricesmith.evaluation.results import EvalItem, Evals, Near, read_evals, write_evaluation, write_items

ITEMS = 300
TRUTH = np.exp(np.random.default_rng(99).normal(4, 0.8, ITEMS))
Folder = Callable[..., Path]


def evaluated(
    spread: float,
    seed: int = 0,
    *,
    kind: str = "ridge",
    n: int = ITEMS,
    first: int = 0,
    seconds: float = 0.001,
    cost: float = 0.0,
    **meta: Any,
) -> tuple[tuple[EvalRow, ...], dict[str, Any]]:
    """Return the rows of a pricer whose quotes err by a log-normal factor, and the facts of its meta file."""
    made = TRUTH * np.exp(np.random.default_rng(seed).normal(0, spread, ITEMS))
    rows = tuple(
        EvalRow(f"i{i}", float(TRUTH[i]), float(made[i]), seconds=seconds, cost_usd=cost)
        for i in range(first, first + n)
    )
    return rows, {"kind": kind, "fit_seconds": 10.0, "catalog_name": "made", "split": "test", "settings": {}, **meta}


@pytest.fixture
def evals_of(tmp_path: Path) -> Folder:
    """Return a function that writes an evals folder: `evals_of({name: evaluated(...)}, currency="USD")`."""

    def make(pricers: dict[str, Any], *, currency: str = "USD", title: str = "Oak lamp") -> Path:
        folder = tmp_path / "evals"
        folder.mkdir(exist_ok=True)
        near = (Near("t", title, 12.5, 0.9),)
        items = [EvalItem(f"i{i}", f"{title} {i}", "lamps", float(TRUTH[i]), None, 0, near) for i in range(ITEMS)]
        write_items(folder, items, {"format": 1, "catalog": "f" * 64, "split": "test"})
        for name, (rows, facts) in pricers.items():
            write_evaluation(folder, Evaluation(name, "f" * 64, rows, 50.0, currency, (0.5, 9999.0), {}), facts)
        return folder

    return make


@pytest.fixture
def read_of(evals_of: Folder) -> Callable[..., Evals]:
    """Return a function that writes an evals folder and reads it again."""
    return lambda pricers, **more: read_evals(evals_of(pricers, **more))
