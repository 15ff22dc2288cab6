"""Every fault of an endpoint ends as an answer, a counted failure or a clear stop; the table of them is printed here.

pytest -s tests/pricers/api/test_client.py -k table
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pricesmith.core.errors import PricesmithError, UsageError
from pricesmith.core.types import Listing, Quote
from pricesmith.pricers.api.client import ApiClient, CompletionCall, RequestFailed
from pricesmith.pricers.api.formats.base import ApiError
from pricesmith.pricers.api.limits import Budget, BudgetExceeded
from pricesmith.pricers.api.pricer import ApiPricer, PromptOptions
from pricesmith.pricers.api.response_cache import Completion, ResponseCache
from pricesmith.testing import FakeEndpoint, make_items

LISTINGS = [item.listing for item in make_items(12, seed=11)[0]]
BUDGET = 5.0
LONG = 120.0  # seconds for a reply that comes: no machine is so slow that it takes longer
SHORT = 1.0  # seconds for one that never comes; others that take longer on a busy machine are tried again
NEVER = ("hang", "trickle", "drip")  # faults that only a timeout ends
PRICE = (100.0, 200.0)  # dollars per million tokens: dear, so that a budget is felt


def priced(question: str) -> int:
    """The one right answer to a question: another one would be another question's."""
    return int(hashlib.sha256(question.encode()).hexdigest()[:4], 16) % 900 + 1


def answer(question: str) -> str:
    return json.dumps({"price": priced(question)})


def build_pricer(fake: FakeEndpoint, cache: ResponseCache, budget: Budget, **more: Any) -> ApiPricer:
    """A pricer of a fake endpoint with short pauses."""
    price = more.pop("price", PRICE)
    options = more.pop("options", PromptOptions(max_output_tokens=64))
    settings = {"currency": "USD", "concurrency": 3, "timeout": LONG, **more}
    pricer = ApiPricer(fake.endpoint(price), options, cache, budget, **settings)
    pricer.client.back_off = 0.005
    return pricer


@dataclass
class Outcome:
    """What a run over the twelve listings came to."""

    quotes: list[Quote]
    ended: str
    budget: Budget
    pricer: ApiPricer

    def count_late(self, fake: FakeEndpoint) -> int:
        """How many replies came after the timeout, because the machine was busy."""
        timeouts = self.pricer.client.error_counts["timeout"]
        return timeouts - sum(request.fault in NEVER for request in fake.requests)


def run_once(fake: FakeEndpoint, path: Path, limit: float | None = BUDGET, **more: Any) -> Outcome:
    """Price the twelve listings; an error that stops the work is an outcome."""
    budget = Budget(limit)
    with ResponseCache(path) as cache:
        pricer = build_pricer(fake, cache, budget, **more)
        try:
            quotes, ended = pricer.price(LISTINGS), "all answered"
        except PricesmithError as error:
            quotes, ended = [], f"{type(error).__name__}: {error.what}"
        pricer.close()
    return Outcome(quotes, ended, budget, pricer)


def every_third(fault: str) -> Callable[[int, int], str | None]:
    """A fault on every third request, where the question is asked for the first time."""
    return lambda number, before: fault if number % 3 == 1 and not before else None


SCENARIOS: dict[str, dict[str, Any]] = {
    "none": {},
    "429 without Retry-After": {"faults": every_third("429")},
    "429 with Retry-After": {"faults": every_third("429-wait"), "wait": "0.05"},
    "500": {"faults": every_third("500")},
    "529 overloaded": {"faults": every_third("529")},
    "504 of a gateway": {"faults": every_third("504")},
    "hang": {"faults": every_third("hang"), "timeout": SHORT},
    "headers without end": {"faults": every_third("trickle"), "timeout": SHORT},
    "a byte now and then": {"faults": every_third("drip"), "timeout": SHORT},
    "cut stream": {"faults": every_third("cut")},
    "invalid JSON": {"faults": every_third("broken")},
    "refusal": {"faults": {2: "refusal", 5: "refusal"}},
    "price in words": {"faults": {2: "words", 5: "words"}},
    "delivered twice": {"faults": every_third("duplicate")},
    "no JSON schema, no temperature": {"refuses": ("response_format", "temperature")},
    "other name of the limit": {"refuses": ("max_tokens",)},
    "key revoked half-way": {"revoked_after": 6},
    "down for good": {"faults": lambda number, before: "500"},
    "budget ends": {"reasoning_tokens": 40},
}
STOPS = {"key revoked half-way": "HTTP 401", "down for good": "does not answer", "budget ends": "budget does not cover"}
UNANSWERED = {"refusal": 2, "price in words": 2}


