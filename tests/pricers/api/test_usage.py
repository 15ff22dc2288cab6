"""The tokens, the cost and the tier of a reply are read; what is not plausible is unknown."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricesmith.pricers.api.usage import Usage, read_tier, read_usage

TOKENS = {"prompt_tokens": 10, "completion_tokens": 5}


def test_reasoning_that_only_the_total_counts_is_paid_for() -> None:
    """Some endpoints leave it out of the completion, as Gemini does."""
    assert read_usage(TOKENS | {"total_tokens": 115}) == Usage(10, 105, tokens_reasoning=100)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": -1, "completion_tokens": True, "cost": math.nan}, Usage()),
        ({"prompt_tokens": 0, "completion_tokens": 0, "cost": 0.01}, Usage(reported_usd=0.01)),
        ({"prompt_tokens": 10**400, "completion_tokens": 1.5, "cost": 10**400}, Usage()),
        (TOKENS | {"prompt_tokens_details": [], "completion_tokens_details": "x"}, Usage(10, 5)),
        (TOKENS | {"prompt_tokens_details": {"cached_tokens": 99}}, Usage(10, 5, tokens_cached=10)),
        ("no table", Usage()),
    ],
)
def test_what_is_not_plausible_is_unknown(usage: Any, expected: Usage) -> None:
    """A count below 0 or beyond all bounds, an amount that is no number, a part that is larger than the whole."""
    assert read_usage(usage) == expected


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (
            {
                "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3},
                "completion_tokens_details": {"reasoning_tokens": 2},
            },
            (4, 3, 2),
        ),
        ({"prompt_cache_hit_tokens": 6, "prompt_cache_miss_tokens": 4}, (6, None, None)),
        ({}, (None, None, None)),
    ],
)
def test_the_parts_of_the_tokens_are_read(usage: dict[str, Any], expected: tuple[int | None, ...]) -> None:
    """As OpenAI and OpenRouter report them, and as DeepSeek does."""
    read = read_usage(TOKENS | usage)
    assert (read.tokens_cached, read.tokens_cache_write, read.tokens_reasoning) == expected


@pytest.mark.parametrize(
    ("usage", "usd"),
    [
        ({"cost": 0.25}, 0.25),
        ({"cost": 0.25, "is_byok": False}, 0.25),
        ({"cost": 0.01, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.2}}, 0.21),
        ({"cost": 0, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.2}}, 0.2),
        ({"cost": 0.01, "is_byok": True}, None),
        ({"cost": 0, "is_byok": True, "cost_details": {"upstream_inference_cost": 0}}, None),
        ({"cost": 0, "is_byok": True, "cost_details": None}, None),
        ({"cost": 0}, None),
        ({"cost": 0, "is_byok": False}, 0.0),
        ({"cost_in_usd_ticks": 12_345_678}, 0.0012345678),
        ({"cost_in_usd_ticks": 0}, None),
        ({"cost": {"total": 1}}, None),
        ({"cost": True}, None),
    ],
)
def test_the_whole_cost_that_an_endpoint_reports_is_read(usage: dict[str, Any], usd: float | None) -> None:
    """xAI's unit, and OpenRouter's fee with the vendor's charge; a part of the cost, or a 0 for nothing, is unknown."""
    assert read_usage(TOKENS | usage).reported_usd == (None if usd is None else pytest.approx(usd))


@pytest.mark.parametrize(
    ("value", "tier"),
    [("default", "standard"), ("Fast", "priority"), ("flex", "flex"), ("scale", "scale"), (None, ""), (3, "")],
)
def test_a_tier_has_one_name_for_all_providers(value: Any, tier: str) -> None:
    """A tier that this package does not know keeps its name: its price is unknown."""
    assert read_tier(value) == tier


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(
    ["prompt_tokens", "completion_tokens", "total_tokens", "cost", "is_byok", "cost_details", "prompt_tokens_details"]
)


@given(st.dictionaries(NAMES, JSON))
def test_any_usage_gives_plausible_values_or_none(usage: dict[str, Any]) -> None:
    """A reply is hostile: no value of any kind raises, and no part is larger than the whole."""
    read = read_usage(usage)
    for part, whole in (
        (read.tokens_cached, read.tokens_in),
        (read.tokens_cache_write, read.tokens_in),
        (read.tokens_reasoning, read.tokens_out),
    ):
        assert part is None or (whole is not None and 0 <= part <= whole)
    assert read.reported_usd is None or 0 <= read.reported_usd < math.inf


@given(st.text())
def test_any_tier_is_a_short_word(value: str) -> None:
    """It stands in files and in messages."""
    tier = read_tier(value)
    assert len(tier) <= 20
    assert all(char.isalnum() or char in "_-" for char in tier)
