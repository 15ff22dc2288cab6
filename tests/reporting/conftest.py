"""Simulated evaluations of every kind, as a folder or read back from one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pricesmith.core.types import EvalRow, Evaluation
from pricesmith.evaluation.cost_curve import CurveConstraint, measure_cost_curve
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


FEE = 0.002


def hybrid_pricers(
    *, share: float = 0.2, fee: float | None = FEE, cost_unit: str = "usd", limit: float = 0.5, unanswered: int = 3
) -> dict[str, Any]:
    """Return the evaluations of an own model, saved answers, and a blend and a cascade of the two.

    The cascade asks about the listings with the largest expected gain; the quotes of both are the geometric mean.
    """
    random = np.random.default_rng(7)
    first, answers = (TRUTH * np.exp(random.normal(0, spread, ITEMS)) for spread in (0.6, 0.4))
    answers[:unanswered] = np.nan
    both = np.where(np.isnan(answers), first, np.sqrt(first * np.nan_to_num(answers, nan=1.0)))
    order = first * random.lognormal(0, 0.3, ITEMS)
    asked = np.argsort(np.argsort(-order)) < round(share * ITEMS)
    fees = np.full(ITEMS, np.nan if fee is None else fee)
    own = cost_unit == "seconds"
    curve = measure_cost_curve(
        TRUTH, first, both, answers, fees, order, asked, np.arange(ITEMS),
        median=50.0, names=("best", "llm_answers"), estimated_fees=not own,
        constraint=CurveConstraint(name="max_seconds_per_1000" if own else "max_cost_per_1000", value=limit),
        cost_unit="seconds" if own else "usd",
    )  # fmt: skip

    def pricer(kind: str, quotes: Any, is_asked: Any = None, **meta: Any) -> tuple[tuple[EvalRow, ...], dict[str, Any]]:
        _, facts = evaluated(0.1, kind=kind, **meta)
        costs = np.zeros(ITEMS) if is_asked is None or own else np.where(is_asked, fees, 0.0)
        rows = tuple(
            EvalRow(
                f"i{i}",
                float(TRUTH[i]),
                None if np.isnan(quotes[i]) else float(quotes[i]),
                seconds=0.001,
                cost_usd=None if np.isnan(costs[i]) else float(costs[i]),
            )
            for i in range(ITEMS)
        )
        if is_asked is not None and not own:
            lost = int((is_asked & np.isnan(answers)).sum())
            counts = {"n": ITEMS, "asked": int(is_asked.sum()), "unanswered": lost}
            facts["asked"] = {**counts, "member": "llm_answers", "estimated_fees": True}
        return rows, facts

    return {
        "best": pricer("stacking", first),
        "llm_answers": pricer("precomputed", answers),
        "blend": pricer("blend", both, np.ones(ITEMS, dtype=bool)),
        "frugal": pricer("cascade", np.where(asked, both, first), asked, cost_curve=curve.to_dict()),
    }


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
