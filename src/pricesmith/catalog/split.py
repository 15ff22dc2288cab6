"""Groups go to test, validation or train by a hash of their name, so near-duplicates are never on two sides.

>>> shares_of("auto", 20_000)
Shares(train=18000, validation=1000, test=1000)
>>> shares_of("90/5/5", 1_000)
Shares(train=900, validation=50, test=50)
"""

from __future__ import annotations

import hashlib
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pricesmith.core.errors import InputError, UsageError

FEWEST = 100  # rows; below that a catalog cannot be judged
TRAIN, VALIDATION, TEST = 0, 1, 2  # places in store.SPLITS


class Shares(NamedTuple):
    """How many items each split is to hold."""

    train: int
    validation: int
    test: int


def check_split(split: str) -> tuple[float, float, float] | None:
    """The shares of `--split 90/5/5`, summing to 1; None for `auto`. Raises UsageError for anything else."""
    if split == "auto":
        return None
    try:
        parts = [float(part) for part in split.split("/")]
    except ValueError:
        parts = []
    if len(parts) != 3 or not all(0 < part < 100 for part in parts) or abs(sum(parts) - 100) > 1e-6:
        raise UsageError(
            "--split is auto, or the shares of train, validation and test",
            got=split,
            allowed="three shares above 0 that make 100, for example 90/5/5",
            hint="Leave it out for --split auto.",
        )
    return parts[0] / 100, parts[1] / 100, parts[2] / 100


def parse_split(split: str, rows: int, told: str = "") -> Shares:
    """The sizes of the splits. `auto`: test is max(5 %, min(1,000 items, 20 %)), and validation alike. `told`, where
    given, is what is said of too few rows.

    Raises UsageError for shares that are none, and InputError under 100 rows.
    """
    given = check_split(split)
    if rows < FEWEST:
        raise InputError(
            "Too few rows are left for a catalog",
            got=told or f"{rows:,} rows",
            allowed=f"at least {FEWEST}",
            hint="Give more rows, or a wider price range.",
        )
    if given is None:
        test = max(math.ceil(0.05 * rows), min(1_000, rows // 5))
        return Shares(rows - 2 * test, test, test)
    validation, test = round(given[1] * rows), round(given[2] * rows)
    return Shares(rows - validation - test, validation, test)


def split_groups(
    groups: NDArray[np.uint64],
    sizes: NDArray[np.int64],
    split: str,
    seed: int,
    fixed: NDArray[np.int8] | None = None,
) -> NDArray[np.int8]:
    """The split of every group, as its place in `store.SPLITS`; (groups,). `sizes` are their items.

    Groups come in the order of a hash of seed and group. Each goes to test while it fits there, else to validation
    while it fits there; a group that is too large for what is left is passed over. So each share is exact wherever
    groups are small enough, and the order of the rows plays no part.
    A group whose entry of `fixed` is not negative keeps that split.
    """
    wanted = parse_split(split, int(sizes.sum()))
    left = {TEST: wanted.test, VALIDATION: wanted.validation}
    chosen = np.full(len(groups), TRAIN, dtype=np.int8)
    if fixed is not None:
        chosen = np.maximum(fixed, TRAIN).astype(np.int8)
        left = {side: max(0, size - int(sizes[fixed == side].sum())) for side, size in left.items()}
    for place in np.argsort(draw_groups(seed, groups), kind="stable").tolist():
        if fixed is not None and fixed[place] >= 0:
            continue
        size = int(sizes[place])
        for side in left:
            if size <= left[side]:
                chosen[place] = side
                left[side] -= size
                break
        if not any(left.values()):
            break
    return chosen


def draw_groups(seed: int, hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Other hashes, one for each, made by a seed (the finisher of SplitMix64, Steele and others, 2014)."""
    start = int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:8], "little")
    mixed = hashes ^ np.uint64(start)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))
