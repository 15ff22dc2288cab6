"""Log prices, the target of every model: quotes are positive, and the same in any unit of money."""

from __future__ import annotations

from pathlib import Path

from pricesmith.core.errors import InputError

LARGEST_LOG = 300.0  # |log price| is cut here, so that a quote is finite and above 0


def require_log_prices(present: bool, run: Path) -> None:
    """Raise InputError where the files of a model lack the log scale: earlier versions fitted log(1 + price)."""
    if not present:
        raise InputError(
            f"{run} was fitted by an earlier version of Pricesmith",
            got="a model of log(1 + price)",
            allowed="a model of log price",
            hint="Run the same `pricesmith fit` command again with --overwrite.",
        )
