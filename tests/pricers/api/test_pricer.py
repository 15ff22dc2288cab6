"""An API model is a pricer like any other, no reply is paid for twice, and it is never shown the evaluated item."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from pricesmith.core.errors import PricesmithError, UsageError
from pricesmith.core.progress import Progress
from pricesmith.core.types import Item
from pricesmith.pricers.api.eval_report import ApiCostReporter
from pricesmith.pricers.api.limits import Budget
from pricesmith.pricers.api.pricer import ApiPricer, PromptOptions
from pricesmith.pricers.api.prices import LongPromptFactors, PriceList, PricePeriod, TokenPrice
from pricesmith.pricers.api.response_cache import ResponseCache
from pricesmith.testing import FakeEndpoint, check_pricer, make_items

ITEMS = make_items(60, seed=21)[0]
LISTINGS = [item.listing for item in ITEMS]


class RecordedNotes(Progress):
    """Notes, kept."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_it_passes_the_checks_of_every_pricer(tmp_path: Path) -> None:
    """Order, batches, odd texts, the same quote again: as a model on this machine."""
    with FakeEndpoint(lambda question: json.dumps({"price": 5 + len(question) % 90})) as fake:
        with ResponseCache(tmp_path / "a.sqlite") as cache:
            pricer = ApiPricer(fake.endpoint(), PromptOptions(), cache, Budget(), currency="USD")
            check_pricer(pricer, LISTINGS[:15])
            pricer.close()
        assert max(fake.count_answers(question) for question in fake.question_counts) == 1


def test_a_second_run_is_free_and_reports_the_same_seconds_and_dollars(tmp_path: Path) -> None:
    """No request, the latency and the cost of the first time, and how many were remembered."""
    with FakeEndpoint(delay=0.02) as fake:
        quotes = []
        for _ in range(2):
            notes, budget = RecordedNotes(), Budget()
            with ResponseCache(tmp_path / "a.sqlite") as cache:
                pricer = ApiPricer(fake.endpoint(), PromptOptions(), cache, budget, currency="USD", progress=notes)
                bill = ApiCostReporter(pricer, dict)
                bill.before(LISTINGS)
                quotes.append(pricer.price(LISTINGS))
                facts = bill.after()
                pricer.close()
        assert len(fake.requests) == len(LISTINGS)
    assert quotes[0] == quotes[1]
    assert all(quote.seconds and quote.seconds >= 0.02 and quote.cost_usd > 0 for quote in quotes[1])
    assert budget.spent == 0
    assert facts["answers"] == {"requested": 0, "cached": 60, "from_batch_jobs": 0, "requested_again": 0}
    assert facts["spent_usd"] == pytest.approx(fake.billed_usd(1, 2))
    assert "all in the response cache: no request is sent, nothing is paid" in notes.notes[0]


@pytest.mark.parametrize("above", [None, 500])
def test_the_estimate_is_what_it_comes_to(tmp_path: Path, above: int | None) -> None:
    """Tokens and dollars within 5 % on the fake endpoint, and the worst case above them, before anything is sent. That
    long prompts cost more changes nothing: no prompt is long, only all of them together."""
    notes = RecordedNotes()
    long_prompt = LongPromptFactors(above, 5.0, 5.0) if above else None
    price = PriceList((PricePeriod(TokenPrice(1.0, 2.0, long_prompt=long_prompt)),))
    with FakeEndpoint(lambda _: '{"price": 123.45, "currency": "USD"}') as fake:
        with ResponseCache(tmp_path / "a.sqlite") as cache:
            endpoint = replace(fake.endpoint(), price=price)
            pricer = ApiPricer(endpoint, PromptOptions(), cache, Budget(1.0), currency="USD", progress=notes)
            ApiCostReporter(pricer, dict).before(LISTINGS)
            assert fake.requests == []
            pricer.price(LISTINGS)
            pricer.close()
        tokens = sum(seen.tokens_in for seen in fake.billed())
        out = sum(seen.tokens_out for seen in fake.billed())
    estimate = re.search(r"about ([\d,]+) input tokens and ([\d,]+) output tokens", notes.notes[0])
    money = re.search(r"Estimated cost: \$([\d.]+); at most \$([\d.]+)", notes.notes[1])
    assert estimate is not None
    assert money is not None
    assert float(estimate[1].replace(",", "")) == pytest.approx(tokens, rel=0.05)
    assert float(estimate[2].replace(",", "")) == pytest.approx(out, rel=0.15)
    assert float(money[1]) == pytest.approx(fake.billed_usd(1, 2), rel=0.05)
    assert float(money[2]) > float(money[1])


