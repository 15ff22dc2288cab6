"""A budget is never passed, whatever order requests end in."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricesmith.pricers.api.budget import Budget, BudgetExceeded


@given(st.lists(st.tuples(st.floats(0.001, 1), st.floats(0, 1)), max_size=40), st.floats(0.5, 5), st.integers(1, 6))
@settings(deadline=None, max_examples=100)
def test_the_budget_holds_for_any_costs(requests: list[tuple[float, float]], limit: float, workers: int) -> None:
    """At every moment what is spent and what is reserved is within the budget, to rounding."""
    budget = Budget(limit)
    pending = list(requests)
    excesses: list[float] = []

    def work() -> None:
        while True:
            with budget.change:
                if not pending:
                    return
                worst, share = pending.pop()
            try:
                budget.reserve(worst)
            except BudgetExceeded:
                return
            with budget.change:
                excesses.append(budget.spent + budget.reserved - limit)
            budget.commit(worst, worst * share)

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert all(excess <= 1e-9 for excess in excesses)
    assert budget.spent <= limit + 1e-9
    assert budget.reserved == 0


def test_a_request_waits_for_what_is_in_flight_and_then_fits() -> None:
    """The worst case of a neighbor is reserved only until it is committed."""
    budget = Budget(1.0)
    budget.reserve(0.9)
    later = threading.Timer(0.2, lambda: budget.commit(0.9, 0.1))
    later.start()
    assert budget.reserve(0.9)
    later.join()
    assert (budget.spent, budget.reserved) == (0.1, 0.9)


def test_what_never_fits_is_refused_at_once() -> None:
    """With what is spent and what the next request would cost."""
    budget = Budget(1.0)
    with pytest.raises(BudgetExceeded, match="does not cover") as caught:
        budget.reserve(1.5)
    assert "up to $1.5000" in str(caught.value)


def test_a_stop_ends_the_waiting() -> None:
    """An interrupted worker does not wait for money."""
    budget, stop = Budget(1.0), threading.Event()
    budget.reserve(1.0)
    stop.set()
    assert not budget.reserve(0.5, stop)


def test_without_a_budget_it_only_counts() -> None:
    """And accepts every reservation."""
    budget = Budget()
    for _ in range(3):
        assert budget.reserve(1e6)
        budget.commit(1e6, 2.0, failed=True)
    assert (budget.spent, budget.failed_tries_usd, budget.reserved) == (6.0, 6.0, 0.0)


def test_an_endpoint_that_costs_more_than_its_worst_case_is_asked_no_more() -> None:
    """No budget holds where the limit of tokens is not kept."""
    budget = Budget(10.0)
    budget.reserve(0.1)
    budget.commit(0.1, 0.5)
    with pytest.raises(BudgetExceeded, match="ignores the limit"):
        budget.reserve(0.1)


def test_one_who_waits_is_not_let_through_after_that() -> None:
    """A pending request may show that the endpoint ignores the token limit, or free enough budget for a waiting one."""
    budget = Budget(1.0)
    budget.reserve(0.1)
    budget.reserve(0.8)

    def end() -> None:
        budget.commit(0.1, 0.2)
        budget.commit(0.8, 0.1)

    later = threading.Timer(0.2, end)
    later.start()
    with pytest.raises(BudgetExceeded, match="ignores the limit"):
        budget.reserve(0.15)
    later.join()
