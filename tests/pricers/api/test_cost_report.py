"""The reported cost of an API model is at least what the budget paid: lost and repeated requests count too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pricesmith.core.progress import Progress
from pricesmith.core.types import Quote
from pricesmith.pricers.api.budget import Budget
from pricesmith.pricers.api.cost_report import ApiCostReporter, estimate_tokens, format_usd
from pricesmith.pricers.api.pricer import ApiPricer, PromptOptions
from pricesmith.pricers.api.response_cache import ResponseCache
from pricesmith.testing import FakeEndpoint, make_items

ITEMS = make_items(12, seed=11)[0]
LISTINGS = [item.listing for item in ITEMS]
BY_ID = {item.listing.id: item for item in ITEMS}


class RecordedNotes(Progress):
    """Notes, kept."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def judged(
    fake: FakeEndpoint, store: Path, n_memorization: int = 0, **more: Any
) -> tuple[list[Quote], dict[str, Any], Budget]:
    """Quotes, facts and the budget of twelve listings."""
    budget, price = Budget(), more.pop("price", (1.0, 2.0))
    with ResponseCache(store) as cache:
        options: dict[str, Any] = {"currency": "USD", "concurrency": 1, "timeout": 0.3, **more}
        pricer = ApiPricer(fake.endpoint(price), PromptOptions(), cache, budget, **options)
        pricer.client.back_off = 0.001
        bill = ApiCostReporter(pricer, lambda: BY_ID, n_memorization)
        bill.before(LISTINGS)
        quotes = pricer.price(LISTINGS)
        facts = bill.after()
        pricer.close()
    return quotes, facts, budget


def test_a_lost_reply_and_one_that_was_asked_twice_cost_what_the_purse_paid(tmp_path: Path) -> None:
    """At their worst, and so again when they are remembered."""
    lost = range(5, 13)  # the fourth listing's tries, and the first one of the fifth
    with FakeEndpoint(faults={2: "broken", 4: "500"} | dict.fromkeys(lost, "cut")) as fake:
        quotes, facts, budget = judged(fake, tmp_path / "a.sqlite")
        billed = fake.billed_usd(1, 2)
        fake.faults = {}
        again, later, _ = judged(fake, tmp_path / "a.sqlite")
    assert all(quote == two for quote, two in zip(quotes, again, strict=True) if quote.price is not None)
    assert [quote.price for quote in quotes].count(None) == 1
    assert facts["spent_usd"] == pytest.approx(budget.spent) == pytest.approx(sum(quote.cost_usd for quote in quotes))
    assert facts["spent_usd"] > billed
    assert facts["failed_tries_usd"] == pytest.approx(budget.failed_tries_usd)
    # The reply that never came has come by now; what was answered costs what its tokens do, and no more.
    assert 0 < later["quotes_failed_tries_usd"] < facts["failed_tries_usd"]
    sure = sum(reply.tokens_in + 2 * reply.tokens_out for reply in fake.answered()) / 1e6
    assert later["spent_usd"] - later["quotes_failed_tries_usd"] == pytest.approx(sure)
    dear = [quote for quote in quotes if quote.cost_usd > 0.005]
    assert [quote.price is None for quote in dear] == [False, True, False]


def test_what_was_lost_without_a_price_is_unknown(tmp_path: Path) -> None:
    """The endpoint reports dollars with its replies only, so a lost request has none."""
    with FakeEndpoint(cost=0.25, faults={3: "cut"}) as fake:
        _, facts, _ = judged(fake, tmp_path / "a.sqlite", price=None)
    assert (facts["cost_known"], facts["spent_usd"], facts["failed_tries_usd"]) == (False, None, None)


def test_what_was_lost_unbilled_costs_nothing(tmp_path: Path) -> None:
    """A 500 is no answer that anybody charges for."""
    with FakeEndpoint(cost=0.25, faults={3: "500"}) as fake:
        _, facts, _ = judged(fake, tmp_path / "a.sqlite", price=None)
    assert (facts["cost_known"], facts["spent_usd"], facts["failed_tries_usd"]) == (True, 3.0, 0.0)


