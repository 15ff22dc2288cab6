"""A language model on this machine that rewrites listings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pricesmith.catalog.clean import CleanSettings
from pricesmith.catalog.rewriting import Rewriting
from pricesmith.core.errors import InputError, UsageError
from pricesmith.pricers.api.model_spec import ApiSettings
from pricesmith.pricers.api.response_cache import ResponseCache
from pricesmith.pricers.llm import base_model
from pricesmith.pricers.rewriting import local_rewriter
from pricesmith.pricers.rewriting.form import PROMPT_VERSION, FormRules
from pricesmith.pricers.rewriting.local_rewriter import LocalRewriter
from pricesmith.pricers.rewriting.rewriter import ListingRewriter
from pricesmith.testing import make_model
from pricesmith.testing.goods import make_items

RULES = FormRules(CleanSettings(), "made")
LISTINGS = [item.listing for item in make_items(10)[0]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model."""
    return make_model(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[ResponseCache]:
    """An empty cache of answers."""
    with ResponseCache(tmp_path / "answers.sqlite") as opened:
        yield opened


def write_forms(model: Any, tokenizer: Any, prompts: Any, *, stop: str = "") -> list[tuple[str, int]]:
    """In place of `generate`: a form for each prompt."""
    return [
        (f"Title: Aster hose {len(prompt)}\nDescription: A garden hose.{stop}Listing: more", 9) for prompt in prompts
    ]


def test_answers_are_decoded_and_cached(base: Path, cache: ResponseCache) -> None:
    """Random weights write no form, so the listings keep their words; a second rewriter loads no weights."""
    rewriter = LocalRewriter(str(base), cache)
    answers = rewriter.rewrite(LISTINGS[:2], RULES)
    assert [answer.listing.text for answer in answers] == [listing.text for listing in LISTINGS[:2]]
    assert all(answer.reason for answer in answers)
    assert rewriter.written == 2
    assert rewriter.describe_time(100)
    other = LocalRewriter(str(base), cache)
    assert other.rewrite(LISTINGS[:2], RULES) == answers
    assert other.model is None


def test_a_kill_loses_at_most_one_batch(base: Path, cache: ResponseCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch of answers is stored before the next one is written; the text after a form is cut off."""
    monkeypatch.setattr(local_rewriter, "generate", write_forms)
    rewriter = LocalRewriter(str(base), cache)
    monkeypatch.setattr(local_rewriter, "BATCH", 4)
    answer, calls = rewriter.answer, []

    def interrupted(listings: Any) -> None:
        if calls:
            raise KeyboardInterrupt
        calls.append(len(listings))
        answer(listings)

    monkeypatch.setattr(rewriter, "answer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rewriter.rewrite(LISTINGS, RULES)
    assert len(rewriter.find_missing(LISTINGS)) == len(LISTINGS) - 4
    resumed = LocalRewriter(str(base), cache).rewrite(LISTINGS, RULES)
    assert {answer.listing.text for answer in resumed} == {"A garden hose."}


def test_an_instruct_model_gets_a_chat(tmp_path: Path, cache: ResponseCache) -> None:
    """With the rules and two examples; a base model gets the examples as plain text."""
    chat = LocalRewriter(str(make_model(tmp_path / "tiny-it", chat=True)), cache)
    assert chat.style == "chat"
    text = chat.tokenizer.decode([*chat.before, *chat.after])
    assert text.count("<|turn|>") == 7
    assert LocalRewriter(str(make_model(tmp_path / "tiny-base", chat=True)), cache).style == "plain"


def test_other_weights_under_the_same_name_are_refused(base: Path) -> None:
    """A model folder names the base that rewrote its catalog by a fingerprint."""
    rewriting = Rewriting(model=str(base), prompt_version=PROMPT_VERSION, base_fingerprint="of other weights")
    with ApiSettings(), pytest.raises(InputError) as error:
        ListingRewriter(rewriting, CleanSettings(), "USD").rewrite(LISTINGS[:1])
    assert "is not the one that rewrote" in error.value.what


def test_a_base_of_the_hub_is_used_in_the_version_that_rewrote_the_catalog(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its newest version may be another one by now."""
    revisions: list[str | None] = []

    def find_base(name: str, revision: str | None = None, *others: Any) -> Any:
        revisions.append(revision)
        return found(name, None, *others)

    found = base_model.find_base
    monkeypatch.setattr(base_model, "find_base", find_base)
    rewriting = Rewriting(model=str(base), prompt_version=PROMPT_VERSION, base_fingerprint="", base_revision="abc123")
    with ApiSettings(), pytest.raises(InputError):
        ListingRewriter(rewriting, CleanSettings(), "USD").rewrite(LISTINGS[:1])
    assert revisions == ["abc123"]


def test_a_context_without_room_for_a_listing_is_refused(base: Path, cache: ResponseCache) -> None:
    """Before any weights are loaded."""
    found = LocalRewriter(str(base), cache).base
    with pytest.raises(UsageError, match="does not fit the context"):
        local_rewriter.listing_room(found, 1_000_000)
