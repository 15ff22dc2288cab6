"""What replies say of themselves is counted: model, tier, tokens; a reply of another model is noted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.pricers.api.test_pricer import RecordedNotes

from pricesmith.pricers.api.answer_facts import AnswerFacts, is_same_model, is_timed, other_models_line
from pricesmith.pricers.api.eval_report import ApiCostReporter
from pricesmith.pricers.api.limits import Budget
from pricesmith.pricers.api.pricer import ApiPricer, PromptOptions
from pricesmith.pricers.api.response_cache import Completion, ResponseCache
from pricesmith.testing import FakeEndpoint, make_items

LISTINGS = [item.listing for item in make_items(4, seed=9)[0]]
REPLY = Completion("$24", "stop", 60, 200, 0.001, 0.5)


@pytest.mark.parametrize(
    ("asked", "answered", "same"),
    [
        ("gpt-6-luna", "gpt-6-luna-2026-09-29", True),
        ("claude-haiku-5-5", "claude-haiku-5-5-20261001", True),
        ("gemini-4-argon", "models/gemini-4-argon", True),
        ("openai/gpt-6-luna", "gpt-6-luna", True),
        ("mistral-large-latest", "mistral-large-2512", True),
        ("made", "/models/Made.gguf", True),
        ("gpt-6-luna", "gpt-6-sol", False),
        ("gpt-6.1-sol", "gpt-6.2-sol", False),
        ("claude-opus-5-5", "claude-opus-5", False),
    ],
)
def test_a_version_of_a_model_is_the_same_model(asked: str, answered: str, same: bool) -> None:
    """With or without its owner, its path and its date; another number is another model."""
    assert is_same_model(asked, answered) is same
    assert is_same_model(answered, asked) is same


def test_what_replies_say_is_counted() -> None:
    """A kind of token that no reply reports is unknown, not 0."""
    facts = AnswerFacts()
    facts.add(replace(REPLY, tokens_cached=10, tier="flex", response_model="made-1"))
    facts.add(replace(REPLY, tokens_cached=5, tier="standard", response_model="made-2", reported_usd=0.1))
    facts.add(REPLY)
    assert facts.to_dict("made-1") == {
        "token_details": {"cached": 15, "cache_write": None, "reasoning": None},
        "tiers": {"flex": 1, "standard": 1},
        "response_models": {"made-1": 1, "made-2": 1},
        "other_models": {"made-2": 1},
        "reported_costs": 1,
    }


@pytest.mark.parametrize(
    ("asked", "tier", "seconds", "timed"),
    [
        ("", "", 0.5, True),
        ("", "priority", 0.5, True),
        ("flex", "flex", 0.5, True),
        ("", "flex", 0.5, False),
        ("flex", "standard", 0.5, False),
        ("", "batch", None, False),
    ],
)
def test_seconds_of_another_tier_are_not_mixed_in(asked: str, tier: str, seconds: float | None, timed: bool) -> None:
    """A flex answer takes minutes, and a batch job was not waited for."""
    assert is_timed(asked, replace(REPLY, tier=tier, seconds=seconds)) is timed


def test_replies_of_another_model_are_in_the_facts_and_in_the_notes(tmp_path: Path) -> None:
    """With the tokens, the tier and the number of reported costs."""
    details = {"prompt_tokens_details": {"cached_tokens": 4}}
    notes = RecordedNotes()
    with (
        FakeEndpoint(fields={"model": "made-nano", "service_tier": "default"}, usage_fields=details) as fake,
        ResponseCache(tmp_path / "a.sqlite") as cache,
    ):
        pricer = ApiPricer(fake.endpoint(), PromptOptions(), cache, Budget(), currency="USD", progress=notes)
        pricer.price(LISTINGS)
        facts = ApiCostReporter(pricer, dict).after()
        pricer.close()
    assert facts["token_details"]["cached"] == 16
    assert (facts["tiers"], facts["other_models"]) == ({"standard": 4}, {"made-nano": 4})
    assert "4 answers came from another model than made-model: made-nano (4)." in notes.notes
    assert other_models_line("made", {}) == ""
