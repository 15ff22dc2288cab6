"""What a model holds likely about a price: a distribution, whole or in bins, and how it grows from a tree of digits."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pricesmith.pricers.llm.numbers import Floats, Ints, NumberTokenizer


@dataclass(frozen=True, slots=True)
class PriceDistribution:
    """What a model holds likely. `values` [n]: ascending prices; `mass` [n]: their probabilities, summing to 1;
    `covered`: the share of the model's whole mass that was read as these prices; `edges` [n + 1]: of bins."""

    values: Floats
    mass: Floats
    covered: float = 1.0
    edges: Floats | None = None

    def median(self) -> float:
        """The price that the truth is as likely under as over."""
        return self.quantile(0.5)

    def quantile(self, q: float) -> float:
        """The least price with at least `q` of the mass up to it; inside a bin on the log scale."""
        upto = np.cumsum(self.mass)
        place = min(int(np.searchsorted(upto, q * upto[-1])), len(self.values) - 1)
        if self.edges is None:
            return float(self.values[place])
        before = upto[place] - self.mass[place]
        part = (q * upto[-1] - before) / self.mass[place] if self.mass[place] else 0.5
        low, high = self.edges[place], self.edges[place + 1]
        return float(low * (high / low) ** min(max(part, 0.0), 1.0))


@dataclass(frozen=True, slots=True)
class BranchArrays:
    """Tokens that go on from nodes: of which item [n], from which node [n], by which token [n], to which number [n]
    and with what mass [n]."""

    item: Ints
    row: Ints
    column: Ints
    value: Ints
    mass: Floats

    def only(self, chosen: NDArray[np.bool_]) -> BranchArrays:
        """Some of them, in the same order."""
        item, row, column, value = (part[chosen] for part in (self.item, self.row, self.column, self.value))
        return BranchArrays(item, row, column, value, self.mass[chosen])

    @property
    def numbers(self) -> tuple[Ints, Ints, Floats]:
        """Items, numbers and masses."""
        return self.item, self.value, self.mass


@dataclass(frozen=True, slots=True)
class NodeArrays:
    """Prefixes of numbers: of which item [n], ascending where they are followed, what they make [n], with what mass."""

    item: Ints
    value: Ints
    mass: Floats

    @classmethod
    def none(cls) -> NodeArrays:
        """No prefixes."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))

    @classmethod
    def of(cls, *branches: BranchArrays) -> NodeArrays:
        """Where branches lead."""
        return cls(*(np.concatenate(parts) for parts in zip(*(one.numbers for one in branches), strict=True)))

    def grown(self, numbers: NumberTokenizer, chance: Floats, *, first: bool) -> BranchArrays:
        """The branches to numbers of the range, by the chance of each token after each prefix [n, m]."""
        row, column = np.nonzero(numbers.leads(self.value, first) & (chance > 0))
        value = self.value[row] * 10 ** numbers.width[column] + numbers.value[column]
        return BranchArrays(self.item[row], row, column, value, self.mass[row] * chance[row, column])

    def averages(self, items: int, chance: Floats, over: Floats) -> tuple[Floats, Floats]:
        """How an item's prefixes go on, [items, m], and end, [items], on average by their mass."""
        whole = np.bincount(self.item, self.mass, items)
        shares = np.divide(self.mass, whole[self.item], out=np.zeros_like(self.mass), where=whole[self.item] > 0)
        usual = np.zeros((items, chance.shape[1]))
        np.add.at(usual, self.item, shares[:, None] * chance)
        return usual, np.bincount(self.item, shares * over, items).astype(np.float64)


class TokenMass:
    """The numbers that were found so far, with their mass, for each item."""

    def __init__(self, numbers: NumberTokenizer, items: int) -> None:
        self.numbers, self.items = numbers, items
        self.parts: list[tuple[Ints, Ints, Floats]] = []
        self.covered = np.zeros(items)

    def add(self, item: Ints, value: Ints, mass: Floats, *, read: bool = True) -> None:
        """Numbers [n] of items [n], those outside the range left out; `read` from the model, or guessed."""
        inside = self.numbers.in_range(value) & (mass > 0)
        self.parts.append((item[inside], value[inside], mass[inside]))
        if read:
            self.covered += np.bincount(item[inside], mass[inside], self.items)

    def distributions(self, least: float) -> list[PriceDistribution | None]:
        """One for each item; None where all its numbers have under `least` of the mass."""
        item, value, mass = (np.concatenate([part[place] for part in self.parts]) for place in range(3))
        order = np.lexsort((value, item))
        item, value, mass = item[order], value[order], mass[order]
        cuts = np.searchsorted(item, np.arange(self.items + 1))
        found: list[PriceDistribution | None] = []
        for number, (start, end) in enumerate(pairwise(cuts.tolist())):
            whole = float(mass[start:end].sum())
            if end == start or not whole >= least:  # also where the model gave no numbers
                found.append(None)
                continue
            covered = min(float(self.covered[number]), 1.0)
            found.append(PriceDistribution(value[start:end].astype(float), mass[start:end] / whole, covered))
        return found
