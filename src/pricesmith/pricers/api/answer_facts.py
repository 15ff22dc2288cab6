"""Counts the replies of an API model, and what they say of themselves: the model, the service tier, kinds of tokens.

facts = AnswerFacts()
facts.add(completion)
facts.to_dict("gpt-6-luna")      {"token_details": {...}, "tiers": {"standard": 200}, "response_models": {...}, ...}
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pricesmith.pricers.api.response_cache import Completion
from pricesmith.pricers.api.usage import BATCH, FLEX, STANDARD

TOKEN_DETAILS = ("cached", "cache_write", "reasoning")
SLOW_TIERS = (FLEX, BATCH)  # their seconds are not those of a standard answer
# What a provider adds to the name of a model for one version of it: a date, a short number, or `latest`.
VERSION_SUFFIX = re.compile(r"[-@:](?:20\d\d-?\d\d-?\d\d|\d\d-?\d\d|\d{3}|v\d+|latest)$")


@dataclass
class AnswerFacts:
    """Counts of replies by what they report; `reported_costs` counts those that report their cost."""

    tokens: Counter[str] = field(default_factory=Counter)
    with_details: Counter[str] = field(default_factory=Counter)
    tiers: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    reported_costs: int = 0

    def add(self, completion: Completion) -> None:
        """Count a reply."""
        for name in TOKEN_DETAILS:
            tokens = getattr(completion, f"tokens_{name}")
            self.tokens[name] += tokens or 0
            self.with_details[name] += tokens is not None
        self.tiers[completion.tier] += bool(completion.tier)
        self.models[completion.response_model] += bool(completion.response_model)
        self.reported_costs += completion.reported_usd is not None

    def to_dict(self, model: str) -> dict[str, Any]:
        """Return the counts for the meta file. A kind of token that no reply reports is None.

        `other_models` counts the replies of other models than the one that was asked.
        """
        models = {name: count for name, count in sorted(self.models.items()) if count}
        return {
            "token_details": {name: self.tokens[name] if self.with_details[name] else None for name in TOKEN_DETAILS},
            "tiers": {name: count for name, count in sorted(self.tiers.items()) if count},
            "response_models": models,
            "other_models": {name: count for name, count in models.items() if not is_same_model(model, name)},
            "reported_costs": self.reported_costs,
        }


@dataclass
class UsageStats:
    """Counts of replies by source, of unanswered listings by reason, of tokens, and the cost in US dollars.

    `failed_tries_usd` is the part of the cost for replies that never arrived, at worst. `answers` counts what replies
    say of themselves; `output_tokens` are those of the first `n_counted` prices that were requested in this run.
    """

    requested: int = 0
    cached: int = 0
    from_batch_jobs: int = 0
    requested_again: int = 0
    cost: float = 0.0
    cost_known: bool = True
    failed_tries_usd: float = 0.0
    unanswered: Counter[str] = field(default_factory=Counter)
    no_reply: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    answers: AnswerFacts = field(default_factory=AnswerFacts)
    output_tokens: int = 0
    n_counted: int = 0


def is_same_model(asked: str, answered: str) -> bool:
    """Return whether a reply names the model that was asked, or one version of it.

    >>> is_same_model("gpt-6-luna", "gpt-6-luna-2026-09-29"), is_same_model("openai/gpt-6-luna", "gpt-6-luna")
    (True, True)
    >>> is_same_model("gpt-6-luna", "gpt-6-sol")
    False
    """
    return base_name(asked) == base_name(answered)


def base_name(model: str) -> str:
    """Return the name of a model without its owner, path and version."""
    name = model.strip().lower().rstrip("/").rsplit("/", 1)[-1].removesuffix(".gguf")
    return VERSION_SUFFIX.sub("", name)


def is_timed(asked: str, completion: Completion) -> bool:
    """Return whether a reply's seconds are those of the tier that was asked: a flex answer takes longer."""
    slow = [tier if tier in SLOW_TIERS else STANDARD for tier in (asked, completion.tier)]
    return completion.seconds is not None and slow[0] == slow[1]


def other_models_line(model: str, others: dict[str, int]) -> str:
    """Return the sentence about replies of other models, empty if there are none."""
    if not others:
        return ""
    names = ", ".join(f"{name} ({count:,})" for name, count in others.items())
    total = sum(others.values())
    return f"{total:,} {'answer' if total == 1 else 'answers'} came from another model than {model}: {names}."
