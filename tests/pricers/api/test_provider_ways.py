"""Each provider's way of speaking, as its documentation has it: requests, replies, errors, waits and refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.pricers.api.test_claims import Notes
from tests.pricers.api.test_client import LISTINGS, answer, build_pricer, priced, run_once, text_of
from tests.pricers.api.test_providers import own

from pricesmith.core.errors import PricesmithError
from pricesmith.pricers.api.errors import classify_status
from pricesmith.pricers.api.formats.base import ApiError
from pricesmith.pricers.api.limits import Budget
from pricesmith.pricers.api.parse_response import BROKEN_JSON, REJECTED
from pricesmith.pricers.api.pricer import ApiPricer, PromptOptions
from pricesmith.pricers.api.providers import find_endpoint
from pricesmith.pricers.api.response_cache import ResponseCache
from pricesmith.testing import FakeEndpoint, make_items
from pricesmith.testing.provider_styles import STYLES

RIGHT = [priced(f"What does this cost to the nearest dollar?\n\n{text_of(listing)}") for listing in LISTINGS]


@pytest.mark.parametrize("style", STYLES)
def test_every_provider_is_asked_and_read_in_its_own_way(tmp_path: Path, style: str) -> None:
    """The right path, key and fields; the answer without reasoning; all tokens counted, those of reasoning too."""
    with FakeEndpoint(answer, style=style, reasoning_tokens=30) as fake:
        outcome = run_once(fake, tmp_path / "a.sqlite")
        assert outcome.ended == "all answered"
        assert [quote.price for quote in outcome.quotes] == RIGHT
        assert {seen.status for seen in fake.requests} == {200}
        tokens = outcome.pricer.usage.tokens
        assert tokens["input"] == sum(seen.tokens_in for seen in fake.requests)
        assert tokens["output"] == sum(seen.tokens_out for seen in fake.requests)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("fault", ["429", "529", "cut"])
def test_a_passing_fault_of_every_provider_is_retried(tmp_path: Path, style: str, fault: str) -> None:
    """Whatever form its error has."""
    with FakeEndpoint(answer, style=style, faults={2: fault}) as fake:
        outcome = run_once(fake, tmp_path / "a.sqlite")
        assert [quote.price for quote in outcome.quotes] == RIGHT
        assert len(fake.requests) == 13


@pytest.mark.parametrize("style", STYLES)
def test_a_wrong_key_stops_at_every_provider(tmp_path: Path, style: str) -> None:
    """After one request, without the key in the error."""
    with FakeEndpoint(answer, style=style, revoked_after=0) as fake, ResponseCache(tmp_path / "a.sqlite") as cache:
        pricer = build_pricer(fake, cache, Budget())
        with pytest.raises(PricesmithError, match="HTTP 401") as caught:
            pricer.price(LISTINGS)
        pricer.close()
        assert len(fake.requests) == 1
        assert (
            caught.value.got == "Incorrect API key provided: [key]"
            or caught.value.got.startswith("401: ")
            or ("[key]" in caught.value.got)
        )
        assert fake.key not in str(caught.value)


@pytest.mark.parametrize(
    ("style", "refused", "kept"),
    [
        ("openai", "temperature", "response_format"),
        ("openai", "prompt_cache_options", "response_format"),
        ("anthropic", "temperature", "output_config"),
        ("gemini", "temperature", "responseJsonSchema"),
    ],
)
def test_a_model_that_refuses_a_parameter_is_asked_without_it_and_no_other(
    tmp_path: Path, style: str, refused: str, kept: str
) -> None:
    """GPT-6 refuses the temperature: one status 400, and the schema stays. Claude is never sent one."""
    with FakeEndpoint(answer, style=style, refuses=(refused,)) as fake:
        outcome = run_once(fake, tmp_path / "a.sqlite")
        assert outcome.ended == "all answered"
        assert sum(seen.status == 400 for seen in fake.requests) == (refused in json.dumps(fake.requests[0].body))
        assert all(refused not in json.dumps(seen.body) for seen in fake.requests[1:])
        assert all(kept in json.dumps(seen.body) for seen in fake.requests)


@pytest.mark.parametrize(
    ("style", "asked", "refused", "sent"),
    [
        ("openai", "minimal", ("reasoning_effort=minimal", "reasoning_effort=none"), "low"),
        ("openai", "none", ("reasoning_effort=none",), "minimal"),
        ("openai", "max", (), "max"),
        ("openai", "low", ("reasoning_effort",), ""),
        ("anthropic", "max", (), "max"),
        ("anthropic", "minimal", (), "low"),
        ("anthropic", "xhigh", ("effort=xhigh",), "high"),
        ("gemini", "none", (), "minimal"),
    ],
)
def test_an_effort_that_a_model_does_not_have_is_replaced_and_reported(
    tmp_path: Path, style: str, asked: str, refused: tuple[str, ...], sent: str
) -> None:
    """The nearest one is sent, with the schema, and a note says so once."""
    notes = Notes()
    with FakeEndpoint(answer, style=style, refuses=refused) as fake, ResponseCache(tmp_path / "a.sqlite") as cache:
        options = PromptOptions.model_validate({"max_output_tokens": 64, "reasoning_effort": asked})
        pricer = build_pricer(fake, cache, Budget(), options=options)
        pricer.progress = notes
        pricer.price(LISTINGS[:6])
        pricer.price(LISTINGS[6:])
        pricer.close()
        assert sum(seen.status == 400 for seen in fake.requests) == len(refused)
        last = json.dumps(fake.requests[-1].body)
        assert any(word in last for word in ("json_schema", "responseJsonSchema"))
        assert (sent in last or sent.upper() in last) if sent else "reasoning_effort" not in last
    efforts = [note for note in notes.notes if "effort" in note]
    how = f"it was asked with '{sent}'" if sent else "it was asked without one"
    assert efforts == ([] if sent == asked else [f"made-model has no reasoning effort '{asked}'; {how}."])


@pytest.mark.parametrize(("style", "mark"), [("anthropic", "cache_control"), ("openai", "prompt_cache_breakpoint")])
@pytest.mark.parametrize(("option", "marked"), [("shots", 1), ("comparables", 0)])
def test_examples_are_read_from_the_cache_of_the_provider(
    tmp_path: Path, style: str, mark: str, option: str, marked: int
) -> None:
    """A mark stands after the examples that every question has, and none after those of one listing."""
    words = "brass hose " * 120
    train = [replace(item, listing=replace(item.listing, text=words)) for item in make_items(60, seed=3)[0]]
    options = PromptOptions.model_validate({"max_output_tokens": 64, option: 4})
    with FakeEndpoint(answer, style=style) as fake, ResponseCache(tmp_path / "a.sqlite") as cache:
        endpoint = replace(fake.endpoint(), model="gpt-6-luna")
        pricer = ApiPricer(endpoint, options, cache, Budget(), currency="USD", train=lambda: train)
        pricer.price(LISTINGS[:2])
        pricer.close()
        first, second = (seen.body["messages"] for seen in fake.requests)
    places = [index for index, turn in enumerate(first) if mark in json.dumps(turn)]
    assert len(places) == marked
    assert all(first[: place + 1] == second[: place + 1] for place in places)


def test_the_shipped_table_asks_each_provider_in_its_own_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the URL of the user's own table is another one."""
    for name in ("openai", "anthropic", "google"):
        with FakeEndpoint(answer, style=name) as fake, ResponseCache(tmp_path / f"{name}.sqlite") as cache:
            monkeypatch.setenv({"google": "GEMINI_API_KEY"}.get(name, f"{name.upper()}_API_KEY"), fake.key)
            own(f'[{name}]\nurl = "{fake.url}"\n', monkeypatch, tmp_path)
            options = PromptOptions(max_output_tokens=64)
            pricer = ApiPricer(find_endpoint(f"{name}/m"), options, cache, Budget(), currency="USD")
            assert [quote.price for quote in pricer.price(LISTINGS[:3])] == RIGHT[:3]
            pricer.close()
            assert len(fake.requests) == 3


