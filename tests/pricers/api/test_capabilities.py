"""How an endpoint is spoken to is found out by its 400s, and which of them are about a listing or the account."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.pricers.api.test_client import LISTINGS, answer, run_once

from pricesmith.core.types import render
from pricesmith.pricers.api.pricer import PromptOptions
from pricesmith.pricers.api.response_cache import ResponseCache
from pricesmith.testing import FakeEndpoint


def test_an_answer_longer_than_the_context_is_remembered_of_no_listing(tmp_path: Path) -> None:
    """output= asks for too much: it stops with that, and a smaller one goes on."""
    words = "context_length_exceeded: the maximum is 2048 tokens. However, you requested 4096 tokens in the completion."
    with FakeEndpoint(answer, faults=lambda number, before: "400", message=words) as fake:
        first = run_once(fake, tmp_path / "a.sqlite")
        assert "does not answer" in first.ended
        assert not first.pricer.client.proven
        with ResponseCache(tmp_path / "a.sqlite") as cache:
            assert not cache.find(request.key for request in first.pricer.requests(LISTINGS))


def test_how_to_speak_is_found_out_once(tmp_path: Path) -> None:
    """A second pricer of the endpoint sends no request that is refused."""
    with FakeEndpoint(answer, refuses=("max_tokens", "temperature", "response_format")) as fake:
        run_once(fake, tmp_path / "a.sqlite")
        assert sum(seen.status == 400 for seen in fake.requests) == 3
        other = PromptOptions(max_output_tokens=65)
        run_once(fake, tmp_path / "a.sqlite", options=other)
        assert sum(seen.status == 400 for seen in fake.requests) == 3
        assert "max_completion_tokens" in fake.requests[-1].body


def test_an_endpoint_that_takes_nothing_is_reported(tmp_path: Path) -> None:
    """A 400 to everything, whatever is left out, for three listings ends, with its words."""
    with FakeEndpoint(answer, refuses=("messages",)) as fake:
        outcome = run_once(fake, tmp_path / "a.sqlite")
    assert "HTTP 400" in outcome.ended
    assert len(fake.requests) == 3 * 3


@pytest.mark.parametrize("index", [0, 1, 7])
def test_a_listing_that_gets_400_in_every_way_keeps_no_other_from_being_asked(tmp_path: Path, index: int) -> None:
    """Wherever it stands, also where it is asked for again alone: the endpoint's way of speaking is not blamed."""
    with FakeEndpoint(answer, rejects=render(LISTINGS[index])) as fake:
        for _ in range(2):
            outcome = run_once(fake, tmp_path / "a.sqlite", concurrency=2)
            assert outcome.ended == "all answered"
            assert [quote.price is None for quote in outcome.quotes] == [
                listing is LISTINGS[index] for listing in LISTINGS
            ]
            assert outcome.pricer.usage.no_reply == {"HTTP 400": 1}
        assert len(fake.billed()) == len(LISTINGS) - 1
    assert all("response_format" in seen.body for seen in fake.billed())


@pytest.mark.parametrize("words", ["API key not valid. Please pass a valid API key.", "Your credit balance is too low"])
def test_a_400_about_the_account_stops_at_once(tmp_path: Path, words: str) -> None:
    """Some endpoints send a 400 for what others report as 401 or 402; no listing counts as refused because of it."""
    with FakeEndpoint(answer, faults=lambda number, before: "400" if number >= 5 else None, message=words) as fake:
        outcome = run_once(fake, tmp_path / "a.sqlite", concurrency=1)
        assert "HTTP 400" in outcome.ended
        assert len(fake.requests) == 6
        fake.faults = {}
        assert run_once(fake, tmp_path / "a.sqlite").ended == "all answered"
        assert len(fake.billed()) == 12


def test_a_listing_that_the_endpoint_rejects_is_no_answer_and_remembered(tmp_path: Path) -> None:
    """Too long, or flagged: the reason is counted, and the request is not repeated."""
    words = "This model's maximum context_length is exceeded"
    with FakeEndpoint(answer, faults={4: "400"}, message=words) as fake:
        first = run_once(fake, tmp_path / "a.sqlite", concurrency=1)
        second = run_once(fake, tmp_path / "a.sqlite")
        assert len(fake.requests) == 12
    assert first.quotes == second.quotes
    assert first.pricer.usage.unanswered == {"a request that the endpoint rejected": 1}
    assert [quote.raw for quote in second.quotes if quote.price is None] == [words]


def test_a_400_that_nobody_understands_is_not_remembered(tmp_path: Path) -> None:
    """One listing is left without a reply and asked again the next time; many stop the work."""
    with FakeEndpoint(answer, faults={4: "400"}) as fake:
        first = run_once(fake, tmp_path / "a.sqlite", concurrency=1)
        second = run_once(fake, tmp_path / "a.sqlite")
        assert len(fake.requests) == 13
    assert first.pricer.usage.no_reply == {"HTTP 400": 1}
    assert all(quote.price for quote in second.quotes)