def test_the_fault_table(tmp_path: Path) -> None:
    """Stored answers asked again: 0. Spent over budget: 0. Failures scored as price 0: none."""
    rows = []
    for number, (name, scenario) in enumerate(SCENARIOS.items()):
        faults = dict(scenario)
        timeout = faults.pop("timeout", LONG)
        store = tmp_path / f"{number}.sqlite"
        with FakeEndpoint(answer, **faults) as fake:
            first = run_once(fake, store, limit=0.2 if name == "budget ends" else BUDGET, timeout=timeout)
            late = first.count_late(fake)
            requests, billed = len(fake.requests), fake.billed_usd(*PRICE)
            fake.faults, fake.revoked_after, fake.refuses, fake.reasoning_tokens = {}, None, (), 0
            n_answered = len(fake.answered())
            second = run_once(fake, store)
            again = sum(
                fake.count_answers(question) - 1
                for question in fake.question_counts
                if fake.count_answers(question) > 1
            )
        assert again <= late, name
        assert first.budget.limit is not None
        assert billed - 1e-12 <= first.budget.spent <= first.budget.limit, name
        assert not [quote for quote in [*first.quotes, *second.quotes] if quote.price is not None and quote.price <= 0]
        ends = STOPS.get(name, "all answered")
        assert ends in first.ended, f"{name}: {first.ended}"
        assert second.ended == "all answered", f"{name}: {second.ended}"
        nothing = sum(quote.price is None for quote in second.quotes)
        assert nothing == UNANSWERED.get(name, 0), name
        right = [priced(f"What does this cost to the nearest dollar?\n\n{text_of(listing)}") for listing in LISTINGS]
        pairs = zip(second.quotes, right, strict=True)
        assert all(quote.price in (None, true) for quote, true in pairs), f"{name}: another question's answer"
        rows.append(
            (
                name,
                f"stopped: {ends}" if name in STOPS else ends,
                requests,
                n_answered,
                nothing,
                first.budget.spent,
                billed,
                len(fake.requests) - requests,
            )
        )
    print("\n\nTwelve listings, 3 requests at once; then the same again without the fault.\n")
    heads = ("requests", "answers", "no price", "spent", "billed", "2nd run")
    print(f"{'fault':31}{'what happened':45}" + "".join(f"{head:>9}" for head in heads))
    for name, ended, requests, n_answered, nothing, spent, billed, more in rows:
        print(f"{name:31}{ended:45}{requests:9}{n_answered:8}{nothing:9}{spent:9.4f}{billed:9.4f}{more:9}")
    print("\nstored answers asked again 0, spent over budget 0, failures scored as price 0: none")


def text_of(listing: Listing) -> str:
    """A listing as it is asked about."""
    from pricesmith.core.types import render

    return render(listing)


def test_retry_after_holds_everybody_back(tmp_path: Path) -> None:
    """After a 429 that says how long, no request is sent until then."""
    with FakeEndpoint(answer, faults={4: "429-wait"}, wait="0.6") as fake:
        began = time.perf_counter()
        outcome = run_once(fake, tmp_path / "a.sqlite")
        took = time.perf_counter() - began
    assert outcome.ended == "all answered"
    assert took >= 0.6


def test_a_wait_that_is_too_long_stops_with_how_long(tmp_path: Path) -> None:
    """A long wait is shown in the terminal with its reason."""
    with FakeEndpoint(answer, faults={0: "429-wait"}, wait="3600") as fake:
        outcome = run_once(fake, tmp_path / "a.sqlite")
    assert "HTTP 429" in outcome.ended
    assert len(fake.requests) == 1


def test_a_wrong_key_costs_one_request_and_is_not_repeated(tmp_path: Path) -> None:
    """Until one answer came requests go one at a time; the key is in no error."""
    with FakeEndpoint(answer, revoked_after=0) as fake, ResponseCache(tmp_path / "a.sqlite") as cache:
        pricer = build_pricer(fake, cache, Budget(BUDGET), concurrency=8)
        with pytest.raises(PricesmithError, match="HTTP 401") as caught:
            pricer.price(LISTINGS)
        pricer.close()
    assert len(fake.requests) == 1
    assert fake.key not in str(caught.value)
    assert "MADE_KEY" in str(caught.value)


