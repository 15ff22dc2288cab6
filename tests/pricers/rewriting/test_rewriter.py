"""Listings that are rewritten by an API model, as a fitted model does it at pricing time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pricesmith.catalog.clean import CleanSettings
from pricesmith.catalog.rewriting import Rewriting
from pricesmith.core.errors import InputError, PricesmithError, UsageError
from pricesmith.core.types import Listing
from pricesmith.pricers.api.limits import BudgetExceeded
from pricesmith.pricers.api.model_spec import ApiSettings
from pricesmith.pricers.api.response_cache import REWRITING
from pricesmith.pricers.rewriting.api_rewriter import parse_rewriter_model
from pricesmith.pricers.rewriting.form import PROMPT_VERSION
from pricesmith.pricers.rewriting.rewriter import ListingRewriter
from pricesmith.testing import FakeEndpoint
from pricesmith.testing.goods import make_items

CLEANING = CleanSettings(currency="USD")
LISTINGS = [item.listing for item in make_items(12)[0]]
MODELS = ("shots=2", "comparables=2", "memorization_check=5")


def clean_form(question: str) -> str:
    """The answer of a model that keeps the first line and the size."""
    lines = question.split("\n")
    size = next(line for line in lines if line.startswith("Size"))
    return f"Title: {lines[0]}\nDescription: one of {lines[0].split()[1]}\n{size}"


def build_rewriter(fake: FakeEndpoint, monkeypatch: pytest.MonkeyPatch, more: str = "price=1/2") -> ListingRewriter:
    """The rewriting of a model folder by the fake endpoint."""
    monkeypatch.setenv("MADE_KEY", fake.key)
    spec = f"api:made@url={fake.url},key=MADE_KEY,{more}".rstrip(",")
    return ListingRewriter(Rewriting(model=spec, prompt_version=PROMPT_VERSION), CLEANING, "USD")


def test_listings_are_rewritten_once_and_their_cost_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time, also in another command, nothing is sent. No request holds a price or asks for one."""
    with FakeEndpoint(clean_form) as fake:
        rewriter = build_rewriter(fake, monkeypatch)
        with ApiSettings() as settings:
            answers = rewriter.rewrite(LISTINGS)
            assert rewriter.rewrite(LISTINGS)[0].listing == answers[0].listing
        with ApiSettings() as settings:
            again = rewriter.rewrite(LISTINGS)
            cache = settings.response_cache()
            assert cache.run("SELECT DISTINCT purpose FROM answers") == [(REWRITING,)]
        assert len(fake.requests) == len(LISTINGS)
        assert [answer.listing for answer in again] == [answer.listing for answer in answers]
        assert all(answer.listing.text.startswith("one of ") for answer in answers)
        assert sum(answer.cost_usd or 0.0 for answer in answers) == pytest.approx(fake.billed_usd(1.0, 2.0))
        for request in fake.requests:
            assert "response_format" not in request.body
            assert "price" not in request.question.casefold()


