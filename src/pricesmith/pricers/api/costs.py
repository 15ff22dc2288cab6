"""What an answer of an API model cost: in reports, and for the budget.

    cost = answer_cost(endpoint.price, completion, tier="flex", moment=datetime.now(UTC))
    cost.report      what the endpoint reported, else its tokens at the list price
    cost.budget      the higher of the two

An unknown cost is None, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from pricesmith.pricers.api.prices import PriceList
from pricesmith.pricers.api.response_cache import Completion


@dataclass(frozen=True)
class AnswerCost:
    """The cost of one answer in US dollars as its endpoint reported it, and by the list price; each None if unknown."""

    reported: float | None
    listed: float | None

    @property
    def report(self) -> float | None:
        """The cost that reports show: the reported one is exact."""
        return self.listed if self.reported is None else self.reported

    @property
    def budget(self) -> float | None:
        """The cost that counts against a budget: the higher one."""
        return max((cost for cost in (self.reported, self.listed) if cost is not None), default=None)


def answer_cost(prices: PriceList | None, completion: Completion, *, moment: datetime, tier: str = "") -> AnswerCost:
    """Return the cost of an answer on the tier that its endpoint named, else on the one that was asked for (`tier`).

    The price is that of the day on which it was answered, else of `moment`.
    """
    if completion.answered_at is not None:
        moment = datetime.fromtimestamp(completion.answered_at, UTC)
    price = prices.at(moment, completion.tier or tier) if prices is not None else None
    return AnswerCost(completion.reported_usd, None if price is None else price.cost(completion.usage))
