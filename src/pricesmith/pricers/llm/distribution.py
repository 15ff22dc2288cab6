"""Price distributions, and the tree of number tokens that they are built from.

A tokenizer writes a whole number digit by digit (Gemma, Qwen, SmolLM), or up to three digits a token (Llama 3):

    1299  ->  "1" "2" "9" "9"      or      "129" "9"

Both split a number into equal pieces from the left, so a number is a path in a tree, and its digits are on the path.
Any other tokenizer is refused, because the probabilities of its numbers could not be added up.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricesmith.core.errors import UsageError
from pricesmith.text.currency import display_sign
from pricesmith.text.prompts import encode_text, format_whole_price

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
WIDTHS = (1, 3)  # digits a token may have
N_PROBES = 2000  # numbers above 999 that are tokenized to find out


class NumberTokenizer:
    """The whole prices `low` to `high` as a tokenizer writes them after the sign of a currency.

    `token`, `width`, `value` [m]: the tokens of digits, with their number of digits and value ("07": 2 and 7).
    `continuations`: ids of tokens that continue a number: they begin with a digit, or with the comma of thousands.
    `depth`: tokens of the longest number. Raises UsageError for other tokenizers.
    """

    def __init__(self, tokenizer: Any, price_range: tuple[float, float], currency: str = "USD") -> None:
        self.low, self.high = (format_whole_price(price) for price in price_range)
        sign = display_sign(currency)
        self.context = encode_text(tokenizer, sign)
        probes = [*range(1, 1000), *np.random.default_rng(0).integers(1000, max(10_000, self.high), N_PROBES).tolist()]
        probes = [number for number in probes if number <= max(999, self.high)]
        token_ids = tokenizer([f"{sign}{n}" for n in probes], add_special_tokens=False, verbose=False)["input_ids"]
        for most in WIDTHS:
            table = self.table(tokenizer, sign, most)
            if table and all(
                list(ids) == self.path(number, table, most) for number, ids in zip(probes, token_ids, strict=True)
            ):
                break
        else:
            raise UsageError(
                "This tokenizer writes numbers neither digit by digit nor up to three digits a token",
                got=f"1234 as {tokenizer.convert_ids_to_tokens(encode_text(tokenizer, f'{sign}1234'))}",
                hint="Choose another base, or tune it with bins (fit lora_bins), which reads no tokens.",
            )
        self.most, self.ids = most, table
        pieces = sorted(table, key=lambda piece: (len(piece), piece))
        self.token = np.array([table[piece] for piece in pieces])
        self.width = np.array([len(piece) for piece in pieces])
        self.value = np.array([int(piece) for piece in pieces])
        self.continuations = continuation_tokens(tokenizer)
        self.depth = -(-len(str(self.high)) // most)

    def table(self, tokenizer: Any, sign: str, most: int) -> dict[str, int]:
        """The token of each string of up to `most` digits; empty if one of them is not one token."""
        pieces = [f"{n:0{width}d}" for width in range(1, most + 1) for n in range(10**width)]
        token_ids = tokenizer([f"{sign}{piece}" for piece in pieces], add_special_tokens=False, verbose=False)[
            "input_ids"
        ]
        start = len(self.context)
        if any(len(ids) != start + 1 or list(ids[:start]) != self.context for ids in token_ids):
            return {}
        return {piece: ids[-1] for piece, ids in zip(pieces, token_ids, strict=True)}

    def path(self, number: int, table: dict[str, int], most: int) -> list[int]:
        """The ids of the sign and a number that is split from the left."""
        digits = str(number)
        return [*self.context, *(table[digits[at : at + most]] for at in range(0, len(digits), most))]

    def encode(self, number: int) -> list[int]:
        """The ids of a whole number after the sign."""
        return self.path(number, self.ids, self.most)[len(self.context) :]

    def leads(self, values: Ints, first: bool) -> NDArray[np.bool_]:
        """Whether each token leads each prefix (0: empty) to a number of the range or towards one [n, m]."""
        values, inverse = np.unique(values, return_inverse=True)  # the batch's items share most prefixes
        numbers = values[:, None] * 10**self.width + self.value
        possible: NDArray[np.bool_] = (numbers >= self.low) & (numbers <= self.high)
        low, high = numbers.copy(), numbers.copy()
        for _ in range(len(str(self.high))):
            low, high = low * 10, high * 10 + 9
            possible |= (low <= self.high) & (high >= self.low)
        # A number does not begin with 0.
        allowed = self.value >= 10 ** (self.width - 1) if first else np.ones(len(self.value), bool)
        leading: NDArray[np.bool_] = (possible & allowed[None, :])[inverse]
        return leading

    def in_range(self, values: Ints) -> NDArray[np.bool_]:
        """Whether each number is a price of the range [n]."""
        return (values >= self.low) & (values <= self.high)


def continuation_tokens(tokenizer: Any) -> list[int]:
    """Ids of tokens that continue a number: they begin with a digit or the comma of thousands."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    return sorted(index for token, index in vocabulary.items() if token[:1] in set("0123456789,"))


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
