"""How an amount of money is shown: the sign is the catalog's."""

from __future__ import annotations

SIGNS = {
    "USD": "$",
    "EUR": "€",
    "GBP": "£",
    "JPY": "¥",
    "INR": "₹",
    "CNY": "CN¥",
    "KRW": "₩",
    "BRL": "R$",
    "CHF": "CHF ",
}


def money(value: float, currency: str, places: int = 2) -> str:
    """`$1,299.00`; a currency without a sign of its own goes by its code."""
    return f"{SIGNS.get(currency, f'{currency} ')}{value:,.{places}f}"
