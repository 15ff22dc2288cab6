"""What rewriting a listing costs, in the quotes of an evaluation.

A catalog was rewritten once, so its listings cost nothing when a model is evaluated on them. A new listing does: each
quote has the mean cost of rewriting one listing of the catalog.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pricesmith.catalog.rewriting import Rewriting, read_rewriting_facts
from pricesmith.core.types import Listing, Pricer, Quote
from pricesmith.pricers.model import PriceModel


class RewritingCosts:
    """A pricer of rewritten listings, whose quotes have the mean cost of rewriting; None if it is unknown."""

    def __init__(self, pricer: Pricer, rewriting: Rewriting) -> None:
        self.pricer, self.usd = pricer, rewriting.usd_per_listing

    @property
    def name(self) -> str:
        return self.pricer.name

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        """The quotes of the pricer, with the cost of rewriting added."""
        return [replace(quote, cost_usd=self.add(quote.cost_usd)) for quote in self.pricer.price(listings)]

    def add(self, cost: float | None) -> float | None:
        """A cost with that of rewriting; None if either is unknown."""
        return None if cost is None or self.usd is None else cost + self.usd


def add_rewriting_costs(pricer: PriceModel) -> Pricer:
    """A model as a pricer with the costs of rewriting; the model itself if its listings are not rewritten."""
    rewriting = read_rewriting_facts(pricer.info)
    return pricer if rewriting is None else RewritingCosts(pricer, rewriting)
