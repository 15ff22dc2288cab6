"""The p-values of asked prices by a fitted model, from the errors on its calibration rows (`reference.json`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pricesmith.core.errors import UsageError
from pricesmith.core.types import Quote
from pricesmith.metrics.metrics import Array
from pricesmith.pricers.asked_price import MAX_WRONG_SHARE, ErrorSample, log_scores

if TYPE_CHECKING:
    from pricesmith.pricers.model import PriceModel

P_VALUES = ("tail", "conformal")


class PriceAuditor:
    """A model, the sample of its errors, and the scores of prices.

    Raises UsageError for a model without these errors: one that asks an API model, or was fitted before they were
    stored.
    """

    def __init__(self, model: PriceModel) -> None:
        if model.asks_api:
            raise UsageError(
                f"{model.path} asks an API model, which an audit does not",
                got=str(model.manifest["kind"]),
                allowed="a model that answers by itself",
                hint="Fit one with `pricesmith fit sparse_mlp --catalog CATALOG --to MODEL`, and audit with it.",
            )
        reference = model.reference
        if reference is None or not reference.distances:
            raise UsageError(
                f"{model.path} does not have the errors of its calibration rows, which an audit needs",
                got=f"a model of kind {model.manifest['kind']} without them",
                allowed="a model with a calibrated interval that this version fitted",
                hint=f"Fit it again: pricesmith fit {model.manifest['kind']} --catalog CATALOG --to {model.path} "
                "--overwrite",
            )
        self.model = model
        low, high = model.info["price_range"]
        self.price_range = (float(low), float(high))
        self.errors = ErrorSample(
            np.array(reference.distances, dtype=np.float64), np.array(reference.weights, dtype=np.float64)
        )

    def score(self, quotes: Sequence[Quote], prices: Sequence[float | None]) -> Array:
        """The signed score of each price [n]: its distance from the quote in half-widths of the interval.

        None (NaN) where nothing in the training data is similar: such a quote is a guess.
        """
        known = [None if quote.nothing_similar else price for quote, price in zip(quotes, prices, strict=True)]
        return log_scores(quotes, known, self.price_range)

    def check_currency(self, currency: str, name: str) -> None:
        """Raise UsageError if prices are in another currency than the model's."""
        if currency != self.model.info["currency"]:
            raise UsageError(
                f"{name} has prices in another currency than the model",
                got=currency,
                allowed=str(self.model.info["currency"]),
                hint="Use a model that was fitted on prices in that currency.",
            )


def check_audit_options(fdr: float, p_values: str, max_wrong_share: float) -> None:
    """Raise UsageError for a rate or a share that is not between 0 and 1, and for unknown p-values."""
    if not 0 < fdr < 1:
        raise UsageError("--fdr is not a rate", got=f"{fdr}", allowed="between 0 and 1", hint="Use --fdr 0.1.")
    if p_values not in P_VALUES:
        raise UsageError(
            "--p-values is not known", got=p_values, allowed=" or ".join(P_VALUES), hint="Use --p-values tail."
        )
    if not 0 < max_wrong_share <= 0.1:
        raise UsageError(
            "--max-wrong-share is too small or too large",
            got=f"{max_wrong_share}",
            allowed="above 0, at most 0.1",
            hint=f"Use --max-wrong-share {MAX_WRONG_SHARE}.",
        )


def describe_p_values(
    errors: ErrorSample, p_values: str, max_wrong_share: float, count: int, fdr: float, *, own: bool
) -> str:
    """Where the p-values of `count` prices come from, and which numbers of wrong prices can be found at all.

    `own` says that the held-out prices are the audited ones.
    """
    groups = f"{round(errors.total):,} near-duplicate groups of held-out listings"
    if p_values == "tail" and errors.fit_tail(max_wrong_share) is not None:
        return (
            f"p-values come from the errors on {groups}; beyond the 90 % interval, from a tail fitted to these. The "
            f"farthest {max_wrong_share * 100:g} % of held-out prices, which may be wrong themselves, count in it, but "
            "their distances do not shape it."
        )
    start = f"p-values are conformal, from the errors on {groups}"
    if own:
        return (
            f"{start}. These contain the audited prices, wrong ones included, which makes wrong prices look usual: "
            "nothing can be found in this way. Use --p-values tail on a larger catalog, or a model of checked prices."
        )
    least = math.ceil(count / (fdr * (1 + errors.total)))
    limit = f"no p-value is below {1 / (1 + errors.total):.2g}"
    if least > count:
        return f"{start}: {limit}, so nothing can be found among {count:,} prices. More calibration rows are needed."
    if least > 1:
        return f"{start}: {limit}, so fewer than {least:,} wrong prices among {count:,} cannot be found."
    return f"{start}: {limit}."
