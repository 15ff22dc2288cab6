"""`fit --weight-by source`: sample weights, so that a source with many items does not decide alone.

    >>> source_weights(["a.csv"] * 8 + ["b.csv"] * 2, "source")
    {'a.csv': 0.625, 'b.csv': 2.5}

With `source` all sources have the same total weight; with `source-sqrt` a total in proportion to the square root of
their items. The mean weight of the training items is 1, so that settings such as a penalty keep their meaning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pricesmith.catalog.items import CatalogItems
from pricesmith.core.errors import UsageError
from pricesmith.core.types import Item, Recipe

if TYPE_CHECKING:
    from pricesmith.catalog.catalog import Catalog

POWERS = {"source": 1.0, "source-sqrt": 0.5}  # the weight of an item: (items of its source) ** -power
WEIGHTED_KINDS = ("ridge", "sparse_mlp", "boosting", "median")  # kinds of Pricesmith that take weights


def source_weights(sources: Sequence[str], weight_by: str) -> dict[str, float]:
    """The weight of an item of each source, from the sources of all training items."""
    counts = Counter(sources)
    raw = {source: count ** -POWERS[weight_by] for source, count in counts.items()}
    mean = sum(raw[source] * count for source, count in counts.items()) / len(sources)
    return {source: value / mean for source, value in raw.items()}


def item_sources(catalog: Catalog) -> dict[str, str]:
    """The source of each item, by id."""
    sources: dict[str, str] = {}
    for batch in catalog.batches(["id", "source"]):
        sources.update(zip(batch.column("id").to_pylist(), batch.column("source").to_pylist(), strict=True))
    return sources


def read_sources(items: Sequence[Item], sources: Mapping[str, str]) -> list[str]:
    """The source of each item: in the catalog that it is read from, else in `sources` by its id; empty if unknown."""
    if isinstance(items, CatalogItems):
        return items.column("source")
    return [sources.get(item.listing.id, "") for item in items]


def weight_items(items: Sequence[Item], weights: Mapping[str, float], sources: Mapping[str, str]) -> Sequence[Item]:
    """Items with the weights of their sources; an item of a source without a weight has the weight 1."""
    if isinstance(items, CatalogItems):
        return items.weighted(np.array([weights.get(source, 1.0) for source in items.column("source")]))
    return [replace(item, weight=weights.get(sources.get(item.listing.id, ""), 1.0)) for item in items]


def check_weighting(weight_by: str, recipe: Recipe) -> None:
    """Raise UsageError for an unknown weighting, and for a recipe that takes no weights."""
    if weight_by not in POWERS:
        raise UsageError(
            f"There is no weighting {weight_by!r}",
            got=f"--weight-by {weight_by}",
            allowed=", ".join(POWERS),
            hint="Use --weight-by source.",
        )
    if not getattr(recipe, "takes_weights", False):
        raise UsageError(
            f"The recipe {recipe.kind} takes no weights",
            got=f"--weight-by {weight_by}",
            allowed=f"the recipes {', '.join(WEIGHTED_KINDS)}",
            hint="Leave out --weight-by, or fit one of these.",
        )


def check_sources(weight_by: str, sources: Sequence[str]) -> None:
    """Raise UsageError if the training items have a single source."""
    if len(set(sources)) < 2:
        raise UsageError(
            "The training items have a single source",
            got=f"--weight-by {weight_by}, and the source {next(iter(sources), 'none')!r}",
            allowed="a catalog of several files, or of a file with a column of sources",
            hint="Leave out --weight-by, or build the catalog with --map source=COLUMN.",
        )