@pytest.mark.parametrize(
    ("usage", "price", "known"), [(True, None, False), (False, (1.0, 2.0), False), (True, (1.0, 2.0), True)]
)
def test_a_cost_that_is_not_known_is_unknown(
    tmp_path: Path, usage: bool, price: tuple[float, float] | None, known: bool
) -> None:
    """Without a token price, or if the endpoint does not report tokens, the cost is null, not 0."""
    with FakeEndpoint(usage=usage) as fake, ResponseCache(tmp_path / "a.sqlite") as cache:
        pricer = ApiPricer(fake.endpoint(price), PromptOptions(), cache, Budget(), currency="USD")
        pricer.price(LISTINGS[:3])
        facts = ApiCostReporter(pricer, dict).after()
        pricer.close()
    assert facts["cost_known"] is known
    assert (facts["spent_usd"] is None) is not known


def test_an_endpoint_that_says_its_dollars_is_believed_where_no_price_is_known(tmp_path: Path) -> None:
    """OpenRouter reports the cost with every reply."""
    with FakeEndpoint(cost=0.25) as fake, ResponseCache(tmp_path / "a.sqlite") as cache:
        pricer = ApiPricer(fake.endpoint(None), PromptOptions(), cache, Budget(), currency="USD")
        assert [quote.cost_usd for quote in pricer.price(LISTINGS[:3])] == [0.25] * 3
        assert ApiCostReporter(pricer, dict).after()["cost_known"] is True
        pricer.close()


def test_a_price_that_is_found_later_is_applied_to_old_answers(tmp_path: Path) -> None:
    """The tokens were stored: no request is sent again."""
    with FakeEndpoint() as fake, ResponseCache(tmp_path / "a.sqlite") as cache:
        for price in (None, (1.0, 2.0)):
            pricer = ApiPricer(fake.endpoint(price), PromptOptions(), cache, Budget(), currency="USD")
            quotes = pricer.price(LISTINGS[:3])
            pricer.close()
        assert len(fake.requests) == 3
    assert sum(quote.cost_usd for quote in quotes) == pytest.approx(fake.billed_usd(1, 2))


@pytest.mark.parametrize(("reported", "first", "then"), [(None, 1, 10), (0.001, 1, 1000)])
def test_a_price_that_is_put_right_later_holds_for_old_answers(
    reported: float | None, first: float, then: float, tmp_path: Path
) -> None:
    """The cost is the tokens at the current price, unless the endpoint reported the cost."""
    spent = []
    with FakeEndpoint(cost=reported) as fake, ResponseCache(tmp_path / "a.sqlite") as cache:
        for price in (first, then):
            pricer = ApiPricer(fake.endpoint((price, price)), PromptOptions(), cache, Budget(), currency="USD")
            quotes = pricer.price(LISTINGS[:3])
            facts = ApiCostReporter(pricer, dict).after()
            tokens = sum(facts["tokens"].values())
            assert facts["spent_usd"] == pytest.approx(3 * reported if reported else tokens * price / 1e6)
            assert facts["spent_usd"] == pytest.approx(sum(quote.cost_usd for quote in quotes))
            spent.append(facts["spent_usd"])
            pricer.close()
        assert len(fake.requests) == 3
    assert (spent[1] > spent[0]) is (reported is None)


