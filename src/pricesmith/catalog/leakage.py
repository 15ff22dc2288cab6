"""Columns that give the price away by what they hold: one that is the price, or makes it with another column.

One raw row: {"name": "990 Pro", "price": 149.99, "capacity": 2000, "unit": 0.075}

The rule: a column which itself, or whose product or quotient with another numeric column, is within 2 % of
the price in over half of the rows where all of them are present; or which, with a hundred different values or
more, is the price times one and the same number (with tax, in cents, in another currency). Of several numbers
in a cell the nearest to the price counts. Where it takes two columns, it is enough
that one of them stays out: the one with more different values, since it is the one worked out from the
price, and the other is a fact of the thing. The first 20,000 rows with a price are looked at; the reason
says how many.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from pricesmith.catalog.row_price import read_price
from pricesmith.text.currency import CODES
from pricesmith.text.price_parser import parse_price

if TYPE_CHECKING:
    from pricesmith.catalog.columns import ColumnMap
    from pricesmith.catalog.readers.sources import BadRow, RawRow

SAMPLE = 20_000  # rows
NEAR = 0.02  # of the price
SHARE = 0.5  # of the rows where the columns are present
MANY = 100  # different values of a column that is a multiple of the price
FEWEST = 5  # rows, below which a share says nothing
PAIRED = 64  # columns whose pairs are tried: the ones with most numbers
RANKED = 0.995  # rank correlation with the price; carats reach 0.96 on diamonds
RANKED_ROWS = 200  # below which such a correlation may be chance
CONVERTED = 0.5  # rank correlation of a column that is named like a currency
POSITIONS = 4  # numbers of a cell that are looked at one by one
FIRST_LOOK = 1_000  # rows that choose the pairs worth a full look

LOOKED_AT = 300  # characters of a cell with several numbers
ANY = re.compile(r"(?<![\w.,])[1-9][0-9]*(?:\.[0-9]+)?(?![\w.,])", re.ASCII)
COMMA = re.compile(r"(?<![\w.,])([0-9]{1,3}(?:\.[0-9]{3})+|[0-9]+)(?:,([0-9]+))?(?![\w.,]*[0-9])", re.ASCII)
MEASURE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*[a-zA-Z%°\"']{0,8}", re.ASCII)


def find_leaks(batches: Iterable[Sequence[RawRow | BadRow]], columns: ColumnMap, marks: str = ".") -> dict[str, str]:
    """The columns of `columns.extra` that give the price away by their values, each with the reason.

    `marks` are the decimal marks of the file's prices, which its other numbers are read by too.

    Reads batches only as far as the sample needs. `choose_columns` has checked their names.
    """
    import numpy as np

    names = [*columns.extra]
    prices: list[float] = []
    cells: list[list[float]] = [[] for _ in names]
    lists: list[list[list[float]]] = [[] for _ in names]
    nan = float("nan")
    for batch in batches:
        for row in batch:
            values = getattr(row, "values", None)
            if values is None or isinstance(price := read_price(values, columns, marks=marks)[0], str):
                continue
            prices.append(price[0])
            for held, several, name in zip(cells, lists, names, strict=True):
                value = values.get(name)
                several.append(numbers_in(value))
                held.append(nan if value is None or value == "" else cell_number(value, price[0], marks))
        if len(prices) >= SAMPLE:
            break
    if len(prices) < FEWEST or not names:
        return {}
    table, target = np.array(cells, dtype=np.float64)[:, :SAMPLE], np.array(prices[:SAMPLE])
    leaks = leaks_in_table(names, table, target)
    for place, name in enumerate(names):
        if name not in leaks and (reason := ranks_of(name, table[place], lists[place][:SAMPLE], target)):
            leaks[name] = reason
    return {name: leaks[name] for name in names if name in leaks}


def ranks_of(name: str, values: Any, lists: Sequence[Sequence[float]], prices: Any) -> str:
    """Why a column gives the price away by its order: the whole cell, one of the numbers in a cell by position, or a
    currency's name over numbers that rise with the price. An empty text where it does not."""
    import numpy as np

    rank, rows = rank_correlation(values, prices)
    if abs(rank) >= RANKED and rows >= RANKED_ROWS:
        return f"leak: rank correlation {rank:.3f} with the price in {rows:,} sampled rows"
    if name.strip().upper() in CODES and rank >= CONVERTED:
        return f"leak: {name} is a currency, and its numbers rise with the price (rank correlation {rank:.2f})"
    for position in range(POSITIONS):
        numbers = np.array(
            [numbers_of_cell[position] if len(numbers_of_cell) > position else np.nan for numbers_of_cell in lists],
            dtype=np.float64,
        )
        rank, rows = rank_correlation(numbers, prices)
        if abs(rank) >= RANKED and rows >= RANKED_ROWS:
            return f"leak: number {position + 1} in its cells has rank correlation {rank:.3f} with the price"
    return ""


