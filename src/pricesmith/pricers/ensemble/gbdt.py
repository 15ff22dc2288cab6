"""Ensembles of gradient-boosted trees over a table whose first columns are categories.

params = TreeParams(n_categorical=12, n_estimators=1000, learning_rate=0.05, num_leaves=127)
ensemble = fit_trees(table, logs, params, seeds=(0, 1, 2), validation=(later, truths))
ensemble.predict(table)                                        # [n]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pricesmith.core.atomic import write_atomic
from pricesmith.core.progress import SILENT, Progress
from pricesmith.pricers.features.hashing import F32
from pricesmith.pricers.features.knn import F64
from pricesmith.pricers.features.threads import N_CORES
from pricesmith.pricers.features.trees import BoostingCurve, read_trees
from pricesmith.pricers.training_curve import TrainingPoint, write_curve

UNVALIDATED_TREES = 100  # a safe number of trees without enough validation rows for early stopping


@dataclass(frozen=True, slots=True)
class TreeParams:
    """How trees are grown: `n_categorical` leading columns, LightGBM's settings, and the loss: L1 or a quantile."""

    n_categorical: int
    n_estimators: int
    learning_rate: float
    num_leaves: int
    patience: int = 100
    quantile: float | None = None
    min_data_in_leaf: int = 20

    def lightgbm(self, rows: int, seed: int) -> dict[str, Any]:
        """LightGBM's parameters. One thread: two that share cores with other work took five times as long."""
        loss = {"objective": "l1"} if self.quantile is None else {"objective": "quantile", "alpha": self.quantile}
        return {
            **loss,
            "metric": "l1" if self.quantile is None else "quantile",
            "learning_rate": self.learning_rate,
            "num_leaves": self.num_leaves,
            "min_data_in_leaf": max(1, min(self.min_data_in_leaf, rows // 20)),
            "feature_fraction": 0.3,
            "bagging_fraction": 0.7 if rows >= 20 else 1.0,
            "bagging_freq": 1,
            "max_bin": 63,
            "seed": seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "verbosity": -1,
        }


class TreeEnsemble:
    """Boosters of several seeds; their predictions are averaged."""

    def __init__(self, boosters: Sequence[Any]) -> None:
        self.boosters = list(boosters)

    def predict(self, table: F32) -> F64:
        """One prediction for each row [n]."""
        if not len(table):
            return np.zeros(0)
        predictions = [booster.predict(table, num_threads=1) for booster in self.boosters]
        return np.asarray(np.mean(predictions, axis=0), dtype=np.float64)

    @property
    def n_trees(self) -> int:
        """The number of trees of the longest booster."""
        return max(int(booster.num_trees()) for booster in self.boosters)

    def save(self, folder: Path) -> None:
        """Write each booster as a text file into a folder, which is created."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, booster in zip(tree_files(len(self.boosters)), self.boosters, strict=True):
            (folder / name).write_text(booster.model_to_string(), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, count: int) -> TreeEnsemble:
        """The boosters that `save` wrote. Raises InputError if a file is missing or damaged."""
        return cls([read_trees(folder / name) for name in tree_files(count)])


def tree_files(count: int) -> list[str]:
    """The file names of `count` boosters."""
    return [f"trees-{number}.txt" for number in range(count)]


def load_booster(text: str) -> Any:
    """A booster from its text."""
    import lightgbm as lgb

    return lgb.Booster(model_str=text)


def fit_trees(
    table: F32,
    truths: F64,
    params: TreeParams,
    seeds: Sequence[int],
    validation: tuple[F32, F64] | None = None,
    rounds: int = 0,
    checkpoint: Callable[[str], Path] | None = None,
    progress: Progress = SILENT,
    curve_folder: Path | None = None,
) -> TreeEnsemble:
    """Trees on a table [n, columns] and truths [n], with early stopping on `validation`, or exactly `rounds` trees.

    `checkpoint` gives the file of a finished booster, which is read if it exists. The training curve is appended in
    `curve_folder`.
    """

    def fit(seed: int) -> tuple[str, list[TrainingPoint]]:
        path = checkpoint(f"forest-{seed}.txt") if checkpoint else None
        if path and path.is_file():
            return path.read_text(encoding="utf-8"), []
        text, points = fit_booster(table, truths, params, seed, validation, rounds)
        if path:
            write_atomic(path, text)
        return text, points

    boosters = []
    with ThreadPoolExecutor(N_CORES) as pool:
        for text, points in pool.map(fit, seeds):
            boosters.append(load_booster(text))  # as it will be loaded: what is calibrated is what is served
            if curve_folder:
                write_curve(curve_folder, points, append=True)
            progress.advance()
    return TreeEnsemble(boosters)


def fit_booster(
    table: F32, truths: F64, params: TreeParams, seed: int, validation: tuple[F32, F64] | None, rounds: int
) -> tuple[str, list[TrainingPoint]]:
    """The booster of one seed as text, and its training curve; the curve needs validation rows."""
    import lightgbm as lgb

    settings = params.lightgbm(len(truths), seed)
    data = lgb.Dataset(table, truths, params=settings, categorical_feature=list(range(params.n_categorical)))
    curve = BoostingCurve(f"trees {seed + 1}")
    options: dict[str, Any] = {"num_boost_round": rounds or min(params.n_estimators, UNVALIDATED_TREES)}
    if validation is not None and not rounds:
        later = lgb.Dataset(validation[0], validation[1], reference=data)
        options = {"num_boost_round": params.n_estimators, **curve.options(data, later, params.patience)}
    booster = lgb.train(settings, data, **options)
    return str(booster.model_to_string(num_iteration=booster.best_iteration)), curve.points()