def run_with_error(style: str, status: str, message: str, folder: Path, number: int = 4) -> Any:
    """A run in which one request gets an error; with what happened, and the fake endpoint."""
    with FakeEndpoint(answer, style=style, faults={number: status}, message=message) as fake:
        outcome = run_once(fake, folder / "a.sqlite", concurrency=1)
    return outcome, fake


@pytest.mark.parametrize(
    ("style", "status", "message"),
    [
        ("xai", "403", "Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE_BIO"),
        ("openrouter", "403", "Your chosen model requires moderation and your input was flagged for weapons"),
        ("azure", "400", "The response was filtered due to the prompt triggering the content management policy."),
    ],
)
def test_one_listing_that_a_content_policy_refuses_is_unanswered(
    tmp_path: Path, style: str, status: str, message: str
) -> None:
    """The others are asked; the reply is stored, and not asked for again."""
    outcome, fake = run_with_error(style, status, message, tmp_path)
    assert outcome.ended == "all answered"
    assert sum(quote.price is None for quote in outcome.quotes) == 1
    assert outcome.pricer.usage.unanswered == {REJECTED: 1}
    assert len(fake.requests) == 12


def test_a_403_about_the_account_still_stops(tmp_path: Path) -> None:
    """It would be the same for every listing."""
    outcome, fake = run_with_error("xai", "403", "Your team has no access to this model", tmp_path)
    assert "HTTP 403" in outcome.ended
    assert len(fake.requests) == 5