def rank_correlation(values: Any, prices: Any) -> tuple[float, int]:
    """Spearman's rank correlation and the rows where both are there; 0 where too few values differ."""
    import numpy as np
    from scipy.stats import rankdata

    present = np.isfinite(values)
    rows = int(present.sum())
    if rows < FEWEST or len(np.unique(values[present])) < min(MANY, rows // 2):
        return 0.0, rows
    a, b = rankdata(values[present]), rankdata(prices[present])
    return (float(np.corrcoef(a, b)[0, 1]), rows) if a.std() > 0 and b.std() > 0 else (0.0, rows)


def numbers_in(value: object) -> list[float]:
    """The first numbers of a cell that holds several, by position."""
    matches = ANY.findall(value[:LOOKED_AT]) if isinstance(value, str) else []
    return [float(number) for number in matches[:POSITIONS]] if len(matches) > 1 else []


def cell_number(value: object, price: float, marks: str = ".") -> float:
    """A cell as a positive number, NaN where it is none. A unit behind it ("2000 GB") is passed over; of several
    numbers ("Now 8.22 was 9.99") the nearest to the price is taken."""
    if isinstance(value, bool):
        return float("nan")
    if marks == "," and isinstance(value, str):
        value = COMMA.sub(with_point, value[:LOOKED_AT])
    if isinstance(value, str) and (measure := MEASURE.fullmatch(value.strip()[:40])):
        amount = float(measure[1])
        return amount if amount > 0 else float("nan")
    parsed = parse_price(value, marks="." if marks == "," else marks)
    if not isinstance(parsed, str):
        return parsed[0]
    numbers = ANY.findall(value[:LOOKED_AT]) if isinstance(value, str) else []
    return min(map(float, numbers), key=lambda number: abs(math.log(number / price)), default=float("nan"))


def with_point(number: re.Match[str]) -> str:
    """A number with a decimal comma as one with a decimal point: `1.299,50` is `1299.50`."""
    return number[1].replace(".", "") + (f".{number[2]}" if number[2] else "")


def leaks_in_table(names: Sequence[str], table: Any, prices: Any) -> dict[str, str]:
    """The leaks among `names`. `table` is (columns, rows), NaN for what is no number; `prices` is (rows,)."""
    import numpy as np

    with np.errstate(all="ignore"):
        logs, target = np.log(table), np.log(prices)
    leaks: dict[str, str] = {}
    filled = np.isfinite(logs).sum(axis=1)
    for place, name in enumerate(names):
        share, rows = near_share(logs[place], target)
        if share > SHARE:
            leaks[name] = f"leak: within 2 % of the price in {share:.0%} of {rows:,} sampled rows"
        elif times := constant_multiple(logs[place], target):
            leaks[name] = f"leak: {times:.4g} times the price in over half of {rows:,} sampled rows"
    rest = [place for place in np.argsort(-filled, kind="stable") if filled[place] >= FEWEST]
    rest = [place for place in rest if names[place] not in leaks][:PAIRED]
    different = {place: len(np.unique(table[place][np.isfinite(table[place])])) for place in rest}
    pairs = []
    for order, a in enumerate(rest):
        for b in rest[order + 1 :]:
            for sign, values in combinations(logs[a], logs[b], table[a], table[b]):
                first, _ = near_share(values[:FIRST_LOOK], target[:FIRST_LOOK], fewest=1)
                if first < SHARE / 2 and filled[[a, b]].min() > FEWEST * 4 and first >= 0:
                    continue
                share, rows = near_share(values, target)
                if share > SHARE:
                    pairs.append((share, rows, sign, a, b))
    for share, rows, sign, a, b in sorted(pairs, key=lambda pair: -pair[0]):
        if names[a] in leaks or names[b] in leaks:
            continue
        out, other = (a, b) if (different[a], a) > (different[b], b) else (b, a)
        kind = {"x": "product", "÷": "quotient", "+": "sum", "-": "difference"}[sign]
        how = f"its {kind} with {names[other]}"
        leaks[names[out]] = f"leak: {how} is within 2 % of the price in {share:.0%} of {rows:,} sampled rows"
    return {name: leaks[name] for name in names if name in leaks}


def constant_multiple(logs: Any, target: Any) -> float:
    """The number by which the price is multiplied in over half of the rows to within 2 %, 0 where there is none.

    A weight may be one, of what is sold by weight; so only a column of many different values is.
    """
    import numpy as np

    present = np.isfinite(logs)
    if len(np.unique(logs[present])) < MANY:
        return 0.0
    over = logs[present] - target[present]
    middle = float(np.median(over))
    steady = float((np.abs(np.expm1(over - middle)) <= NEAR).mean())
    return float(np.exp(middle)) if steady > SHARE else 0.0


def combinations(a: Any, b: Any, x: Any, y: Any) -> list[tuple[str, Any]]:
    """The logarithms of x times y, x over y, y over x, x + y and |x - y|; `a` and `b` are those of x and y."""
    import numpy as np

    with np.errstate(all="ignore"):
        return [("x", a + b), ("÷", a - b), ("÷", b - a), ("+", np.log(x + y)), ("-", np.log(np.abs(x - y)))]


def near_share(logs: Any, target: Any, fewest: int = FEWEST) -> tuple[float, int]:
    """The share of rows where a value is within 2 % of the price, and the number of rows where it is present.

    The share is -1 where fewer than `fewest` rows hold a value.
    """
    import numpy as np

    present = np.isfinite(logs)
    rows = int(present.sum())
    if rows < fewest:
        return -1.0, rows
    with np.errstate(all="ignore"):
        near = np.abs(np.expm1(logs[present] - target[present])) <= NEAR
    return float(near.mean()), rows


def keep_columns(columns: ColumnMap, keep: Collection[str]) -> ColumnMap:
    """The column map with the columns `keep` in the text, whatever was found about them."""
    chosen = tuple(name for name in columns.left_out if name in keep)
    left_out = {name: reason for name, reason in columns.left_out.items() if name not in keep}
    return columns.model_copy(update={"extra": (*columns.extra, *chosen), "left_out": left_out}) if chosen else columns


def drop_columns(columns: ColumnMap, leaks: dict[str, str]) -> ColumnMap:
    """The column map with `leaks` left out of the text."""
    if not leaks:
        return columns
    extra = tuple(name for name in columns.extra if name not in leaks)
    left_out = {
        **columns.left_out,
        **{name: reason for name, reason in leaks.items() if name in columns.extra},
    }
    return columns.model_copy(update={"extra": extra, "left_out": left_out})
