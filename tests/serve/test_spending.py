"""The daily budget of API models: it starts anew at midnight, and a restart does not begin the day again."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from pricesmith.pricers.api.limits import BudgetExceeded
from pricesmith.serve.log import LogReader, RequestLog
from pricesmith.serve.spending import DailySpending

FIRST, SECOND = date(2026, 3, 1), date(2026, 3, 2)


def test_a_daily_budget_starts_anew_at_midnight() -> None:
    day = FIRST
    spending = DailySpending(1.0, lambda: day)
    spending.budget.reserve(0.9)
    spending.budget.commit(0.9, 0.9)
    spending.renew()  # the same day
    with pytest.raises(BudgetExceeded):
        spending.budget.reserve(0.2)
    day = SECOND
    spending.renew()
    assert spending.budget.reserve(0.2)


def test_a_restart_does_not_begin_the_day_again(tmp_path: Path) -> None:
    path = tmp_path / "shop.requests.db"
    with RequestLog(path) as log:
        spending = DailySpending(1.0, lambda: FIRST)
        spending.keep(log)
        spending.budget.reserve(0.5)
        spending.budget.commit(0.5, 0.3)
        spending.budget.reserve(0.5)  # in flight when the process is killed: counted at its worst
    with RequestLog(path) as log:
        spending = DailySpending(1.0, lambda: FIRST)
        spending.keep(log)
        assert spending.budget.spent == pytest.approx(0.8)
        with pytest.raises(BudgetExceeded):
            spending.budget.reserve(0.3)


def test_each_day_has_its_own_sum_in_the_log(tmp_path: Path) -> None:
    path = tmp_path / "shop.requests.db"
    day = FIRST
    with RequestLog(path) as log:
        spending = DailySpending(None, lambda: day)
        spending.keep(log)
        for amount in (0.25, 0.5):
            spending.budget.reserve(1.0)
            spending.budget.commit(1.0, amount)
        day = SECOND
        spending.renew()
        spending.budget.reserve(1.0)
        spending.budget.commit(1.0, 0.125)
    reader = LogReader(path)
    assert (reader.spending(FIRST), reader.spending(SECOND)) == (pytest.approx(0.75), pytest.approx(0.125))
