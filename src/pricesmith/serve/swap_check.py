"""Whether a new model may replace a served one: both price the same test items, and their errors are compared.

    check = compare_models(old, new, open_catalog("out/catalog"))
    check.significantly_worse      True, False, or None if they could not be compared
    check.sentence                 the result, or the reason, in plain words

The items are those of the catalog's test split. Items whose text is in the training rows of either model are dropped,
if it was fitted on another catalog; rows of that catalog's validation split cannot be recognized. The difference of the
MAEs has a 95 % interval that resamples near-duplicate groups, as everywhere.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from pricesmith.candidates import is_in_training
from pricesmith.catalog.catalog import Catalog
from pricesmith.core.types import Item
from pricesmith.evaluation.compare import compare
from pricesmith.evaluation.evaluate import evaluate
from pricesmith.metrics.bootstrap import MIN_GROUPS
from pricesmith.pricers.model import PriceModel
from pricesmith.text.formatting import format_count, format_price, format_signed

MAX_ITEMS = 5_000  # a random sample of more is enough, and takes seconds


@dataclass(frozen=True)
class SwapCheck:
    """The comparison of two models on `n_items` items in `groups` near-duplicate groups. `dropped` items are in the
    training rows of a model. MAEs and `difference` (new minus old) are in `currency`; None if nothing was compared."""

    significantly_worse: bool | None
    sentence: str
    n_items: int = 0
    groups: int = 0
    dropped: int = 0
    currency: str = ""
    old_mae: float | None = None
    new_mae: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain values, ready for JSON."""
        return asdict(self)


def compare_models(old: PriceModel, new: PriceModel, catalog: Catalog, *, split: str = "test") -> SwapCheck:
    """Compare two models on a split of a catalog, of which at most 5,000 items are priced.

    Raises InputError if the catalog is damaged.
    """
    if reason := find_obstacle(old, new, catalog):
        return SwapCheck(None, f"Not compared: {reason}.")
    items, groups = catalog.items_and_groups(split)
    group_of = {item.listing.id: group for item, group in zip(items, groups, strict=True)}
    if len(items) > MAX_ITEMS:
        chosen = np.random.default_rng(0).permutation(len(items))[:MAX_ITEMS]
        items = [items[index] for index in sorted(chosen.tolist())]
    common = drop_training_rows(items, (old, new), catalog)
    dropped = len(items) - len(common)
    count = len({group_of[item.listing.id] for item in common})
    if count < MIN_GROUPS:
        left = f"; {dropped:,} of {len(items):,} are in the training rows of a model" if dropped else ""
        reason = f"the {split} split of {catalog.name} has {count} groups of items to compare on{left}"
        return SwapCheck(None, f"Not compared: {reason}.", len(common), count, dropped)
    median = float(np.median(catalog.columns("train", ("price",))["price"]))
    evaluations = [
        replace(
            evaluate(
                model,
                common,
                catalog=catalog.fingerprint,
                median=median,
                currency=catalog.currency,
                price_range=catalog.price_range,
                groups=group_of,
            ),
            pricer=name,
        )
        for name, model in (("new", new), ("old", old))
    ]
    difference = compare(evaluations[0], evaluations[1])
    worse = difference.low is not None and difference.low > 0
    check = SwapCheck(
        worse,
        "",
        difference.n,
        difference.groups,
        dropped,
        catalog.currency,
        difference.b_value,
        difference.a_value,
        difference.difference,
        difference.low,
        difference.high,
    )
    return replace(check, sentence=describe(check, split, catalog.name))


def find_obstacle(old: PriceModel, new: PriceModel, catalog: Catalog) -> str:
    """Why two models cannot be compared on a catalog; empty if they can."""
    for name, model in (("old", old), ("new", new)):
        currency = str(model.info["currency"])
        if currency != catalog.currency:
            return f"the {name} model quotes in {currency}, the catalog {catalog.name} is in {catalog.currency}"
        if model.rewriting != catalog.rewriting:
            return f"the {name} model and the catalog {catalog.name} have listings that were not rewritten alike"
        if model.asks_api:
            return f"the {name} model asks an API model, and pricing the test items would cost money"
        if model.info["fingerprint"] != catalog.fingerprint and not model.has_comparables:
            return f"the training rows of the {name} model are unknown, and it was fitted on another catalog"
    return ""


def drop_training_rows(items: list[Item], models: tuple[PriceModel, ...], catalog: Catalog) -> list[Item]:
    """The items whose text is in no model's training rows."""
    for model in models:
        if model.info["fingerprint"] != catalog.fingerprint:
            trained = is_in_training(model, [item.listing for item in items])
            items = [item for item, known in zip(items, trained, strict=True) if not known]
    return items


def describe(check: SwapCheck, split: str, catalog: str) -> str:
    """The result of a comparison as a sentence."""
    assert check.old_mae is not None
    assert check.new_mae is not None
    if check.significantly_worse:
        conclusion = "the new model is significantly worse"
    elif check.high is not None and check.high < 0:
        conclusion = "the new model is significantly better"
    else:
        conclusion = "no significant difference"
    interval = ""
    if check.low is not None and check.high is not None:
        ends = [format_signed(end, check.currency) for end in (check.low, check.high)]
        interval = f"; new − old: 95 % CI {ends[0]} to {ends[1]}"
    maes = f"MAE {format_price(check.new_mae, check.currency)}, old model {format_price(check.old_mae, check.currency)}"
    dropped = f", {check.dropped:,} that a model was trained on left out" if check.dropped else ""
    items = f"{format_count(check.n_items, 'item')} of the {split} split of {catalog}{dropped}"
    return f"New model: {maes} on {items}: {conclusion}{interval}."
