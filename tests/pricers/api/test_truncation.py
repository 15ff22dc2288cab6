"""A prompt of which Ollama read only the end stops the command; a low count for another reason does not."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.pricers.api.test_client import LISTINGS, answer, build_pricer, run_once

from pricesmith.core.errors import PricesmithError
from pricesmith.pricers.api.limits import Budget
from pricesmith.pricers.api.pricer import PromptOptions
from pricesmith.pricers.api.response_cache import ResponseCache
from pricesmith.pricers.api.truncation import is_truncated
from pricesmith.testing import FakeEndpoint, make_items

TOKEN = re.compile(r"[A-Za-zäöüßéèа-яα-ω]{1,4}|\d{1,3}|\S|\s{1,8}")  # as tokenizers cut prose, or longer parts
WORDS = st.sampled_from(
    ["garden", "hose", "Schlauch", "Bohrmaschine", "шланг", "λάστιχο", "花园", "ホース", "25", "€", "x"]
)
TEXTS = st.lists(WORDS, min_size=1, max_size=60).map(" ".join)
CHATS = st.lists(TEXTS, min_size=2, max_size=8)


def count_tokens(text: str) -> int:
    """The tokens of a text, as a server counts them."""
    return len(TOKEN.findall(text))


def chat(texts: list[str], repeats: int = 1) -> list[dict[str, str]]:
    """Messages, all but the last of which are repeated to be long."""
    *first, last = texts
    return [{"role": "user", "content": " ".join([text] * repeats)} for text in first] + [
        {"role": "user", "content": last}
    ]


@given(CHATS, st.integers(1, 60))
def test_a_prompt_that_was_read_whole_never_stops_a_command(texts: list[str], repeats: int) -> None:
    """In any script, of any length: Chinese has more tokens than letters / 4, not fewer."""
    messages = chat(texts, repeats)
    assert not is_truncated(messages, sum(count_tokens(message["content"]) for message in messages))


@given(CHATS, st.integers(1, 60))
def test_tokens_that_a_server_still_had_and_does_not_count_never_stop_a_command(texts: list[str], repeats: int) -> None:
    """It counts the last message alone, whose start the cache does not have."""
    messages = chat(texts, repeats)
    assert not is_truncated(messages, count_tokens(messages[-1]["content"]))


@given(st.lists(TEXTS, min_size=2, max_size=8), st.sampled_from([2048, 4096, 8192]))
def test_a_prompt_that_was_cut_to_a_context_is_recognized(texts: list[str], context: int) -> None:
    """If the rest is twice as long as the context, and the question is a listing of ordinary length."""
    *first, last = texts
    shown = "A garden hose with brass fittings. " * (context // 2)
    messages = [{"role": "user", "content": text} for text in [shown, *first, last]]
    assert is_truncated(messages, context)


@pytest.mark.parametrize("count", [None, 0, 1, 999])
def test_a_count_below_any_context_says_nothing(count: int | None) -> None:
    """A server that does not count reports 0, and one with everything in its cache reports 1."""
    assert not is_truncated([{"role": "user", "content": "garden hose " * 9_000}], count)


@pytest.mark.parametrize("text", [" " * 40_000, "=" * 40_000, "a" * 40_000, "- " * 20_000, "🪴" * 9_000])
def test_a_text_without_letters_says_nothing(text: str) -> None:
    """A tokenizer has one token for many spaces or equal signs."""
    assert not is_truncated([{"role": "user", "content": text}, {"role": "user", "content": "hose"}], 1_500)


def test_an_over_long_prompt_stops_with_the_variable_that_helps(tmp_path: Path) -> None:
    """Nothing is stored; with a larger context the same command goes on."""
    words = "brass hose " * 120
    train = [replace(item, listing=replace(item.listing, text=words)) for item in make_items(200, seed=3)[0]]
    more: dict[str, Any] = {"options": PromptOptions(shots=32, max_output_tokens=64), "train": lambda: train}
    with FakeEndpoint(answer, style="ollama", context=4096) as fake:
        with ResponseCache(tmp_path / "a.sqlite") as cache:
            pricer = build_pricer(fake, cache, Budget(), **more)
            with pytest.raises(PricesmithError, match="reads only a part of the prompt") as caught:
                pricer.price(LISTINGS)
            pricer.close()
        assert caught.value.got.startswith("4,096 tokens of a prompt")
        assert "OLLAMA_CONTEXT_LENGTH=16384 ollama serve" in caught.value.hint
        assert len(fake.requests) == 1
        fake.context = 16384
        assert run_once(fake, tmp_path / "a.sqlite", limit=None, **more).ended == "all answered"
        assert len(fake.answered()) == 1 + len(LISTINGS)
