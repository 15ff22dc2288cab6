"""A budget in US dollars that is never exceeded: each request reserves its worst-case cost before it is sent.

    budget = Budget(5.0)
    budget.reserve(0.04)          waits while requests in flight may still free enough; raises BudgetExceeded if not
    budget.commit(0.04, 0.002)

A request whose reply never arrived counts at its worst case, because the endpoint may charge for it.
"""

from __future__ import annotations

import threading

from pricesmith.core.errors import PricesmithError

ROUNDING = 1e-9


class BudgetExceeded(PricesmithError):
    """The rest of the budget does not cover the worst-case cost of the next request."""


class Budget:
    """A spending limit in US dollars shared by all requests of a command. Without a limit it only counts.

    `failed_tries_usd` is the part of `spent` for requests whose reply never arrived.
    """

    def __init__(self, limit: float | None = None) -> None:
        self.limit = limit
        self.spent = self.reserved = self.failed_tries_usd = 0.0
        self.overrun = False
        self.change = threading.Condition()

    def reserve(self, worst: float, stop: threading.Event | None = None) -> bool:
        """Reserve the worst-case cost of a request, waiting for requests in flight if needed; False if `stop` is set.

        Raises BudgetExceeded if nothing is in flight and the request does not fit.
        """
        with self.change:
            self.check_overrun()
            while self.limit is not None and self.spent + self.reserved + worst > self.limit:
                if stop is not None and stop.is_set():
                    return False
                if self.reserved <= 0:
                    raise self.exceeded_error(worst)
                self.change.wait(0.1)
                self.check_overrun()
            self.reserved += worst
            return True

    def commit(self, worst: float, cost: float, *, failed: bool = False) -> None:
        """Replace a reservation by the actual cost of its request. `failed`: its reply never arrived.

        A cost above the worst case means that the endpoint ignores the token limit, so no further request is allowed.
        """
        with self.change:
            self.reserved = self.reserved - worst if self.reserved - worst > 1e-12 else 0.0
            self.spent += cost
            self.failed_tries_usd += cost if failed else 0.0
            self.overrun = self.overrun or (self.limit is not None and cost > worst * (1 + ROUNDING))
            self.change.notify_all()

    def check_overrun(self) -> None:
        """Raise BudgetExceeded if a reply has cost more than its worst case."""
        if self.overrun:
            raise BudgetExceeded(
                "The endpoint ignores the limit of output tokens, so --budget cannot be guaranteed",
                got=f"${self.spent:.4f} spent",
                hint="All answers so far are cached. Ask this endpoint without --budget, or use another one.",
            )

    def exceeded_error(self, worst: float) -> BudgetExceeded:
        """The error if the budget does not cover another request."""
        assert self.limit is not None
        return BudgetExceeded(
            "The budget does not cover another request",
            got=f"${self.spent:.4f} of ${self.limit:g} spent; the next request costs up to ${worst:.4f}",
            hint="All answers so far are cached and free: run the command again with a higher --budget, or --limit.",
        )