def test_no_more_requests_are_in_flight_than_were_allowed(tmp_path: Path) -> None:
    """And more than one at a time."""
    with FakeEndpoint(answer, delay=0.05) as fake:
        run_once(fake, tmp_path / "a.sqlite", concurrency=4)
    assert 2 <= fake.max_in_flight <= 4


def test_a_lost_answer_is_paid_for_in_the_budget(tmp_path: Path) -> None:
    """The endpoint may charge for what we never saw: it counts at its worst."""
    with FakeEndpoint(answer, faults={3: "hang", 4: "cut", 5: "broken"}) as fake:
        outcome = run_once(fake, tmp_path / "a.sqlite", timeout=SHORT)
        billed, whole, late = fake.billed_usd(*PRICE), len(fake.answered()), outcome.count_late(fake)
    assert (len(fake.billed()), whole) == (15 + late, 12 + late)
    assert billed < outcome.budget.spent <= BUDGET
    assert outcome.pricer.client.failed_tries_usd == outcome.budget.failed_tries_usd > 0
    assert sum(quote.cost_usd for quote in outcome.quotes) == pytest.approx(outcome.budget.spent)


@contextlib.contextmanager
def recorded_waits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ApiClient, list[float]]]:
    """A client whose pauses are recorded instead of waited, each as long as it can be drawn."""
    waits: list[float] = []
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    with FakeEndpoint(answer) as fake, ResponseCache(folder / "a.sqlite") as cache:
        client = build_pricer(fake, cache, Budget()).client
        client.back_off, client.responded = 0.5, True
        monkeypatch.setattr(client, "sleep", lambda seconds, stop: waits.append(seconds))
        yield client, waits
        client.close()


def test_a_requested_wait_is_followed_with_a_random_pause_on_top(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Retry-After, or with 0 or a past date, the back-off alone applies; delayed requests start apart."""
    with recorded_waits(tmp_path, monkeypatch) as (client, waited):
        errors = iter(ApiError("retry", "HTTP 429", retry_after=seconds) for seconds in (None, 0.0, None, 20.0))
        reply = Completion("$5", "stop", 1, 1, 0.0, 0.1)
        monkeypatch.setattr(client, "send", lambda call, capabilities: next(errors, reply))
        client.complete(CompletionCall([], 0.0, threading.Event()))
        # Each pause follows the wait for its turn, which is 0 unless an endpoint has named a time.
        assert waited == [0.0, 1.0, 0.0, 2.0, 0.0, 4.0, 0.0, 28.0, pytest.approx(20.5, abs=0.4)]


def test_a_pause_is_at_most_thirty_seconds_and_a_request_has_eight_tries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pauses double up to their limit; the error says how many tries there were, and what they may cost."""
    with recorded_waits(tmp_path, monkeypatch) as (client, waited):
        monkeypatch.setattr(client, "send", lambda call, capabilities: ApiError("retry", "HTTP 504", billed=True))
        with pytest.raises(RequestFailed) as caught:
            client.complete(CompletionCall([], 0.25, threading.Event()))
    assert waited[1::2] == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert (caught.value.tries, caught.value.cost_usd, caught.value.got) == (8, 8 * 0.25, "HTTP 504")


def test_an_endpoint_without_a_limit_of_tokens_is_stopped(tmp_path: Path) -> None:
    """No budget can be kept there: one request over, then no more."""
    with FakeEndpoint(answer, reasoning_tokens=10_000, respects_limit=False) as fake:
        outcome = run_once(fake, tmp_path / "a.sqlite", limit=5.0, concurrency=1)
    assert "ignores the limit" in outcome.ended
    assert len(fake.requests) == 1


def test_what_is_sent_is_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No facts of this machine, and no other account's names, keys or addresses from the environment."""
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_API_KEY", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(name, "planted-secret")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Planted: planted-secret")
    with FakeEndpoint(answer) as fake:
        outcome = run_once(fake, tmp_path / "a.sqlite")
    assert outcome.ended == "all answered"
    headers = {name.lower() for seen in fake.requests for name in seen.headers}
    allowed = {"host", "accept", "accept-encoding", "authorization", "content-length", "content-type", "user-agent"}
    assert headers <= allowed
    assert "planted-secret" not in str(fake.requests)


