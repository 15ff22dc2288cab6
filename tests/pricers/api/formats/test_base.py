"""What an endpoint supports is learned from its errors, one parameter at a time, and the right one."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricesmith.pricers.api.formats.base import EFFORTS, Capabilities, message_text

UNSUPPORTED = "unsupported value: 'reasoning_effort' does not support 'minimal' with this model."


def test_a_refused_effort_is_changed_before_anything_else_is_left_out() -> None:
    """`minimal` becomes the nearest effort that the message lists; the JSON schema stays."""
    after = Capabilities().simplify(f"{UNSUPPORTED} supported values are: 'low', 'medium', and 'high'.", "minimal")
    assert after is not None
    assert (after.json, after.temperature) == (True, True)
    assert after.choose_effort("minimal") == "low"
    assert after.choose_effort("max") == "high"


def test_an_effort_that_is_refused_without_a_list_is_replaced_by_its_neighbor() -> None:
    """Values are tried one by one, the lower of two first."""
    after = Capabilities().simplify(UNSUPPORTED, "minimal")
    assert after is not None
    assert after.choose_effort("minimal") == "none"
    after = after.simplify("'reasoning_effort' does not support 'none'", "none")
    assert after is not None
    assert after.choose_effort("minimal") == "low"


@pytest.mark.parametrize(
    "message",
    [
        "unsupported parameter: 'reasoning_effort' is not supported with this model.",
        "unrecognized request argument supplied: reasoning_effort",
        "this model does not support effort",
    ],
)
def test_a_model_that_does_not_reason_is_asked_without_effort(message: str) -> None:
    """The message names the parameter and no value."""
    after = Capabilities().simplify(message, "low")
    assert after is not None
    assert after.json
    assert after.choose_effort("low") == ""


def test_an_effort_that_was_not_sent_is_not_blamed() -> None:
    """A message with the word `effort` is then about something else."""
    after = Capabilities().simplify("response_format: effort", "")
    assert after == Capabilities(json=False)


@pytest.mark.parametrize(
    ("message", "after"),
    [
        ("unknown parameter: 'prompt_cache_options'", Capabilities(prompt_cache=False)),
        ("messages.2.content.0.cache_control: extra inputs are not permitted", Capabilities(prompt_cache=False)),
        ("output_config.format: not supported", Capabilities(json=False)),
        ("`temperature` is deprecated for this model.", Capabilities(temperature=False)),
        ("use max_completion_tokens instead of max_tokens", Capabilities(limit="max_completion_tokens")),
        ("bad request", Capabilities(json=False)),
    ],
)
def test_the_parameter_that_an_error_names_is_left_out(message: str, after: Capabilities) -> None:
    """In the words of each format; without a name the schema goes first."""
    assert Capabilities().simplify(message) == after


@given(
    st.lists(st.sampled_from(["reasoning_effort 'low'", "cache_control", "schema", "temperature", "max_tokens", "no"])),
    st.sampled_from(["", *EFFORTS]),
)
def test_leaving_out_parameters_ends(messages: list[str], effort: str) -> None:
    """Each step removes something, apart from the name of the limit, of which there are two."""
    capabilities: Capabilities | None = Capabilities()
    seen = set()
    for message in messages:
        assert capabilities is not None
        sent = capabilities.choose_effort(effort)
        after = capabilities.simplify(message, sent)
        if after is None:
            break
        assert after != capabilities
        assert capabilities.limit in message or after not in seen
        seen.add(after)
        capabilities = after


@given(
    st.builds(
        Capabilities,
        json=st.booleans(),
        temperature=st.booleans(),
        limit=st.sampled_from(["max_tokens", "max_completion_tokens"]),
        prompt_cache=st.booleans(),
        refused_efforts=st.sets(st.sampled_from(EFFORTS)).map(lambda names: tuple(n for n in EFFORTS if n in names)),
    )
)
def test_stored_capabilities_come_back(capabilities: Capabilities) -> None:
    """Through the JSON of the response cache."""
    assert Capabilities.from_dict(json.loads(json.dumps(asdict(capabilities))), "max_tokens") == capabilities


def test_capabilities_of_an_earlier_version_are_used() -> None:
    """What they lack is the default; odd values are ignored."""
    stored = {"json": False, "temperature": True, "limit": "max_completion_tokens"}
    assert Capabilities.from_dict(stored, "max_tokens") == Capabilities(json=False, limit="max_completion_tokens")
    assert Capabilities.from_dict({"limit": "x", "refused_efforts": 3}, "max_tokens") == Capabilities()


def test_parts_of_an_answer_are_not_joined_to_one_number() -> None:
    """120 and 150 are two amounts; parts of reasoning are none of it."""
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "7"}]},
        {"type": "reasoning", "text": "8 or 9"},
        {"type": "text", "text": "120"},
        {"type": "text", "text": "150"},
        "odd",
        {"type": "text", "text": None},
    ]
    assert message_text(parts) == "120\n150"
    assert message_text(parts[:3]) == "120"
