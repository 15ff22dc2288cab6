"""LightGBM's trees from their text, checked first: LightGBM ends the whole process on a text that is damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pricesmith.core.model_files import damaged_file, report_damage

HEAD = "tree"
END = "end of trees"
ALLOWED = "the text that LightGBM wrote"
PER_SPLIT = ("split_feature", "threshold", "decision_type", "left_child", "right_child")
PER_LEAF = ("leaf_value",)


def read_trees(path: Path, columns: int | None = None) -> Any:
    """The trees of a text file. Raises InputError where the text is damaged, or is of another number of `columns`."""
    import lightgbm as lgb

    with report_damage(path):
        text = path.read_text(encoding="utf-8")
        check_trees(path, text, columns)
        return lgb.Booster(model_str=text)


def check_trees(path: Path, text: str, columns: int | None = None) -> None:
    """Raises InputError where `text`, which stands in `path`, is not a whole set of trees."""
    header, *trees = text.split("\nTree=")
    facts = fields_of(header)
    if header.split("\n", 1)[0] != HEAD or END not in text:
        raise damaged_file(path, "a text that is cut off or of another kind", allowed=ALLOWED)
    sizes = facts.get("tree_sizes", "").split()
    if len(sizes) != len(trees):
        raise damaged_file(path, f"{len(trees)} trees", allowed=f"{len(sizes)} trees, as its first lines say")
    if facts.get("num_class") != "1" or facts.get("num_tree_per_iteration") != "1":
        raise damaged_file(path, "trees of several classes", allowed="one number for each listing")
    features = int(facts["max_feature_idx"]) + 1
    if columns is not None and features != columns:
        raise damaged_file(path, f"trees over {features} columns", allowed=f"{columns} columns")
    body = text[text.index("\nTree=") + 1 : text.index(END)] if trees else ""
    if [len(part.encode()) for part in pieces_of(body)] != [int(size) for size in sizes]:
        raise damaged_file(path, "trees of another length than the first lines say", allowed=ALLOWED)
    for number, tree in enumerate(trees):
        if reason := fault_of(fields_of(tree.split(END)[0]), features):
            raise damaged_file(path, f"tree {number}: {reason}", allowed=ALLOWED)


def pieces_of(body: str) -> list[str]:
    """The texts of the trees one by one, each with its first line."""
    return [f"Tree={part}" for part in body.split("Tree=")[1:]]


def fields_of(text: str) -> dict[str, str]:
    """Lines `name=value` as a dictionary."""
    pairs = (line.partition("=") for line in text.split("\n"))
    return {name: value for name, equals, value in pairs if equals}


def fault_of(facts: dict[str, str], features: int) -> str:
    """What is wrong with one tree, or an empty text: lengths, columns, the links between nodes, leaves."""
    leaves, categories = int(facts["num_leaves"]), int(facts["num_cat"])
    if leaves < 1 or facts.get("is_linear", "0") != "0":
        return "not a tree of constant leaves"
    counts = dict.fromkeys(PER_SPLIT, leaves - 1) | dict.fromkeys(PER_LEAF, leaves)
    arrays = {name: np.array(facts[name].split(), dtype=np.float64) for name in counts if leaves > 1 or name in facts}
    for name, values in arrays.items():
        if len(values) != counts[name] or not np.isfinite(values).all():
            return f"{name} holds {len(values)} numbers, or some that are not finite"
    for name in ("split_gain", "internal_value", "internal_weight", "internal_count"):
        if name in facts and len(facts[name].split()) != leaves - 1:
            return f"{name} holds {len(facts[name].split())} numbers"
    if leaves == 1:
        return ""
    split, left, right = (arrays[name].astype(int) for name in ("split_feature", "left_child", "right_child"))
    if split.min() < 0 or split.max() >= features:
        return "a split by a column that is not there"
    children, parents = np.concatenate([left, right]), np.tile(np.arange(leaves - 1), 2)
    inner = children >= 0
    if sorted(children[inner]) != list(range(1, leaves - 1)) or sorted(-children[~inner]) != list(range(1, leaves + 1)):
        return "its nodes are not linked to each other once"
    if (children[inner] <= parents[inner]).any():
        return "its nodes form a circle"
    return category_fault(facts, arrays, categories)


def category_fault(facts: dict[str, str], arrays: dict[str, Any], categories: int) -> str:
    """What is wrong with the sets of categories of a tree, or an empty text."""
    by_category = arrays["decision_type"].astype(int) & 1 == 1
    if not categories:
        return "a split by categories that are not there" if by_category.any() else ""
    edges = np.array(facts["cat_boundaries"].split(), dtype=np.int64)
    words = facts["cat_threshold"].split()
    if len(edges) != categories + 1 or edges[0] != 0 or (np.diff(edges) < 0).any() or edges[-1] != len(words):
        return "sets of categories of another length"
    if not all(word.isdigit() and int(word) < 2**32 for word in words):
        return "sets of categories that are not numbers"
    chosen = arrays["threshold"][by_category]
    return "a split by a set that is not there" if ((chosen < 0) | (chosen >= categories)).any() else ""