def test_hostile_words_break_neither_the_store_nor_a_terminal(tmp_path: Path) -> None:
    """Half a surrogate pair, NUL and escape codes, in answers and in errors."""
    with FakeEndpoint(lambda _: "\ud83d \x00 \x1b[2J") as fake:
        outcome = run_once(fake, tmp_path / "a.sqlite")
    assert outcome.ended == "all answered"
    assert all(quote.price is None and quote.raw.encode() for quote in outcome.quotes)
    with (
        FakeEndpoint(revoked_after=0, message="\x1b[2J\ud83d no") as fake,
        ResponseCache(tmp_path / "b.sqlite") as cache,
    ):
        pricer = build_pricer(fake, cache, Budget())
        with pytest.raises(PricesmithError) as caught:
            pricer.price(LISTINGS)
        pricer.close()
    assert "\x1b" not in str(caught.value)
    assert str(caught.value).encode()


def test_a_proxy_of_the_environment_does_not_stand_before_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A local server is asked directly."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with FakeEndpoint(answer) as fake:
        assert run_once(fake, tmp_path / "a.sqlite").ended == "all answered"


def test_a_url_of_another_api_is_reported_with_what_to_check(tmp_path: Path) -> None:
    """After one request."""
    with FakeEndpoint(answer, style="anthropic") as fake, ResponseCache(tmp_path / "a.sqlite") as cache:
        endpoint = replace(fake.endpoint(), format="openai")
        pricer = ApiPricer(endpoint, PromptOptions(), cache, Budget(), currency="USD")
        with pytest.raises(PricesmithError, match="HTTP 404") as caught:
            pricer.price(LISTINGS)
        pricer.close()
        assert len(fake.requests) == 1
    assert "format=" in caught.value.hint


def test_a_missing_server_is_reported(tmp_path: Path) -> None:
    """A server that is not started is no reason to wait for long."""
    with FakeEndpoint(answer) as fake:
        pass
    outcome = run_once(fake, tmp_path / "a.sqlite")
    assert "does not answer" in outcome.ended


@pytest.mark.parametrize("fault", ["trickle", "drip", "hang"])
def test_an_endpoint_that_never_answers_is_given_up_after_three_time_outs(fault: str, tmp_path: Path) -> None:
    """Not eight for each listing; the error has a hint for more time, and no thread is left waiting."""
    with (
        FakeEndpoint(answer, faults=lambda number, before: fault) as fake,
        ResponseCache(tmp_path / "a.sqlite") as cache,
    ):
        pricer = build_pricer(fake, cache, Budget(), timeout=0.3)
        with pytest.raises(PricesmithError, match="does not answer") as caught:
            pricer.price(LISTINGS)
        pricer.close()
        assert len(fake.requests) <= 3  # on a busy machine one may time out before it is sent
    assert caught.value.got == "1 listing without a reply after 3 tries; last: timeout"
    assert "--timeout" in caught.value.hint


def test_an_endpoint_that_has_answered_once_is_tried_longer(tmp_path: Path) -> None:
    """It is there, and may be busy."""
    with FakeEndpoint(answer, faults=lambda number, before: "cut" if 1 <= number < 7 else "") as fake:
        outcome = run_once(fake, tmp_path / "a.sqlite", concurrency=1)
    assert outcome.ended == "all answered"
    assert len(fake.requests) == len(LISTINGS) + 6


def test_a_few_listings_without_a_reply_are_unanswered(tmp_path: Path) -> None:
    """Two failures of a hundred, or of a dozen, do not end the work; they are reported as failed, without a price."""
    lost = {text_of(listing) for listing in LISTINGS[:2]}
    with FakeEndpoint(answer) as fake, ResponseCache(tmp_path / "a.sqlite") as cache:
        texts = [f"What does this cost to the nearest dollar?\n\n{text}" for text in lost]
        reply = fake.choose_fault
        fake.choose_fault = lambda number, before, keyed, body: (  # type: ignore[method-assign]
            "500" if body["messages"][-1]["content"] in texts else reply(number, before, keyed, body)
        )
        pricer = build_pricer(fake, cache, Budget(), concurrency=1)
        pricer.set_examples([])
        quotes = pricer.price([*LISTINGS[2:], *LISTINGS[:2]])
        pricer.check_answered()
        pricer.close()
    assert [quote.price is None for quote in quotes] == [False] * 10 + [True] * 2
    assert pricer.usage.no_reply == {"HTTP 500": 2}


