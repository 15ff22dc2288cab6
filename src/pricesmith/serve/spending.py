"""What the API models of a server may cost in a day: a budget that starts anew at midnight UTC.

spending = DailySpending(5.0)
spending.keep(log)          a restart does not begin the day again
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime

from pricesmith.pricers.api.limits import Budget
from pricesmith.serve.log import RequestLog


def read_day() -> date:
    """Today, in UTC."""
    return datetime.now(UTC).date()


class DailySpending:
    """A budget in US dollars for each day (None: no limit, it only counts), shared by all models of a server."""

    def __init__(self, limit: float | None, today: Callable[[], date] = read_day) -> None:
        self.budget, self.today = Budget(limit), today
        self.day = today()

    def renew(self) -> None:
        """Start a new day with nothing spent."""
        if (day := self.today()) != self.day:
            with self.budget.change:
                self.day, self.budget.spent, self.budget.failed_tries_usd = day, 0.0, 0.0

    def keep(self, log: RequestLog) -> None:
        """Count what the log says was spent today, and write to it what is spent from now on; a request in flight
        counts at its worst. What cannot be written raises LogUnavailable, and the request is not sent."""
        stored = self.budget.spent = log.spending(self.day)
        stored_day = self.day

        def record(spent: float, reserved: float) -> None:
            nonlocal stored, stored_day
            if self.day != stored_day:
                stored, stored_day = 0.0, self.day
            log.record_spending_sync(self.day, spent + reserved - stored)
            stored = spent + reserved

        self.budget.record = record
