"""The reported cost of an API model is at least what the budget paid; memorized listings are counted against chance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pricesmith.core.progress import Progress
from pricesmith.core.types import Item, Listing, Quote, render
from pricesmith.pricers.api.eval_report import (
    CONTINUE_QUESTION,
    ApiCostReporter,
    check_memorization,
    choose_items,
    find_price,
    format_usd,
    matches_by_chance,
    split_halves,
)
from pricesmith.pricers.api.limits import Budget
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
        options: dict[str, Any] = {"currency": "USD", "concurrency": 1, "timeout": 120.0, **more}
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


def test_the_effort_that_was_sent_is_a_fact(tmp_path: Path) -> None:
    """It may be another one than was asked for."""
    with FakeEndpoint() as fake:
        _, facts, _ = judged(fake, tmp_path / "a.sqlite")
        assert facts["reasoning_effort_sent"] == ""


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


LONG_ITEMS = make_items(30, seed=4)[0]


def by_heart(question: str) -> str:
    """The replies of a model that memorized every second listing."""
    begun = question.removeprefix(CONTINUE_QUESTION)
    for index, item in enumerate(LONG_ITEMS):
        text = render(item.listing)
        if text.startswith(begun):
            return f"{text[len(begun) :]}\nPrice: ${item.price:.2f}" if index % 2 == 0 else "It is red.\nPrice: $7.77"
    return "I do not know."


def test_what_is_known_by_heart_is_counted(tmp_path: Path) -> None:
    """Word for word and to the cent; the answers are remembered."""
    with FakeEndpoint(by_heart) as fake, ResponseCache(tmp_path / "a.sqlite") as cache:
        endpoint = fake.endpoint()
        pricer = ApiPricer(endpoint, PromptOptions(), cache, Budget(), currency="USD")
        check = check_memorization(pricer, LONG_ITEMS, 30)
        assert check["asked"] == 30
        # Of some groups the first half is the same: there the second half is another color's.
        assert 10 <= check["whole"] <= check["eight_words"] <= 18
        assert 10 <= check["price"] <= check["eight_words"]
        assert check["price_by_chance"] < 2
        requests = len(fake.requests)
        assert check["requests"] == requests
        assert check["spent_usd"] == pytest.approx(fake.billed_usd(1, 2))
        assert check_memorization(pricer, LONG_ITEMS, 30) == {**check, "requests": 0}
        assert len(fake.requests) == requests
        assert all("response_format" not in seen.body for seen in fake.requests)
        pricer.close()


def test_a_model_that_knows_nothing_is_found_to_know_nothing(tmp_path: Path) -> None:
    """And a refusal is no recital."""
    with (
        FakeEndpoint(lambda _: "I'm sorry, I can't recite that.") as fake,
        ResponseCache(tmp_path / "a.sqlite") as cache,
    ):
        pricer = ApiPricer(fake.endpoint(), PromptOptions(), cache, Budget(), currency="USD")
        check = check_memorization(pricer, LONG_ITEMS, 5)
        pricer.close()
    assert (check["asked"], check["eight_words"], check["whole"], check["price"]) == (5, 0, 0, 0)


def test_a_listing_too_short_to_tell_is_not_asked_about() -> None:
    """Ten words of the second half at least."""
    short = Item(Listing("s", "Hose", "a red hose of ten metres"), 9.0)
    assert split_halves(short.listing) is None
    assert [item.listing.id for item in choose_items([short, *LONG_ITEMS], 100)] != []
    assert short not in choose_items([short, *LONG_ITEMS], 100)
    assert choose_items(LONG_ITEMS, 5) == choose_items(list(reversed(LONG_ITEMS)), 5)


def test_a_listing_without_spaces_is_halved_too() -> None:
    """A Chinese text is cut between characters, so that it can be asked for as well."""
    text = "手工编织羊毛地毯北欧风格客厅卧室床边防滑加厚可机洗灰色简约现代"
    first, rest = split_halves(Listing("", "", text)) or ("", [])
    assert (first, len(rest)) == (text[:15], 15)


def test_the_halves_make_the_whole() -> None:
    """The first is as it stands, the second is its words."""
    first, rest = split_halves(LONG_ITEMS[0].listing) or ("", [])
    assert render(LONG_ITEMS[0].listing).startswith(first)
    assert " ".join(rest[-3:]) in render(LONG_ITEMS[0].listing).lower().replace(":", "").replace("\n", " ")


def test_the_last_price_line_counts() -> None:
    """As an amount in the catalog's currency, else none."""
    assert find_price("Old price: $5\nPrice: **$24.99**", "USD") == 24.99
    assert find_price("Price: unknown", "USD") is None
    assert find_price("Price: 120\t150", "USD") is None
    assert find_price("It costs 5", "USD") is None


def test_chance_is_what_dealing_the_prices_round_would_give() -> None:
    """Every reply is 10 and half of the other listings cost 10: by chance half of the replies are right."""
    assert matches_by_chance([(10.0, 10.0), (10.0, 10.0), (10.0, 20.0)]) == 2.0
    assert matches_by_chance([]) == 0.0