def test_a_proxy_that_cannot_be_used_is_reported_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client's own words hold the whole address."""
    monkeypatch.setenv("ALL_PROXY", "gopher://user:secret@127.0.0.1:9")
    with FakeEndpoint(answer) as fake, ResponseCache(tmp_path / "a.sqlite") as cache:
        pricer = build_pricer(fake, cache, Budget())
        pricer.client.endpoint = replace(pricer.endpoint, url="http://shop.example/v1")
        with pytest.raises(UsageError, match="proxy in the environment") as caught:
            pricer.price(LISTINGS)
        pricer.close()
    assert "secret" not in str(caught.value)


def test_a_key_in_an_answer_or_an_error_is_stored_and_shown_nowhere(tmp_path: Path) -> None:
    """An endpoint that sends it back, as it is or encoded, in words, in its reason for ending, or in an error."""
    template = "You sent Bearer {key} and " + "{base64} and {percent}"

    def echo(question: str) -> str:
        key = fake.key
        packed = base64.b64encode(f"Bearer {key}".encode()).decode()
        return template.format(key=key, base64=packed, percent=key.replace("-", "%2D"))

    with FakeEndpoint(echo) as fake:
        outcome = run_once(fake, tmp_path / "a.sqlite")
        packed = base64.b64encode(f"Bearer {fake.key}".encode()).decode()
    assert {quote.raw for quote in outcome.quotes} == {"You sent Bearer [key] and [key] and [key]"}
    for path in tmp_path.rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        assert not any(part.encode() in data for part in (fake.key[8:], packed, "0123456789")), path
    message = f"?api_key={fake.key.replace('-', '%2d')} {packed}"
    with FakeEndpoint(revoked_after=0, message=message) as fake, ResponseCache(tmp_path / "b.sqlite") as cache:
        pricer = build_pricer(fake, cache, Budget())
        with pytest.raises(PricesmithError) as caught:
            pricer.price(LISTINGS)
        pricer.close()
    assert caught.value.got == "?api_key=[key] [key]"


def test_a_key_is_in_no_log_of_the_clients_libraries(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With logging on, the endpoint's replies are logged without the key; other loggers are unchanged."""
    caplog.set_level(logging.DEBUG)
    with FakeEndpoint(answer) as fake:
        fake.key = "sk-only-here-uvwxyz"  # a client of another test may still be open, and masks its own key
        fake.reason = f"Made-for-{fake.key}"
        outcome = run_once(fake, tmp_path / "a.sqlite")
        assert outcome.ended == "all answered"
        assert "Made-for-[key]" in caplog.text
        assert fake.key not in caplog.text
        caplog.clear()
        logging.getLogger("httpx2").info("later: %s", fake.key)
    assert fake.key in caplog.text


def test_a_key_in_an_older_answer_is_masked_when_it_is_read(tmp_path: Path) -> None:
    """Stores were written before keys were masked."""
    with FakeEndpoint(answer) as fake, ResponseCache(tmp_path / "a.sqlite") as cache:
        pricer = build_pricer(fake, cache, Budget())
        (request,) = pricer.requests(LISTINGS[:1])
        cache.store(request.key, fake.url, "made-model", Completion(f"Bearer {fake.key}", "stop", 1, 1, 0.0, 0.1))
        (quote,) = pricer.price(LISTINGS[:1])
        pricer.close()
    assert quote.raw == "Bearer [key]"


def test_a_budget_that_covers_no_request_sends_none(tmp_path: Path) -> None:
    """The worst case of the first one is over it."""
    with FakeEndpoint(answer) as fake:
        outcome = run_once(fake, tmp_path / "a.sqlite", limit=1e-6)
    assert BudgetExceeded.__name__ in outcome.ended
    assert fake.requests == []


@pytest.mark.parametrize(("spent", "hint"), [(0.0, "max_output_tokens="), (0.5, "--limit")])
def test_a_budget_that_is_too_small_is_reported_with_what_helps(spent: float, hint: str) -> None:
    """Fewer listings do not help if not even one request fits."""
    budget = Budget(1.0)
    assert budget.reserve(spent, threading.Event())
    budget.commit(spent, spent)
    with pytest.raises(BudgetExceeded) as caught:
        budget.reserve(2.0, threading.Event())
    assert hint in caught.value.hint
    assert "higher --budget" in caught.value.hint
