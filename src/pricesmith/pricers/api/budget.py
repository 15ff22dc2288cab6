"""A budget that is never passed: before a request is sent its worst case is laid aside, with that of all in flight.

    purse = Purse(5.0)
    purse.hold(0.04)          waits for others to settle; raises BudgetSpent where it can never fit
    purse.settle(0.04, 0.002)

Dollars. A request whose answer was lost on the way counts at its worst, because the endpoint may charge for it.
"""

from __future__ import annotations

import threading

from pricesmith.core.errors import PricesmithError


class BudgetExceeded(PricesmithError):
    """What is left does not cover the next request's worst case."""


class Budget:
    """Money that all requests of a command share. Without a budget it counts and never says no."""

    def __init__(self, budget: float | None = None) -> None:
        self.budget = budget
        self.spent = self.held = self.lost = 0.0
        self.overrun = False
        self.change = threading.Condition()

    def hold(self, worst: float, stop: threading.Event | None = None) -> bool:
        """Lay a worst case aside, waiting while those in flight may still free enough; False where `stop` is set.

        Raises BudgetSpent where nothing is in flight and it does not fit.
        """
        with self.change:
            self.refuse_overrun()
            while self.budget is not None and self.spent + self.held + worst > self.budget:
                if stop is not None and stop.is_set():
                    return False
                if self.held <= 0:
                    raise self.empty(worst)
                self.change.wait(0.1)
                self.refuse_overrun()
            self.held += worst
            return True

    def refuse_overrun(self) -> None:
        """Raises BudgetSpent where an answer has cost more than its worst case."""
        if self.overrun:
            raise BudgetExceeded(
                "The endpoint does not keep the limit of output tokens, so no budget can be kept",
                got=f"${self.spent:.4f} is spent",
                hint="What is answered is remembered. Ask this endpoint without --budget, or not at all.",
            )

    def settle(self, worst: float, cost: float, *, lost: bool = False) -> None:
        """The request has ended: `cost` is spent, the rest is free again. `lost`: its answer never came.

        One that costs more than its worst case says that the endpoint keeps no limit: no further one is let through.
        """
        with self.change:
            self.held = self.held - worst if self.held - worst > 1e-12 else 0.0
            self.spent += cost
            self.lost += cost if lost else 0.0
            self.overrun = self.overrun or (self.budget is not None and cost > worst * (1 + 1e-9))
            self.change.notify_all()

    def empty(self, worst: float) -> BudgetExceeded:
        """The error where the budget does not cover another request."""
        assert self.budget is not None
        return BudgetExceeded(
            "The budget does not cover another request",
            got=f"${self.spent:.4f} of ${self.budget:g} is spent; the next request costs ${worst:.4f} at worst",
            hint="What is answered is remembered and free: run it again with a higher --budget, or with --limit.",
        )
