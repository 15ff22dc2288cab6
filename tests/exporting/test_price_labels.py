"""The prompt that programs without Pricesmith build for a merged model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricesmith.core.types import Listing, render
from pricesmith.exporting import price_labels
from pricesmith.exporting.models import describe_prompt
from pricesmith.testing.goods import make_tokenizer
from pricesmith.text.prompts import Prompt, encode_text

PIECES = ["hose", "25", " ", ".", "\n", "fittings.", "<pa", "d>", "<pad>", "</s", ">", "\ud83d", "\u00e9", "brass"]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """A tokenizer that joins a full stop and a paragraph's end, as Llama 3's does."""
    made = make_tokenizer("digits", chat=True)
    made.add_tokens([".\n\n"])
    return made


def write_prompt(prompt: Prompt, tokenizer: Any, folder: Path) -> Path:
    (folder / price_labels.PROMPT).write_text(json.dumps(describe_prompt(prompt, tokenizer)))
    return folder


@pytest.mark.parametrize("style", ["plain", "chat"])
@pytest.mark.parametrize("details", ["brass fittings.", "a long text of many words. " * 40, "</s> a <eo<pad>s>"])
def test_the_exported_script_builds_the_token_ids_of_the_model(
    tokenizer: Any, tmp_path: Path, style: Any, details: str
) -> None:
    """Also for long listings and for those that end in punctuation."""
    prompt = Prompt(style=style, max_length=40)
    folder = write_prompt(prompt, tokenizer, tmp_path)
    listing = Listing("1", "Garden hose", details)
    wanted = prompt.encode(tokenizer, [listing])[0]
    assert price_labels.encode_prompt(render(listing), folder, tokenizer) == wanted


@given(pieces=st.lists(st.sampled_from(PIECES), max_size=40))
def test_any_text_gives_the_token_ids_of_the_model(
    tokenizer: Any, tmp_path_factory: pytest.TempPathFactory, pieces: list[str]
) -> None:
    """Cut by tokens, without special tokens, with halves of characters repaired."""
    prompt = Prompt(max_length=12)
    folder = write_prompt(prompt, tokenizer, tmp_path_factory.getbasetemp())
    listing = Listing("1", "", "".join(pieces))
    text = render(listing)
    assert price_labels.encode_prompt(text, folder, tokenizer) == prompt.encode(tokenizer, [listing])[0]


def test_a_text_for_a_server_is_cut_by_tokens(tokenizer: Any, tmp_path: Path) -> None:
    """It is the text that the model reads; only where a listing ends may a server split it into other tokens."""
    prompt = Prompt(max_length=20)
    folder = write_prompt(prompt, tokenizer, tmp_path)
    for details in ("brass garden hose " * 50, "\u00e9\u4e2d " * 50):
        listing = Listing("1", "Lamp", details)
        text = price_labels.build_prompt(render(listing), folder, tokenizer)
        wanted = prompt.encode(tokenizer, [listing])[0]
        assert len(wanted) <= len(encode_text(tokenizer, text, special=True)) <= len(wanted) + 2
        assert len(price_labels.build_prompt(render(listing), folder)) > len(text)
    ending = Listing("2", "Lamp", "brass fittings.")
    text = price_labels.build_prompt(render(ending), folder, tokenizer)
    wanted = prompt.encode(tokenizer, [ending])[0]
    assert encode_text(tokenizer, text, special=True) != wanted, "the reason for encode_prompt"


@pytest.mark.parametrize("text", ["x <pa<pad>d> y", "x <<pad>/s> y", "<pa<pa<pad>d>d>", "<<s>s>"])
def test_no_special_token_appears_when_another_is_removed(tokenizer: Any, tmp_path: Path, text: str) -> None:
    """Removing is repeated until nothing is left to remove."""
    folder = write_prompt(Prompt(), tokenizer, tmp_path)
    prompt = price_labels.build_prompt(text, folder)
    assert not any(token in prompt for token in ("<pad>", "</s>", "<s>"))
