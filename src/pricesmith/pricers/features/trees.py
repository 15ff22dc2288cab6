"""LightGBM's trees: read from text that is checked first (LightGBM aborts the process on a damaged text), and the curve
of their training."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from pricesmith.core.model_files import damaged_file, report_damage
from pricesmith.pricers.training_curve import TrainingPoint

HEAD = "tree"
END = "end of trees"
ALLOWED = "the text that LightGBM wrote"
PER_SPLIT = ("split_feature", "threshold", "decision_type", "left_child", "right_child")
PER_LEAF = ("leaf_value",)
CURVE_STEP = 10  # trees between two points of a training curve


def read_trees(path: Path, columns: int | None = None) -> Any:
    """The booster of a text file. Raises InputError if the text is damaged, or its number of columns is not
    `columns`."""
    import lightgbm as lgb

    with report_damage(path):
        text = path.read_text(encoding="utf-8")
        check_trees(path, text, columns)
        return lgb.Booster(model_str=text)


def check_trees(path: Path, text: str, columns: int | None = None) -> None:
    """Raise InputError if `text`, the content of `path`, is not a complete booster."""
    header, *trees = text.split("\nTree=")
    fields = parse_lines(header)
    if header.split("\n", 1)[0] != HEAD or END not in text:
        raise damaged_file(path, "a truncated text, or one of another kind", allowed=ALLOWED)
    sizes = fields.get("tree_sizes", "").split()
    if len(sizes) != len(trees):
        raise damaged_file(path, f"{len(trees)} trees", allowed=f"{len(sizes)} trees, as its header says")
    if fields.get("num_class") != "1" or fields.get("num_tree_per_iteration") != "1":
        raise damaged_file(path, "trees of several classes", allowed="one number for each listing")
    features = int(fields["max_feature_idx"]) + 1
    if columns is not None and features != columns:
        raise damaged_file(path, f"trees over {features} columns", allowed=f"{columns} columns")
    body = text[text.index("\nTree=") + 1 : text.index(END)] if trees else ""
    if [len(part.encode()) for part in split_trees(body)] != [int(size) for size in sizes]:
        raise damaged_file(path, "trees whose lengths differ from the header", allowed=ALLOWED)
    for number, tree in enumerate(trees):
        if reason := find_fault(parse_lines(tree.split(END)[0]), features):
            raise damaged_file(path, f"tree {number}: {reason}", allowed=ALLOWED)


def split_trees(body: str) -> list[str]:
    """The text of each tree, with its first line."""
    return [f"Tree={part}" for part in body.split("Tree=")[1:]]


def parse_lines(text: str) -> dict[str, str]:
    """The lines `name=value` of a text as a dictionary."""
    pairs = (line.partition("=") for line in text.split("\n"))
    return {name: value for name, equals, value in pairs if equals}


def find_fault(fields: dict[str, str], features: int) -> str:
    """The first fault of one tree (lengths, columns, links between nodes, leaves), or an empty text."""
    leaves, categories = int(fields["num_leaves"]), int(fields["num_cat"])
    if leaves < 1 or fields.get("is_linear", "0") != "0":
        return "not a tree of constant leaves"
    counts = dict.fromkeys(PER_SPLIT, leaves - 1) | dict.fromkeys(PER_LEAF, leaves)
    arrays = {name: np.array(fields[name].split(), dtype=np.float64) for name in counts if leaves > 1 or name in fields}
    for name, values in arrays.items():
        if len(values) != counts[name] or not np.isfinite(values).all():
            return f"{name} holds {len(values)} numbers, or numbers that are not finite"
    for name in ("split_gain", "internal_value", "internal_weight", "internal_count"):
        if name in fields and len(fields[name].split()) != leaves - 1:
            return f"{name} holds {len(fields[name].split())} numbers"
    if leaves == 1:
        return ""
    split, left, right = (arrays[name].astype(int) for name in ("split_feature", "left_child", "right_child"))
    if split.min() < 0 or split.max() >= features:
        return "a split on a missing column"
    children, parents = np.concatenate([left, right]), np.tile(np.arange(leaves - 1), 2)
    inner = children >= 0
    if sorted(children[inner]) != list(range(1, leaves - 1)) or sorted(-children[~inner]) != list(range(1, leaves + 1)):
        return "its nodes do not form a tree"
    if (children[inner] <= parents[inner]).any():
        return "its nodes form a cycle"
    return find_category_fault(fields, arrays, categories)


def find_category_fault(fields: dict[str, str], arrays: dict[str, Any], categories: int) -> str:
    """The first fault of the category sets of a tree, or an empty text."""
    by_category = arrays["decision_type"].astype(int) & 1 == 1
    if not categories:
        return "a split on missing categories" if by_category.any() else ""
    edges = np.array(fields["cat_boundaries"].split(), dtype=np.int64)
    words = fields["cat_threshold"].split()
    if len(edges) != categories + 1 or edges[0] != 0 or (np.diff(edges) < 0).any() or edges[-1] != len(words):
        return "category sets of a wrong length"
    if not all(word.isdigit() and int(word) < 2**32 for word in words):
        return "category sets that are not numbers"
    chosen = arrays["threshold"][by_category]
    return "a split on a missing category set" if ((chosen < 0) | (chosen >= categories)).any() else ""


class BoostingCurve:
    """Records the training curve of LightGBM: L1 loss on the training rows and MAE in money on validation rows."""

    def __init__(self, series: str) -> None:
        self.series, self.started = series, time.perf_counter()
        self.history: dict[str, dict[str, list[float]]] = {}
        self.seconds: list[float] = []

    def options(self, train: Any, validation: Any, patience: int) -> dict[str, Any]:
        """Arguments for `lightgbm.train`: early stopping by the first metric on validation, and the recording."""
        import lightgbm as lgb

        def mae(logs: Any, data: Any) -> tuple[str, float, bool]:
            return "mae", float(np.abs(np.exp(np.minimum(logs, 300)) - np.exp(data.get_label())).mean()), False

        return {
            "valid_sets": [train, validation],
            "valid_names": ["training", "validation"],
            "feval": mae,
            "callbacks": [
                lgb.early_stopping(patience, first_metric_only=True, verbose=False),
                lgb.record_evaluation(self.history),
                lambda _: self.seconds.append(time.perf_counter() - self.started),
            ],
        }

    def points(self) -> list[TrainingPoint]:
        """Every tenth step and the last one; none if nothing was recorded."""
        losses = next((values for name, values in self.history.get("training", {}).items() if name != "mae"), [])
        errors = self.history.get("validation", {}).get("mae", [])
        return [
            TrainingPoint(
                series=self.series,
                step=step,
                train_loss=float(f"{losses[step - 1]:.5g}"),
                validation_mae=float(f"{errors[step - 1]:.6g}"),
                seconds=round(self.seconds[min(step, len(self.seconds)) - 1], 2),
            )
            for step in range(1, len(losses) + 1)
            if step % CURVE_STEP == 0 or step in (1, len(losses))
        ]
