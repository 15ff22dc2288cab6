"""The clean form: what is asked, and how an answer becomes a listing."""

from __future__ import annotations

import hashlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricesmith.catalog.clean import CleanSettings, clean_text
from pricesmith.core.types import Listing
from pricesmith.pricers.rewriting.form import (
    ANOTHER_FORM,
    EXAMPLES,
    MAX_TEXT_CHARS,
    PROMPT_VERSION,
    SYSTEM_PROMPT,
    TOO_SHORT,
    FormRules,
    chat_messages,
    read_rewriting,
)

RULES = FormRules(CleanSettings(currency="USD"), "made-rewriting")
LISTING = Listing("a1", "HOSE!! best offer", "25 m, brass. Ships today.", "garden", "Aster")
ANSWER = "Title: Aster garden hose\nDescription: A hose for the garden.\nLength: 25 m"


def test_an_answer_replaces_title_and_text_and_nothing_else() -> None:
    """Category, brand and id are the listing's own; the rewriting is marked."""
    answer = read_rewriting(LISTING, ANSWER, "stop", RULES, 0.001)
    expected = Listing("a1", "Aster garden hose", "A hose for the garden.\nLength: 25 m", "garden", "Aster")
    assert (answer.listing.title, answer.listing.text) == (expected.title, expected.text)
    assert (answer.listing.id, answer.listing.category, answer.listing.brand) == ("a1", "garden", "Aster")
    assert answer.listing.rewriting == "made-rewriting"
    assert (answer.reason, answer.cost_usd) == ("", 0.001)


@pytest.mark.parametrize(
    "text",
    [
        f"Here is the form:\n\n{ANSWER}",
        f"```\n{ANSWER}\n```",
        "**Title:** Aster garden hose\n\n**Description:** A hose for the garden.\n- **Length:** 25 m",
        f"<think>It is a hose.</think>\n{ANSWER}",
        f"{ANSWER}\n\nTitle: another listing\nDescription: that the model went on with",
    ],
)
def test_marks_and_words_around_the_form_are_left_out(text: str) -> None:
    """Introductions, code fences, lists, emphasis, reasoning, and a second form."""
    listing = read_rewriting(LISTING, text, "stop", RULES).listing
    assert listing.title == "Aster garden hose"
    assert listing.text.split("\n") == ["A hose for the garden.", "Length: 25 m"]


@pytest.mark.parametrize(
    ("text", "finish", "reason"),
    [
        ("", "stop", "an empty reply"),
        (ANSWER, "length", "truncated at the limit of output tokens"),
        (ANSWER, "refusal", "a refusal"),
        ("I cannot help with that.", "stop", ANOTHER_FORM),
        ("Title: Aster hose", "stop", ANOTHER_FORM),
        ("Title: a\nDescription: b", "stop", TOO_SHORT),
        ("<think>It is", "stop", "reasoning without an end"),
    ],
)
def test_a_listing_keeps_its_words_if_the_answer_is_not_usable(text: str, finish: str, reason: str) -> None:
    """It is marked all the same: the same question has the same answer when it is priced."""
    answer = read_rewriting(LISTING, text, finish, RULES)
    assert answer.reason == reason
    assert (answer.listing.title, answer.listing.text) == (LISTING.title, LISTING.text)
    assert answer.listing.rewriting == "made-rewriting"


def test_amounts_that_a_model_invents_are_masked() -> None:
    """As in the texts of a catalog, with the signs of its currency; they are counted."""
    text = "Title: Aster hose, $24.99\nDescription: It costs 20 dollars.\nPrice: 19.99"
    answer = read_rewriting(LISTING, text, "stop", RULES)
    assert "[amount]" in answer.listing.title
    assert not any(amount in answer.listing.text for amount in ("20", "19.99"))
    assert answer.masked == 3
    kroner = FormRules(CleanSettings(currency="DKK"), "made")
    listing = read_rewriting(LISTING, "Title: Slange\nDescription: Koster 199 kr i dag", "stop", kroner).listing
    assert "199" not in listing.text


@given(st.text(max_size=400), st.sampled_from(["stop", "length", ""]))
def test_any_answer_ends_in_clean_text_of_bounded_length(text: str, finish: str) -> None:
    """Whatever a model writes: cleaning the result again changes nothing, and its length has a limit."""
    for answer in (text, f"Title: {text}\nDescription: {text * 9}"):
        listing = read_rewriting(LISTING, answer, finish, RULES).listing
        assert len(listing.text) <= MAX_TEXT_CHARS
        assert clean_text(listing.text, RULES.cleaning) == listing.text
        assert "\n" not in listing.title
        assert listing.id == "a1"


@pytest.mark.parametrize("piece", [" ", "*", "_", "\u3000", "Title: a\n", "- ", "</s>"])
def test_a_long_answer_without_end_is_read_at_once(piece: str) -> None:
    """It holds up neither a command nor a server: no pattern takes more than linear time."""
    begin = time.process_time()
    junk = f"a{piece * (200_000 // len(piece))}x"
    for text in (junk, f"Title: a\nDescription: {junk}"):
        read_rewriting(LISTING, text, "stop", RULES)
    assert time.process_time() - begin < 60  # of CPU time; quadratic time would be many minutes


def test_a_prompt_holds_the_listing_and_no_price() -> None:
    """The listing is one message of its own."""
    system, question = chat_messages(LISTING)
    assert question["content"] == "HOSE!! best offer\nCategory: garden\nBrand: Aster\n25 m, brass. Ships today."
    assert not any(sign in system["content"] for sign in "$€£")


def test_other_words_of_the_prompt_need_another_version() -> None:
    """A model that was fitted on one form must not be given another one without a word. If this fails, raise
    PROMPT_VERSION and put the new digest here."""
    words = f"{SYSTEM_PROMPT}{EXAMPLES}"
    assert (PROMPT_VERSION, hashlib.sha256(words.encode()).hexdigest()[:12]) == (1, "055520cba258")
