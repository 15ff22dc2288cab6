"""The price of a row: its sale price if it has one, else its regular price.

    >>> columns = ColumnMap(price="price", sale="sale_price", title="name")
    >>> read_price({"price": "20.00", "sale_price": "15.00"}, columns)
    ((15.0, None), 'sale')
    >>> read_price({"price": "20.00", "sale_price": ""}, columns)
    ((20.0, None), 'regular')

A row whose sale price is above its regular price contradicts itself and is refused by name. If that is so in many rows,
or if most sale prices are a small part of the regular price (an amount that is taken off), the names of the columns
do not say what they hold, and the file is refused with the options that choose one of them; prices without tax are
compared with those that include it in the same way.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from statistics import median

from pricesmith.catalog.clean import cell_text
from pricesmith.catalog.columns import ColumnMap
from pricesmith.catalog.price_columns import find_counterpart
from pricesmith.core.errors import UsageError
from pricesmith.text.price_parser import NO_PRICE, ZERO, parse_price

SALE_ABOVE = "sale price above the regular price"
SHOWN = 40  # characters of a value in an error
SALE, REGULAR, DATED = "sale", "regular", "regular, the sale has dates"
FEWEST = 5  # rows with both prices; below that, a share says nothing
MOST_ABOVE = 0.2  # of the rows with both prices
LOWEST_RATIO = 0.25  # of the sale price to the regular one, and of a price without tax, in the median

Parsed = tuple[float, str | None] | str


def read_price(
    values: Mapping[str, object], columns: ColumnMap, currency: str = "USD", marks: str = "."
) -> tuple[Parsed, str]:
    """The price and currency of a row, or the reason why it has none; and which price that is.

    `marks` are the decimal marks of the file's prices.
    """
    regular = parse_price(values.get(columns.price), currency, marks)
    if not columns.sale:
        return regular, REGULAR
    sale = parse_price(values.get(columns.sale), currency, marks)
    if sale in (NO_PRICE, ZERO):
        return regular, REGULAR
    if any(values.get(name) not in (None, "") for name in columns.sale_dates):
        return regular, DATED
    if not isinstance(sale, str) and not isinstance(regular, str) and sale[0] > regular[0]:
        return SALE_ABOVE, SALE
    return sale, SALE


def check_price_columns(rows: Sequence[Mapping[str, object]], columns: ColumnMap, header: Sequence[str]) -> None:
    """Raise UsageError if sample rows show that sale prices, or prices without tax, are none by what they hold."""
    if columns.sale:
        check_numbers(rows, columns)
        check_pair(rows, columns.sale, columns.price, "sale prices below the regular prices, no amounts taken off")
    if net := find_counterpart(columns.price, header):
        check_pair(rows, net, columns.price, "prices without tax below those with it, and no amounts of tax")


def check_numbers(rows: Sequence[Mapping[str, object]], columns: ColumnMap) -> None:
    """Raise UsageError if many sale prices in sample rows are no prices: shares that are taken off, or words."""
    sales, regulars = (
        [parse_price(row.get(name), marks=",.") for row in rows] for name in (columns.sale, columns.price)
    )
    filled = [place for place, sale in enumerate(sales) if sale not in (NO_PRICE, ZERO)]
    priced = sum(not isinstance(regulars[place], str) for place in filled)
    strange = [place for place in filled if isinstance(sales[place], str)]
    if priced < FEWEST or len(strange) <= MOST_ABOVE * len(filled):
        return
    example = cell_text(rows[strange[0]].get(columns.sale))[:SHOWN]
    raise UsageError(
        f"The column {columns.sale!r} has few prices",
        got=f"{example!r} and others in {len(strange):,} of {len(filled):,} sample rows with a value",
        allowed="sale prices such as 24.50",
        hint=f"Use --map {shlex.quote(f'price={columns.price}')}.",
    )


def check_pair(rows: Sequence[Mapping[str, object]], low: str, high: str, allowed: str) -> None:
    """Raise UsageError if `low` is above `high` in many sample rows, or is a small part of it."""
    ratios = []
    for row in rows:
        pair = [parse_price(row.get(name), marks=",.") for name in (low, high)]
        amounts = [amount[0] for amount in pair if not isinstance(amount, str)]
        if len(amounts) == 2:
            ratios.append(amounts[0] / amounts[1])
    if len(ratios) < FEWEST:
        return
    above = sum(ratio > 1 for ratio in ratios) / len(ratios)
    if above > MOST_ABOVE:
        got = f"{low!r} is above {high!r} in {above:.0%} of {len(ratios):,} sample rows"
    elif median(ratios) < LOWEST_RATIO:
        got = f"{low!r} is {median(ratios):.0%} of {high!r} (median of {len(ratios):,} sample rows)"
    else:
        return
    options = [f"--map {shlex.quote(f'price={name}')}" for name in (high, low)]
    raise UsageError(
        "It is not clear which column is the price",
        got=got,
        allowed=allowed,
        hint=f"Use {options[0]} or {options[1]}.",
    )


def describe_prices(columns: ColumnMap, counts: Mapping[str, int]) -> str:
    """How many rows have a sale price, and how many the regular price."""
    parts = [f"{counts[SALE]:,} rows have the sale price {columns.sale!r}" if counts.get(SALE) else ""]
    parts += [f"{counts[REGULAR]:,} the regular price {columns.price!r}" if counts.get(REGULAR) else ""]
    parts += [f"{counts[DATED]:,} the regular price because the sale has dates" if counts.get(DATED) else ""]
    return "; ".join(part for part in parts if part)
