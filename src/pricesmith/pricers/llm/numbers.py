"""How a tokenizer writes whole numbers: digit by digit (Gemma, Qwen, SmolLM), or up to three digits a token (Llama 3).

    1299  ->  "1" "2" "9" "9"      or      "129" "9"

Both split a number into equal pieces from the left, so a number is a path in a tree, and its digits are on the path.
Any other tokenizer is refused, because the probabilities of its numbers could not be added up.
"""

from __future__ import annotations

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