def test_a_refused_parameter_costs_prices_no_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clean form is asked for without a schema, so the schema is not what the endpoint refuses, whatever it says."""
    with FakeEndpoint(clean_form, refuses=("temperature",), message="This cannot be done") as fake:
        rewriter = build_rewriter(fake, monkeypatch)
        with ApiSettings() as settings:
            assert not any(answer.error for answer in rewriter.rewrite(LISTINGS))
            capabilities = settings.response_cache().load_capabilities(fake.url, "made")
        assert (capabilities["json"], capabilities["temperature"]) == (True, False)
        assert sum(request.status == 400 for request in fake.requests) == 1


def test_a_listing_in_the_form_is_not_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """The items of a rewritten catalog are priced as they are; those of another rewriting are refused."""
    with FakeEndpoint(clean_form) as fake:
        rewriter = build_rewriter(fake, monkeypatch)
        ready = replace(LISTINGS[0], rewriting=rewriter.rewriting.id)
        with ApiSettings():
            answers = rewriter.rewrite([ready, LISTINGS[1]])
            assert answers[0].listing is ready
            with pytest.raises(UsageError) as error:
                rewriter.rewrite([replace(LISTINGS[0], rewriting="another")])
        assert "Price the original listings" in error.value.hint
        assert len(fake.requests) == 1


def test_without_a_budget_left_a_listing_is_not_rewritten_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a fallback the reason is in the answer, and cached answers are used; else it is an error."""
    with FakeEndpoint(clean_form) as fake:
        rewriter = build_rewriter(fake, monkeypatch)
        with ApiSettings():
            rewriter.rewrite(LISTINGS[:2])
        with ApiSettings(budget=1e-6, fallback=True):
            answers = rewriter.rewrite(LISTINGS[:3])
        assert [answer.error for answer in answers] == ["", "", "the budget is spent"]
        assert answers[2].listing.text == LISTINGS[2].text
        with ApiSettings(budget=1e-6), pytest.raises(BudgetExceeded):
            rewriter.rewrite(LISTINGS[2:3])
        assert len(fake.requests) == 2


def test_an_endpoint_that_is_down_is_not_asked_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every listing would wait for its tries; without a fallback the error is raised."""
    with FakeEndpoint(clean_form, faults=lambda number, again: "503") as fake:
        rewriter = build_rewriter(fake, monkeypatch)
        with ApiSettings(fallback=True):
            assert rewriter.language_model.name == "api:made"
            rewriter.language_model.client.max_tries = 1  # type: ignore[union-attr]
            first, sent = rewriter.rewrite(LISTINGS), len(fake.requests)
            assert all("does not answer" in answer.error for answer in first)
            rewriter.rewrite(LISTINGS)
            assert len(fake.requests) == sent
        with ApiSettings(fallback=True):  # a server is asked about one listing at a time
            assert rewriter.language_model.name == "api:made"
            rewriter.language_model.client.max_tries = 1  # type: ignore[union-attr]
            answers = [rewriter.rewrite([listing])[0] for listing in LISTINGS[:3]]
            assert {answer.error for answer in answers} == {"no reply: HTTP 503"}
            assert len(fake.requests) == sent + 2
        with ApiSettings():
            assert rewriter.language_model.name == "api:made"
            rewriter.language_model.client.max_tries = 1  # type: ignore[union-attr]
            with pytest.raises(PricesmithError, match="does not answer"):
                rewriter.rewrite(LISTINGS)


@pytest.mark.parametrize("options", MODELS)
def test_a_model_that_would_be_shown_prices_is_refused(options: str) -> None:
    """Examples with prices, and the check of memorized prices."""
    with pytest.raises(UsageError) as error:
        parse_rewriter_model(f"api:gpt-6-luna@{options}")
    assert error.value.got == options


def test_another_version_of_the_prompt_is_refused() -> None:
    """A model that was fitted on one form cannot price another."""
    with pytest.raises(InputError) as error:
        ListingRewriter(Rewriting(model="api:gpt-6-luna", prompt_version=PROMPT_VERSION + 1), CLEANING, "USD")
    assert "fit the model again" in error.value.hint


def test_the_identity_of_a_rewriting_depends_on_model_prompt_and_weights() -> None:
    """And not on what it cost."""
    first = Rewriting(model="api:gpt-6-luna", prompt_version=1)
    assert first.id == Rewriting(model="api:gpt-6-luna", prompt_version=1, usd_per_listing=0.1).id
    others = [
        Rewriting(model="api:gpt-6-sol", prompt_version=1),
        Rewriting(model="api:gpt-6-luna", prompt_version=2),
        Rewriting(model="api:gpt-6-luna", prompt_version=1, base_fingerprint="ab"),
    ]
    assert len({first.id, *(other.id for other in others)}) == 4
    assert Listing("1", "hose", "25 m") == Listing("1", "hose", "25 m", rewriting="")