def test_an_answer_of_groq_that_is_not_the_json_asked_for_is_broken_json(tmp_path: Path) -> None:
    """Its status 400 is no fault of the parameters; it counts at its worst cost, and the schema stays."""
    message = "Failed to generate JSON. Please adjust your prompt."
    for number in (0, 4):
        (folder := tmp_path / str(number)).mkdir()
        outcome, fake = run_with_error("groq", "400", message, folder, number)
        assert outcome.ended == "all answered"
        assert outcome.pricer.usage.unanswered == {BROKEN_JSON: 1}
        assert [quote.raw for quote in outcome.quotes if quote.price is None] == ['{"price": 24, "price']
        assert all("response_format" in seen.body for seen in fake.requests)
        assert len(fake.requests) == 12
        usage, worst = outcome.pricer.usage, outcome.pricer.requests(LISTINGS[number : number + 1])[0].worst
        assert usage.cost_known
        assert usage.failed_tries_usd == pytest.approx(worst)
        assert outcome.budget.failed_tries_usd == pytest.approx(worst)
        assert usage.cost == pytest.approx(outcome.budget.spent)


def test_groqs_used_up_flex_capacity_is_tried_again(tmp_path: Path) -> None:
    """Status 498 is of that provider alone."""
    outcome, fake = run_with_error("groq", "498", "Flex capacity exceeded", tmp_path)
    assert [quote.price for quote in outcome.quotes] == RIGHT
    assert len(fake.requests) == 13


@pytest.mark.parametrize(
    ("style", "message"),
    [
        ("llama-server", "the request exceeds the available context size (4096 tokens), try increasing it"),
        ("google", "The input token count (40000) exceeds the maximum number of tokens allowed (32768)."),
        ("anthropic", "prompt is too long: 210000 tokens > 200000 maximum"),
        ("xai", "This model's maximum prompt length is 131072 but the request contains 140000 tokens."),
        ("bedrock", "Input is too long for requested model."),
        ("vllm", "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens"),
    ],
)
def test_a_prompt_longer_than_the_context_is_recognized(tmp_path: Path, style: str, message: str) -> None:
    """Before the first answer too much output is asked for; after it the listing is too long, and unanswered."""
    outcome, _ = run_with_error(style, "400", message, tmp_path)
    assert outcome.ended == "all answered"
    assert outcome.pricer.usage.unanswered == {REJECTED: 1}
    with (
        FakeEndpoint(answer, style=style, faults=lambda number, before: "400", message=message) as fake,
        ResponseCache(tmp_path / "b.sqlite") as cache,
    ):
        pricer = build_pricer(fake, cache, Budget())
        with pytest.raises(PricesmithError, match="does not answer") as caught:
            pricer.price(LISTINGS)
        pricer.close()
    assert "max_output_tokens=" in caught.value.hint


def test_the_wait_of_google_is_read_from_the_whole_error() -> None:
    """From its words or its RetryInfo, behind the part that is shown."""
    message = f"You exceeded your current quota. {'* Quota exceeded for metric. ' * 30} "
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}
    for error in ({"message": f"{message} Please retry in 34s."}, {"message": message, "details": [info]}):
        body = json.dumps([{"error": {"code": 429, **error}}]).encode()
        result = classify_status(429, {}, body, "", proven=True)
        assert isinstance(result, ApiError)
        assert (result.kind, result.retry_after) == ("retry", 34.0)
        assert len(result.message) == 300


def test_a_key_of_anthropic_without_a_workspace_stops_with_the_variable_to_set(tmp_path: Path) -> None:
    """After one request, whatever the status."""
    message = "This key is not scoped: the header anthropic-workspace-id is required"
    with (
        FakeEndpoint(answer, style="anthropic", faults={0: "400"}, message=message) as fake,
        ResponseCache(tmp_path / "a.sqlite") as cache,
    ):
        pricer = build_pricer(fake, cache, Budget())
        with pytest.raises(PricesmithError, match="HTTP 400") as caught:
            pricer.price(LISTINGS)
        pricer.close()
        assert len(fake.requests) == 1
    assert "export ANTHROPIC_WORKSPACE_ID=" in caught.value.hint
