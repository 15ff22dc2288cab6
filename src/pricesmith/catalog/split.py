"""Families go to test, validation or train by a hash of their name, so near-duplicates are never on two sides.

    >>> shares_of("auto", 20_000)
    Shares(train=18000, validation=1000, test=1000)
    >>> shares_of("90/5/5", 1_000)
    Shares(train=900, validation=50, test=50)
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import NamedTuple

from pricesmith.errors import InputError, UsageError

FEWEST = 100  # rows; below that a catalog cannot be judged
TOLERANCE = 0.005  # of all rows


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
    whole = sum(parts)
    if len(parts) != 3 or not all(math.isfinite(part) and part > 0 for part in parts) or abs(whole - 100) > 1e-6:
        raise UsageError(
            "--split is auto, or the shares of train, validation and test",
            got=split,
            allowed="three shares above 0 that make 100, for example 90/5/5",
            hint="Leave it out for --split auto.",
        )
    return parts[0] / 100, parts[1] / 100, parts[2] / 100


def shares_of(split: str, rows: int) -> Shares:
    """The sizes of the splits. `auto`: test is max(5 %, min(1,000 items, 20 %)), and validation alike.

    Raises UsageError for shares that are none, and InputError under 100 rows.
    """
    given = check_split(split)
    if rows < FEWEST:
        raise InputError(
            f"{rows} rows are left: too few for a catalog",
            got=f"{rows} rows",
            allowed=f"at least {FEWEST}",
            hint="Give more rows; the reasons of those that were refused stand above.",
        )
    if given is None:
        test = max(math.ceil(0.05 * rows), min(1_000, rows // 5))
        return Shares(rows - 2 * test, test, test)
    validation, test = round(given[1] * rows), round(given[2] * rows)
    return Shares(rows - validation - test, validation, test)


def split_families(sizes: Mapping[str, int], split: str, seed: int) -> dict[str, str]:
    """The split of every family that does not go to train. `sizes` is family -> items.

    Families come in the order of a hash of seed and name. Each goes to test while it fits there, else to validation
    while it fits there; a family that is too large for what is left is passed over. So each share is exact wherever
    families are small enough, and the order of the rows plays no part.
    """
    wanted = shares_of(split, sum(sizes.values()))
    left = {"test": wanted.test, "validation": wanted.validation}
    chosen: dict[str, str] = {}
    for family in sorted(sizes, key=lambda name: draw(seed, name)):
        size = sizes[family]
        for name in left:
            if size <= left[name]:
                chosen[family] = name
                left[name] -= size
                break
        if not any(left.values()):
            break
    return chosen


def draw(seed: int, name: str) -> bytes:
    """Where a name stands in the order that a seed makes."""
    return hashlib.sha256(f"{seed} {name}".encode()).digest()
