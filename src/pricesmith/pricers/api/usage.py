"""Reads what a reply says about its own tokens, cost and service tier.

    >>> usage = read_usage({"prompt_tokens": 1200, "prompt_tokens_details": {"cached_tokens": 1024},
    ...                     "completion_tokens": 5, "total_tokens": 1305})
    >>> usage.tokens_in, usage.tokens_cached, usage.tokens_out
    (1200, 1024, 105)

Nothing in a reply is trusted: a count or an amount that is not plausible is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_COST_USD = 1e6  # of a reply; a higher reported cost is not plausible
MAX_TOKENS = 10**12
TICKS_PER_USD = 1e10  # xAI's unit of cost
STANDARD, FLEX, BATCH, PRIORITY = "standard", "flex", "batch", "priority"
# What providers call their tiers: OpenAI `default`, Groq `on_demand`; OpenAI renamed priority to fast.
TIER_NAMES = {"default": STANDARD, "auto": STANDARD, "on_demand": STANDARD, "fast": PRIORITY}
MAX_TIER_CHARS = 20


@dataclass(frozen=True)
class Usage:
    """Tokens of one reply, each None if unknown.

    `tokens_in` are all input tokens; `tokens_cached` of them were read from the provider's prompt cache, and
    `tokens_cache_write` were written to it. `tokens_out` are all output tokens; `tokens_reasoning` is the part of them
    that is not in the answer. `reported_usd` is the whole cost in US dollars if the endpoint reports it.
    """

    tokens_in: int | None = None
    tokens_out: int | None = None
    tokens_cached: int | None = None
    tokens_cache_write: int | None = None
    tokens_reasoning: int | None = None
    reported_usd: float | None = None


def read_usage(usage: Any) -> Usage:
    """Return the tokens and the cost in the `usage` of a reply in OpenAI's format.

    Some endpoints leave reasoning out of `completion_tokens` and count it in `total_tokens`: it is paid for.
    """
    if not isinstance(usage, Mapping):
        return Usage()
    tokens_in, tokens_out, total = (to_count(usage.get(f"{name}_tokens")) for name in ("prompt", "completion", "total"))
    if not tokens_in:  # every question has tokens: a server that does not count reports 0
        tokens_in = tokens_out = None
    reasoning = to_count(get_detail(usage, "completion_tokens_details", "reasoning_tokens"))
    if tokens_in is not None and tokens_out is not None and total is not None and total - tokens_in > tokens_out:
        reasoning = max(reasoning or 0, total - tokens_in - tokens_out)
        tokens_out = total - tokens_in
    cached = to_count(get_detail(usage, "prompt_tokens_details", "cached_tokens"))
    if cached is None:
        cached = to_count(usage.get("prompt_cache_hit_tokens"))  # DeepSeek
    return Usage(
        tokens_in,
        tokens_out,
        limit_part(cached, tokens_in),
        limit_part(to_count(get_detail(usage, "prompt_tokens_details", "cache_write_tokens")), tokens_in),
        limit_part(reasoning, tokens_out),
        read_reported_cost(usage),
    )


def read_reported_cost(usage: Mapping[str, Any]) -> float | None:
    """Return the whole cost of a reply in US dollars as its endpoint reports it, None if it does not.

    OpenRouter reports `cost`. With the user's own key for the vendor (`is_byok`) that is only its fee, and the vendor's
    charge is in `cost_details`. A cost of 0 is known only if the endpoint says that no other key was charged.
    """
    ticks = to_amount(usage.get("cost_in_usd_ticks"), MAX_COST_USD * TICKS_PER_USD)
    if ticks:
        return ticks / TICKS_PER_USD
    cost = to_amount(usage.get("cost"))
    if cost is None:
        return None
    own_key = usage.get("is_byok")
    if own_key is True:
        vendor = to_amount(get_detail(usage, "cost_details", "upstream_inference_cost"))
        return cost + vendor if vendor else None
    return cost if cost > 0 or own_key is False else None


def read_tier(value: Any) -> str:
    """Return the service tier that a reply names, in one vocabulary; empty if it names none."""
    if not isinstance(value, str):
        return ""
    name = "".join(char for char in value.lower() if char.isalnum() or char in "_-")[:MAX_TIER_CHARS]
    return TIER_NAMES.get(name, name)


def get_detail(usage: Mapping[str, Any], group: str, name: str) -> Any:
    """Return a value of a nested object; None if there is none."""
    details = usage.get(group)
    return details.get(name) if isinstance(details, Mapping) else None


def to_count(value: Any) -> int | None:
    """Return a plausible count of tokens, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_TOKENS else None


def to_amount(value: Any, limit: float = MAX_COST_USD) -> float | None:
    """Return a plausible amount of at least 0, else None."""
    valid = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < limit  # excludes NaN
    return float(value) if valid else None


def limit_part(part: int | None, whole: int | None) -> int | None:
    """Return a part of the tokens, which cannot be more than all of them; None if either is unknown."""
    return None if part is None or whole is None else min(part, whole)
