"""A model's price distribution, over whole prices or bins, and the tree of digits that it is built from."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pricesmith.pricers.llm.numbers import Floats, Ints, NumberTokenizer


@dataclass(frozen=True, slots=True)
class PriceDistribution:
    """A price distribution. `values` [n]: ascending prices; `mass` [n]: their probabilities, which sum to 1; `covered`:
    the share of the model's probability mass that was read as these prices; `edges` [n + 1]: of bins."""

    values: Floats
    mass: Floats
    covered: float = 1.0
    edges: Floats | None = None

    def median(self) -> float:
        """The median price."""
        return self.quantile(0.5)

    def quantile(self, q: float) -> float:
        """The lowest price with at least `q` of the mass up to it; interpolated on the log scale inside a bin."""
        cumulative = np.cumsum(self.mass)
        index = min(int(np.searchsorted(cumulative, q * cumulative[-1])), len(self.values) - 1)
        if self.edges is None:
            return float(self.values[index])
        below = cumulative[index] - self.mass[index]
        part = (q * cumulative[-1] - below) / self.mass[index] if self.mass[index] else 0.5
        low, high = self.edges[index], self.edges[index + 1]
        return float(low * (high / low) ** min(max(part, 0.0), 1.0))


@dataclass(frozen=True, slots=True)
class BranchArrays:
    """Branches of the tree: their item, node (row), token (column), number (value) and probability mass, each [n]."""

    item: Ints
    row: Ints
    column: Ints
    value: Ints
    mass: Floats

    def select(self, chosen: NDArray[np.bool_]) -> BranchArrays:
        """The chosen branches, in the same order."""
        item, row, column, value = (part[chosen] for part in (self.item, self.row, self.column, self.value))
        return BranchArrays(item, row, column, value, self.mass[chosen])

    @property
    def numbers(self) -> tuple[Ints, Ints, Floats]:
        """Items, numbers and masses, each [n]."""
        return self.item, self.value, self.mass


@dataclass(frozen=True, slots=True)
class NodeArrays:
    """Prefixes of numbers: their item (ascending if they are followed), value and probability mass, each [n]."""

    item: Ints
    value: Ints
    mass: Floats

    @classmethod
    def empty(cls) -> NodeArrays:
        """No prefixes."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))

    @classmethod
    def from_branches(cls, *branches: BranchArrays) -> NodeArrays:
        """The nodes at the ends of branches."""
        return cls(*(np.concatenate(parts) for parts in zip(*(branch.numbers for branch in branches), strict=True)))

    def grow(self, numbers: NumberTokenizer, chance: Floats, *, first: bool) -> BranchArrays:
        """The branches towards numbers of the range, given the probability of each token after each prefix [n, m]."""
        row, column = np.nonzero(numbers.leads(self.value, first) & (chance > 0))
        value = self.value[row] * 10 ** numbers.width[column] + numbers.value[column]
        return BranchArrays(self.item[row], row, column, value, self.mass[row] * chance[row, column])

    def averages(self, items: int, chance: Floats, over: Floats) -> tuple[Floats, Floats]:
        """The probabilities that an item's prefixes continue with each token, [items, m], and that they end, [items],
        averaged by their mass."""
        total = np.bincount(self.item, self.mass, items)
        shares = np.divide(self.mass, total[self.item], out=np.zeros_like(self.mass), where=total[self.item] > 0)
        average = np.zeros((items, chance.shape[1]))
        np.add.at(average, self.item, shares[:, None] * chance)
        return average, np.bincount(self.item, shares * over, items).astype(np.float64)


class TokenMass:
    """Collects numbers and their probability mass for each item."""

    def __init__(self, numbers: NumberTokenizer, items: int) -> None:
        self.numbers, self.items = numbers, items
        self.parts: list[tuple[Ints, Ints, Floats]] = []
        self.covered = np.zeros(items)

    def add(self, item: Ints, value: Ints, mass: Floats, *, read: bool = True) -> None:
        """Add numbers [n] of items [n] that are inside the range; `read` from the model, or estimated."""
        inside = self.numbers.in_range(value) & (mass > 0)
        self.parts.append((item[inside], value[inside], mass[inside]))
        if read:
            self.covered += np.bincount(item[inside], mass[inside], self.items)

    def distributions(self, least: float) -> list[PriceDistribution | None]:
        """A distribution for each item; None if all its numbers have less than `least` of the mass."""
        item, value, mass = (np.concatenate([part[field] for part in self.parts]) for field in range(3))
        order = np.lexsort((value, item))
        item, value, mass = item[order], value[order], mass[order]
        cuts = np.searchsorted(item, np.arange(self.items + 1))
        distributions: list[PriceDistribution | None] = []
        for number, (start, end) in enumerate(pairwise(cuts.tolist())):
            total = float(mass[start:end].sum())
            if end == start or not total >= least:  # also if the mass is NaN
                distributions.append(None)
                continue
            covered = min(float(self.covered[number]), 1.0)
            distributions.append(PriceDistribution(value[start:end].astype(float), mass[start:end] / total, covered))
        return distributions