def test_the_check_of_memory_is_in_the_totals(tmp_path: Path) -> None:
    """Its requests, tokens and dollars, beside its own."""
    with FakeEndpoint(faults={13: "broken"}) as fake:
        quotes, facts, budget = judged(fake, tmp_path / "a.sqlite", n_memorization=4)
        assert facts["requests"] == len(fake.requests)
        assert facts["tokens"]["input"] == sum(seen.tokens_in for seen in fake.answered())
    assert facts["spent_usd"] == pytest.approx(budget.spent)
    assert facts["memorization"]["spent_usd"] == pytest.approx(budget.spent - sum(quote.cost_usd for quote in quotes))
    assert facts["errors"] == {"invalid JSON": 1}
    assert facts["answers"]["requested"] == 12


def test_the_losses_of_another_model_are_not_its_own(tmp_path: Path) -> None:
    """They share a budget, not a bill."""
    with FakeEndpoint() as fake, ResponseCache(tmp_path / "a.sqlite") as cache:
        budget = Budget()
        budget.commit(0.0, 3.0, failed=True)
        pricer = ApiPricer(fake.endpoint(), PromptOptions(), cache, budget, currency="USD")
        pricer.price(LISTINGS)
        assert ApiCostReporter(pricer, dict).after()["failed_tries_usd"] == 0
        pricer.close()


def test_the_estimate_in_folds_is_of_what_each_fold_sends(tmp_path: Path) -> None:
    """What is remembered is found, though the whole training set would show other listings."""
    half = len(ITEMS) // 2
    parts = [(ITEMS[:half], ITEMS[half:]), (ITEMS[half:], ITEMS[:half])]
    notes = RecordedNotes()
    with FakeEndpoint() as fake, ResponseCache(tmp_path / "a.sqlite") as cache:
        options: dict[str, Any] = {"currency": "USD", "train": lambda: ITEMS, "progress": notes}
        pricer = ApiPricer(fake.endpoint(), PromptOptions(shots=2), cache, Budget(), **options)
        bill = ApiCostReporter(pricer, dict, folds=lambda: parts)
        bill.before(LISTINGS)
        for items, train in parts:
            pricer.with_examples(train).price([item.listing for item in items])
        bill.before(LISTINGS)
        pricer.close()
    assert "12 requests to send" in notes.notes[0]
    assert "all in the response cache" in notes.notes[-1]


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("a sturdy garden hose of twenty five metres with brass fittings", 12, 20),
        ("手工编织羊毛地毯北欧风格客厅卧室床边防滑加厚可机洗灰色简约现代", 20, 40),
        ("Шланг садовый поливочный двадцать пять метров", 12, 30),
        ("", 0, 0),
    ],
)
def test_the_estimate_of_tokens_depends_on_the_script(text: str, low: float, high: float) -> None:
    """A Chinese character is about one token, four Latin letters are."""
    assert low <= estimate_tokens(text) <= high


def test_a_tiny_cost_is_not_zero() -> None:
    """An amount that rounds to $0.0000 is shown as less than the smallest amount."""
    assert [format_usd(amount) for amount in (0.0, 0.00001, 0.0123, 12.5)] == [
        "$0.0000",
        "less than $0.0001",
        "$0.0123",
        "$12.50",
    ]


def test_an_unknown_cost_is_none_in_every_quote_and_fact(tmp_path: Path) -> None:
    """Without a token price nothing is 0."""
    with FakeEndpoint() as fake:
        quotes, facts, _ = judged(fake, tmp_path / "a.sqlite", price=None)
    assert {quote.cost_usd for quote in quotes} == {None}
    assert (facts["spent_usd"], facts["price"], facts["cost_known"]) == (None, None, False)
