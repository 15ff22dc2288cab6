"""Sets of gradient-boosted trees that are averaged, over a table whose first columns are groups.

grove = grow(table, logs, Soil(groups=12), seeds=(0, 1, 2), watched=(later, truths))
grove.predict(table)                                        # [n]
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
from pricesmith.pricers.features.trees import read_trees

UNWATCHED = 100  # how many trees are safe where there is too little validation to stop by


@dataclass(frozen=True, slots=True)
class TreeParams:
    """How trees grow: columns that are groups, most trees, rate, leaves, and the loss: `l1` or a quantile."""

    groups: int
    trees: int
    rate: float
    leaves: int
    patience: int = 100
    quantile: float | None = None
    least: int = 20  # rows of a leaf

    def told(self, rows: int, seed: int) -> dict[str, Any]:
        """What LightGBM is told. One thread: two that share cores with other work took five times as long."""
        loss = {"objective": "l1"} if self.quantile is None else {"objective": "quantile", "alpha": self.quantile}
        return {
            **loss,
            "metric": "l1" if self.quantile is None else "quantile",
            "learning_rate": self.rate,
            "num_leaves": self.leaves,
            "min_data_in_leaf": max(1, min(self.least, rows // 20)),
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
    """Trees of several seeds; their answers are averaged."""

    def __init__(self, boosters: Sequence[Any]) -> None:
        self.boosters = list(boosters)

    def predict(self, table: F32) -> F64:
        """One answer a row."""
        if not len(table):
            return np.zeros(0)
        told = [booster.predict(table, num_threads=1) for booster in self.boosters]
        return np.asarray(np.mean(told, axis=0), dtype=np.float64)

    @property
    def rounds(self) -> int:
        """Trees of the longest set."""
        return max(int(booster.num_trees()) for booster in self.boosters)

    def save(self, folder: Path) -> None:
        """Each set as a text file in a folder, which is made."""
        folder.mkdir(parents=True, exist_ok=True)
        for number, booster in enumerate(self.boosters):
            (folder / f"trees-{number}.txt").write_text(booster.model_to_string(), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, sets: int) -> TreeEnsemble:
        """The sets that `save` wrote. Raises InputError where one is missing or damaged."""
        return cls([read_trees(folder / name) for name in files_of(sets)])


def files_of(sets: int) -> list[str]:
    """The names of the files of so many sets."""
    return [f"trees-{number}.txt" for number in range(sets)]


def load_booster(text: str) -> Any:
    """A set of trees from its text."""
    import lightgbm as lgb

    return lgb.Booster(model_str=text)


def fit_trees(
    table: F32,
    truths: F64,
    soil: TreeParams,
    seeds: Sequence[int],
    watched: tuple[F32, F64] | None = None,
    rounds: int = 0,
    kept: Callable[[str], Path] | None = None,
    progress: Progress = SILENT,
) -> TreeEnsemble:
    """Trees on a table [n, columns] and truths [n]; they stop early on `watched`, or after `rounds`.

    `kept` says where a set lies once it is grown, and may be found.
    """

    def one(seed: int) -> str:
        path = kept(f"forest-{seed}.txt") if kept else None
        if path and path.is_file():
            return path.read_text(encoding="utf-8")
        text = fit_tree_set(table, truths, soil, seed, watched, rounds)
        if path:
            write_atomic(path, text)
        return text

    boosters = []
    with ThreadPoolExecutor(N_CORES) as pool:
        for text in pool.map(one, seeds):
            boosters.append(load_booster(text))  # as it will be loaded: what is calibrated is what is served
            progress.advance()
    return TreeEnsemble(boosters)


def fit_tree_set(
    table: F32, truths: F64, soil: TreeParams, seed: int, watched: tuple[F32, F64] | None, rounds: int
) -> str:
    """The trees of one seed, as text."""
    import lightgbm as lgb

    told = soil.told(len(truths), seed)
    data = lgb.Dataset(table, truths, params=told, categorical_feature=list(range(soil.groups)))
    how: dict[str, Any] = {"num_boost_round": rounds or min(soil.trees, UNWATCHED)}
    if watched is not None and not rounds:
        seen = lgb.Dataset(watched[0], watched[1], reference=data)
        stop = lgb.early_stopping(soil.patience, verbose=False)
        how = {"num_boost_round": soil.trees, "valid_sets": [seen], "callbacks": [stop]}
    booster = lgb.train(told, data, **how)
    return str(booster.model_to_string(num_iteration=booster.best_iteration))