def test_a_budget_without_a_price_is_refused(tmp_path: Path) -> None:
    """Before anything is asked, with where a price can be put."""
    with FakeEndpoint() as fake, ResponseCache(tmp_path / "a.sqlite") as cache:
        with pytest.raises(UsageError, match="budget cannot be guaranteed") as caught:
            ApiPricer(fake.endpoint(None), PromptOptions(), cache, Budget(1.0), currency="USD")
        ended = PriceList((PricePeriod(TokenPrice(1.0, 2.0), last=date(2026, 10, 1)),))
        with pytest.raises(UsageError) as error:
            ApiPricer(replace(fake.endpoint(), price=ended), PromptOptions(), cache, Budget(1.0), currency="USD")
        assert error.value.got == "--budget, and a price that ended on 2026-10-01"
        assert fake.requests == []
    assert "providers.toml" in str(caught.value)


def test_failures_are_remembered_as_what_they_are_and_transport_errors_are_not(tmp_path: Path) -> None:
    """A refusal was an answer and is not asked for again; a listing without a reply is."""
    texts = {listing.title: '{"price": 9}' for listing in LISTINGS}
    texts[LISTINGS[0].title] = "I'm sorry, but I can't help with that."
    refused = LISTINGS[0].title

    def say(question: str) -> str:
        return next(text for title, text in texts.items() if title in question)

    with FakeEndpoint(say, faults=lambda number, before: "500" if number >= 30 else None) as fake:
        for again in (False, True):
            with ResponseCache(tmp_path / "a.sqlite") as cache:
                listings = [listing for listing in LISTINGS[:30] if again or listing.title != "x"]
                pricer = ApiPricer(fake.endpoint(), PromptOptions(), cache, Budget(), currency="USD", concurrency=1)
                pricer.client.back_off = 0.001
                if not again:
                    quotes = pricer.price(listings)
                    lost = pricer.price(LISTINGS[30:31])
                    usage = pricer.usage
                else:
                    fake.faults = {}
                    second = pricer.price(listings)
                    cached_quotes = pricer.price(LISTINGS[30:31])
                pricer.close()
        refusals = sum(refused in listing.title for listing in LISTINGS[:30])
        assert usage.unanswered["a refusal"] == refusals
        assert usage.no_reply == {"HTTP 500": 1}
    assert quotes[0].price is None
    assert quotes == second
    assert lost[0].price is None
    assert "HTTP 500" in lost[0].raw
    assert cached_quotes[0].price == 9


def test_a_batch_that_stays_without_replies_is_an_error(tmp_path: Path) -> None:
    """An evaluation with half of its answers lost would be of something else."""
    fault = {"chair": "500", "lamp": "500"}
    with FakeEndpoint() as fake, ResponseCache(tmp_path / "a.sqlite") as cache:
        fake.faults = lambda number, before: fault.get(LISTINGS[number].category) if number < 60 else "500"
        pricer = ApiPricer(fake.endpoint(), PromptOptions(), cache, Budget(), currency="USD")
        pricer.client.back_off = 0.001
        with pytest.raises(PricesmithError, match="does not answer") as caught:
            pricer.price(LISTINGS)
        pricer.close()
    assert "without a reply after 8 tries" in str(caught.value)


def test_shots_are_fixed_and_comparables_are_the_nearest(tmp_path: Path) -> None:
    """Both come as turns before the question, as JSON with whole prices; a fold has its own."""
    train = make_items(300, seed=9)[0]
    with FakeEndpoint() as fake, ResponseCache(tmp_path / "a.sqlite") as cache:
        options = PromptOptions(shots=3, comparables=2)
        pricer = ApiPricer(fake.endpoint(), options, cache, Budget(), currency="USD", train=lambda: train)
        turns = [request.messages for request in pricer.requests(LISTINGS[:4])]
        assert {len(turn) for turn in turns} == {1 + 2 * 5 + 1}
        assert len({turn[1:7] == turns[0][1:7] for turn in turns}) == 1
        assert turns[0][7:11] != turns[1][7:11]
        assert all(isinstance(json.loads(turn["content"])["price"], int) for turn in turns[0][2:11:2])
        fold: list[Item] = train[:100]
        other = pricer.with_examples(fold)
        assert other.requests(LISTINGS[:1])[0].key != pricer.requests(LISTINGS[:1])[0].key
        assert other.usage is pricer.usage
        pricer.close()
